"""Where a sentence, a clause or a word of the piece that begins at `ahead.at` may end.

Each function judges one place by what stands before it and by a bounded look ahead, which raises
`More` when that has not arrived; none knows how long a piece may be (`policy.py` does).

Why no library: those for sentence segmentation (pysbd and the like) want the whole text, change
their minds about its end when more arrives, and know sentences only: neither early first pieces,
nor clauses, nor a limit.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable

from services.tts.text.abbreviations import MONTHS, SENTENCE_STARTERS, beginnings
from services.tts.text.characters import OPENING, UNSPACED, WIDE
from services.tts.text.full_stops import FullStop, meaning, word_before
from services.tts.text.lookahead import Lookahead
from services.tts.text.quotes import closed, closed_wide

# Every character that any of the functions below is for.
PLACE = re.compile(rf"[\s.!?…,;:—–\-。｡．！？।॥۔؟։።၊။،؛，、；：､{UNSPACED}]")

_SPACE = re.compile(r" *")
_STOPS = re.compile(r"[.!?…]*")
_OPENERS = re.compile(r"[\"'“„‚«»‹›(\[¿¡「『（*]*")

# Not at the start of a line in Japanese, and not at the start of a piece.
_CLINGING = frozenset("ぁぃぅぇぉっゃゅょゎァィゥェォッャュョヮヵヶーゝゞヽヾ々")
# Words that end a phrase in Chinese; after one of them a breath sounds natural.
_PHRASE_ENDS = frozenset("的了着过吗呢吧们是在和与就也都很把被让给对从到")
# After a closing quote these go on with the sentence: 「…」と言った.
_QUOTED_ON = frozenset("とってなのはがをにで、，")
_NEVER_BEFORE = frozenset("!?:;,.…»›)]}%—–-！？：；，。、")

_MONTH_BEGINNINGS = beginnings(MONTHS)
_STARTER_BEGINNINGS = beginnings(SENTENCE_STARTERS)


# Sentences


def _sentence_end(ahead: Lookahead, place: int) -> int | None:
    """`. ! ? …`"""
    if ahead.text[place - 1] in ".!?…" and place > ahead.at:
        return None  # judged with the first of them
    marks_end = ahead.span(_STOPS, place, 8)
    end = closed(ahead, marks_end)
    following = ahead.char(end)
    if following and not following.isspace():
        return end if _runs_on(ahead, place, following) else None
    return None if _goes_on(ahead, _stop(ahead, place, marks_end, end), end) else end


def _stop(ahead: Lookahead, place: int, marks_end: int, end: int) -> FullStop:
    """What the marks from `place` mean, closed by quotes and brackets up to `end`."""
    stop = meaning(ahead, place) if marks_end == place + 1 else FullStop.PAUSE
    marks = ahead.text[place:marks_end]
    if "!" in marks or "?" in marks:
        stop = FullStop.ENDS
    if stop is FullStop.ENDS and end > marks_end:
        return FullStop.PAUSE
    return stop


def _runs_on(ahead: Lookahead, place: int, following: str) -> bool:
    """Whether the next sentence follows without a space."""
    if ahead.text[place] in "!?":
        return following.isupper() or bool(WIDE.match(following))
    before = ahead.text[place - 1]
    return ahead.text[place] == "." and bool(WIDE.match(following)) and not before.isdecimal()


def _goes_on(ahead: Lookahead, stop: FullStop, end: int) -> bool:
    """Whether the sentence goes on after `end`."""
    if stop is FullStop.ENDS or stop is FullStop.JOINS:
        return stop is FullStop.JOINS
    begins = ahead.span(_SPACE, end, 4)
    begins = ahead.span(_OPENERS, begins, 3)
    first = ahead.char(begins)
    if first.islower() or (first and first in "—–-,;:"):
        return True
    if stop is FullStop.PAUSE or not first.strip():
        return False
    if first.isdecimal() or stop is FullStop.DEPENDS:
        return first.isdecimal()
    if stop is FullStop.NUMBER:
        return _is_word(ahead, begins, MONTHS, _MONTH_BEGINNINGS)
    return not _is_word(ahead, begins, SENTENCE_STARTERS, _STARTER_BEGINNINGS)


def _is_word(
    ahead: Lookahead, begins: int, words: frozenset[str], beginnings: frozenset[str]
) -> bool:
    """Whether one of these words stands there; looks no further than it may be one."""
    end = begins
    while ahead.char(end).isalpha():
        end += 1
        if ahead.text[begins:end] not in beginnings:
            return False
    return ahead.text[begins:end] in words


def _wide_sentence_end(ahead: Lookahead, place: int) -> int | None:
    """`。！？।؟` prove the end themselves."""
    end = closed_wide(ahead, place + 1)
    if end > place + 1 and ahead.char(end) in _QUOTED_ON:
        return None
    return end


# Clauses


def _clause_end(ahead: Lookahead, place: int) -> int | None:
    """`, ; :`"""
    end = closed(ahead, place + 1)
    following = ahead.char(end)
    return None if following and not following.isspace() else end  # not in 1,000 and 10:30


def _dash(ahead: Lookahead, place: int) -> int | None:
    apart = ahead.text[place - 1].isspace() and ahead.char(place + 1).isspace()
    return place + 1 if ahead.text[place] == "—" or apart else None


def is_between_numbers(ahead: Lookahead, place: int, end: int) -> bool:
    """Whether the sign at `place`, closed up to `end`, belongs to both: May 5, 2026."""
    if not ahead.text[place - 1].isdecimal():
        return False
    return ahead.char(ahead.span(_SPACE, end, 2)).isdecimal()


def wide_clause_end(ahead: Lookahead, place: int) -> int:
    """`，、；：` need no space, and only inside quotes a look ahead."""
    return closed_wide(ahead, place + 1)


# Words


def is_word_end(ahead: Lookahead, place: int) -> bool:
    following = ahead.char(ahead.span(_SPACE, place, 2))
    return not (following.isdecimal() or following in _NEVER_BEFORE or is_bound(ahead, place))


def is_bound(ahead: Lookahead, place: int) -> bool:
    """Whether the word that ends here belongs to the next: Dr. Who, 5 km, 1 000."""
    word = word_before(ahead, place)
    if not word:
        return True
    if word.endswith("."):
        return meaning(ahead, place - 1) is not FullStop.ENDS
    is_year = len(word) >= 4 and word.isdecimal()
    return word[-1].isdecimal() and not is_year


def may_begin(ahead: Lookahead, place: int) -> bool:
    """Whether a piece may begin with this character of a script without spaces."""
    before = ahead.text[place - 1]
    return not (ahead.text[place] in _CLINGING or before in OPENING or before.isdecimal())


def is_phrase_end(ahead: Lookahead, place: int) -> bool:
    """Whether a breath sounds natural in front of this character."""
    before = ahead.text[place - 1]
    return before in _PHRASE_ENDS or (_is_hiragana(before) and not _is_hiragana(ahead.text[place]))


def _is_hiragana(char: str) -> bool:
    return "\u3041" <= char <= "\u309f"


def is_joined(pair: str) -> bool:
    """Whether two characters are drawn as one."""
    return (
        pair[-1] in "\u200c\u200d"
        or pair[0] == "\u200d"
        or unicodedata.category(pair[-1])[0] == "M"
    )


# By the character at the place; each returns where the piece would end, or None.
Boundary = Callable[[Lookahead, int], int | None]
SENTENCE_ENDS: dict[str, Boundary] = {
    **dict.fromkeys(".!?…", _sentence_end),
    **dict.fromkeys("。｡．！？।॥۔؟։።။", _wide_sentence_end),
}
CLAUSE_ENDS: dict[str, Boundary] = {
    **dict.fromkeys(",;:،؛", _clause_end),
    **dict.fromkeys("—–-", _dash),
}
WIDE_CLAUSE_ENDS = frozenset("，、；：､၊")
WORD_ENDS = frozenset(" \t\u00a0\u2003\u3000")
