"""Voice over the provider's speech WebSocket: a few open sockets, many turns on each by contexts.

Nothing is heard twice: a turn goes to another socket by itself only before anything of its piece
was heard. What is decided is decided by the pool and its sockets; here are the tasks that they
need: one that keeps time, and one for each socket.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import math
import random
import uuid
from typing import TYPE_CHECKING

from services.tts.ports import VoiceParams
from services.tts.together.connection import CLOSE_TIMEOUT, Endpoint, Pump
from services.tts.together.counts import Count, Happened
from services.tts.together.end_of_audio import Patience
from services.tts.together.liveness import Verdict
from services.tts.together.pool import Limits, Pool
from services.tts.together.socket import State
from services.tts.together.turn import MAX_WAITING, SocketLost
from services.tts.together.voice_turn import TogetherTurn
from shared.errors import ProviderBroken, ProviderError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine
    from types import TracebackType
    from typing import Any, Self

    from services.tts.together.socket import Socket

log = logging.getLogger(__name__)

RECOVERY = 1.0  # seconds between a bug and the next attempt


class TogetherVoice:
    """An async context manager; closing takes a few seconds, and turns under way fail.

    Implements Voice. Raises ProviderError from `turn` when no slot could be had in time.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        model: str,
        voice: str,
        count: Count,
        patience: Patience | None = None,
        limits: Limits | None = None,
        max_waiting: int = MAX_WAITING,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._endpoint = endpoint
        self._count = count
        self._patience = patience or Patience()
        self._max_waiting = max_waiting
        self._stirred = asyncio.Event()
        self._due = math.inf  # when the keeper looks next
        self._tasks: set[asyncio.Task[None]] = set()
        # A socket outlives the turn for which it is opened, and its log lines are not of that one.
        self._context = contextvars.copy_context()
        self._pumps: dict[Socket, Pump] = {}
        self._pool = Pool(
            ahead=VoiceParams(model=model, voice=voice),
            limits=limits or Limits(),
            connect=lambda socket: self._spawn(self._live(socket), "speech.socket"),
            stir=self._stir,
            new_context=lambda: uuid.uuid4().hex,
            uniform=uniform,
            count=count,
        )

    def __repr__(self) -> str:
        return f"<TogetherVoice {self._pool.ahead.model}, {self.open_sockets} sockets>"

    # ------------------------------------------------------------ for a turn

    @contextlib.asynccontextmanager
    async def turn(self, params: VoiceParams) -> AsyncIterator[TogetherTurn]:
        """Takes a slot on a socket; leaving it stops the audio and frees the slot.

        Raises:
            ProviderError: no slot could be had in time.
        """
        turn = TogetherTurn(
            params,
            self._patience,
            pool=self._pool,
            count=self._count,
            max_waiting=self._max_waiting,
        )
        try:
            await turn.acquire()
            yield turn
        finally:
            turn.leave()

    # ------------------------------------------------------------ how it goes

    @property
    def open_sockets(self) -> int:
        return sum(socket.open for socket in self._pool.sockets)

    @property
    def max_sockets(self) -> int:
        """Of the default model."""
        return self._pool.limit(self._pool.ahead.model)

    @property
    def waiting_turns(self) -> int:
        """Without a slot."""
        return len(self._pool.waiters)

    # ------------------------------------------------------------ life

    async def __aenter__(self) -> Self:
        self._spawn(self._keep(), "speech.keeper")
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
        self._pool.close(ProviderBroken("the voice was closed"))
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=2 * CLOSE_TIMEOUT)
        for pump in self._pumps.values():
            pump.abort()

    def _stir(self, at: float) -> None:
        """Something is due then."""
        if at < self._due:
            self._stirred.set()

    async def _keep(self) -> None:
        """Does what is due, when it is due or when somebody stirs."""
        while True:
            self._stirred.clear()
            self._due = math.inf
            try:
                due = self._do_what_is_due(_now())
            except Exception:
                # A bug, but every turn of this process hangs on this task.
                self._count(Happened.CRASHED)
                log.exception("tts.keeper_failed")
                due = _now() + RECOVERY
            self._due = due
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(None if due == math.inf else due):
                    await self._stirred.wait()

    def _do_what_is_due(self, now: float) -> float:
        """When the next is."""
        for socket in list(self._pool.sockets):
            match socket.look(now):
                case Verdict.ASK:
                    self._spawn(self._pumps[socket].ping(socket), "speech.ping")
                case Verdict.DEAD:
                    self._pool.unanswered(socket)
        self._pool.tick(now)
        return self._pool.due(now)

    async def _live(self, socket: Socket) -> None:
        """From opening to end; whoever ends it, its turns learn so before anything else."""
        reason: ProviderError = SocketLost("the socket was closed")
        try:
            pump = self._pumps[socket] = await self._endpoint.open(socket)
            self._opened(socket)
            # How long a pong takes there is known before it matters.
            self._spawn(pump.ping(socket), "speech.ping")
            reason = await pump.read(socket)
        except ProviderError as exc:
            reason = exc
        finally:
            self._ended(socket, reason)
            if socket in self._pumps:
                await self._pumps[socket].farewell()
                del self._pumps[socket]

    def _opened(self, socket: Socket) -> None:
        self._pool.opened(socket)
        log.info("tts.socket_open", extra={"model": socket.model, "sockets": self.open_sockets})
        if socket.is_of_another_model and not socket.profile.said_model:
            socket.profile.said_model = True
            extra = {"model": socket.model, "session_model": socket.session_model}
            log.warning("tts.another_model", extra=extra)

    def _ended(self, socket: Socket, reason: ProviderError) -> None:
        if socket in self._pumps:
            by_us = socket.state is State.RETIRING
            log.info("tts.socket_closed", extra={"model": socket.model, "by_us": by_us})
        if self._pool.ended(socket, reason, _now()):
            extra = {"model": socket.model, "code": reason.code.value}
            log.warning("tts.connect_failed", extra=extra)

    # ------------------------------------------------------------ tasks

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.create_task(work, name=name, context=self._context)
        self._tasks.add(task)
        task.add_done_callback(self._task_ended, context=self._context)

    def _task_ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (exc := task.exception()) is not None:
            self._count(Happened.CRASHED)
            log.error("tts.task_crashed", extra={"task": task.get_name()}, exc_info=exc)


def _now() -> float:
    return asyncio.get_running_loop().time()
