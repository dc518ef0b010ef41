"""What is kept of the voices of a conversation, and how it goes."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest

from local.nats_server import NatsServer
from services.tts import record
from services.tts.nats.erase import NatsVoices
from services.tts.nats.records import NatsRecords
from services.tts.record import SpeechRecord
from shared.nats.connection import Connection
from shared.nats.documents import Bucket
from shared.nats.publish import publish
from tests.integration.harness import connected, held, provisioned

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


pytestmark = pytest.mark.timeout(120)

TURNS = [("c", "t"), ("c", "u"), ("c2", "t")]


@pytest.fixture
async def connection(server: NatsServer) -> AsyncIterator[Connection]:
    async with connected(server.url) as connection:
        await provisioned(connection)
        for conversation_id, turn_id in TURNS:
            await publish(connection, f"tts.request.{conversation_id}", b"{}")
            await publish(connection, f"tts.audio.{conversation_id}", b"{}")
            begun = partial(record.begin, execution=turn_id, since="", request=7)
            await NatsRecords(connection, conversation_id, turn_id).amend(begun)
        yield connection


async def subjects(connection: Connection, stream: str) -> list[str]:
    return [message.subject for message in await held(connection, stream)]


async def test_the_turns_that_are_asked_for_are_those_in_the_queue(connection: Connection) -> None:
    await publish(connection, "tts.request.c", b'{"turn_id":"u"}')
    *unnamed, named = await NatsVoices(connection).requested("c")
    assert unnamed == ["v1", "v2"]  # by their place in the stream
    assert named == "u"
    assert await NatsVoices(connection).requested("unknown") == []


async def test_a_voice_that_nobody_has_taken_up_is_stopped(connection: Connection) -> None:
    await NatsVoices(connection).stop("c", "later")
    found = await NatsRecords(connection, "c", "later").load()
    assert found.value == SpeechRecord(cancelled=True)


async def test_requests_that_wait_go_and_no_other_conversation_s(connection: Connection) -> None:
    await NatsVoices(connection).drop_requests("c")
    assert await subjects(connection, "TTS_REQUESTS") == ["tts.request.c2"]


async def test_events_go_and_no_other_conversation_s(connection: Connection) -> None:
    await NatsVoices(connection).drop_events("c")
    assert await subjects(connection, "TTS_AUDIO") == ["tts.audio.c2"]


async def test_records_go_without_a_trace_and_no_other_conversation_s(
    connection: Connection,
) -> None:
    await NatsVoices(connection).drop_records("c")
    assert [key async for key, _ in Bucket(connection, "speech").entries(">")] == ["c2.t"]
    assert await subjects(connection, "KV_speech") == ["$KV.speech.c2.t"]
