"""A Singer tap for CircleCI."""

from __future__ import annotations

import os
import signal

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing itself takes longer to import than all the rest of this file
    from collections.abc import Sequence
    from typing import NoReturn

    from tap_circleci.workers import Clock

__all__ = ["main"]


def main(argv: Sequence[str] | None = None, clock: Clock | None = None) -> NoReturn:
    """Run the command line and exit, as `tap_circleci.cli.main` says."""
    # The rest is imported here, not with the package, so that Ctrl-C during the import does not print a traceback.
    signal.signal(signal.SIGINT, lambda *_: os._exit(128 + signal.SIGINT))
    from tap_circleci import cli  # noqa: PLC0415

    cli.main(argv, clock)
