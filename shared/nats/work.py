"""Takes work from a queue: a continuous pull, the lease on each message, slots for those that run,
and the way back for what cannot be done here.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from typing import TYPE_CHECKING, Final

import msgspec
import nats.errors

from shared.errors import Internal, NatsError, Superseded
from shared.nats.provision import LEASE_SECONDS, consumers, ensure_consumer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

    from nats.aio.msg import Msg
    from nats.aio.subscription import Subscription

    from shared.nats.connection import Connection
    from shared.refuse import Message

log = logging.getLogger(__name__)

DRAIN_SECONDS: Final = 2.0  # for what the server had sent when a pull was ended
MAX_HELD: Final = 10_000
SLACK: Final = 32  # held beyond the free slots, so that what needs none is never kept waiting
AGAIN_SECONDS: Final = 1.0  # before what failed unexpectedly is tried again
HOPELESS: Final = 25  # deliveries of one message; its own counting should have ended it long ago


class Delivery:
    """One message of a work queue, held by a lease: un-acked, kept by heartbeats."""

    __slots__ = (
        "_connection",
        "_reply",
        "confirmed",
        "consumer_sequence",
        "data",
        "deliveries",
        "headers",
        "lapsed",
        "sequence",
        "settled",
        "subject",
        "taken_at",
    )

    def __init__(self, connection: Connection, msg: Msg) -> None:
        metadata = msg.metadata
        self._connection = connection
        self._reply = msg.reply
        self.subject = msg.subject
        self.data = msg.data
        self.headers: Mapping[str, str] = msg.headers or {}
        self.deliveries = metadata.num_delivered
        self.sequence = metadata.sequence.stream
        self.consumer_sequence = metadata.sequence.consumer  # counts what is given to anybody
        self.taken_at = metadata.timestamp  # UTC, when the stream took it
        self.confirmed = time.monotonic()  # when the lease was last known to be ours
        self.lapsed = False  # once it has been longer than a lease, for good
        self.settled = False

    @property
    def unique(self) -> str:
        """Names this message among all there ever were; a stream made anew counts from 1 again."""
        return f"{self.sequence}.{int(self.taken_at.timestamp() * 1e6)}"

    def adopt(self, other: Delivery) -> None:
        """The same message came again (a heartbeat was lost): go on under its lease."""
        self._reply, self.deliveries = other._reply, other.deliveries
        self._confirm(other.confirmed, 0)

    def _confirm(self, asked: float, lease: float) -> None:
        # The server says yes to anybody who ever held the message: a lease that ran out in
        # between may have been somebody else's, and only a look at the work itself can tell.
        if lease and asked - self.confirmed > lease:
            self.lapsed = True
        self.confirmed = max(self.confirmed, asked)

    async def heartbeat(self, lease: float) -> None:
        """Asks the server to keep the lease, and notes when it said yes."""
        if self.settled:
            return
        asked = time.monotonic()

        def confirm(_msg: Msg) -> None:
            self._connection.forget(token)
            self._confirm(asked, lease)

        token, reply = self._connection.expect(confirm)
        # Forgotten in any case: an answer after this long would confirm nothing.
        asyncio.get_running_loop().call_later(10, self._connection.forget, token)
        with contextlib.suppress(NatsError):
            await self._connection.send(self._reply, b"+WPI", reply=reply)

    async def ack(self) -> None:
        """A double ack: returns when the server has removed the message, else NatsError."""
        self.settled = True
        until = time.monotonic() + self._connection.publish_seconds
        while True:
            try:
                await self._connection.request(
                    self._reply, b"+ACK", seconds=self._connection.ack_seconds
                )
            except NatsError:
                if time.monotonic() > until:
                    raise
                await asyncio.sleep(0.1)
            else:
                return

    async def ack_unconfirmed(self) -> None:
        """For work that is harmless to repeat: nobody waits for the server's answer."""
        self.settled = True
        await self._connection.send(self._reply, b"+ACK")

    async def nak(self, delay: float = 0.0) -> None:
        """Hands the message back, to be delivered again after `delay` seconds."""
        self.settled = True
        body = b"-NAK" if not delay else b'-NAK {"delay": %d}' % int(delay * 1e9)
        with contextlib.suppress(NatsError):  # then the lease runs out, to the same effect
            await self._connection.request(self._reply, body, seconds=self._connection.ack_seconds)


