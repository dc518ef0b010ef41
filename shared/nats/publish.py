"""Publishes whose acks are checked: one by one, or pipelined in order behind a fence.

A lost ack is asked for again with the same `Nats-Msg-Id`, never for ever.
"""

from __future__ import annotations

import asyncio
import bisect
import contextlib
import itertools
import time
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

import msgspec

from shared.errors import NatsError, NotNow, Torn, Unsendable
from shared.nats.connection import Answer
from shared.nats.wire import block_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from shared.nats.connection import Connection
    from shared.nats.wire import Incoming

LOOK_SECONDS: Final = 0.25  # how often the window looks whether something has to be sent again
WINDOW: Final = 256  # publishes un-acked at once


class Ack(Answer, frozen=True):
    """Where a message was stored; a repetition is told where the original stands."""

    stream: str = ""
    seq: int = 0
    duplicate: bool = False


# A tenth of the time that nats-py's own ack takes.
_decode_ack = msgspec.json.Decoder(Ack).decode


async def publish(
    connection: Connection,
    subject: str,
    payload: bytes,
    headers: dict[str, str] | None = None,
) -> Ack:
    """Stores a message in the stream of its subject; repeated until acked.

    Give a `Nats-Msg-Id`, or the expected last sequence, to make the repetition harmless.

    Raises:
        Conflict: it expected another last sequence.
        ApiError: the stream refused it.
        Unsendable: NATS would never take it.
        NatsError: not acked within `publish_seconds` of the connection.
    """

    async def once() -> Ack:
        seconds = connection.ack_seconds
        answer = await connection.request(subject, payload, headers=headers, seconds=seconds)
        return _acked(answer)

    return await connection.persist(once)


def _acked(answer: Incoming) -> Ack:
    """Raises Conflict, ApiError; NatsError for what is no ack."""
    try:
        ack = _decode_ack(answer.data)
    except msgspec.MsgspecError as exc:
        raise NatsError(f"an ack that cannot be read: {exc}") from exc
    ack.check()
    return ack


class Fence(Protocol):
    """Tells a worker whether the work is still its own."""

    @property
    def fresh(self) -> bool:
        """True while the lease was confirmed recently enough not to ask."""
        ...

    async def verify(self) -> None:
        """Asks; raises Superseded when another worker has the work."""
        ...


@dataclass(slots=True)
class _Unacked:
    number: int  # 1, 2 … in the order in which they were sent
    subject: str
    payload: bytes
    block: bytes  # its headers
    sent: float


class StoredOrder:
    """Whether what was sent in an order is stored in it, however the acks come."""

    def __init__(self) -> None:
        self._stored: list[tuple[int, int]] = []  # number and sequence of the acked

    def is_kept(self, number: int, sequence: int, settled: int) -> bool:
        """Takes an ack; all numbers up to `settled` have been acked before."""
        stored = self._stored
        if not stored or stored[-1] < (number, 0):  # as nearly all of them come
            is_kept = not stored or stored[-1][1] < sequence
            stored.append((number, sequence))
            if len(stored) > 2 * WINDOW:
                self._forget(settled)
            return is_kept
        place = bisect.bisect(stored, (number, 0))
        is_late = place < len(stored) and stored[place][1] < sequence
        is_early = place > 0 and stored[place - 1][1] > sequence
        stored.insert(place, (number, sequence))
        return not (is_late or is_early)

    def _forget(self, settled: int) -> None:
        """Of those that nothing can come in between, the last tells."""
        del self._stored[: max(0, bisect.bisect(self._stored, (settled + 1, 0)) - 1)]


