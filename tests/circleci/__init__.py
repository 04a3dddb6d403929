"""A small, fast, faithful CircleCI on loopback, with a clock and faults that a test sets."""

from tests.circleci.demo import demo_world, history, odd_world
from tests.circleci.extras import EXTRAS, Server, World
from tests.circleci.server import Answer, Fault, Request, http_date
from tests.circleci.world import ABSENT, STREAMS, TOKEN, Row, moment, seconds, short, stamp

__all__ = [
    "ABSENT",
    "EXTRAS",
    "STREAMS",
    "TOKEN",
    "Answer",
    "Fault",
    "Request",
    "Row",
    "Server",
    "World",
    "demo_world",
    "history",
    "http_date",
    "moment",
    "odd_world",
    "seconds",
    "short",
    "stamp",
]
