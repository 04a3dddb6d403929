"""What can go wrong, one class per reaction.

TapError                ends the run with exit 1 and its own sentences, no traceback
├── BadInput            the config, catalog or state file is wrong: nothing has been asked or written yet
├── Refused             the service refuses the run itself: bad token, a proxy that asks for a password
│   └── Unavailable     the service refuses the run for now: rate limit, no connection; a later run may succeed
├── PipeClosed          nobody reads our output any more
└── LocalError          one resource cannot be had: the rest of the run goes on
    ├── NotFound        404: deleted, aged out, or not ours to see; read as empty
    ├── NotOffered      a 4xx by which the service says that it has no such list here; read as empty
    ├── Forbidden       403 (or 401 of a route with a right of its own): named and skipped
    ├── Rejected        any other 4xx, a redirect, a status that is no answer: named, exit 1 at the end
    ├── Unreadable      still failing after all attempts: named, exit 1 at the end
    │   └── Moved       the host of a file answers a redirect, which is never followed
    ├── Damaged         a file came whole but cannot be read: a new one is asked for
    ├── PageLost        404 for a page in the middle of a list: what is below was not seen
    ├── EndlessList     a list without an end: what is below was not seen
    ├── Throttled       429 from a route with a limit of its own: asked again in another run
    └── LinkExpired     the address of a file is not valid any more: a new one is asked for
Stopped                 SIGTERM or SIGINT: not an error of the run, so outside the tree
"""

from __future__ import annotations


class TapError(Exception):
    """A foreseeable failure; each argument is one sentence for the user."""


class BadInput(TapError):
    """The config, catalog, state or command line is wrong."""


class Refused(TapError):
    """The service refuses the run as a whole."""


class Unavailable(Refused):
    """The service refuses the run for now; a later one may succeed."""


class PipeClosed(TapError):
    """Standard output cannot be written any more."""


class LocalError(TapError):
    """One resource cannot be read; others can."""


class NotFound(LocalError):
    """The service answered 404; `answered_at` is the time of the answer by the client's clock.

    A token that is no longer valid gets 404 on project routes, too: `Client.proven_at` tells whether it still was.
    """

    def __init__(self, sentence: str, answered_at: float) -> None:
        super().__init__(sentence)
        self.answered_at = answered_at


class NotOffered(LocalError):
    """The service answered with a status that means that there is no such list here."""


class Forbidden(LocalError):
    """The service answered 403, or 401 for this route alone; `status` tells which."""

    def __init__(self, sentence: str, status: int) -> None:
        super().__init__(sentence)
        self.status = status


class Rejected(LocalError):
    """The service answered with a status that no retry changes and that has no class of its own."""


class Unreadable(LocalError):
    """Every attempt failed in a way that another attempt might have mended."""


class Damaged(LocalError):
    """A file came whole, and is not what it should be."""


class PageLost(LocalError):
    """A page token in the middle of a list answered 404."""


class EndlessList(LocalError):
    """A list went round in circles: the same page token again, or many pages without a new row."""


class Throttled(LocalError):
    """A route that has a rate limit of its own answered 429; `seconds` is how long it asked to wait, if it told."""

    def __init__(self, sentence: str, seconds: float | None) -> None:
        super().__init__(sentence)
        self.seconds = seconds


class Moved(Unreadable):
    """The host of a file answers a redirect."""


class LinkExpired(LocalError):
    """The host of a file refuses its address; a fresh one may work."""


class Stopped(BaseException):
    """A signal asked the run to end; `signum` is its number."""

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signum = signum
