"""How far the voice of a turn has come: pieces done, the one that is said, what it has cost."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from services.tts.audio import pcm
from services.tts.resume import DonePiece
from shared.contract import Word

if TYPE_CHECKING:
    from collections.abc import Callable

    from services.tts.ports import SpokenWord
    from services.tts.text.segments import Piece


@dataclass(slots=True)
class SaidPiece:
    """A piece as far as it was said; `before`: samples of the pieces before it."""

    piece: Piece
    before: int
    samples: int = 0
    words: list[Word] = field(default_factory=list)

    def add(self, audio: bytes) -> None:
        self.samples += pcm.samples(len(audio))

    def mark(self, word: SpokenWord) -> None:
        """Its times count from the start of the turn's voice."""
        start = self.before / pcm.SAMPLE_RATE
        self.words.append(
            Word(word.text, round((start + word.start) * 1000), round((start + word.end) * 1000))
        )

    def done(self) -> DonePiece:
        piece = self.piece
        return DonePiece(
            piece.index, piece.text, piece.start, piece.end, self.samples, tuple(self.words)
        )


class Progress:
    """Of one voice; `price` gives the dollars for a model and characters, where it knows them."""

    def __init__(self, price: Callable[[str, int], float | None]) -> None:
        self._price = price
        self.done: list[DonePiece] = []
        # Said, and not yet told that it is done: more may come of it.
        self.held: SaidPiece | None = None
        self.characters = 0
        self.cost: float | None = None

    @property
    def samples(self) -> int:
        """Of the pieces that are done."""
        return sum(piece.samples for piece in self.done)

    def count(self, model: str, characters: int) -> float | None:
        """So many were given to a model; they are paid for, whatever comes of it: so much."""
        self.characters += characters
        cost = self._price(model, characters)
        if cost is not None:
            self.cost = (self.cost or 0.0) + cost
        return cost

    def begin(self, piece: Piece) -> SaidPiece:
        return SaidPiece(piece, self.samples)

    def release(self) -> DonePiece | None:
        """The piece that was said last is done; None where none is held."""
        if self.held is None:
            return None
        done, self.held = self.held.done(), None
        self.done.append(done)
        return done

    def has(self, piece: Piece) -> bool:
        """True when this very piece is done."""
        if not self.reaches(piece.index):
            return False
        known = self.done[piece.index]
        return (known.text, known.start, known.end) == (piece.text, piece.start, piece.end)

    def reaches(self, index: int) -> bool:
        """True when a piece of this index is done, whatever it says."""
        return index < len(self.done)

    def forget_from(self, index: int) -> None:
        del self.done[index:]
