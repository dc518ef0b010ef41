"""A continuous pull: requests stay open at the server, so that a message comes as it is published.

nats-py 2.16 has `fetch`, which ends with each batch: 170 µs a message where this takes 10.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from typing import TYPE_CHECKING, Final

import msgspec
import nats.errors

from shared.errors import NatsError
from shared.nats.lease import Delivery
from shared.nats.provision import Consumer, ensure
from shared.process.metrics import REDELIVERIES
from shared.retry import NATS

if TYPE_CHECKING:
    from collections.abc import Callable

    from nats.aio.subscription import Subscription

    from shared.nats.connection import Connection
    from shared.nats.wire import Incoming

log = logging.getLogger(__name__)

BATCH: Final = 128  # messages asked for at once
ASK_BYTES: Final = 8 * 1024 * 1024  # and bytes: far below what makes the server drop a slow client
OVERHEAD_BYTES: Final = 8 * 1024  # of a message beside its payload: subjects and headers
HEARTBEAT_SECONDS: Final = 2.0  # the server says so often that it has nothing
SILENCE_SECONDS: Final = 6.0  # neither message nor heartbeat for so long: asked again
DRAIN_SECONDS: Final = 2.0  # for what the server had sent when a pull was ended

# What the server says instead of a message.
_IDLE: Final = "100"
_PINNED_ELSEWHERE: Final = "423"
_NO_RESPONDERS: Final = "503"


class Pull:
    """Hands each message of a consumer to `take`.

    `room()` says how many more messages may be asked for now, `bytes_room()` how many bytes of
    them; call `more()` when either grows. Where messages find room and their bytes do not, one is
    asked for with each heartbeat all the same: others may wait for it. A
    consumer that is deleted is made again. Of a pinned consumer one replica at a time gets
    everything, in order; `on_pinned` is called when it becomes this one.
    """

    def __init__(
        self,
        connection: Connection,
        consumer: Consumer,
        take: Callable[[Delivery], None],
        *,
        room: Callable[[], int],
        bytes_room: Callable[[], int],
        on_pinned: Callable[[], None] | None = None,
        heartbeat: float = HEARTBEAT_SECONDS,
        silence: float = SILENCE_SECONDS,
    ) -> None:
        self._connection, self._consumer, self._take = connection, consumer, take
        self._room, self._bytes_room, self._on_pinned = room, bytes_room, on_pinned
        self._heartbeat, self._silence = heartbeat, silence
        self._subject = f"$JS.API.CONSUMER.MSG.NEXT.{consumer.stream}.{consumer.name}"
        # Shorter than a lease: what a frozen worker asked for must not swallow what it lost. Each
        # request also says that this replica lives: without one, a pin is lost after a lease.
        self._expires = consumer.lease * (0.5 if consumer.group else 0.8)
        self._open = 0  # messages asked for and not yet come
        self._open_bytes = 0  # that they may have at most
        self._overdrawn = float("-inf")  # when a message was asked for that has no room
        self._heard = time.monotonic()
        self._reply = ""
        self._sub: Subscription | None = None
        self._old: Subscription | None = None
        self._wake = asyncio.Event()
        self._gone = False
        self._stopped = False
        self.pin: str | None = None
        self._again = REDELIVERIES.labels(consumer.service)

    async def run(self) -> None:
        """Until cancelled or stopped."""
        end = self._connection.on_reconnect(self._forget_asked)
        try:
            while not self._stopped:
                if self._gone:
                    await self._make_consumer()
                if self._sub is None:
                    await self._listen()
                self._wake.clear()
                await self._ask()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._heartbeat):
                        await self._wake.wait()
                if self._open and time.monotonic() - self._heard > self._silence:
                    self._forget_asked()
        finally:
            end()

    async def _make_consumer(self) -> None:
        """Somebody deleted it, or the server lost it; raises Mismatch."""
        pauses = NATS.pauses()
        while self._gone and not self._stopped:
            try:
                await ensure(self._connection, self._consumer)
            except NatsError as exc:
                extra = {"consumer": self._consumer.name, "reason": str(exc)}
                log.warning("pull.consumer_missing", extra=extra)
                await asyncio.sleep(next(pauses))
            else:
                self._gone = False

    async def _listen(self) -> None:
        """A new inbox: a message comes under its own subject, so only the subscription tells."""
        old, self._sub = self._old, None
        self._old = None
        if old is not None:
            await self._connection.unsubscribe(old)
        self._reply = self._connection.client.new_inbox()
        self._sub = await self._connection.subscribe(self._reply, self._on_message)

    async def drain(self) -> None:
        """Ends what was asked for; what the server had sent already is still handed over.

        To be done before anything is handed back: it would come straight to us again.
        """
        self.stop()
        subs = [sub for sub in (self._sub, self._old) if sub is not None]
        if subs and self._connection.up:
            # Never cancelled, only no longer waited for: there is a flush in it (see `settle`).
            drains = [asyncio.ensure_future(_drained(sub)) for sub in subs]
            await asyncio.wait(drains, timeout=DRAIN_SECONDS)
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
        self._open = self._open_bytes = 0
        self._heard = time.monotonic()
        self._wake.set()

    async def _ask(self) -> None:
        wanted = min(self._room(), BATCH)
        if self._stopped or wanted <= 0 or self._open > wanted // 2:
            return
        count, size = wanted - self._open, self._ask_bytes()
        if not size:
            return
        if size < 0:
            count, size = 1, -size
        body: dict[str, object] = {
            "batch": count,
            "max_bytes": size,
            "expires": int(self._expires * 1e9),
            "idle_heartbeat": int(min(self._heartbeat, self._expires / 2.5) * 1e9),
        }
        if self._consumer.group:
            body["group"] = self._consumer.group
            if self.pin:
                body["id"] = self.pin
        try:
            await self._connection.send(self._subject, msgspec.json.encode(body), reply=self._reply)
        except NatsError:
            return  # offline; the reconnect wakes us
        if not self._open:
            self._heard = time.monotonic()
        self._open += count
        self._open_bytes += size

    def _ask_bytes(self) -> int:
        """How many may come; negative where only one message may, that has no room; 0 for none."""
        largest = self._connection.client.max_payload + OVERHEAD_BYTES
        room = self._bytes_room() - self._open_bytes
        if room >= largest:
            return min(room, max(ASK_BYTES, largest))
        now = time.monotonic()
        if self._open or now - self._overdrawn < self._heartbeat:
            return 0
        self._overdrawn = now
        return -largest

    def _on_message(self, msg: Incoming) -> None:
        self._heard = time.monotonic()
        headers = msg.headers
        status = headers.get("Status")
        if status is None or msg.reply.startswith("$JS.ACK."):
            self._on_delivery(msg, headers.get("Nats-Pin-Id"))
        elif status != _IDLE:
            self._on_status(status, headers)

    def _on_delivery(self, msg: Incoming, pin: str | None) -> None:
        self._came(1, len(msg.data))
        if pin and pin != self.pin:
            self.pin = pin
            if self._on_pinned is not None:
                self._on_pinned()
        delivery = Delivery(self._connection, msg, self._consumer.lease)
        if delivery.deliveries > 1:
            self._again.inc()
        self._take(delivery)
        if self._open * 2 <= self._room():
            self._wake.set()

    def _came(self, messages: int, size: int) -> None:
        """So much of what was asked for has come, or will not."""
        self._open = max(0, self._open - messages)
        self._open_bytes = max(0, self._open_bytes - size) if self._open else 0

    def _on_status(self, status: str, headers: dict[str, str]) -> None:
        """A request has ended; `Nats-Pending-Messages` of what it asked for did not come."""
        self._came(
            int(headers.get("Nats-Pending-Messages", self._open)),
            int(headers.get("Nats-Pending-Bytes", 0)),
        )
        text = headers.get("Description", "").lower()
        if status == _PINNED_ELSEWHERE:
            self.pin = None
        elif status == _NO_RESPONDERS or "consumer deleted" in text or "no responders" in text:
            self._open, self._open_bytes, self._gone = 0, 0, True
        self._wake.set()


async def _drained(sub: Subscription) -> None:
    with contextlib.suppress(nats.errors.Error):
        await sub.drain()  # type: ignore[no-untyped-call]  # of nats-py
