"""The sound of a turn: its pieces joined, as samples or as a WAV file."""

from __future__ import annotations

import io
import wave
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from parley.contract import SAMPLE_RATE, SAMPLE_WIDTH, AudioStarted, Piece, PieceDone
from parley.events import Chunk

if TYPE_CHECKING:
    from collections.abc import Callable

    from parley.events import Event


def wav(pcm: bytes) -> bytes:
    """Samples (16 bit little-endian, mono, 24,000 a second) as a WAV file.

    >>> wav(b"")[:4]
    b'RIFF'
    """
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(SAMPLE_WIDTH)
        out.setframerate(SAMPLE_RATE)
        out.writeframes(pcm)
    return file.getvalue()


@dataclass(slots=True)
class Sound:
    """Fed the events of one turn in order, holds the samples of its pieces."""

    _attempt: int = 0
    _pieces: dict[int, bytearray] = field(default_factory=dict[int, bytearray])
    _done: set[int] = field(default_factory=set[int])

    @property
    def pcm(self) -> bytes:
        """Of the pieces that are done, in order: those of the stored object."""
        return b"".join(bytes(self._pieces[index]) for index in sorted(self._done))

    @property
    def seconds(self) -> float:
        return sum(len(self._pieces[i]) for i in self._done) / (SAMPLE_RATE * SAMPLE_WIDTH)

    def add(self, event: Event) -> None:
        match event:
            case AudioStarted(attempt=attempt) if attempt > self._attempt:
                self._attempt = attempt
                self._forget(lambda index: index not in self._done)
            case Piece(index=index):
                self._forget(lambda known: known >= index)
                self._pieces[index] = bytearray()
            case Chunk(piece=index, pcm=pcm):
                self._pieces.setdefault(index, bytearray()).extend(pcm)
            case PieceDone(index=index):
                self._pieces.setdefault(index, bytearray())
                self._done.add(index)
            case _:
                return

    def _forget(self, wanted: Callable[[int], bool]) -> None:
        for index in [index for index in self._pieces if wanted(index)]:
            del self._pieces[index]
            self._done.discard(index)


@dataclass(slots=True)
class Heard:
    """Fed the events of one turn in order, tells what is to be played, and nothing twice.

    A piece that is said again goes on where the listener is: what was played of it is left out.
    """

    _played: dict[int, int] = field(default_factory=dict[int, int])  # bytes, by piece
    _said: int = 0  # of the piece that is being said

    def add(self, event: Event) -> bytes:
        """Samples; empty where nothing is to be played."""
        if isinstance(event, Piece):
            self._said = 0
        if not isinstance(event, Chunk):
            return b""
        played = self._played.get(event.piece, 0)
        new = event.pcm[max(0, played - self._said) :]
        self._said += len(event.pcm)
        self._played[event.piece] = played + len(new)
        return new
