"""The speech protocol of the provider: frames out as bytes, frames in as typed events. No socket.

The structs that a frame decodes to are the events themselves, so that an audio delta costs one
call of msgspec, base64 included (measured: a third of `json` and `base64`).
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import quote, urlencode

import msgspec
from msgspec import Struct

from services.tts.together.faults import Fault
from shared.contract import SAMPLE_RATE
from shared.errors import ProviderBroken

if TYPE_CHECKING:
    from collections.abc import Mapping

    from services.tts.ports import VoiceParams

ItemId: TypeAlias = str | int

MAX_PARTIAL_LENGTH = 250  # the provider's default

# ---------------------------------------------------------------- from the provider


class _Named(Struct, frozen=True, tag_field="type"):
    """`context_id` is echoed when it was sent, says the provider; some events come without."""

    context_id: str | None = None


class SessionCreated(_Named, frozen=True, tag="session.created"):
    """The first event; nothing is sent before it."""

    session: Any = None

    @property
    def model(self) -> str | None:
        """As the provider has it; None where it does not say."""
        named = self.session.get("model") if isinstance(self.session, dict) else None
        return named if isinstance(named, str) and named else None


class TextReceived(_Named, frozen=True, tag="conversation.item.input_text.received"):
    """Our text has arrived; how often it is said is documented nowhere."""


class Audio(_Named, frozen=True, tag="conversation.item.audio_output.delta"):
    """A part of an item's audio, perhaps with a header, perhaps with half a sample at its end.

    A binary frame becomes one that names neither context nor item.
    """

    item_id: ItemId | None = None
    delta: bytes | None = None

    @property
    def data(self) -> bytes:
        return self.delta or b""


class ItemDone(_Named, frozen=True, tag="conversation.item.audio_output.done"):
    """One item is complete, which a commit may have several of."""

    item_id: ItemId | None = None


class Words(_Named, frozen=True, tag="conversation.item.word_timestamps"):
    """Words with their times, from the start of the item or of the context."""

    item_id: ItemId | None = None
    words: list[str | None] | None = None
    start_seconds: list[float | None] | None = None
    end_seconds: list[float | None] | None = None

    @property
    def timed(self) -> list[tuple[str, float, float]]:
        """The words that have both times."""
        lists = (self.words or (), self.start_seconds or (), self.end_seconds or ())
        return [
            (text, start, end)
            for text, start, end in zip(*lists, strict=False)
            if text is not None and start is not None and end is not None
        ]


class Failed(_Named, frozen=True, tag="conversation.item.tts.failed"):
    """A context, or whatever it was, could not be spoken."""

    error: Fault | str | None = None


class ContextCancelled(_Named, frozen=True, tag="context.cancelled"):
    """The context does not count any more."""


class ProtocolError(_Named, frozen=True, tag="error"):
    """In no reference, but handled by the provider's own examples."""

    error: Fault | str | None = None


class Unknown(Struct, frozen=True):
    """An event that no reference names: to be ignored, and counted."""

    type: str = ""
    context_id: str | None = None


class Garbled(Struct, frozen=True):
    """A known event whose fields make no sense: its context has lost something."""

    type: str
    context_id: str | None
    reason: str


_Wire: TypeAlias = (
    SessionCreated
    | TextReceived
    | Audio
    | ItemDone
    | Words
    | Failed
    | ContextCancelled
    | ProtocolError
)
Event: TypeAlias = _Wire | Unknown | Garbled

# Of these a form that we do not know is no matter of indifference: something was lost with it.
_MATTER = {
    "conversation.item.audio_output.delta",
    "conversation.item.audio_output.done",
    "conversation.item.tts.failed",
    "context.cancelled",
    "error",
}
_event: msgspec.json.Decoder[_Wire] = msgspec.json.Decoder(_Wire)


class _Head(Struct, frozen=True):
    """As much of an event as can be read when the rest of it is not what we expect."""

    type: Any = None
    context_id: Any = None


_head = msgspec.json.Decoder(_Head)


