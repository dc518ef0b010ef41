"""Who may start, who is refused, who is interrupted, who comes next."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.chat.queue import Move, Older, next_move, oldest_of_each
from shared.contract import OnBusy

EVERY = list(OnBusy)


def move(older: str, on_busy: OnBusy = OnBusy.QUEUE, max_waiting: int = 20) -> Move:
    """Of request `m`, behind requests that are named by one letter each."""
    return next_move([Older(n, name) for n, name in enumerate(older)], "m", on_busy, max_waiting)


# ---------------------------------------------------------------- one request


@pytest.mark.parametrize("on_busy", EVERY)
@pytest.mark.parametrize("max_waiting", [0, 20])
def test_the_oldest_request_starts(on_busy: OnBusy, max_waiting: int) -> None:
    assert move("", on_busy, max_waiting) is Move.START


@pytest.mark.parametrize("on_busy", EVERY)
@pytest.mark.parametrize("older", ["m", "amb", "abcdm"])
def test_a_turn_that_stands_in_the_queue_already_answers_for_both(
    older: str, on_busy: OnBusy
) -> None:
    assert move(older, on_busy, 3) is Move.YIELD


@pytest.mark.parametrize(
    ("on_busy", "does"),
    [
        (OnBusy.QUEUE, Move.WAIT),
        (OnBusy.INTERRUPT, Move.INTERRUPT),
        (OnBusy.REJECT, Move.REJECT),
    ],
)
def test_while_a_turn_is_under_way_a_request_does_what_it_says(on_busy: OnBusy, does: Move) -> None:
    assert move("a", on_busy) is does
    assert move("abc", on_busy) is does


def test_as_many_may_wait_as_may_and_no_more() -> None:
    assert move("rab", max_waiting=3) is Move.WAIT  # one runs, two wait, this is the third
    assert move("rabc", max_waiting=3) is Move.OVERFLOW
    assert move("rabc", OnBusy.INTERRUPT, 3) is Move.OVERFLOW


def test_where_none_may_wait_the_second_is_refused() -> None:
    assert move("r", max_waiting=0) is Move.OVERFLOW


def test_who_does_not_want_to_wait_is_told_so_however_many_do() -> None:
    assert move("rabc", OnBusy.REJECT, 3) is Move.REJECT


# ---------------------------------------------------------------- many requests


def turns(names: str, count: int) -> str:
    chosen = oldest_of_each(enumerate(names), lambda item: item[1], count)
    return "".join(name for _, name in chosen)


def test_who_comes_after_a_flood_is_next() -> None:
    assert turns("aaaaaaaaab", 4) == "ab"


def test_one_of_each_conversation_is_taken() -> None:
    assert turns("aab", 10) == "ab"
    assert turns("", 10) == ""


def test_no_more_than_asked_for() -> None:
    assert turns("abcdef", 4) == "abcd"
    assert turns("abc", 0) == ""


@given(st.text("abcd", max_size=40), st.integers(0, 40))
def test_it_is_the_oldest_of_each(names: str, count: int) -> None:
    items = list(enumerate(names))
    chosen = oldest_of_each(items, lambda item: item[1], count)

    assert len(chosen) == min(count, len(set(names)))
    assert chosen == sorted(chosen)
    for number, name in chosen:
        assert number == names.index(name)
