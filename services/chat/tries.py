"""Noun: whether an answer that failed is tried again, with which model, and after what pause."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared.errors import ProviderOverloaded, ProviderRateLimited, ProviderRefused
from shared.retry import PROVIDER, worth_waiting

if TYPE_CHECKING:
    from collections.abc import Callable

    from shared.errors import ProviderError


@dataclass(frozen=True, slots=True)
class Next:
    """The next try: its model, and how long to wait before it."""

    model: str
    pause: float


class Tries:
    """Of one turn. A model is tried so often, and while it is away for as long as a listener waits.

    `limit`: tries of a model. `patience`: seconds from the beginning of an attempt, or from where
    its words broke off, for which a provider that is away is tried however often. `until`: the
    end of the turn. All times are monotonic.
    """

    def __init__(
        self,
        model: str,
        *,
        fallback: str | None,
        limit: int,
        patience: float,
        now: float,
        until: float,
    ) -> None:
        self.model, self._fallback = model, fallback
        self._limit, self._patience, self._until = limit, patience, until
        self._begin(now)

    def _begin(self, now: float) -> None:
        self.patient_until = now + self._patience
        self._away = self._broken = self._in_a_row = 0

    def after(
        self,
        exc: ProviderError,
        *,
        said: bool,
        now: float,
        uniform: Callable[[float, float], float],
    ) -> Next | None:
        """What follows a try that failed; `said`: after it had said something. None: nothing."""
        left = self._until - now
        # A request that this model refuses another one may take; a key is refused by all.
        if left <= 0 or not (exc.retryable or isinstance(exc, ProviderRefused)):
            return None
        if said:
            self.patient_until = now + self._patience
            self._away = self._in_a_row = 0
        self._in_a_row += 1
        if exc.retryable and worth_waiting(exc.wait, left) and self._bears(exc, said=said, now=now):
            return Next(self.model, PROVIDER.scattered(self._in_a_row, exc.wait, uniform=uniform))
        if not self._has_fallback:
            return None
        self.model = str(self._fallback)
        self._begin(now)
        return Next(self.model, 0.0)

    @property
    def _has_fallback(self) -> bool:
        return self._fallback is not None and self._fallback != self.model

    def _bears(self, exc: ProviderError, *, said: bool, now: float) -> bool:
        """Who had said something was not away."""
        if isinstance(exc, ProviderOverloaded | ProviderRateLimited) and not said:
            self._away += 1
            patient = now < self.patient_until and not self._has_fallback
            return self._away < self._limit or patient
        self._broken += 1
        return self._broken < self._limit
