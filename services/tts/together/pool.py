"""Voice over the provider's speech WebSocket: a few open sockets, many turns on each by contexts.

A socket that does not say whose audio it sends (binary frames, no context echoed) serves one turn
at a time; so does every new one until it has shown that it does. Nothing is heard twice: a turn
goes to another socket by itself only before anything of its piece was heard.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, InvalidURI

from services.tts.ports import VoiceParams
from services.tts.together import protocol as speech
from services.tts.together.socket import NEVER, Connection, Knowledge, TogetherSocket
from services.tts.together.turn import MAX_WAITING, Counts, SocketLost, TogetherTurn
from shared.errors import (
    ProviderBroken,
    ProviderError,
    ProviderOverloaded,
    ProviderRefused,
    ProviderStalled,
    from_status,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine
    from types import TracebackType
    from typing import Any, Self

log = logging.getLogger(__name__)
# The library writes the headers of its handshake, our key among them, into its debug log.
_library_log = logging.getLogger("websockets.speech")
_library_log.setLevel(logging.INFO)

MAX_FRAME = 32 * 1024 * 1024  # bytes; the provider sends frames of several MB
PING_INTERVAL, PING_TIMEOUT = 15.0, 5.0  # seconds
CLOSE_TIMEOUT = 1.0
BACKOFF, BACKOFF_MAX = 0.1, 15.0
REFUSED_PAUSE = 1.0  # a key that was refused is not tried again in a hurry
# A socket that ended earlier and served nobody is as bad as none: the next attempt backs off.
SHORT_LIFE = 5.0
TEND_EVERY = 5.0


class TogetherSpeech:
    """The pool; an async context manager. Implements Voice."""

    def __init__(
        self,
        *,
        url: str,
        api_key: str,
        model: str,
        voice: str,
        sockets: int = 4,
        first_audio_timeout: float = 10.0,
        audio_timeout: float = 5.0,
        connect_timeout: float = 5.0,
        place_timeout: float = 10.0,
        queue_timeout: float = 300.0,
        segment: str = "never",
        contexts_per_socket: int = 100,
        max_age: float = 1200.0,
        max_waiting: int = MAX_WAITING,
        jitter: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self.counts = Counts()
        self.first_audio_timeout = first_audio_timeout
        self.audio_timeout = audio_timeout
        self.max_waiting = max_waiting
        self._url = url
        self._api_key = api_key
        self._ahead = VoiceParams(model=model, voice=voice)
        self._max = sockets
        self._connect_timeout = connect_timeout
        self._place_timeout = place_timeout  # to have a socket at all
        self._queue_timeout = queue_timeout  # for a place on sockets that others use
        self._segment = segment
        self._contexts = contexts_per_socket
        self._max_age = max_age
        self._jitter = jitter
        self._known: dict[str, Knowledge] = {}
        self._sockets: list[TogetherSocket] = []
        self._waiters: list[_Waiter] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._stirred = asyncio.Event()
        self._open = False

    def __repr__(self) -> str:
        return f"<TogetherSpeech {self._ahead.model}, {self.open_sockets}/{self._max} sockets>"

    # ------------------------------------------------------------ life

    async def __aenter__(self) -> Self:
        self._open = True
        self._spawn(self._watch_sockets(), "speech.watch")
        self._spawn(self._tend_sockets(), "speech.tend")
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Ends within a few seconds; turns under way fail."""
        self._open = False
        closed = ProviderBroken("the voice was closed")
        for waiter in self._waiters:
            waiter.refuse(closed)
        for socket in self._sockets:
            socket.lose(closed)
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=2 * CLOSE_TIMEOUT)
        for socket in self._sockets:
            socket.abort()

    @property
    def healthy(self) -> bool:
        """True while a socket is open."""
        return any(socket.open for socket in self._sockets)

    @property
    def last_error(self) -> ProviderError | None:
        """Why the last attempt to connect for the default model failed; None once one worked."""
        return self._knowledge(self._ahead.model).error

    @property
    def open_sockets(self) -> int:
        return sum(socket.open for socket in self._sockets)

    @property
    def live_turns(self) -> int:
        return sum(len(socket.turns) for socket in self._sockets)

    @property
    def waiting_turns(self) -> int:
        return len(self._waiters)

    @contextlib.asynccontextmanager
    async def turn(self, params: VoiceParams) -> AsyncIterator[TogetherTurn]:
        """Takes a place on a socket; leaving it stops the audio and frees the place.

        Raises:
            ProviderError: no place could be had in time.
        """
        turn = TogetherTurn(self, params, self._knowledge(params.model).habits)
        self.counts.turns += 1
        try:
            await self.place(turn)
            yield turn
        finally:
            turn.leave()

    # ------------------------------------------------------------ places

    async def place(self, turn: TogetherTurn) -> None:
        """Waits until the turn has a place on a socket that answers.

        Raises:
            ProviderError: no place could be had in time.
        """
        began = _now()
        while True:
            socket = await self._socket_for(turn, began)
            if await socket.ready():
                return
            turn.detach()
            self._give_up(socket, SocketLost("a socket at rest did not answer"))

    async def _socket_for(self, turn: TogetherTurn, began: float) -> TogetherSocket:
        if not self._open:
            raise ProviderBroken("the voice is closed")
        waiter = _Waiter(turn, asyncio.get_running_loop().create_future())
        self._waiters.append(waiter)
        try:
            self.changed()
            seconds = self._place_timeout
            await asyncio.wait({waiter.socket}, timeout=began + seconds - _now())
            if not waiter.socket.done() and any(s.open for s in self._usable(waiter.model)):
                # Others are being heard, piece by piece: it is only a matter of time.
                seconds = self._queue_timeout
                await asyncio.wait({waiter.socket}, timeout=began + seconds - _now())
            if waiter.socket.done():
                return waiter.socket.result()
            error = self._knowledge(waiter.model).error
            raise error or ProviderOverloaded(f"no place on a socket within {seconds:g} s")
        finally:
            self._waiters.remove(waiter)

    def changed(self) -> None:
        """Something may be possible now: serve those who wait, in order; open what is missing."""
        if not self._open:
            return
        for waiter in self._waiters:
            if waiter.socket.done():
                continue
            socket = self._least_loaded(waiter.model)
            if socket is None:
                self._seek_socket(waiter)
            else:
                socket.admit(waiter.turn)
                waiter.socket.set_result(socket)
        self._open_ahead()

    def wanted(self, turn: TogetherTurn) -> bool:
        """True when others wait for a place such as this turn's, and none is about to be there."""
        model = turn.params.model
        waits = any(w.model == model and not w.socket.done() for w in self._waiters)
        return waits and not any(socket.opening for socket in self._usable(model))

    def rests(self, turn: TogetherTurn) -> None:
        if self.wanted(turn):
            asyncio.get_running_loop().call_later(turn.quiet, self.changed)

    def watch(self) -> None:
        """A turn expects audio: look after its socket."""
        self._stirred.set()

    def _least_loaded(self, model: str) -> TogetherSocket | None:
        free = [socket for socket in self._sockets if socket.model == model and socket.has_place]
        if all(socket.doubted for socket in free) and self._another_may_open(model):
            return None
        return min(free, key=lambda socket: (socket.doubted, len(socket.turns)), default=None)

    def _another_may_open(self, model: str) -> bool:
        if _now() < self._knowledge(model).not_before:
            return False
        mine = self._usable(model)
        return any(socket.opening for socket in mine) or self._room(has_some=bool(mine))

    def _seek_socket(self, waiter: _Waiter) -> None:
        """There is no place for this turn: open a socket, or make room for one."""
        known = self._knowledge(waiter.model)
        if _now() < known.not_before:
            hopeless = known.not_before > _now() + self._place_timeout
            if known.error is not None and (hopeless or not known.error.retryable):
                waiter.refuse(known.error)
            return
        mine = self._usable(waiter.model)
        waiting = sum(w.model == waiter.model and not w.socket.done() for w in self._waiters)
        if sum(socket.opening for socket in mine) >= waiting:
            return
        if self._room(has_some=bool(mine)):
            self._open_socket(VoiceParams(model=waiter.model, voice=waiter.turn.params.voice))
        elif not mine:
            self._make_room(waiter.model)
        else:
            self._borrow(mine)

    def _borrow(self, sockets: list[TogetherSocket]) -> None:
        """A turn that waits for its text, or for its consumer, lends its place meanwhile."""
        for socket in sockets:
            for turn in socket.turns.values():
                if turn.lendable:
                    turn.lend()  # which calls changed(): whoever waits longest has the place
                    return

    def _open_ahead(self) -> None:
        """One socket of the default model is always open, and one at rest while there is room."""
        mine = self._usable(self._ahead.model)
        if _now() < self._knowledge(self._ahead.model).not_before:
            return
        if all(socket.turns for socket in mine) and self._room(has_some=bool(mine)):
            self._open_socket(self._ahead)

    def _usable(self, model: str) -> list[TogetherSocket]:
        """Open or about to be."""
        return [s for s in self._sockets if s.model == model and not s.retiring]

    def _room(self, *, has_some: bool) -> bool:
        total = len(self._sockets)
        # Sockets that wait for their last turn to end must not lock out a model: one more, then.
        leaving = sum(socket.retiring for socket in self._sockets)
        return total < self._max or (not has_some and total - leaving < self._max)

    def _make_room(self, model: str) -> None:
        """Closes the least used socket of the other models, once it is not in use any more."""
        others = [s for s in self._sockets if s.model != model and s.open]
        if others and not any(socket.retiring for socket in others):
            self.counts.retired += 1
            min(others, key=lambda s: (len(s.turns), s.idle_since)).retire()

    def _open_socket(self, params: VoiceParams) -> None:
        socket = TogetherSocket(self, params, self._knowledge(params.model))
        self._sockets.append(socket)
        socket.task = self._spawn(self._live(socket), "speech.socket")

    def _knowledge(self, model: str) -> Knowledge:
        return self._known.setdefault(model, Knowledge(self._contexts))

    # ------------------------------------------------------------ the life of a socket

    async def _live(self, socket: TogetherSocket) -> None:
        """From opening to end; whoever ends it, its turns learn so before anything else."""
        try:
            connection = await self._connect(socket)
            reason: ProviderError = SocketLost("the socket was closed")
            try:
                reason = await socket.read(connection)
            finally:
                self._part(socket, reason)
                await connection.close()
        except ProviderError as exc:
            self._note_failure(socket, exc)
        finally:
            self._forget(socket)

    async def _connect(self, socket: TogetherSocket) -> Connection:
        """A connection with a session.

        Raises:
            ProviderError: there is none.
        """
        try:
            async with asyncio.timeout(self._connect_timeout):
                connection = await self._open_connection(socket.params)
                try:
                    await socket.greet(connection)
                except BaseException:
                    connection.transport.abort()
                    raise
        except (OSError, InvalidHandshake, InvalidURI, ConnectionClosed) as exc:
            raise self._translated(exc) from exc
        self.counts.connects += 1
        socket.known.error = None
        log.info("tts.socket_open", extra={"model": socket.model, "sockets": self.open_sockets})
        self.changed()
        return connection

    async def _open_connection(self, params: VoiceParams) -> Connection:
        connection = await connect(
            speech.socket_url(self._url, params, self._segment),
            additional_headers={"Authorization": f"Bearer {self._api_key}"},
            compression=None,
            max_size=MAX_FRAME,
            open_timeout=None,  # ours lasts until the session is there
            ping_interval=PING_INTERVAL,
            ping_timeout=PING_TIMEOUT,
            close_timeout=CLOSE_TIMEOUT,
            logger=_library_log,
            create_connection=Connection,
        )
        assert isinstance(connection, Connection)
        return connection

    def _part(self, socket: TogetherSocket, reason: ProviderError) -> None:
        """An open socket has ended."""
        ours = socket.ended_by_us or not self._open
        socket.lose(reason)
        self.counts.lost += not ours
        log.info("tts.socket_closed", extra={"model": socket.model, "by_us": ours})
        if not (ours or socket.served) and not isinstance(reason, SocketLost):
            self._note_failure(socket, reason)
        elif ours or socket.served or _now() - socket.since > SHORT_LIFE:
            socket.known.failures = 0
        else:
            self._back_off(socket.known, 0.0)
        self._forget(socket)

    def _forget(self, socket: TogetherSocket) -> None:
        if socket in self._sockets:
            self._sockets.remove(socket)
            self.changed()

    def _give_up(self, socket: TogetherSocket, error: ProviderError) -> None:
        self.counts.dead += socket.open  # else it was merely closed
        socket.lose(error)
        socket.abort()

    def _note_failure(self, socket: TogetherSocket, error: ProviderError) -> None:
        self.counts.connect_failures += 1
        socket.known.error = error
        least = error.wait or 0.0
        self._back_off(socket.known, least if error.retryable else max(least, REFUSED_PAUSE))
        log.warning("tts.connect_failed", extra={"model": socket.model, "code": error.code.value})

    def _back_off(self, known: Knowledge, least: float) -> None:
        """Full jitter: many replicas that failed together do not come back together."""
        known.failures = min(known.failures + 1, 10)
        pause = max(least, self._jitter(0.0, min(BACKOFF_MAX, BACKOFF * 2.0**known.failures)))
        known.not_before = _now() + pause
        asyncio.get_running_loop().call_later(pause, self.changed)

    def _translated(self, exc: Exception) -> ProviderError:
        match exc:
            case InvalidStatus(response=response):
                headers = response.headers
                wait = _seconds(headers.get("Retry-After") or headers.get("x-ratelimit-reset"))
                said = _said(response.body) or f"the socket was refused: {response.status_code}"
                return from_status(response.status_code, self._without_key(said), wait=wait)
            case TimeoutError():
                return ProviderStalled(f"no session within {self._connect_timeout:g} s")
            case InvalidURI():
                return ProviderRefused("the address is none of a WebSocket")
            case _:
                return ProviderBroken(self._without_key(f"{type(exc).__name__}: {exc}"))

    def _without_key(self, text: str) -> str:
        """A refusal may quote the key that it refuses."""
        return text.replace(self._api_key, "***") if self._api_key else text

    # ------------------------------------------------------------ tasks

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._task_ended)
        return task

    def _task_ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (exc := task.exception()) is not None:
            self.counts.crashes += 1
            log.error("tts.task_crashed", extra={"task": task.get_name()}, exc_info=exc)

    async def _watch_sockets(self) -> None:
        """A socket that falls silent while a turn waits is asked, and given up in time."""
        while True:
            self._stirred.clear()
            due = NEVER
            for socket in list(self._sockets):
                try:
                    due = min(due, await socket.check(_now()))
                except SocketLost as exc:
                    self._give_up(socket, exc)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(None if due == NEVER else due):
                    await self._stirred.wait()

    async def _tend_sockets(self) -> None:
        """Opens ahead, and retires what is old: of those in use one at a time."""
        while True:
            for socket in self._aged():
                if not socket.turns or not any(s.retiring for s in self._sockets):
                    self.counts.retired += 1
                    socket.retire()
            self.changed()
            await asyncio.sleep(min(TEND_EVERY, self._max_age / 2))

    def _aged(self) -> list[TogetherSocket]:
        """And those that are doubted."""
        born = _now() - self._max_age
        usable = [s for s in self._sockets if s.open and not s.retiring]
        return [s for s in usable if s.doubted or s.since <= born]


@dataclass(slots=True, eq=False)
class _Waiter:
    """A turn without a place."""

    turn: TogetherTurn
    socket: asyncio.Future[TogetherSocket]

    @property
    def model(self) -> str:
        return self.turn.params.model

    def refuse(self, error: ProviderError) -> None:
        if not self.socket.done():
            self.socket.set_exception(type(error)(str(error), wait=error.wait))


class _Refusal(msgspec.Struct):
    error: speech.Fault | str | None = None


def _said(body: bytes | bytearray | None) -> str:
    """The provider's own words in the body of a refused handshake."""
    try:
        error = msgspec.json.decode(body or b"", type=_Refusal).error
    except msgspec.DecodeError:
        return ""
    return (error.message or "") if isinstance(error, speech.Fault) else (error or "")


def _seconds(header: str | None) -> float | None:
    try:
        return max(0.0, float(header or ""))
    except ValueError:
        return None  # a date; our own backoff does


def _now() -> float:
    return asyncio.get_running_loop().time()
