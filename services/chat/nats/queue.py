"""The requests of one conversation in the work queue: who is first, and when that may change.

One `Lines` for the process; waiters of the same conversation share one look at the queue.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Final

from services.chat.ports import Older
from services.chat.request import turn_id_of
from shared.contract import (
    CHAT_CANCEL,
    CHAT_REQUESTS_STREAM,
    CancelRequest,
    chat_delta,
    chat_request,
    encode,
)
from shared.errors import Superseded
from shared.nats import read
from shared.nats.connection import Connection
from shared.nats.read import read_back

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from nats.aio.msg import Msg
    from nats.aio.subscription import Subscription

    from shared.process.cancel import Stop

# How old a look at the queue may be for telling a late-comer that too many wait.
LOOK_SECONDS: Final = 0.25
# The end of a turn is published before its request is acked: the queue moves on a little later.
AFTER_END_SECONDS: Final = (0.002, 0.005, 0.01, 0.03, 0.1)
POLL_SECONDS: Final = 1.0
_ENDS: Final = (b'{"type":"done"', b'{"type":"failed"')


class _Queue:
    """What waiters of one conversation share."""

    def __init__(self, connection: Connection, conversation_id: str) -> None:
        self._connection = connection
        self.conversation_id = conversation_id
        self.subject = chat_request(conversation_id)
        self.users = 0
        self._lock = asyncio.Lock()
        self._first: list[Older] = []
        self._looked = -1e9
        self._full = False
        self._changed = asyncio.Event()
        self._sub: Subscription | None = None

    async def watch(self) -> None:
        if self._sub is None:
            self._sub = await self._connection.client.subscribe(
                chat_delta(self.conversation_id), cb=self._on_delta
            )

    async def unwatch(self) -> None:
        if self._sub is not None:
            with contextlib.suppress(Exception):  # a closed connection has no subscriptions
                await self._sub.unsubscribe()

    async def _on_delta(self, msg: Msg) -> None:
        if msg.data.startswith(_ENDS):
            self.wake()

    def wake(self) -> None:
        self._looked = -1e9
        self._changed.set()
        self._changed = asyncio.Event()

    async def changed(self) -> bool:
        """True when woken, False after the poll interval."""
        event = self._changed
        try:
            async with asyncio.timeout(POLL_SECONDS):
                await event.wait()
        except TimeoutError:
            return False
        return True

    def too_late(self, sequence: int) -> list[Older]:
        """As many older ones as anybody asked for, by a look a moment ago; else empty."""
        fresh = time.monotonic() - self._looked < LOOK_SECONDS
        if fresh and self._full and sequence > self._first[-1].sequence:
            return self._first
        return []

    async def first(self, limit: int, sequence: int) -> list[Older]:
        """The first `limit` requests of the queue, or enough of them to place `sequence`."""
        async with self._lock:
            if not self.too_late(sequence):
                await self._look(limit)
            return self._first

    async def _look(self, limit: int) -> None:
        found: list[Older] = []
        async for message in read_back(
            self._connection, CHAT_REQUESTS_STREAM, self.subject, 1, batch=limit
        ):
            turn_id = turn_id_of(message.data, message.headers, message.sequence)
            found.append(Older(message.sequence, turn_id))
            if len(found) >= limit:
                break
        self._first, self._full = found, len(found) >= limit
        self._looked = time.monotonic()


class Lines:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._queues: dict[str, _Queue] = {}

    def ended(self, conversation_id: str) -> None:
        """A request of this conversation has left the queue, by this process."""
        queue = self._queues.get(conversation_id)
        if queue is not None:
            queue.wake()

    @contextlib.asynccontextmanager
    async def place(
        self, conversation_id: str, sequence: int, stop: Stop
    ) -> AsyncIterator[NatsLine]:
        """The line as one request sees it, for as long as it waits."""
        queue = self._queues.setdefault(conversation_id, _Queue(self._connection, conversation_id))
        queue.users += 1
        try:
            yield NatsLine(self._connection, queue, sequence, stop)
        finally:
            queue.users -= 1
            if not queue.users:
                self._queues.pop(conversation_id, None)
                await queue.unwatch()


class NatsLine:
    """The line as one request sees it."""

    def __init__(self, connection: Connection, queue: _Queue, sequence: int, stop: Stop) -> None:
        self._connection, self._queue, self._sequence, self._stop = (
            connection,
            queue,
            sequence,
            stop,
        )

    async def older(self, limit: int) -> Sequence[Older]:
        # A flood is told off without asking the server each time.
        if found := self._queue.too_late(self._sequence):
            return found
        # Whether this is the first is a decision: it is read from the leader.
        first = await read.first(self._connection, CHAT_REQUESTS_STREAM, self._queue.subject)
        if first is None or first.sequence > self._sequence:
            raise Superseded
        if first.sequence == self._sequence:
            return ()
        found = await self._queue.first(limit, self._sequence)
        older = [o for o in found if o.sequence < self._sequence]
        turn_id = turn_id_of(first.data, first.headers, first.sequence)
        return older or [Older(first.sequence, turn_id)]

    async def changed(self) -> None:
        await self._queue.watch()
        if not await self._stop.guard(self._queue.changed()):
            return
        for pause in AFTER_END_SECONDS:
            await self._stop.guard(asyncio.sleep(pause))
            first = await read.first(self._connection, CHAT_REQUESTS_STREAM, self._queue.subject)
            if first is None or first.sequence >= self._sequence:
                return

    async def interrupt(self, turn_id: str) -> None:
        cancel = CancelRequest(self._queue.conversation_id, turn_id)
        await self._connection.send(CHAT_CANCEL, encode(cancel))
