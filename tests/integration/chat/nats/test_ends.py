"""The end of a turn that never began, as listeners and speech workers find it."""

from __future__ import annotations

import msgspec
import pytest

from services.chat.nats.ends import NatsEnds
from services.chat.turn import Turn
from shared.contract import AudioFailed, Speech, SpeechRequest
from shared.errors import Busy
from shared.nats.connection import Connection
from shared.nats.follow import decode_delta
from tests.fakes import Queued
from tests.integration.harness import held

pytestmark = pytest.mark.timeout(120)

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
MESSAGE = Queued(headers={"traceparent": TRACE, "X-Mine": "stays with me"})
FAILED = Turn("c", "t").failed(Busy("a turn is under way").as_error())
VOICE_FAILED = AudioFailed("c", "t", 1, error=FAILED.error)


async def test_the_end_of_the_text_is_stored_with_its_ids_and_its_trace(
    connection: Connection,
) -> None:
    sequence = await NatsEnds(connection).text(MESSAGE, FAILED)
    (stored,) = await held(connection, "CHAT_DELTAS")
    assert (stored.subject, stored.sequence) == ("chat.delta.c", sequence)
    assert decode_delta(stored.data) == FAILED
    assert stored.headers["Parley-Conversation"] == "c"
    assert stored.headers["Parley-Turn"] == "t"
    assert stored.headers["traceparent"] == TRACE
    assert "X-Mine" not in stored.headers


async def test_a_voice_that_fails_is_told_to_its_listeners(connection: Connection) -> None:
    await NatsEnds(connection).voice(MESSAGE, VOICE_FAILED)
    (stored,) = await held(connection, "TTS_AUDIO")
    assert stored.subject == "tts.audio.c"
    assert msgspec.json.decode(stored.data, type=AudioFailed) == VOICE_FAILED
    assert stored.headers["Parley-Type"] == "failed"
    assert stored.headers["Parley-Attempt"] == "1"
    assert await held(connection, "TTS_REQUESTS") == []


async def test_a_voice_to_be_ended_is_asked_of_a_speech_worker(connection: Connection) -> None:
    asked = SpeechRequest("c", "t", Speech(voice="v"), start_sequence=9)
    await NatsEnds(connection).voice(MESSAGE, asked)
    (stored,) = await held(connection, "TTS_REQUESTS")
    assert stored.subject == "tts.request.c"
    assert msgspec.json.decode(stored.data, type=SpeechRequest) == asked
    assert await held(connection, "TTS_AUDIO") == []


async def test_of_one_message_each_end_is_told_once(connection: Connection) -> None:
    ends = NatsEnds(connection)
    first = await ends.text(MESSAGE, FAILED)
    assert await ends.text(MESSAGE, FAILED) == first
    await ends.voice(MESSAGE, VOICE_FAILED)
    await ends.voice(MESSAGE, VOICE_FAILED)
    assert len(await held(connection, "CHAT_DELTAS")) == 1
    assert len(await held(connection, "TTS_AUDIO")) == 1


async def test_of_another_message_of_the_same_turn_the_end_is_told_too(
    connection: Connection,
) -> None:
    ends = NatsEnds(connection)
    for unique in ("8.1", "9.1"):
        await ends.text(Queued(unique=unique), FAILED)
    assert len(await held(connection, "CHAT_DELTAS")) == 2
