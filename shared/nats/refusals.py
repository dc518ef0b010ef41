"""Tells the sender of a bad request why it is refused, where it gave an inbox.

A stream keeps no reply subject, so that a queue group hears requests as they are published. The
sender hears the stream's own ack first: it is told when the dead letter shows that the stream had
the request.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections import deque
from typing import TYPE_CHECKING, Final

from shared.contract import H_SUBJECT, Refusal, everywhere
from shared.nats.dead_letters import kept_of
from shared.nats.replies import is_inbox, reply_to

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from nats.aio.subscription import Subscription

    from shared.errors import Failure
    from shared.nats.connection import Connection
    from shared.nats.wire import Incoming

# The stream may have dropped the request as one that it had before: then there is no dead letter.
WAIT_SECONDS: Final = 3.0
MAX_WAITING: Final = 1_000
_OURS: Final = "_INBOX.parley-"  # what a service hands on was understood before


class Refusals:
    """`check` says why a request would be refused, None where it would not."""

    def __init__(
        self,
        connection: Connection,
        *,
        subjects: Sequence[str],
        queue: str,
        dead: str,
        check: Callable[[Incoming], Failure | None],
        wait_seconds: float = WAIT_SECONDS,
    ) -> None:
        self._connection, self._check, self._wait_seconds = connection, check, wait_seconds
        self._subjects, self._queue, self._dead = subjects, queue, dead
        self._waiting: dict[bytes, deque[asyncio.Event]] = {}
        self._telling: set[asyncio.Task[None]] = set()
        self._subscriptions: list[Subscription] = []

    async def start(self) -> None:
        subscribe = self._connection.subscribe
        for subject in everywhere(self._dead):
            self._subscriptions.append(await subscribe(subject, self._on_dead_letter))
        for subject in self._subjects:
            subscription = await subscribe(subject, self._on_request, queue=self._queue)
            self._subscriptions.append(subscription)

    async def stop(self) -> None:
        for subscription in self._subscriptions:
            await self._connection.unsubscribe(subscription)
        for task in tuple(self._telling):
            task.cancel()

    def _on_request(self, msg: Incoming) -> None:
        if not is_inbox(msg.reply) or msg.reply.startswith(_OURS):
            return
        error = self._check(msg)
        if error is not None and len(self._telling) < MAX_WAITING:
            key = self._key(msg.subject, msg.data)
            stored = asyncio.Event()
            self._waiting.setdefault(key, deque()).append(stored)
            task = asyncio.create_task(self._tell(msg.reply, error, key, stored))
            self._telling.add(task)
            task.add_done_callback(self._telling.discard)

    async def _tell(self, reply: str, error: Failure, key: bytes, stored: asyncio.Event) -> None:
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._wait_seconds):
                    await stored.wait()
            await reply_to(self._connection, reply, Refusal(error.as_error()))
        finally:
            self._forget(key, stored)

    def _forget(self, key: bytes, stored: asyncio.Event) -> None:
        waiting = self._waiting.get(key)
        if waiting is not None and stored in waiting:
            waiting.remove(stored)
            if not waiting:
                del self._waiting[key]

    def _on_dead_letter(self, msg: Incoming) -> None:
        if not self._waiting:
            return
        key = self._key(msg.headers.get(H_SUBJECT, ""), msg.data)
        for stored in self._waiting.get(key, ()):
            if not stored.is_set():
                stored.set()
                return

    def _key(self, subject: str, data: bytes) -> bytes:
        return hashlib.sha256(subject.encode() + b"\n" + kept_of(data, self._connection)).digest()
