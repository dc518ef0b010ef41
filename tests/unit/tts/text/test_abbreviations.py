from __future__ import annotations

from itertools import combinations

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


def test_an_abbreviation_has_one_meaning() -> None:
    # "ft" is the foot, and as "Ft" a fort: what always joins is asked for first.
    assert {"ft"} >= JOINS & DEPENDS
    assert all(not left & right for left, right in combinations((JOINS, DEPENDS, NAMES), 2))


def test_words_are_written_as_they_are_looked_up() -> None:
    every = JOINS | DEPENDS | NAMES | MONTHS | SENTENCE_STARTERS
    assert not [word for word in every if word.endswith(".") or not word.strip()]
    assert all(word == word.lower() for word in ORDINAL_LEADS)
    assert all(len(letter) == 1 and letter.islower() for letter in LETTERS)
    assert UNITS < LETTERS


def test_the_fewest_letters_tell_a_word_that_is_none_of_them() -> None:
    found = beginnings(frozenset({"Mai", "Mars"}))
    assert found == {"M", "Ma", "Mai", "Mar", "Mars"}
