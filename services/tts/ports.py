"""What speaking a turn needs from the world, in its own words."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@dataclass(frozen=True, slots=True, kw_only=True)
class VoiceParams:
    """How a turn is spoken; `pronunciations` are pairs of written and spoken."""

    model: str
    voice: str
    language: str | None = None
    speed: float = 1.0
    word_timestamps: bool = False
    pronunciations: tuple[tuple[str, str], ...] = ()
    max_partial_length: int | None = None


@dataclass(frozen=True, slots=True)
class SpokenWord:
    """One word with its place in the piece's audio, in seconds from the piece's first sample."""

    text: str
    start: float
    end: float


class VoiceTurn(Protocol):
    """The voice of one turn: its own context on one socket."""

    def say(self, text: str) -> AsyncIterator[bytes | SpokenWord]:
        """Speak one piece; PCM in whole samples as it arrives, ends when its audio is complete.

        Raises:
            ProviderError: the piece may be incomplete; say it again in a new turn of the voice.
        """
        ...


class Voice(Protocol):
    """A speech model, ready to speak."""

    def turn(self, params: VoiceParams) -> AbstractAsyncContextManager[VoiceTurn]:
        """Takes a place on a socket; leaving it stops the audio and frees the place."""
        ...
