"""What a speech session was asked for, and how text is cut and sound framed accordingly."""

from __future__ import annotations

import json
import math
import re
import struct
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from local import voices
from local.together.http import Refused

if TYPE_CHECKING:
    from collections.abc import Mapping

# A sentence with the white space after it; every character belongs to one.
_SENTENCE = re.compile(r".+?(?:[.!?…]+[\"')\]”’]*\s+|[。！？]+\s*|$)", re.DOTALL)
_ENDED = re.compile(r"(?:[.!?…]+[\"')\]”’]*\s+|[。！？]+\s*)$")
_FORMATS = {"pcm", "wav"}  # what the emulator can make
# Kokoro and Orpheus answer 24 kHz whatever is asked for.
_HONOUR_RATE = ("cartesia/", "minimax/")


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """What the query said, and what `tts_session.updated` made of it."""

    model: str = "hexgrad/Kokoro-82M"
    voice: str = "tara"
    response_format: str | None = None
    sample_rate: int = voices.SAMPLE_RATE
    speed: float = 1.0
    max_partial_length: int = 250
    language: str = "en"
    alignment: str = "none"
    segment: str = "sentence"
    extra_params: Mapping[str, Any] = field(default_factory=dict)

    def changed(self, data: Mapping[str, Any]) -> Session:
        """Raises: Refused, naming the parameter. Unknown names are ignored."""
        named = dict(data)
        if "model_id" in named:  # of older pages
            named.setdefault("model", named["model_id"])
        new: dict[str, Any] = {}
        for name, wanted in _PARAMETERS.items():
            if name in named:
                new[name] = wanted(name, named[name])
        return replace(self, **new)

    @property
    def rate(self) -> int:
        honoured = self.model.lower().startswith(_HONOUR_RATE)
        return self.sample_rate if honoured else voices.SAMPLE_RATE

    def pronounced(self, text: str) -> str:
        """The text with the words of the pronunciation dictionary as they are to be spoken."""
        for entry in self.extra_params.get("pronunciation_dict") or ():
            written, _, spoken = str(entry).partition("/")
            if written:
                pattern = rf"(?<!\w){re.escape(written)}(?!\w)"
                text = re.sub(pattern, spoken.replace("\\", r"\\"), text, flags=re.IGNORECASE)
        return text


def _word(name: str, value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise Refused(400, "invalid_request", f"{name}: must be a string", name)
    return value


def _choice(name: str, value: Any) -> str:
    if value not in _CHOICES[name]:
        known = ", ".join(sorted(_CHOICES[name]))
        raise Refused(400, "invalid_request", f"{name}: must be one of {known}", name)
    return str(value)


def _number(name: str, value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = 0.0
    if not math.isfinite(number) or number <= 0:
        raise Refused(400, "invalid_request", f"{name}: must be a number above 0", name)
    return number


def _whole(name: str, value: Any) -> int:
    return int(_number(name, value))


def as_object(name: str, value: Any) -> Mapping[str, Any]:
    if isinstance(value, str):  # in the query
        try:
            value = json.loads(value)
        except ValueError:
            value = None
    if not isinstance(value, dict):
        raise Refused(400, "invalid_request", f"{name}: must be an object", name)
    return value


_CHOICES: dict[str, set[str]] = {
    "response_format": _FORMATS,
    "alignment": {"none", "word"},
    "segment": {"sentence", "immediate", "never"},
}
_PARAMETERS = {
    "model": _word,
    "voice": _word,
    "response_format": _choice,
    "sample_rate": _whole,
    "speed": _number,
    "max_partial_length": _whole,
    "language": _word,
    "alignment": _choice,
    "segment": _choice,
    "extra_params": as_object,
}


def cut(session: Session, buffer: str) -> tuple[list[tuple[str, str]], str]:
    """What of a buffer is spoken without a commit, each with the reason; and the rest."""
    if session.segment == "never" or not buffer.strip():
        return [], buffer
    if session.segment == "immediate":
        return [(buffer, "immediate")], ""
    parts = sentences(buffer)
    rest = "" if _ENDED.search(parts[-1]) else parts.pop()
    spoken = [(part, "sentence") for part in parts]
    while len(rest) > session.max_partial_length:
        end = rest.rfind(" ", 1, session.max_partial_length) + 1 or session.max_partial_length
        spoken.append((rest[:end], "partial"))
        rest = rest[end:]
    return spoken, rest


def sentences(text: str) -> list[str]:
    """Joined, they are the text."""
    return _SENTENCE.findall(text)


def delta_bytes(session: Session, milliseconds: float, *, odd: bool) -> int:
    """The size of a delta; an odd one ends in the middle of a sample."""
    samples = max(1, round(session.rate * milliseconds / 1000))
    return samples * 2 - odd


def wav_header(rate: int) -> bytes:
    """As a stream has it that does not know its length yet."""
    unknown = struct.pack("<I", 0xFFFFFFFF)
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, rate, rate * 2, 2, 16)
    return b"RIFF" + unknown + b"WAVE" + form + b"data" + unknown
