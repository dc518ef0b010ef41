"""What strangers and damaged data may do to running services: cost themselves, nobody else."""

from __future__ import annotations

import asyncio
import json
import re
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio
from minio import Minio
from nats.js.errors import NotFoundError

from tests.e2e.whole import assert_whole
from tests.hostile.messages import NO_IDS, Hostile, generated
from tests.hostile.storm import SCRIPT, SETTINGS, complaints, resident, storm
from tests.system import Ears, System

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(180)]

MESSAGES = 1_000
ID = "[A-Za-z0-9_-]{1,64}"
# Beside what a service has anyway: the bodies of a storm are large, and their memory is not given
# back at once. A leak of what was sent would be 50 MiB.
MAX_GROWTH = 60 * 2**20
GARBAGE = (
    b"",
    b"\xff\xfe",
    b"[]",
    b'{"version":"x"}',
    b'{"messages":[5],"stored":5}',
    b"[" * 100_000,
)


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def system(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[System]:
    folder = tmp_path_factory.mktemp("hostile")
    async with System(folder, script=SCRIPT, settings=SETTINGS) as running:
        for name in ("chat", "tts"):
            await running.add(name).ready()
        yield running


async def listen(system: System) -> None:
    """From now on: what a storm says is none of a listener's business."""
    system.ears = Ears()
    await system.ears.listen(system.client)


async def test_hostile_messages_are_answered_refused_or_kept_and_nothing_dies(
    system: System,
) -> None:
    before = [resident(service) for service in system.services]
    account = await storm(system, generated(MESSAGES, seed=1))
    assert not account.open
    assert complaints(system.services) == []
    assert all(service.running for service in system.services)
    await system.until_empty("CHAT_REQUESTS", "TTS_REQUESTS")
    grown = [resident(each) - was for each, was in zip(system.services, before, strict=True)]
    assert max(grown) < MAX_GROWTH

    await listen(system)
    turn = await system.answered(content="Still there?", speech={}, seconds=60)
    assert_whole(turn, system)


def named_by_no_id(name: str) -> list[Hostile]:
    """In every field and subject that takes an id."""
    token = "_".join(name.split() or [""]).encode(errors="surrogatepass")
    spoken = {"content": "Hi.", "text": "Hi.", "speech": {}}
    found = [
        message(literal, b"good", {**spoken, **fields}, headers)
        for literal in ("chat.request", "chat.ask", "tts.request")
        for fields, headers in (
            ({"turn_id": name}, {}),
            ({"conversation_id": name}, {}),
            ({}, {"Nats-Msg-Id": name}),
            ({}, {"Parley-Turn": name, "Parley-Conversation": name}),
        )
    ]
    found += [message("chat.request", b"", {**spoken, "conversation_id": name})]
    if token != b">":  # see tests/hostile/messages.py
        subjects = ("chat.request", "chat.ask", "tts.request", "tts.link", "chat.replay")
        found += [message(each, token, {**spoken, "turn_id": "t"}) for each in subjects]
    for literal in ("chat.history.get", "chat.history.delete", "chat.cancel"):
        found += [message(literal, b"", {"conversation_id": name, "turn_id": name})]
    return [*found, message("tts.link", b"good", {"turn_id": name})]


def message(
    literal: str, token: bytes, fields: dict[str, object], headers: dict[str, str] | None = None
) -> Hostile:
    one_line = {key: "".join(value.split()) for key, value in (headers or {}).items()}
    subject = literal.encode() + (b"." + token if token else b"")
    return Hostile(literal, subject, json.dumps(fields).encode(), one_line)


async def test_no_path_subject_or_pattern_becomes_a_key(system: System) -> None:
    account = await storm(system, [each for name in NO_IDS for each in named_by_no_id(name)])
    assert not account.open
    await system.until_empty("CHAT_REQUESTS", "TTS_REQUESTS")
    objects = await asyncio.to_thread(object_keys, system)
    assert objects
    for key in objects:
        assert re.fullmatch(rf"{ID}/{ID}/[0-9]+\.(wav|flac|mp3|opus|aac|pcm|vtt)", key), key
    for bucket, form in (("conversations", rf"{ID}(\.[0-9]+)?"), ("speech", rf"{ID}\.{ID}")):
        keys = [message.subject.split(".", 2)[2] for message in await system.stored(f"KV_{bucket}")]
        assert keys
        assert [key for key in keys if not re.fullmatch(form, key)] == []


def object_keys(system: System) -> list[str]:
    store = system.s3
    client = Minio(
        endpoint=store.endpoint,
        access_key=store.access_key,
        secret_key=store.secret_key,
        secure=False,
        region="us-east-1",
    )
    found = client.list_objects("parley-audio", recursive=True)
    return [str(each.object_name) for each in found]


async def asked(system: System, subject: str, body: object) -> Any:
    answer = await system.client.request(subject, json.dumps(body).encode(), timeout=30)
    return json.loads(answer.data)


@pytest.mark.parametrize("garbage", GARBAGE, ids=lambda data: repr(data[:12]))
async def test_a_damaged_document_fails_its_turn_and_can_be_erased(
    system: System, garbage: bytes
) -> None:
    name = f"damaged{GARBAGE.index(garbage)}"
    await system.client.jetstream().publish(f"$KV.conversations.{name}", garbage)
    await listen(system)

    turn_id = await system.ask(conversation_id=name, content="Hello?", speech={})
    await system.ears.whole(turn_id)
    turn = system.ears.turn(turn_id)
    assert turn.end is not None
    assert turn.voice_end is not None
    assert turn.end["error"]["code"] == turn.voice_end["error"]["code"] == "internal"
    await system.until_empty("CHAT_REQUESTS")  # the dead letter comes before the ack
    kept = await system.client.jetstream().get_last_msg("DEAD_LETTERS", f"chat.dead.{name}")
    assert kept.headers is not None
    assert kept.headers["Parley-Error-Code"] == "internal"
    ask = await asked(system, f"chat.ask.{name}", {"content": "Hello?"})
    for answer in (await asked(system, f"chat.history.get.{name}", {}), ask):
        assert "erase the conversation" in answer["error"]["message"]

    assert (await asked(system, f"chat.history.delete.{name}", {}))["deleted"]
    turn = await system.answered(conversation_id=name, content="Hello?", speech={})
    assert_whole(turn, system)


@pytest.mark.parametrize("garbage", GARBAGE, ids=lambda data: repr(data[:12]))
async def test_a_damaged_record_of_a_voice_fails_that_voice_alone(
    system: System, garbage: bytes
) -> None:
    name = f"hoarse{GARBAGE.index(garbage)}"
    await system.client.jetstream().publish(f"$KV.speech.{name}.t{name}", garbage)
    await listen(system)

    turn = await system.answered(conversation_id=name, turn_id=f"t{name}", content="Hi.", speech={})
    assert turn.end is not None
    assert turn.end["type"] == "done"
    assert turn.voice_end is not None
    assert turn.voice_end["error"]["code"] == "internal"
    assert_whole(await system.answered(conversation_id=name, content="Hi.", speech={}), system)
    assert (await asked(system, f"chat.history.delete.{name}", {}))["deleted"]
    with pytest.raises(NotFoundError):
        await system.client.jetstream().get_last_msg("KV_speech", f"$KV.speech.{name}.t{name}")


async def test_what_a_stranger_writes_among_the_events_of_a_turn_is_passed_over(
    system: System,
) -> None:
    js = system.client.jetstream()
    for body in (*GARBAGE, b'{"type":"later","turn_id":"x","attempt":1,"seq":0}'):
        for kind in ("", "started", "piece", "chunk", "piece_done", "stored", "failed", "later"):
            headers = {"Parley-Type": kind, "Parley-Turn": "x", "Parley-Attempt": "\u00b2"}
            await js.publish("chat.delta.among", body, headers=headers)
            await js.publish("tts.audio.among", body, headers=headers)
    await listen(system)
    turn = await system.answered(conversation_id="among", content="Hi.", speech={})
    assert_whole(turn, system)
    assert complaints(system.services) == []
