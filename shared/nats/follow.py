"""Follows the text of one turn: live by core subscription, the past from the stream, no gap.

A core subscription may overtake the store, and a reconnect loses what passed meanwhile. So a gap,
a reconnect, and a while without anything each make it read back again; a timeline joins the two.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Final

import msgspec

from shared.contract import (
    CHAT_DELTAS_STREAM,
    UNREADABLE,
    Delta,
    Done,
    Failed,
    chat_delta,
)
from shared.errors import DeadlineExceeded, NatsError
from shared.nats.connection import Connection
from shared.nats.read import read_back
from shared.timeline import Timeline

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from nats.aio.subscription import Subscription

    from shared.nats.wire import Incoming


GAP_SECONDS: Final = 0.05  # what overtook the store is there after this long
QUIET_SECONDS: Final = 2.0  # a look at the stream when nothing has come for so long
MAX_WAITING: Final = 100_000  # events not yet taken; then the reader is too slow

_decode = msgspec.json.Decoder(Delta).decode


class _Later(msgspec.Struct):
    """An event of a type that a later version has: it has its place, and says nothing to us."""

    turn_id: str
    attempt: int
    seq: int


_decode_later = msgspec.json.Decoder(_Later).decode


def decode_delta(data: bytes) -> Delta | None:
    """None for what this version does not know, or nobody does."""
    try:
        event: Delta = _decode(data)
    except UNREADABLE:
        return None
    return event


def _later(data: bytes) -> _Later | None:
    try:
        return _decode_later(data)
    except UNREADABLE:
        return None


async def follow(
    connection: Connection,
    conversation_id: str,
    turn_id: str,
    *,
    start: int = 1,
    idle: float = 120.0,
    gap: float = GAP_SECONDS,
    quiet: float = QUIET_SECONDS,
    offer: Callable[[Delta], bool] | None = None,
) -> AsyncIterator[Delta]:
    """The turn's events in order, each once, from stream sequence `start`; ends with its end.

    Each is offered as it comes, also while nobody waits for one: what `offer` takes (it returns
    True) is not given out, except the end. Of an attempt that is superseded, what was given out
    before stays given out: a `started` with a higher `attempt` says that it starts over.

    Raises:
        DeadlineExceeded: nothing new came for `idle` seconds.
        Exception: what `offer` has raised.
    """
    follower = _Follower(connection, conversation_id, turn_id, start, offer)
    try:
        await follower.open()
        async for event in follower.events(idle, gap, quiet):
            yield event
            if isinstance(event, Done | Failed):
                return
    finally:
        await follower.close()


class _Follower:
    def __init__(
        self,
        connection: Connection,
        conversation_id: str,
        turn_id: str,
        start: int,
        offer: Callable[[Delta], bool] | None,
    ) -> None:
        self._connection, self._offer = connection, offer
        self._turn_id = turn_id
        self._subject = chat_delta(conversation_id)
        self._start = start
        self._timeline: Timeline[Delta | _Later] = Timeline()
        self._ready: asyncio.Queue[Delta | None] = asyncio.Queue(MAX_WAITING)  # None: look
        self._look = True  # read back at the next turn of the loop
        self._heard = time.monotonic()
        self._failed: Exception | None = None
        self._sub: Subscription | None = None
        self._end_watch = connection.on_reconnect(self._on_reconnect)

    async def open(self) -> None:
        """What the stream is asked afterwards goes behind this on the connection: when the server
        answers that, it knows of the subscription, and no flush need be waited for."""
        self._sub = await self._connection.subscribe(self._subject, self._on_message)

    async def close(self) -> None:
        self._end_watch()
        if self._sub is not None:  # else it was cancelled before
            await self._connection.unsubscribe(self._sub)

    def _on_reconnect(self) -> None:
        self._look = True
        self._wake()

    def _wake(self) -> None:
        with contextlib.suppress(asyncio.QueueFull):  # then there is no wait to be cut short
            self._ready.put_nowait(None)

    def _on_message(self, msg: Incoming) -> None:
        """Turns of one conversation follow each other: nearly all of what comes is ours."""
        self._add(msg.data)

    def _add(self, data: bytes) -> None:
        event = decode_delta(data) or _later(data)
        if event is None or event.turn_id != self._turn_id:
            return
        had_gap = self._timeline.gap
        for ready in self._timeline.add(event.attempt, event.seq, event):
            if not isinstance(ready, _Later):
                self._give(ready)
        if self._timeline.gap and not had_gap:
            self._wake()  # it waits for less

    def _give(self, event: Delta) -> None:
        self._heard = time.monotonic()
        try:
            taken = self._offer is not None and self._offer(event)
        except Exception as exc:  # noqa: BLE001  told to who follows; whoever reads can do nothing
            self._failed = exc
            self._wake()
            return
        if not taken or isinstance(event, Done | Failed):
            self._ready.put_nowait(event)  # QueueFull loses it: the gap, or `idle`, tells

    async def _read_back(self) -> None:
        async for message in read_back(
            self._connection, CHAT_DELTAS_STREAM, self._subject, self._start
        ):
            self._add(message.data)

    async def events(self, idle: float, gap: float, quiet: float) -> AsyncIterator[Delta]:
        while True:
            if self._failed is not None:
                raise self._failed
            if self._look:
                self._look = False
                try:
                    await self._read_back()
                except NatsError:
                    self._look = True
            wait = gap if self._timeline.gap or self._look else quiet
            try:
                async with asyncio.timeout(min(wait, idle)):
                    event = await self._ready.get()
            except TimeoutError:
                silent = time.monotonic() - self._heard
                if silent > idle:
                    raise DeadlineExceeded(f"the text said nothing for {idle:g} s") from None
                self._look = self._look or self._timeline.gap or silent >= quiet
                continue
            while event is not None:
                yield event
                event = None if self._ready.empty() else self._ready.get_nowait()
