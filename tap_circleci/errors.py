"""What can go wrong, one class per reaction.

TapError                ends the run with exit 1 and its own sentences, no traceback
├── BadInput            the config, catalog or state file is wrong: nothing was requested or written yet
├── Refused             the service refuses the run itself: bad token, a proxy that asks for a password
│   └── Unavailable     the service refuses the run for now: rate limit, no connection; a later run may succeed
├── PipeClosed          no program reads our output
└── LocalError          one resource cannot be read: the rest of the run continues
    ├── NotFound        404: deleted, aged out, or not visible to the token; read as empty
    ├── NotOffered      a 4xx with which the service says that it has no such list here; read as empty
    ├── Forbidden       403 (or 401 of a route with its own permission, or for a hint): named and skipped
    ├── Rejected        any other 4xx, a redirect, another unexpected status: named, exit 1 at the end
    ├── Unreadable      still failing after all attempts: named, exit 1 at the end
    │   └── Moved       the host of a file answers a redirect, which is never followed
    ├── Damaged         a file is complete but cannot be read: a new one is requested
    ├── PageLost        404 for a page in the middle of a list: the rest of the list was not read
    ├── EndlessList     a list without an end: the rest of the list was not read
    ├── Throttled       429 from a route with its own limit, or for a hint: requested again in another run
    └── LinkExpired     the address of a file has expired: a new one is requested
Stopped                 SIGTERM or SIGINT: not an error of the run, so outside the tree
"""

INCIDENTS = "https://status.circleci.com shows whether CircleCI has an incident."
"""The end of a sentence about answers with 5xx."""


def is_incident(problem: str) -> bool:
    """Whether a problem, as the log shows it, is an answer with 5xx."""
    return "status 5" in problem


class TapError(Exception):
    """An expected kind of failure; each argument is one sentence for the user."""


class BadInput(TapError):
    """The config, catalog, state or command line is wrong."""


class Refused(TapError):
    """The service refuses the run as a whole."""


class Unavailable(Refused):
    """The service refuses the run for now; a later one may succeed."""


class PipeClosed(TapError):
    """Standard output can no longer be written."""


class LocalError(TapError):
    """One resource cannot be read; others can."""


class NotFound(LocalError):
    """The service answered 404; `answered_at` is the time of the answer by the client's clock.

    A token that is no longer valid also gets 404 on project routes: `Client.proven_at` shows whether it was valid.
    """

    def __init__(self, sentence: str, answered_at: float) -> None:
        super().__init__(sentence)
        self.answered_at = answered_at


class NotOffered(LocalError):
    """The service answered with a status that means "no such list here"."""


class Forbidden(LocalError):
    """The service answered 403, or 401 for this route alone; `status` is one of them.

    `is_rest`: only for the rest of a list, whose first pages were read.
    """

    def __init__(self, sentence: str, status: int, *, is_rest: bool = False) -> None:
        super().__init__(sentence)
        self.status = status
        self.is_rest = is_rest


class Rejected(LocalError):
    """The service answered with another status that no retry would change."""


class Unreadable(LocalError):
    """Every attempt failed, each time in a way that could have been temporary."""


class Damaged(LocalError):
    """A file is complete but has wrong content."""


class PageLost(LocalError):
    """A page token in the middle of a list answered 404."""


class EndlessList(LocalError):
    """A list repeats itself: the same page token again, or many pages without a new row."""


class Throttled(LocalError):
    """A route with its own rate limit, or a request for a hint, got 429; `seconds` is how long it asked to wait, if it
    said so."""

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
