"""Takes work from a queue: one task for each message held, its lease kept, places for those that
run, and the way back for what cannot be done here.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from typing import TYPE_CHECKING, Final

from shared.errors import Internal, Replaced
from shared.nats_bus import BusError, Delivery, Pull, keep_leases
from shared.provision import LEASE_SECONDS, consumers, ensure_consumer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from shared.nats_bus import Bus

log = logging.getLogger(__name__)

MOST_HELD: Final = 10_000
SLACK: Final = 32  # held beyond the free places, so that what needs no place is never kept waiting
AGAIN_SECONDS: Final = 1.0  # before what failed unexpectedly is tried again
HOPELESS: Final = 25  # deliveries of one message; its own counting should have ended it long ago


class LeaseFence:
    """Fresh while the lease was never lost sight of; then `look` tells whether the work is ours.

    A worker that was frozen, or cut off from NATS, for longer than a lease looks before each
    publish from then on: somebody else may take the work over at any moment.
    """

    def __init__(self, delivery: Delivery, look: Callable[[], Awaitable[None]]) -> None:
        self._delivery, self._look = delivery, look

    @property
    def fresh(self) -> bool:
        delivery = self._delivery
        if time.monotonic() - delivery.confirmed > LEASE_SECONDS:
            delivery.lapsed = True
        return not delivery.lapsed

    async def verify(self) -> None:
        """Raises Replaced, or BusError while nobody can tell."""
        await self._look()


class Work:
    """A work queue's consumer in this process.

    `handle` ends a message by acking it; it raises Replaced to leave it to somebody else, and
    anything else to have it delivered again. `bury` gets what is beyond hope.
    """

    def __init__(
        self,
        bus: Bus,
        stream: str,
        consumer: str,
        *,
        places: int,
        handle: Callable[[Delivery], Awaitable[None]],
        bury: Callable[[Delivery, Internal], Awaitable[None]],
    ) -> None:
        self._bus, self._stream, self._consumer = bus, stream, consumer
        self._handle, self._bury = handle, bury
        self._places = asyncio.Semaphore(places)
        self._free = places
        self._unplaced = 0
        self._held: dict[int, Delivery] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._running: set[int] = set()
        self._pull = Pull(
            bus, stream, consumer, self._take, room=self._room, missing=self._make_consumer
        )
        self._loops: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        self._loops = [
            asyncio.create_task(self._pull.run()),
            asyncio.create_task(keep_leases(lambda: list(self._held.values()), LEASE_SECONDS)),
        ]

    async def failed(self) -> None:
        """Returns or raises when a loop of this has ended, which none should."""
        done, _ = await asyncio.wait(self._loops, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            await task

    async def _make_consumer(self) -> None:
        """The consumer is gone: somebody deleted it, or the server lost it."""
        for stream, config in consumers():
            if (stream, config["durable_name"]) == (self._stream, self._consumer):
                try:
                    await ensure_consumer(self._bus, stream, config)
                except BusError as exc:
                    log.warning("work.consumer_missing", extra={"reason": str(exc)})
                    await asyncio.sleep(1)

    def _room(self) -> int:
        if len(self._held) >= MOST_HELD:
            return 0
        return self._free + SLACK - self._unplaced

    def _take(self, delivery: Delivery) -> None:
        known = self._held.get(delivery.sequence)
        if known is not None:
            known.adopt(delivery)
            return
        self._held[delivery.sequence] = delivery
        task = asyncio.create_task(self._run(delivery))
        self._tasks[delivery.sequence] = task

    async def _run(self, delivery: Delivery) -> None:
        try:
            if delivery.deliveries > HOPELESS:
                await self._bury(delivery, Internal(f"delivered {delivery.deliveries} times"))
                await delivery.ack()
            else:
                await self._handle(delivery)
        except Replaced:
            log.info("work.replaced", extra={"consumer": self._consumer})
        except asyncio.CancelledError:
            await delivery.nak()
        except BusError as exc:
            log.warning("work.handed_back", extra={"reason": str(exc)})
            await delivery.nak(AGAIN_SECONDS)
        except Exception:  # the last guard: a bug must neither kill the worker nor lose the message
            log.exception("work.failed", extra={"consumer": self._consumer})
            await delivery.nak(AGAIN_SECONDS)
        finally:
            self._held.pop(delivery.sequence, None)
            self._tasks.pop(delivery.sequence, None)
            self._pull.more()

    @contextlib.asynccontextmanager
    async def place(self, delivery: Delivery) -> AsyncIterator[None]:
        """One of the places for those that run; waits for it."""
        self._unplaced += 1
        try:
            await self._places.acquire()
        finally:
            self._unplaced -= 1
        self._free -= 1
        self._running.add(delivery.sequence)
        try:
            yield
        finally:
            self._running.discard(delivery.sequence)
            self._free += 1
            self._places.release()

    async def drain(self, grace: float) -> None:
        """What runs may finish within `grace` seconds; what waits is handed back at once."""
        until = time.monotonic() + grace
        await self._pull.drain()
        told: set[int] = set()  # a second cancel would cut off the handing back
        while self._tasks:
            for sequence, task in tuple(self._tasks.items()):
                waits = sequence not in self._running
                if sequence not in told and (waits or time.monotonic() >= until):
                    told.add(sequence)
                    task.cancel()
            left = max(0.05, min(0.25, until - time.monotonic()))
            await asyncio.wait(tuple(self._tasks.values()), timeout=left)
            if time.monotonic() > until + 10:
                break
        for loop in self._loops:
            loop.cancel()
