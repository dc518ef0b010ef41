"""Noun: a circuit breaker, so that a thousand turns do not knock at a provider that is away.

While it is closed everybody may try. After some failures in a row it is open: one probe at a time,
with growing pauses in between, and everybody else waits for what becomes of it. The first success
closes it. Only what says that nobody is there counts as a failure: connections refused, 5xx.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from shared.retry import Backoff

if TYPE_CHECKING:
    from collections.abc import Callable

FAILURES: Final = 5  # in a row; a healthy endpoint fails now and then
PAUSES: Final = Backoff(first=0.25, longest=2.0)
PROBE_SECONDS: Final = 5.0  # a probe of which nothing was heard for so long does not count


class State(enum.Enum):
    CLOSED = "closed"
    OPEN = "open"
    PROBING = "probing"


@dataclass(slots=True)
class Breaker:
    """Of one endpoint, for everybody who tries it. `now` is any monotonic clock, in seconds."""

    uniform: Callable[[float, float], float]
    failures_to_open: int = FAILURES
    pauses: Backoff = PAUSES
    state: State = State.CLOSED
    _failures: int = 0  # in a row
    _next: float = 0.0  # when a probe may go
    _probes: int = field(default=0)  # that failed since it opened

    def wait(self, now: float) -> float:
        """0: try, and tell what became of it; else the seconds after which to ask again."""
        if self.state is State.CLOSED:
            return 0.0
        if now < self._next:
            return self._next - now
        # This caller is the probe; the others ask again when it must be over.
        self.state = State.PROBING
        self._next = now + PROBE_SECONDS
        return 0.0

    def succeeded(self) -> None:
        """Somebody is there."""
        self.state = State.CLOSED
        self._failures = self._probes = 0

    def left(self, now: float) -> None:
        """A try ended before it could tell: another one may probe."""
        if self.state is State.PROBING:
            self.state, self._next = State.OPEN, now

    def failed(self, now: float) -> None:
        """Nobody is there."""
        self._failures += 1
        if self.state is State.CLOSED and self._failures < self.failures_to_open:
            return
        if self.state is State.OPEN and now < self._next:
            return  # of a try that began before it opened
        self._probes += 1
        self.state = State.OPEN
        ceiling = self.pauses.ceiling(self._probes)
        self._next = now + self.uniform(ceiling / 2, ceiling)
