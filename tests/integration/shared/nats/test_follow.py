"""Following a turn on a real server: each event once, in order, whatever happens to the network."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest

from local.nats_server import NatsServer
from shared.contract import (
    H_TURN,
    MSG_ID,
    Done,
    FinishReason,
    Started,
    Text,
    Usage,
    encode,
)
from shared.errors import DeadlineExceeded
from shared.nats.connection import Connection
from shared.nats.follow import follow
from shared.nats.publish import PublishWindow, publish
from tests.integration.harness import Wire, connected, provisioned, soon

if TYPE_CHECKING:
    from shared.contract import Delta

pytestmark = pytest.mark.timeout(120)


def started(attempt: int = 1, turn: str = "t") -> Started:
    return Started("c", turn, attempt, 0, model="m", metadata={}, speech=False, created_at="")


def text(seq: int, attempt: int = 1, turn: str = "t") -> Text:
    return Text("c", turn, attempt, seq, text=f"{attempt}.{seq} ")


def done(seq: int, attempt: int = 1, turn: str = "t") -> Done:
    return Done(
        "c",
        turn,
        attempt,
        seq,
        finish_reason=FinishReason.STOP,
        text="",
        usage=Usage(1, 1),
        first_token_ms=None,
        duration_ms=0,
        metadata={},
    )


def turn_of(count: int, attempt: int = 1, turn: str = "t") -> list[Delta]:
    texts = [text(n, attempt, turn) for n in range(1, count - 1)]
    return [started(attempt, turn), *texts, done(count - 1, attempt, turn)]


async def say(connection: Connection, *events: Delta) -> None:
    for event in events:
        unique = f"{event.turn_id}.{event.attempt}.{event.seq}"
        await publish(
            connection, "chat.delta.c", encode(event), {MSG_ID: unique, H_TURN: event.turn_id}
        )


class Reader:
    """Follows a turn, and keeps what it was given."""

    def __init__(
        self,
        connection: Connection,
        turn: str = "t",
        start: int = 1,
        idle: float = 20.0,
        quiet: float = 60.0,
    ) -> None:
        self.got: list[Delta] = []
        self._following = follow(connection, "c", turn, start=start, idle=idle, quiet=quiet)
        self._task = asyncio.create_task(self._read())

    async def _read(self) -> None:
        async for event in self._following:
            self.got.append(event)

    async def has(self, count: int) -> None:
        await soon(lambda: len(self.got) >= count)

    async def whole(self, seconds: float = 60.0) -> list[Delta]:
        await asyncio.wait_for(self._task, seconds)
        return self.got


async def test_who_comes_late_gets_all_of_it(connection: Connection) -> None:
    await say(connection, *turn_of(600))
    assert await Reader(connection).whole() == turn_of(600)


async def test_who_is_there_before_gets_it_as_it_comes(
    connection: Connection, server: NatsServer
) -> None:
    async with Wire(server.url) as wire, connected(wire.url) as far:
        reader = Reader(far)
        await soon(lambda: b"SUB chat.delta.c" in wire.said)
        for number, event in enumerate(turn_of(50), 1):
            await say(connection, event)
            await reader.has(number)
        assert await reader.whole() == turn_of(50)


async def test_who_joins_in_the_middle_of_a_burst_misses_nothing(
    connection: Connection, server: NatsServer
) -> None:
    events = turn_of(1_500)
    async with connected(server.url) as other:
        window = PublishWindow(other)
        readers = []
        for number, event in enumerate(events):
            await window.send("chat.delta.c", encode(event), {MSG_ID: f"{event.seq}"})
            if number % 100 == 0:
                readers.append(Reader(connection))
                await asyncio.sleep(0)
        await window.drained()
        assert [await reader.whole() == events for reader in readers] == [True] * len(readers)


async def test_another_turn_of_the_conversation_is_not_heard(connection: Connection) -> None:
    await say(connection, *turn_of(5, turn="before"))
    reader = Reader(connection)
    for mine, other in zip(turn_of(20), turn_of(20, turn="other"), strict=True):
        await say(connection, other, mine)
    assert await reader.whole() == turn_of(20)


async def test_reading_begins_where_it_is_told_to(connection: Connection) -> None:
    await say(connection, *turn_of(5, turn="t"))
    answer = await connection.api("STREAM.INFO.CHAT_DELTAS")
    await say(connection, *turn_of(5, attempt=2))
    got = await Reader(connection, start=answer["state"]["last_seq"] + 1).whole()
    assert got == turn_of(5, attempt=2)


async def test_what_overtakes_waits_for_what_it_overtook(connection: Connection) -> None:
    await say(connection, started())
    reader = Reader(connection)
    await reader.has(1)
    await say(connection, text(2), text(3))
    assert len(reader.got) == 1
    await say(connection, text(1), done(4))
    assert await reader.whole() == turn_of(5)


async def test_what_passed_while_the_connection_was_lost_is_read_back(
    connection: Connection, server: NatsServer
) -> None:
    async with Wire(server.url) as wire, connected(wire.url) as far:
        reader = Reader(far)
        await say(connection, *turn_of(30)[:10])
        await reader.has(10)
        wire.cut()
        await soon(lambda: not far.client.is_connected)
        await say(connection, *turn_of(30)[10:])
        assert await reader.whole(5) == turn_of(30)


async def test_a_restart_of_the_server_in_the_middle() -> None:
    async with (
        NatsServer(websocket=False) as server,
        connected(server.url) as connection,
        connected(server.url) as other,
    ):
        await provisioned(connection)
        reader = Reader(connection)
        await say(other, *turn_of(30)[:10])
        await reader.has(10)
        await server.kill()
        await server.restart()
        await say(other, *turn_of(30)[10:])
        assert await reader.whole() == turn_of(30)


async def test_a_lost_event_is_found_after_a_while_without_anything(
    connection: Connection, server: NatsServer
) -> None:
    """A connection that only looks alive: the next look at the stream finds the rest."""
    async with Wire(server.url) as wire, connected(wire.url) as far:
        reader = Reader(far, quiet=0.1)
        await say(connection, started())
        await reader.has(1)
        wire.deaf = True
        await say(connection, *turn_of(4)[1:])
        await soon(lambda: wire.unheard.count(b"MSG chat.delta.c ") == 3)
        wire.deaf = False
        assert await reader.whole() == turn_of(4)


async def test_a_higher_attempt_starts_over_and_leftovers_are_dropped(
    connection: Connection,
) -> None:
    await say(connection, started(), text(1))
    reader = Reader(connection)
    await reader.has(2)
    await say(connection, started(2), text(2), done(3), text(1, 2), done(2, 2))
    assert await reader.whole() == [started(), text(1), *turn_of(3, attempt=2)]


async def test_garbage_on_the_subject_disturbs_nobody(connection: Connection) -> None:
    reader = Reader(connection)
    later = b'{"type":"of-a-later-version","conversation_id":"c","turn_id":"t","attempt":1,"seq":1}'
    await say(connection, started())
    for garbage in (b"", b"\xff", b'{"type":"text"}', b"[" * 5_000, later):
        await publish(connection, "chat.delta.c", garbage)
    await say(connection, text(2), done(3))
    assert await reader.whole() == [started(), text(2), done(3)]


async def test_a_turn_that_never_comes_is_given_up_and_leaves_nothing(
    connection: Connection,
) -> None:
    before = len(connection.client._subs)
    began = time.monotonic()
    with pytest.raises(DeadlineExceeded):
        await Reader(connection, idle=0.2).whole()
    assert time.monotonic() - began < 10
    assert len(connection.client._subs) == before
