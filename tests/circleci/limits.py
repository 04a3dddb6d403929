"""Rate limits of every kind that services have, on the clock of whoever asks: real seconds or a simulation's."""

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass
class SlidingWindow:
    """At most `most` in any `seconds`."""

    most: int
    seconds: float
    taken: deque[float] = field(default_factory=deque)

    def left(self, now: float) -> int:
        """How many more would be let through at once."""
        while self.taken and self.taken[0] <= now - self.seconds:
            self.taken.popleft()
        return self.most - len(self.taken)

    def take(self, now: float) -> bool:
        """Whether one more is let through."""
        if self.left(now) <= 0:
            return False
        self.taken.append(now)
        return True

    def until_free(self, now: float) -> float:
        """Seconds until one more is let through."""
        over = -self.left(now)
        return self.taken[over] + self.seconds - now if over >= 0 else 0.0


@dataclass
class FixedWindow:
    """At most `most` in each of the `seconds` that follow one another, the first of which began at `since`."""

    most: int
    seconds: float
    since: float = 0.0
    taken: int = 0

    def left(self, now: float) -> int:
        """How many more would be let through at once."""
        passed = (now - self.since) // self.seconds
        if passed >= 1:
            self.since += passed * self.seconds
            self.taken = 0
        return self.most - self.taken

    def take(self, now: float) -> bool:
        """Whether one more is let through."""
        if self.left(now) <= 0:
            return False
        self.taken += 1
        return True

    def until_free(self, now: float) -> float:
        """Seconds to the end of the window."""
        self.left(now)
        return self.since + self.seconds - now


@dataclass
class TokenBucket:
    """`a_second` let through on average, and up to `burst` at once that were saved up."""

    burst: float
    a_second: float
    tokens: float = math.inf
    at: float = 0.0

    def left(self, now: float) -> int:
        """How many more would be let through at once."""
        self.tokens = min(self.burst, self.tokens + (now - self.at) * self.a_second)
        self.at = now
        return math.floor(self.tokens + 1e-9)

    def take(self, now: float) -> bool:
        """Whether one more is let through."""
        if self.left(now) <= 0:
            return False
        self.tokens -= 1
        return True

    def until_free(self, now: float) -> float:
        """Seconds until one more is let through."""
        self.left(now)
        return max(0.0, 1 - self.tokens) / self.a_second


@dataclass
class RateLimit:
    """A limit and what answers say of it.

    `retry_after` is what refusals name in Retry-After: a number of seconds, "left" for the seconds until one more is
    let through (rounded up), or None for no header. `told` is the prefix of the headers Limit, Remaining and Reset,
    which all answers then have.
    """

    kind: SlidingWindow | FixedWindow | TokenBucket
    retry_after: float | str | None = "left"
    told: str = ""

    def answer(self, now: float) -> tuple[bool, Mapping[str, str]]:
        """Whether a request is let through, and the headers of its answer."""
        served = self.kind.take(now)
        headers = {}
        wait = self.kind.until_free(now)
        if self.told:
            most = self.kind.burst if isinstance(self.kind, TokenBucket) else self.kind.most
            headers = {
                f"{self.told}Limit": f"{most:g}",
                f"{self.told}Remaining": str(max(0, self.kind.left(now))),
                f"{self.told}Reset": str(math.ceil(wait)),
            }
        if not served and self.retry_after is not None:
            seconds = max(1, math.ceil(wait)) if self.retry_after == "left" else self.retry_after
            headers["Retry-After"] = f"{seconds:g}"
        return served, headers
