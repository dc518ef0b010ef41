"""The events of a turn, text and voice, as they are given to a reader."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias, TypeGuard

import msgspec
from msgspec import Struct

from parley.contract import (
    AUDIO_EVENTS,
    H_ATTEMPT,
    H_CONVERSATION,
    H_PIECE,
    H_SEQ,
    H_TURN,
    H_TYPE,
    SAMPLE_RATE,
    SAMPLE_WIDTH,
    UNREADABLE,
    AudioFailed,
    AudioStarted,
    Delta,
    Done,
    Failed,
    Kind,
    Piece,
    PieceDone,
    Reasoning,
    Started,
    Stored,
    Text,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class Chunk(Struct, frozen=True):
    """Sound of one piece of the voice: whole samples, 16 bit little-endian, mono, 24,000 a second.

    `seq` counts 0, 1, 2 … within an attempt.

    >>> Chunk("c", "t", attempt=1, seq=0, piece=0, pcm=bytes(48_000)).seconds
    1.0
    """

    conversation_id: str
    turn_id: str
    attempt: int
    seq: int
    piece: int
    pcm: bytes

    @property
    def seconds(self) -> float:
        return len(self.pcm) / (SAMPLE_RATE * SAMPLE_WIDTH)


class Later(Struct, frozen=True):
    """An event of a type that a later version has: it has its place, and says nothing to us."""

    conversation_id: str
    turn_id: str
    attempt: int
    seq: int


TextEvent: TypeAlias = Started | Text | Reasoning | Done | Failed
VoiceEvent: TypeAlias = AudioStarted | Piece | Chunk | PieceDone | Stored | AudioFailed
Event: TypeAlias = TextEvent | VoiceEvent

_decode_delta: Callable[[bytes], TextEvent] = msgspec.json.Decoder(Delta).decode
_decode_later = msgspec.json.Decoder(Later).decode
_TEXT = (Started, Text, Reasoning, Done, Failed)
_KINDS: dict[type[object], Kind] = {kind: name for name, kind in AUDIO_EVENTS.items()}
_KINDS[Chunk] = Kind.CHUNK


def is_text(event: Event) -> TypeGuard[TextEvent]:
    """True for events of the words, False for those of the voice."""
    return isinstance(event, _TEXT)


def describe(event: Event) -> dict[str, Any]:
    """A JSON object of an event: `of` is `text` or `voice`, `type` its kind; a chunk tells how many
    `samples` it has in the place of its sound.

    >>> describe(Text("c", "t", attempt=1, seq=1, text="Hi"))["type"]
    'text'
    """
    if isinstance(event, Chunk):
        told = {"samples": len(event.pcm) // SAMPLE_WIDTH}
        names = ("conversation_id", "turn_id", "attempt", "seq", "piece")
        found: dict[str, Any] = {name: getattr(event, name) for name in names} | told
    else:
        found = msgspec.to_builtins(event)
    of = "text" if is_text(event) else "voice"
    kind = {} if is_text(event) else {"type": _KINDS[type(event)].value}
    return {"of": of, **kind, **found}


def text_event(data: bytes) -> TextEvent | Later | None:
    """None for what nobody can read."""
    try:
        return _decode_delta(data)
    except UNREADABLE:
        pass
    try:
        return _decode_later(data)
    except UNREADABLE:
        return None


def voice_event(headers: Mapping[str, str], data: bytes) -> VoiceEvent | None:
    """None for what this version does not know."""
    try:
        kind = Kind(headers.get(H_TYPE, ""))
        if kind is Kind.CHUNK:
            return _chunk(headers, data)
        found: Any = msgspec.json.decode(data, type=AUDIO_EVENTS[kind])
    except (*UNREADABLE, ValueError, KeyError):
        return None
    event: VoiceEvent = found
    return event


def _chunk(headers: Mapping[str, str], data: bytes) -> Chunk:
    """Raises KeyError, ValueError."""
    return Chunk(
        headers[H_CONVERSATION],
        headers[H_TURN],
        attempt=int(headers[H_ATTEMPT]),
        seq=int(headers[H_SEQ]),
        piece=int(headers[H_PIECE]),
        pcm=data,
    )
