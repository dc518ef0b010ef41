"""WebVTT from the pieces of a voice; word by word where the words' times are known."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.contract import SAMPLE_RATE

if TYPE_CHECKING:
    from collections.abc import Iterable

    from services.tts.recalled import DonePiece


def timestamp(ms: float) -> str:
    """hh:mm:ss.ttt"""
    whole = round(ms)
    seconds, thousandths = divmod(whole, 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{seconds:02}.{thousandths:03}"


def _escape(text: str) -> str:
    # "-->" inside a cue would end it; a blank line as well.
    escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return " ".join(escaped.split())


def webvtt(pieces: Iterable[DonePiece]) -> str:
    """A cue for each piece, its words marked by the time at which each begins."""
    lines = ["WEBVTT", ""]
    samples = 0
    for piece in pieces:
        start = samples * 1000 / SAMPLE_RATE
        samples += piece.samples
        end = samples * 1000 / SAMPLE_RATE
        if round(end) <= round(start):
            continue  # a cue must last
        lines += [
            str(piece.index + 1),
            f"{timestamp(start)} --> {timestamp(end)}",
            _cue(piece, start, end),
            "",
        ]
    return "\n".join(lines)


def _cue(piece: DonePiece, start: float, end: float) -> str:
    if not piece.words:
        return _escape(piece.text)
    parts = []
    for number, word in enumerate(piece.words):
        # A mark must lie inside its cue, and the first word begins with it.
        inside = number and start < word.start_ms < end
        parts.append((f"<{timestamp(word.start_ms)}>" if inside else "") + _escape(word.text))
    return " ".join(parts)
