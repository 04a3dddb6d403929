"""A Singer tap for CircleCI."""

from tap_circleci.cli import main

__all__ = ["main"]
