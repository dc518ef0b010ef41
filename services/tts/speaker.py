"""Which model says the next piece, and whether a piece that failed is tried again.

A model is tried so often, and the last one that there is for a while longer where the provider is
away: nobody has heard a word too much from who was not there.
"""

from __future__ import annotations

import enum
from dataclasses import replace
from typing import TYPE_CHECKING

from services.tts.ports import ConnectionLost
from shared.errors import ProviderOverloaded, ProviderRateLimited
from shared.retry import PROVIDER

if TYPE_CHECKING:
    from collections.abc import Callable

    from services.tts.job import Rules
    from services.tts.ports import VoiceParams
    from shared.errors import ProviderError


class Next(enum.Enum):
    """What follows a failure."""

    AGAIN = "the same model, after a pause"
    FALLBACK = "the fallback, at once"
    NOBODY = "no model is left to try"


class Speaker:
    def __init__(self, first: VoiceParams, rules: Rules) -> None:
        self._first, self._rules = first, rules
        self.params = first
        self._said_by_fallback: int | None = None  # pieces; None while the first model speaks
        self._begin()

    def _begin(self) -> None:
        """A piece is tried by a model from the start."""
        self._away = self._broken = 0
        self._patient_until: float | None = None

    def after(self, error: ProviderError, *, asked: bool, heard: bool, now: float) -> Next:
        """Who says the piece again that has failed.

        `asked`: the model was given the piece; `heard`: and something of it was heard.
        """
        if error.retryable and self._bears(error, asked=asked, heard=heard, now=now):
            return Next.AGAIN
        fallback = self._rules.fallback
        if fallback is None or not self._has_fallback:
            return Next.NOBODY
        self.params = replace(self.params, model=fallback[0], voice=fallback[1])
        self._said_by_fallback = 0
        self._begin()
        return Next.FALLBACK

    @property
    def _has_fallback(self) -> bool:
        fallback = self._rules.fallback
        return fallback is not None and self.params.model != fallback[0]

    def _bears(self, error: ProviderError, *, asked: bool, heard: bool, now: float) -> bool:
        if self._patient_until is None:
            self._patient_until = now + self._rules.patience
        if heard or (asked and not _is_away(error)):
            self._broken += 1
            return self._broken < self._rules.max_tries
        self._away += 1
        patient = now < self._patient_until and not self._has_fallback
        return self._away < self._rules.max_tries or patient

    def pause(self, error: ProviderError, uniform: Callable[[float, float], float]) -> float:
        """Seconds before the same model is asked again."""
        failures = max(1, self._away + self._broken)
        return PROVIDER.scattered(failures, error.wait, uniform=uniform)

    def said(self) -> None:
        """A piece is done by the model that speaks now."""
        self._begin()
        if self._said_by_fallback is not None:
            self._said_by_fallback += 1

    @property
    def is_due_back(self) -> bool:
        """True when the first model is to say the next piece, after the fallback."""
        said = self._said_by_fallback
        return said is not None and said >= self._rules.recover_after

    def go_back(self) -> None:
        self.params, self._said_by_fallback = self._first, None
        self._begin()


def _is_away(error: ProviderError) -> bool:
    """Of a piece that was asked and of which nothing was heard: the provider was not there."""
    return isinstance(error, ConnectionLost | ProviderOverloaded | ProviderRateLimited)
