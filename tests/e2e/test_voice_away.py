"""A voice when the provider or the store is away, or does not do its part."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
import uuid
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio
import urllib3

from local.voices import spoken_texts
from tests.e2e.whole import letters
from tests.system import System

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from local.service import Service
    from tests.system import Turn

pytestmark = pytest.mark.asyncio(loop_scope="module")

AWAY_SECONDS = 10.0
LINES = [
    "All is quiet tonight in the harbour.",
    "Nobody says a single word.",
    "Only the sea is heard from afar.",
    "The lamps go out one by one.",
]
TEXT = "\n".join(LINES)


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def system(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[System]:
    async with System(tmp_path_factory.mktemp("system")) as running:
        await running.up(chat=1, tts=0)
        yield running


@pytest.fixture(autouse=True)
def _usual(system: System) -> None:
    system.emulator.reset()
    system.emulator.change({"speech": {"realtime_factor": 20, "first_audio_ms": 20}})


@contextlib.asynccontextmanager
async def speaking(system: System, **settings: str) -> AsyncIterator[Service]:
    """The one speech worker, with these settings as long as it is needed."""
    await silent(system)
    worker = system.add("tts", **settings)
    try:
        yield worker
    finally:
        await silent(system)


async def silent(system: System) -> None:
    """No speech worker is there any more."""
    for worker in [service for service in system.services if service.name == "tts"]:
        await worker.kill()
        system.services.remove(worker)


async def usual_worker(system: System) -> None:
    """There is a speech worker with the usual settings: the one of the test before, if it is."""
    if not any(service.name == "tts" for service in system.services):
        await system.add("tts").ready()


async def asked(system: System, text: str = TEXT) -> str:
    """A text to be spoken, acked; its turn id."""
    turn_id = uuid.uuid4().hex
    body = json.dumps({"turn_id": turn_id, "text": text}).encode()
    await system.client.jetstream().publish(f"tts.request.{turn_id}", body)
    return turn_id


async def ended(system: System, turn_id: str, seconds: float = 60.0) -> dict[str, Any]:
    turn = system.ears.turn(turn_id)
    await system.ears.until(lambda: turn.voice_end is not None, seconds)
    assert turn.voice_end is not None
    return turn.voice_end


def said_again(turn: Turn) -> list[int]:
    """Pieces that were announced after they were done."""
    done: set[int] = set()
    again = []
    for headers, data in turn.audio:
        if headers["Parley-Type"] == "piece_done":
            done.add(json.loads(data)["index"])
        elif headers["Parley-Type"] == "piece" and json.loads(data)["index"] in done:
            again.append(json.loads(data)["index"])
    return again


@pytest.mark.parametrize("how", ["connections are refused", "503", "overloaded"])
async def test_ten_seconds_without_a_provider_cost_no_voice(system: System, how: str) -> None:
    system.emulator.change({"speech": {"realtime_factor": 3}})
    await usual_worker(system)
    turns = [await asked(system) for _ in range(10)]
    first = system.ears.turn(turns[0])
    await system.ears.until(lambda: first.first_chunk is not None)
    if how == "503":
        refused = {"kind": "socket.refuse", "status": 503}
        system.emulator.change({"faults": [refused, {"kind": "speech.abort", "after": 1}]})
    elif how == "overloaded":  # the socket lives, and every piece is refused
        fault = {"kind": "speech.failed", "code": "overloaded"}
        system.emulator.change({"faults": [fault]})
    else:
        await system.emulator.close()
    turns += [await asked(system) for _ in range(10)]
    await asyncio.sleep(AWAY_SECONDS)
    if how == "connections are refused":
        await system.emulator.start()
    else:
        system.emulator.change({"faults": []})
    for turn_id in turns:
        end = await ended(system, turn_id)
        assert end["type"] == "stored", end.get("error")
        turn = system.ears.turn(turn_id)
        assert letters("".join(spoken_texts(turn.voice()))) == letters(TEXT)
        assert said_again(turn) == []


async def test_a_piece_that_the_provider_never_voices_leaves_the_others_whole(
    system: System,
) -> None:
    fault = {"kind": "speech.no_audio", "match": "single word"}
    system.emulator.change({"faults": [fault]})
    async with speaking(system, TTS_TRIES="2") as worker:
        await worker.ready()
        turn_id = await asked(system)
        end = await ended(system, turn_id)
        assert (end["type"], end.get("finish")) == ("stored", "complete")
        voiced = [line for line in LINES if "single word" not in line]
        turn = system.ears.turn(turn_id)
        assert letters("".join(spoken_texts(turn.voice()))) == letters("".join(voiced))
        system.emulator.change({"faults": [{"kind": "speech.no_audio"}]})
        end = await ended(system, await asked(system))
        assert (end["type"], end["error"]["code"]) == ("failed", "provider_broken")


async def test_a_voice_that_takes_too_long_fails_and_a_text_that_is_too_long_says_so(
    system: System,
) -> None:
    system.emulator.change({"chat": {"replies": [TEXT], "tokens_per_second": 0}})
    async with speaking(system, TTS_TURN_TIMEOUT="1.5", TTS_MAX_CHARACTERS="36") as worker:
        await worker.ready()
        turn = await system.answered(content="How is it?")
        assert turn.voice_end is not None
        assert turn.voice_end["finish"] == "truncated", turn.voice_end
        assert letters("".join(spoken_texts(turn.voice()))) == letters(LINES[0])
        turn_id = await asked(system, TEXT)
        end = await ended(system, turn_id)
        assert (end["type"], end.get("finish")) == ("stored", "truncated"), end
        assert letters("".join(spoken_texts(system.ears.turn(turn_id).voice()))) == letters(
            LINES[0]
        )
        system.emulator.change({"speech": {"realtime_factor": 0.3}})
        began = time.monotonic()
        end = await ended(system, await asked(system, LINES[0]))
        assert (end["type"], end["error"]["code"]) == ("failed", "deadline_exceeded")
        assert time.monotonic() - began < 10


@pytest.mark.parametrize(
    ("text", "model", "expected"),
    [
        ("你好！今天天气很好。", None, ("af_heart", "zh")),
        ("Hello there, my friend.", None, ("af_heart", "en")),
        ("Hello there, my friend.", "canopylabs/orpheus-3b-0.1-ft", ("tara", "en")),
    ],
)
async def test_voice_and_language_fit_the_model_and_the_text(
    system: System, text: str, model: str | None, expected: tuple[str, str]
) -> None:
    await usual_worker(system)
    turn_id = uuid.uuid4().hex
    body = {"turn_id": turn_id, "text": text, "speech": {"model": model} if model else {}}
    await system.client.jetstream().publish(f"tts.request.{turn_id}", json.dumps(body).encode())
    assert (await ended(system, turn_id))["type"] == "stored"
    commits = [commit for commit in system.emulator.record.commits if commit.text in text]
    assert {(commit.voice, commit.language) for commit in commits} == {expected}


async def test_a_store_that_refuses_keeps_the_worker_not_ready_and_costs_the_voice_by_name(
    system: System,
) -> None:
    async with speaking(system, MINIO_SECRET_KEY="a-wrong-key", MINIO_GIVE_UP="20") as worker:
        why = ""
        for _ in range(300):
            why = await asyncio.to_thread(_readyz, worker)
            if "store" in why and "not answered yet" not in why:
                break
            await asyncio.sleep(0.1)
        assert "check MINIO_ACCESS_KEY and MINIO_SECRET_KEY" in why
        turn_id = await asked(system)
        end = await ended(system, turn_id)
        assert (end["type"], end["error"]["code"]) == ("failed", "storage_unavailable")
        await system.until_empty("TTS_REQUESTS")
        dead = [m for m in await system.stored("DEAD_LETTERS") if turn_id.encode() in m.data]
        assert len(dead) == 1
        log = worker.said()
        assert log.count("store.away") == 1


def _readyz(worker: Any) -> str:
    try:
        return urllib3.request("GET", worker.url("/readyz"), timeout=3, retries=False).data.decode()
    except Exception as exc:  # noqa: BLE001  not there yet, in whatever way
        return type(exc).__name__
