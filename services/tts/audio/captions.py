"""WebVTT from the pieces of a voice; word by word where the words' times are known."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from shared.contract import SAMPLE_RATE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from services.tts.resume import DonePiece

# Characters between one word and the next. Further away it is another word that looks the same:
# what is heard is not always what is written ("3 km", "three kilometres").
_NEXT_WORD: Final = 24


def timestamp(ms: float) -> str:
    """hh:mm:ss.ttt"""
    seconds, thousandths = divmod(round(ms), 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{seconds:02}.{thousandths:03}"


def webvtt(pieces: Iterable[DonePiece]) -> str:
    """A cue for each piece that is heard, its words marked by the time at which each begins."""
    lines = ["WEBVTT", ""]
    samples = 0
    for piece in pieces:
        start = _milliseconds(samples)
        samples += piece.samples
        end = _milliseconds(samples)
        text = _one_line(piece.text)
        if end <= start or not text:
            continue  # a cue must last, and say something
        lines += [
            str(piece.index + 1),
            f"{timestamp(start)} --> {timestamp(end)}",
            "".join(_marked(text, piece, start, end)),
            "",
        ]
    return "\n".join(lines)


def _milliseconds(samples: int) -> int:
    return round(samples * 1000 / SAMPLE_RATE)


def _one_line(text: str) -> str:
    # A line break may end a cue; a NUL or half a character is nothing that a file can hold.
    return " ".join(text.replace("\0", "").encode(errors="ignore").decode().split())


def _escape(text: str) -> str:
    # "-->" inside a cue would end it, "<" would begin a mark.
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _marked(text: str, piece: DonePiece, start: int, end: int) -> Iterator[str]:
    """The text as it is written, whatever stands between its words in its language.

    Marks lie inside their cue and each is later than the one before, as the standard wants it.
    """
    at, latest = 0, start
    for word in piece.words:
        sought = _one_line(word.text)
        found = text.find(sought, at, at + _NEXT_WORD + len(sought)) if sought else -1
        if found < 0:
            continue
        yield _escape(text[at:found])
        if latest < word.start_ms < end:
            latest = word.start_ms
            yield f"<{timestamp(latest)}>"
        at = found + len(sought)
        yield _escape(sought)
    yield _escape(text[at:])
