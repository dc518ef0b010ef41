"""What a full stop means, by the words before it: the end of a sentence, or of an abbreviation."""

from __future__ import annotations

import enum
import re

from services.tts.text.abbreviations import (
    DEPENDS,
    JOINS,
    LETTERS,
    NAMES,
    ORDINAL_LEADS,
    UNITS,
)
from services.tts.text.characters import OPENING
from services.tts.text.lookahead import Lookahead

_ROMAN = re.compile(r"[IVX]{1,5}")
_DAY_AND_MONTH = re.compile(r"\d{1,2}\.\d{1,2}")
_INITIALS = re.compile(r"(?:[^\W\d_]\.)+[^\W\d_]")
_LAST_PART = re.compile(r"[^-/'’]*$")  # of Dr.-Ing., a.m./p.m., l'art.


class FullStop(enum.Enum):
    """What a full stop after this word means."""

    ENDS = "ends the sentence"
    JOINS = "never ends it"
    DEPENDS = "goes on before a small letter or a digit"
    NUMBER = "goes on before these and before a month: 3. Mai"
    NAME = "goes on unless a word follows that sentences begin with"
    PAUSE = "goes on before a small letter: an ellipsis, a quotation, a bracket"


def word_before(ahead: Lookahead, place: int) -> str:
    """The word of the piece under way that ends here, without quotes or brackets in front."""
    start = max(ahead.text.rfind(" ", ahead.at, place) + 1, ahead.at)
    return ahead.text[start:place].lstrip(OPENING)


def meaning(ahead: Lookahead, place: int) -> FullStop:
    """What the sign at this place means; all but "." only pause."""
    if ahead.text[place] != ".":
        return FullStop.PAUSE
    whole = word_before(ahead, place)
    part = _LAST_PART.search(whole)
    word = part.group() if part else whole
    start = place - len(whole)
    begins_line = start == ahead.at and ahead.before == "\n"
    if word.isdecimal():
        return _after_number(ahead, word, start, begins_line=begins_line)
    if len(word) == 1:
        return _after_letter(ahead, word, start, begins_line=begins_line)
    if _ROMAN.fullmatch(word):
        return FullStop.JOINS if begins_line else FullStop.DEPENDS
    return _after_word(word)


def _after_number(ahead: Lookahead, number: str, start: int, *, begins_line: bool) -> FullStop:
    if len(number) > (3 if begins_line else 2):
        return FullStop.ENDS
    lead = word_before(ahead, start - 1)
    english = lead == "am" and ahead.text[start - 5 : start - 3].strip() == "I"
    if begins_line or (lead.lower() in ORDINAL_LEADS and not english):
        return FullStop.JOINS
    return FullStop.NUMBER


def _after_letter(ahead: Lookahead, letter: str, start: int, *, begins_line: bool) -> FullStop:
    lead = word_before(ahead, start - 1)
    after_letter = len(lead) == 2 and lead[1] == "." and lead[0].isalpha()
    if begins_line or after_letter:
        return FullStop.JOINS
    if letter == "I" or not letter.isalpha():
        return FullStop.ENDS
    if letter.isupper():
        return FullStop.NAME
    if not letter.islower():
        return FullStop.JOINS  # an initial in a script without capitals
    is_unit = letter in UNITS and lead[-1:].isdecimal()
    return FullStop.JOINS if letter in LETTERS and not is_unit else FullStop.DEPENDS


def _after_word(word: str) -> FullStop:
    for form in (word, word[:1].lower() + word[1:]):
        if form in JOINS:
            return FullStop.JOINS
        if form in NAMES:
            return FullStop.NAME
        if form in DEPENDS:
            return FullStop.DEPENDS
    if _DAY_AND_MONTH.fullmatch(word):
        return FullStop.DEPENDS
    return FullStop.NAME if _INITIALS.fullmatch(word) else FullStop.ENDS
