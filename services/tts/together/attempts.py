"""How the attempts to open a socket for one model went, and when the next one may be made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from shared.retry import Backoff

if TYPE_CHECKING:
    from collections.abc import Callable

    from shared.errors import ProviderError

BACKOFF: Final = Backoff(first=0.2, longest=15.0)
REFUSED_PAUSE: Final = 1.0  # seconds; a key that was refused is not tried again in a hurry


@dataclass(slots=True)
class Attempts:
    """Pauses are scattered: many replicas that failed together do not come back together."""

    error: ProviderError | None = None  # of the last attempt
    not_before: float = 0.0
    _failures: int = 0  # in a row

    def may(self, now: float) -> bool:
        """True when an attempt may be made."""
        return now >= self.not_before

    def hopeless(self, until: float) -> ProviderError | None:
        """Why it is of no use to wait for a socket until then."""
        if self.error is None:
            return None
        return self.error if self.not_before > until or not self.error.retryable else None

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
        asked = error.wait or 0.0
        self._pause(asked if error.retryable else max(asked, REFUSED_PAUSE), now, uniform)

    def wasted(self, now: float, uniform: Callable[[float, float], float]) -> None:
        """A socket ended at once, and nobody says why."""
        self._pause(0.0, now, uniform)

    def _pause(self, asked: float, now: float, uniform: Callable[[float, float], float]) -> None:
        self._failures += 1
        pause = BACKOFF.scattered(self._failures, None, uniform=uniform)
        self.not_before = now + max(asked, pause)
