"""What a full stop means, by the words before it."""

from __future__ import annotations

import pytest

from services.tts.text.full_stops import FullStop, meaning, word_before
from tests.unit.tts.text.texts import all_of

MEANINGS = {
    FullStop.ENDS: "It is so. | I have 100. | in 2024. | You and I. | Wort. | the last word.",
    FullStop.JOINS: (
        "met Dr. | food, e.g. | gut, z.B. | das ist z. | 1. | 12. | A. | am 3. | Der 2. | J. R."
        " | Der Dr.-Ing. | Voir l'Ing. | डॉ. | IV."
    ),
    FullStop.DEPENDS: "pears, etc. | See No. | 5 p.m. | Henry VIII. | am 24.12. | in 5 h. | so x.",
    FullStop.NUMBER: "Montag, 3. | I have 5. | I am 5.",
    FullStop.NAME: "in the U.S. | Apple Inc. | a Ph.D. | plan B. | the X.Y.Z.",
    FullStop.PAUSE: "Well… | Really?",
}


@pytest.mark.parametrize(
    ("text", "means"),
    [(text, means) for means, texts in MEANINGS.items() for text in texts.split(" | ")],
)
def test_a_full_stop_means(text: str, means: FullStop) -> None:
    assert meaning(all_of(text), len(text)) is means


def test_a_number_or_a_letter_opens_a_list_only_at_the_start_of_a_line() -> None:
    text = "x 123. "
    assert meaning(all_of(text, at=2), 6) is FullStop.ENDS  # a piece that begins within a line
    assert meaning(all_of("123."), 4) is FullStop.JOINS


def test_a_word_is_taken_without_the_quotes_in_front() -> None:
    assert word_before(all_of("say („Hallo"), 12) == "Hallo"
    assert word_before(all_of("one"), 4) == "one"
    assert word_before(all_of("one "), 5) == ""


def test_only_the_piece_under_way_is_looked_at() -> None:
    assert word_before(all_of("longword", at=4), 9) == "word"
