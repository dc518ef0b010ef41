"""Cuts a stream of speakable text into what is said in one breath.

The pieces are a function of the text alone, not of how it came: a worker that takes a turn over
cuts where the first one cut. So every place is judged once, in order, by what stands before it and
a bounded look ahead (`Tape` raises `More` when that has not arrived). To add a rule, see `_judge`.

Why no library: those for sentence segmentation (pysbd and the like) want the whole text, change
their minds about its end when more arrives, and know sentences only: neither early first pieces,
nor clauses, nor a limit.
"""

from __future__ import annotations

import enum
import re
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from services.tts.text.abbreviations import (
    DEPENDS,
    JOINS,
    LETTERS,
    MONTHS,
    NAMES,
    ORDINAL_LEADS,
    SENTENCE_STARTERS,
    UNITS,
    beginnings,
)
from services.tts.text.lookahead import More, Tape

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from services.tts.text.markdown import Run


@dataclass(frozen=True, slots=True)
class Piece:
    """What is said in one breath, and the range [start, end) of the shown text it stands for."""

    index: int  # 0, 1, 2 … within the turn
    text: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class _Pace:
    """Lengths, in letters (a Chinese or Japanese character takes as long to say as two)."""

    clause: int  # a clause of at least this is said without waiting for its sentence
    word: int  # a text of at least this is cut at the end of a word


# A voice speaks about 15 letters a second, and a model that writes 80 (slow: 20 tokens) writes five
# letters while one is heard. So after n letters the next piece may take 5 n without a silence; a
# clause of 2 n is not kept waiting for its sentence. Neither falls below what sounds like a
# sentence begun ("Sure!" is followed by more than three words), nor goes beyond what anybody
# wants to wait for when the full stop never comes: 90 and 180 letters are 6 and 12 seconds.
_PER_LETTER = _Pace(clause=2, word=5)
_LEAST = _Pace(clause=20, word=80)
_MAX = _Pace(clause=90, word=180)
# Chinese and Japanese have no spaces: past the limit we wait so long for a better place to cut.
_PATIENCE = 8
# A bracket that was opened so many characters ago does not keep its text together any longer.
_BRACKET = 60
_MONTH_BEGINNINGS = beginnings(MONTHS)
_STARTER_BEGINNINGS = beginnings(SENTENCE_STARTERS)
_CLOSING = 4  # quotes and brackets behind a full stop, at most

_UNSPACED = (
    "\u3041-\u30fa\u30fc-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\u3005\U00020000-\U0003ffff"
)
_WIDE = re.compile(f"[{_UNSPACED}\uac00-\ud7a3\u3001-\u303f\uff01-\uff60]")
_PLACE = re.compile(rf"[\s.!?…,;:—–\-。｡．！？।॥۔؟։።၊။،؛，、；：､{_UNSPACED}]")
_SPEAKABLE = re.compile(r"[^\W_]|[%&@+=°©®™§€$£¥₹₽₩¢]")
# What may be left over when a full stop was proof enough ("？！"); it belongs to no other piece.
_LEFTOVER = re.compile(r"[\s!?…。！？，、；：।؟،؛,;:)\]}”’」』】）》]*")

_WIDE_PAIRS = (("「", "」"), ("『", "』"), ("“", "”"), ("（", "）"), ("《", "》"))
_STRAY = re.compile(r"^[-–—] | (?=[,.](?: |$))")
_SPACE = re.compile(r" *")
_STOPS = re.compile(r"[.!?…]*")
_CLOSERS = re.compile(r"[\"'”’“»«›‹)\]」』】）》〉]*")
_OPENERS = re.compile(r"[\"'“„‚«»‹›(\[¿¡「『（*]*")
_OPENING = "\"'“„‚«»‹›([¿¡「『（《"
_ROMAN = re.compile(r"[IVX]{1,5}")
_DAY_AND_MONTH = re.compile(r"\d{1,2}\.\d{1,2}")
_INITIALS = re.compile(r"(?:[^\W\d_]\.)+[^\W\d_]")
_LAST_PART = re.compile(r"[^-/'’]*$")  # of Dr.-Ing., a.m./p.m., l'art.

