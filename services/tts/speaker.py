"""Which model says the next piece: the one that was asked for, or the fallback for a while."""

from __future__ import annotations

import enum
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from services.tts.job import Rules
    from services.tts.ports import VoiceParams
    from shared.errors import ProviderError


class Next(enum.Enum):
    """What follows a failure."""

    AGAIN = "the same model, after a pause"
    FALLBACK = "the fallback, at once"
    NOBODY = "the voice fails"


class Speaker:
    def __init__(self, first: VoiceParams, rules: Rules) -> None:
        self._first, self._rules = first, rules
        self.params = first
        self._said_by_fallback: int | None = None  # pieces; None while the first model speaks

    def after(self, error: ProviderError, failures: int) -> Next:
        """Who says the piece again that has failed so often on the model that speaks now."""
        if error.retryable and failures < self._rules.max_tries:
            return Next.AGAIN
        fallback = self._rules.fallback
        if fallback is None or self.params.model == fallback[0]:
            return Next.NOBODY
        self.params = replace(self.params, model=fallback[0], voice=fallback[1])
        self._said_by_fallback = 0
        return Next.FALLBACK

    def said(self) -> None:
        """A piece was said by the model that speaks now."""
        if self._said_by_fallback is not None:
            self._said_by_fallback += 1

    @property
    def is_due_back(self) -> bool:
        """True when the first model is to say the next piece, after the fallback."""
        said = self._said_by_fallback
        return said is not None and said >= self._rules.recover_after

    def go_back(self) -> None:
        self.params, self._said_by_fallback = self._first, None
