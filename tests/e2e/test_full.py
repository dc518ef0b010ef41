"""Streams and buckets that are full, or gone, in the middle of turns: nobody waits for ever."""

from __future__ import annotations

import json
import uuid
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from tests.e2e.whole import FAST, api, limited
from tests.system import System

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.system import Turn

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(150)]

SLOW = {
    "chat": {"first_token_ms": 0, "tokens_per_second": 20, "replies": ["So it is. " * 30]},
    "speech": {"realtime_factor": 0},
}


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[System]:
    async with System(tmp_path_factory.mktemp("system")) as system:
        await system.up()
        yield system


@pytest.fixture
def system(running: System) -> System:
    running.emulator.reset()
    running.emulator.change(SLOW)
    return running


def ends(turn: Turn) -> tuple[str, str]:
    """How text and voice ended: `done`, `stored`, or the code of the failure."""
    assert turn.end is not None
    assert turn.voice_end is not None
    text, voice = (
        end["error"]["code"] if end["type"] == "failed" else end["type"]
        for end in (turn.end, turn.voice_end)
    )
    return text, voice


async def test_where_conversations_find_no_room_turns_fail_by_name(system: System) -> None:
    conversation = uuid.uuid4().hex
    running = await system.ask(conversation_id=conversation, content="Tell me.")
    await system.ears.until(lambda: len(system.ears.turn(running).deltas) > 5)
    async with limited(system, "KV_conversations"):
        new = await system.ask(content="x" * 5_000)
        await system.ears.whole(running, new, seconds=60)
        assert ends(system.ears.turn(running)) == ("storage_unavailable", "storage_unavailable")
        assert ends(system.ears.turn(new)) == ("storage_unavailable", "storage_unavailable")
        await system.until_empty("CHAT_REQUESTS", "TTS_REQUESTS")
        history = await system.history(conversation)
        assert (history["turn"], history["messages"]) == (None, [])

    system.emulator.change(FAST)
    again = await system.answered(conversation_id=conversation, content="Once more.", seconds=60)
    assert ends(again) == ("done", "stored")


async def test_where_records_of_voices_find_no_room_voices_fail_by_name(system: System) -> None:
    running = await system.ask(content="Tell me.")
    await system.ears.until(lambda: len(system.ears.turn(running).audio) > 5)
    async with limited(system, "KV_speech"):
        new = await system.ask(content="And me.")
        await system.ears.whole(running, new, seconds=60)
        assert ends(system.ears.turn(running)) == ("done", "storage_unavailable")
        assert ends(system.ears.turn(new)) == ("done", "storage_unavailable")
        await system.until_empty("TTS_REQUESTS")


async def test_where_the_queues_are_full_turns_run_and_what_is_new_is_refused(
    system: System,
) -> None:
    async with limited(system, "TTS_REQUESTS", 1):
        running = await system.ask(content="Tell me.")
        await system.ears.until(lambda: len(system.ears.turn(running).deltas) > 5)
        async with limited(system, "CHAT_REQUESTS", 1):
            ask = b'{"content": "And me."}'
            answer = await system.client.request("chat.ask.other", ask, timeout=30)
            assert json.loads(answer.data)["error"]["code"] == "storage_unavailable"
            await system.ears.whole(running, seconds=60)
        assert ends(system.ears.turn(running)) == ("done", "busy")
        await system.until_empty("CHAT_REQUESTS")


@pytest.mark.parametrize("bucket", ["conversations", "speech"])
async def test_a_turn_whose_bucket_is_deleted_goes_on_in_a_higher_attempt(
    system: System, bucket: str
) -> None:
    turn_id = await system.ask(content="Tell me.")
    turn = system.ears.turn(turn_id)
    await system.ears.until(lambda: len(turn.audio) > 5 and len(turn.deltas) > 5)
    await api(system, f"STREAM.DELETE.KV_{bucket}")
    await system.ears.whole(turn_id, seconds=90)
    assert ends(turn) == ("done", "stored")
    text = [(event["attempt"], event["seq"]) for event in turn.deltas]
    assert text == sorted(set(text))
    voice = [int(headers["Parley-Attempt"]) for headers, _ in turn.audio]
    assert voice == sorted(voice)
    assert sum(event["type"] in {"done", "failed"} for event in turn.deltas) == 1
    kinds = [headers["Parley-Type"] for headers, _ in turn.audio]
    assert sum(kind in {"stored", "failed"} for kind in kinds) == 1
    assert (text[-1][0] if bucket == "conversations" else voice[-1]) > 1
