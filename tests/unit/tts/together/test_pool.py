"""Who gets which slot, what is opened and what is closed: no network, and the test's own clock."""

from __future__ import annotations

import contextlib
import itertools
import math
from dataclasses import dataclass, field

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from services.tts.ports import Kind, VoiceParams
from services.tts.together.counts import Happened
from services.tts.together.end_of_audio import Patience
from services.tts.together.pool import SHORT_LIFE, TEND_EVERY, Limits, Pool, Waiter
from services.tts.together.profile import SINGLE_PROVEN_BY
from services.tts.together.socket import Sharing, Socket, State
from services.tts.together.turn import Next, SocketLost, Turn
from shared.errors import (
    ProviderAuth,
    ProviderBroken,
    ProviderError,
    ProviderOverloaded,
    ProviderRateLimited,
    ProviderStalled,
)
from tests.fakes_together import SESSION, Counts, FakeWire, audio, cancelled, done

NOW = 1000.0
MODEL, OTHER = "m", "other"


@dataclass
class Waiting:
    """A turn in the queue, and how it came out of it."""

    turn: Turn
    waiter: Waiter
    queued: contextlib.AbstractContextManager[Waiter]

    @property
    def socket(self) -> Socket | None:
        return self.waiter.outcome()


@dataclass
class Rig:
    """A pool whose sockets open when the test says so."""

    limits: Limits = field(default_factory=Limits)
    now: float = NOW
    connecting: list[Socket] = field(default_factory=list)
    counts: Counts = field(default_factory=Counts)
    queue: list[Waiting] = field(default_factory=list)
    stirred: int = 0

    def __post_init__(self) -> None:
        self.wires: dict[Socket, FakeWire] = {}
        self.contexts = itertools.count(1)
        self.pool = Pool(
            ahead=VoiceParams(model=MODEL, voice="v"),
            limits=self.limits,
            connect=self.connecting.append,
            stir=self.stir,
            new_context=lambda: f"c{next(self.contexts)}",
            uniform=lambda _, high: high,
            count=self.counts,
        )
        self.pool.tick(self.now)

    def stir(self, _at: float) -> None:
        self.stirred += 1

    def at(self, now: float) -> None:
        """What the keeper does when it wakes."""
        self.now = now
        for socket in list(self.pool.sockets):
            socket.look(now)
        self.pool.tick(now)

    def open(self, *, shared: bool = False, model: str = MODEL) -> Socket:
        """One more socket that was asked for opens."""
        socket = next(each for each in self.connecting if each.model == model)
        self.connecting.remove(socket)
        wire = self.wires[socket] = FakeWire(heard=self.now)
        assert socket.greet(SESSION, wire, self.now)
        if shared:
            socket.sharing = Sharing.SHARED
        self.pool.opened(socket)
        self.pool.tick(self.now)
        return socket

    def wait(self, model: str = MODEL, voice: str = "v") -> Waiting:
        params = VoiceParams(model=model, voice=voice)
        profile = self.pool.profiles.of(model)
        turn = Turn(params, profile, Patience(), wake=lambda: None, count=self.counts)
        queued = self.pool.queued(turn, self.now)
        self.queue.append(Waiting(turn, queued.__enter__(), queued))
        return self.queue[-1]

    def say(self, waiting: Waiting) -> Turn:
        """A whole piece is heard, of a provider that is known to end it with its `done`."""
        socket, turn = waiting.socket, waiting.turn
        assert socket is not None
        socket.profile.single[True] = SINGLE_PROVEN_BY
        turn.begin()
        turn.commit("One.", self.now)
        socket.receive(audio(turn.context), self.now)
        socket.receive(done(turn.context), self.now)
        while turn.take() is not None:
            pass
        assert turn.next(self.now) is Next.COMPLETE
        turn.end()
        return turn

    def ended(self, socket: Socket, reason: ProviderError | None = None) -> bool:
        """The connection under a socket has ended."""
        if socket in self.connecting:
            self.connecting.remove(socket)
        counts = self.pool.ended(socket, reason or SocketLost("gone"), self.now)
        self.pool.tick(self.now)
        return counts


# ---------------------------------------------------------------- opening


def test_one_socket_is_open_before_anybody_asks() -> None:
    rig = Rig()
    assert [socket.model for socket in rig.connecting] == [MODEL]
    rig.open()
    assert not rig.connecting


