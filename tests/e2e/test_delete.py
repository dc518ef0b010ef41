"""A conversation that is deleted is nowhere any more, whatever runs, waits or is frozen."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from typing import TYPE_CHECKING, Any

import nats.errors
import pytest
import pytest_asyncio
from minio import Minio

from tests.e2e.whole import FAST
from tests.system import System, Turn

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.asyncio(loop_scope="module")

LONG = " ".join(f"This is sentence number {n} of a long story." for n in range(40))
SLOW: dict[str, Any] = {
    "chat": {"first_token_ms": 20, "tokens_per_second": 100, "replies": [LONG]},
    "speech": {"realtime_factor": 4, "first_audio_ms": 20},
}
DELETE = "chat.history.delete"
STREAMS = (
    *("CHAT_REQUESTS", "CHAT_DELTAS", "TTS_REQUESTS", "TTS_AUDIO", "DEAD_LETTERS"),
    *("KV_conversations", "KV_speech"),
)


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[System]:
    async with System(tmp_path_factory.mktemp("system")) as system:
        await system.up(chat=2, tts=2)
        yield system


@pytest.fixture
def system(running: System) -> System:
    running.emulator.reset()
    running.emulator.change(SLOW)
    return running


def new() -> str:
    return uuid.uuid4().hex[:12]


def chunks(turn: Turn) -> int:
    return sum(1 for h, _ in turn.audio if h["Parley-Type"] == "chunk")


async def deleted(system: System, conversation: str) -> None:
    body = json.dumps({"conversation_id": conversation}).encode()
    began = time.monotonic()
    reply = await system.client.request(DELETE, body, timeout=20)
    assert json.loads(reply.data) == {"conversation_id": conversation, "deleted": True}
    assert time.monotonic() - began < 20


async def of_whom_is_awake(system: System, subject: str, **body: Any) -> dict[str, Any]:
    """Asked for several times at once: one ask may go to a replica that is frozen, and what a
    frozen one holds may take longer than one ask."""
    data = json.dumps(body).encode()
    until = time.monotonic() + 60
    while time.monotonic() < until:
        asking = [
            asyncio.create_task(system.client.request(subject, data, timeout=20)) for _ in range(6)
        ]
        try:
            for first in asyncio.as_completed(asking):
                answer = dict(json.loads((await first).data))
                if "error" not in answer:
                    return answer
                assert answer["error"]["retryable"]
        except nats.errors.TimeoutError:
            continue
        finally:
            for task in asking:
                task.cancel()
    raise AssertionError(f"nobody answers {subject}")


async def assert_gone(system: System, conversation: str) -> None:
    js = system.client.jetstream()
    for stream in STREAMS:
        info = await js.stream_info(stream, subjects_filter=">")
        subjects = [s for s in info.state.subjects or {} if conversation in s]
        assert not subjects, stream
    store = Minio(system.s3.endpoint, system.s3.access_key, system.s3.secret_key, secure=False)
    objects = await asyncio.to_thread(
        lambda: list(store.list_objects("parley-audio", prefix=f"{conversation}/"))
    )
    assert not objects
    left = await of_whom_is_awake(system, "chat.history.get", conversation_id=conversation)
    assert left["messages"] == []


async def busy_conversation(system: System) -> tuple[str, list[str]]:
    """One turn stored, one under way, others waiting, a text to be spoken, and a bad copy."""
    conversation = new()
    system.emulator.change({**FAST, "chat": {**FAST["chat"], "replies": ["A short answer."]}})
    await system.answered(conversation_id=conversation, content="Remember this.")
    system.emulator.change(SLOW)
    asked = [
        await system.ask(conversation_id=conversation, content=f"Tell me story {n}.")
        for n in range(4)
    ]
    await system.ears.until(lambda: chunks(system.ears.turn(asked[0])) > 5)
    js = system.client.jetstream()
    bad = {"conversation_id": conversation, "turn_id": asked[0], "content": 5}
    await js.publish("chat.request", json.dumps(bad).encode())
    text = json.dumps({"turn_id": "spoken", "text": LONG}).encode()
    await js.publish(f"tts.request.{conversation}", text)
    await js.publish(f"tts.request.{conversation}", b'{"text": ""')
    until = time.monotonic() + 10
    while True:
        info = await js.stream_info("DEAD_LETTERS", subjects_filter=">")
        letters = {s for s in info.state.subjects or {} if conversation in s}
        if letters == {f"chat.dead.{conversation}", f"tts.dead.{conversation}"}:
            return conversation, asked
        assert time.monotonic() < until


async def test_what_runs_what_waits_and_what_is_left_goes_in_one_call(system: System) -> None:
    conversation, asked = await busy_conversation(system)
    await deleted(system, conversation)
    await assert_gone(system, conversation)
    ends = [system.ears.turn(turn_id).end for turn_id in asked]
    assert [end and end["finish_reason"] for end in ends] == ["cancelled"] * 4
    questions = [c.messages[-1]["content"] for c in system.emulator.record.chats]
    assert "Tell me story 1." not in questions

    system.emulator.change({**FAST, "chat": {**FAST["chat"], "replies": ["Hello."]}})
    await system.answered(conversation_id=conversation, content="Who are you?")
    messages = (await system.history(conversation))["messages"]
    assert [m["content"] for m in messages] == ["Who are you?", "Hello."]
    await deleted(system, conversation)
    await deleted(system, conversation)
    await assert_gone(system, conversation)


async def test_objects_go_also_when_the_records_of_the_voices_have_expired(
    system: System,
) -> None:
    system.emulator.change({**FAST, "chat": {**FAST["chat"], "replies": ["A short answer."]}})
    conversation = new()
    await system.answered(conversation_id=conversation, content="Remember this.")
    js = system.client.jetstream()
    await js.purge_stream("KV_speech", subject=f"$KV.speech.{conversation}.*")
    await js.purge_stream("TTS_AUDIO", subject=f"tts.audio.{conversation}")
    await deleted(system, conversation)
    await assert_gone(system, conversation)


async def test_frozen_workers_do_not_bring_back_what_was_deleted(system: System) -> None:
    busy = [(await busy_conversation(system))[0] for _ in range(3)]
    frozen = [system.services[0], system.services[2]]
    assert [service.name for service in frozen] == ["chat", "tts"]
    for service in frozen:
        service.freeze()
    try:
        answers = await asyncio.gather(
            *(of_whom_is_awake(system, DELETE, conversation_id=name) for name in busy)
        )
        assert answers == [{"conversation_id": name, "deleted": True} for name in busy]
        for name in busy:
            await assert_gone(system, name)
    finally:
        for service in frozen:
            service.thaw()
    for service in frozen:
        await service.ready()
    # Whatever they had in hand they have looked at by now.
    await system.until_empty("CHAT_REQUESTS", "TTS_REQUESTS")
    system.emulator.change({**FAST, "chat": {**FAST["chat"], "replies": ["Hello."]}})
    await asyncio.gather(*(system.answered(content="Anyone?") for _ in range(20)))
    for name in busy:
        await assert_gone(system, name)
