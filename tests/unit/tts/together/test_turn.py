"""A turn on a slot that goes nowhere, with a clock that only the test moves."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from services.tts.audio import pcm
from services.tts.ports import SpokenWord, VoiceParams
from services.tts.together.counts import Happened
from services.tts.together.end_of_audio import Patience
from services.tts.together.faults import TooManyContexts
from services.tts.together.profile import Profile
from services.tts.together.protocol import Audio, ItemDone, Words
from services.tts.together.turn import MAX_MOVES, Next, Overflow, SocketLost, State, Turn
from shared.errors import ProviderBroken, ProviderError, ProviderRefused, ProviderStalled
from tests.fakes_together import SAMPLES, Counts

if TYPE_CHECKING:
    from collections.abc import Callable

PATIENCE = Patience()
QUIET = PATIENCE.quiet_min
NOW = 1000.0


@dataclass
class FakeSlot:
    """Implements Slot."""

    lost: bool = False
    submitted: list[tuple[str, bool]] = field(default_factory=list)
    removed: list[tuple[bool, bool]] = field(default_factory=list)
    doubts: int = 0

    def submit(self, turn: Turn, text: str, now: float, *, first: bool) -> None:
        if self.lost:
            raise SocketLost("gone")
        self.submitted.append((text, first))

    def remove(self, turn: Turn, now: float, *, spoke: bool, settled: bool) -> None:
        self.removed.append((spoke, settled))

    def doubt(self) -> None:
        self.doubts += 1


@dataclass
class Stage:
    """A turn with its slot; what wakes its consumer is counted."""

    max_waiting: int = 1_000_000
    words: bool = False
    counts: Counts = field(default_factory=Counts)
    profile: Profile = field(default_factory=Profile)
    slot: FakeSlot = field(default_factory=FakeSlot)
    woken: int = 0

    def __post_init__(self) -> None:
        self.turn = Turn(
            VoiceParams(model="m", voice="v", word_timestamps=self.words),
            self.profile,
            PATIENCE,
            wake=self.wake,
            count=self.counts,
            max_waiting=self.max_waiting,
        )
        self.turn.attach(self.slot, "c1")

    def wake(self) -> None:
        self.woken += 1

    def say(self, text: str = "One.", now: float = NOW) -> Turn:
        self.turn.begin()
        self.turn.commit(text, now)
        return self.turn

    def said(self, text: str = "One.", now: float = NOW) -> Turn:
        """A piece that was heard to its end, 0.01 s after its commit."""
        turn = self.say(text, now)
        turn.hear(audio(), now + 0.01)
        turn.item_done(ItemDone("c1", "i"), now + 0.01)
        while turn.take() is not None:
            pass
        assert turn.next(now + 0.01 + QUIET) is Next.COMPLETE
        turn.end()
        return turn


def audio(data: bytes = SAMPLES, item: str | None = "i") -> Audio:
    return Audio("c1", item, data)


# ---------------------------------------------------------------- a piece


def test_a_piece_is_asked_for_heard_and_complete() -> None:
    stage = Stage()
    turn = stage.say()
    assert stage.slot.submitted == [("One.", True)]
    assert turn.take() is None
    assert turn.next(NOW + 0.01) is Next.WAIT
    assert turn.due == NOW + PATIENCE.first_audio
    turn.hear(audio(), NOW + 0.01)
    assert turn.take() == SAMPLES
    turn.item_done(ItemDone("c1", "i"), NOW + 0.01)
    assert turn.next(NOW + 0.05) is Next.WAIT
    assert turn.due == pytest.approx(NOW + 0.01 + QUIET)
    assert turn.next(turn.due) is Next.COMPLETE


def test_only_the_first_piece_of_a_context_introduces_it() -> None:
    stage = Stage()
    stage.said("One.")
    stage.said("Two.", NOW + 1)
    assert stage.slot.submitted == [("One.", True), ("Two.", False)]


def test_whatever_comes_wakes_the_consumer() -> None:
    stage = Stage(words=True)
    turn = stage.say()
    happenings: list[Callable[[], None]] = [
        lambda: turn.hear(audio(), NOW),
        lambda: turn.words(Words("c1", "i", ["w"], [0.0], [0.1]), NOW),
        lambda: turn.item_done(ItemDone("c1", "i"), NOW),
        lambda: turn.doubt(ProviderBroken("?")),
        lambda: turn.fail(ProviderBroken("!")),
        lambda: turn.attach(stage.slot, "c2"),
    ]
    for happen in happenings:
        before = stage.woken
        happen()
        assert stage.woken > before


def test_words_come_with_the_audio_where_they_were_asked_for() -> None:
    for asked in (True, False):
        turn = Stage(words=asked).say()
        turn.hear(audio(), NOW)
        turn.words(Words("c1", "i", ["w"], [0.0], [0.1]), NOW)
        assert turn.take() == SAMPLES
        assert turn.take() == (SpokenWord("w", 0.0, 0.1) if asked else None)


def test_words_that_come_too_late_are_counted() -> None:
    stage = Stage(words=True)
    stage.said()
    turn = stage.say("Two.", NOW + 1)
    turn.words(Words("c1", "i", ["w"], [0.0], [0.1]), NOW + 1)
    assert turn.take() is None
    assert stage.counts[Happened.WORDS_LOST] == 1


def test_audio_before_the_first_piece_is_not_ours() -> None:
    stage = Stage()
    stage.turn.hear(audio(), NOW)
    assert stage.turn.take() is None
    assert stage.counts[Happened.STALE_AUDIO] == 1


def test_a_header_of_other_samples_fails_the_piece() -> None:
    turn = Stage().say()
    header = bytearray(pcm.wav_header(100))
    header[24:28] = (8000).to_bytes(4, "little")  # the sample rate
    turn.hear(audio(bytes(header)), NOW)
    with pytest.raises(ProviderBroken, match="not the audio"):
        turn.next(NOW)


def test_audio_that_nobody_takes_ends_the_turn_by_name() -> None:
    stage = Stage(max_waiting=3 * len(SAMPLES))
    turn = stage.say()
    for _ in range(4):
        turn.hear(audio(), NOW)
    assert turn.take() is None
    with pytest.raises(Overflow):
        turn.next(NOW)
    assert stage.slot.removed == [(True, False)]


# ---------------------------------------------------------------- what goes wrong


def test_the_first_reason_counts() -> None:
    turn = Stage().say()
    turn.fail(ProviderRefused("first"))
    turn.fail(ProviderBroken("second"))
    with pytest.raises(ProviderRefused, match="first"):
        turn.next(NOW)


def test_what_was_heard_is_taken_before_the_error_is() -> None:
    turn = Stage().say()
    turn.hear(audio(), NOW)
    turn.fail(ProviderBroken("then this"))
    assert turn.take() == SAMPLES
    with pytest.raises(ProviderBroken):
        turn.next(NOW)


def test_an_error_that_meant_nothing_is_the_reason_if_the_voice_stops() -> None:
    turn = Stage().say()
    turn.doubt(ProviderBroken("perhaps"))
    assert turn.next(NOW + 0.1) is Next.WAIT
    with pytest.raises(ProviderBroken, match="perhaps"):
        turn.next(turn.due)


def test_no_audio_in_time_is_a_stall() -> None:
    turn = Stage().say()
    with pytest.raises(ProviderStalled):
        turn.next(turn.due)


@pytest.mark.parametrize("error", [SocketLost("gone"), TooManyContexts("full")])
def test_nothing_heard_yet_it_goes_elsewhere_and_says_the_piece_again(error: ProviderError) -> None:
    stage = Stage()
    turn = stage.say()
    turn.fail(error)
    assert turn.next(NOW) is Next.MOVE
    turn.move(NOW)
    assert not turn.has_slot
    other = FakeSlot()
    turn.attach(other, "c2")
    turn.commit_again(NOW)
    assert other.submitted == [("One.", True)]
    assert turn.context == "c2"
    assert turn.next(NOW) is Next.WAIT
    assert stage.counts[Happened.MOVED] == 1


def test_it_does_not_go_elsewhere_for_ever() -> None:
    turn = Stage().say()
    for _ in range(MAX_MOVES):
        turn.fail(SocketLost("gone"))
        assert turn.next(NOW) is Next.MOVE
        turn.move(NOW)
        turn.attach(FakeSlot(), "c2")
        turn.commit_again(NOW)
    turn.fail(SocketLost("gone"))
    with pytest.raises(SocketLost):
        turn.next(NOW)


@pytest.mark.parametrize("taken", [True, False])
def test_once_something_was_heard_it_stays_where_it_is(taken: bool) -> None:
    turn = Stage().say()
    turn.hear(audio(), NOW)
    if taken:
        turn.take()
    turn.fail(SocketLost("gone"))
    while turn.take() is not None:
        pass
    with pytest.raises(SocketLost):
        turn.next(NOW)


def test_other_errors_would_be_the_same_elsewhere() -> None:
    turn = Stage().say()
    turn.fail(ProviderRefused("no such voice"))
    with pytest.raises(ProviderRefused):
        turn.next(NOW)


def test_a_socket_that_is_lost_after_the_last_audio_harms_nobody() -> None:
    stage = Stage()
    turn = stage.say()
    turn.hear(audio(), NOW)
    turn.item_done(ItemDone("c1", "i"), NOW)
    turn.take()
    turn.fail(SocketLost("gone"))
    assert turn.next(NOW) is Next.COMPLETE


def test_unless_more_audio_may_have_been_under_way() -> None:
    stage = Stage()
    stage.profile.several = True
    turn = stage.say()
    turn.hear(audio(), NOW)
    turn.item_done(ItemDone("c1", "i"), NOW)
    turn.take()
    turn.fail(SocketLost("gone"))
    with pytest.raises(SocketLost):
        turn.next(NOW)


def test_a_socket_that_is_gone_shows_in_what_is_heard() -> None:
    stage = Stage(slot=FakeSlot(lost=True))
    turn = stage.say()
    assert turn.next(NOW) is Next.MOVE


def test_a_failed_piece_casts_doubt_on_its_socket() -> None:
    stage = Stage()
    stage.say().doubt_slot()
    assert stage.slot.doubts == 1
    stage.turn.leave(NOW)
    stage.turn.doubt_slot()
    assert stage.slot.doubts == 1


# ---------------------------------------------------------------- its slot


def test_between_two_pieces_others_may_have_its_slot_once_it_is_quiet() -> None:
    stage = Stage()
    assert stage.turn.releasable_at == math.inf  # it has not spoken yet
    turn = stage.said()
    assert turn.releasable_at == pytest.approx(NOW + 0.01 + QUIET)
    turn.release(NOW + 1)
    assert not turn.has_slot
    assert stage.slot.removed == [(True, True)]
    assert stage.counts[Happened.RELEASED] == 1
    turn.begin()
    assert turn.releasable_at == math.inf


def test_while_it_speaks_nobody_has_its_slot() -> None:
    turn = Stage().say()
    assert turn.expecting
    assert turn.releasable_at == math.inf


def test_after_a_release_it_is_introduced_anew() -> None:
    stage = Stage()
    stage.said().release(NOW + 1)
    other = FakeSlot()
    stage.turn.attach(other, "c2")
    stage.say("Two.", NOW + 2)
    assert other.submitted == [("Two.", True)]


@pytest.mark.parametrize("spoke", [True, False])
def test_who_leaves_says_whether_there_is_anything_to_stop(spoke: bool) -> None:
    stage = Stage()
    if spoke:
        stage.say()
    stage.turn.leave(NOW)
    stage.turn.leave(NOW)
    assert stage.slot.removed == [(spoke, not spoke)]
    assert stage.turn.state is State.OVER


def test_a_turn_that_is_over_says_so() -> None:
    stage = Stage()
    stage.turn.leave(NOW)
    with pytest.raises(ProviderBroken, match="over"):
        stage.turn.begin()


def test_two_pieces_at_once_are_a_bug() -> None:
    turn = Stage().say()
    with pytest.raises(KeyError):
        turn.begin()


def test_a_full_socket_is_told_by_the_error() -> None:
    turn = Stage().say()
    assert not turn.refused
    turn.fail(TooManyContexts("full"))
    assert turn.refused


def test_an_item_is_known_once_it_was_heard() -> None:
    turn = Stage().say()
    assert not turn.knows("i")
    assert not turn.knows(None)
    turn.hear(audio(), NOW)
    assert turn.knows("i")