def test_and_one_more_while_all_are_in_use() -> None:
    rig = Rig(Limits(sockets=3))
    rig.open()
    rig.wait()
    rig.pool.tick(NOW)
    assert len(rig.connecting) == 1
    rig.open()
    assert not rig.connecting


def test_never_more_than_the_limit() -> None:
    rig = Rig(Limits(sockets=2))
    waiting = [rig.wait() for _ in range(5)]
    while rig.connecting:
        rig.open()
    assert len(rig.pool.sockets) == 2
    assert [each.waiter.waits for each in waiting] == [False, False, True, True, True]


def test_no_more_open_than_turns_wait_for() -> None:
    rig = Rig(Limits(sockets=9))
    rig.wait()
    rig.pool.tick(NOW)
    assert len(rig.pool.sockets) == 1
    rig.wait()
    assert len(rig.pool.sockets) == 2


# ---------------------------------------------------------------- who gets it


def test_who_came_first_is_first() -> None:
    rig = Rig(Limits(sockets=1))
    waiting = [rig.wait() for _ in range(3)]
    socket = rig.open()
    assert [each.socket for each in waiting] == [socket, None, None]
    waiting[0].turn.leave(NOW)
    rig.pool.tick(NOW)
    assert [each.waiter.waits for each in waiting] == [False, False, True]


def test_a_slot_that_is_free_is_had_at_once() -> None:
    rig = Rig()
    socket = rig.open()
    assert rig.wait().socket is socket


def test_who_gives_up_waiting_leaves_nothing_behind() -> None:
    rig = Rig(Limits(sockets=1))
    first, second = rig.wait(), rig.wait()
    first.queued.__exit__(None, None, None)
    socket = rig.open()
    assert rig.pool.waiters == [second.waiter]
    assert second.socket is socket


def test_turns_are_spread_over_the_sockets() -> None:
    rig = Rig(Limits(sockets=2))
    one = rig.open(shared=True)
    rig.wait()
    rig.pool.tick(NOW)
    two = rig.open(shared=True)
    for _ in range(3):
        rig.wait()
    assert (len(one.turns), len(two.turns)) == (2, 2)


def test_a_socket_in_doubt_is_for_those_who_find_no_other() -> None:
    rig = Rig(Limits(sockets=2))
    doubted = rig.open(shared=True)
    turns = [rig.wait().turn, rig.wait().turn]
    turns[0].doubt_slot()
    assert doubted.doubted
    waiting = rig.wait()
    assert waiting.waiter.waits  # another may open
    other = rig.open()
    assert waiting.socket is other
    assert rig.wait().socket is doubted  # none may


# ---------------------------------------------------------------- models


def test_a_model_opens_its_own_socket() -> None:
    rig = Rig()
    rig.open()
    waiting = rig.wait(OTHER)
    socket = rig.open(model=OTHER)
    assert waiting.socket is socket
    assert socket.params == VoiceParams(model=OTHER, voice="v")


def test_where_there_is_no_room_the_least_used_of_another_model_is_closed() -> None:
    rig = Rig(Limits(sockets=2))
    used = rig.open()
    rig.wait()
    rig.pool.tick(NOW)
    idle = rig.open()
    waiting = rig.wait(OTHER)
    assert (used.state, idle.state) == (State.OPEN, State.RETIRING)
    assert rig.wires[idle].closed == 1
    rig.ended(idle)
    rig.open(model=OTHER)
    assert waiting.socket is not None


def test_a_model_that_waits_is_not_locked_out_by_the_one_that_is_always_open() -> None:
    rig = Rig(Limits(sockets=1))
    idle = rig.open()
    waiting = rig.wait(OTHER)
    assert idle.state is State.RETIRING
    rig.ended(idle)
    assert [socket.model for socket in rig.connecting] == [OTHER]
    assert rig.open(model=OTHER) is waiting.socket


def test_a_socket_that_waits_for_its_last_turn_locks_out_no_model() -> None:
    rig = Rig(Limits(sockets=1))
    used = rig.open()
    rig.wait()
    waiting = rig.wait(OTHER)
    assert used.state is State.RETIRING
    rig.pool.tick(NOW)
    assert rig.open(model=OTHER) is waiting.socket
    assert len(rig.pool.sockets) == 2  # one of them is saying goodbye


def test_who_names_no_voice_is_never_spoken_by_a_voice_that_another_turn_has_named() -> None:
    rig = Rig()
    voiced = rig.open(shared=True)
    nameless = rig.wait(voice="")
    own = rig.open(shared=True)
    assert own.params.voice == ""
    assert nameless.socket is own
    assert rig.wait(voice="other").socket is voiced
    assert rig.wait(voice="").socket is own


