"""Who gets which slot on which socket, and which sockets are opened and closed for that.

A socket that does not say whose audio it sends (binary frames, no context echoed) has one slot; so
has every new one until it has shown that it does. Where slots are short, a turn that has nothing
to say for the moment releases its own to the turn that has waited for longest.

No I/O: the time is given, sockets are opened by who made the pool, and their ends are told.
"""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from services.tts.ports import Kind, VoiceParams
from services.tts.together.counts import Happened
from services.tts.together.profile import Profiles
from services.tts.together.socket import NOW, Socket, State
from services.tts.together.turn import SocketLost
from shared.errors import ProviderError, ProviderOverloaded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from services.tts.together.counts import Count
    from services.tts.together.turn import Turn

# Seconds. A socket that ended earlier and served nobody is as bad as none: attempts slow down.
SHORT_LIFE: Final = 5.0
TEND_EVERY: Final = 5.0
KNOCKS: Final = 2  # sockets that open at once; one more for each that opened, until one breaks


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Times in seconds."""

    sockets: int = 4
    turns: int = 64  # sockets, of models where each carries one turn
    contexts: int = 100  # on a socket, until the provider says that these are too many
    slot_timeout: float = 300.0  # for a slot
    # For a socket at all, of a model that another one stands in for; None: as for a slot.
    stand_in_after: float | None = None
    stand_in: str | None = None
    max_age: float = 1200.0  # of a socket
    idle: float = 30.0  # of a socket beyond `sockets`, before it is closed

    def socket_timeout(self, model: str) -> float:
        """How long a turn waits while there is no socket at all of its model."""
        if self.stand_in_after is None or model == self.stand_in:
            return self.slot_timeout
        return min(self.stand_in_after, self.slot_timeout)


@dataclass(slots=True, eq=False)
class Waiter:
    """A turn in the queue for a slot. It is woken when there is an outcome."""

    turn: Turn
    since: float
    deadline: float
    queues: bool = False  # behind turns that are being heard: only a matter of time
    _socket: Socket | None = None
    _error: ProviderError | None = None

    @property
    def kind(self) -> Kind:
        return self.turn.params.kind

    @property
    def waits(self) -> bool:
        return self._socket is None and self._error is None

    def outcome(self) -> Socket | None:
        """The socket that it has a slot on; None while it waits.

        Raises:
            ProviderError: it waits in vain.
        """
        if self._error is not None:
            raise self._error
        return self._socket

    def grant(self, socket: Socket, context: str) -> None:
        self._socket = socket
        socket.admit(self.turn, context)

    def refuse(self, error: ProviderError) -> None:
        if self.waits:
            self._error = type(error)(str(error), wait=error.wait)
            self.turn.wake()


@dataclass(slots=True, kw_only=True)
class Pool:
    """`connect` begins to open a socket, `stir` asks for a `tick` by that time."""

    ahead: VoiceParams  # of the socket that is always open
    limits: Limits
    connect: Callable[[Socket], None]
    stir: Callable[[float], None]
    new_context: Callable[[], str]
    uniform: Callable[[float, float], float]
    count: Count
    sockets: list[Socket] = field(default_factory=list)
    waiters: list[Waiter] = field(default_factory=list)  # who came first is first
    profiles: Profiles = field(init=False)
    _closed: ProviderError | None = None
    _tend_at: float = -math.inf
    _knocks: int = KNOCKS  # sockets that may be opening at once

    def __post_init__(self) -> None:
        self.profiles = Profiles(self.limits.contexts)

    # ------------------------------------------------------------ for a turn

    @contextlib.contextmanager
    def queued(self, turn: Turn, now: float) -> Iterator[Waiter]:
        """A turn waits for a slot; perhaps there is one at once."""
        waiter = Waiter(turn, now, now + self.limits.socket_timeout(turn.params.model))
        self.waiters.append(waiter)
        try:
            if self._closed is not None:
                waiter.refuse(self._closed)
            self.tick(now)
            if waiter.waits:
                self.stir(NOW)
            yield waiter
        finally:
            self.waiters.remove(waiter)

    def wanted(self, kind: Kind) -> bool:
        """True when others wait for a slot of this kind, and none is about to be there."""
        opening = any(socket.opening for socket in self._usable(kind))
        return self._waiting(kind) > 0 and not opening

    # ------------------------------------------------------------ for the sockets

    def opened(self, socket: Socket) -> None:
        """It has its session."""
        socket.profile.attempts.opened()
        self._knocks += 1
        self.count(Happened.CONNECTED)
        self.stir(NOW)

    def ended(self, socket: Socket, reason: ProviderError, now: float) -> bool:
        """A socket never opened or has ended; True when that counts as a refusal."""
        opened = socket.since < math.inf
        ours = self._closed is not None or socket.state is State.RETIRING
        silent = opened and isinstance(reason, SocketLost)  # nobody says why
        socket.lose(reason)
        if not ours:
            self._knocks = KNOCKS
        if opened and not ours:
            self.count(Happened.LOST)
        self.forget(socket)
        attempts = socket.profile.attempts
        if not (ours or socket.served or silent):
            self.count(Happened.CONNECT_FAILED)
            attempts.failed(reason, now, self.uniform)
            return True
        if ours or socket.served or now - socket.since > SHORT_LIFE:
            attempts.lasted()
        else:
            attempts.wasted(now, self.uniform)
        return False

    def forget(self, socket: Socket) -> None:
        if socket in self.sockets:
            self.sockets.remove(socket)
            self.stir(NOW)

    def unanswered(self, socket: Socket) -> None:
        """It looks open and does not answer: dead where audio is due, else not to be used again."""
        if socket.state is State.LOST:
            return
        if socket.expecting:
            self.count(Happened.DEAD)
            socket.give_up(SocketLost("the socket looks open and does not answer"))
        elif not socket.turns and not socket.ending:
            socket.retire()

    def close(self, error: ProviderError) -> None:
        """Who waits and who speaks is told; no socket opens any more."""
        self._closed = error
        for waiter in self.waiters:
            waiter.refuse(error)
        for socket in self.sockets:
            socket.lose(error)

    # ------------------------------------------------------------ what is to be done

    def tick(self, now: float) -> None:
        """Does what is due: serves those who wait, opens what is missing, retires what is old."""
        if self._closed is not None:
            return
        if now >= self._tend_at:
            self._tend_at = now + min(TEND_EVERY, self.limits.max_age / 2)
            self._retire_aged(now)
            self._retire_idle(now)
        in_vain: set[Kind] = set()  # who comes later finds nothing, either
        for waiter in self.waiters:
            expired = now >= waiter.deadline
            if not waiter.waits or (waiter.kind in in_vain and not expired):
                continue
            if not self._serve(waiter, now):
                in_vain.add(waiter.kind)
        self._open_ahead(now)

    def due(self, now: float) -> float:
        """When the next `tick` or look at a socket is due, unless something happens before."""
        times = [self._tend_at, self.profiles.of(self.ahead.model).attempts.not_before]
        times += [socket.due() for socket in self.sockets]
        waiting = [waiter for waiter in self.waiters if waiter.waits]
        times += [waiter.deadline for waiter in waiting]
        for kind in {waiter.kind for waiter in waiting}:
            times.append(self.profiles.of(kind.model).attempts.not_before)
            for socket in self._usable(kind):
                times += [turn.releasable_at for turn in socket.turns.values()]
        return min((time for time in times if time > now), default=math.inf)

    def _serve(self, waiter: Waiter, now: float) -> bool:
        """False when nothing can be done for it now, nor for others of its kind."""
        socket = self._least_loaded(waiter.kind, now)
        if socket is not None:
            waiter.grant(socket, self.new_context())
            return True
        if now >= waiter.deadline:
            self._expire(waiter)
            return True
        return self._seek_socket(waiter, now)

    def _expire(self, waiter: Waiter) -> None:
        limits = self.limits
        if not waiter.queues and any(socket.open for socket in self._usable(waiter.kind)):
            waiter.queues, waiter.deadline = True, waiter.since + limits.slot_timeout
            if waiter.deadline > waiter.since + limits.socket_timeout(waiter.kind.model):
                return
        seconds = waiter.deadline - waiter.since
        error = self.profiles.of(waiter.kind.model).attempts.error
        waiter.refuse(error or ProviderOverloaded(f"no slot on a socket within {seconds:g} s"))

    def _least_loaded(self, kind: Kind, now: float) -> Socket | None:
        free = [socket for socket in self.sockets if socket.kind == kind and socket.has_slot]
        if all(socket.doubted for socket in free) and self._another_may_open(kind, now):
            return None
        return min(free, key=lambda socket: (socket.doubted, len(socket.turns)), default=None)

    def _another_may_open(self, kind: Kind, now: float) -> bool:
        if not self._may_knock(kind.model, now):
            return False
        mine = self._usable(kind)
        return any(socket.opening for socket in mine) or self._room(kind)

    def _may_knock(self, model: str, now: float) -> bool:
        """False while another attempt would be one too many."""
        attempts = self.profiles.of(model).attempts
        opening = [socket for socket in self.sockets if socket.opening]
        if attempts.failing and any(socket.model == model for socket in opening):
            return False
        return attempts.may(now) and len(opening) < self._knocks

    def _seek_socket(self, waiter: Waiter, now: float) -> bool:
        """There is no slot for this turn: open a socket, or make room for one."""
        kind = waiter.kind
        mine = self._usable(kind)
        opening = sum(socket.opening for socket in mine)
        if opening >= self._waiting(kind):
            return False
        knocks, room = self._may_knock(kind.model, now), self._room(kind)
        if room and knocks:
            self._open_socket(VoiceParams(model=kind.model, voice=waiter.turn.params.voice))
            return True
        if room and opening:
            return False  # one more follows in a moment
        if mine:
            return self._has_one_released(mine, now)
        if knocks:
            self._make_room(kind)
            return False
        if error := self._hopeless(waiter, now):
            waiter.refuse(error)
        return error is not None

    def _hopeless(self, waiter: Waiter, now: float) -> ProviderError | None:
        attempts = self.profiles.of(waiter.kind.model).attempts
        return None if attempts.may(now) else attempts.hopeless(now, waiter.deadline)

    def _has_one_released(self, sockets: list[Socket], now: float) -> bool:
        """Of a turn that waits for its text, or for its consumer; the next tick gives it away."""
        for socket in sockets:
            for turn in socket.turns.values():
                if turn.releasable_at <= now:
                    turn.release(now)
                    return True
        return False

    def _open_ahead(self, now: float) -> None:
        """One socket of the default model is always open, and one at rest while there is room."""
        kind = self.ahead.kind
        if not self._may_knock(kind.model, now) or self._room_is_made():
            return
        if all(socket.turns for socket in self._usable(kind)) and self._room(kind):
            self._open_socket(self.ahead)

    def _room_is_made(self) -> bool:
        """True while a kind without any socket waits for one of another kind to end."""
        ending = any(socket.ending for socket in self.sockets)
        return ending and any(
            waiter.waits and not self._usable(waiter.kind) for waiter in self.waiters
        )

    def _open_socket(self, params: VoiceParams) -> None:
        socket = Socket(
            params,
            self.profiles.of(params.model),
            stir=self.stir,
            count=self.count,
        )
        self.sockets.append(socket)
        self.connect(socket)

    def _usable(self, kind: Kind) -> list[Socket]:
        """Open or about to be."""
        return [socket for socket in self.sockets if socket.kind == kind and not socket.ending]

    def _waiting(self, kind: Kind) -> int:
        return sum(waiter.waits and waiter.kind == kind for waiter in self.waiters)

    def _limited_with(self, model: str) -> list[Socket]:
        """All sockets that share a limit with those of this model."""
        unnamed = self.profiles.of(model).unnamed
        return [socket for socket in self.sockets if socket.profile.unnamed is unnamed]

    def limit(self, model: str) -> int:
        """How many sockets may be open at once, of this model and those that share its limit."""
        # Where nobody is named a socket carries one turn, so that each turn may have its own.
        unnamed = self.profiles.of(model).unnamed
        return max(self.limits.sockets, self.limits.turns) if unnamed else self.limits.sockets

    def _room(self, kind: Kind) -> bool:
        limit, limited = self.limit(kind.model), self._limited_with(kind.model)
        if len(limited) < limit:
            return True
        # Sockets that wait for their last turn to end must not lock out a kind: one more, then.
        leaving = sum(socket.ending for socket in limited)
        return not self._usable(kind) and len(limited) - leaving < limit

    def _make_room(self, kind: Kind) -> None:
        """Closes the least used socket of the other kinds, once it is not in use any more."""
        limited = self._limited_with(kind.model)
        others = [socket for socket in limited if socket.kind != kind and socket.open]
        if others and not any(socket.ending for socket in others):
            min(others, key=lambda each: (len(each.turns), each.idle_since)).retire()

    def _retire_aged(self, now: float) -> None:
        """Those that are old or doubted: of those in use one at a time."""
        for socket in self.sockets:
            aged = socket.doubted or now - socket.since >= self.limits.max_age
            if not socket.open or socket.ending or not aged:
                continue
            if not socket.turns or not any(each.ending for each in self.sockets):
                socket.retire()

    def _retire_idle(self, now: float) -> None:
        """Those that were opened for many turns at once, when there are fewer."""
        open_ = [socket for socket in self.sockets if socket.open and not socket.ending]
        idle = [
            each for each in open_ if not each.turns and now - each.idle_since > self.limits.idle
        ]
        idle.sort(key=lambda socket: socket.idle_since)
        for socket in idle[: max(0, len(open_) - self.limits.sockets)]:
            socket.retire()
