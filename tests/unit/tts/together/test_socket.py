"""Whose frame is it, and who is to blame: one socket, many turns, no network."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.tts.ports import VoiceParams
from services.tts.together.counts import Happened
from services.tts.together.end_of_audio import Patience
from services.tts.together.leaving import FREED_AFTER, LATE_AUDIO
from services.tts.together.liveness import LATE_MIN, REST, SILENT, Verdict
from services.tts.together.profile import Profile
from services.tts.together.socket import (
    MAX_FORMER,
    NEXT,
    Sharing,
    Socket,
    State,
    Step,
)
from services.tts.together.turn import Next, SocketLost, Turn
from shared.errors import (
    ProviderAuth,
    ProviderBroken,
    ProviderError,
    ProviderOverloaded,
    ProviderRateLimited,
    ProviderRefused,
)
from tests.fakes_together import (
    SAMPLES,
    SESSION,
    Counts,
    FakeWire,
    audio,
    cancelled,
    done,
    error,
    failed,
    garbled,
    words,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

PARAMS = VoiceParams(model="m", voice="v", word_timestamps=True)
NOW = 1000.0


@dataclass
class Rig:
    """One socket with its wire."""

    shared: bool = False
    profile: Profile = field(default_factory=Profile)
    wire: FakeWire = field(default_factory=lambda: FakeWire(heard=NOW))
    counts: Counts = field(default_factory=Counts)
    stirred: int = 0
    now: float = NOW

    def __post_init__(self) -> None:
        self.socket = Socket(PARAMS, self.profile, stir=self.stir, count=self.counts)
        self.contexts = 0
        assert self.socket.greet(SESSION, self.wire, NOW)
        if self.shared:
            turn = self.speaking()
            self.hear(audio(turn.context), done(turn.context))
            turn.leave(NOW)
            self.hear(cancelled(turn.context))
            self.wire.sent.clear()

    def stir(self, _at: float) -> None:
        self.stirred += 1

    def turn(self, params: VoiceParams = PARAMS) -> Turn:
        """On the socket, whether it has a slot or not."""
        turn = Turn(params, self.profile, Patience(), wake=lambda: None, count=self.counts)
        self.contexts += 1
        self.socket.admit(turn, f"c{self.contexts}")
        return turn

    def speaking(self, params: VoiceParams = PARAMS) -> Turn:
        turn = self.turn(params)
        turn.begin()
        turn.commit("One.", self.now)
        return turn

    def hear(self, *frames: str | bytes) -> None:
        for frame in frames:
            self.socket.receive(frame, self.now)


def heard(turn: Turn) -> bytes:
    parts = iter(turn.take, None)
    return b"".join(part for part in parts if isinstance(part, bytes))


def failure(turn: Turn, now: float = NOW) -> ProviderError | None:
    """Why it fails, now; None while it goes on."""
    try:
        found = turn.next(now)
    except ProviderError as exc:
        return exc
    assert found is Next.WAIT
    return None


def failures(turns: Sequence[Turn]) -> list[type[ProviderError] | None]:
    return [type(found) if (found := failure(turn)) else None for turn in turns]


# ---------------------------------------------------------------- opening


def opening() -> Socket:
    return Socket(PARAMS, Profile(), stir=lambda _: None, count=Counts())


def test_it_is_open_when_the_session_is_there() -> None:
    socket, wire = opening(), FakeWire()
    assert socket.opening
    assert not socket.has_slot
    assert not socket.greet(json.dumps({"type": "whatever"}), wire, NOW)
    assert not socket.open
    assert socket.greet(SESSION, wire, NOW)
    assert socket.open
    assert socket.has_slot
    assert socket.since == NOW


@pytest.mark.parametrize("frame", [failed(code="invalid_api_key"), error(code="invalid_api_key")])
def test_a_refusal_may_come_instead_of_the_session(frame: str) -> None:
    with pytest.raises(ProviderAuth):
        opening().greet(frame, FakeWire(), NOW)


def test_a_socket_that_the_connection_has_left_is_not_open() -> None:
    rig = Rig()
    rig.wire.is_open = False
    assert not rig.socket.open
    assert not rig.socket.has_slot


def test_what_is_not_in_the_table_is_a_bug() -> None:
    with pytest.raises(KeyError):
        opening().retire()
    with pytest.raises(KeyError):
        Rig().socket.greet(SESSION, FakeWire(), NOW)


def test_from_every_state_a_socket_may_be_lost_and_then_nothing_changes() -> None:
    assert {state for state, step in NEXT if step is Step.LOSE} == set(State)
    assert {after for (state, _), after in NEXT.items() if state is State.LOST} == {State.LOST}


# ---------------------------------------------------------------- slots


def test_one_turn_until_it_has_shown_that_it_names_them() -> None:
    rig = Rig()
    turn = rig.speaking()
    assert not rig.socket.has_slot
    rig.hear(audio(turn.context))
    assert rig.socket.sharing is Sharing.SHARED
    assert rig.socket.has_slot


def test_as_many_turns_as_the_provider_allows() -> None:
    rig = Rig(shared=True, profile=Profile(max_contexts=3))
    for _ in range(3):
        assert rig.socket.has_slot
        rig.speaking()
    assert not rig.socket.has_slot


@pytest.mark.parametrize("frame", [b"\1\2" * 50, audio(None), done(None)])
def test_who_names_nobody_serves_one_at_a_time_from_then_on(frame: str | bytes) -> None:
    rig = Rig()
    turn = rig.speaking()
    rig.hear(frame)
    assert rig.socket.sharing is Sharing.EXCLUSIVE
    assert rig.profile.unnamed
    rig.hear(audio(turn.context))
    assert not rig.socket.has_slot


def test_where_a_model_named_nobody_once_its_new_sockets_are_not_shared() -> None:
    rig = Rig(profile=Profile(unnamed=True))
    turn = rig.speaking()
    rig.hear(audio(turn.context))
    assert rig.socket.sharing is Sharing.UNKNOWN
    assert not rig.socket.has_slot


# ---------------------------------------------------------------- what is sent


def test_a_piece_is_appended_and_committed_in_its_context() -> None:
    rig = Rig()
    rig.speaking()
    assert rig.wire.sent == [
        {"type": "input_text_buffer.append", "text": "One.", "context_id": "c1"},
        {"type": "input_text_buffer.commit", "context_id": "c1"},
    ]


def test_a_turn_is_introduced_where_it_differs_from_its_socket() -> None:
    rig = Rig(shared=True)
    rig.speaking(VoiceParams(model="m", voice="v", word_timestamps=True, speed=2.0))
    assert rig.wire.of("tts_session.updated") == [
        {"type": "tts_session.updated", "session": {"speed": 2.0}, "context_id": "c2"}
    ]
    rig.speaking()
    assert len(rig.wire.of("tts_session.updated")) == 1


def test_where_contexts_may_be_ignored_the_turn_before_has_left_its_settings() -> None:
    rig = Rig()
    first = rig.speaking(VoiceParams(model="m", voice="other", word_timestamps=True))
    first.leave(NOW)
    rig.speaking()
    sessions = [frame["session"] for frame in rig.wire.of("tts_session.updated")]
    assert sessions == [{"voice": "other"}, {"voice": "v"}]


def test_on_a_connection_that_is_closed_nothing_is_asked() -> None:
    rig = Rig()
    turn = rig.turn()
    rig.wire.is_open = False
    with pytest.raises(SocketLost):
        rig.socket.submit(turn, "One.", NOW, first=True)
    assert not rig.wire.sent


# ---------------------------------------------------------------- whose it is


def test_audio_goes_to_the_turn_that_it_names() -> None:
    rig = Rig(shared=True)
    one, two = rig.speaking(), rig.speaking()
    rig.hear(audio(two.context, item="x"), audio(one.context, item="x", data=b"\3\4"))
    assert heard(one) == b"\3\4"
    assert heard(two) == SAMPLES


def test_what_names_nobody_is_of_the_only_turn() -> None:
    rig = Rig()
    turn = rig.speaking()
    rig.hear(b"\1\2", audio(None, item=None), done(None, item="tts_1"))
    assert heard(turn) == b"\1\2" + SAMPLES
    assert failure(turn) is None


def test_among_several_it_is_of_the_one_that_has_heard_the_item() -> None:
    rig = Rig(shared=True)
    one, two = rig.speaking(), rig.speaking()
    rig.hear(audio(one.context, item="a"), audio(two.context, item="b"))
    heard(one), heard(two)
    rig.hear(audio(None, item="b"), words(None, item="b"))
    assert heard(one) == b""
    assert heard(two) == SAMPLES
    assert failures([one, two]) == [None, None]


def test_audio_that_could_be_of_any_turn_breaks_all_of_them() -> None:
    rig = Rig(shared=True)
    one, two = rig.speaking(), rig.speaking()
    rig.hear(audio(None, item="new"))
    assert failures([one, two]) == [ProviderBroken, ProviderBroken]
    assert rig.counts[Happened.STALE_AUDIO] == 1
    assert rig.counts[Happened.UNATTRIBUTED] == 1


def test_a_done_that_could_be_anybodys_is_nobodys() -> None:
    rig = Rig(shared=True)
    turns = [rig.speaking(), rig.speaking()]
    rig.hear(done(None, item="new"))
    assert failures(turns) == [None, None]
    assert rig.counts[Happened.UNATTRIBUTED] == 1


def test_audio_of_a_turn_that_is_over_goes_nowhere() -> None:
    rig = Rig(shared=True)
    over, here = rig.speaking(), rig.speaking()
    over.leave(NOW)
    rig.hear(audio(over.context), done(over.context))
    assert heard(here) == b""
    assert failure(here) is None
    assert rig.counts[Happened.STALE_AUDIO] == 1


def test_a_socket_that_has_carried_many_turns_remembers_the_last_and_those_under_way() -> None:
    rig = Rig(shared=True)
    first = rig.speaking()
    for _ in range(2 * MAX_FORMER):
        over = rig.speaking()
        over.leave(NOW)
        rig.hear(cancelled(over.context))
    assert len(rig.socket._former) == MAX_FORMER

    rig.hear(audio(over.context))
    assert heard(first) == b""
    rig.hear(audio(first.context))
    assert heard(first) == SAMPLES


def test_what_nobody_knows_is_counted_and_nothing_else() -> None:
    rig = Rig()
    turn = rig.speaking()
    rig.hear(json.dumps({"type": "new.kind"}), json.dumps({"type": "session.updated"}))
    assert failure(turn) is None
    assert rig.counts[Happened.UNKNOWN_EVENT] == 2


def test_a_frame_that_is_no_json_ends_the_trust() -> None:
    rig = Rig()
    with pytest.raises(ProviderBroken):
        rig.hear("garbage")


# ---------------------------------------------------------------- who is to blame


def test_a_failure_is_of_the_turn_that_it_names() -> None:
    rig = Rig(shared=True)
    turns = [rig.speaking() for _ in range(3)]
    rig.hear(failed(turns[1].context, code="model_not_available"))
    assert failures(turns) == [None, ProviderRefused, None]
    assert rig.socket.sharing is Sharing.SHARED


def test_a_failure_of_a_turn_that_is_over_is_nobodys() -> None:
    rig = Rig(shared=True)
    over, here = rig.speaking(), rig.speaking()
    over.leave(NOW)
    rig.hear(failed(over.context))
    assert failure(here) is None


def test_a_failure_that_names_nobody_is_of_the_only_turn() -> None:
    rig = Rig()
    turn = rig.speaking()
    rig.hear(failed(None, code="model_not_available"))
    assert isinstance(failure(turn), ProviderRefused)


@pytest.mark.parametrize(
    ("frame", "expected"),
    [
        (failed(None, code="model_not_available"), ProviderRefused),
        (failed(None, code="rate_limit_exceeded"), ProviderRateLimited),
        (error(None, code="overloaded"), ProviderOverloaded),
        (garbled(None), ProviderBroken),
    ],
)
def test_a_failure_that_names_nobody_is_of_the_one_that_asked_last(
    frame: str, expected: type[ProviderError]
) -> None:
    rig = Rig(shared=True)
    turns = [rig.speaking() for _ in range(3)]
    rig.hear(audio(turns[2].context))  # speaking says nothing of who is meant
    rig.hear(frame)
    assert failures(turns[:2]) == [None, None]
    heard(turns[2])
    assert failures(turns[2:]) == [expected]
    assert rig.socket.sharing is Sharing.SHARED


@pytest.mark.parametrize("frame", [failed(None), error(None, code="overloaded"), garbled(None)])
def test_when_the_one_that_asked_last_has_left_nobody_else_is_blamed(frame: str) -> None:
    rig = Rig(shared=True)
    one, last = rig.speaking(), rig.speaking()
    last.leave(NOW)
    rig.hear(frame)
    assert failure(one) is None
    assert rig.counts[Happened.UNATTRIBUTED] == 1


def test_an_error_that_says_nothing_is_borne_while_the_voice_goes_on() -> None:
    rig = Rig(shared=True)
    one, two = rig.speaking(), rig.speaking()
    rig.hear(error(one.context), error(None))
    assert failures([one, two]) == [None, None]
    rig.hear(audio(one.context))
    assert heard(one) == SAMPLES
    assert str(failure(two, two.due)) == "No."


def test_an_error_that_says_something_is_a_failure() -> None:
    rig = Rig()
    turn = rig.speaking()
    rig.hear(error(turn.context, code="rate_limit_exceeded"))
    assert isinstance(failure(turn), ProviderRateLimited)


def test_a_known_event_that_makes_no_sense_fails_its_turn() -> None:
    rig = Rig(shared=True)
    one, two = rig.speaking(), rig.speaking()
    rig.hear(garbled(one.context))
    assert failures([one, two]) == [ProviderBroken, None]
    assert rig.counts[Happened.GARBLED_EVENT] == 1


def test_a_key_that_is_refused_at_once_is_of_no_use_to_anybody() -> None:
    rig = Rig()
    turn = rig.speaking()
    rig.hear(failed(turn.context, code="invalid_api_key"))
    assert isinstance(failure(turn), ProviderAuth)
    assert isinstance(rig.socket.refusal, ProviderAuth)
    assert rig.socket.state is State.LOST
    assert rig.wire.aborted == 1


def test_a_key_that_is_spent_lets_those_who_are_heard_come_to_their_end() -> None:
    rig = Rig(shared=True)
    one, two = rig.speaking(), rig.speaking()
    rig.hear(failed(None, code="insufficient_quota"))
    assert failures([one, two]) == [None, ProviderAuth]
    assert rig.socket.state is State.RETIRING
    assert not rig.wire.aborted


def test_a_refusal_before_anything_was_asked_is_that_of_the_socket() -> None:
    rig = Rig()
    rig.hear(failed(None, code="model_not_available"))
    assert isinstance(rig.socket.refusal, ProviderRefused)
    rig.hear(failed(None, code="invalid_api_key"))
    assert isinstance(rig.socket.refusal, ProviderAuth)


def test_after_it_has_served_a_failure_of_nobody_is_no_refusal() -> None:
    rig = Rig(shared=True)
    rig.hear(failed(None))
    assert rig.socket.refusal is None


def test_how_many_contexts_there_may_be_is_learned_from_the_one_too_many() -> None:
    rig = Rig(shared=True)
    turns = [rig.speaking() for _ in range(4)]
    rig.hear(failed(turns[-1].context, code="too_many_contexts"))
    assert turns[-1].next(NOW) is Next.MOVE
    assert rig.profile.max_contexts == 3
    assert failures(turns[:3]) == [None] * 3


# ---------------------------------------------------------------- contexts that end


def test_who_leaves_is_cancelled_if_anything_was_asked() -> None:
    rig = Rig(shared=True)
    silent, spoke = rig.turn(), rig.speaking()
    silent.leave(NOW)
    spoke.leave(NOW)
    spoke.leave(NOW)
    assert [frame["context_id"] for frame in rig.wire.of("context.cancel")] == [spoke.context]
    assert not rig.socket.turns


def test_a_context_counts_until_the_provider_has_freed_it() -> None:
    rig = Rig(shared=True, profile=Profile(max_contexts=1))
    turn = rig.speaking()
    turn.leave(NOW)
    assert not rig.socket.has_slot
    before = rig.stirred
    rig.hear(cancelled(turn.context))
    assert rig.socket.has_slot
    assert rig.stirred > before


def test_a_context_that_nobody_frees_does_not_count_for_ever() -> None:
    rig = Rig(shared=True, profile=Profile(max_contexts=1))
    rig.speaking().leave(NOW)
    assert rig.socket.due() == NOW + FREED_AFTER
    rig.socket.look(NOW + FREED_AFTER - 0.1)
    assert not rig.socket.has_slot
    rig.socket.look(NOW + FREED_AFTER)
    assert rig.socket.has_slot
    assert rig.socket.due() == NOW + REST


def test_a_cancellation_that_names_nobody_is_of_the_one_that_left_first() -> None:
    rig = Rig(shared=True, profile=Profile(max_contexts=2))
    turns = [rig.speaking(), rig.speaking()]
    for turn in turns:
        turn.leave(NOW)
    rig.hear(cancelled(None))
    assert rig.socket.has_slot
    rig.speaking()
    assert not rig.socket.has_slot


def test_a_turn_that_the_provider_cancels_fails() -> None:
    rig = Rig(shared=True)
    one, two = rig.speaking(), rig.speaking()
    rig.hear(cancelled(one.context))
    assert failures([one, two]) == [ProviderBroken, None]


def test_where_nobody_is_named_the_slot_is_free_when_no_late_audio_comes() -> None:
    rig = Rig()
    turn = rig.speaking()
    rig.hear(audio(None), done(None))
    rig.now = NOW + 5  # it is quiet, so that leaving takes nothing with it
    turn.leave(rig.now)
    rig.hear(cancelled(None))
    assert rig.socket.due() == pytest.approx(rig.now + LATE_AUDIO)
    rig.now += 0.9 * LATE_AUDIO
    rig.hear(audio(None))
    rig.socket.look(rig.now + 0.9 * LATE_AUDIO)
    assert not rig.socket.has_slot
    rig.socket.look(rig.now + LATE_AUDIO)
    assert rig.socket.has_slot


# ---------------------------------------------------------------- its end


def test_who_leaves_in_mid_audio_takes_the_socket_along_where_nobody_is_named() -> None:
    rig = Rig()
    turn = rig.speaking()
    rig.hear(audio(None))
    turn.leave(NOW)
    assert rig.socket.state is State.RETIRING
    assert rig.wire.closed == 1


def test_who_leaves_in_mid_audio_harms_nobody_where_everybody_is_named() -> None:
    rig = Rig(shared=True)
    turn = rig.speaking()
    rig.hear(audio(turn.context))
    turn.leave(NOW)
    assert rig.socket.state is State.OPEN


def test_a_retiring_socket_ends_with_its_last_turn() -> None:
    rig = Rig(shared=True)
    one, two = rig.speaking(), rig.speaking()
    rig.socket.retire()
    assert not rig.socket.has_slot
    rig.hear(audio(one.context))
    assert heard(one) == SAMPLES
    closed = []
    for turn in (one, two):
        turn.leave(NOW)
        closed.append(rig.wire.closed)
    assert closed == [0, 1]


def test_a_socket_at_rest_that_retires_ends_at_once() -> None:
    rig = Rig()
    rig.socket.retire()
    assert rig.wire.closed == 1


def test_a_piece_that_failed_ends_its_socket_if_it_was_alone_there() -> None:
    rig = Rig(shared=True)
    turn = rig.speaking()
    turn.doubt_slot()
    assert rig.socket.state is State.RETIRING
    turn.leave(NOW)
    assert rig.wire.closed == 1


def test_a_piece_that_failed_among_others_leaves_a_doubt() -> None:
    rig = Rig(shared=True)
    one, two = rig.speaking(), rig.speaking()
    one.doubt_slot()
    assert rig.socket.doubted
    assert rig.socket.has_slot
    one.leave(NOW)
    assert failure(two) is None
    assert not rig.wire.closed


def test_all_turns_learn_that_it_is_lost() -> None:
    rig = Rig(shared=True)
    turns = [rig.speaking(), rig.speaking()]
    rig.hear(audio(turns[0].context))
    rig.socket.lose(SocketLost("gone"))
    heard(turns[0])
    assert isinstance(failure(turns[0]), SocketLost)
    assert turns[1].next(NOW) is Next.MOVE
    for turn in turns:
        turn.leave(NOW)
    assert rig.socket.due() == math.inf
    assert not rig.wire.closed


# ---------------------------------------------------------------- does it live


def test_it_is_asked_when_it_is_silent_while_audio_is_due() -> None:
    rig = Rig(profile=Profile(slowest_pong=0.01))
    late = NOW + SILENT
    assert rig.socket.look(late) is Verdict.FINE
    assert rig.socket.due() == NOW + REST
    turn = rig.speaking()
    assert rig.socket.due() == NOW + SILENT
    assert rig.socket.look(late) is Verdict.ASK
    assert rig.socket.look(late + LATE_MIN) is Verdict.DEAD
    rig.wire.heard = late + 0.1
    assert rig.socket.look(late + LATE_MIN) is Verdict.ASK
    turn.leave(NOW)
    assert rig.socket.look(late + LATE_MIN + 0.5) is Verdict.FINE


def test_where_no_pong_was_ever_seen_it_is_never_dead() -> None:
    rig = Rig()
    rig.speaking()
    verdicts = {rig.socket.look(NOW + second) for second in range(100)}
    assert Verdict.DEAD not in verdicts


# ---------------------------------------------------------------- whatever comes


CONTEXTS = st.sampled_from(["c2", "c3", "c4", "nobody's", None])
ITEMS = st.sampled_from(["i", "j", None])
FRAMES = st.one_of(
    st.builds(audio, CONTEXTS, item=ITEMS),
    st.builds(done, CONTEXTS, item=ITEMS),
    st.builds(words, CONTEXTS, item=ITEMS),
    st.builds(failed, CONTEXTS, code=st.sampled_from(["x", "too_many_contexts", "overloaded"])),
    st.builds(error, CONTEXTS),
    st.builds(garbled, CONTEXTS),
    st.builds(cancelled, CONTEXTS),
    st.binary(max_size=9),
    st.integers().map(json.dumps),
)
HAPPENINGS = st.lists(st.one_of(FRAMES, st.integers(0, 2)), max_size=40)


@given(HAPPENINGS)
def test_no_frame_breaks_a_rule_of_ours(happenings: list[str | bytes | int]) -> None:
    """A number is the turn that leaves; where each is named, a frame of one is no other's."""
    rig = Rig(shared=True)
    turns = [rig.speaking() for _ in range(3)]
    for happening in happenings:
        if isinstance(happening, int):
            turns[happening].leave(rig.now)
        else:
            rig.hear(happening)
        rig.now += 0.01
        rig.socket.look(rig.now)
        assert set(rig.socket.turns.values()) <= set(turns)
    for turn in turns:
        turn.leave(rig.now)
    assert not rig.socket.turns
    rig.socket.look(rig.now + FREED_AFTER)
    assert rig.socket.due() > rig.now + FREED_AFTER


@given(st.lists(FRAMES, max_size=40))
def test_a_turn_hears_all_of_its_audio_whatever_is_said_of_others(
    frames: list[str | bytes],
) -> None:
    rig = Rig(shared=True)
    turn, _ = rig.speaking(), rig.speaking()
    got = b""
    for frame in frames:
        if isinstance(frame, bytes) or "c3" not in frame:
            continue
        rig.hear(frame)
        if rig.socket.state is not State.LOST:
            rig.hear(audio(turn.context, data=b"\5\6"))
            got += heard(turn)
    assert got == b"\5\6" * (len(got) // 2)
    assert failure(turn) is None


# ---------------------------------------------------------------- looks


def test_a_look_is_asked_for_by_the_time_at_which_something_is_due() -> None:
    asked: list[float] = []
    socket = Socket(PARAMS, Profile(), stir=asked.append, count=Counts())
    socket.greet(SESSION, FakeWire(heard=NOW), NOW)
    turn = Turn(PARAMS, Profile(), Patience(), wake=lambda: None, count=Counts())
    socket.admit(turn, "c")
    turn.begin()
    turn.commit("One.", NOW)
    assert asked == [socket.due()]
    assert NOW < asked[0] < NOW + 1.0
