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

from services.tts.ports import VoiceParams
from services.tts.together.counts import Happened
from services.tts.together.profile import Profiles
from services.tts.together.socket import Socket, State
from services.tts.together.turn import SocketLost
from shared.errors import ProviderError, ProviderOverloaded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from services.tts.together.counts import Count
    from services.tts.together.turn import Turn

# Seconds. A socket that ended earlier and served nobody is as bad as none: attempts slow down.
SHORT_LIFE: Final = 5.0
TEND_EVERY: Final = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Times in seconds."""

    sockets: int = 4
    contexts: int = 100  # on a socket, until the provider says that these are too many
    slot_timeout: float = 10.0  # to have a socket at all
    queue_timeout: float = 300.0  # for a slot on sockets that others use
    max_age: float = 1200.0  # of a socket
    idle_check: float = 10.0  # a socket at rest for so long is asked before it is used


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
    def model(self) -> str:
        return self.turn.params.model

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
    """`connect` begins to open a socket, `stir` asks for a `tick` soon."""

    ahead: VoiceParams  # of the socket that is always open
    limits: Limits
    connect: Callable[[Socket], None]
    stir: Callable[[], None]
    new_context: Callable[[], str]
    uniform: Callable[[float, float], float]
    count: Count
    sockets: list[Socket] = field(default_factory=list)
    waiters: list[Waiter] = field(default_factory=list)  # who came first is first
    profiles: Profiles = field(init=False)
    _closed: ProviderError | None = None
    _tend_at: float = -math.inf

    def __post_init__(self) -> None:
        self.profiles = Profiles(self.limits.contexts)

    # ------------------------------------------------------------ for a turn

    @contextlib.contextmanager
    def queued(self, turn: Turn, since: float, now: float) -> Iterator[Waiter]:
        """A turn waits for a slot, and has waited since then; perhaps there is one at once."""
        waiter = Waiter(turn, since, since + self.limits.slot_timeout)
        self.waiters.append(waiter)
        try:
            if self._closed is not None:
                waiter.refuse(self._closed)
            self.tick(now)
            if waiter.waits:
                self.stir()
            yield waiter
        finally:
            self.waiters.remove(waiter)

    def wanted(self, model: str) -> bool:
        """True when others wait for a slot of this model, and none is about to be there."""
        opening = any(socket.opening for socket in self._usable(model))
        return self._waiting(model) > 0 and not opening

    # ------------------------------------------------------------ for the sockets

    def opened(self, socket: Socket) -> None:
        """It has its session."""
        socket.profile.attempts.opened()
        self.count(Happened.CONNECTED)
        self.stir()

    def ended(self, socket: Socket, reason: ProviderError, now: float) -> bool:
        """A socket never opened or has ended; True when that counts as a refusal."""
        opened = socket.since < math.inf
        ours = self._closed is not None or socket.state is State.RETIRING
        silent = opened and isinstance(reason, SocketLost)  # nobody says why
        socket.lose(reason)
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
            self.stir()

    def give_up(self, socket: Socket, why: str) -> None:
        """It looks open and is not."""
        if socket.open:  # else it was merely closed
            self.count(Happened.DEAD)
        if socket.state is not State.LOST:
            socket.give_up(SocketLost(why))

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
        for waiter in self.waiters:
            if waiter.waits:
                self._serve(waiter, now)
        self._open_ahead(now)

    def due(self, now: float) -> float:
        """When the next `tick` or look at a socket is due, unless something happens before."""
        times = [self._tend_at, self.profiles.of(self.ahead.model).attempts.not_before]
        times += [socket.due(now) for socket in self.sockets]
        for waiter in self.waiters:
            if waiter.waits:
                times += [waiter.deadline, self.profiles.of(waiter.model).attempts.not_before]
                times += [
                    turn.releasable_at
                    for socket in self._usable(waiter.model)
                    for turn in socket.turns.values()
                ]
        return min((time for time in times if time > now), default=math.inf)

    def _serve(self, waiter: Waiter, now: float) -> None:
        socket = self._least_loaded(waiter.model, now)
        if socket is not None:
            waiter.grant(socket, self.new_context())
        elif now >= waiter.deadline:
            self._expire(waiter)
        else:
            self._seek_socket(waiter, now)

    def _expire(self, waiter: Waiter) -> None:
        limits = self.limits
        if not waiter.queues and any(socket.open for socket in self._usable(waiter.model)):
            waiter.queues, waiter.deadline = True, waiter.since + limits.queue_timeout
            return
        seconds = limits.queue_timeout if waiter.queues else limits.slot_timeout
        error = self.profiles.of(waiter.model).attempts.error
        waiter.refuse(error or ProviderOverloaded(f"no slot on a socket within {seconds:g} s"))

    def _least_loaded(self, model: str, now: float) -> Socket | None:
        free = [socket for socket in self.sockets if socket.model == model and socket.has_slot]
        if all(socket.doubted for socket in free) and self._another_may_open(model, now):
            return None
        return min(free, key=lambda socket: (socket.doubted, len(socket.turns)), default=None)

    def _another_may_open(self, model: str, now: float) -> bool:
        if not self.profiles.of(model).attempts.may(now):
            return False
        mine = self._usable(model)
        return any(socket.opening for socket in mine) or self._room(has_some=bool(mine))

    def _seek_socket(self, waiter: Waiter, now: float) -> None:
        """There is no slot for this turn: open a socket, or make room for one."""
        attempts = self.profiles.of(waiter.model).attempts
        if not attempts.may(now):
            if error := attempts.hopeless(now + self.limits.slot_timeout):
                waiter.refuse(error)
            return
        mine = self._usable(waiter.model)
        if sum(socket.opening for socket in mine) >= self._waiting(waiter.model):
            return
        if self._room(has_some=bool(mine)):
            self._open_socket(VoiceParams(model=waiter.model, voice=waiter.turn.params.voice))
        elif not mine:
            self._make_room(waiter.model)
        else:
            self._have_one_released(mine, now)

    def _have_one_released(self, sockets: list[Socket], now: float) -> None:
        """Of a turn that waits for its text, or for its consumer; the next tick gives it away."""
        for socket in sockets:
            for turn in socket.turns.values():
                if turn.releasable_at <= now:
                    turn.release(now)
                    return

    def _open_ahead(self, now: float) -> None:
        """One socket of the default model is always open, and one at rest while there is room."""
        mine = self._usable(self.ahead.model)
        if not self.profiles.of(self.ahead.model).attempts.may(now) or self._room_is_made():
            return
        if all(socket.turns for socket in mine) and self._room(has_some=bool(mine)):
            self._open_socket(self.ahead)

    def _room_is_made(self) -> bool:
        """True while a model without any socket waits for one of another model to end."""
        ending = any(socket.ending for socket in self.sockets)
        return ending and any(
            waiter.waits and not self._usable(waiter.model) for waiter in self.waiters
        )

    def _open_socket(self, params: VoiceParams) -> None:
        socket = Socket(
            params,
            self.profiles.of(params.model),
            stir=self.stir,
            count=self.count,
            idle_check=self.limits.idle_check,
        )
        self.sockets.append(socket)
        self.connect(socket)

    def _usable(self, model: str) -> list[Socket]:
        """Open or about to be."""
        return [socket for socket in self.sockets if socket.model == model and not socket.ending]

    def _waiting(self, model: str) -> int:
        return sum(waiter.waits and waiter.model == model for waiter in self.waiters)

    def _room(self, *, has_some: bool) -> bool:
        total = len(self.sockets)
        # Sockets that wait for their last turn to end must not lock out a model: one more, then.
        leaving = sum(socket.ending for socket in self.sockets)
        return total < self.limits.sockets or (
            not has_some and total - leaving < self.limits.sockets
        )

    def _make_room(self, model: str) -> None:
        """Closes the least used socket of the other models, once it is not in use any more."""
        others = [socket for socket in self.sockets if socket.model != model and socket.open]
        if others and not any(socket.ending for socket in others):
            self._retire(min(others, key=lambda each: (len(each.turns), each.idle_since)))

    def _retire_aged(self, now: float) -> None:
        """Those that are old or doubted: of those in use one at a time."""
        for socket in self.sockets:
            aged = socket.doubted or now - socket.since >= self.limits.max_age
            if not socket.open or socket.ending or not aged:
                continue
            if not socket.turns or not any(each.ending for each in self.sockets):
                self._retire(socket)

    def _retire(self, socket: Socket) -> None:
        self.count(Happened.RETIRED)
        socket.retire()