class Pull:
    """A continuous pull: keeps requests open at the server and hands each message to `take`.

    `room()` says how many more messages may be asked for now; call `more()` when it grows.
    With `group`, a pinned-client priority group: one replica at a time gets everything, in order.
    """

    # Shorter than a lease: what a frozen worker asked for must not swallow what it lost.
    EXPIRES: Final = 5.0
    HEARTBEAT: Final = 2.0
    SILENCE: Final = 6.0  # no message, status or heartbeat for so long: asked again
    BATCH: Final = 128

    def __init__(
        self,
        connection: Connection,
        stream: str,
        consumer: str,
        take: Callable[[Delivery], None],
        *,
        room: Callable[[], int],
        missing: Callable[[], Awaitable[None]],
        group: str | None = None,
        expires: float = EXPIRES,
    ) -> None:
        self._connection, self._take, self._room, self._missing = connection, take, room, missing
        self._subject = f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}"
        self._group = group
        self._expires = expires
        self._open = 0  # messages asked for and not yet come
        self._heard = time.monotonic()
        self._reply = ""
        self._sub: Subscription | None = None
        self._old: Subscription | None = None
        self._wake = asyncio.Event()
        self._gone = False
        self._stopped = False
        self.pin: str | None = None
        self.on_pinned: Callable[[str], None] | None = None

    async def run(self) -> None:
        """Until cancelled or stopped."""
        end = self._connection.on_reconnect(self._forget_asked)
        try:
            while not self._stopped:
                if self._gone:
                    self._gone = False
                    await self._missing()
                if self._sub is None:
                    await self._listen()
                await self._ask()
                self._wake.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self.HEARTBEAT):
                        await self._wake.wait()
                if self._open and time.monotonic() - self._heard > self.SILENCE:
                    self._forget_asked()
        finally:
            end()

    async def _listen(self) -> None:
        """A new inbox: a message comes under its own subject, so only the subscription tells."""
        old, self._sub = self._old, None
        self._old = None
        if old is not None:
            with contextlib.suppress(nats.errors.Error):
                await old.unsubscribe()
        self._reply = self._connection.client.new_inbox()
        self._sub = await self._connection.client.subscribe(self._reply, cb=self._on_message)

    async def drain(self) -> None:
        """Ends what was asked for; what the server had sent already is still handed over.

        To be done before anything is handed back: it would come straight to us again.
        """
        self.stop()
        for sub in (self._sub, self._old):
            if sub is not None and self._connection.client.is_connected:
                with contextlib.suppress(nats.errors.Error, TimeoutError):
                    async with asyncio.timeout(DRAIN_SECONDS):
                        await sub.drain()  # type: ignore[no-untyped-call]  # of nats-py
        self._sub = self._old = None

    def stop(self) -> None:
        """Asks for nothing more; what was asked for may still come and must be handled."""
        self._stopped = True
        self._wake.set()

    def more(self) -> None:
        self._wake.set()

    def _forget_asked(self) -> None:
        """What was asked for is lost (reconnect, silence): asked again, from a new inbox.

        A message that still comes to the old one is not taken; its lease runs out.
        """
        self._old, self._sub = self._sub or self._old, None
        self._open = 0
        self._heard = time.monotonic()
        self._wake.set()

    async def _ask(self) -> None:
        wanted = min(self._room(), self.BATCH)
        if self._stopped or wanted <= 0 or self._open > wanted // 2:
            return
        count = wanted - self._open
        body: dict[str, object] = {
            "batch": count,
            "expires": int(self._expires * 1e9),
            "idle_heartbeat": int(min(self.HEARTBEAT, self._expires / 2.5) * 1e9),
        }
        if self._group:
            body["group"] = self._group
            if self.pin:
                body["id"] = self.pin
        try:
            await self._connection.send(self._subject, msgspec.json.encode(body), reply=self._reply)
        except NatsError:
            await asyncio.sleep(0.1)  # offline; the reconnect wakes us
            return
        if not self._open:
            self._heard = time.monotonic()
        self._open += count

    async def _on_message(self, msg: Msg) -> None:
        self._heard = time.monotonic()
        headers = msg.headers or {}
        status = headers.get("Status")
        if status is None or msg.reply.startswith("$JS.ACK."):
            self._open = max(0, self._open - 1)
            pin = headers.get("Nats-Pin-Id")
            if pin and pin != self.pin:
                self.pin = pin
                if self.on_pinned is not None:
                    self.on_pinned(pin)
            self._take(Delivery(self._connection, msg))
            if self._open * 2 <= self._room():
                self._wake.set()
            return
        if status == "100":  # idle heartbeat
            return
        self._open = max(0, self._open - int(headers.get("Nats-Pending-Messages", self._open)))
        text = headers.get("Description", "").lower()
        if status == "423":  # another client is pinned now
            self.pin = None
        elif status == "503" or "consumer deleted" in text or "no responders" in text:
            self._open, self._gone = 0, True
        self._wake.set()


