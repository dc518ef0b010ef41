"""A working stand-in for the connection under shared/nats/follow.py."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import msgspec

from shared.contract import H_TURN, encode
from shared.errors import NatsError
from shared.nats.connection import Connection
from shared.nats.wire import Incoming, block_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from nats.aio.client import Client

    from shared.contract import Delta


class _DirectGet(msgspec.Struct):
    next_by_subj: str
    batch: int
    seq: int


class TextStream:
    """A connection that carries the text of one conversation: a stream, and subscribers to it.

    `store` keeps an event, `pass_by` shows it to subscribers, `say` does both. `looks` counts how
    often the stream was read back, `broken` fails that many of them.
    """

    def __init__(self) -> None:
        self.stored: list[tuple[int, bytes]] = []
        self.looks: list[int] = []
        self.broken = 0
        self.subject = ""
        self.on_look: Callable[[], Awaitable[None]] | None = None
        self.request_seconds = 5.0
        self._sequence = 0
        self._listeners: list[Callable[[Incoming], None]] = []
        self._reconnected: list[Callable[[], None]] = []
        self._answers: dict[str, Callable[[Incoming], None]] = {}

    @property
    def connection(self) -> Connection:
        return cast("Connection", self)

    @property
    def client(self) -> Client:
        return cast("Client", self)

    @property
    def listeners(self) -> int:
        """Subscriptions and reconnect watches that were not given back."""
        return len(self._listeners) + len(self._reconnected)

    # what the test does

    def store(self, *events: Delta | bytes) -> None:
        for event in events:
            self._sequence += 1
            data = event if isinstance(event, bytes) else encode(event)
            self.stored.append((self._sequence, data))

    async def pass_by(self, *events: Delta | bytes, headers: bool = True) -> None:
        for event in events:
            data = event if isinstance(event, bytes) else encode(event)
            block = b""
            if headers and not isinstance(event, bytes):
                block = block_of({H_TURN: event.turn_id})
            for listener in tuple(self._listeners):
                listener(Incoming(self.subject, b"", block, data))

    async def say(self, *events: Delta) -> None:
        for event in events:
            self.store(event)
            await self.pass_by(event)

    def reconnect(self) -> None:
        for call in tuple(self._reconnected):
            call()

    # what the code under test uses

    async def subscribe(self, subject: str, take: Callable[[Incoming], None]) -> _Subscription:
        self.subject = subject
        self._listeners.append(take)
        return _Subscription(lambda: self._listeners.remove(take))

    async def unsubscribe(self, subscription: _Subscription) -> None:
        await subscription.unsubscribe()

    is_closed = False
    is_connected = True

    @property
    def stats(self) -> dict[str, int]:
        return {"reconnects": 0}

    async def flush(self, timeout: int = 10) -> None: ...  # noqa: ASYNC109  as nats-py has it

    def on_reconnect(self, call: Callable[[], None]) -> Callable[[], None]:
        self._reconnected.append(call)
        return lambda: self._reconnected.remove(call)

    def expect(self, handler: Callable[[Incoming], None]) -> tuple[str, str]:
        self._answers["inbox"] = handler
        return "inbox", "inbox"

    def forget(self, token: str) -> None:
        self._answers.pop(token, None)

    async def send(self, subject: str, payload: bytes, *, reply: str) -> None:
        """Answers a batched direct get with all that is stored."""
        assert subject == "$JS.API.DIRECT.GET.CHAT_DELTAS"
        wanted = msgspec.json.decode(payload, type=_DirectGet)
        assert wanted.next_by_subj == self.subject
        self.looks.append(wanted.seq)
        if self.on_look is not None:
            await self.on_look()
        if self.broken:
            self.broken -= 1
            raise NatsError("away")
        found = [each for each in self.stored if each[0] >= wanted.seq]
        for left, (sequence, data) in zip(range(len(found) - 1, -1, -1), found, strict=True):
            headers = {
                "Nats-Subject": self.subject,
                "Nats-Sequence": str(sequence),
                "Nats-Num-Pending": str(left),
            }
            self._answers[reply](Incoming(reply, b"", block_of(headers), data))
        status = b"204 EOB" if found else b"404 Message Not Found"
        self._answers[reply](Incoming(reply, b"", b"NATS/1.0 %b\r\n\r\n" % status, b""))


class _Subscription:
    def __init__(self, end: Callable[[], None]) -> None:
        self._end = end

    async def unsubscribe(self) -> None:
        self._end()
