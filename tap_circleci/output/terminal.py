"""One live line at the bottom of a terminal. Each line of the log replaces it."""

import logging
import os
import sys
from contextlib import suppress

from tap_circleci.output.logs import is_json


class TerminalLine:
    """Shows a text on stderr's last line until the next text or line of the log."""

    def __init__(self) -> None:
        self._shown = False
        for handler in logging.getLogger().handlers:
            handler.addFilter(self._before_record)

    @staticmethod
    def is_possible() -> bool:
        """Whether stderr is a terminal that shows neither the messages on stdout nor lines of JSON."""
        watched, piped = sys.stderr, sys.stdout
        is_watched = watched is not None and watched.isatty() and not is_json()
        return is_watched and not (piped is not None and piped.isatty())

    def show(self, text: str) -> None:
        """Show a text in place of the last one, as a line of the log shows it, cut to the width of the terminal."""
        width = _width() - 1
        shown = logging.makeLogRecord({"msg": text}).getMessage()
        _write(f"\r\x1b[K{shown[:width]}")
        self._shown = True

    def close(self) -> None:
        """Clear the line and restore the log."""
        for handler in logging.getLogger().handlers:
            handler.removeFilter(self._before_record)
        self._clear()

    def _before_record(self, _record: logging.LogRecord) -> bool:
        self._clear()
        return True

    def _clear(self) -> None:
        if self._shown:
            _write("\r\x1b[K")
            self._shown = False


def _write(text: str) -> None:
    """Write to the terminal, unless it is gone: then nobody watches, and the run goes on."""
    with suppress(OSError):
        sys.stderr.write(text)
        sys.stderr.flush()


def _width() -> int:
    """How many columns the terminal has that shows stderr; stdout is a pipe."""
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or 80
    except (OSError, ValueError):  # something in Python has taken its place
        return 80
