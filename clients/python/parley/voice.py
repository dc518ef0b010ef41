"""Puts the events of one turn's voice in order, drops repeats and leftovers, reports gaps.

Only chunks are numbered. But within an attempt a voice is one thing after the other: it starts, a
piece is announced, its chunks come, it is done; so that it is always known what comes next.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from parley.contract import SAMPLE_WIDTH, AudioFailed, AudioStarted, Piece, PieceDone, Stored
from parley.events import Chunk

if TYPE_CHECKING:
    from parley.events import VoiceEvent

MAX_EARLY: Final = 4_096  # held back at once; what is more is read back


@dataclass(slots=True)
class VoiceTimeline:
    """Fed in any order and any number of times, gives each event once, in the voice's order.

    `kept`: read back from the stream, in the stream's order, and nothing before it was left out.
    Only the stream takes it to a higher attempt, for that begins where the one before it ended.
    """

    attempt: int = 0
    ended: bool = False
    lost: bool = False  # the voice has ended, and the stream keeps not all of it any more
    _started: bool = False
    _next_chunk: int = 0
    _open: int | None = None  # the piece that is being said
    _samples: int = 0  # of it so far
    _said: set[int] = field(default_factory=set[int])  # pieces announced in this attempt
    _done: set[int] = field(default_factory=set[int])
    _pieces: dict[int, Piece] = field(default_factory=dict[int, Piece])  # early ones
    _chunks: dict[int, Chunk] = field(default_factory=dict[int, Chunk])
    _dones: dict[int, PieceDone] = field(default_factory=dict[int, PieceDone])
    _end: Stored | AudioFailed | None = None
    _sure: bool = False  # the stream has it
    _dropped: bool = False

    @property
    def gap(self) -> bool:
        """True while something came that cannot be given out yet."""
        early = self._pieces or self._chunks or self._dones or self._end
        return not self.ended and bool(early or self._dropped)

    def add(self, event: VoiceEvent, *, kept: bool = False) -> list[VoiceEvent]:
        """The events that can be given out now; empty for a repeat, a leftover or a gap."""
        if self.ended or event.attempt < self.attempt:
            return []
        if isinstance(event, Stored | AudioFailed):
            return self._take_end(event, kept=kept)
        if event.attempt > self.attempt:
            if not kept and event.attempt > 1:
                self._dropped = True  # what is done in the attempt before has to be known first
                return []
            self._restart(event.attempt)
        self._dropped &= not kept
        ready: list[VoiceEvent] = []
        if isinstance(event, AudioStarted):
            if not self._started:
                self._started = True
                ready.append(event)
        else:
            self._started |= kept
            self._keep(event)
        ready += self._ready()
        return ready

    def _restart(self, attempt: int) -> None:
        """What was not done is said again."""
        self.attempt, self._started, self._next_chunk = attempt, False, 0
        self._open, self._samples, self._dropped = None, 0, False
        for early in (self._said, self._pieces, self._chunks, self._dones):
            early.clear()

    def _keep(self, event: Piece | Chunk | PieceDone) -> None:
        if len(self._chunks) >= MAX_EARLY:
            self._dropped = True
            return
        match event:
            case Piece(index=index):
                if index not in self._said:
                    self._pieces[index] = event
            case Chunk(seq=seq):
                if seq >= self._next_chunk:
                    self._chunks[seq] = event
            case PieceDone(index=index):
                if index not in self._said or index == self._open:
                    self._dones[index] = event

    def _ready(self) -> list[VoiceEvent]:
        ready: list[VoiceEvent] = []
        while (event := self._next()) is not None:
            ready.append(event)
        return ready

    def _next(self) -> VoiceEvent | None:
        if not self._started:
            return None
        if self._open is None:
            return self._next_piece() or self._next_end()
        chunk = self._chunks.get(self._next_chunk)
        if chunk is not None and chunk.piece == self._open:
            del self._chunks[self._next_chunk]
            self._next_chunk += 1
            self._samples += len(chunk.pcm) // SAMPLE_WIDTH
            return chunk
        done = self._dones.get(self._open)
        if done is not None and done.samples == self._samples:
            del self._dones[self._open]
            self._done.add(self._open)
            self._open = None
            return done
        return self._next_end()

    def _next_piece(self) -> Piece | None:
        index = min(self._pieces, default=None)
        if index is None or any(before not in self._done for before in range(index)):
            return None
        # Announced anew after it was done: the text was answered anew, the rest is said again.
        self._done = {done for done in self._done if done < index}
        self._said.add(index)
        self._open, self._samples = index, 0
        return self._pieces.pop(index)

    def _take_end(self, end: Stored | AudioFailed, *, kept: bool) -> list[VoiceEvent]:
        self._end, self._sure = end, self._sure or kept
        ready = self._ready()
        last = self._next_end()
        if last is not None:
            ready.append(last)
        self.lost = kept and not self.ended
        return ready

    def _next_end(self) -> Stored | AudioFailed | None:
        """A failure does not say how much there was before it, nor may an end that comes live be
        the first that is heard of an attempt: then only the stream tells that it is all."""
        end = self._end
        if end is None or self.ended:
            return None
        began = self._started and end.attempt == self.attempt
        if not self._sure and (isinstance(end, AudioFailed) or not began):
            return None
        if isinstance(end, Stored) and any(index not in self._done for index in range(end.pieces)):
            return None
        self.ended = True
        return end
