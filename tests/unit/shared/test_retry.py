"""How long to wait before something is tried again."""

from __future__ import annotations

from itertools import islice
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.retry import LOOKS, PROVIDER, Backoff, asked_pause, wait_until, worth_waiting


def longest(_low: float, high: float) -> float:
    return high


def shortest(low: float, _high: float) -> float:
    return low


def test_pauses_double_and_stop_at_the_longest() -> None:
    pauses = Backoff(first=0.05, longest=1.0).pauses()

    assert list(islice(pauses, 7)) == [0.05, 0.1, 0.2, 0.4, 0.8, 1.0, 1.0]


def test_the_provider_is_left_alone_for_two_seconds_at_most() -> None:
    ceilings = [PROVIDER.ceiling(failures) for failures in range(1, 9)]

    assert ceilings == [0.25, 0.5, 1, 2, 2, 2, 2, 2]


def test_the_pause_scatters_up_to_the_ceiling() -> None:
    assert PROVIDER.scattered(4, None, uniform=longest) == 2


def test_full_jitter_may_wait_not_at_all() -> None:
    assert PROVIDER.scattered(4, None, uniform=shortest) == 0


def test_what_the_provider_asks_for_is_the_least() -> None:
    assert PROVIDER.scattered(1, 3.0, uniform=shortest) == 3.0
    assert PROVIDER.scattered(9, 3.0, uniform=longest) == 3.25


def test_being_asked_to_wait_for_nothing_still_scatters() -> None:
    assert PROVIDER.scattered(1, 0.0, uniform=longest) == 0.25


@given(
    first=st.floats(0.001, 10),
    longest=st.floats(0.001, 100),
    failures=st.integers(0, 10**9),
    dice=st.randoms(use_true_random=False),
)
def test_no_pause_is_ever_out_of_bounds(
    first: float, longest: float, failures: int, dice: Random
) -> None:
    pause = Backoff(first, longest).scattered(failures, None, uniform=dice.uniform)

    assert 0 <= pause <= longest


@given(failures=st.integers(1, 10**9))
def test_no_pause_is_shorter_than_the_one_before(failures: int) -> None:
    assert PROVIDER.ceiling(failures) <= PROVIDER.ceiling(failures + 1)


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


# ---------------------------------------------------------------- looking again and again


class Clock:
    """Moves only when somebody pauses."""

    def __init__(self) -> None:
        self.seconds = 100.0
        self.pauses: list[float] = []

    def monotonic(self) -> float:
        return self.seconds

    async def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.seconds += seconds


async def test_what_is_so_need_not_be_waited_for() -> None:
    clock = Clock()

    async def so() -> bool:
        return True

    assert await wait_until(so, 0, clock=clock)
    assert clock.pauses == []


async def test_it_looks_until_it_is_so() -> None:
    clock = Clock()

    async def so() -> bool:
        return clock.seconds > 100.3

    assert await wait_until(so, 5, clock=clock)
    assert clock.pauses == [0.05, 0.1, 0.2]


async def test_it_looks_no_longer_than_it_may() -> None:
    clock = Clock()

    async def so() -> bool:
        return False

    assert not await wait_until(so, 5, clock=clock)
    assert 5 < sum(clock.pauses) <= 5 + LOOKS.longest
    assert max(clock.pauses) == LOOKS.longest


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "2.5"}, 2.5),
        ({"retry-after": "-1"}, 0.0),
        ({"retry-after": "Thu, 01 Jan 1970 00:02:00 GMT"}, 20.0),
        ({"retry-after": "Thu, 01 Jan 1970 00:00:00 GMT"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"x-ratelimit-reset": "7"}, 7.0),
        ({"retry-after": "", "x-ratelimit-reset": "7"}, 7.0),
        ({"retry-after": "1", "x-ratelimit-reset": "7"}, 1.0),
    ],
)
def test_the_pause_that_is_asked_for_is_a_number_or_a_date(
    headers: dict[str, str], seconds: float | None
) -> None:
    assert asked_pause(headers, now=100.0) == seconds
