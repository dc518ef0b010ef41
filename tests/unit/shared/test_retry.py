"""How long to wait before something is tried again."""

from __future__ import annotations

import random

import pytest

from shared.retry import pause_before, worth_waiting


def most(low: float, high: float) -> float:
    return high


def least(low: float, high: float) -> float:
    return low


def test_the_ceiling_doubles_with_each_try_and_stops_at_eight_seconds() -> None:
    pauses = [pause_before(number, None, uniform=most) for number in range(2, 10)]

    assert pauses == [0.25, 0.5, 1, 2, 4, 8, 8, 8]


def test_full_jitter_may_wait_not_at_all() -> None:
    assert pause_before(5, None, uniform=least) == 0


def test_what_the_provider_asks_for_is_the_least() -> None:
    assert pause_before(2, 3.0, uniform=least) == 3.0
    assert pause_before(9, 3.0, uniform=most) == 3.25


def test_being_asked_to_wait_for_nothing_still_scatters() -> None:
    assert pause_before(2, 0.0, uniform=most) == 0.25


@pytest.mark.parametrize("number", [0, 1])
def test_a_first_try_waits_no_longer_than_a_second(number: int) -> None:
    assert pause_before(number, None, uniform=most) == 0.25


def test_no_pause_is_ever_out_of_bounds() -> None:
    dice = random.Random(7)
    pauses = [pause_before(dice.randrange(2, 1000), None, uniform=dice.uniform) for _ in range(500)]

    assert min(pauses) >= 0
    assert max(pauses) <= 8


@pytest.mark.parametrize(
    ("asked", "left", "worth"),
    [
        (None, 0.1, True),
        (None, 90, True),
        (5, 90, True),
        (30, 90, True),
        (30.1, 90, False),
        (5, 4.9, False),
        (5, 5, True),
        (0, 0, True),
    ],
)
def test_a_pause_is_worth_it_while_it_leaves_time_for_the_turn(
    asked: float | None, left: float, *, worth: bool
) -> None:
    assert worth_waiting(asked, left) is worth