def test_who_names_no_voice_gets_a_socket_also_where_all_that_may_be_there_are() -> None:
    rig = Rig(Limits(sockets=1))
    rig.open(shared=True)
    nameless = rig.wait(voice="")
    rig.pool.tick(NOW)
    assert rig.open() is nameless.socket


# ---------------------------------------------------------------- slots that are released


def test_a_turn_that_rests_releases_its_slot_to_the_one_that_waits() -> None:
    rig = Rig(Limits(sockets=1, contexts=1))
    rig.open()
    turn = rig.say(rig.wait())
    second = rig.wait()
    assert rig.pool.wanted(Kind(MODEL, voiced=True))
    assert turn.has_slot  # it is not quiet yet
    rig.at(rig.pool.due(NOW))
    assert not turn.has_slot
    rig.pool.sockets[0].receive(cancelled(turn.context), rig.now)
    rig.pool.tick(rig.now)
    assert second.socket is rig.pool.sockets[0]


def test_a_turn_that_speaks_keeps_its_slot() -> None:
    rig = Rig(Limits(sockets=1))
    rig.open()
    first = rig.wait()
    first.turn.begin()
    first.turn.commit("One.", NOW)
    rig.wait()
    rig.at(NOW + 1)
    assert first.turn.has_slot


def test_nobody_has_to_release_anything_while_a_socket_opens() -> None:
    rig = Rig(Limits(sockets=2, contexts=1))
    rig.open()
    turn = rig.say(rig.wait())
    rig.wait()
    rig.at(NOW + 1)
    assert not rig.pool.wanted(Kind(MODEL, voiced=True))
    assert turn.has_slot


# ---------------------------------------------------------------- waiting in vain


def test_waiting_for_a_slot_has_an_end() -> None:
    rig = Rig(Limits(sockets=1, slot_timeout=60.0))
    rig.open()
    rig.wait()
    waiting = rig.wait()
    rig.at(NOW + 59.0)
    assert waiting.waiter.waits
    rig.at(NOW + 60.0)
    with pytest.raises(ProviderOverloaded, match="60 s"):
        waiting.waiter.outcome()


def test_a_model_that_another_stands_in_for_is_waited_for_less() -> None:
    rig = Rig(Limits(slot_timeout=60.0, stand_in=OTHER, stand_in_after=3.0))
    waiting, stand_in = rig.wait(), rig.wait(OTHER)
    assert rig.pool.due(NOW) == NOW + 3.0
    rig.at(NOW + 3.0)
    with pytest.raises(ProviderOverloaded, match="3 s"):
        waiting.waiter.outcome()
    assert stand_in.waiter.waits


def test_behind_turns_that_are_heard_nobody_stands_in() -> None:
    rig = Rig(Limits(sockets=1, slot_timeout=60.0, stand_in=OTHER, stand_in_after=3.0))
    rig.open()
    rig.wait()
    waiting = rig.wait()
    rig.at(NOW + 3.0)
    assert waiting.waiter.waits
    rig.at(NOW + 60.0)
    with pytest.raises(ProviderOverloaded, match="60 s"):
        waiting.waiter.outcome()


def test_the_reason_is_that_of_the_last_attempt() -> None:
    rig = Rig(Limits(slot_timeout=3.0))
    waiting = rig.wait()
    rig.ended(rig.connecting[0], ProviderBroken("nobody listens"))
    assert waiting.waiter.waits
    rig.at(NOW + 3.0)
    with pytest.raises(ProviderBroken, match="nobody listens"):
        waiting.waiter.outcome()


def test_a_refusal_that_time_does_not_mend_is_told_at_once() -> None:
    rig = Rig()
    waiting = rig.wait()
    rig.ended(rig.connecting[0], ProviderAuth("no"))
    with pytest.raises(ProviderAuth):
        waiting.waiter.outcome()


@pytest.mark.parametrize(("wait", "waits"), [(1.0, True), (60.0, False)])
def test_a_pause_is_waited_for_where_there_is_time(wait: float, waits: bool) -> None:
    rig = Rig(Limits(slot_timeout=3.0))
    waiting = rig.wait()
    rig.ended(rig.connecting[0], ProviderRateLimited("slow down", wait=wait))
    assert waiting.waiter.waits is waits
    if waits:
        assert not rig.connecting
        assert rig.pool.due(NOW) == NOW + wait
        rig.at(NOW + wait)
        assert rig.open() is waiting.socket
    else:
        with pytest.raises(ProviderRateLimited) as caught:
            waiting.waiter.outcome()
        assert caught.value.wait == wait


