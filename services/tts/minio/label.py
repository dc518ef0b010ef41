"""What an object is called, and what it says about itself: its key and its user metadata."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

from services.tts.audio import pcm

if TYPE_CHECKING:
    from services.tts.ports import Label


DURATION: Final = "x-amz-meta-duration-ms"
SAMPLES: Final = "x-amz-meta-samples"


def turn_prefix(conversation_id: str, turn_id: str) -> str:
    """What the keys of all objects of a turn begin with."""
    return f"{conversation_id}/{turn_id}/"


def key_of(label: Label) -> str:
    """The object of one attempt, without its extension."""
    return f"{turn_prefix(label.conversation_id, label.turn_id)}{label.attempt}"


def audio_key(label: Label) -> str:
    return f"{key_of(label)}.{label.format.value}"


def captions_key(label: Label) -> str:
    return f"{key_of(label)}.vtt"


def metadata(label: Label, samples: int) -> dict[str, str]:
    """HTTP headers; `samples` are those of the voice, from which its duration follows."""
    text = label.text.encode(errors="replace")
    facts = {
        "conversation": label.conversation_id,
        "turn": label.turn_id,
        "model": _header(label.model),
        "voice": _header(label.voice),
        "sha256": hashlib.sha256(text).hexdigest(),
    }
    named = {f"x-amz-meta-{name}": value for name, value in facts.items()}
    duration_ms = pcm.milliseconds(samples * pcm.SAMPLE_WIDTH)
    return named | {DURATION: str(duration_ms), SAMPLES: str(samples)}


def _header(text: str) -> str:
    """User metadata travels in HTTP headers: printable ASCII only, one space at most."""
    return " ".join("".join(c if " " <= c <= "~" else "_" for c in text).split())
