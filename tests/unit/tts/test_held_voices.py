from __future__ import annotations

from services.tts.held_voices import EARLY_KEPT, HeldVoices
from shared.contract import CancelRequest
from shared.process.cancel import CancelToken


def test_a_cancel_stops_the_voice_that_it_names_and_no_other() -> None:
    held = HeldVoices(CancelToken)
    with held.hold("c", "t1") as first, held.hold("c", "t2") as second, held.hold("d", "t1") as far:
        held.cancel(CancelRequest("c", "t1", heard_ms=700))
        assert (first.cancelled, first.heard_ms) == (True, 700)
        assert not second.cancelled
        assert not far.cancelled


def test_a_cancel_that_names_no_turn_stops_all_of_the_conversation() -> None:
    held = HeldVoices(CancelToken)
    with held.hold("c", "t1") as first, held.hold("c", "t2") as second, held.hold("d", "t3") as far:
        held.cancel(CancelRequest("c"))
        assert first.cancelled
        assert second.cancelled
        assert not far.cancelled


def test_a_repeat_of_a_voice_leaves_it_to_be_stopped() -> None:
    held = HeldVoices(CancelToken)
    with held.hold("c", "t1") as first:
        with held.hold("c", "t1"):
            assert held.running == 2
        held.cancel(CancelRequest("c", "t1"))
        assert first.cancelled


def test_what_is_not_spoken_here_cannot_be_stopped_here() -> None:
    held = HeldVoices(CancelToken)
    with held.hold("c", "t1") as over:
        pass
    held.cancel(CancelRequest("c", "t1"))
    held.cancel(CancelRequest("c"))
    assert not over.cancelled


def test_it_knows_how_many_are_spoken() -> None:
    held = HeldVoices(CancelToken)
    with held.hold("c", "t1"), held.hold("c", "t2"):
        assert held.running == 2
    assert held.running == 0


def test_a_cancel_that_comes_before_what_it_stops_is_remembered_once() -> None:
    held = HeldVoices(CancelToken)
    held.cancel(CancelRequest("c", "t1", 700))
    with held.hold("c", "t1") as one:
        assert (one.cancelled, one.heard_ms) == (True, 700)
    with held.hold("c", "t1") as again:
        assert not again.cancelled


def test_so_many_early_cancels_are_remembered_and_no_more() -> None:
    held = HeldVoices(CancelToken)
    held.cancel(CancelRequest("c", "t1"))
    for number in range(EARLY_KEPT):
        held.cancel(CancelRequest("c", f"other{number}"))
    with held.hold("c", "t1") as one:
        assert not one.cancelled
