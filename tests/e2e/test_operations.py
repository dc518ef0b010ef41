"""What an operator does to the services, or the world to them: deletions, floods, full streams."""

from __future__ import annotations

import asyncio
import json
import time
import urllib.error
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from tests.e2e.whole import FAST, fetch, limited
from tests.system import System

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from local.service import Service

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(120)]

MIB = 1024 * 1024
FILLER = {"Parley-Type": "x", "Parley-Turn": "filler"}
QUIET = {"chat": {"first_token_ms": 0, "tokens_per_second": 0, "replies": ["Yes."]}}


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[System]:
    async with System(tmp_path_factory.mktemp("system")) as system:
        await system.up()
        yield system


@pytest.fixture
def system(running: System) -> System:
    running.emulator.reset()
    running.emulator.change(FAST)
    return running


def readiness(service: Service) -> str:
    try:
        return fetch(service.url("/readyz")).decode().strip()
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.read().decode().strip()


async def until_readiness(service: Service, wanted: str, seconds: float) -> float:
    """Seconds after which `wanted` is part of what the probe says."""
    began = time.monotonic()
    while wanted not in (said := await asyncio.to_thread(readiness, service)):
        assert time.monotonic() - began < seconds, f"not {wanted!r} but {said!r}"
        await asyncio.sleep(0.1)
    return time.monotonic() - began


async def test_probes_metrics_and_the_document_are_there(system: System) -> None:
    for service in system.services:
        assert fetch(service.url("/livez")) == b"ok\n"
        assert fetch(service.url("/readyz")) == b"ok\n"
        assert b"parley_turns" in fetch(service.url("/metrics"))
        document = json.loads(fetch(service.url("/asyncapi")))
        assert "chat.request" in {c["address"] for c in document["channels"].values()}


@pytest.mark.parametrize(
    "name",
    ["CHAT_REQUESTS", "CHAT_DELTAS", "TTS_REQUESTS", "TTS_AUDIO", "KV_conversations", "KV_speech"],
)
async def test_a_stream_that_is_deleted_is_missed_made_again_and_used(
    system: System, name: str
) -> None:
    chat, tts = system.services
    await system.answered(content="Hello!")
    await system.client.jetstream().delete_stream(name)
    for service in {"KV_conversations": [chat], "CHAT_REQUESTS": [chat], "KV_speech": [tts]}.get(
        name, [chat, tts]
    ):
        await until_readiness(service, name, 10)
    for service in (chat, tts):
        await until_readiness(service, "ok", 30)
    await system.answered(content="Hello again!")


async def test_what_waits_elsewhere_is_done_when_a_stream_was_deleted(system: System) -> None:
    """The request waits; its words have nowhere to go for a moment."""
    chat = system.services[0]
    chat.freeze()
    asked = [await system.ask(content=f"Question {n}", speech=False) for n in range(5)]
    await system.client.jetstream().delete_stream("CHAT_DELTAS")
    chat.thaw()
    await system.ears.whole(*asked, voice=False, seconds=60)


def highest_memory(service: Service) -> int:
    """Bytes of memory that the process had at most."""
    lines = Path(f"/proc/{service.pid}/status").read_text().splitlines()
    line = next(line for line in lines if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


@pytest.mark.timeout(280)
async def test_a_flood_of_the_largest_requests_stays_within_the_pods_memory(
    system: System,
) -> None:
    system.emulator.change(QUIET)
    chat = system.services[0]
    js = system.client.jetstream()
    content = "word " * 51_000
    count = 500  # 125 MiB; without budgets in bytes the service grows to 400 MiB, with them to 260
    chat.freeze()  # so that all of it is there at once
    for n in range(count):
        body = json.dumps({"turn_id": f"t{n}", "content": content, "speech": False}).encode()
        assert len(body) < 256 * 1024
        await js.publish("chat.request", body)
    chat.thaw()
    asked = [f"t{n}" for n in range(count)]
    await system.ears.whole(*asked, voice=False, seconds=240)
    assert chat.running
    assert highest_memory(chat) < 350 * MIB, f"{highest_memory(chat) / MIB:.0f} MiB"


async def test_turns_run_while_the_audio_stream_is_at_its_limit(system: System) -> None:
    js = system.client.jetstream()
    began = (await js.stream_info("TTS_AUDIO")).state.last_seq
    async with limited(system, "TTS_AUDIO", 2 * MIB):
        for n in range(8):
            turn = await system.answered(content=f"Tell me a tale, {n}.")
            assert turn.end is not None
            assert turn.end["type"] == "done"
            assert turn.voice_end is not None
            assert turn.voice_end["type"] == "stored"
            for _ in range(4):
                await js.publish("tts.audio.filler", bytes(200_000), headers=FILLER)
            state = (await js.stream_info("TTS_AUDIO")).state
            assert state.bytes <= 2 * MIB
        assert state.first_seq > began + 1
