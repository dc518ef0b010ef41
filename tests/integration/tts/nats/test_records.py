"""What is kept of each turn's voice, by compare-and-set."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio
from msgspec.structs import replace

from local.nats_server import NatsServer
from services.tts.nats.records import NatsRecords
from services.tts.record import SpeechRecord
from shared.contract import AudioFailed, Code, Error
from shared.errors import Conflict
from shared.nats.connection import Connection
from shared.nats.documents import Bucket
from tests.integration.harness import Wire, connected, provisioned, soon

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


pytestmark = pytest.mark.timeout(30)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server() -> AsyncIterator[NatsServer]:
    async with NatsServer(websocket=False) as running:
        yield running


@pytest.fixture
async def connection(server: NatsServer) -> AsyncIterator[Connection]:
    async with connected(server.url) as connection:
        await provisioned(connection)
        yield connection


async def test_a_voice_that_nobody_has_begun_has_an_empty_record(connection: Connection) -> None:
    assert await NatsRecords(connection, "c", "t").load() == (SpeechRecord(), 0)


async def test_a_record_comes_back_as_it_was_saved_under_its_key(connection: Connection) -> None:
    failed = AudioFailed("c", "t", 2, error=Error(Code.INTERNAL, "why", retryable=False))
    saved = SpeechRecord(attempt=2, executions=1, execution="e", since="now", failed=failed)
    revision = await NatsRecords(connection, "c", "t").save(saved, 0)
    assert await NatsRecords(connection, "c", "t").load() == (saved, revision)
    assert [key async for key, _ in Bucket(connection, "speech").entries("c.*")] == ["c.t"]


async def test_turns_have_records_of_their_own(connection: Connection) -> None:
    await NatsRecords(connection, "c", "t").save(SpeechRecord(execution="e"), 0)
    assert await NatsRecords(connection, "c", "u").load() == (SpeechRecord(), 0)


async def test_of_two_workers_that_end_a_voice_one_wins(
    connection: Connection, server: NatsServer
) -> None:
    async with connected(server.url) as other:
        ours, theirs = NatsRecords(connection, "c", "t"), NatsRecords(other, "c", "t")
        for n in range(20):
            found, revision = await ours.load()
            names = (f"ours {n}", f"theirs {n}")
            outcomes = await asyncio.gather(
                ours.save(replace(found, execution=names[0]), revision),
                theirs.save(replace(found, execution=names[1]), revision),
                return_exceptions=True,
            )
            assert [type(o) for o in outcomes].count(Conflict) == 1
            winner = names[isinstance(outcomes[0], Conflict)]
            assert (await ours.load())[0].execution == winner


async def test_a_write_whose_ack_was_lost_is_our_own(
    server: NatsServer, connection: Connection
) -> None:
    record = SpeechRecord(execution="e")
    async with Wire(server.url) as wire, connected(wire.url, ack_seconds=0.15) as far:
        wire.delay = 0.25
        saving = asyncio.create_task(NatsRecords(far, "c", "t").save(record, 0))
        await soon(lambda: wire.said.count(b"HPUB $KV") == 2)
        wire.delay = 0
        revision = await asyncio.wait_for(saving, 5)
    assert await NatsRecords(connection, "c", "t").load() == (record, revision)
