"""The command line: discovers, syncs or inspects, stops on signals, and turns errors into exit statuses."""

import argparse
import json
import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence
from functools import partial
from types import FrameType
from typing import Any, NoReturn, TypeVar

from tap_circleci import config
from tap_circleci.about import about
from tap_circleci.discover import Selected, discover, select
from tap_circleci.errors import BadInput, Stopped, TapError
from tap_circleci.inspection.check import check
from tap_circleci.inspection.get import get
from tap_circleci.output.logs import RESULT, protect, run_id, set_up
from tap_circleci.output.messages import print_json
from tap_circleci.output.report import Result
from tap_circleci.state import state as states
from tap_circleci.sync import sync
from tap_circleci.workers import Clock

LOGGER = logging.getLogger(__name__)

T = TypeVar("T")

SHUTDOWN_SECONDS = 1.5
"""Seconds after a signal in which the run may still write its last state."""

OUT_OF_MEMORY = (
    "The tap ran out of memory: give it more, or use fewer max_workers or extra_streams. The rows sent so far are safe:"
    " keep the last state that the target printed."
)

CALLS = """\
the usual calls:
  tap-circleci --config config.json --discover > catalog.json
  tap-circleci --config config.json --catalog catalog.json | target-x > states.jsonl
  tap-circleci --config config.json --catalog catalog.json --state state.json | target-x > states.jsonl

state.json holds the last line that the target printed in the run before.
"""


class _Parser(argparse.ArgumentParser):
    """A parser that reports errors as `BadInput`."""

    def error(self, message: str) -> NoReturn:
        """Raise `BadInput` instead of printing the usage."""
        raise BadInput(f"{message[:1].upper()}{message[1:]}; see tap-circleci --help.")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="tap-circleci",
        description="Reads CircleCI's API and writes Singer messages.",
        epilog=CALLS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("-c", "--config", metavar="FILE", help="the config (JSON)")
    parser.add_argument("-s", "--state", metavar="FILE", help="the last state that a target printed (JSON)")
    parser.add_argument("--catalog", metavar="FILE", help="the catalog with the selected streams (JSON)")
    parser.add_argument("-p", "--properties", metavar="FILE", help="the old name of --catalog")
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument("-d", "--discover", action="store_true", help="print the catalog and exit")
    instead.add_argument("--check", action="store_true", help="log whether the config works, and exit")
    instead.add_argument("--get", metavar="PATH", help="print the JSON at a path of the API such as /me, and exit")
    parser.add_argument("--all", action="store_true", help="with --get: the items of all pages")
    instead.add_argument("--about", action="store_true", help="print version, settings and streams (JSON), and exit")
    parser.add_argument("--format", choices=["json"], help=argparse.SUPPRESS)  # hubs ask for --about --format=json
    parser.add_argument("--version", action="version", version=f"tap-circleci {config.VERSION}")
    return parser


def main(argv: Sequence[str] | None = None, clock: Clock | None = None) -> NoReturn:
    """Run the command line and exit: 0 if everything was delivered, 1 if not, 128 + n after signal n."""
    clock = clock or Clock()
    _stop_on_signals(clock)
    protect("")
    try:
        status = _status(argv, clock)
    finally:
        _disarm()
    sys.exit(_flushed(status))


def _status(argv: Sequence[str] | None, clock: Clock) -> int:
    """Run the command and log errors; gives the exit status."""
    try:
        set_up()
        result = _run(_parser().parse_args(argv), clock)
    except Stopped as stopped:
        result = Result(signum=stopped.signum)
    except SystemExit as shown:  # --help and --version end this way
        return int(shown.code or 0)
    except TapError as error:
        result = Result(error.args)
    except MemoryError:
        result = Result([OUT_OF_MEMORY])
    except Exception:
        LOGGER.critical("The tap has a bug; please report it, with these lines:", exc_info=True)
        return 1
    return _log_end(result)


def _log_end(result: Result) -> int:
    """Log what could not be delivered and, after a sync, a line for programs; gives the exit status."""
    status = 1 if result.failures else 0
    for sentence in result.failures:
        LOGGER.critical("%s", sentence)
    if result.signum:
        status = 128 + result.signum
        LOGGER.critical("Stopped by %s.", signal.Signals(result.signum).name)
    if result.figures is not None:
        ended = {"run": run_id, "exit_status": status, "retry_helps": result.retry_helps, **result.figures}
        LOGGER.info("%s%s", RESULT, json.dumps(ended))
    return status


