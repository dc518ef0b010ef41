"""What is heard of one turn: items of audio and words in, samples and placed words out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from services.tts.audio import pcm
from services.tts.ports import SpokenWord

if TYPE_CHECKING:
    from services.tts.together.protocol import ItemId, Words

# The first word of an item begins soon after the item does, so an item that begins this far into
# its context tells what its words' times are relative to; nearer to the beginning the two readings
# are close together, and the other items of the turn may know better.
_TELLING = 1.0  # seconds


@dataclass(slots=True)
class _Item:
    piece: int
    start: int  # bytes of its piece that came before it
    context_start: int  # bytes of its context that came before it
    audio: pcm.ItemAudio = field(default_factory=pcm.ItemAudio)
    from_context: bool | None = None  # its words' times count from the context's beginning
    heard: bool = False
    done: bool = False


@dataclass(slots=True)
class Assembler:
    """Positions are those of the samples as they are heard, piece by piece."""

    piece: int = 0
    heard: int = 0  # bytes of this piece
    _context_heard: int = 0
    _items: dict[ItemId | None, _Item] = field(default_factory=dict)
    _from_context: bool | None = None

    def next_piece(self) -> None:
        self.piece += 1
        self.heard = 0

    def audio(self, item_id: ItemId | None, data: bytes, *, begins: bool) -> bytes:
        """The whole samples among it, without header; `begins` for the first of an item.

        Raises:
            ForeignFormat: a header announces other samples than ours.
        """
        item = self._items.get(item_id)
        if item is None or self._starts_anew(item, data, begins=begins):
            item = self._begin(item_id)
        audio = item.audio.feed(data)
        item.heard = item.heard or bool(audio)
        return self._count(audio)

    def done(self, item_id: ItemId | None) -> bytes:
        """An item has ended: what was still held back of it."""
        item = self._items.get(item_id) or self._items.get(None)
        if item is None or item.done:
            return b""
        item.done = True
        return self._count(item.audio.flush())

    def words(self, event: Words) -> list[SpokenWord] | None:
        """Words with their times in this piece; None when they belong to an earlier one."""
        item = self._items.get(event.item_id) or self._items.get(None) or self._begin(event.item_id)
        if item.piece != self.piece:
            return None
        timed = event.timed
        if item.from_context is None and timed:
            item.from_context = self._counts_from_context(item, timed[0][1])
        start = pcm.seconds(item.start)
        if item.from_context:
            start -= pcm.seconds(item.context_start)
        return [
            SpokenWord(text, max(0.0, start + begin), max(0.0, start + end))
            for text, begin, end in timed
        ]

    def _begin(self, item_id: ItemId | None) -> _Item:
        item = self._items[item_id] = _Item(self.piece, self.heard, self._context_heard)
        return item

    def _starts_anew(self, item: _Item, data: bytes, *, begins: bool) -> bool:
        """A name comes again with every piece where a context is one item; so may a header."""
        if not item.heard and item.piece == self.piece:
            return False  # its header came alone
        return begins or (data[:4] == b"RIFF" and data[8:12] == b"WAVE")

    def _count(self, audio: bytes) -> bytes:
        self.heard += len(audio)
        self._context_heard += len(audio)
        return audio

    def _counts_from_context(self, item: _Item, first: float) -> bool:
        start = pcm.seconds(item.context_start)
        if start < _TELLING and self._from_context is not None:
            return self._from_context
        from_context = first > start / 2
        if start >= _TELLING:
            self._from_context = from_context
        return from_context and start > 0.0
