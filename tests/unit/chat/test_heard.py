"""How much of a text was heard, from the pieces of its voice."""

from __future__ import annotations

from typing import TypeAlias

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.chat.heard import Mark, Sound, SpokenPiece, SpokenVoice, heard_text
from shared.contract import SAMPLE_RATE, Piece, PieceDone, Word

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


lengths = st.integers(1, 2_000)


@given(st.tuples(lengths, lengths, lengths), st.booleans())
def test_what_was_heard_is_a_beginning_that_grows_with_time(
    ms: tuple[int, int, int], ended: bool
) -> None:
    pieces = [
        piece("The sea breathes.", ms[0]),
        piece("The moon pulls.", ms[1]),
        piece("We listen.", ms[2], whole=ended),
    ]
    before = ""
    for heard_ms in range(0, 6500, 37):
        now = heard_text(pieces, heard_ms, TEXT)

        assert TEXT.startswith(now)
        assert len(now) >= len(before)
        assert now == TEXT[: len(now)].rstrip()
        before = now


# ---------------------------------------------------------------- the voice from its events


Told: TypeAlias = "tuple[int, Piece | Sound | PieceDone | None]"


def announced(index: int, attempt: int = 1) -> Piece:
    start, end = ((0, 17), (18, 33), (34, 44))[index]
    return Piece("c", "t", attempt, index=index, text=TEXT[start:end], chars=(start, end))


def done(index: int, samples: int, attempt: int = 1) -> PieceDone:
    return PieceDone("c", "t", attempt, index=index, samples=samples)


def voice(*events: Told) -> list[SpokenPiece]:
    spoken = SpokenVoice()
    for attempt, event in events:
        spoken.add(attempt, event)
    return spoken.pieces or []


def test_a_voice_that_has_begun_may_have_said_nothing() -> None:
    spoken = SpokenVoice()
    spoken.add(1, Mark.STARTED)

    assert spoken.pieces == []


@pytest.mark.parametrize(
    "events", [[], [Mark.ENDED], [Mark.STARTED, Mark.ENDED], [announced(1), done(1, 100)]]
)
def test_of_a_voice_that_said_nothing_or_whose_beginning_is_gone_nobody_can_tell(
    events: list[Piece | PieceDone | Mark],
) -> None:
    spoken = SpokenVoice()
    for event in events:
        spoken.add(1, event)

    assert spoken.pieces is None


def test_a_piece_under_way_has_the_samples_that_came() -> None:
    found = voice((1, None), (1, announced(0)), (1, Sound(0, 100)), (1, Sound(0, 50)))

    assert found == [SpokenPiece(0, 17, 150)]


def test_a_piece_that_is_done_says_itself_how_long_it_is() -> None:
    found = voice((1, announced(0)), (1, Sound(0, 100)), (1, done(0, 120)))

    assert found == [SpokenPiece(0, 17, 120, True, [])]


def test_pieces_stand_in_the_order_of_the_text() -> None:
    found = voice((1, announced(1)), (1, announced(0)))

    assert [p.start for p in found] == [0, 18]


def test_a_piece_that_is_announced_again_starts_over_and_those_done_stay() -> None:
    first: list[Told] = [(1, announced(0)), (1, done(0, 90)), (1, announced(1)), (1, Sound(1, 70))]
    again: list[Told] = [(2, None), (2, announced(1, 2)), (2, Sound(1, 10))]

    assert voice(*first, *again) == [SpokenPiece(0, 17, 90, True, []), SpokenPiece(18, 33, 10)]


def test_leftovers_of_an_earlier_attempt_do_not_count() -> None:
    late: list[Told] = [
        (1, announced(1)),
        (1, Sound(0, 500)),
        (1, done(0, 500)),
    ]

    assert voice((1, announced(0)), (2, None), *late) == [SpokenPiece(0, 17)]


def test_the_sound_of_a_piece_is_not_counted_before_it_is_announced_in_its_attempt() -> None:
    assert voice((1, Sound(0, 5)), (1, done(0, 5))) == []
    assert voice((1, announced(0)), (2, Sound(0, 5))) == [SpokenPiece(0, 17)]
