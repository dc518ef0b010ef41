"""When the next attempt to open a socket may be made."""

from __future__ import annotations

import pytest

from services.tts.together.attempts import REFUSED, Attempts
from shared.errors import ProviderAuth, ProviderOverloaded, ProviderRateLimited
from shared.retry import PROVIDER

NOW = 100.0


def longest(_: float, high: float) -> float:
    return high


def shortest(low: float, _: float) -> float:
    return low


def test_the_first_attempt_may_be_made_at_once() -> None:
    assert Attempts().may(0.0)


def test_pauses_grow_with_every_failure_to_two_seconds() -> None:
    attempts, pauses = Attempts(), []
    for _ in range(10):
        attempts.failed(ProviderOverloaded("full"), NOW, longest)
        pauses.append(round(attempts.not_before - NOW, 3))
    assert pauses[:5] == [0.25, 0.5, 1.0, 2.0, 2.0]
    assert pauses[-1] == PROVIDER.longest == 2.0
    assert not attempts.may(NOW)
    assert attempts.may(NOW + PROVIDER.longest)


def test_pauses_are_scattered() -> None:
    attempts = Attempts()
    attempts.failed(ProviderOverloaded("full"), NOW, shortest)
    assert attempts.not_before == NOW + PROVIDER.first / 2


def test_it_is_failing_until_one_succeeds() -> None:
    attempts = Attempts()
    assert not attempts.failing
    attempts.failed(ProviderOverloaded("full"), NOW, longest)
    assert attempts.failing
    attempts.opened()
    assert not attempts.failing


def test_a_socket_that_lasted_makes_the_pauses_short_again() -> None:
    attempts = Attempts()
    for _ in range(5):
        attempts.wasted(NOW, longest)
    attempts.lasted()
    attempts.wasted(NOW, longest)
    assert attempts.not_before == pytest.approx(NOW + PROVIDER.first)


def test_the_pause_that_is_asked_for_is_the_least() -> None:
    attempts = Attempts()
    attempts.failed(ProviderRateLimited("slow down", wait=3.0), NOW, shortest)
    assert attempts.not_before == NOW + 3.0


def test_what_was_refused_is_not_tried_again_in_a_hurry() -> None:
    attempts = Attempts()
    attempts.failed(ProviderAuth("no"), NOW, shortest)
    assert attempts.not_before == NOW + REFUSED.first / 2


def test_waiting_is_hopeless_where_the_pause_is_longer_or_the_answer_the_same() -> None:
    attempts = Attempts()
    assert attempts.hopeless(NOW, NOW + 60.0) is None
    busy = ProviderRateLimited("slow down", wait=3.0)
    attempts.failed(busy, NOW, shortest)
    assert attempts.hopeless(NOW, NOW + 2.0) is busy
    assert attempts.hopeless(NOW, NOW + 4.0) is None
    attempts.failed(ProviderRateLimited("come tomorrow", wait=3600.0), NOW, shortest)
    assert attempts.hopeless(NOW, NOW + 7200.0) is attempts.error
    refused = ProviderAuth("no")
    attempts.failed(refused, NOW, shortest)
    assert attempts.hopeless(NOW, NOW + 60.0) is refused


def test_a_session_takes_the_error_back() -> None:
    attempts = Attempts()
    attempts.failed(ProviderAuth("no"), NOW, shortest)
    attempts.opened()
    assert attempts.error is None
