"""An un-acked message is the lease on a piece of work: kept by heartbeats, or it goes to another.

A worker that was frozen, or cut off from NATS, for longer than a lease can no longer tell from its
heartbeats whether the work is its own; a fence makes it look before it publishes.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from shared.errors import NatsError, Superseded
from shared.nats import read

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping

    from shared.nats.connection import Connection
    from shared.nats.wire import Incoming

_SHORT: Final = 9  # words of an ack's subject without a domain
LATE_SECONDS: Final = 10.0  # an answer to a heartbeat after this long would confirm nothing


def _counts(reply: str) -> tuple[int, int, int, int]:
    """Of `$JS.ACK.(<domain>.<account>.)<stream>.<consumer>.<deliveries>.<sequence>.<consumer's
    sequence>.<nanoseconds>.<pending>(.<random>)`: the four from the deliveries on."""
    words = reply.split(".")
    first = 4 if len(words) == _SHORT else 6
    deliveries, sequence, consumer_sequence, taken_at = map(int, words[first : first + 4])
    return deliveries, sequence, consumer_sequence, taken_at


class Delivery:
    """One message of a work queue, held by a lease; implements shared.refuse.Message."""

    __slots__ = (
        "_connection",
        "_lapsed",
        "_lease",
        "_reply",
        "confirmed",
        "consumer_sequence",
        "data",
        "deliveries",
        "handed_back",
        "headers",
        "sequence",
        "settled",
        "subject",
        "taken_at",
        "unique",
    )

    def __init__(self, connection: Connection, msg: Incoming, lease: float) -> None:
        self._connection, self._lease = connection, lease
        self._reply = msg.reply
        self.subject = msg.subject
        self.data = msg.data
        self.headers: Mapping[str, str] = msg.headers
        counts = _counts(msg.reply)
        # The third counts what is given to anybody.
        self.deliveries, self.sequence, self.consumer_sequence, taken_at = counts
        self.taken_at = datetime.fromtimestamp(taken_at / 1e9, UTC)  # when the stream took it
        # Names it among all there ever were: a stream made anew counts from 1 again.
        self.unique = f"{self.sequence}.{int(self.taken_at.timestamp() * 1e6)}"
        self.confirmed = time.monotonic()  # when the lease was last known to be ours
        self._lapsed = False  # once it has been longer than a lease, for good
        self.settled = self.handed_back = False

    @property
    def lapsed(self) -> bool:
        """Whether the lease was ever lost sight of: then somebody else may have the work."""
        if time.monotonic() - self.confirmed > self._lease:
            self._lapsed = True
        return self._lapsed

    def adopt(self, other: Delivery) -> None:
        """The same message came again (a heartbeat was lost): go on under its lease."""
        self._reply, self.deliveries = other._reply, other.deliveries
        self.confirmed = max(self.confirmed, other.confirmed)

    async def heartbeat(self) -> None:
        """Asks the server to keep the lease, and notes when it said yes."""
        if self.settled:
            return
        asked = time.monotonic()

        def confirm(_msg: Incoming) -> None:
            self._connection.forget(token)
            # The server says yes to anybody who ever held the message: a lease that ran out in
            # between may have been somebody else's, and only a look at the work itself can tell.
            if asked - self.confirmed > self._lease:
                self._lapsed = True
            self.confirmed = max(self.confirmed, asked)

        token, reply = self._connection.expect(confirm)
        asyncio.get_running_loop().call_later(LATE_SECONDS, self._connection.forget, token)
        with contextlib.suppress(NatsError):
            await self._connection.send(self._reply, b"+WPI", reply=reply)

    async def ack(self) -> None:
        """A double ack: returns when the server has removed the message, else NatsError."""
        self.settled = True
        seconds = self._connection.ack_seconds
        await self._connection.persist(
            lambda: self._connection.request(self._reply, b"+ACK", seconds=seconds)
        )

    async def ack_unconfirmed(self) -> None:
        """For work that is harmless to repeat: nobody waits for the server's answer."""
        self.settled = True
        await self._connection.send(self._reply, b"+ACK")

    async def nak(self, delay: float = 0.0) -> None:
        """Hands the message back, to be delivered again after `delay` seconds."""
        self.settled = self.handed_back = True
        body = b"-NAK" if not delay else b'-NAK {"delay": %d}' % int(delay * 1e9)
        with contextlib.suppress(NatsError):  # then the lease runs out, to the same effect
            await self._connection.request(self._reply, body, seconds=self._connection.ack_seconds)


async def keep_leases(held: Callable[[], Iterable[Delivery]], lease: float) -> None:
    """Heartbeats for everything held, three within one lease, until cancelled."""
    while True:
        await asyncio.sleep(lease / 3)
        for delivery in tuple(held()):
            await delivery.heartbeat()


async def confirm(connection: Connection, delivery: Delivery, stream: str) -> None:
    """Raises Superseded where the lease may have been lost and the message is gone since.

    NatsError while nobody can tell.
    """
    if delivery.lapsed and await read.at(connection, stream, delivery.sequence) is None:
        raise Superseded


class LeaseFence:
    """Implements shared.nats.publish.Fence: `look` tells whether the work is still ours."""

    def __init__(self, delivery: Delivery, look: Callable[[], Awaitable[None]]) -> None:
        self._delivery, self._look = delivery, look

    @property
    def fresh(self) -> bool:
        return not self._delivery.lapsed

    async def verify(self) -> None:
        """Raises Superseded, or NatsError while nobody can tell."""
        await self._look()