def test_a_model_that_is_refused_harms_no_other() -> None:
    rig = Rig()
    rig.open()
    waiting = rig.wait(OTHER)
    rig.ended(rig.connecting[0], ProviderAuth("no"))
    with pytest.raises(ProviderAuth):
        waiting.waiter.outcome()
    assert rig.wait().socket is not None


# ---------------------------------------------------------------- a provider that is away


AWAY = [ProviderBroken("nobody listens"), ProviderOverloaded("503"), ProviderStalled("no session")]


@pytest.mark.parametrize("error", AWAY)
def test_ten_seconds_away_fail_nobody_and_cost_few_knocks(error: ProviderError) -> None:
    rig = Rig()
    waiting = [rig.wait() for _ in range(300)]
    knocks = 0
    while rig.now < NOW + 10:
        assert len(rig.connecting) <= 2
        for socket in list(rig.connecting):
            knocks += 1
            rig.ended(socket, error)
        rig.at(rig.pool.due(rig.now))
    assert all(each.waiter.waits for each in waiting)
    assert knocks <= 12
    while not rig.connecting:
        rig.at(rig.pool.due(rig.now))
    while rig.connecting:
        rig.open(shared=True)
    assert sum(not each.waiter.waits for each in waiting) >= 100


def test_a_model_that_fails_has_one_attempt_at_a_time() -> None:
    rig = Rig(Limits(sockets=9))
    for _ in range(9):
        rig.wait()
    assert len(rig.connecting) == 2
    for socket in list(rig.connecting):
        rig.ended(socket, ProviderOverloaded("503"))
    rig.at(rig.pool.due(rig.now))
    assert len(rig.connecting) == 1


def test_sockets_are_opened_the_faster_the_more_have_opened() -> None:
    rig = Rig(Limits(sockets=20))
    for _ in range(20):
        rig.wait()
    opening = []
    while rig.connecting:
        opening.append(len(rig.connecting))
        for _ in list(rig.connecting):
            rig.open()
    assert opening[:2] == [2, 4]
    assert len(rig.pool.sockets) == 20


# ---------------------------------------------------------------- where nobody is named


def unnamed(limits: Limits) -> Rig:
    """Its first frame has shown that the provider names nobody."""
    rig = Rig(limits)
    socket = rig.open()
    rig.wait()
    turn = rig.queue[-1].turn
    turn.begin()
    turn.commit("One.", rig.now)
    socket.receive(b"\1\2" * 50, rig.now)
    return rig


def open_all(rig: Rig) -> None:
    rig.at(rig.now)
    while rig.connecting:
        rig.open()


def test_where_nobody_is_named_there_are_as_many_sockets_as_turns() -> None:
    rig = unnamed(Limits(sockets=2, turns=10))
    waiting = [rig.wait() for _ in range(10)]
    open_all(rig)
    assert len(rig.pool.sockets) == 10
    assert [each.waiter.waits for each in waiting] == [False] * 9 + [True]
    assert all(len(socket.turns) == 1 for socket in rig.pool.sockets)


def test_who_waited_when_it_was_learned_is_served_too() -> None:
    rig = Rig(Limits(sockets=1, turns=10))
    waiting = [rig.wait() for _ in range(4)]
    socket = rig.open()
    assert [each.waiter.waits for each in waiting] == [False, True, True, True]
    waiting[0].turn.begin()
    waiting[0].turn.commit("One.", rig.now)
    before = rig.stirred
    socket.receive(b"\1\2" * 50, rig.now)
    assert rig.stirred > before
    open_all(rig)
    assert not any(each.waiter.waits for each in waiting)


def test_sockets_that_were_opened_for_many_turns_are_closed_when_there_are_few() -> None:
    rig = unnamed(Limits(sockets=2, turns=10, idle=30.0))
    waiting = [rig.wait() for _ in range(9)]
    open_all(rig)
    for each in waiting:
        each.turn.leave(rig.now)
    rig.at(NOW + 29)
    assert not [socket for socket in rig.pool.sockets if socket.ending]
    rig.at(NOW + 40)
    assert len([socket for socket in rig.pool.sockets if not socket.ending]) == 2
    assert rig.queue[0].turn.has_slot  # it still speaks


