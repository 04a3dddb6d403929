"""How jobs of the demonstration fail: what each way leaves behind, worded as the programs word it."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Failure:
    """A way to fail: the job that does, its status, the exit code of its last step, and what that step wrote.

    `test` is the class, the name and the message of the test that fails. `weight` says how usual it is, and
    `weight_before_rerun` how usual where somebody reruns the workflow and it passes.
    """

    job: str
    output: str = ""
    weight: int = 0
    weight_before_rerun: int = 0
    status: str = "failed"
    exit_code: int = 1
    test: tuple[str, str, str] | None = None


def _jest(classname: str, name: str, message: str) -> str:
    summary = "Tests:       1 failed, 214 passed, 215 total"
    return f"FAIL tests/{classname}.spec.ts\n  x {name} (5012 ms)\n    {message}\n{summary}\n"


_SPINNER = ("CheckoutTest", "waits for the spinner", "TimeoutError: locator('.spinner') still visible after 5000 ms")
_BASKET = ("CartTest", "keeps a basket", "expected 2 items in the basket, got 1")
_VAT = ("VatTest", "rounds gift cards", "expected 7.70, got 7.69")

#: Of a push.
BUILD: Sequence[Failure] = (
    Failure("unit-tests", _jest(*_SPINNER), 0, 5, test=_SPINNER),
    Failure("unit-tests", _jest(*_BASKET), 0, 2, test=_BASKET),
    Failure("unit-tests", _jest(*_VAT), 6, test=_VAT),
    Failure(
        "lint", "src/cart.ts\n  12:5  error  'total' is never reassigned  prefer-const\n\n3 problems (3 errors)\n", 3
    ),
    Failure("package", "src/price.ts(41,7): error TS2322: Type 'string' is not assignable to type 'number'.\n", 2),
    Failure("package", "make: *** [Makefile:18: dist] Error 2\n", 2, exit_code=2),
    Failure("package", "", 1),
    Failure("package", "/bin/bash: line 3: envsubst: command not found\n", 1, exit_code=127),
    Failure("package", "Unable to locate credentials. You can configure them with aws configure.\n", 1, exit_code=253),
    Failure("package", "npm ERR! code ERESOLVE\nnpm ERR! ERESOLVE unable to resolve dependency tree\n", 2),
    Failure("package", "npm ERR! code ECONNRESET\nnpm ERR! network aborted\n", 0, 2),
    Failure("lint", "ERROR: No matching distribution found for ruff==9.9.9\n", 1),
    Failure("package", "Error response from daemon: toomanyrequests: You have reached your pull rate limit.\n", 0, 2),
    Failure("package", "curl: (28) Failed to connect to registry.example: Connection timed out\n", 0, 1, exit_code=28),
    Failure("unit-tests", " 412 passing\n/bin/bash: line 1:   731 Killed   npm test\n", 1, 1, exit_code=137),
    Failure("package", "FATAL ERROR: Reached heap limit - JavaScript heap out of memory\n", 1, exit_code=134),
    Failure("unit-tests", "Too long with no output (exceeded 10m0s): context deadline exceeded\n", 1, 1, "timedout"),
    Failure("checkout", "", 0, 2, "infrastructure_fail"),
    Failure("package", "", 0, 1, "infrastructure_fail"),
)

#: Of a night.
NIGHTLY: Sequence[Failure] = (
    Failure("integration-tests", "Error: connect ECONNREFUSED 127.0.0.1:5432\n    at TCPConnectWrap.afterConnect\n", 1),
    Failure("browser-tests", "2 failed, 148 passed (31.2m)\n", 2),
)

#: Of a deployment.
DEPLOY: Sequence[Failure] = (
    Failure("deploy-production", 'error: deployment "shop" exceeded its progress deadline\n', 1),
    Failure("deploy-production", "Error: UPGRADE FAILED: timed out waiting for the condition\n", 1),
)


def dealt(ways: Sequence[Failure], luck: random.Random, is_rerun: bool = False) -> Iterator[Failure]:
    """These ways for ever, shuffled, in each round each as often as it is usual."""
    while True:
        deck = [way for way in ways for _ in range(way.weight_before_rerun if is_rerun else way.weight)]
        luck.shuffle(deck)
        yield from deck
