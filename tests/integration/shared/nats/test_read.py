"""The past of a subject on a real nats-server."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from local.nats_server import NatsServer
from shared.errors import ApiError, NatsError
from shared.nats import read
from shared.nats.connection import Connection
from shared.nats.publish import publish
from shared.nats.read import read_back
from tests.integration.harness import (
    Wire,
    connected,
    numbered,
    send_all,
    stream_s,
)

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
async def connection(empty: Connection) -> Connection:
    """Connected; there is one stream, S."""
    await stream_s(empty)
    return empty


async def bodies(connection: Connection, subject: str = "s.a", start: int = 1) -> list[bytes]:
    return [message.data async for message in read_back(connection, "S", subject, start)]


# ---------------------------------------------------------------- in batches


async def test_the_past_is_read_back_in_many_batches(connection: Connection) -> None:
    await asyncio.gather(
        send_all(connection, numbered(700), "s.a"), send_all(connection, numbered(300), "s.b")
    )
    got = [m.data async for m in read_back(connection, "S", "s.a", 1, batch=64)]
    assert got == numbered(700)
    everything = [m async for m in read_back(connection, "S", "s.>", 1, batch=33)]
    assert [m.sequence for m in everything] == list(range(1, 1_001))
    assert {m.subject for m in everything} == {"s.a", "s.b"}


async def test_the_past_begins_at_a_sequence(connection: Connection) -> None:
    await send_all(connection, numbered(10))
    assert await bodies(connection, start=8) == [b"7", b"8", b"9"]
    assert await bodies(connection, start=0) == numbered(10)
    assert await bodies(connection, start=11) == []


async def test_the_past_begins_at_a_time(connection: Connection) -> None:
    await send_all(connection, numbered(5))
    answer = await connection.api("STREAM.MSG.GET.S", {"seq": 4})
    since = answer["message"]["time"]
    got = [m.data async for m in read_back(connection, "S", "s.a", 1, since=since, batch=1)]
    assert got == [b"3", b"4"]
    since = (datetime.now(UTC) + timedelta(seconds=1)).isoformat()
    assert [m async for m in read_back(connection, "S", "s.a", 1, since=since)] == []


async def test_a_subject_without_a_past(connection: Connection) -> None:
    assert await bodies(connection, "s.nothing") == []
    await publish(connection, "s.a", b"one")
    assert await bodies(connection, "s.nothing") == []


async def test_large_messages_that_end_a_batch_early_are_all_read(
    server: NatsServer, connection: Connection
) -> None:
    for body in numbered(12):
        await publish(connection, "s.a", body.rjust(900_000))
    async with Wire(server.url) as wire, connected(wire.url) as far:
        got = await bodies(far)
        assert [body.strip() for body in got] == numbered(12)
        assert wire.said.count(b"DIRECT.GET.S") > 1


async def test_headers_and_bodies_come_back_as_they_went(connection: Connection) -> None:
    body = bytes(range(256)) * 20
    await publish(connection, "s.a", body, {"Plain": "grün: ✓"})
    async for message in read_back(connection, "S", "s.a", 1):
        assert message.data == body
        assert message.headers["Plain"] == "grün: ✓"


async def test_reading_back_from_a_stream_that_is_not_there_is_an_error(
    connection: Connection,
) -> None:
    with pytest.raises(NatsError):
        [m async for m in read_back(connection, "NONE", "s.a", 1)]


async def test_reading_back_while_nats_is_away_is_an_error(
    server: NatsServer, connection: Connection
) -> None:
    connection.request_seconds = 0.2
    server.freeze()
    try:
        with pytest.raises(NatsError, match="no answer"):
            await bodies(connection)
    finally:
        server.thaw()


# ---------------------------------------------------------------- from the leader


async def test_the_last_message_of_a_subject(connection: Connection) -> None:
    assert await read.last(connection, "S", "s.a") is None
    await publish(connection, "s.a", b"one")
    await publish(connection, "s.a", b"two", {"H": "x"})
    await publish(connection, "s.b", b"three")
    last = await read.last(connection, "S", "s.a")
    assert last is not None
    assert (last.subject, last.sequence, last.data) == ("s.a", 2, b"two")
    assert last.headers == {"H": "x"}


async def test_the_first_message_that_is_left_of_a_subject(connection: Connection) -> None:
    assert await read.first(connection, "S", "s.a") is None
    for body in (b"one", b"", b"three"):
        await publish(connection, "s.b", b"other")
        await publish(connection, "s.a", body)
    found = await read.first(connection, "S", "s.a")
    assert found is not None
    assert (found.sequence, found.data) == (2, b"one")
    await connection.api("STREAM.MSG.DELETE.S", {"seq": 2})
    found = await read.first(connection, "S", "s.a")
    assert found is not None
    assert (found.sequence, found.data) == (4, b"")


async def test_headers_and_bodies_come_back_from_the_leader_as_they_went(
    connection: Connection,
) -> None:
    body = bytes(range(256)) * 20
    await publish(connection, "s.a", body, {"Plain": "grün: ✓", "Empty": ""})
    found = await read.last(connection, "S", "s.a")
    assert found is not None
    assert found.data == body
    assert found.headers == {"Plain": "grün: ✓", "Empty": ""}


async def test_a_decision_is_not_made_on_a_stream_that_is_not_there(connection: Connection) -> None:
    """Else a conversation whose bucket is missing would look like a new one."""
    with pytest.raises(ApiError):
        await read.last(connection, "NONE", "s.a")
