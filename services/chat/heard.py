"""Noun: how much of a text was heard, from the pieces of its voice."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from shared.contract import SAMPLE_RATE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shared.contract import Word


@dataclass(slots=True)
class SpokenPiece:
    """One piece: its range in the text, its samples so far, and whether that is all of them."""

    start: int
    end: int
    samples: int = 0
    whole: bool = False
    words: Sequence[Word] = field(default_factory=tuple)

    @property
    def ms(self) -> float:
        return self.samples * 1000 / SAMPLE_RATE


def heard_text(pieces: Sequence[SpokenPiece], heard_ms: int, text: str) -> str:
    """The beginning of `text` that was heard within `heard_ms` of its voice.

    Whole pieces by their length; inside one by its words' times, or in proportion to time, cut at
    a word's end.
    """
    if heard_ms <= 0:
        return ""
    at = 0.0
    end = 0
    for piece in pieces:
        if heard_ms >= at + piece.ms and piece.whole:
            at += piece.ms
            end = piece.end
            continue
        return text[: max(end, _inside(piece, at, heard_ms, text))].rstrip()
    return text[:end].rstrip()


def _inside(piece: SpokenPiece, began_ms: float, heard_ms: int, text: str) -> int:
    said = text[piece.start : piece.end]
    if piece.words:
        count = sum(1 for w in piece.words if w.end_ms <= heard_ms)
        at = 0
        for word in piece.words[:count]:
            found = said.find(word.text, at)
            at = at if found < 0 else found + len(word.text)
        return piece.start + at
    if not piece.samples:
        return piece.start
    share = min(1.0, (heard_ms - began_ms) / piece.ms)
    cut = int(len(said) * share)
    if cut < len(said) and cut and not said[cut].isspace():
        space = max(said.rfind(" ", 0, cut), said.rfind("\n", 0, cut))
        cut = max(space, 0)
    return piece.start + cut
