"""Takes work from a queue: slots for what runs, and the way back for what cannot be done here."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from shared.errors import Internal, NatsError, Superseded
from shared.nats.lease import Delivery, keep_leases
from shared.nats.provision import Consumer
from shared.nats.pull import Pull
from shared.process.logs import concerning
from shared.process.metrics import (
    BROKEN,
    FENCED_WRITES,
    HANDED_BACK,
    NO_NATS,
    NO_ROOM,
    STOPPING,
)
from shared.retry import Backoff

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
    from datetime import datetime

    from shared.errors import Failure
    from shared.nats.connection import Connection
    from shared.refuse import Message

log = logging.getLogger(__name__)

MAX_HELD: Final = 10_000
# Of messages held, 250 of the largest: each is held as it came and as it was understood, and the
# smallest pod has 512 MiB. What is over it goes back to the queue, the youngest that waits first.
MAX_HELD_BYTES: Final = 64 * 1024 * 1024
LATER_SECONDS: Final = 2.0  # before it comes again
SLACK: Final = 32  # held beyond the free slots, so that what needs no slot is never kept waiting
MAX_DELIVERIES: Final = 25  # of one message; its own counting should have ended it long ago
# By how often it was delivered: before what failed unexpectedly is tried again.
AGAIN: Final = Backoff(first=0.5, longest=2.0)
LAST_WORDS_SECONDS: Final = 10.0  # for those that were cancelled to hand their message back


@dataclass(slots=True, eq=False)
class _Held:
    """A message in hand, and the task that handles it."""

    delivery: Delivery
    task: asyncio.Task[None] = field(init=False)
    runs: bool = False  # it has a slot
    told: bool = False  # to end; a second cancel would cut off the handing back
    later: float = 0.0  # seconds before it is to come again

    @property
    def age(self) -> tuple[datetime, int]:
        return self.delivery.taken_at, self.delivery.sequence


class Work:
    """A work queue's consumer in this process.

    `handle` ends a message by acking it; it raises Superseded to leave it to somebody else,
    NatsError to hand it back, and anything else to have it tried again: what fails so after
    `max_deliveries` is given to `hopeless`, which acks it. `ids` gives the fields of log lines.
    """

    def __init__(
        self,
        connection: Connection,
        consumer: Consumer,
        *,
        slots: int,
        handle: Callable[[Delivery], Awaitable[None]],
        hopeless: Callable[[Delivery, Failure], Awaitable[None]],
        ids: Callable[[Delivery], Mapping[str, object]] = lambda _: {},
        again: Backoff = AGAIN,
        max_deliveries: int = MAX_DELIVERIES,
        max_bytes: int = MAX_HELD_BYTES,
    ) -> None:
        self._max_bytes, self._bytes = max_bytes, 0
        self._consumer, self._handle, self._hopeless = consumer, handle, hopeless
        self._ids = ids
        self._again, self._max_deliveries = again, max_deliveries
        self._slots = asyncio.Semaphore(slots)
        self._total = self._free = slots
        self._waiting = 0  # for a slot
        self._held: dict[str, _Held] = {}  # by what names them; a stream made anew counts from 1
        self._pull = Pull(
            connection,
            consumer,
            self._take,
            room=self._room,
            bytes_room=lambda: self._max_bytes - self._bytes,
        )
        self._loops: list[asyncio.Task[None]] = []

    @property
    def running(self) -> int:
        """That have a slot."""
        return self._total - self._free

    @property
    def waiting(self) -> int:
        """Held without a slot."""
        return len(self._held) - self.running

    async def start(self) -> None:
        self._loops = [
            asyncio.create_task(self._pull.run()),
            asyncio.create_task(keep_leases(self._deliveries, self._consumer.lease)),
        ]

    def _deliveries(self) -> list[Delivery]:
        return [held.delivery for held in self._held.values()]

    async def failed(self) -> None:
        """Returns or raises when a loop of this has ended, which none should."""
        done, _ = await asyncio.wait(self._loops, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            await task

    def _room(self) -> int:
        if len(self._held) >= MAX_HELD:
            return 0
        return self._free + SLACK - self._waiting

    def _take(self, delivery: Delivery) -> None:
        known = self._held.get(delivery.unique)
        # What was handed back may come again before the server's word that it has it.
        if known is not None and not known.delivery.handed_back:
            known.delivery.adopt(delivery)
            return
        held = self._held[delivery.unique] = _Held(delivery)
        self._bytes += len(delivery.data)
        held.task = asyncio.create_task(self._run(held))
        if self._bytes > self._max_bytes:
            self._hand_back_youngest()

    def _hand_back_youngest(self) -> None:
        """Others may wait for what is older."""
        waiting = [held for held in self._held.values() if not held.runs and not held.told]
        if len(waiting) > 1:
            youngest = max(waiting, key=lambda held: held.age)
            youngest.told, youngest.later = True, LATER_SECONDS
            # Not before it has begun: who never began hands nothing back.
            asyncio.get_running_loop().call_soon(youngest.task.cancel)

    async def _run(self, held: _Held) -> None:
        with concerning(lambda: self._ids(held.delivery)):
            await self._run_to_end(held)

    async def _run_to_end(self, held: _Held) -> None:
        delivery = held.delivery
        pause = self._again.ceiling(delivery.deliveries)
        try:
            await self._handle(delivery)
        except Superseded:
            FENCED_WRITES.labels(self._consumer.service).inc()
            log.info("work.superseded", extra={"consumer": self._consumer.name})
        except asyncio.CancelledError:
            why = NO_ROOM if held.later else STOPPING
            log.debug("work.handed_back", extra={"why": why})  # a flood's, perhaps, and no trouble
            await self._hand_back(delivery, why, held.later)
        except NatsError as exc:
            log.warning("work.handed_back", extra={"why": NO_NATS, "reason": str(exc)})
            await self._hand_back(delivery, NO_NATS, pause)
        except Exception:  # the last guard: a bug must neither kill the worker nor lose the message
            log.exception("work.failed", extra={"consumer": self._consumer.name})
            await self._failed(delivery, pause)
        finally:
            if self._held.get(delivery.unique) is held:
                del self._held[delivery.unique]
            self._bytes -= len(delivery.data)
            self._pull.more()

    async def _failed(self, delivery: Delivery, pause: float) -> None:
        """It was delivered too often only if it also failed at last, for a reason of its own.

        What was handed back, however often, has not failed.
        """
        if delivery.deliveries >= self._max_deliveries:
            try:
                await self._hopeless(
                    delivery, Internal(f"failed, and was delivered {delivery.deliveries} times")
                )
            except Exception:  # as above; it is kept and tried again
                log.exception("work.failed", extra={"consumer": self._consumer.name})
            else:
                return
        await self._hand_back(delivery, BROKEN, pause)

    async def _hand_back(self, delivery: Delivery, why: str, pause: float) -> None:
        HANDED_BACK.labels(self._consumer.service, why).inc()
        await delivery.nak(pause)

    @contextlib.asynccontextmanager
    async def slot(self, message: Message) -> AsyncIterator[None]:
        """One of the slots for those that run; waits for it."""
        self._waiting += 1
        try:
            await self._slots.acquire()
        finally:
            self._waiting -= 1
        held = self._held[message.unique]
        self._free -= 1
        held.runs = True
        try:
            yield
        finally:
            held.runs = False
            self._free += 1
            self._slots.release()

    async def drain(self, grace: float) -> None:
        """What runs may finish within `grace` seconds; what waits is handed back at once."""
        until = time.monotonic() + grace
        await self._pull.drain()
        while self._held and time.monotonic() <= until + LAST_WORDS_SECONDS:
            for held in self._held.values():
                if not held.told and (not held.runs or time.monotonic() >= until):
                    held.told = True
                    held.task.cancel()
            left = max(0.05, min(0.25, until - time.monotonic()))
            await asyncio.wait([held.task for held in self._held.values()], timeout=left)
        for loop in self._loops:
            loop.cancel()
