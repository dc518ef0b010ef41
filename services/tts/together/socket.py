"""One socket to the provider's speech endpoint: who is on it, and what each frame means to whom."""

from __future__ import annotations

import asyncio
import contextlib
import enum
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from websockets import broadcast
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed
from websockets.protocol import State as ConnectionState

from services.tts.together import protocol as speech
from services.tts.together.end_of_audio import Habits
from services.tts.together.turn import Counts, SocketLost, TogetherTurn
from shared.errors import (
    ProviderAuth,
    ProviderBroken,
    ProviderError,
    ProviderOverloaded,
    ProviderRateLimited,
)

if TYPE_CHECKING:
    from services.tts.ports import VoiceParams

NEVER = float("inf")

IDLE_CHECK, IDLE_CHECK_TIMEOUT = 10.0, 1.0  # seconds; a socket at rest for so long may be dead
# While a turn waits for audio: asked after so long a silence, given up after so long without an
# answer. Together less than the two seconds in which a dead socket has to be noticed.
SILENT, NO_ANSWER = 0.5, 1.2
LATE = 0.2  # a look this much after its time: perhaps we stood still, and the answer is not read
# Where nobody is named, audio may follow a cancellation, and the next turn waits until none does.
LATE_AUDIO = 0.1
FREED_AFTER = 2.0  # a cancelled context counts as free by then, even if nobody says so


class Sharing(enum.Enum):
    """Whether a socket tells its turns apart."""

    UNKNOWN = enum.auto()
    SHARED = enum.auto()
    EXCLUSIVE = enum.auto()


@dataclass(slots=True)
class Knowledge:
    """What is known of one model, from all of its sockets."""

    cap: int  # contexts that a socket holds
    habits: Habits = field(default_factory=Habits)
    named: bool = False  # audio came with its context
    unnamed: bool = False  # audio or a `done` came without
    failures: int = 0  # to connect, in a row
    not_before: float = 0.0  # the next attempt
    error: ProviderError | None = None  # of the last attempt


class Pool(Protocol):
    """Who wants to know that a place became free."""

    counts: Counts

    def changed(self) -> None: ...
    def watch(self) -> None: ...


class Connection(ClientConnection):
    """Knows when it last heard a byte: in the middle of a frame of several MB, too."""

    heard = 0.0

    def data_received(self, data: bytes) -> None:
        self.heard = self.loop.time()
        super().data_received(data)