def test_a_model_that_names_its_turns_has_its_own_room_beside_one_that_does_not() -> None:
    rig = unnamed(Limits(sockets=2, turns=10))
    for _ in range(9):
        rig.wait()
    open_all(rig)
    waiting = rig.wait(OTHER)
    assert rig.open(model=OTHER) is waiting.socket


# ---------------------------------------------------------------- sockets that end


@pytest.mark.parametrize("served", [True, False])
@pytest.mark.parametrize("age", [0.0, 2 * SHORT_LIFE])
@pytest.mark.parametrize("ours", [True, False])
def test_a_socket_that_ended_without_a_word_slows_down_only_if_it_was_good_for_nothing(
    served: bool, age: float, ours: bool
) -> None:
    rig = Rig()
    socket = rig.open()
    socket.served = served
    if ours:
        socket.retire()
    rig.now += age
    assert not rig.ended(socket)
    assert rig.counts[Happened.LOST] == (not ours)
    assert bool(rig.connecting) is (ours or served or age > 0)


def test_a_refusal_after_the_session_is_one_all_the_same() -> None:
    rig = Rig()
    assert rig.ended(rig.open(), ProviderAuth("no"))
    assert rig.counts[Happened.CONNECT_FAILED] == 1
    assert isinstance(rig.pool.profiles.of(MODEL).attempts.error, ProviderAuth)
    assert not rig.connecting


def test_a_socket_that_is_lost_is_replaced_and_its_turns_know() -> None:
    rig = Rig()
    socket = rig.open()
    waiting = rig.wait()
    waiting.turn.begin()
    waiting.turn.commit("One.", NOW)
    socket.served = True
    rig.ended(socket)
    assert waiting.turn.next(NOW) is Next.MOVE
    assert len(rig.connecting) == 1


def test_a_socket_that_looks_open_and_is_dead_is_given_up() -> None:
    rig = Rig()
    socket = rig.open()
    turn = rig.wait().turn
    turn.begin()
    turn.commit("One.", NOW)
    rig.pool.unanswered(socket)
    rig.pool.unanswered(socket)
    assert rig.wires[socket].aborted == 1
    assert socket.state is State.LOST
    assert rig.counts[Happened.DEAD] == 1


def test_one_that_does_not_answer_while_no_audio_is_due_harms_nobody() -> None:
    rig = Rig()
    socket = rig.open()
    turn = rig.wait().turn
    rig.pool.unanswered(socket)
    assert not socket.ending
    turn.leave(NOW)
    rig.pool.unanswered(socket)
    assert socket.ending
    assert not rig.wires[socket].aborted
    assert rig.counts[Happened.DEAD] == 0


def test_a_session_takes_the_last_error_back() -> None:
    rig = Rig()
    rig.ended(rig.connecting[0], ProviderBroken("nobody listens"))
    rig.at(rig.pool.due(NOW))
    rig.open()
    assert rig.pool.profiles.of(MODEL).attempts.error is None
    assert rig.counts[Happened.CONNECTED] == 1


# ---------------------------------------------------------------- age


def test_old_sockets_retire_those_in_use_one_at_a_time() -> None:
    rig = Rig(Limits(sockets=2, max_age=60.0))
    sockets = [rig.open(shared=True)]
    rig.wait()
    rig.pool.tick(NOW)
    sockets.append(rig.open(shared=True))
    rig.wait()
    rig.at(NOW + 59)
    assert [each.state for each in sockets] == [State.OPEN, State.OPEN]
    rig.at(NOW + 65)
    assert [each.state for each in sockets] == [State.RETIRING, State.OPEN]
    rig.ended(sockets[0])
    rig.at(NOW + 70)
    assert sockets[1].state is State.RETIRING


def test_old_sockets_at_rest_retire_at_once() -> None:
    rig = Rig(Limits(sockets=2, max_age=60.0))
    first = rig.open()
    rig.wait().turn.leave(NOW)
    rig.at(NOW + 60)
    assert first.state is State.RETIRING
    assert rig.wires[first].closed == 1
    assert rig.counts[Happened.RETIRED] == 1


def test_a_socket_in_doubt_is_not_kept() -> None:
    rig = Rig(Limits(sockets=2))
    socket = rig.open(shared=True)
    turns = [rig.wait().turn, rig.wait().turn]
    turns[0].doubt_slot()
    rig.at(NOW + TEND_EVERY)
    assert socket.state is State.RETIRING


# ---------------------------------------------------------------- closed


