"""How much of a text was heard, from the pieces of its voice."""

from __future__ import annotations

import random

import pytest

from services.chat.heard import SpokenPiece, heard_text
from shared.contract import SAMPLE_RATE, Word

TEXT = "The sea breathes. The moon pulls. We listen."


def piece(said: str, ms: int, *, whole: bool = True, words: tuple[Word, ...] = ()) -> SpokenPiece:
    start = TEXT.index(said)
    return SpokenPiece(start, start + len(said), ms * SAMPLE_RATE // 1000, whole, words)


THREE = [
    piece("The sea breathes.", 1000),
    piece("The moon pulls.", 1000),
    piece("We listen.", 500),
]


@pytest.mark.parametrize("heard_ms", [0, -5])
def test_who_heard_no_time_heard_nothing(heard_ms: int) -> None:
    assert heard_text(THREE, heard_ms, TEXT) == ""


def test_where_nothing_was_spoken_nothing_was_heard() -> None:
    assert heard_text([], 5000, TEXT) == ""


@pytest.mark.parametrize("heard_ms", [2500, 2501, 10**9])
def test_who_heard_it_all_heard_the_whole_text(heard_ms: int) -> None:
    assert heard_text(THREE, heard_ms, TEXT) == TEXT


def test_whole_pieces_count_by_their_length() -> None:
    assert heard_text(THREE, 1000, TEXT) == "The sea breathes."
    assert heard_text(THREE, 2000, TEXT) == "The sea breathes. The moon pulls."


def test_inside_a_piece_time_decides_and_the_cut_is_at_a_word_s_end() -> None:
    assert heard_text(THREE, 500, TEXT) == "The sea"
    assert heard_text(THREE, 1500, TEXT) == "The sea breathes. The"


def test_a_moment_of_a_piece_is_no_word() -> None:
    assert heard_text(THREE, 1, TEXT) == ""
    assert heard_text(THREE, 1001, TEXT) == "The sea breathes."


def test_the_times_of_words_decide_where_there_are_any() -> None:
    words = (Word("The", 0, 100), Word("sea", 110, 700), Word("breathes.", 710, 1000))
    pieces = [piece("The sea breathes.", 1000, words=words)]

    assert heard_text(pieces, 99, TEXT) == ""
    assert heard_text(pieces, 100, TEXT) == "The"
    assert heard_text(pieces, 699, TEXT) == "The"
    assert heard_text(pieces, 700, TEXT) == "The sea"


def test_the_times_of_words_count_from_the_start_of_the_turn() -> None:
    words = (Word("The", 1000, 1200), Word("moon", 1210, 1600), Word("pulls.", 1610, 2000))
    pieces = [THREE[0], piece("The moon pulls.", 1000, words=words)]

    assert heard_text(pieces, 1650, TEXT) == "The sea breathes. The moon"


def test_a_word_that_the_voice_spells_otherwise_is_passed_over() -> None:
    words = (Word("Ze", 0, 100), Word("sea", 110, 700), Word("breathes", 710, 1000))

    assert heard_text([piece("The sea breathes.", 1100, words=words)], 1050, TEXT) == (
        "The sea breathes"
    )


def test_a_piece_under_way_is_heard_as_far_as_it_came() -> None:
    pieces = [THREE[0], piece("The moon pulls.", 200, whole=False)]

    assert heard_text(pieces, 1000, TEXT) == "The sea breathes."
    assert heard_text(pieces, 1100, TEXT).startswith("The sea breathes.")


def test_a_piece_of_which_nothing_was_spoken_was_not_heard() -> None:
    assert heard_text([THREE[0], piece("The moon pulls.", 0, whole=False)], 9999, TEXT) == (
        "The sea breathes."
    )


@pytest.mark.parametrize("seed", range(20))
def test_what_was_heard_is_a_beginning_that_grows_with_time(seed: int) -> None:
    dice = random.Random(seed)
    pieces = [
        piece("The sea breathes.", dice.randrange(1, 2000)),
        piece("The moon pulls.", dice.randrange(1, 2000)),
        piece("We listen.", dice.randrange(1, 2000), whole=dice.random() < 0.5),
    ]
    before = ""
    for heard_ms in range(0, 6500, 37):
        now = heard_text(pieces, heard_ms, TEXT)

        assert TEXT.startswith(now)
        assert len(now) >= len(before)
        assert now == TEXT[: len(now)].rstrip()
        before = now
