"""A timeline gives each event once, in order, whatever comes and however often."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from shared.timeline import Timeline


def given_out(*events: tuple[int, int]) -> list[tuple[int, int]]:
    """What a timeline gives out for events (attempt, seq) in this order."""
    timeline: Timeline[tuple[int, int]] = Timeline()
    return [
        ready for attempt, seq in events for ready in timeline.add(attempt, seq, (attempt, seq))
    ]


def test_what_comes_in_order_is_given_out_at_once() -> None:
    assert given_out((1, 0), (1, 1), (1, 2)) == [(1, 0), (1, 1), (1, 2)]


def test_what_comes_early_waits_for_what_is_missing() -> None:
    timeline: Timeline[str] = Timeline()

    assert timeline.add(1, 2, "c") == []
    assert timeline.add(1, 1, "b") == []
    assert timeline.gap
    assert timeline.add(1, 0, "a") == ["a", "b", "c"]
    assert not timeline.gap


def test_a_repeat_is_dropped() -> None:
    assert given_out((1, 0), (1, 0), (1, 1), (1, 0), (1, 1)) == [(1, 0), (1, 1)]


def test_a_repeat_of_what_waits_is_given_out_once() -> None:
    assert given_out((1, 1), (1, 1), (1, 0)) == [(1, 0), (1, 1)]


def test_a_higher_attempt_starts_over() -> None:
    assert given_out((1, 0), (1, 1), (2, 0), (2, 1)) == [(1, 0), (1, 1), (2, 0), (2, 1)]


def test_a_lower_attempt_is_a_leftover() -> None:
    assert given_out((2, 0), (1, 0), (1, 1), (2, 1)) == [(2, 0), (2, 1)]


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
    assert given_out((1, 0), (5, 0), (4, 0), (5, 1)) == [(1, 0), (5, 0), (5, 1)]


@given(st.data())
def test_any_order_with_any_repeats_gives_the_same(data: st.DataObject) -> None:
    events = [(1, seq) for seq in range(data.draw(st.integers(1, 40)))]
    repeats = data.draw(st.lists(st.sampled_from(events), max_size=40))
    shuffled = data.draw(st.permutations([*events, *repeats]))

    assert given_out(*shuffled) == events


@given(st.data())
def test_any_order_of_several_attempts_ends_with_the_whole_of_the_last(data: st.DataObject) -> None:
    lengths = data.draw(st.lists(st.integers(1, 15), min_size=1, max_size=4))
    events = [(attempt, seq) for attempt, length in enumerate(lengths) for seq in range(length)]
    got = given_out(*data.draw(st.permutations(events)))
    last = len(lengths) - 1

    assert [event for event in got if event[0] == last] == [(last, n) for n in range(lengths[last])]
    assert got == sorted(got)
    assert len(set(got)) == len(got)
