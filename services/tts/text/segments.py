"""Cuts a stream of speakable text into pieces, each of them said in one breath.

The pieces are a function of the text alone, not of how it came: a worker that takes a turn over
cuts where the first one cut. So every place is judged once, in order, by what stands before it and
a bounded look ahead: `boundaries.py` knows where a sentence, a clause, a word may end, `policy.py`
how long a piece may become before it is cut there.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from services.tts.text.characters import SPEAKABLE
from services.tts.text.lookahead import Lookahead
from services.tts.text.policy import Pace, Policy
from services.tts.text.runs import Ranges, Run

# What may be left over when a full stop was proof enough ("？！"); it belongs to no other piece.
_LEFTOVER = re.compile(r"[\s!?…。！？，、；：।؟،؛,;:)\]}”’」』】）》]*")
_STRAY = re.compile(r"^[-–—] | (?=[,.](?: |$))")


@dataclass(frozen=True, slots=True)
class Piece:
    """What is said in one breath, and the range [start, end) of the shown text it stands for."""

    index: int  # 0, 1, 2 … within the turn
    text: str
    start: int
    end: int


class Segmenter:
    """Cuts runs into pieces: the first one early, then sentences, none over `max_chars`.

    A piece is given out with the character that proves its end: the space after a full stop, the
    full stop itself where no space follows in the script, and the first letter of the next word
    only after a word whose full stop may mean something else, a quotation, an ellipsis.
    `first_chars` is the length from which the first piece is cut at the end of a word, about 24 in
    the mean; `min_chars` the length of the shortest clause that is said alone.
    """

    def __init__(self, *, max_chars: int = 250, first_chars: int = 22, min_chars: int = 8) -> None:
        if min(max_chars, first_chars, min_chars) < 1:
            raise ValueError("lengths of pieces are at least 1")
        self._ahead = Lookahead()  # `at` is where the piece under way begins
        self._ranges = Ranges()  # of each character of the lookahead
        self._pace = Pace(clause=min_chars, word=first_chars)
        self._policy = Policy(self._ahead, self._pace, max_chars=max_chars)
        self._index = 0
        self._end = 0  # of the last piece
        self._fresh = True  # nothing of the piece under way has come
        self._left_out: int | None = None  # where what was left out in front of it begins

    def feed(self, runs: Sequence[Run]) -> list[Piece]:
        self._ranges.forget(self._ahead.at - 1)
        self._ranges.add(runs)
        self._ahead.add("".join([run.text for run in runs]))
        return self._cut()

    def finish(self) -> list[Piece]:
        """What is left is said; nothing may be fed afterwards."""
        self._ahead.ended = True
        return self._cut()

    def _cut(self) -> list[Piece]:
        pieces: list[Piece] = []
        while True:
            if self._fresh:
                self._skip_leftovers()
            end = self._policy.next_end()
            if end is None:
                return pieces
            piece = self._take(end)
            if piece is not None:
                pieces.append(piece)

    def _skip_leftovers(self) -> None:
        ahead = self._ahead
        leftover = _LEFTOVER.match(ahead.text, ahead.at)
        assert leftover is not None  # it matches nothing, too
        marks = leftover.group().lstrip()
        if self._left_out is None and marks:
            self._left_out = self._ranges.start(leftover.end() - len(marks))
        ahead.at = leftover.end()
        self._fresh = ahead.empty

    def _take(self, end: int) -> Piece | None:
        """The piece up to `end`; None if nothing of it can be said: the next one has its range."""
        ahead = self._ahead
        begin = ahead.at
        text = ahead.text[begin:end].rstrip()
        start = self._ranges.start(begin) if self._left_out is None else self._left_out
        ahead.at = end
        self._policy.begin()
        self._fresh = True
        if not SPEAKABLE.search(text):
            self._left_out = start
            return None
        self._left_out = None
        start = max(start, self._end)  # a run of several pieces stands for one range
        self._end = max(start, self._ranges.end(begin + len(text) - 1))
        piece = Piece(self._index, _tidied(text), start, self._end)
        self._index += 1
        self._pace.said(text)
        return piece


def _tidied(text: str) -> str:
    """Without a dash in front, nor spaces left behind: "Hi , Bob ." was "Hi 👋, Bob 🙂."."""
    return _STRAY.sub("", " ".join(text.split()))
