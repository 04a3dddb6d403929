"""A Singer tap for CircleCI: `main` reads the command line, discovers or syncs, and turns errors into exit codes."""

from __future__ import annotations

import argparse
import logging
import signal
import sys
from collections.abc import Sequence
from types import FrameType
from typing import Any, NoReturn

from tap_circleci import bookmarks, config
from tap_circleci.concurrency import Clock
from tap_circleci.discover import discover, select
from tap_circleci.errors import BadInput, Stopped, TapError
from tap_circleci.messages import print_catalog
from tap_circleci.sync import sync

LOGGER = logging.getLogger()


class _Parser(argparse.ArgumentParser):
    """A parser whose complaints are sentences like all others."""

    def error(self, message: str) -> NoReturn:
        raise BadInput(f"{message[:1].upper()}{message[1:]}; see tap-circleci --help.")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="tap-circleci", description="Reads CircleCI's API v2 and writes Singer messages.")
    parser.add_argument("-c", "--config", metavar="FILE", help="the config (JSON)")
    parser.add_argument("-s", "--state", metavar="FILE", help="the last state that a target printed (JSON)")
    parser.add_argument("--catalog", metavar="FILE", help="the catalog with what is selected (JSON)")
    parser.add_argument("-p", "--properties", metavar="FILE", help="the old name of --catalog")
    parser.add_argument("-d", "--discover", action="store_true", help="print the catalog and end")
    parser.add_argument("--version", action="version", version=f"tap-circleci {config.VERSION}")
    return parser


def main(argv: Sequence[str] | None = None, clock: Clock | None = None) -> NoReturn:
    """Run the command line and exit: 0 all was delivered, 1 something was not, 128 + n after signal n."""
    clock = clock or Clock()
    _stop_on_signals(clock)
    try:
        failures = _run(_parser().parse_args(argv), clock)
    except Stopped as stopped:
        LOGGER.critical("Stopped by %s.", signal.Signals(stopped.signum).name)
        sys.exit(128 + stopped.signum)
    except TapError as error:
        failures = [str(sentence) for sentence in error.args]
    for sentence in failures:
        LOGGER.critical("%s", sentence)
    sys.exit(1 if failures else 0)


def _stop_on_signals(clock: Clock) -> None:
    def stop(signum: int, _frame: FrameType | None) -> None:
        clock.stop(signum)

    for name in ("SIGTERM", "SIGINT"):
        signal.signal(getattr(signal, name), stop)


def _run(arguments: argparse.Namespace, clock: Clock) -> list[str]:
    """Do what the command line asks for; gives a sentence for each thing that could not be delivered."""
    raw = config.load_json(arguments.config, "config") if arguments.config else None
    if arguments.discover:
        print_catalog(discover())
        return []
    if raw is None:
        raise BadInput("--config is needed; see tap-circleci --help.")
    settings, catalog, state = _inputs(arguments, raw)
    return sync(settings, catalog, state, clock)


def _inputs(arguments: argparse.Namespace, raw: dict[str, Any]) -> tuple[config.Config, Any, bookmarks.State]:
    """The checked config, selection and state; all mistakes in the three files are told together."""
    mistakes: list[str] = []
    settings = catalog = state = None
    try:
        settings, unknown = config.check(raw, arguments.config)
        if unknown:
            LOGGER.warning("%s: unknown keys, which mean nothing here: %s", arguments.config, ", ".join(unknown))
        if config.is_open_to_others(arguments.config):
            LOGGER.warning("%s holds a token and can be read by every user here; chmod 600 it.", arguments.config)
    except BadInput as error:
        mistakes += error.args
    path = arguments.catalog or arguments.properties
    try:
        catalog = select(config.load_json(path, "catalog") if path else None, path)
    except BadInput as error:
        mistakes += error.args
    try:
        state, remarks = bookmarks.read(
            config.load_json(arguments.state, "state") if arguments.state else {}, arguments.state
        )
        for remark in remarks:
            LOGGER.info("%s", remark)
    except BadInput as error:
        mistakes += error.args
    if settings is None or catalog is None or state is None:
        raise BadInput(*mistakes)
    return settings, catalog, state


