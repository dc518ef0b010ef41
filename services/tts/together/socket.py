"""One socket to the provider's speech endpoint: who is on it, and what each frame means to whom.

No I/O: frames and the time are given, and what is to be sent goes to the `Wire` underneath.
"""

from __future__ import annotations

import enum
import math
from typing import TYPE_CHECKING, Final, Protocol

from services.tts.together import protocol
from services.tts.together.counts import Happened
from services.tts.together.faults import TooManyContexts, as_error
from services.tts.together.leaving import Leaving
from services.tts.together.liveness import Liveness, Verdict
from services.tts.together.turn import SocketLost
from shared.errors import (
    ProviderAuth,
    ProviderBroken,
    ProviderError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from services.tts.ports import Kind, VoiceParams
    from services.tts.together.counts import Count
    from services.tts.together.profile import Profile
    from services.tts.together.turn import Turn


MAX_FORMER: Final = 1_000  # far more than the contexts that a provider allows at once


class Wire(Protocol):
    """The connection under a socket."""

    @property
    def is_open(self) -> bool: ...

    @property
    def heard(self) -> float:
        """When the last byte came."""
        ...

    def send(self, *frames: bytes) -> None:
        """At once or not at all: there is no waiting that a cancelled consumer could interrupt."""

    def close(self) -> None:
        """Ends it with a farewell."""

    def abort(self) -> None:
        """Ends it without: the other side does not answer, or there is no time."""


class State(enum.Enum):
    OPENING = enum.auto()  # no session yet
    OPEN = enum.auto()
    DOUBTED = enum.auto()  # a piece failed on it: for turns that find no other
    RETIRING = enum.auto()  # takes no more turns, ends with its last one: by our will
    LOST = enum.auto()  # of no use any more, as all turns on it know


class Step(enum.Enum):
    GREET = enum.auto()
    DOUBT = enum.auto()
    RETIRE = enum.auto()
    LOSE = enum.auto()


NEXT = {  # everything that may happen to a socket
    (State.OPENING, Step.GREET): State.OPEN,
    (State.OPENING, Step.LOSE): State.LOST,
    (State.OPEN, Step.DOUBT): State.DOUBTED,
    (State.OPEN, Step.RETIRE): State.RETIRING,
    (State.OPEN, Step.LOSE): State.LOST,
    (State.DOUBTED, Step.DOUBT): State.DOUBTED,
    (State.DOUBTED, Step.RETIRE): State.RETIRING,
    (State.DOUBTED, Step.LOSE): State.LOST,
    (State.RETIRING, Step.DOUBT): State.RETIRING,
    (State.RETIRING, Step.RETIRE): State.RETIRING,
    (State.RETIRING, Step.LOSE): State.LOST,
    (State.LOST, Step.DOUBT): State.LOST,
    (State.LOST, Step.LOSE): State.LOST,
}

NOW = -math.inf  # for a stir


class Sharing(enum.Enum):
    """Whether a socket tells its turns apart."""

    UNKNOWN = enum.auto()
    SHARED = enum.auto()
    EXCLUSIVE = enum.auto()


class Socket:
    """The turns on it, and the contexts that still count. Is the slot of each of its turns.

    `stir` is called with the time of what is due; NOW when a slot may be free.
    """

    def __init__(
        self,
        params: VoiceParams,
        profile: Profile,
        *,
        stir: Callable[[float], None],
        count: Count,
    ) -> None:
        self.params = params  # of every context that is not told otherwise
        self.profile = profile
        self.state = State.OPENING
        self.sharing = Sharing.UNKNOWN
        self.turns: dict[str, Turn] = {}
        self.served = False  # audio came on it
        self.session_model: str | None = None  # as the provider has it; None where it does not say
        self.refusal: ProviderError | None = None  # came when nobody had asked for anything
        self.since = self.idle_since = math.inf  # opened; and when its last turn left
        self._wire: Wire | None = None
        self._stir = stir
        self._count = count
        self._liveness = Liveness()
        self._asked_last = ""  # the context in which text was committed most recently
        self._latest = params  # the last turn's, where contexts may not be told apart
        self._leaving = Leaving()
        self._former: dict[str, None] = {}  # contexts that are or were, in their order

    @property
    def model(self) -> str:
        return self.params.model

    @property
    def kind(self) -> Kind:
        return self.params.kind

    @property
    def is_of_another_model(self) -> bool:
        """True when the provider says that its session is of another model than was asked for."""
        return self.session_model not in {None, self.model}

    # ------------------------------------------------------------ its life

    @property
    def opening(self) -> bool:
        return self.state is State.OPENING

    @property
    def open(self) -> bool:
        state = self.state
        if state is State.OPENING or state is State.LOST or self._wire is None:
            return False
        return self._wire.is_open

    @property
    def ending(self) -> bool:
        """True when it takes no turn any more and never will."""
        return self.state is State.RETIRING or self.state is State.LOST

    @property
    def doubted(self) -> bool:
        return self.state is State.DOUBTED

    def greet(self, frame: str | bytes, wire: Wire, now: float) -> bool:
        """True when this frame is the session, and the socket open.

        Raises:
            ProviderError: a refusal came instead.
        """
        match protocol.decode(frame):
            case protocol.SessionCreated() as session:
                self._step(Step.GREET)
                self.session_model = session.model
                self._wire = wire
                self.since = self.idle_since = now
                return True
            case protocol.Failed(error=fault) | protocol.ProtocolError(error=fault):
                raise as_error(fault)
            case _:
                return False

    def doubt(self) -> None:
        """A piece failed here: with its last turn it ends, and none comes that can go elsewhere."""
        self._step(Step.DOUBT)
        if len(self.turns) == 1 and self.state is State.DOUBTED:
            self.retire()

    def retire(self) -> None:
        """Takes no more turns, and ends when the last one has left."""
        if self.state is not State.RETIRING:
            self._count(Happened.RETIRED)
        self._step(Step.RETIRE)
        if not self.turns and self._wire is not None:
            self._wire.close()

    def lose(self, error: ProviderError) -> None:
        """It is of no use any more, and all turns on it learn so now."""
        self._step(Step.LOSE)
        self._leaving.clear()
        for turn in list(self.turns.values()):
            turn.fail(error)

    def give_up(self, error: ProviderError) -> None:
        """Nothing is to be expected of it, though it looks open."""
        self.lose(error)
        if self._wire is not None:
            self._wire.abort()

    # ------------------------------------------------------------ slots

    @property
    def has_slot(self) -> bool:
        """True where one more turn may be admitted."""
        if self.state is State.RETIRING or not self.open:
            return False
        if self.sharing is Sharing.SHARED:
            return len(self.turns) + len(self._leaving) < self.profile.max_contexts
        # Where nobody is named, what still comes of the turn before would be heard in the next.
        return not self.turns and not self._leaving

    def admit(self, turn: Turn, context: str) -> None:
        self.turns[context] = turn
        self._remember(context)
        turn.attach(self, context)

    def _remember(self, context: str) -> None:
        """A socket may live for days, and what it says is late by seconds."""
        self._former[context] = None
        if len(self._former) > MAX_FORMER:
            del self._former[next(each for each in self._former if each not in self.turns)]

    def submit(self, turn: Turn, text: str, now: float, *, first: bool) -> None:
        """Asks for one piece; raises SocketLost."""
        if self._wire is None or not self.open:
            raise SocketLost("the socket is gone")
        introduction = self._introduction(turn) if first else ()
        self._wire.send(
            *introduction, protocol.append(turn.context, text), protocol.commit(turn.context)
        )
        self._asked_last = turn.context
        self._liveness.expect(self._wire.heard, now)
        self._stir(self.due())

    def remove(self, turn: Turn, now: float, *, spoke: bool, settled: bool) -> None:
        """Ends a turn's context; the slot is free when nothing of it can be heard any more."""
        if self.turns.pop(turn.context, None) is None:
            return
        self.idle_since = now
        if spoke and self._wire is not None and self.open:
            self._wire.send(protocol.cancel(turn.context))
            self._leaving.cancel(turn.context, now)
        # What is still to come of it would be heard in the next turn, where nobody is named.
        contaminated = not settled and not self._tells_apart
        if self.state is State.RETIRING or (contaminated and self.state is not State.LOST):
            self.retire()
        self._stir(NOW)

    def _introduction(self, turn: Turn) -> Sequence[bytes]:
        """Tells the provider where this turn is spoken otherwise than its socket."""
        changes = protocol.changes(turn.params, self.params)
        if self.sharing is not Sharing.SHARED:
            # A server that ignores contexts keeps what the turn before was given.
            changes |= protocol.changes(turn.params, self._latest)
            self._latest = turn.params
        return (protocol.session_updated(changes, turn.context),) if changes else ()

    @property
    def _tells_apart(self) -> bool:
        if self.sharing is Sharing.UNKNOWN:
            return self.profile.tells_apart
        return self.sharing is Sharing.SHARED

    # ------------------------------------------------------------ what is due

    def look(self, now: float) -> Verdict:
        """Frees the slots that are due; whether it has to be asked if it lives, or is dead."""
        self._leaving.free_due(now)
        if self._wire is None or not self.open:
            return Verdict.FINE
        slowest = self.profile.slowest_pong
        return self._liveness.look(self._wire.heard, now, slowest, due=self.expecting)

    def due(self) -> float:
        """When to look again, unless something happens before."""
        if self._wire is None or not self.open:
            return self._leaving.due
        slowest = self.profile.slowest_pong
        look = self._liveness.next_look(self._wire.heard, slowest, due=self.expecting)
        return min(self._leaving.due, look)

    @property
    def expecting(self) -> bool:
        """True while audio is due."""
        return any(turn.expecting for turn in self.turns.values())

    # ------------------------------------------------------------ what a frame means, and to whom

    def receive(self, frame: str | bytes, now: float) -> None:
        """Hands each frame to its turn, and waits for no consumer.

        Raises:
            ProviderBroken: nothing on this socket can be trusted any more.
        """
        match event := protocol.decode(frame):
            case protocol.Audio():
                self._audio(event, now)
            case protocol.ItemDone():
                self._learn_from_done(event)
                if turn := self._owner(event.context_id, event.item_id):
                    turn.item_done(event, now)
            case protocol.Words():
                if turn := self._owner(event.context_id, event.item_id):
                    turn.words(event, now)
            case protocol.Failed() | protocol.ProtocolError():
                self._complaint(event)
            case protocol.Garbled():
                self._count(Happened.GARBLED_EVENT)
                self._blame(event.context_id, ProviderBroken(f"{event.type}: {event.reason}"))
            case protocol.ContextCancelled():
                self._cancelled(event.context_id, now)
            case protocol.Unknown():
                self._count(Happened.UNKNOWN_EVENT)
            case _:  # the session, text received: nothing to do
                pass

    def _audio(self, event: protocol.Audio, now: float) -> None:
        self.served = True
        turn = self.turns.get(event.context_id or "")
        if turn is None or self.sharing is not Sharing.SHARED:
            self._learn_from_audio(event)
            turn = turn or self._owner(event.context_id, event.item_id)
        if turn is not None:
            turn.hear(event, now)
            return
        self._count(Happened.STALE_AUDIO)
        self._leaving.heard(now)
        if event.context_id not in self._former:
            for each in list(self.turns.values()):  # one of them has lost it, and nobody knows who
                each.fail(ProviderBroken("audio that could be of any turn"))

    def _owner(self, context: str | None, item: protocol.ItemId | None) -> Turn | None:
        """Whose it is; None for a turn that is over, and where nobody can tell."""
        if context in self._former:
            return self.turns.get(context or "")
        if len(self.turns) == 1:
            return next(iter(self.turns.values()))
        candidates = [turn for turn in self.turns.values() if turn.knows(item)]
        if len(candidates) == 1:
            return candidates[0]
        self._count(Happened.UNATTRIBUTED)
        return None

    def _learn_from_audio(self, event: protocol.Audio) -> None:
        if event.context_id in self._former:
            self.profile.named = True
            if self.sharing is Sharing.UNKNOWN and not self.profile.unnamed:
                self.sharing = Sharing.SHARED
                self._stir(NOW)
        else:
            self._unnamed()

    def _learn_from_done(self, event: protocol.ItemDone) -> None:
        if event.context_id not in self._former:
            self._unnamed()

    def _unnamed(self) -> None:
        if not self.profile.unnamed:
            self.profile.unnamed = True
            self._stir(NOW)  # there may be more sockets now
        self.sharing = Sharing.EXCLUSIVE

    def _complaint(self, event: protocol.Failed | protocol.ProtocolError) -> None:
        """Something failed, or is said to have."""
        error = as_error(event.error)
        if isinstance(event, protocol.Failed) or type(error) is not ProviderBroken:
            self._blame(event.context_id, error)
            return
        # An `error` is in no reference. Some end the voice, after some it goes on: wait and see.
        turn = self._meant(event.context_id)
        if turn is not None:
            turn.doubt(error)

    def _meant(self, context: str | None) -> Turn | None:
        """Its turn; where nobody is named, the one that asked last, and no other."""
        if context in self._former:
            return self.turns.get(context or "")
        turn = self.turns.get(self._asked_last)
        if turn is None and self.turns:
            self._count(Happened.UNATTRIBUTED)
        return turn

    def _blame(self, context: str | None, error: ProviderError) -> None:
        """Something failed for a turn; or for the whole socket, when nobody had asked yet."""
        turn = self._meant(context)
        if turn is not None:
            turn.fail(error)
            if isinstance(error, TooManyContexts):
                held = sum(not each.refused for each in self.turns.values()) + len(self._leaving)
                self.profile.max_contexts = max(1, min(held, self.profile.max_contexts))
        elif context is None and not self.served:
            self.refusal = error  # some refuse a key or model only now
        if isinstance(error, ProviderAuth):
            self._refuse_all(error)

    def _refuse_all(self, error: ProviderError) -> None:
        """The key is of no use any more: but who is being heard may still be heard to the end."""
        if not self.served:
            self.refusal = error
            self.give_up(error)
        elif self.state is not State.LOST:
            self.retire()

    def _cancelled(self, context: str | None, now: float) -> None:
        if context is None:
            context = self._leaving.oldest
        if context is None:
            return
        if context in self.turns:
            self.turns[context].fail(ProviderBroken("the provider cancelled the context"))
        elif context in self._leaving and self.sharing is not Sharing.SHARED:
            self._leaving.confirm(context, now)
            self._stir(NOW)
        elif self._leaving.free(context):
            self._stir(NOW)

    def _step(self, step: Step) -> None:
        self.state = NEXT[self.state, step]