class PublishWindow:
    """Publishes in order without waiting for each ack; every ack is checked before the end.

    Each message needs a `Nats-Msg-Id`: what is not acked in time is sent again. A failure is
    raised by the next `send` or by `drained`. With a fence, a worker that may have been superseded
    looks before it sends anything. Each stream stores the messages in the order in which they were
    sent, unless they are not `ordered`; where it does not, that is Torn, raised when all of them
    are stored.

    What comes behind a lost message may be stored in front of it. So nothing more is sent while one
    seems to be lost: the oldest is sent again alone, and when it is stored the others are.
    """

    def __init__(
        self, connection: Connection, fence: Fence | None = None, *, ordered: bool = True
    ) -> None:
        self._connection, self._fence, self._ordered = connection, fence, ordered
        self._numbers = itertools.count(1)
        self._orders: defaultdict[str, StoredOrder] = defaultdict(StoredOrder)  # by stream
        self._unacked: dict[str, _Unacked] = {}
        self._lost: set[str] = set()  # of the un-acked: refused, late, or overtaken
        self._takes_again = False  # what was lost is stored: the others are sent again at once
        self._error: NatsError | None = None
        self._torn: Torn | None = None
        self._changed = asyncio.Event()
        self._on_idle: Callable[[], None] | None = None
        self._epoch = connection.epoch

    @property
    def unacked(self) -> int:
        return len(self._unacked)

    @property
    def open(self) -> bool:
        """True while more can be sent without waiting."""
        waiting = len(self._unacked)
        if not waiting or not self._ordered:
            return waiting < WINDOW
        is_slow = time.monotonic() - self._oldest_sent >= LOOK_SECONDS
        return not self._lost and not is_slow and waiting < WINDOW

    @property
    def _oldest_sent(self) -> float:
        return next(iter(self._unacked.values())).sent

    @property
    def _is_late(self) -> bool:
        """True when something has to be sent again."""
        return bool(self._unacked) and (
            self._takes_again
            or self._epoch != self._connection.epoch
            or time.monotonic() - self._oldest_sent >= self._connection.ack_seconds
        )

    def when_idle(self, call: Callable[[], None] | None) -> None:
        """Calls `call` whenever the last un-acked publish was acked."""
        self._on_idle = call

    async def send(self, subject: str, payload: bytes, headers: Mapping[str, str]) -> None:
        """Raises NatsError for an earlier or this publish, Superseded from the fence."""
        await self.ready()
        self.put(subject, payload, block_of(headers))

    @property
    def is_ready(self) -> bool:
        """Whether nothing stands in the way of a `put`."""
        return (
            self._error is None
            and self._torn is None
            and (self._fence is None or self._fence.fresh)
            and self._is_open()
        )

    def put(self, subject: str, payload: bytes, block: bytes) -> None:
        """Sends, without another await since the window was found ready.

        `block`: its headers, as shared.nats.wire.block_of makes them. Raises Unsendable.
        """
        connection = self._connection
        if not self._unacked:
            self._epoch, self._takes_again = connection.epoch, False
        token, reply = connection.expect(self._on_ack)
        self._unacked[token] = _Unacked(
            next(self._numbers), subject, payload, block, time.monotonic()
        )
        connection.unacked += 1
        try:
            connection.write(subject, payload, reply=reply, block=block, joined=True)
        except Unsendable:
            self._drop(token)
            raise
        except NatsError:
            pass  # it stays un-acked and is sent again

    async def ready(self) -> None:
        """Returns when nothing stands in the way of a `put`; raises as `send`."""
        while True:
            if self._error is not None:
                raise self._error
            if self._torn is not None:
                await self.drained()
            if self._fence is not None and not self._fence.fresh:
                await self._fence.verify()
            if self._is_open():
                return
            await self._wait(self._is_open)

    def _is_open(self) -> bool:
        if not self._connection.up:
            return False
        return not self._unacked or (self.open and not self._is_late)

    def _drop(self, token: str) -> None:
        self._connection.forget(token)
        if self._unacked.pop(token, None) is not None:
            self._connection.unacked -= 1
        self._lost.discard(token)

    def _on_ack(self, msg: Incoming) -> None:
        token = msg.subject.rpartition(".")[2]
        entry = self._unacked.get(token)
        if entry is None:
            return
        if msg.is_unanswered:
            self._note_lost(token)  # no responder: the stream is away for a moment
            return
        try:
            ack = _acked(msg)
        except NotNow:
            self._note_lost(token)
            return
        except NatsError as exc:
            self._error = exc
        else:
            self._note_stored(token, entry, ack)
        self._drop(token)
        self._changed.set()
        if not self._unacked and self._on_idle is not None:
            self._on_idle()

    def _note_lost(self, token: str) -> None:
        """Sent again as soon as it is the oldest: by then all before it are stored."""
        entry = self._unacked[token]
        soon = time.monotonic() + LOOK_SECONDS - self._connection.ack_seconds
        entry.sent = min(entry.sent, soon)
        self._lost.add(token)

    def _note_stored(self, token: str, entry: _Unacked, ack: Ack) -> None:
        oldest, first = next(iter(self._unacked.items()))
        if token in self._lost:
            self._lost.clear()
            self._takes_again = True
        elif first.subject == entry.subject and oldest != token and not ack.duplicate:
            self._note_lost(oldest)  # a later one was taken
        order = self._orders[ack.stream]
        if not order.is_kept(entry.number, ack.seq, first.number - 1) and self._ordered:
            self._torn = Torn(f"{entry.subject}: a burst was stored out of order")

    async def drained(self) -> None:
        """Waits until every publish is acked; raises NatsError when one is not."""
        await self._wait(lambda: not self._unacked)
        if self._torn is not None:
            raise self._torn

    def close(self) -> None:
        """Forgets what is un-acked: this worker has nothing more to say."""
        for token in tuple(self._unacked):
            self._drop(token)

    async def _wait(self, ready: Callable[[], bool]) -> None:
        until = time.monotonic() + self._connection.publish_seconds
        while True:
            self._changed.clear()
            if self._error is not None:
                raise self._error
            if ready():
                return
            if time.monotonic() > until:
                self._error = NatsError("NATS acked nothing for too long")
                continue
            await self.resend()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._changed.wait()

    async def resend(self) -> None:
        """Sends again, in order, what is un-acked after a reconnect or when the oldest is late.

        What the stream has already is dropped there by its `Nats-Msg-Id`.
        """
        if not self._is_late or not self._connection.up:
            return
        if self._fence is not None:
            await self._fence.verify()
        for token, entry in self._again():
            entry.sent = time.monotonic()
            with contextlib.suppress(NatsError):
                reply = self._connection.reply_to(token)
                self._connection.write(entry.subject, entry.payload, reply=reply, block=entry.block)

    def _again(self) -> list[tuple[str, _Unacked]]:
        """What is sent again now: the oldest alone where one seems to be lost."""
        again = list(self._unacked.items())
        is_late = self._epoch == self._connection.epoch and not self._takes_again
        self._epoch, self._takes_again = self._connection.epoch, False
        if self._lost or is_late:
            again = again[:1]
            self._lost.update(token for token, _ in again)
        return again
