"""What is kept of each turn's voice, by compare-and-set."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from local.nats_server import NatsServer
from services.tts import record
from services.tts.nats.records import NatsRecords
from services.tts.record import SpeechRecord
from shared.contract import AudioFailed, Code, Error
from shared.errors import Superseded
from shared.nats.connection import Connection
from shared.nats.documents import Bucket, Held
from tests.integration.harness import Wire, connected, soon

if TYPE_CHECKING:
    from collections.abc import Callable


pytestmark = pytest.mark.timeout(120)


def saved(found: SpeechRecord) -> Callable[[SpeechRecord], SpeechRecord]:
    """A change to just this."""
    return lambda _: found


async def test_a_voice_that_nobody_has_begun_has_an_empty_record(connection: Connection) -> None:
    assert await NatsRecords(connection, "c", "t").load() == Held(SpeechRecord(), 0)


async def test_a_record_comes_back_as_it_was_saved_under_its_key(connection: Connection) -> None:
    failed = AudioFailed("c", "t", 2, error=Error(Code.INTERNAL, "why", retryable=False))
    found = SpeechRecord(attempt=2, executions=1, execution="e", since="now", failed=failed)
    held = await NatsRecords(connection, "c", "t").amend(saved(found))
    assert held.value == found
    assert await NatsRecords(connection, "c", "t").load() == held
    assert [key async for key, _ in Bucket(connection, "speech").entries("c.*")] == ["c.t"]


async def test_turns_have_records_of_their_own(connection: Connection) -> None:
    await NatsRecords(connection, "c", "t").amend(saved(SpeechRecord(execution="e")))
    assert await NatsRecords(connection, "c", "u").load() == Held(SpeechRecord(), 0)


async def test_where_nothing_changes_nothing_is_saved(connection: Connection) -> None:
    records = NatsRecords(connection, "c", "t")
    held = await records.amend(saved(SpeechRecord(execution="e")))
    assert await records.amend(lambda found: found) == held
    assert await records.amend(lambda found: found, held) is held


async def test_of_two_workers_that_take_a_voice_up_each_sees_the_other(
    connection: Connection, server: NatsServer
) -> None:
    def begun(execution: str) -> Callable[[SpeechRecord], SpeechRecord]:
        return lambda found: record.begin(found, execution=execution, since="now", request=7)

    async with connected(server.url) as other:
        ours, theirs = NatsRecords(connection, "c", "t"), NatsRecords(other, "c", "t")
        for n in range(20):
            held = await ours.load()
            ends = await asyncio.gather(
                ours.amend(begun(f"ours {n}"), held), theirs.amend(begun(f"theirs {n}"), held)
            )
            attempts = sorted(end.value.attempt for end in ends)
            assert attempts == [2 * n + 1, 2 * n + 2]
            assert (await ours.load()).value.attempt == 2 * n + 2


async def test_of_two_workers_that_end_a_voice_one_wins(
    connection: Connection, server: NatsServer
) -> None:
    def ended(why: str) -> Callable[[SpeechRecord], SpeechRecord]:
        error = Error(Code.INTERNAL, why, retryable=False)
        return lambda found: record.ended(found, "w", AudioFailed("c", "t", 1, error=error))

    async with connected(server.url) as other:
        ours, theirs = NatsRecords(connection, "c", "t"), NatsRecords(other, "c", "t")
        held = await ours.amend(
            lambda found: record.begin(found, execution="w", since="now", request=7)
        )
        ends = await asyncio.gather(
            ours.amend(ended("ours"), held),
            theirs.amend(ended("theirs"), held),
            return_exceptions=True,
        )
    assert [type(end) for end in ends].count(Superseded) == 1


async def test_a_write_whose_ack_was_lost_is_our_own(
    server: NatsServer, connection: Connection
) -> None:
    found = SpeechRecord(execution="e")
    async with Wire(server.url) as wire, connected(wire.url, ack_seconds=0.15) as far:
        wire.delay = 0.25
        saving = asyncio.create_task(NatsRecords(far, "c", "t").amend(saved(found)))
        await soon(lambda: wire.said.count(b"HPUB $KV") == 2)
        wire.delay = 0
        held = await asyncio.wait_for(saving, 5)
    assert held.value == found
    assert await NatsRecords(connection, "c", "t").load() == held


async def test_a_record_that_is_erased_leaves_no_trace(connection: Connection) -> None:
    records = NatsRecords(connection, "c", "t")
    await records.amend(record.cancelled)
    await records.erase()
    assert (await records.load()).revision == 0
