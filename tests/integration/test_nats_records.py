"""What is kept of each turn's voice, by compare-and-set."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio
from msgspec.structs import replace

from local.nats_server import NatsServer
from services.tts.nats_records import NatsRecords
from services.tts.ports import Conflict
from services.tts.record import SpeechRecord
from shared import nats_bus
from shared.contract import AudioFailed, Code, Error
from tests.integration.test_nats_bus import Wire, connected, provisioned, soon

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from shared.nats_bus import Bus

pytestmark = pytest.mark.timeout(30)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server() -> AsyncIterator[NatsServer]:
    async with NatsServer(websocket=False) as running:
        yield running


@pytest.fixture
async def bus(server: NatsServer) -> AsyncIterator[Bus]:
    async with connected(server.url) as bus:
        await provisioned(bus)
        yield bus


async def test_a_voice_that_nobody_has_begun_has_an_empty_record(bus: Bus) -> None:
    assert await NatsRecords(bus, "c", "t").load() == (SpeechRecord(), 0)


async def test_a_record_comes_back_as_it_was_saved_under_its_key(bus: Bus) -> None:
    failed = AudioFailed("c", "t", 2, error=Error(Code.INTERNAL, "why", retryable=False))
    saved = SpeechRecord(attempt=2, executions=1, execution="e", since="now", failed=failed)
    revision = await NatsRecords(bus, "c", "t").save(saved, 0)
    assert await NatsRecords(bus, "c", "t").load() == (saved, revision)
    assert [key async for key, _ in bus.bucket("speech").entries("c.*")] == ["c.t"]


async def test_turns_have_records_of_their_own(bus: Bus) -> None:
    await NatsRecords(bus, "c", "t").save(SpeechRecord(execution="e"), 0)
    assert await NatsRecords(bus, "c", "u").load() == (SpeechRecord(), 0)


async def test_of_two_workers_that_end_a_voice_one_wins(bus: Bus, server: NatsServer) -> None:
    async with connected(server.url) as other:
        ours, theirs = NatsRecords(bus, "c", "t"), NatsRecords(other, "c", "t")
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
    server: NatsServer, bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nats_bus, "ACK_TIMEOUT", 0.15)
    record = SpeechRecord(execution="e")
    async with Wire(server.url) as wire, connected(wire.url) as far:
        wire.delay = 0.25
        saving = asyncio.create_task(NatsRecords(far, "c", "t").save(record, 0))
        await soon(lambda: wire.said.count(b"HPUB $KV") == 2)
        wire.delay = 0
        revision = await asyncio.wait_for(saving, 5)
    assert await NatsRecords(bus, "c", "t").load() == (record, revision)
