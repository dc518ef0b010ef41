"""What a turn's voice has said already, from its events: pieces that are done stay done."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

import msgspec

from services.tts.audio import pcm
from shared.contract import (
    H_ATTEMPT,
    H_PIECE,
    H_SEQ,
    H_TYPE,
    UNREADABLE,
    AudioFailed,
    AudioStarted,
    Kind,
    Piece,
    PieceDone,
    Stored,
    Word,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_GARBLED: Final = (*UNREADABLE, ValueError)


class ReplaySpool(Protocol):
    """Where audio waits until it is known whether its piece is whole: an hour of it, perhaps."""

    def put(self, audio: bytes) -> int:
        """Returns the part's number."""
        ...

    def get(self, number: int) -> bytes: ...


class MemorySpool(list[bytes]):
    """A spool for little."""

    def put(self, audio: bytes) -> int:
        self.append(audio)
        return len(self) - 1

    def get(self, number: int) -> bytes:
        return self[number]


class NoSpool:
    """For who wants to know only what was said, and in which order."""

    def put(self, _audio: bytes) -> int:
        return 0

    def get(self, _number: int) -> bytes:
        return b""


@dataclass(slots=True)
class DonePiece:
    """A piece whose audio is whole."""

    index: int
    text: str
    start: int
    end: int
    samples: int
    words: Sequence[Word] = ()


@dataclass(slots=True)
class _Heard:
    """What came of one piece in one attempt, in whatever order."""

    announced: Piece | None = None
    chunks: dict[int, tuple[int, int]] = field(default_factory=dict)  # seq -> part, bytes
    done: PieceDone | None = None
    torn: bool = False  # not in the order in which it was said

    def whole(self) -> _Whole | None:
        """None while something of it is missing."""
        if self.announced is None or self.done is None:
            return None
        if sum(size for _, size in self.chunks.values()) != self.done.samples * pcm.SAMPLE_WIDTH:
            return None
        said, (start, end) = self.announced, self.announced.chars
        done = DonePiece(said.index, said.text, start, end, self.done.samples, self.done.words)
        return _Whole(done, [part for _, (part, _) in sorted(self.chunks.items())], torn=self.torn)


@dataclass(frozen=True, slots=True)
class _Whole:
    piece: DonePiece
    parts: list[int]  # of its audio, in order
    torn: bool


@dataclass(slots=True)
class Replay:
    """Fed the events of one turn, in the order of the stream.

    Events of one attempt may be repeated and may have changed places: a publish that was not acked
    in time is sent again. What carries a lower attempt than one before it is a leftover of a
    replaced worker; a listener ignores it, and so do we. What cannot be read counts as lost.
    """

    spool: ReplaySpool = field(default_factory=MemorySpool)
    attempt: int = 0
    submitted: dict[str, int] = field(default_factory=dict)  # model -> characters
    end: Stored | AudioFailed | None = None
    _model: str = ""
    _highest: int = -1  # seq of this attempt
    _heard: dict[int, _Heard] = field(default_factory=dict)  # of this attempt
    _done: list[_Whole] = field(default_factory=list)  # in earlier ones

    @property
    def characters(self) -> int:
        """Given to speech models so far."""
        return sum(self.submitted.values())

    def add(self, headers: Mapping[str, str], data: bytes) -> None:
        try:
            kind = Kind(headers.get(H_TYPE, ""))
            if kind is Kind.STORED:
                self.end = msgspec.json.decode(data, type=Stored)
            elif kind is Kind.FAILED:
                self.end = msgspec.json.decode(data, type=AudioFailed)
            else:
                self._take(kind, headers, data)
        except _GARBLED:
            return

    def _take(self, kind: Kind, headers: Mapping[str, str], data: bytes) -> None:
        """Everything is read before anything is changed."""
        attempt = _number(headers, H_ATTEMPT)
        if attempt < self.attempt:
            return
        match kind:
            case Kind.STARTED:
                started = msgspec.json.decode(data, type=AudioStarted)
                self._reach(attempt)
                self._model = started.model
            case Kind.PIECE:
                announced = _announcement(data)
                self._reach(attempt)
                self._announced(announced)
            case Kind.CHUNK:
                index, seq = _number(headers, H_PIECE), _number(headers, H_SEQ)
                self._reach(attempt)
                chunks = self._piece(index).chunks
                if seq not in chunks:  # else a repeat
                    self._piece(index).torn |= self._comes_late(index, seq)
                    chunks[seq] = (self.spool.put(data), len(data))
            case Kind.PIECE_DONE:
                done = msgspec.json.decode(data, type=PieceDone)
                self._reach(attempt)
                self._piece(done.index).done = done

    def _reach(self, attempt: int) -> None:
        """A higher attempt begins: what is not whole by now will be announced again."""
        if attempt > self.attempt:
            self._done = self._in_order()
            self._heard = {}
            self._highest = -1
            self.attempt = attempt

    def _piece(self, index: int) -> _Heard:
        return self._heard.setdefault(index, _Heard())

    def _announced(self, event: Piece) -> None:
        heard = self._piece(event.index)
        if heard.announced is None:  # else a repeat
            self.submitted[self._model] = self.submitted.get(self._model, 0) + len(event.text)
            heard.announced = event
            late = heard.chunks or heard.done or any(n > event.index for n in self._heard)
            heard.torn |= bool(late)

    def _comes_late(self, index: int, seq: int) -> bool:
        """A chunk that one behind it overtook in the stream, or the end of its piece did."""
        overtaken = seq < self._highest
        self._highest = max(seq, self._highest)
        return overtaken or self._piece(index).done is not None

    @property
    def intact(self) -> int:
        """So many pieces, from the first, stand in the stream in the order in which they came.

        Of such a piece all chunks come behind its announcement and, by `seq`, in their order among
        those of the attempt. Its end may come late: who heard the piece has heard it rightly.
        """
        done = self._in_order()
        return next((n for n, whole in enumerate(done) if whole.torn), len(done))

    def in_order(self) -> Iterator[tuple[DonePiece, bytes]]:
        """The pieces that are done without one missing before them, with their audio."""
        for whole in self._in_order():
            yield whole.piece, b"".join(self.spool.get(part) for part in whole.parts)

    def _in_order(self) -> list[_Whole]:
        # Announced again: what was said before under this index and after it does not count.
        again = [index for index, heard in self._heard.items() if heard.announced is not None]
        done = self._done[: min(again)] if again else list(self._done)
        while (heard := self._heard.get(len(done))) is not None:
            whole = heard.whole()
            if whole is None:
                break
            done.append(whole)
        return done


def _number(headers: Mapping[str, str], name: str) -> int:
    """Raises ValueError."""
    text = headers.get(name, "")
    if not text.isdecimal():
        raise ValueError(name)
    return int(text)


def _announcement(data: bytes) -> Piece:
    event = msgspec.json.decode(data, type=Piece)
    if event.index < 0:
        raise ValueError("index")
    return event
