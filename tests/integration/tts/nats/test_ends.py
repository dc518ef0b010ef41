"""The ends of voices that never began."""

from __future__ import annotations

import msgspec
import pytest

from services.tts.nats.ends import NatsEnds
from shared.contract import AudioFailed, Code, Error
from shared.nats.connection import Connection
from tests.fakes_tts import Queued
from tests.integration.harness import held

pytestmark = pytest.mark.timeout(120)

TRACE = "00-0123456789abcdef0123456789abcdef-0123456789abcdef-01"
FAILED = AudioFailed("c", "t", 1, error=Error(Code.INVALID_REQUEST, "why", retryable=False))


async def test_a_listener_is_told_with_the_headers_of_an_end(connection: Connection) -> None:
    await NatsEnds(connection).failed(Queued(headers={"traceparent": TRACE, "x": "y"}), FAILED)
    (message,) = await held(connection, "TTS_AUDIO")
    assert message.subject == "tts.audio.c"
    assert msgspec.json.decode(message.data, type=AudioFailed) == FAILED
    told = {name: message.headers[f"Parley-{name}"] for name in ("Type", "Turn", "Attempt")}
    assert told == {"Type": "failed", "Turn": "t", "Attempt": "1"}
    assert message.headers["Parley-Conversation"] == "c"
    assert message.headers["traceparent"] == TRACE
    assert "x" not in message.headers


async def test_it_is_told_once_for_each_message(connection: Connection) -> None:
    for unique in ("7.1", "7.1", "8.1"):
        await NatsEnds(connection).failed(Queued(unique=unique), FAILED)
    assert len(await held(connection, "TTS_AUDIO")) == 2