def test_closing_tells_who_waits_and_who_speaks() -> None:
    rig = Rig(Limits(sockets=1))
    socket = rig.open()
    speaking, waiting = rig.wait(), rig.wait()
    rig.pool.close(ProviderBroken("closed"))
    assert socket.state is State.LOST
    with pytest.raises(ProviderBroken, match="closed"):
        speaking.turn.next(NOW)
    with pytest.raises(ProviderBroken, match="closed"):
        waiting.waiter.outcome()
    with pytest.raises(ProviderBroken, match="closed"):
        rig.wait().waiter.outcome()
    rig.ended(socket)
    rig.at(NOW + 100)
    assert not rig.connecting
    assert rig.counts[Happened.LOST] == 0


# ---------------------------------------------------------------- whatever happens


class Anything(RuleBasedStateMachine):
    """Turns come and go, sockets open and break, time passes."""

    @initialize(sockets=st.integers(1, 3))
    def begins(self, sockets: int) -> None:
        self.rig = Rig(Limits(sockets=sockets, max_age=30.0))
        self.turns: list[Waiting] = []

    @rule(model=st.sampled_from([MODEL, OTHER]))
    def comes(self, model: str) -> None:
        self.turns.append(self.rig.wait(model))

    @precondition(lambda self: self.turns)
    @rule(number=st.integers(0, 99))
    def leaves(self, number: int) -> None:
        waiting = self.turns.pop(number % len(self.turns))
        waiting.turn.leave(self.rig.now)
        waiting.queued.__exit__(None, None, None)

    @precondition(lambda self: self.rig.connecting)
    @rule(shared=st.booleans())
    def opens(self, shared: bool) -> None:
        self.rig.open(shared=shared, model=self.rig.connecting[0].model)

    @precondition(lambda self: self.rig.connecting)
    @rule(error=st.sampled_from([ProviderAuth("no"), ProviderOverloaded("full")]))
    def is_refused(self, error: ProviderError) -> None:
        self.rig.ended(self.rig.connecting[0], error)

    @precondition(lambda self: self.rig.wires)
    @rule(number=st.integers(0, 99))
    def breaks(self, number: int) -> None:
        socket = list(self.rig.wires)[number % len(self.rig.wires)]
        del self.rig.wires[socket]
        self.rig.ended(socket)

    @precondition(lambda self: self.rig.wires)
    @rule(number=st.integers(0, 99))
    def is_doubted(self, number: int) -> None:
        list(self.rig.wires)[number % len(self.rig.wires)].doubt()

    @rule()
    def time_passes(self) -> None:
        for socket in [each for each, wire in self.rig.wires.items() if wire.closed]:
            del self.rig.wires[socket]
            self.rig.ended(socket)
        due = self.rig.pool.due(self.rig.now)
        assert self.rig.now < due < math.inf
        self.rig.at(due)

    @invariant()
    def slots_are_never_given_twice(self) -> None:
        for socket in self.rig.pool.sockets:
            most = socket.profile.max_contexts if socket.sharing is Sharing.SHARED else 1
            assert len(socket.turns) <= most
            assert all(turn.context == context for context, turn in socket.turns.items())

    @invariant()
    def sockets_are_bounded(self) -> None:
        ending = [socket for socket in self.rig.pool.sockets if socket.ending]
        assert len(self.rig.pool.sockets) - len(ending) <= self.rig.limits.sockets
        assert all(socket.turns or self.rig.wires[socket].closed for socket in ending)

    @invariant()
    def nobody_waits_while_a_slot_is_free(self) -> None:
        self.rig.at(self.rig.now)
        for waiting in self.turns:
            if waiting.waiter.waits:
                model = waiting.waiter.kind.model
                mine = [each for each in self.rig.pool.sockets if each.model == model]
                assert not [each for each in mine if each.has_slot and not each.doubted]

    @invariant()
    def who_came_first_is_first(self) -> None:
        for model in (MODEL, OTHER):
            waits = [each.waiter.waits for each in self.turns if each.waiter.kind.model == model]
            assert waits == sorted(waits)

    def teardown(self) -> None:
        """Once sockets open and end as they should, nobody is left without an outcome."""
        for _ in range(50):
            for waiting in [each for each in self.turns if not each.waiter.waits]:
                self.leaves(self.turns.index(waiting))
            while self.rig.connecting:
                self.opens(shared=True)
            self.time_passes()
        assert not self.turns
        assert not self.rig.pool.waiters
        assert not [turn for socket in self.rig.pool.sockets for turn in socket.turns]


TestAnything = Anything.TestCase
