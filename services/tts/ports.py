"""What speaking a turn needs from the world, in its own words."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from services.tts.record import SpeechRecord
    from services.tts.resume import Replay
    from services.tts.text.segments import Piece
    from shared.contract import AudioFailed, AudioFormat, Stored, Word


@dataclass(frozen=True, slots=True, kw_only=True)
class VoiceParams:
    """How a turn is spoken; `pronunciations` are pairs of written and spoken."""

    model: str
    voice: str
    language: str | None = None
    speed: float = 1.0
    word_timestamps: bool = False
    pronunciations: tuple[tuple[str, str], ...] = ()
    max_partial_length: int = 250  # more than this the provider cuts by itself


@dataclass(frozen=True, slots=True)
class SpokenWord:
    """One word with its place in the piece's audio, in seconds from the piece's first sample."""

    text: str
    start: float
    end: float


class VoiceTurn(Protocol):
    """The voice of one turn: its own context on one socket."""

    def say(self, text: str) -> AsyncGenerator[bytes | SpokenWord, None]:
        """Speak one piece; PCM in whole samples as it arrives, ends when its audio is complete.

        Raises:
            ProviderError: the piece may be incomplete; say it again in a new turn of the voice.
        """
        ...

    def finish(self) -> AsyncGenerator[bytes | SpokenWord, None]:
        """After the last piece: what still comes of it, until it has been quiet for a while."""
        ...


class Voice(Protocol):
    """A speech model, ready to speak."""

    def turn(self, params: VoiceParams) -> AbstractAsyncContextManager[VoiceTurn]:
        """Takes a place on a socket; leaving it stops the audio and frees the place."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredObject:
    """An object as it was written."""

    bucket: str
    key: str | None
    url: str | None
    captions_key: str | None
    content_type: str
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """What an object says about itself."""

    conversation_id: str
    turn_id: str
    attempt: int
    model: str
    voice: str
    text: str
    format: AudioFormat


class Recording(Protocol):
    """The audio of a turn, piece after piece, kept until it is stored."""

    @property
    def samples(self) -> int: ...

    def append(self, pcm: bytes) -> None: ...

    def cut(self, samples: int) -> None:
        """Forgets everything after so many samples."""
        ...


class AudioStore(Protocol):
    """Where the finished audio of a turn goes."""

    bucket: str

    async def put(self, recording: Recording, captions: str, label: Label) -> StoredObject:
        """Writes both objects whole; raises StorageUnavailable after it has tried for a while."""
        ...

    async def remove(self, label: Label) -> None:
        """Takes back what a late worker wrote. Never raises: it is only tidying up."""
        ...


class Publish(Protocol):
    """The events of one voice, in order, their acks checked. Raises Superseded when fenced."""

    async def started(self, attempt: int, params: VoiceParams) -> None: ...

    async def piece(self, piece: Piece) -> None: ...

    async def chunk(self, index: int, pcm: bytes) -> None: ...

    async def piece_done(self, index: int, samples: int, words: Sequence[Word]) -> None: ...

    async def drained(self) -> None:
        """Everything published so far is acked."""
        ...

    async def end(self, event: Stored | AudioFailed) -> None:
        """Publishes the end, once; acked when it returns."""
        ...

    async def replay(self, since: str) -> Replay:
        """What the stream holds of this turn's voice."""
        ...


class Conflict(Exception):
    """The record has moved on since it was read."""


class Records(Protocol):
    """What is kept of each turn's voice, by compare-and-set."""

    async def load(self) -> tuple[SpeechRecord, int]: ...

    async def save(self, record: SpeechRecord, revision: int) -> int:
        """Returns the new revision; raises Conflict."""
        ...


class Now(Protocol):
    """The clock."""

    def monotonic(self) -> float: ...

    async def pause(self, seconds: float) -> None:
        """Waits; raises Cancelled when the turn is stopped meanwhile."""
        ...

    def uniform(self, low: float, high: float) -> float: ...
