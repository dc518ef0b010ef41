"""A timeline gives each event once, in order, whatever comes and however often."""

from __future__ import annotations

import random

import pytest

from shared.timeline import Timeline


def given(*events: tuple[int, int]) -> list[tuple[int, int]]:
    """What a timeline gives out for events (attempt, seq) in this order."""
    timeline: Timeline[tuple[int, int]] = Timeline()
    return [
        ready for attempt, seq in events for ready in timeline.add(attempt, seq, (attempt, seq))
    ]


def test_what_comes_in_order_is_given_out_at_once() -> None:
    assert given((1, 0), (1, 1), (1, 2)) == [(1, 0), (1, 1), (1, 2)]


def test_what_comes_early_waits_for_what_is_missing() -> None:
    timeline: Timeline[str] = Timeline()

    assert timeline.add(1, 2, "c") == []
    assert timeline.add(1, 1, "b") == []
    assert timeline.gap
    assert timeline.add(1, 0, "a") == ["a", "b", "c"]
    assert not timeline.gap


def test_a_repeat_is_dropped() -> None:
    assert given((1, 0), (1, 0), (1, 1), (1, 0), (1, 1)) == [(1, 0), (1, 1)]


def test_a_repeat_of_what_waits_is_given_out_once() -> None:
    assert given((1, 1), (1, 1), (1, 0)) == [(1, 0), (1, 1)]


def test_a_higher_attempt_starts_over() -> None:
    assert given((1, 0), (1, 1), (2, 0), (2, 1)) == [(1, 0), (1, 1), (2, 0), (2, 1)]


def test_a_lower_attempt_is_a_leftover() -> None:
    assert given((2, 0), (1, 0), (1, 1), (2, 1)) == [(2, 0), (2, 1)]


def test_a_higher_attempt_forgets_what_waited_of_the_lower() -> None:
    timeline: Timeline[str] = Timeline()
    timeline.add(1, 1, "waits")

    assert timeline.add(2, 0, "new") == ["new"]
    assert not timeline.gap
    assert timeline.add(1, 0, "too late") == []


def test_a_higher_attempt_that_comes_early_is_a_gap() -> None:
    timeline: Timeline[str] = Timeline()
    timeline.add(1, 0, "old")

    assert timeline.add(2, 1, "b") == []
    assert timeline.gap
    assert timeline.add(1, 1, "leftover") == []
    assert timeline.add(2, 0, "a") == ["a", "b"]


def test_attempts_may_be_skipped() -> None:
    assert given((1, 0), (5, 0), (4, 0), (5, 1)) == [(1, 0), (5, 0), (5, 1)]


@pytest.mark.parametrize("seed", range(50))
def test_any_order_with_any_repeats_gives_the_same(seed: int) -> None:
    dice = random.Random(seed)
    count = dice.randrange(1, 40)
    events = [(1, seq) for seq in range(count)]
    shuffled = [*events, *dice.choices(events, k=count)]
    dice.shuffle(shuffled)

    assert given(*shuffled) == events


@pytest.mark.parametrize("seed", range(50))
def test_any_order_of_several_attempts_ends_with_the_whole_of_the_last(seed: int) -> None:
    dice = random.Random(seed)
    lengths = {attempt: dice.randrange(1, 15) for attempt in (1, 2, 3)}
    events = [(attempt, seq) for attempt, count in lengths.items() for seq in range(count)]
    dice.shuffle(events)
    got = given(*events)

    assert [event for event in got if event[0] == 3] == [(3, seq) for seq in range(lengths[3])]
    assert got == sorted(got)
    assert len(set(got)) == len(got)