# Not at the start of a line in Japanese, and not at the start of a piece.
_CLINGING = frozenset("ぁぃぅぇぉっゃゅょゎァィゥェォッャュョヮヵヶーゝゞヽヾ々")
# Words that end a phrase in Chinese; after one of them a breath sounds natural.
_PHRASE_ENDS = frozenset("的了着过吗呢吧们是在和与就也都很把被让给对从到")
# After a closing quote these go on with the sentence: 「…」と言った.
_QUOTED_ON = frozenset("とってなのはがをにで、，")
_NEVER_BEFORE = frozenset("!?:;,.…»›)]}%—–-！？：；，。、")


class _Dot(enum.Enum):
    """What a full stop after this word means."""

    ENDS = "ends the sentence"
    JOINS = "never ends it"
    DEPENDS = "goes on before a small letter or a digit"
    NUMBER = "goes on before these and before a month: 3. Mai"
    NAME = "goes on unless a word follows that sentences begin with"
    PAUSE = "goes on before a small letter: an ellipsis, a quotation, a bracket"


class Pieces:
    """Cuts runs into pieces: the first one early, then sentences, none over `max_chars`.

    A piece is given out with the character that proves its end: the space after a full stop, the
    full stop itself where no space follows in the script, and the first letter of the next word
    only after a word whose full stop may mean something else, a quotation, an ellipsis.
    `first_chars` is the length at which the first piece is cut at the end of a word, `min_chars`
    the length of the shortest clause that is said alone.
    """

    def __init__(self, *, max_chars: int = 250, first_chars: int = 24, min_chars: int = 8) -> None:
        if min(max_chars, first_chars, min_chars) < 1:
            raise ValueError("lengths of pieces are at least 1")
        self._max = max_chars
        self._first = self._pace = _Pace(min_chars, first_chars)
        self._said = 0  # letters in all pieces so far
        self._tape = Tape()  # `at` is where the piece under way begins
        self._starts = [0]  # of each character of the tape, in the shown text
        self._ends = [0]
        self._index = 0
        self._end = 0  # of the last piece
        self._begin()

    def feed(self, runs: Iterable[Run]) -> list[Piece]:
        tape = self._tape
        gone = tape.at - 1
        if gone:
            del self._starts[:gone]
            del self._ends[:gone]
            self._seen -= gone
            self._weighed -= gone
        texts = []
        for run in runs:
            texts.append(run.text)
            self._map(run)
        tape.add("".join(texts))
        return self._cut()

    def finish(self) -> list[Piece]:
        """What is left is said; nothing may be fed afterwards."""
        self._tape.ended = True
        return self._cut()

    def _map(self, run: Run) -> None:
        length = len(run.text)
        if length == run.end - run.start:
            self._starts.extend(range(run.start, run.end))
            self._ends.extend(range(run.start + 1, run.end + 1))
        else:
            self._starts.extend([run.start] * length)
            self._ends.extend([run.end] * length)

    def _begin(self) -> None:
        """A piece begins here, or a little later."""
        self._seen = self._weighed = self._tape.at  # judged and counted up to here
        self._weight = 0
        self._fresh = True
        self._from: int | None = None  # where what was left out in front of it stood

    # Cutting

    def _cut(self) -> list[Piece]:
        pieces = []
        while (end := self._next_end()) is not None:
            piece = self._take(end)
            if piece is not None:
                pieces.append(piece)
        return pieces

    def _take(self, end: int) -> Piece | None:
        tape = self._tape
        begin = tape.at
        text = tape.text[begin:end].rstrip()
        start = self._starts[begin] if self._from is None else self._from
        tape.at = end
        self._begin()
        if not _SPEAKABLE.search(text):
            self._from = start
            return None
        start = max(start, self._end)  # a run of several pieces stands for one range
        self._end = max(start, self._ends[begin + len(text) - 1])
        piece = Piece(self._index, _tidied(text), start, self._end)
        self._index += 1
        self._said += _weight(text)
        self._pace = _pace_after(self._said)
        return piece

    def _skip_leftovers(self) -> None:
        tape = self._tape
        leftover = _LEFTOVER.match(tape.text, tape.at)
        if leftover and leftover.end() > tape.at:
            marks = leftover.group().lstrip()
            if self._from is None and marks:
                self._from = self._starts[leftover.end() - len(marks)]
            tape.at = leftover.end()
            self._seen = self._weighed = tape.at
        self._fresh = tape.empty

    def _next_end(self) -> int | None:
        """Where the piece under way ends; None while the text does not tell."""
        tape = self._tape
        if self._fresh:
            self._skip_leftovers()
        limit = tape.at + self._max
        try:
            while place := _PLACE.search(tape.text, self._seen, limit + 1):
                end = self._judge(place.start())
                if end is not None and end <= limit:
                    return end
                self._seen = place.end()
        except More:
            return None  # this place is judged again with the next text
        if len(tape.text) > limit:
            return self._at_limit(limit)
        self._seen = len(tape.text)
        return self._seen if tape.ended and not tape.empty else None

    def _judge(self, place: int) -> int | None:
        """Where the piece ends if it may end at this place, else None."""
        tape = self._tape
        char = tape.text[place]
        if char == "\n":
            return place
        self._weigh(place)
        end = self._rules.get(char, Pieces._before_ideograph)(self, place)
        if end is None or self._in_bracket(end) or not _SPEAKABLE.search(tape.text, tape.at, end):
            return None
        return end

    def _weigh(self, place: int) -> None:
        self._weight += _weight(self._tape.text[self._weighed : place])
        self._weighed = place

    # Places

    def _word_end(self, place: int) -> int | None:
        if self._weight < self._pace.word:
            return None
        tape = self._tape
        following = tape.char(tape.span(_SPACE, place, 2))
        if following.isdecimal() or following in _NEVER_BEFORE or self._is_bound(place):
            return None
        opened = self._opened(place)
        if opened >= 0 and opened - tape.at >= self._first.clause:
            return opened  # not inside the bracket, but before it
        return place

    def _is_bound(self, place: int) -> bool:
        """Whether the word that ends here belongs to the next: Dr. Who, 5 km, 1 000."""
        word = self._word_before(place)
        if not word:
            return True
        if word.endswith("."):
            return self._dot(place - 1) is not _Dot.ENDS
        is_year = len(word) >= 4 and word.isdecimal()
        return word[-1].isdecimal() and not is_year

    def _clause_end(self, place: int) -> int | None:
        """`, ; :`"""
        tape = self._tape
        end = self._closed(place + 1)
        following = tape.char(end)
        if following and not following.isspace():
            return None  # 1,000 and 10:30
        return self._long_clause(place, end)

    def _long_clause(self, place: int, end: int) -> int | None:
        tape = self._tape
        if self._weight + end - place < self._pace.clause:
            return None
        if tape.text[place - 1].isdecimal() and tape.char(tape.span(_SPACE, end, 2)).isdecimal():
            return None  # May 5, 2026
        return end

    def _dash(self, place: int) -> int | None:
        tape = self._tape
        apart = tape.text[place - 1].isspace() and tape.char(place + 1).isspace()
        if tape.text[place] == "—" or apart:
            return self._long_clause(place, place + 1)
        return None

    def _wide_clause_end(self, place: int) -> int | None:
        """`，、；：` need no space, and only inside quotes a look ahead."""
        if self._weight + 2 < self._pace.clause:
            return None
        return self._closed_wide(place + 1)

    def _full_stop(self, place: int) -> int | None:
        """`。！？।؟` prove the end themselves."""
        end = self._closed_wide(place + 1)
        if end > place + 1 and self._tape.char(end) in _QUOTED_ON:
            return None
        return end

    def _stop(self, place: int) -> int | None:
        """`. ! ? …`"""
        tape = self._tape
        if tape.text[place - 1] in ".!?…" and place > tape.at:
            return None  # judged with the first of them
        marks_end = tape.span(_STOPS, place, 8)
        end = self._closed(marks_end)
        following = tape.char(end)
        if following and not following.isspace():
            return end if self._runs_on(place, following) else None
        dot = self._dot(place) if marks_end == place + 1 else _Dot.PAUSE
        marks = tape.text[place:marks_end]
        if "!" in marks or "?" in marks:
            dot = _Dot.ENDS
        if dot is _Dot.ENDS and end > marks_end:
            dot = _Dot.PAUSE
        return None if self._goes_on(dot, end) else end

    def _runs_on(self, place: int, following: str) -> bool:
        """Whether the next sentence follows without a space."""
        tape = self._tape
        if tape.text[place] in "!?":
            return following.isupper() or bool(_WIDE.match(following))
        before = tape.text[place - 1]
        return tape.text[place] == "." and bool(_WIDE.match(following)) and not before.isdecimal()

    def _goes_on(self, dot: _Dot, end: int) -> bool:
        """Whether the sentence goes on after `end`."""
        if dot is _Dot.ENDS or dot is _Dot.JOINS:
            return dot is _Dot.JOINS
        tape = self._tape
        begins = tape.span(_SPACE, end, 4)
        begins = tape.span(_OPENERS, begins, 3)
        first = tape.char(begins)
        if first.islower() or (first and first in "—–-,;:"):
            return True
        if dot is _Dot.PAUSE or not first.strip():
            return False
        if first.isdecimal() or dot is _Dot.DEPENDS:
            return first.isdecimal()
        if dot is _Dot.NUMBER:
            return self._is_word(begins, MONTHS, _MONTH_BEGINNINGS)
        return not self._is_word(begins, SENTENCE_STARTERS, _STARTER_BEGINNINGS)

    def _is_word(self, begins: int, words: frozenset[str], beginnings: frozenset[str]) -> bool:
        """Whether one of these words stands there; looks no further than it may be one."""
        tape = self._tape
        end = begins
        while tape.char(end).isalpha():
            end += 1
            if tape.text[begins:end] not in beginnings:
                return False
        return tape.text[begins:end] in words

    def _before_ideograph(self, place: int) -> int | None:
        """Between two characters of a script without spaces, when it has become long."""
        over = self._weight - self._pace.word
        if over < 0:
            return None
        char, before = self._tape.text[place], self._tape.text[place - 1]
        if char in _CLINGING or before in _OPENING or before.isdecimal():
            return None
        is_good = before in _PHRASE_ENDS or (_is_hiragana(before) and not _is_hiragana(char))
        return place if is_good or over >= _PATIENCE else None

    def _at_limit(self, limit: int) -> int:
        tape = self._tape
        least = tape.at + self._max // 4
        space = first = tape.text.rfind(" ", least, limit + 1)
        while space >= 0 and self._is_bound(space):
            space = tape.text.rfind(" ", least, space)
        if max(space, first) >= 0:
            return space if space >= 0 else first
        end = limit
        while end > limit - 32 and end > tape.at + 1 and _is_joined(tape.text[end - 1 : end + 1]):
            end -= 1
        return end

    # Words and brackets

    def _word_before(self, place: int) -> str:
        tape = self._tape
        start = max(tape.text.rfind(" ", tape.at, place) + 1, tape.at)
        return tape.text[start:place].lstrip(_OPENING)

    def _dot(self, place: int) -> _Dot:
        """What the full stop at this place means, by the word before it."""
        tape = self._tape
        if tape.text[place] != ".":
            return _Dot.PAUSE
        whole = self._word_before(place)
        part = _LAST_PART.search(whole)
        word = part.group() if part else whole
        begins_line = place - len(whole) == tape.at and tape.before == "\n"
        if word.isdecimal():
            return self._dot_after_number(word, place - len(whole), begins_line=begins_line)
        if len(word) == 1:
            return self._dot_after_letter(word, place - len(whole), begins_line=begins_line)
        if _ROMAN.fullmatch(word):
            return _Dot.JOINS if begins_line else _Dot.DEPENDS
        return _meaning(word)

    def _dot_after_number(self, number: str, start: int, *, begins_line: bool) -> _Dot:
        if len(number) > (3 if begins_line else 2):
            return _Dot.ENDS
        lead = self._word_before(start - 1)
        english = lead == "am" and self._tape.text[start - 5 : start - 3].strip() == "I"
        if begins_line or (lead.lower() in ORDINAL_LEADS and not english):
            return _Dot.JOINS
        return _Dot.NUMBER

    def _dot_after_letter(self, letter: str, start: int, *, begins_line: bool) -> _Dot:
        lead = self._word_before(start - 1)
        after_letter = len(lead) == 2 and lead[1] == "." and lead[0].isalpha()
        if begins_line or after_letter:
            return _Dot.JOINS
        if letter == "I" or not letter.isalpha():
            return _Dot.ENDS
        if letter.isupper():
            return _Dot.NAME
        if not letter.islower():
            return _Dot.JOINS  # an initial in a script without capitals
        is_unit = letter in UNITS and lead[-1:].isdecimal()
        return _Dot.JOINS if letter in LETTERS and not is_unit else _Dot.DEPENDS

    def _closed(self, end: int) -> int:
        """The position after the quotes and brackets that close at `end`: .") and ! »."""
        tape = self._tape
        closed = tape.span(_CLOSERS, end, _CLOSING)
        if (
            self._is_open("«", "»", end)
            and tape.char(closed) == " "
            and tape.char(closed + 1) == "»"
        ):
            return closed + 2
        return closed

    def _closed_wide(self, end: int) -> int:
        if any(self._is_open(first, last, end) for first, last in _WIDE_PAIRS):
            return self._tape.span(_CLOSERS, end, _CLOSING)
        return end

    def _is_open(self, opening: str, closing: str, end: int) -> bool:
        text, at = self._tape.text, self._tape.at
        return text.rfind(opening, at, end) > text.rfind(closing, at, end)

    def _opened(self, end: int) -> int:
        """Where the bracket around this place was opened, not long ago; -1 outside."""
        text, at = self._tape.text, self._tape.at
        opened = max(text.rfind("(", at, end), text.rfind("（", at, end))
        closed = max(text.rfind(")", at, end), text.rfind("）", at, end))
        return opened if opened > closed and end - opened <= _BRACKET else -1

    def _in_bracket(self, end: int) -> bool:
        return self._opened(end) >= 0

    # Which rule is asked for which character; ideographs for the others

    _rules: ClassVar[dict[str, Callable[[Pieces, int], int | None]]] = {
        **dict.fromkeys(" \t\u00a0\u2003\u3000", _word_end),
        **dict.fromkeys(".!?…", _stop),
        **dict.fromkeys("。｡．！？।॥۔؟։።။", _full_stop),
        **dict.fromkeys(",;:،؛", _clause_end),
        **dict.fromkeys("，、；：､၊", _wide_clause_end),
        **dict.fromkeys("—–-", _dash),
    }


