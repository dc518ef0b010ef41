from __future__ import annotations

import pytest

from services.tts.ports import SpokenWord
from services.tts.progress import Progress, SaidPiece
from services.tts.text.segments import Piece
from shared.contract import SAMPLE_RATE, Word

SECOND = bytes(2 * SAMPLE_RATE)


def piece(index: int, text: str = "Hello.") -> Piece:
    return Piece(index, text, index * 10, index * 10 + len(text))


def progress(*texts: str) -> Progress:
    """With a piece of a second for each text."""
    found = Progress(lambda model, characters: characters / 10 if model == "dear" else None)
    for index, text in enumerate(texts):
        found.held = said(found, piece(index, text))
        found.release()
    return found


def said(found: Progress, one: Piece) -> SaidPiece:
    begun = found.begin(one)
    begun.add(SECOND)
    return begun


def test_a_piece_is_done_when_it_is_released() -> None:
    found = progress("One.")
    found.held = said(found, piece(1, "Two."))
    assert found.samples == SAMPLE_RATE
    done = found.release()
    assert done is not None
    assert (done.index, done.text, done.start, done.end) == (1, "Two.", 10, 14)
    assert done.samples == SAMPLE_RATE
    assert found.samples == 2 * SAMPLE_RATE
    assert found.release() is None


def test_the_words_of_a_piece_have_their_time_in_the_whole_voice() -> None:
    found = progress("One.", "Two.")
    begun = said(found, piece(2))
    begun.mark(SpokenWord("Hello", 0.25, 0.7504))
    assert begun.done().words == (Word("Hello", 2250, 2750),)


def test_a_piece_is_known_by_its_text_and_its_place() -> None:
    found = progress("One.", "Two.")
    assert found.has(piece(1, "Two."))
    assert not found.has(piece(1, "Three."))
    assert not found.has(Piece(1, "Two.", 11, 15))
    assert not found.has(piece(2, "Two."))


def test_what_was_answered_anew_is_forgotten_from_the_first_difference_on() -> None:
    found = progress("One.", "Two.", "Three.")
    assert found.reaches(2)
    found.forget_from(1)
    assert [done.text for done in found.done] == ["One."]
    assert not found.reaches(1)
    assert found.samples == SAMPLE_RATE


def test_what_was_given_to_a_model_is_counted_and_paid_where_the_price_is_known() -> None:
    found = progress()
    found.count("unknown", 5)
    assert (found.characters, found.cost) == (5, None)
    found.count("dear", 20)
    found.count("dear", 10)
    assert found.characters == 35
    assert found.cost == pytest.approx(3.0)
