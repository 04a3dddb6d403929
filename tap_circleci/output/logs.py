"""What is logged can neither forge a line, move the cursor, nor tell the token."""

from __future__ import annotations

import logging
import traceback
from typing import Any

from tap_circleci.errors import BadInput
from tap_circleci.values.text import printable, quoted

LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")

SHORTEST = 8
"""Characters of a secret that is masked: what is shorter is none, and stands in many a word."""


def protect(secret: str) -> None:
    """From now on have every record of every logger shown printable, on one line and without the secret.

    The records themselves are made so, since singer replaces the handlers of the root logger with its own again and
    again. The lines of a traceback are indented, so that none of them looks like a record.
    """
    secret = secret if len(secret) >= SHORTEST else ""

    class Record(logging.LogRecord):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            if self.exc_info:
                lines = "".join(traceback.format_exception(*self.exc_info)).splitlines()
                self.exc_text = "\n".join(f"  {printable(line, secret)}" for line in lines)

        def getMessage(self) -> str:  # noqa: N802 - the name is logging's
            return printable(super().getMessage(), secret)

    logging.setLogRecordFactory(Record)
    logging.raiseExceptions = False  # a log that cannot be written has no place for a traceback either


def set_level(name: str) -> None:
    """Log what is of this level or above; DEBUG tells why each pipeline is read or not. Raises `BadInput`.

    The level is that of our own loggers, since singer resets the root's again and again.
    """
    if name.upper() not in LEVELS:
        raise BadInput(f"TAP_CIRCLECI_LOGLEVEL must be one of {', '.join(LEVELS)}, found {quoted(name)}.")
    logging.getLogger("tap_circleci").setLevel(name.upper())
