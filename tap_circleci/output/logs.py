"""The format of the log. No message can forge another line, move the cursor or show the token.

A line begins with its level, as singer-python writes it, since runners read the first word of a line as its level. On
a terminal the message follows; elsewhere the time and the process come first, for logs to which `cron` appends. With
TAP_CIRCLECI_LOG=json each line is an object. It has the fields of the lines of SDK plugins, so that Meltano shows its
level.
https://github.com/meltano/meltano/blob/main/src/meltano/core/logging/parsers.py
"""

import json
import logging
import os
import sys
import time
import traceback
import uuid
from collections.abc import Sequence
from typing import Any

from tap_circleci.errors import BadInput
from tap_circleci.values.text import printable, quoted

LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
FORMATS = TEXT, JSON = ("text", "json")

SHORTEST = 8
"""Characters of a secret that is masked: shorter strings occur in ordinary words and are not masked."""
RESULT = "RESULT: "
"""The beginning of the last line of a sync; the rest of it is JSON."""
WITH_FIELDS = ("METRIC: ", RESULT)
"""The beginnings of messages whose rest is JSON."""

run_id = uuid.uuid4().hex[:8]
"""Identifies the lines of this run in a log that several runs share."""


def protect(secret: str) -> None:
    """Make every record of every logger printable, on one line and without the secret.

    The records themselves are changed, since singer replaces the handlers of the root logger. The lines of a traceback
    are indented, so that none of them looks like a record.
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
    logging.raiseExceptions = False  # if the log cannot be written, a traceback cannot either


def set_up() -> None:
    """Set up the log from the environment: TAP_CIRCLECI_LOG is the format, TAP_CIRCLECI_LOGLEVEL the lowest level.

    DEBUG shows why each pipeline is read or not. The level is set for our own loggers, since singer resets the root's.
    Raises `BadInput`.
    """
    logging.getLogger("tap_circleci").setLevel(_chosen("TAP_CIRCLECI_LOGLEVEL", LEVELS, "INFO"))
    formatter: logging.Formatter | None = None
    if _chosen("TAP_CIRCLECI_LOG", FORMATS, TEXT) == JSON:
        formatter = _JsonFormatter()
    elif sys.stderr is not None and not sys.stderr.isatty():
        formatter = logging.Formatter("%(levelname)s %(asctime)s [%(process)d] %(message)s", "%Y-%m-%dT%H:%M:%SZ")
        formatter.converter = time.gmtime
    for handler in logging.getLogger().handlers:
        if formatter is not None and getattr(handler, "stream", None) is sys.stderr:
            handler.setFormatter(formatter)


def _chosen(variable: str, choices: Sequence[str], default: str) -> str:
    """What the environment chooses, in any case of letters."""
    value = os.environ.get(variable) or default
    for choice in choices:
        if choice.lower() == value.lower():
            return choice
    raise BadInput(f"{variable} must be one of {', '.join(choices)}, found {quoted(value)}.")


def is_json() -> bool:
    """Whether each line of the log is a JSON object."""
    return os.environ.get("TAP_CIRCLECI_LOG", "").lower() == JSON


class _JsonFormatter(logging.Formatter):
    """A record as one JSON object on one line."""

    def format(self, record: logging.LogRecord) -> str:
        """The record's level, time, message and fields, and the fields that Meltano needs."""
        message = record.getMessage()
        known = {
            "level": record.levelname,
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(record.created)),
            "message": message,
            "fields": _fields(message),
            "run": run_id,
            "pid": record.process,
            "app_name": "tap-circleci",
            "logger_name": record.name,
            "stream_name": None,
            "thread_name": record.threadName,
            "ts": record.created,
        }
        return json.dumps({**known, "traceback": record.exc_text} if record.exc_text else known)


def _fields(message: str) -> dict[str, Any]:
    """The JSON object in a message; empty if there is none."""
    for beginning in WITH_FIELDS:
        if message.startswith(beginning):
            try:
                found = json.loads(message.removeprefix(beginning))
            except ValueError:  # a very long message was cut
                return {}
            return found if isinstance(found, dict) else {}
    return {}
