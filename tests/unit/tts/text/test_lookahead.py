"""Looking ahead raises `More` instead of guessing."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.tts.text.lookahead import Lookahead, More
from tests.unit.tts.text.texts import in_parts, unhurried

STARS = re.compile(r"\**")


def come(text: str, *, ended: bool = False) -> Lookahead:
    ahead = Lookahead()
    ahead.add(text)
    ahead.ended = ended
    return ahead


def test_a_text_begins_like_a_line() -> None:
    assert come("a").before == "\n"


def test_a_character_that_has_not_come_is_asked_for() -> None:
    with pytest.raises(More):
        come("a").char(2)
    assert come("ab").char(2) == "b"
    assert come("a", ended=True).char(2) == ""


def test_a_span_that_may_go_on_is_asked_for() -> None:
    with pytest.raises(More):
        come("**").span(STARS, 1, 9)
    assert come("**a").span(STARS, 1, 9) == 3
    assert come("**", ended=True).span(STARS, 1, 9) == 3
    assert come("**").span(STARS, 1, 2) == 3  # no further than the limit
    assert come("a").span(STARS, 1, 9) == 1


def test_what_may_still_be_found_is_asked_for() -> None:
    with pytest.raises(More):
        come("ab-").find("-->", 1, 9)
    assert come("ab-->").find("-->", 1, 9) == 3
    assert come("ab-", ended=True).find("-->", 1, 9) == -1
    assert come("ab-").find("-->", 1, 3) == -1


def test_words_that_may_still_come_are_asked_for() -> None:
    with pytest.raises(More):
        come("HTT").starts("http", 1)
    assert come("HTTP").starts("http", 1)
    assert not come("hat").starts("http", 1)
    assert not come("htt", ended=True).starts("http", 1)


@given(in_parts())
def test_positions_in_the_whole_text_stay_as_the_text_is_read(parts: list[str]) -> None:
    ahead, whole = Lookahead(), "".join(parts)
    for part in parts:
        ahead.add(part)
        assert len(ahead.text) <= len(part) + 2  # what was read is forgotten
        while not ahead.empty:
            assert whole[ahead.index(ahead.at)] == ahead.text[ahead.at]
            if ahead.index(ahead.at):
                assert ahead.before == whole[ahead.index(ahead.at) - 1]
            ahead.at += 1


LOOKS: list[Callable[[Lookahead], object]] = [
    lambda ahead: ahead.char(ahead.at + 2),
    lambda ahead: ahead.span(STARS, ahead.at, 4) - ahead.at,
    lambda ahead: ahead.find("*", ahead.at, 5) - ahead.at,
    lambda ahead: ahead.starts("a*b", ahead.at),
]


@unhurried
@given(st.text("ab*", max_size=8), st.sampled_from(LOOKS))
def test_a_look_that_answers_early_answers_what_the_whole_text_does(
    text: str, look: Callable[[Lookahead], int | str]
) -> None:
    def answer(ahead: Lookahead) -> object:
        found = look(ahead)
        return found if isinstance(found, str) or found >= 0 else "not found"

    whole = answer(come(text, ended=True))
    for length in range(len(text)):
        try:
            assert answer(come(text[:length])) == whole
        except More:
            continue
