"""Contexts that were cancelled, with a clock that only the test moves."""

from __future__ import annotations

import math

import pytest

from services.tts.together.leaving import FREED_AFTER, LATE_AUDIO, Leaving

NOW = 1000.0


def leaving(*contexts: str) -> Leaving:
    found = Leaving()
    for context in contexts:
        found.cancel(context, NOW)
    return found


def test_what_nobody_confirms_is_free_after_a_while() -> None:
    found = leaving("a", "b")
    assert found.due == NOW + FREED_AFTER
    counted = []
    for now in (NOW + FREED_AFTER - 0.1, NOW + FREED_AFTER):
        found.free_due(now)
        counted.append(len(found))
    assert counted == [2, 0]
    assert found.due == math.inf


def test_what_is_freed_is_freed_once() -> None:
    found = leaving("a", "b")
    assert found.free("a")
    assert not found.free("a")
    assert "a" not in found
    assert "b" in found


def test_the_oldest_is_the_one_that_left_first() -> None:
    assert leaving().oldest is None
    assert leaving("a", "b").oldest == "a"


def test_what_is_confirmed_is_free_soon_unless_audio_follows() -> None:
    found = leaving("a", "b")
    found.confirm("a", NOW)
    assert found.due == pytest.approx(NOW + LATE_AUDIO)
    found.heard(NOW + 0.05)
    found.free_due(NOW + LATE_AUDIO)
    assert "a" in found
    found.free_due(NOW + 0.05 + LATE_AUDIO)
    assert "a" not in found
    assert found.due == NOW + FREED_AFTER


def test_of_a_socket_that_is_lost_nothing_counts() -> None:
    found = leaving("a")
    found.clear()
    assert found.due == math.inf
    assert "a" not in found
