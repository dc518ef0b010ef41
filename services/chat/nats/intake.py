"""Takes `chat.request`: each is understood and put on `chat.request.<c>`, in the order it came.

One replica at a time does this for all (a pinned consumer), in batches whose acks are checked. A
replica that takes over first waits until everything un-acked has come back to it, so that the
order of one sender holds when its predecessor dies.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from services.chat.queue import oldest_of_each
from services.chat.request import handed_on_with, understand, warnings_of
from shared.contract import (
    CHAT_INTAKE,
    CHAT_REQUESTS_STREAM,
    H_ASKED_AT,
    H_CONVERSATION,
    H_TURN,
    MSG_ID,
    ChatRequest,
    chat_request,
    encode,
)
from shared.errors import Busy, Full, NatsError
from shared.nats.connection import Connection
from shared.nats.lease import Delivery
from shared.nats.provision import INTAKE_GROUP, Consumer, consumer
from shared.nats.publish import PublishWindow
from shared.nats.pull import Pull
from shared.process.clock import SystemClock
from shared.process.failpoints import failpoint
from shared.process.logs import concerning, ids
from shared.process.metrics import HANDED_BACK, STOPPING
from shared.process.tracing import carried
from shared.refuse import Refused
from shared.retry import Backoff, wait_until

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from datetime import datetime


log = logging.getLogger(__name__)

CONSUMER: Final = consumer(CHAT_INTAKE)
MAX_HELD: Final = 1_024
MAX_HELD_BYTES: Final = 16 * 1024 * 1024  # as they came, and again as they were understood
BATCH: Final = 128  # some milliseconds: whoever comes next does not wait for a whole flood
LOOK_SECONDS: Final = 0.05
FULL_SECONDS: Final = 5.0  # that the queue may be full before the newest requests are refused
AGAIN: Final = Backoff(first=0.2, longest=1.0)  # while NATS takes nothing
DRAIN_SECONDS: Final = 2.0  # to forward what was taken; the rest is handed back


@dataclass(frozen=True, slots=True)
class _Taken:
    """A request as it was taken, and what was understood of it."""

    delivery: Delivery
    found: ChatRequest | Refused

    @property
    def warnings(self) -> list[str]:
        return warnings_of(self.delivery)

    @property
    def conversation_id(self) -> str:
        return self.found.conversation_id or ""


class NatsIntake:
    def __init__(
        self,
        connection: Connection,
        *,
        max_bytes: int,
        refuse: Callable[[Delivery, Refused], Awaitable[None]],
        consumer: Consumer = CONSUMER,
    ) -> None:
        self._connection, self._max_bytes, self._refuse = connection, max_bytes, refuse
        self._lease = consumer.lease
        self._waiting: dict[tuple[datetime, int], _Taken] = {}  # by age
        self._bytes = 0  # of those
        self._came = asyncio.Event()
        self._new_pin = True
        self._pull = Pull(
            connection,
            consumer,
            self._take,
            room=lambda: MAX_HELD - len(self._waiting),
            bytes_room=lambda: MAX_HELD_BYTES - self._bytes,
            on_pinned=self._on_pinned,
        )

    def _on_pinned(self) -> None:
        self._new_pin = True

    def _take(self, delivery: Delivery) -> None:
        known = self._waiting.get(_age(delivery))
        if known is not None:
            known.delivery.adopt(delivery)
        else:
            found = understand(delivery, max_bytes=self._max_bytes)
            self._waiting[_age(delivery)] = _Taken(delivery, found)
            self._bytes += len(delivery.data)
        self._came.set()

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._pull.run())
            group.create_task(self._forward_all())

    async def drain(self) -> None:
        """Takes nothing more, and forwards what was taken."""
        await self._pull.drain()
        await wait_until(self._is_empty, DRAIN_SECONDS, clock=SystemClock())

    async def _is_empty(self) -> bool:
        return not self._waiting

    async def hand_over(self) -> None:
        """Lets another replica take over at once instead of after a lease."""
        # All at once: the pin may pass on before a thousand of them one by one have come back, and
        # who gets it waits for what is missing no longer than two leases.
        HANDED_BACK.labels("chat", STOPPING).inc(len(self._waiting))
        await asyncio.gather(*(taken.delivery.nak() for taken in self._waiting.values()))
        self._waiting.clear()
        self._bytes = 0
        if self._pull.pin is None:
            return
        try:
            await self._connection.api(
                f"CONSUMER.UNPIN.{CHAT_REQUESTS_STREAM}.{CHAT_INTAKE}", {"group": INTAKE_GROUP}
            )
        except NatsError as exc:
            log.info("intake.not_unpinned", extra={"reason": str(exc)})

    async def _forward_all(self) -> None:
        while True:
            await self._came.wait()
            self._came.clear()
            if self._new_pin:
                self._new_pin = False
                await self._everything_here()
            pauses, full_since, count = AGAIN.pauses(), None, BATCH
            while self._waiting and not self._new_pin:
                in_order = (self._waiting[n] for n in sorted(self._waiting))
                batch = oldest_of_each(in_order, lambda taken: taken.conversation_id, count)
                try:
                    await self._forward(batch)
                except NatsError as exc:
                    extra = {"requests": len(batch), "reason": str(exc)}
                    log.warning("intake.retried", extra=extra)
                    if isinstance(exc, Full):
                        count = 1  # so that it makes room at once
                        full_since = full_since or time.monotonic()
                        if time.monotonic() - full_since > FULL_SECONDS:
                            await self._refuse_newest()
                            full_since = None
                            continue
                    await asyncio.sleep(next(pauses))
                else:
                    pauses, full_since, count = AGAIN.pauses(), None, BATCH

    async def _refuse_newest(self) -> None:
        """What is handed on is there twice for a moment: a queue full of what has not been handed
        on would stay full for ever."""
        taken = self._waiting[max(self._waiting)]
        found = taken.found
        if not isinstance(found, Refused):
            error = Busy("there is no room for more requests")
            found = Refused(error, taken.conversation_id, str(found.turn_id))
        with contextlib.suppress(NatsError):  # then the next one is tried
            await self._refuse_one(taken, found)
            await taken.delivery.ack()
            self._done_with(taken)

    async def _refuse_one(self, taken: _Taken, found: Refused) -> None:
        with concerning(lambda: ids(found.conversation_id, found.turn_id, taken.delivery.headers)):
            await self._refuse(taken.delivery, found)

    def _done_with(self, taken: _Taken) -> None:
        if self._waiting.pop(_age(taken.delivery), None) is not None:
            self._bytes -= len(taken.delivery.data)

    async def _everything_here(self) -> None:
        """Waits until all that is un-acked has come to this replica.

        As long as more of it comes; two leases after the last of it, at most.
        """
        here, until = -1, time.monotonic() + 2 * self._lease
        while time.monotonic() < until:
            with contextlib.suppress(NatsError):
                info = await self._connection.api(
                    f"CONSUMER.INFO.{CHAT_REQUESTS_STREAM}.{CHAT_INTAKE}",
                    seconds=self._lease / 3,
                )
                come = self._here(info)
                if int(info.get("num_ack_pending", 0)) <= come:
                    return
                if come > here:
                    here, until = come, time.monotonic() + 2 * self._lease
            await asyncio.sleep(LOOK_SECONDS)

    def _here(self, info: dict[str, Any]) -> int:
        """How many are here of those that `info` counts: not what was given to us since then."""
        given = int(info["delivered"]["consumer_seq"])
        return sum(t.delivery.consumer_sequence <= given for t in self._waiting.values())

    async def _forward(self, batch: list[_Taken]) -> None:
        failpoint("intake.taken")
        window = PublishWindow(self._connection, ordered=False)  # one of each conversation
        try:
            for taken in batch:
                delivery, found = taken.delivery, taken.found
                if isinstance(found, Refused):
                    await self._refuse_one(taken, found)
                    continue
                headers = {
                    # The same request taken twice is put there once.
                    MSG_ID: f"intake.{delivery.unique}",
                    H_CONVERSATION: taken.conversation_id,
                    H_TURN: str(found.turn_id),
                    H_ASKED_AT: delivery.taken_at.isoformat(),
                    **handed_on_with(taken.warnings),
                    **carried(delivery.headers),
                }
                await window.send(chat_request(taken.conversation_id), encode(found), headers)
            await window.drained()
        finally:
            window.close()
        failpoint("intake.forwarded")
        for taken in batch:
            await taken.delivery.ack_unconfirmed()
            self._done_with(taken)
        self._pull.more()


def _age(delivery: Delivery) -> tuple[datetime, int]:
    """A stream that was made anew counts from 1 again."""
    return delivery.taken_at, delivery.sequence
