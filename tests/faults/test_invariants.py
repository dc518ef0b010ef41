"""What may be told again of a voice, and what may not."""

from __future__ import annotations

import json

import pytest

from tests.faults.invariants import Events, check_told_once

Message = tuple[dict[str, str], bytes]


def of(kind: str, attempt: int, **facts: object) -> Message:
    headers = {"Parley-Type": kind, "Parley-Attempt": str(attempt)}
    return headers, json.dumps(facts).encode()


def piece(attempt: int, index: int, text: str = "words") -> Message:
    return of("piece", attempt, index=index, text=f"{text} {index}")


def chunk(attempt: int, index: int, seq: int) -> Message:
    headers = {"Parley-Piece": str(index), "Parley-Seq": str(seq)}
    return of("chunk", attempt)[0] | headers, bytes(4)


def done(attempt: int, index: int) -> Message:
    return of("piece_done", attempt, index=index, samples=2)


def told(*messages: Message) -> Events:
    return Events(audio=[of("started", 1), *messages])


FIRST = (piece(1, 0), chunk(1, 0, 0), done(1, 0))
SECOND = (piece(1, 1), chunk(1, 1, 1), done(1, 1))


@pytest.mark.parametrize(
    "before",
    [
        (*FIRST, *SECOND),
        (*FIRST[:2], *SECOND, FIRST[2]),  # an end that comes late
        (*FIRST, SECOND[1], SECOND[0], SECOND[2]),  # what is torn stands behind it
    ],
)
def test_a_piece_that_stands_in_order_may_not_be_told_again(before: tuple[Message, ...]) -> None:
    with pytest.raises(AssertionError, match="piece 0 was done"):
        check_told_once(told(*before, of("started", 2), piece(2, 0)))


@pytest.mark.parametrize(
    "before",
    [
        (FIRST[1], FIRST[0], FIRST[2], *SECOND),  # a chunk before its announcement
        (FIRST[0], FIRST[2], FIRST[1], *SECOND),  # a chunk behind the end
        (FIRST[0], *SECOND, *FIRST[1:]),  # a chunk behind a later one
        (SECOND[0], *FIRST, *SECOND[1:]),  # an announcement behind a later one
    ],
)
def test_from_a_piece_that_was_torn_on_all_may_be_told_again(before: tuple[Message, ...]) -> None:
    again = piece(2, 0), chunk(2, 0, 0), done(2, 0), piece(2, 1), chunk(2, 1, 1), done(2, 1)
    check_told_once(told(*before, of("started", 2), *again))
    with pytest.raises(AssertionError, match="piece 0 was done"):
        check_told_once(told(*before, of("started", 2), *again, of("started", 3), piece(3, 0)))


def test_an_answer_that_was_given_anew_may_be_told() -> None:
    check_told_once(told(*FIRST, *SECOND, of("started", 2), piece(2, 0, "others")))


def test_a_piece_is_announced_once_in_an_attempt() -> None:
    with pytest.raises(AssertionError, match="twice"):
        check_told_once(told(*FIRST, piece(1, 0)))
