"""How the attempts to open a socket for one model went, and when the next one may be made.

A circuit breaker: after a failure there is one attempt at a time, with growing pauses in between,
however many turns wait for what becomes of it; the first success closes it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from shared.retry import PROVIDER, Backoff, worth_waiting

if TYPE_CHECKING:
    from collections.abc import Callable

    from shared.errors import ProviderError

# What patience does not mend, such as a key that was refused, is not tried again in a hurry.
REFUSED: Final = Backoff(first=2.0, longest=15.0)


@dataclass(slots=True)
class Attempts:
    """Pauses are scattered: many replicas that failed together do not come back together."""

    error: ProviderError | None = None  # of the last attempt
    not_before: float = 0.0
    _failures: int = 0  # in a row

    def may(self, now: float) -> bool:
        """True when an attempt may be made."""
        return now >= self.not_before

    @property
    def failing(self) -> bool:
        """True after a failure, until an attempt succeeds."""
        return self.error is not None

    def hopeless(self, now: float, until: float) -> ProviderError | None:
        """Why it is of no use to wait for a socket until then."""
        if self.error is None:
            return None
        waits = worth_waiting(self.error.wait, until - now)
        return None if waits and self.error.retryable else self.error

    def opened(self) -> None:
        """A socket has its session."""
        self.error = None

    def lasted(self) -> None:
        """A socket was worth opening."""
        self._failures = 0

    def failed(
        self, error: ProviderError, now: float, uniform: Callable[[float, float], float]
    ) -> None:
        """No session, or one that was taken back: `error` says which pause is asked for."""
        self.error = error
        self._pause(PROVIDER if error.retryable else REFUSED, error.wait, now, uniform)

    def wasted(self, now: float, uniform: Callable[[float, float], float]) -> None:
        """A socket ended at once, and nobody says why."""
        self._pause(PROVIDER, None, now, uniform)

    def _pause(
        self,
        backoff: Backoff,
        asked: float | None,
        now: float,
        uniform: Callable[[float, float], float],
    ) -> None:
        self._failures += 1
        ceiling = backoff.ceiling(self._failures)
        self.not_before = now + max(asked or 0.0, uniform(ceiling / 2, ceiling))