def _flushed(status: int) -> int:
    """The exit status after all output was flushed.

    Output that a full disk does not accept is given up here: Python would try again at shutdown and exit with 120.
    """
    for name in ("stdout", "stderr"):
        try:
            stream = getattr(sys, name)
            if stream is not None:
                stream.flush()
        except OSError as error:
            setattr(sys, name, None)
            if name == "stdout":
                LOGGER.critical("Standard output cannot be written: %s.", error.strerror)
                status = status or 1
    return status


def _stop_on_signals(clock: Clock) -> None:
    """End on SIGTERM and SIGINT: in order if possible, after 1.5 s if a target that does not read blocks the run."""

    def stop(signum: int, _frame: FrameType | None) -> None:
        if hasattr(signal, "setitimer"):  # on Windows nothing interrupts a write, not even this handler
            signal.signal(signal.SIGALRM, lambda *_: os._exit(128 + signum))
            signal.setitimer(signal.ITIMER_REAL, SHUTDOWN_SECONDS)
        clock.stop(signum)  # last: it never returns if the signal has come while this thread holds its lock

    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, stop)


def _disarm() -> None:
    """Cancel the alarm: during Python's shutdown it would end the run with another exit status."""
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_REAL, 0)


def _run(arguments: argparse.Namespace, clock: Clock) -> Result:
    """Run the command. Raises `TapError`, `Stopped`."""
    if arguments.about:
        print_json(about())
        return Result()
    if arguments.all and arguments.get is None:
        raise BadInput("--all needs --get; see tap-circleci --help.")
    inspects = arguments.check or arguments.get is not None
    raw, wrong = _read(partial(_config_file, arguments))
    if raw is None:
        return Result(wrong, figures=None if arguments.discover or inspects else {})
    protect(config.token_of(raw))
    if arguments.discover:
        print_json(discover(config.extra_streams_of(raw, arguments.config)).to_dict())
        return Result()
    if inspects:
        return _inspect(arguments, raw, clock)
    return _sync(arguments, raw, clock)


def _config_file(arguments: argparse.Namespace) -> dict[str, Any]:
    """The content of the config file; --discover needs none. Raises `BadInput`."""
    if arguments.config:
        return config.load_json(arguments.config, "config")
    if arguments.discover:
        return {}
    raise BadInput("--config is needed; see tap-circleci --help.")


def _inspect(arguments: argparse.Namespace, raw: dict[str, Any], clock: Clock) -> Result:
    """Run --check or --get; both need only a token. Raises `TapError`, `Stopped`."""
    settings = _settings(raw, arguments.config, optional=("project_slugs",))
    if arguments.check:
        return Result(check(settings, clock))
    get(settings, clock, arguments.get, every_page=arguments.all)
    return Result()


def _sync(arguments: argparse.Namespace, raw: dict[str, Any], clock: Clock) -> Result:
    """Sync; if config, catalog or state are wrong, all their mistakes are failures."""
    settings, wrong_settings = _read(partial(_settings, raw, arguments.config))
    extra_streams = settings.extra_streams if settings is not None else ()
    selected, wrong_catalog = _read(partial(_selected, arguments.catalog or arguments.properties, extra_streams))
    state, wrong_state = _read(partial(_state, arguments.state))
    if settings is None or selected is None or state is None:
        return Result([*wrong_settings, *wrong_catalog, *wrong_state], figures={})
    return sync(settings, selected, state, clock)


def _read(reader: Callable[[], T]) -> tuple[T | None, Sequence[str]]:
    """The value of an input, or None and its mistakes."""
    try:
        return reader(), ()
    except BadInput as error:
        return None, error.args


def _settings(raw: dict[str, Any], path: str, optional: Sequence[str] = ()) -> config.Config:
    unknown = config.unknown(raw)
    if unknown:
        LOGGER.warning("%s: unknown keys (ignored): %s", path, ", ".join(unknown))
    settings = config.check(raw, path, optional)
    if config.is_open_to_others(path):
        LOGGER.warning("%s holds a token and every user of this machine can read it; run chmod 600 on it.", path)
    return settings


def _selected(path: str | None, extra: Sequence[str]) -> Selected:
    return select(config.load_json(path, "catalog") if path else None, path or "", extra)


def _state(path: str | None) -> states.State:
    try:
        state, warnings = states.load(path)
    except BadInput as error:
        *others, last = error.args
        raise BadInput(*others, f"{last} {states.WITHOUT_STATE}") from None
    for warning in warnings:
        LOGGER.warning("%s", warning)
    return state
