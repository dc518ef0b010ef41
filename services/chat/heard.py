"""Noun: how much of a text was heard, from the pieces of its voice."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from shared.contract import SAMPLE_RATE, Piece, PieceDone

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shared.contract import Word


MS_PER_CHAR: Final = 65.0  # about how fast people speak, while no piece tells


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


@dataclass(frozen=True, slots=True)
class Sound:
    """A chunk: so many samples of that piece."""

    index: int
    samples: int


class Mark(enum.Enum):
    """What an event says of a voice that tells nothing of a piece."""

    STARTED = "started"
    ENDED = "ended"


class SpokenVoice:
    """The voice of a turn, from its events in their order."""

    def __init__(self) -> None:
        self._pieces: dict[int, SpokenPiece] = {}
        self._attempts: dict[int, int] = {}  # in which each piece was announced last
        self._highest = 0
        self._under_way = False

    @property
    def pieces(self) -> list[SpokenPiece] | None:
        """In the order of the text; None where there is no voice, or its beginning is gone."""
        if not self._pieces:
            return [] if self._under_way else None
        if 0 not in self._pieces:
            return None
        return [self._pieces[index] for index in sorted(self._pieces)]

    def add(self, attempt: int, event: Piece | Sound | PieceDone | Mark | None) -> None:
        """`event` is None for what tells nothing of the voice; its attempt counts all the same."""
        if attempt < self._highest:
            return  # a leftover of a worker that was superseded
        self._highest = attempt
        match event:
            case Mark():
                self._under_way = event is Mark.STARTED
            case Piece():
                self._pieces[event.index] = SpokenPiece(*event.chars)
                self._attempts[event.index] = attempt
            case Sound() if self._attempts.get(event.index) == attempt:
                self._pieces[event.index].samples += event.samples
            case PieceDone() if event.index in self._pieces:
                piece = self._pieces[event.index]
                piece.samples, piece.whole, piece.words = event.samples, True, event.words


def heard_text(pieces: Sequence[SpokenPiece], heard_ms: int, text: str) -> str:
    """The beginning of `text` that was heard within `heard_ms` of its voice.

    Whole pieces by their length; inside one by its words' times, or in proportion to time, cut at
    a word's end.
    """
    if heard_ms <= 0:
        return ""
    whole = [p for p in pieces if p.whole]
    pace = MS_PER_CHAR
    if spoken := sum(p.end - p.start for p in whole):
        pace = sum(p.ms for p in whole) / spoken
    at = 0.0
    end = 0
    for piece in pieces:
        if heard_ms >= at + piece.ms and piece.whole:
            at += piece.ms
            end = piece.end
            continue
        return text[: max(end, _inside(piece, at, heard_ms, text, pace))].rstrip()
    return text[:end].rstrip()


def _inside(piece: SpokenPiece, began_ms: float, heard_ms: int, text: str, pace: float) -> int:
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
    # What came so far may be a part of the piece only.
    length = piece.ms if piece.whole else max(piece.ms, len(said) * pace)
    share = min(1.0, (heard_ms - began_ms) / length)
    cut = int(len(said) * share)
    if cut < len(said) and cut and not said[cut].isspace():
        space = max(said.rfind(" ", 0, cut), said.rfind("\n", 0, cut))
        cut = max(space, 0)
    return piece.start + cut