def _tidied(text: str) -> str:
    """Without a dash in front, nor spaces left behind: "Hi , Bob ." was "Hi 👋, Bob 🙂."."""
    return _STRAY.sub("", " ".join(text.split()))


def _weight(text: str) -> int:
    return len(text) + (0 if text.isascii() else len(_WIDE.findall(text)))


def _pace_after(said: int) -> _Pace:
    return _Pace(
        clause=min(max(said * _PER_LETTER.clause, _LEAST.clause), _MAX.clause),
        word=min(max(said * _PER_LETTER.word, _LEAST.word), _MAX.word),
    )


def _meaning(word: str) -> _Dot:
    for form in (word, word[:1].lower() + word[1:]):
        if form in JOINS:
            return _Dot.JOINS
        if form in NAMES:
            return _Dot.NAME
        if form in DEPENDS:
            return _Dot.DEPENDS
    if _DAY_AND_MONTH.fullmatch(word):
        return _Dot.DEPENDS
    return _Dot.NAME if _INITIALS.fullmatch(word) else _Dot.ENDS


def _is_hiragana(char: str) -> bool:
    return "\u3041" <= char <= "\u309f"


def _is_joined(pair: str) -> bool:
    """Whether two characters are drawn as one."""
    return (
        pair[-1] in "\u200c\u200d"
        or pair[0] == "\u200d"
        or unicodedata.category(pair[-1])[0] == "M"
    )
