"""The requests of each conversation in the work queue: who is before whom, when that may change.

One `NatsQueue` for the process; waiters of the same conversation share one look at the queue.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from typing import TYPE_CHECKING, Final

from services.chat.queue import Older
from services.chat.request import conversation_id_of, turn_id_of
from shared.contract import CHAT_REQUEST, CHAT_REQUESTS_STREAM, chat_delta, chat_request
from shared.errors import Superseded
from shared.nats import read
from shared.nats.connection import Connection
from shared.nats.read import read_back
from shared.retry import Backoff

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from nats.aio.subscription import Subscription

    from shared.nats.read import StoredMessage
    from shared.nats.wire import Incoming
    from shared.process.cancel import CancelToken

# How old a look at the queue may be for telling a late-comer that too many wait.
LOOK_SECONDS: Final = 0.25
# The end of a turn is published before its request is acked: the queue moves on a little later.
AFTER_END: Final = Backoff(first=0.002, longest=0.1)
LOOKS_AFTER_END: Final = 6
POLL_SECONDS: Final = 1.0
_NEVER: Final = float("-inf")
_ENDS: Final = (b'{"type":"done"', b'{"type":"failed"')


class NatsQueue:
    """Implements Queue."""

    def __init__(self, connection: Connection, *, poll_seconds: float = POLL_SECONDS) -> None:
        self._connection, self._poll_seconds = connection, poll_seconds
        self._watched: dict[str, _Watched] = {}

    async def holds(self, conversation_id: str, turn_id: str) -> bool:
        subject = chat_request(conversation_id)
        async for message in read_back(self._connection, CHAT_REQUESTS_STREAM, subject):
            if _older(message).turn_id == turn_id:
                return True
        async for message in read_back(self._connection, CHAT_REQUESTS_STREAM, CHAT_REQUEST):
            named = conversation_id_of(message.data)
            if (named, _older(message).turn_id) == (conversation_id, turn_id):
                return True
        return False

    def ended(self, conversation_id: str) -> None:
        watched = self._watched.get(conversation_id)
        if watched is not None:
            watched.wake()

    @contextlib.asynccontextmanager
    async def position(
        self, conversation_id: str, sequence: int, stop: CancelToken
    ) -> AsyncIterator[NatsQueuePosition]:
        watched = self._watched.get(conversation_id)
        if watched is None:
            watched = _Watched(self._connection, conversation_id, self._poll_seconds)
            self._watched[conversation_id] = watched
        watched.users += 1
        try:
            yield NatsQueuePosition(self._connection, watched, sequence, stop)
        finally:
            watched.users -= 1
            if not watched.users:
                self._watched.pop(conversation_id, None)
                await watched.unwatch()


class NatsQueuePosition:
    """Implements QueuePosition: the queue as one request sees it."""

    def __init__(
        self, connection: Connection, watched: _Watched, sequence: int, stop: CancelToken
    ) -> None:
        self._connection, self._watched = connection, watched
        self._sequence, self._stop = sequence, stop

    async def older(self, limit: int) -> Sequence[Older]:
        # A flood is told off without asking the server each time.
        if found := self._watched.too_late(self._sequence):
            return found
        first = await self._first()
        if first is None or first.sequence > self._sequence:
            raise Superseded
        if first.sequence == self._sequence:
            return ()
        found = await self._watched.first(limit, self._sequence)
        return [o for o in found if o.sequence < self._sequence] or [_older(first)]

    async def _first(self) -> StoredMessage | None:
        """Whether this request is the first is a decision: it is read from the leader."""
        return await read.first(self._connection, CHAT_REQUESTS_STREAM, self._watched.subject)

    async def changed(self) -> None:
        """Or after the poll interval: nobody may have told."""
        await self._watched.watch()
        if not await self._stop.guard(self._watched.changed()):
            return
        for pause in itertools.islice(AFTER_END.pauses(), LOOKS_AFTER_END):
            await self._stop.guard(asyncio.sleep(pause))
            first = await self._first()
            if first is None or first.sequence >= self._sequence:
                return


class _Watched:
    """What waiters of one conversation share."""

    def __init__(self, connection: Connection, conversation_id: str, poll_seconds: float) -> None:
        self._connection, self._poll_seconds = connection, poll_seconds
        self.subject = chat_request(conversation_id)
        self.users = 0
        self._delta = chat_delta(conversation_id)
        self._lock = asyncio.Lock()
        self._first: list[Older] = []
        self._looked = _NEVER
        self._full = False
        self._changed = asyncio.Event()
        self._sub: Subscription | None = None

    @property
    def is_watched(self) -> bool:
        """Ends that are told elsewhere are heard, once the server knows of it."""
        return self._sub is not None

    async def watch(self) -> None:
        if self._sub is None:
            self._sub = await self._connection.subscribe(self._delta, self._on_delta)

    async def unwatch(self) -> None:
        if self._sub is not None:
            await self._connection.unsubscribe(self._sub)

    def _on_delta(self, msg: Incoming) -> None:
        if msg.data.startswith(_ENDS):
            self.wake()

    def wake(self) -> None:
        self._looked = _NEVER
        self._changed.set()
        self._changed = asyncio.Event()

    async def changed(self) -> bool:
        """True when woken, False after the poll interval."""
        event = self._changed
        try:
            async with asyncio.timeout(self._poll_seconds):
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
            self._connection, CHAT_REQUESTS_STREAM, self.subject, batch=limit
        ):
            found.append(_older(message))
            if len(found) >= limit:
                break
        self._first, self._full = found, len(found) >= limit
        self._looked = time.monotonic()


def _older(message: StoredMessage) -> Older:
    turn_id = turn_id_of(message.data, message.headers, message.sequence)
    return Older(message.sequence, turn_id)
