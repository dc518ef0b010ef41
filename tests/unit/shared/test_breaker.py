"""A circuit breaker: few knock while nobody is there."""

from __future__ import annotations

import pytest

from shared.breaker import FAILURES, PROBE_SECONDS, Breaker, State


def longest(_low: float, high: float) -> float:
    return high


@pytest.fixture
def breaker() -> Breaker:
    return Breaker(uniform=longest)


def open_it(breaker: Breaker, now: float = 0.0) -> None:
    for _ in range(FAILURES):
        assert breaker.wait(now) == 0
        breaker.failed(now)
    assert breaker.state is State.OPEN


def test_a_healthy_endpoint_is_never_waited_for(breaker: Breaker) -> None:
    for moment in range(100):
        assert breaker.wait(moment) == 0
        breaker.succeeded()


def test_failures_among_successes_do_not_open_it(breaker: Breaker) -> None:
    for moment in range(100):
        assert breaker.wait(moment) == 0
        breaker.failed(moment) if moment % FAILURES else breaker.succeeded()

    assert breaker.state is State.CLOSED


def test_failures_in_a_row_open_it(breaker: Breaker) -> None:
    open_it(breaker)

    assert breaker.wait(0.1) == pytest.approx(0.15)


def test_one_probe_goes_and_the_others_wait(breaker: Breaker) -> None:
    open_it(breaker)

    assert breaker.wait(0.25) == 0
    assert [breaker.wait(0.3) > 0 for _ in range(1000)] == [True] * 1000


def test_a_probe_that_succeeds_lets_everybody_in(breaker: Breaker) -> None:
    open_it(breaker)
    breaker.wait(0.25)
    breaker.succeeded()

    assert [breaker.wait(0.3) for _ in range(10)] == [0] * 10


def test_pauses_between_probes_grow_to_two_seconds(breaker: Breaker) -> None:
    open_it(breaker)
    now, pauses = 0.0, []
    for _ in range(6):
        pause = breaker.wait(now)
        pauses.append(pause)
        now += pause
        assert breaker.wait(now) == 0
        breaker.failed(now)

    assert pauses == pytest.approx([0.25, 0.5, 1, 2, 2, 2])


def test_a_probe_that_is_never_heard_of_again_is_followed_by_another(breaker: Breaker) -> None:
    open_it(breaker)
    assert breaker.wait(0.25) == 0

    assert breaker.wait(0.25 + PROBE_SECONDS) == 0


def test_tries_that_began_before_it_opened_do_not_put_the_probe_off(breaker: Breaker) -> None:
    open_it(breaker)
    for _ in range(100):
        breaker.failed(0.1)

    assert breaker.wait(0.25) == 0


def test_ten_seconds_away_cost_few_knocks_however_many_wait(breaker: Breaker) -> None:
    open_it(breaker)
    knocks = 0
    for step in range(1000):
        now = step / 100
        for _ in range(50):
            if breaker.wait(now) == 0:
                knocks += 1
                breaker.failed(now)

    assert knocks <= 10


def test_a_probe_that_was_left_is_followed_by_another_at_once(breaker: Breaker) -> None:
    open_it(breaker)
    assert breaker.wait(0.25) == 0
    breaker.left(0.3)

    assert breaker.wait(0.3) == 0
    assert breaker.wait(0.3) > 0


def test_who_leaves_while_all_is_well_changes_nothing(breaker: Breaker) -> None:
    breaker.left(1.0)

    assert breaker.state is State.CLOSED
