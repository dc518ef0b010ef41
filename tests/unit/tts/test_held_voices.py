from __future__ import annotations

from services.tts.held_voices import HeldVoices
from shared.contract import CancelRequest
from shared.process.cancel import CancelToken


def test_a_cancel_stops_the_voice_that_it_names_and_no_other() -> None:
    held = HeldVoices(CancelToken)
    with held.hold("c", "t1") as first, held.hold("c", "t2") as second, held.hold("d", "t1") as far:
        held.cancel(CancelRequest("c", "t1", heard_ms=700))
        assert (first.cancelled, first.heard_ms) == (True, 700)
        assert not second.cancelled
        assert not far.cancelled


def test_a_cancel_that_names_no_turn_stops_the_newest_of_the_conversation() -> None:
    held = HeldVoices(CancelToken)
    with held.hold("c", "t1") as first, held.hold("c", "t2") as second, held.hold("d", "t3") as far:
        held.cancel(CancelRequest("c"))
        assert second.cancelled
        assert not first.cancelled
        assert not far.cancelled


def test_what_is_not_spoken_here_cannot_be_stopped_here() -> None:
    held = HeldVoices(CancelToken)
    with held.hold("c", "t1") as over:
        pass
    held.cancel(CancelRequest("c", "t1"))
    held.cancel(CancelRequest("c"))
    held.cancel_all("c")
    assert not over.cancelled


def test_all_voices_of_a_conversation_are_stopped_at_once() -> None:
    held = HeldVoices(CancelToken)
    with held.hold("c", "t1") as first, held.hold("c", "t2") as second, held.hold("d", "t1") as far:
        held.cancel_all("c")
        assert first.cancelled
        assert second.cancelled
        assert not far.cancelled


def test_it_knows_how_many_are_spoken() -> None:
    held = HeldVoices(CancelToken)
    with held.hold("c", "t1"), held.hold("c", "t2"):
        assert held.running == 2
    assert held.running == 0