class TogetherSocket:
    """Opening, open or lost; the turns on it, and the contexts that still count."""

    def __init__(self, pool: Pool, params: VoiceParams, known: Knowledge) -> None:
        self.params = params  # of every context that is not told otherwise
        self.model = params.model
        self.known = known
        self.turns: dict[str, TogetherTurn] = {}
        self.sharing = Sharing.UNKNOWN
        self.retiring = False
        self.doubted = False  # a piece failed on it
        self.ended_by_us = False
        self.served = False
        self.task: asyncio.Task[None] | None = None
        self.receiver = speech.Receiver()
        self.since = _now()  # opened
        self.idle_since = self.since
        self._pool = pool
        self._connection: Connection | None = None
        self._lost = False
        self._refusal: ProviderError | None = None  # came when nobody had asked for anything
        self._checking = False
        self._latest = params  # the last turn's, where contexts may not be told apart
        self._leaving: dict[str, asyncio.TimerHandle] = {}
        self._confirmed: set[str] = set()  # of these: cancelled, where audio may still follow
        self._former: set[str] = set()  # all contexts that ever were
        self._asked = 0.0  # when, after the last byte heard, something was first asked
        self._pinged = 0.0

    # ------------------------------------------------------------ its state

    @property
    def opening(self) -> bool:
        return self._connection is None and not self._lost

    @property
    def open(self) -> bool:
        connection = self._connection
        return (
            connection is not None and not self._lost and connection.state is ConnectionState.OPEN
        )

    @property
    def has_place(self) -> bool:
        """True where one more turn may be admitted."""
        if not self.open or self.retiring or self._checking:
            return False
        if self.sharing is Sharing.SHARED:
            return len(self.turns) + len(self._leaving) < self.known.cap
        # Where nobody is named, what still comes of the turn before would be heard in the next.
        return not self.turns and not self._leaving

    # ------------------------------------------------------------ a turn's place

    def admit(self, turn: TogetherTurn) -> None:
        context = uuid.uuid4().hex
        turn.attach(self, context)
        self.turns[context] = turn
        self._former.add(context)

    async def ready(self) -> bool:
        """False when a socket that was at rest turns out to be dead."""
        connection = self._connection
        if connection is None or not self.open:
            return False
        if len(self.turns) > 1 or _now() - connection.heard < IDLE_CHECK:
            return True
        self._checking = True
        try:
            async with asyncio.timeout(IDLE_CHECK_TIMEOUT):
                await (await connection.ping())
        except (TimeoutError, ConnectionClosed):
            return False
        finally:
            self._checking = False
        self._pool.changed()
        return True

    def introduce(self, turn: TogetherTurn) -> None:
        """Tells the provider where this turn is spoken otherwise than its socket."""
        changes = speech.changes(turn.params, self.params)
        if self.sharing is not Sharing.SHARED:
            # A server that ignores contexts keeps what the turn before was given.
            changes |= speech.changes(turn.params, self._latest)
            self._latest = turn.params
        if changes:
            self.send(speech.session_updated(changes, turn.context))

    def send(self, frame: bytes) -> None:
        """At once or not at all: there is no waiting that a cancelled consumer could interrupt.

        Raises:
            SocketLost: it is not open any more.
        """
        if self._connection is None or not self.open:
            raise SocketLost("the socket is gone")
        broadcast((self._connection,), frame, text=True)

    def expect(self, now: float) -> None:
        if self._connection is not None and self._asked <= self._connection.heard:
            self._asked = now
        self._pool.watch()

    def remove(self, turn: TogetherTurn, *, spoke: bool, settled: bool) -> None:
        if self.turns.pop(turn.context, None) is None:
            return
        self.idle_since = _now()
        if spoke and self.open:
            self.send(speech.cancel(turn.context))
            self._free_in(FREED_AFTER, turn.context)
        # What is still to come of it would be heard in the next turn, where nobody is named.
        contaminated = not settled and not self._tells_apart
        if contaminated or self.retiring:
            self.retire()
        self._pool.changed()

    def doubt(self) -> None:
        """A piece failed here: with its last turn it ends, and none comes that can go elsewhere."""
        self.doubted = True
        if len(self.turns) == 1:
            self.retire()

    @property
    def _tells_apart(self) -> bool:
        if self.sharing is Sharing.UNKNOWN:
            return self.known.named and not self.known.unnamed
        return self.sharing is Sharing.SHARED

    def _free_in(self, seconds: float, context: str) -> None:
        timer = self._leaving.pop(context, None)
        if timer is not None:
            timer.cancel()
        timer = asyncio.get_running_loop().call_later(seconds, self._freed, context)
        self._leaving[context] = timer

    def _freed(self, context: str) -> None:
        self._confirmed.discard(context)
        timer = self._leaving.pop(context, None)
        if timer is not None:
            timer.cancel()
            self._pool.changed()

    # ------------------------------------------------------------ its life

    async def greet(self, connection: Connection) -> None:
        """Waits for the session.

        Raises:
            ProviderError: a refusal came instead.
            ConnectionClosed: nothing came.
        """
        while True:
            match self.receiver.receive(await connection.recv()):
                case speech.SessionCreated():
                    break
                case speech.Failed(error=fault) | speech.ProtocolError(error=fault):
                    raise speech.as_error(fault)
                case _:
                    pass
        self._connection = connection
        self.since = self.idle_since = _now()

    async def read(self, connection: Connection) -> ProviderError:
        """Hands each frame to its turn, and waits for no consumer; why the socket ended."""
        try:
            while True:
                self.handle(self.receiver.receive(await connection.recv()), _now())
        except ConnectionClosed:
            lost = SocketLost(f"the socket was closed ({connection.close_code})")
            return self._refusal or lost
        except ProviderBroken as exc:
            return exc

    def retire(self) -> None:
        """Takes no more turns, and ends when the last one has left."""
        self.retiring = self.ended_by_us = True
        if not self.turns and self.task is not None:
            self.task.cancel()

    def lose(self, error: ProviderError) -> None:
        """It is of no use any more, and all turns on it learn so now."""
        self._lost = self.retiring = True
        for timer in self._leaving.values():
            timer.cancel()
        self._leaving.clear()
        for turn in list(self.turns.values()):
            turn.fail(error)

    def abort(self) -> None:
        """No farewell: the other side does not answer, or there is no time."""
        if self._connection is not None:
            self._connection.transport.abort()

    async def check(self, now: float) -> float:
        """Asks a socket that has fallen silent while a turn waits; when to look again.

        Raises:
            SocketLost: it was asked, and has not answered.
        """
        connection = self._connection
        if connection is None or not self.open:
            return NEVER
        if not any(turn.expecting for turn in self.turns.values()):
            return NEVER
        if self._pinged > connection.heard:
            given_up = self._pinged + NO_ANSWER
            if given_up <= now < given_up + LATE:
                raise SocketLost("the socket looks open and does not answer")
            if now < given_up:
                return given_up
        due = max(connection.heard, self._asked) + SILENT
        if now < due:
            return due
        self._pinged = now
        with contextlib.suppress(TimeoutError, ConnectionClosed):
            async with asyncio.timeout(LATE):  # it is written at once; only draining can wait
                await connection.ping()
        return now + NO_ANSWER

    # ------------------------------------------------------------ what a frame means, and to whom

    def handle(self, event: speech.Event, now: float) -> None:
        match event:
            case speech.Audio():
                self._audio(event, now)
            case speech.ItemDone():
                self._learn_from_done(event)
                if turn := self._owner(event.context_id, event.item_id):
                    turn.item_done(event, now)
            case speech.Words():
                if turn := self._owner(event.context_id, event.item_id):
                    turn.words(event, now)
            case speech.Failed() | speech.ProtocolError() | speech.Garbled():
                self._complaint(event)
            case speech.ContextCancelled():
                self._cancelled(event.context_id)
            case speech.Unknown():
                self._pool.counts.unknown += 1
            case _:  # the session, text received: nothing to do
                pass

    def _audio(self, event: speech.Audio, now: float) -> None:
        self.served = True
        turn = self.turns.get(event.context_id or "")
        if turn is None or self.sharing is not Sharing.SHARED:
            self._learn_from_audio(event)
            turn = turn or self._owner(event.context_id, event.item_id)
        if turn is not None:
            turn.hear(event, now)
            return
        self._pool.counts.stale_bytes += len(event.data)
        for context in self._confirmed:  # it is not over yet
            self._free_in(LATE_AUDIO, context)
        if event.context_id not in self._former and self.turns:
            self._blame(None, ProviderBroken("audio that could be of any turn"))

    def _owner(self, context: str | None, item: speech.ItemId | None) -> TogetherTurn | None:
        """Whose it is; None for a turn that is over, and where nobody can tell."""
        if context in self._former:
            return self.turns.get(context or "")
        if len(self.turns) == 1:
            return next(iter(self.turns.values()))
        candidates = [turn for turn in self.turns.values() if turn.knows(item)]
        if len(candidates) == 1:
            return candidates[0]
        self._pool.counts.unattributed += 1
        return None

    def _learn_from_audio(self, event: speech.Audio) -> None:
        if event.context_id in self._former:
            self.known.named = True
            if self.sharing is Sharing.UNKNOWN and not self.known.unnamed:
                self.sharing = Sharing.SHARED
                self._pool.changed()
        else:
            self._unnamed()

    def _learn_from_done(self, event: speech.ItemDone) -> None:
        if event.context_id not in self._former:
            self._unnamed()

    def _unnamed(self) -> None:
        self.known.unnamed = True
        self.sharing = Sharing.EXCLUSIVE

    def _complaint(self, event: speech.Failed | speech.ProtocolError | speech.Garbled) -> None:
        """Something failed, or is said to have."""
        if isinstance(event, speech.Garbled):
            self._pool.counts.garbled += 1
            self._blame(event.context_id, ProviderBroken(f"{event.type}: {event.reason}"))
            return
        error = speech.as_error(event.error)
        if isinstance(event, speech.Failed) or type(error) is not ProviderBroken:
            self._blame(event.context_id, error)
            return
        # An `error` is in no reference. Some end the voice, after some it goes on: wait and see.
        for turn in self._meant(event.context_id):
            turn.doubt(error)

    def _meant(self, context: str | None) -> list[TogetherTurn]:
        """Its turn; all of them, where nobody is named."""
        if context in self._former:
            return [turn for name, turn in self.turns.items() if name == context]
        return list(self.turns.values())

    def _blame(self, context: str | None, error: ProviderError) -> None:
        """Something failed: for its turn, or for all who may have been meant."""
        meant = self._meant(context)
        if len(meant) > 1:
            # Which one was meant shows when each is said again on a socket of its own.
            self.sharing = Sharing.EXCLUSIVE
            if not isinstance(error, ProviderAuth | ProviderRateLimited | ProviderOverloaded):
                error = ProviderBroken(f"one of {len(meant)} turns failed: {error}")
        if not meant and context is None and not self.served:
            self._refusal = error  # of the whole socket: some refuse a key or model only now
        for turn in meant:
            turn.fail(error)
        if meant and isinstance(error, speech.TooManyContexts):
            held = sum(not turn.refused for turn in self.turns.values()) + len(self._leaving)
            self.known.cap = max(1, min(held, self.known.cap))
        if isinstance(error, ProviderAuth):
            self.lose(error)
            self.abort()

    def _cancelled(self, context: str | None) -> None:
        if context is None:  # the oldest one, then
            context = next(iter(self._leaving), None)
        if context in self.turns:
            self.turns[context].fail(ProviderBroken("the provider cancelled the context"))
        elif context in self._leaving and self.sharing is not Sharing.SHARED:
            self._confirmed.add(context)
            self._free_in(LATE_AUDIO, context)
        elif context is not None:
            self._freed(context)


def _now() -> float:
    return asyncio.get_running_loop().time()
