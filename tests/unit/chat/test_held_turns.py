"""The turns that a process holds, and which of them a cancel means."""

from __future__ import annotations

import contextlib

from services.chat.held_turns import EARLY_KEPT, HeldTurns
from shared.contract import CancelRequest
from shared.process.cancel import CancelToken


def test_a_turn_that_waits_is_stopped_by_its_name() -> None:
    held = HeldTurns(CancelToken)
    with held.hold("c1", "t1") as one, held.hold("c1", "t2") as two:
        held.cancel(CancelRequest("c1", "t2"))

        assert (one.cancelled, two.cancelled) == (False, True)


def test_without_a_name_the_turn_under_way_is_meant() -> None:
    held = HeldTurns(CancelToken)
    with held.hold("c1", "t1") as one, held.run("c1", "t1"), held.hold("c1", "t2") as two:
        held.cancel(CancelRequest("c1"))

        assert (one.cancelled, two.cancelled) == (True, False)


def test_without_a_name_nobody_is_stopped_who_only_waits() -> None:
    held = HeldTurns(CancelToken)
    with held.hold("c1", "t1") as one:
        held.cancel(CancelRequest("c1"))

        assert not one.cancelled


def test_another_conversation_s_turn_of_the_same_name_goes_on() -> None:
    held = HeldTurns(CancelToken)
    with held.hold("c1", "t1") as one, held.run("c1", "t1"):
        held.cancel(CancelRequest("c2", "t1"))
        held.cancel(CancelRequest("c2"))

        assert not one.cancelled


def test_how_much_was_heard_is_handed_on() -> None:
    held = HeldTurns(CancelToken)
    with held.hold("c1", "t1") as one:
        held.cancel(CancelRequest("c1", "t1", 1_500))

        assert one.heard_ms == 1_500


def test_a_turn_that_has_ended_is_not_stopped() -> None:
    held = HeldTurns(CancelToken)
    with held.hold("c1", "t1") as one, held.run("c1", "t1"):
        pass
    held.cancel(CancelRequest("c1", "t1"))
    held.cancel(CancelRequest("c1"))

    assert not one.cancelled


def test_those_that_wait_and_those_that_run_are_counted() -> None:
    held = HeldTurns(CancelToken)
    with held.hold("c1", "t1"), held.hold("c1", "t2"), held.run("c1", "t1"):
        assert (held.running, held.waiting) == (1, 1)

    assert (held.running, held.waiting) == (0, 0)


def test_a_repeat_of_a_turn_under_way_leaves_it_to_be_stopped() -> None:
    held = HeldTurns(CancelToken)
    with held.hold("c1", "t1") as one, held.run("c1", "t1"):
        with held.hold("c1", "t1"):
            pass
        held.cancel(CancelRequest("c1", "t1"))

        assert one.cancelled


def test_a_turn_that_ends_late_does_not_hide_the_next_one() -> None:
    held = HeldTurns(CancelToken)
    with contextlib.ExitStack() as first, held.hold("c1", "t2") as two:
        first.enter_context(held.run("c1", "t1"))
        with held.run("c1", "t2"):
            first.close()
            held.cancel(CancelRequest("c1"))

    assert two.cancelled


def test_a_cancel_that_comes_before_what_it_stops_is_remembered_once() -> None:
    held = HeldTurns(CancelToken)
    held.cancel(CancelRequest("c1", "t1", 700))
    with held.hold("c1", "t1") as one:
        assert (one.cancelled, one.heard_ms) == (True, 700)
    with held.hold("c1", "t1") as again:
        assert not again.cancelled


def test_so_many_early_cancels_are_remembered_and_no_more() -> None:
    held = HeldTurns(CancelToken)
    held.cancel(CancelRequest("c1", "t1"))
    for number in range(EARLY_KEPT):
        held.cancel(CancelRequest("c", f"other{number}"))
    with held.hold("c1", "t1") as one:
        assert not one.cancelled