async def keep_leases(held: Callable[[], list[Delivery]], lease: float) -> None:
    """Heartbeats for everything held, three within one lease, until cancelled."""
    while True:
        await asyncio.sleep(lease / 3)
        for delivery in held():
            await delivery.heartbeat(lease)


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
        """Raises Superseded, or NatsError while nobody can tell."""
        await self._look()


class Work:
    """A work queue's consumer in this process.

    `handle` ends a message by acking it; it raises Superseded to leave it to somebody else, and
    anything else to have it delivered again. `dead_letter` gets what is beyond hope.
    """

    def __init__(
        self,
        connection: Connection,
        stream: str,
        consumer: str,
        *,
        slots: int,
        handle: Callable[[Delivery], Awaitable[None]],
        dead_letter: Callable[[Delivery, Internal], Awaitable[None]],
    ) -> None:
        self._connection, self._stream, self._consumer = connection, stream, consumer
        self._handle, self._dead_letter = handle, dead_letter
        self._slots = asyncio.Semaphore(slots)
        self._free = slots
        self._waiting = 0
        self._held: dict[int, Delivery] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._running: set[int] = set()
        self._pull = Pull(
            connection, stream, consumer, self._take, room=self._room, missing=self._make_consumer
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
                    await ensure_consumer(self._connection, stream, config)
                except NatsError as exc:
                    log.warning("work.consumer_missing", extra={"reason": str(exc)})
                    await asyncio.sleep(1)

    def _room(self) -> int:
        if len(self._held) >= MAX_HELD:
            return 0
        return self._free + SLACK - self._waiting

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
                await self._dead_letter(
                    delivery, Internal(f"delivered {delivery.deliveries} times")
                )
                await delivery.ack()
            else:
                await self._handle(delivery)
        except Superseded:
            log.info("work.replaced", extra={"consumer": self._consumer})
        except asyncio.CancelledError:
            await delivery.nak()
        except NatsError as exc:
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
    async def slot(self, message: Message) -> AsyncIterator[None]:
        """One of the slots for those that run; waits for it."""
        self._waiting += 1
        try:
            await self._slots.acquire()
        finally:
            self._waiting -= 1
        self._free -= 1
        self._running.add(message.sequence)
        try:
            yield
        finally:
            self._running.discard(message.sequence)
            self._free += 1
            self._slots.release()

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
