"""Whose voice is under way, by the speech workers' queue; whose was stopped a moment ago."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from services.chat.nats.voices import NatsVoices
from shared.contract import (
    H_TURN,
    H_TYPE,
    MSG_ID,
    TTS_REQUESTS_STREAM,
    Finish,
    Kind,
    Refusal,
    Stored,
    encode,
    tts_audio,
    tts_request,
)
from shared.errors import StorageUnavailable
from shared.nats.connection import settle
from shared.nats.publish import publish
from shared.nats.read import purge

if TYPE_CHECKING:
    from nats.aio.msg import Msg

    from shared.nats.connection import Connection

pytestmark = pytest.mark.timeout(120)


async def ask(connection: Connection, body: object, headers: dict[str, str] | None = None) -> int:
    data = json.dumps(body).encode()
    return (await publish(connection, tts_request("c"), data, headers)).seq


async def stored(connection: Connection, turn_id: str, finish: Finish) -> None:
    event = Stored(
        "c",
        turn_id,
        1,
        bucket="b",
        key=None,
        url=None,
        content_type="audio/wav",
        bytes=0,
        sha256="",
        duration_ms=0,
        captions_key=None,
        pieces=0,
        characters=0,
        finish=finish,
    )
    headers = {H_TURN: turn_id, H_TYPE: Kind.STORED.value}
    await publish(connection, tts_audio("c"), encode(event), headers)


async def test_a_voice_is_under_way_while_its_request_is_in_the_queue(
    connection: Connection,
) -> None:
    voices = NatsVoices(connection)
    assert await voices.under_way("c") == []
    await ask(connection, {"turn_id": "t1"})
    await ask(connection, {"text": "Hello."}, {MSG_ID: "t2"})
    number = await ask(connection, {"text": "Hello."})
    await publish(connection, tts_request("d"), b'{"turn_id": "t9"}')
    assert await voices.under_way("c") == ["t1", "t2", f"v{number}"]
    await purge(connection, TTS_REQUESTS_STREAM, tts_request("c"))
    assert await voices.under_way("c") == []


async def test_a_voice_that_was_told_to_be_whole_is_not_under_way(connection: Connection) -> None:
    voices = NatsVoices(connection)
    await ask(connection, {"turn_id": "t1"})
    await ask(connection, {"turn_id": "t2"})
    await stored(connection, "t1", Finish.COMPLETE)
    assert await voices.under_way("c") == ["t2"]
    await stored(connection, "t2", Finish.CANCELLED)
    assert await voices.under_way("c") == ["t1", "t2"]


async def test_a_voice_that_was_stopped_a_moment_ago_is_known(connection: Connection) -> None:
    voices = NatsVoices(connection)
    assert await voices.just_stopped("c") is None
    await stored(connection, "t1", Finish.CANCELLED)
    assert await voices.just_stopped("c") == "t1"
    await stored(connection, "t2", Finish.COMPLETE)
    assert await voices.just_stopped("c") is None


# ---------------------------------------------------------------- erased


async def answering(connection: Connection, *answers: bytes | None) -> list[str]:
    """A speech worker that gives these answers, None for no answer; what it is asked."""
    asked: list[str] = []

    async def on_message(msg: Msg) -> None:
        asked.append(msg.subject)
        answer = answers[min(len(asked), len(answers)) - 1]
        if answer is not None:
            await connection.client.publish(msg.reply, answer)

    await connection.client.subscribe("tts.erase.*", cb=on_message)
    await settle(connection.client)
    return asked


async def test_the_speech_workers_erase_the_voices(connection: Connection) -> None:
    asked = await answering(connection, b'{"conversation_id":"c","deleted":true}')
    await NatsVoices(connection).erase("c")
    assert asked == ["tts.erase.c"]


async def test_what_the_speech_workers_could_not_erase_is_told(connection: Connection) -> None:
    error = encode(Refusal(StorageUnavailable("the store is away").as_error()))
    await answering(connection, error)
    with pytest.raises(StorageUnavailable, match="the store is away"):
        await NatsVoices(connection).erase("c")


async def test_a_speech_worker_that_is_frozen_is_not_waited_for(connection: Connection) -> None:
    asked = await answering(connection, None, b'{"conversation_id":"c","deleted":true}')
    await NatsVoices(connection).erase("c")
    assert len(asked) == 2


async def test_where_nobody_speaks_there_may_be_no_voice_left(connection: Connection) -> None:
    voices = NatsVoices(connection)
    await voices.erase("c")
    await stored(connection, "t1", Finish.COMPLETE)
    with pytest.raises(StorageUnavailable):
        await voices.erase("c")


@pytest.mark.parametrize("garbage", [b"", b"\xff", b"{}", b'{"x":' + b"[" * 50_000])
async def test_a_stranger_s_end_of_a_voice_is_passed_over(
    connection: Connection, garbage: bytes
) -> None:
    voices = NatsVoices(connection)
    await ask(connection, {"turn_id": "t1"})
    await stored(connection, "t1", Finish.CANCELLED)
    await publish(connection, tts_audio("c"), garbage, {H_TYPE: Kind.STORED.value, H_TURN: "t1"})
    assert await voices.under_way("c") == ["t1"]
    assert await voices.just_stopped("c") is None