def decode(frame: str | bytes) -> Event:
    """The meaning of one frame: text is JSON, binary is audio of nobody in particular.

    Raises:
        ProviderBroken: a text frame is not JSON, so that nothing on this socket can be trusted.
    """
    if isinstance(frame, bytes):
        return _binary(frame)
    try:
        return _event.decode(frame)
    except msgspec.ValidationError as exc:
        return _misfit(frame, str(exc))
    except msgspec.DecodeError as exc:
        raise ProviderBroken(f"a frame is not JSON: {exc}") from exc


def _binary(frame: bytes) -> Event:
    """Audio; or JSON in a frame of the wrong kind, which no samples are mistaken for."""
    if frame.startswith(b'{"') and frame.endswith(b"}"):
        with contextlib.suppress(msgspec.DecodeError):
            return _event.decode(frame)
    return Audio(delta=frame)


def _misfit(frame: str, reason: str) -> Event:
    """JSON, but no event of ours: one we do not know, or a known one in another form."""
    try:
        head = _head.decode(frame)
    except msgspec.ValidationError:
        head = _Head()
    kind = head.type if isinstance(head.type, str) else ""
    context = head.context_id if isinstance(head.context_id, str) else None
    return Garbled(kind, context, reason) if kind in _MATTER else Unknown(kind, context)


# ---------------------------------------------------------------- to the provider

_encode = msgspec.json.encode


def append(context: str, text: str) -> bytes:
    return _encode({"type": "input_text_buffer.append", "text": text, "context_id": context})


def commit(context: str) -> bytes:
    """Speak what was appended. Nobody knows what an empty commit does: never send one."""
    return _encode({"type": "input_text_buffer.commit", "context_id": context})


def cancel(context: str) -> bytes:
    """Stops the context's audio, and frees it."""
    return _encode({"type": "context.cancel", "context_id": context})


def session_updated(session: Mapping[str, Any], context: str) -> bytes:
    """Changes one context. Yes, the client's event has this name."""
    return _encode({"type": "tts_session.updated", "session": session, "context_id": context})


def _session(params: VoiceParams) -> dict[str, Any]:
    """The settings of a context in full; what a turn leaves open gets the provider's default."""
    return {
        "voice": params.voice,
        "language": params.language or "en",
        "speed": params.speed,
        "alignment": "word" if params.word_timestamps else "none",
        "max_partial_length": params.max_partial_length,
        "extra_params": {
            "pronunciation_dict": [
                f"{written}/{spoken}" for written, spoken in params.pronunciations
            ]
        },
    }


def changes(params: VoiceParams, current: VoiceParams) -> dict[str, Any]:
    """The settings of `params` that differ from the current ones, of the same kind."""
    wanted, given = _session(params), _session(current)
    return {name: value for name, value in wanted.items() if value != given[name]}


@dataclass(frozen=True, slots=True, kw_only=True)
class OptionalParameters:
    """Parameters of a handshake that not every endpoint knows; None: not sent."""

    segment: str | None = "never"
    sample_rate: str | None = str(SAMPLE_RATE)


def socket_url(url: str, params: VoiceParams, optional: OptionalParameters | None) -> str:
    """Where to connect; `optional` is None where only what is required is sent.

    Model and voice together: the provider's defaults do not fit each other.
    """
    query = {"model": params.model, "voice": params.voice, "response_format": "pcm"}
    if optional is not None:
        query |= _optional(params, optional)
    given = {name: value for name, value in query.items() if value}
    # quote, not quote_plus: a "+" in a blend of voices has to arrive as %2B.
    return f"{url}{'&' if '?' in url else '?'}{urlencode(given, quote_via=quote, safe='')}"


def _optional(params: VoiceParams, optional: OptionalParameters) -> dict[str, str]:
    partial = params.max_partial_length
    return {
        "sample_rate": optional.sample_rate or "",
        "segment": optional.segment or "",
        "language": params.language or "",
        "speed": "" if params.speed == 1.0 else str(params.speed),
        "alignment": "word" if params.word_timestamps else "",
        "max_partial_length": "" if partial == MAX_PARTIAL_LENGTH else str(partial),
    }
