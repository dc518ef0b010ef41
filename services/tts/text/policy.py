"""At which of its boundaries a piece ends: at a sentence, or earlier where that takes too long."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from services.tts.text.boundaries import (
    CLAUSE_ENDS,
    PLACE,
    SENTENCE_ENDS,
    WIDE_CLAUSE_ENDS,
    WORD_ENDS,
    is_between_numbers,
    is_bound,
    is_joined,
    is_phrase_end,
    is_word_end,
    may_begin,
    wide_clause_end,
)
from services.tts.text.characters import SPEAKABLE, WIDE
from services.tts.text.lookahead import Lookahead, More
from services.tts.text.quotes import bracket_around

# A voice speaks about 15 letters a second, and a model that writes 80 (slow: 20 tokens) writes five
# letters while one is heard. So after n letters the next piece may take 5 n without a silence; a
# clause of 2 n is not kept waiting for its sentence. Neither falls below what sounds like a
# sentence begun ("Sure!" is followed by more than three words), nor goes beyond what anybody
# wants to wait for when the full stop never comes: 90 and 180 letters are 6 and 12 seconds.
_CLAUSE_PER_LETTER, _CLAUSE_MIN, _CLAUSE_MAX = 2, 20, 90
_WORD_PER_LETTER, _WORD_MIN, _WORD_MAX = 5, 80, 180
# Chinese and Japanese have no spaces: past the limit we wait so long for a better place to cut.
_PATIENCE = 8


def weight(text: str) -> int:
    """How long it takes to say, in letters: a Chinese or Japanese character counts as two."""
    return len(text) + (0 if text.isascii() else len(WIDE.findall(text)))


class Pace:
    """How long a piece has to be before it is cut elsewhere than at the end of a sentence.

    The first piece is early; the more was said, the longer the next one may take. In letters.
    """

    def __init__(self, *, clause: int, word: int) -> None:
        self.first_clause = clause
        self.clause = clause  # a clause of at least this is said without waiting for its sentence
        self.word = word  # a text of at least this is cut at the end of a word
        self._said = 0

    def said(self, text: str) -> None:
        self._said += weight(text)
        self.clause = min(max(self._said * _CLAUSE_PER_LETTER, _CLAUSE_MIN), _CLAUSE_MAX)
        self.word = min(max(self._said * _WORD_PER_LETTER, _WORD_MIN), _WORD_MAX)


class Policy:
    """Finds the end of the piece that begins at `ahead.at`: each place is judged once, in order."""

    def __init__(self, ahead: Lookahead, pace: Pace, *, max_chars: int) -> None:
        self._ahead = ahead
        self._pace = pace
        self._max = max_chars
        self.begin()

    def begin(self) -> None:
        """Another piece begins at `ahead.at`, or later if something is left out in front of it."""
        self._judged = 0  # characters of the piece
        self._weighed = 0  # of them, and what they weigh:
        self._weight = 0

    def next_end(self) -> int | None:
        """Where the piece ends; None while the text does not tell."""
        ahead = self._ahead
        begin, limit = ahead.at, ahead.at + self._max
        try:
            while place := PLACE.search(ahead.text, begin + self._judged, limit + 1):
                end = self._end_at(place.start())
                if end is not None and end <= limit:
                    return end
                self._judged = place.end() - begin
        except More:
            return None  # this place is judged again with the next text
        length = len(ahead.text)
        if length > limit:
            return self._end_at_limit(limit)
        self._judged = length - begin
        return length if ahead.ended and length > begin else None

    def _end_at(self, place: int) -> int | None:
        """Where the piece ends if it may end at this place, else None."""
        ahead = self._ahead
        char = ahead.text[place]
        if char == "\n":
            return place
        self._weight += weight(ahead.text[ahead.at + self._weighed : place])
        self._weighed = place - ahead.at
        end = self._rules.get(char, Policy._before_ideograph)(self, place)
        if end is None or bracket_around(ahead, end) >= 0:
            return None
        return end if SPEAKABLE.search(ahead.text, ahead.at, end) else None

    def _sentence_end(self, place: int) -> int | None:
        return SENTENCE_ENDS[self._ahead.text[place]](self._ahead, place)

    def _clause_end(self, place: int) -> int | None:
        ahead = self._ahead
        end = CLAUSE_ENDS[ahead.text[place]](ahead, place)
        if end is None or self._weight + end - place < self._pace.clause:
            return None
        return None if is_between_numbers(ahead, place, end) else end

    def _wide_clause_end(self, place: int) -> int | None:
        if self._weight + 2 < self._pace.clause:
            return None
        return wide_clause_end(self._ahead, place)

    def _word_end(self, place: int) -> int | None:
        if self._weight < self._pace.word or not is_word_end(self._ahead, place):
            return None
        bracket = bracket_around(self._ahead, place)
        is_long = bracket - self._ahead.at >= self._pace.first_clause
        return bracket if is_long else place  # not inside the bracket, but before it

    def _before_ideograph(self, place: int) -> int | None:
        """Between two characters of a script without spaces, when it has become long."""
        over = self._weight - self._pace.word
        if over < 0 or not may_begin(self._ahead, place):
            return None
        return place if over >= _PATIENCE or is_phrase_end(self._ahead, place) else None

    _rules: ClassVar[dict[str, Callable[[Policy, int], int | None]]] = {
        **dict.fromkeys(SENTENCE_ENDS, _sentence_end),
        **dict.fromkeys(CLAUSE_ENDS, _clause_end),
        **dict.fromkeys(WIDE_CLAUSE_ENDS, _wide_clause_end),
        **dict.fromkeys(WORD_ENDS, _word_end),
    }

    def _end_at_limit(self, limit: int) -> int:
        ahead = self._ahead
        least = ahead.at + self._max // 4
        space = first = ahead.text.rfind(" ", least, limit + 1)
        while space >= 0 and is_bound(ahead, space):
            space = ahead.text.rfind(" ", least, space)
        if first >= 0:
            return space if space >= 0 else first
        end = limit
        while end > limit - 32 and end > ahead.at + 1 and is_joined(ahead.text[end - 1 : end + 1]):
            end -= 1
        return end
