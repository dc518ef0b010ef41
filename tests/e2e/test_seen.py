"""What an operator sees of turns: figures that are right, lines that say which turn is meant."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import uuid
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio
from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.whole import FAST, fetch
from tests.system import API_KEY, System

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from local.service import Service

pytestmark = pytest.mark.timeout(120)

OPERATIONS = Path(__file__).parents[2] / "docs/operations.md"
ROW = re.compile(r"^\| `(parley_\w+)` \| ([a-z, ]+) \| .+ \|$", re.MULTILINE)
# What a label may be named: none of them is an id.
LABELS = (
    *("service", "subject", "outcome", "code", "reason", "kind", "event"),
    *("stream", "consumer", "version", "python"),
)
TRACE = "0af7651916cd43dd8448eb211c80319c"
SLOW = {"chat": {"tokens_per_second": 20, "replies": ["One. " * 1_000]}}


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[System]:
    settings = {"CHAT_TRIES": "2", "TTS_TRIES": "2"}
    async with System(tmp_path_factory.mktemp("system"), settings=settings) as system:
        await system.up()
        yield system


@pytest.fixture
def system(running: System) -> System:
    running.emulator.reset()
    running.emulator.change(FAST)
    return running


# ---------------------------------------------------------------- figures


def documented(service: str) -> set[str]:
    """Of docs/operations.md, as the exposition names them."""
    found = ROW.findall(OPERATIONS.read_text())
    assert len(found) == len({name for name, _ in found}), "a metric is named twice"
    return {name for name, services in found if service in services.split(", ")}


async def families(service: Service) -> dict[str, Any]:
    text = (await asyncio.to_thread(fetch, service.url("/metrics"))).decode()
    found = {}
    for each in text_string_to_metric_families(text):
        if each.name.startswith("parley_"):
            name = each.name + ("_total" if each.type == "counter" else "")
            found[name] = each
    return found


async def figures(system: System) -> Counter[str]:
    """Samples of both services by name and labels, those at 0 left out."""
    found: Counter[str] = Counter()
    for service in system.services:
        for family in (await families(service)).values():
            for sample in family.samples:
                labels = ",".join(sample.labels[k] for k in LABELS if k in sample.labels)
                if not sample.name.endswith(("_bucket", "_sum")) and sample.value:
                    found[f"{sample.name} {labels}".strip()] = sample.value
    return found


async def until_grown(system: System, before: Counter[str], wanted: Mapping[str, float]) -> None:
    """The figures have grown by no more and no less than `wanted`, of the metrics it names."""
    named = {each.partition(" ")[0] for each in wanted}
    until = asyncio.get_running_loop().time() + 30
    while True:
        now = await figures(system)
        grown = {
            name: now[name] - before[name]
            for name in now
            if name.partition(" ")[0] in named and now[name] != before[name]
        }
        if grown == wanted:
            return
        assert asyncio.get_running_loop().time() < until, grown
        await asyncio.sleep(0.1)


@pytest.mark.asyncio(loop_scope="module")
async def test_each_service_exports_what_the_documentation_names(system: System) -> None:
    for service in system.services:
        until = asyncio.get_running_loop().time() + 30
        # What the server tells is there as soon as it was read.
        while set(await families(service)) != documented(service.name):
            assert asyncio.get_running_loop().time() < until, set(
                await families(service)
            ) ^ documented(service.name)
            await asyncio.sleep(0.1)


def test_the_documentation_speaks_of_no_other_metric() -> None:
    named = set(re.findall(r"`(parley_\w+?)(?:\{[^`]*)?`", OPERATIONS.read_text()))

    assert named == documented("chat") | documented("tts") | documented("access")


async def stop(system: System, turn_id: str) -> None:
    body = {"conversation_id": turn_id, "turn_id": turn_id}
    await system.client.publish("chat.cancel", json.dumps(body).encode())


async def cancelled(system: System) -> str:
    """A turn that was stopped while it was said."""
    system.emulator.change(SLOW)
    turn_id = uuid.uuid4().hex
    await system.ask(content="Count.", conversation_id=turn_id, turn_id=turn_id)
    await system.ears.until(lambda: system.ears.turn(turn_id).first_chunk is not None)
    await stop(system, turn_id)
    await system.ears.whole(turn_id)
    system.emulator.reset()
    system.emulator.change(FAST)
    return turn_id


@pytest.mark.asyncio(loop_scope="module")
async def test_what_becomes_of_turns_is_counted(system: System) -> None:
    await system.answered(content="Hello!")
    before = await figures(system)
    turns = [
        (await system.answered(content="How is the weather?")).deltas[0]["turn_id"],
        await cancelled(system),
    ]
    for status in (401, 503):  # the first is final, the second is tried again
        system.emulator.change({"faults": [{"kind": "chat.status", "status": status, "times": 1}]})
        turns.append(await system.ask(content="Hello?"))
        await system.ears.whole(turns[-1])
    system.emulator.change({"faults": [{"kind": "speech.failed", "times": 1}]})
    turns.append(await system.ask(content="Say something."))
    await system.ears.whole(turns[-1])
    await system.client.jetstream().publish("chat.request", b'{"content": 5}')
    assert system.emulator.record.totals.requests_without_key == 0

    await until_grown(
        system,
        before,
        {
            "parley_turns_total chat,stop,": 3,
            "parley_turns_total chat,cancelled,": 1,
            "parley_turns_total chat,failed,provider_auth": 1,
            "parley_turns_total tts,complete,": 3,
            "parley_turns_total tts,cancelled,": 1,
            "parley_turns_total tts,failed,provider_auth": 1,
            "parley_provider_retries_total chat,provider_overloaded": 1,
            "parley_provider_retries_total tts,provider_broken": 1,
            "parley_attempts_total chat": 5,
            "parley_attempts_total tts": 6,
            "parley_dead_letters_total chat,invalid_request": 1,
            "parley_refused_total chat.request,invalid_request": 1,
            "parley_queue_wait_seconds_count chat": 5,
            "parley_queue_wait_seconds_count tts": 5,
            "parley_turn_seconds_count chat": 5,
            "parley_turn_seconds_count tts": 5,
            "parley_first_token_seconds_count": 4,
            "parley_first_sound_seconds_count": 4,
            "parley_upload_seconds_count": 4,
        },
    )
    now = await figures(system)
    for name in (
        *("parley_tokens_total prompt", "parley_tokens_total completion"),
        *("parley_characters_total", "parley_audio_seconds_total"),
        *("parley_cost_usd_total chat", "parley_cost_usd_total tts"),
        "parley_piece_gap_seconds_count",
    ):
        assert now[name] > before[name], name
    assert now["parley_nats_connected"] == 1
    assert now["parley_speech_sockets_limit"] == 4
    assert now["parley_speech_sockets"] >= 1
    for service in system.services:
        for family in (await families(service)).values():
            for sample in family.samples:
                assert set(sample.labels) <= {*LABELS, "le"}, sample
                assert not set(sample.labels.values()) & set(turns), sample


# ---------------------------------------------------------------- lines


def lines(system: System) -> list[dict[str, Any]]:
    return [json.loads(line) for s in system.services for line in s.said().splitlines()]


async def until_told(system: System, turn_ids: set[str]) -> list[dict[str, Any]]:
    """The lines about these turns, when all of them are told of."""
    until = asyncio.get_running_loop().time() + 30
    while True:
        found = [line for line in lines(system) if line.get("turn_id") in turn_ids]
        if {line["turn_id"] for line in found} == turn_ids:
            return found
        told = {line["turn_id"] for line in found}
        assert asyncio.get_running_loop().time() < until, turn_ids - told
        await asyncio.sleep(0.1)


@pytest.mark.asyncio(loop_scope="module")
async def test_each_line_about_a_turn_says_which_and_none_what_was_said(system: System) -> None:
    asked, said = f"question{uuid.uuid4().hex}", f"reply{uuid.uuid4().hex}"
    system.emulator.change({"chat": {"replies": [f"You said {asked}, and I say {said}. Yes."]}})
    message = f"{asked} {said} Bearer {API_KEY}"
    faults: list[dict[str, Any]] = [
        {"kind": "chat.status", "status": 401},
        {"kind": "chat.status", "status": 400},
        {"kind": "chat.garbage", "after": 1},
        {"kind": "speech.failed", "after": 1},
    ]
    js, headers = system.client.jetstream(), {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}
    turns = []
    for number, fault in enumerate([None, *faults]):
        told = [] if fault is None else [{"message": message, **fault}]
        system.emulator.change({"faults": told})
        turns.append(f"line{number}-{uuid.uuid4().hex[:8]}")
        body = {"turn_id": turns[-1], "conversation_id": f"c{number}", "content": f"Say {asked}."}
        await js.publish("chat.request", json.dumps(body).encode(), headers=headers)
        await system.ears.whole(turns[-1])
    system.emulator.change({"faults": []})
    # What is not understood; a document, and a record, that nobody can read.
    bad = {"turn_id": "bad", "conversation_id": "cbad", "content": asked, "messages": said}
    await js.publish("chat.request", json.dumps(bad).encode(), headers=headers)
    spoiled = {"turn_id": "spoiled", "content": f"Say {asked}."}
    await js.publish("$KV.conversations.cspoiled", f"no document {said}".encode())
    await js.publish("chat.request.cspoiled", json.dumps(spoiled).encode(), headers=headers)
    mute = {"turn_id": "mute", "text": f"Say {asked}."}
    await js.publish("$KV.speech.cmute.mute", f"no record {said}".encode())
    await js.publish("tts.request.cmute", json.dumps(mute).encode(), headers=headers)
    found = await until_told(system, {*turns, "bad", "spoiled", "mute"})

    events = {line["event"] for line in found}
    assert {"chat.turn_ended", "tts.turn_ended", "dead_letter.kept"} <= events
    for line in found:
        assert {"conversation_id", "turn_id", "attempt", "trace_id"} <= line.keys(), line
        assert line["trace_id"] == TRACE, line
    for line in lines(system):
        if "conversation_id" in line:
            assert {"turn_id", "attempt"} <= line.keys(), line
    written = "".join(service.said() for service in system.services)
    assert [word for word in (asked, said, API_KEY) if word in written] == []


# ---------------------------------------------------------------- the end


@pytest.mark.asyncio(loop_scope="module")
async def test_a_process_that_finishes_its_work_says_so(system: System) -> None:
    system.emulator.change(SLOW)
    chat, turn_id = system.services[0], uuid.uuid4().hex
    await system.ask(content="Count.", conversation_id=turn_id, turn_id=turn_id, speech=False)
    await system.ears.until(lambda: system.ears.turn(turn_id).first_text is not None)
    assert (await figures(system))["parley_draining"] == 0
    chat.signal(signal.SIGTERM)
    until = asyncio.get_running_loop().time() + 30
    while (await figures(system))["parley_draining"] == 0:
        assert asyncio.get_running_loop().time() < until
    await stop(system, turn_id)
    await system.ears.whole(turn_id, voice=False)
    assert await chat.ended() == 0
