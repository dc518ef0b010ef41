"""How long a piece may become before it is cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.tts.text.lookahead import Lookahead
from services.tts.text.policy import Pace, Policy, weight
from tests.unit.tts.text.texts import NO_PUNCTUATION, all_of, cut, speakable, texts


def first_of(
    ahead: Lookahead, *, max_chars: int = 250, clause: int = 8, word: int = 24
) -> str | None:
    end = Policy(ahead, Pace(clause=clause, word=word), max_chars=max_chars).next_end()
    return None if end is None else ahead.text[ahead.at : end]


@pytest.mark.parametrize(
    ("text", "letters"), [("word", 4), ("好", 2), ("好，ab", 6), ("한", 2), ("é", 1)]
)
def test_a_wide_character_takes_as_long_as_two_letters(text: str, letters: int) -> None:
    assert weight(text) == letters


def test_the_more_was_said_the_longer_the_next_piece_may_take() -> None:
    pace = Pace(clause=8, word=24)
    assert (pace.clause, pace.word) == (8, 24)
    pace.said("Sure!")
    assert (pace.clause, pace.word) == (20, 80)
    pace.said("x" * 20)
    assert (pace.clause, pace.word) == (50, 125)
    pace.said("x" * 1000)
    assert (pace.clause, pace.word) == (90, 180)
    assert pace.first_clause == 8


@given(st.lists(st.text(min_size=1, max_size=40)))
def test_the_pace_never_falls(said: list[str]) -> None:
    pace = Pace(clause=8, word=24)
    before = (0, 0)
    for text in said:
        pace.said(text)
        assert before <= (pace.clause, pace.word)
        assert pace.clause < pace.word
        before = (pace.clause, pace.word)


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("Sure! I can.", "Sure!"),
        ("Of course, I can", "Of course,"),
        ("Well, I can help you with that today", "Well, I can help you with"),
        ("当然可以，我来", "当然可以，"),
        ("A heading\nText", "A heading"),
        ("Python (a very popular language) is", "Python (a very popular language)"),
        ("Everything (a very popular word) is fine", "Everything "),
    ],
)
def test_the_first_boundary_that_is_far_enough_ends_a_piece(text: str, first: str) -> None:
    assert first_of(all_of(text)) == first


def test_a_boundary_that_nothing_is_said_before_ends_no_piece() -> None:
    assert first_of(all_of("… — ! So.")) == "… — ! So."


def test_while_the_text_does_not_tell_there_is_no_end() -> None:
    ahead = Lookahead()
    policy = Policy(ahead, Pace(clause=8, word=24), max_chars=250)
    for char in "Sure!":
        ahead.add(char)
        assert policy.next_end() is None
    ahead.add(" ")
    assert policy.next_end() == 6


def test_what_is_left_at_the_end_is_a_piece() -> None:
    assert first_of(all_of("and so")) == "and so"
    assert first_of(all_of("")) is None


def test_a_limit_cuts_behind_a_word_that_can_stand_alone() -> None:
    text = "about the distance of 5 km and more"
    assert first_of(all_of(text), max_chars=25, word=100) == "about the distance of"


def test_a_word_over_the_limit_is_cut_but_not_inside_a_letter() -> None:
    assert first_of(all_of("e\u0301" * 300), max_chars=101, word=1000) == "e\u0301" * 50


def test_text_without_punctuation_is_cut_at_words() -> None:
    pieces = cut(NO_PUNCTUATION)
    lengths = [len(piece.text) for piece in pieces[:-1]]

    assert 22 <= lengths[0] <= 32
    assert 120 <= lengths[1] <= 135
    assert all(180 <= length <= 190 for length in lengths[2:])
    assert " ".join(texts(pieces)) == NO_PUNCTUATION.strip()


@pytest.mark.parametrize("limit", [1, 2, 7, 24, 40, 100, 250])
@pytest.mark.parametrize(
    "text",
    ["x" * 1000, "word " * 200, "好" * 500, "क्षि" * 200, "a(" * 300, ". " * 300 + "x", "1. " * 200],
)
def test_no_piece_is_over_the_limit(text: str, limit: int) -> None:
    pieces = cut(text, max_chars=limit)
    assert all(0 < len(piece.text) <= limit for piece in pieces)
    assert speakable("".join(texts(pieces))) == speakable(text)
    assert cut(*text, max_chars=limit) == pieces


def test_a_word_over_the_limit_is_cut_hard_but_not_inside_a_letter() -> None:
    pieces = cut("e\u0301" * 300, max_chars=101)
    assert all(piece.text[0] == "e" for piece in pieces)
    assert len(pieces[0].text) == 100
