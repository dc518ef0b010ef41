"""What is to be said, drawn from the events of a text: pieces, in order, as early as possible.

The pieces of a text are a function of the text alone, so that another worker cuts it identically.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Literal

from services.tts.text.markdown import MarkdownReader
from services.tts.text.segments import Segmenter
from shared.contract import Done, Failed, FinishReason, Started, Text

if TYPE_CHECKING:
    from services.tts.text.segments import Piece
    from shared.contract import Delta, Error


class Ending(enum.Enum):
    """How the text ended."""

    OPEN = "open"
    DONE = "done"
    CANCELLED = "cancelled"
    FAILED = "failed"


class Script:
    """Fed the turn's events; gives the pieces that can be said now."""

    def __init__(
        self, *, max_chars: int, code_blocks: Literal["skip", "announce"], max_characters: int
    ) -> None:
        self._max_chars, self._code_blocks = max_chars, code_blocks
        self._max = max_characters
        self.ending = Ending.OPEN
        self.error: Error | None = None
        self._begin()

    def _begin(self) -> None:
        self._markdown = MarkdownReader(code_blocks=self._code_blocks)
        self._segmenter = Segmenter(max_chars=self._max_chars)
        self._text: list[str] = []
        self._length = 0
        self.truncated = False  # there is more of it than is spoken

    @property
    def text(self) -> str:
        """The text so far, as it is shown, as far as it is spoken."""
        return "".join(self._text)

    def add(self, event: Delta) -> list[Piece]:
        """A `started` of a later attempt starts over: its pieces count from 0 again."""
        if isinstance(event, Text):
            return self.say(event.text)
        if isinstance(event, Started):
            self._begin()
        elif isinstance(event, Done):
            if event.finish_reason is FinishReason.CANCELLED:
                self.ending = Ending.CANCELLED
                return []
            return self.finish()
        elif isinstance(event, Failed):
            self.ending, self.error = Ending.FAILED, event.error
        return []

    def say(self, text: str) -> list[Piece]:
        room = max(0, self._max - self._length)
        self.truncated = self.truncated or len(text) > room
        text = text[:room]
        self._length += len(text)
        self._text.append(text)
        return self._segmenter.feed(self._markdown.feed(text))

    def finish(self) -> list[Piece]:
        self.ending = Ending.DONE
        return [*self._segmenter.feed(self._markdown.finish()), *self._segmenter.finish()]
