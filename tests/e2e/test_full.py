"""Streams and buckets that are full, or gone, in the middle of turns: nobody waits for ever."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.whole import FAST

if TYPE_CHECKING:
    from tests.system import System, Turn

pytestmark = pytest.mark.timeout(150)

SLOW = {
    "chat": {"first_token_ms": 0, "tokens_per_second": 20, "replies": ["So it is. " * 30]},
    "speech": {"realtime_factor": 0},
}


async def api(system: System, subject: str, body: object = None) -> dict[str, Any]:
    data = b"" if body is None else json.dumps(body).encode()
    answer = json.loads((await system.client.request(f"$JS.API.{subject}", data, timeout=10)).data)
    assert "error" not in answer, answer
    return dict(answer)


async def limit(system: System, stream: str, max_bytes: int | None = None) -> None:
    """The stream has room for so many bytes; for what it holds, and no more, without."""
    found = await api(system, f"STREAM.INFO.{stream}")
    room = found["state"]["bytes"] if max_bytes is None else max_bytes
    await api(system, f"STREAM.UPDATE.{stream}", {**found["config"], "max_bytes": room})


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
    system.emulator.change(SLOW)
    await system.up()
    running = await system.ask(conversation_id="c", content="Tell me.")
    await system.ears.until(lambda: len(system.ears.turn(running).deltas) > 5)
    await limit(system, "KV_conversations")
    new = await system.ask(conversation_id="other", content="x" * 5_000)
    await system.ears.whole(running, new, seconds=60)
    assert ends(system.ears.turn(running)) == ("storage_unavailable", "storage_unavailable")
    assert ends(system.ears.turn(new)) == ("storage_unavailable", "storage_unavailable")
    await system.until_empty("CHAT_REQUESTS", "TTS_REQUESTS")
    history = await system.history("c")
    assert (history["turn"], history["messages"]) == (None, [])

    await limit(system, "KV_conversations", 64 * 1024 * 1024)
    system.emulator.change(FAST)
    again = await system.answered(conversation_id="c", content="Once more.", seconds=60)
    assert ends(again) == ("done", "stored")


async def test_where_records_of_voices_find_no_room_voices_fail_by_name(system: System) -> None:
    system.emulator.change(SLOW)
    await system.up()
    running = await system.ask(content="Tell me.")
    await system.ears.until(lambda: len(system.ears.turn(running).audio) > 5)
    await limit(system, "KV_speech")
    new = await system.ask(content="And me.")
    await system.ears.whole(running, new, seconds=60)
    assert ends(system.ears.turn(running)) == ("done", "storage_unavailable")
    assert ends(system.ears.turn(new)) == ("done", "storage_unavailable")
    await system.until_empty("TTS_REQUESTS")


async def test_where_the_queues_are_full_turns_run_and_what_is_new_is_refused(
    system: System,
) -> None:
    system.emulator.change(SLOW)
    await system.up()
    await limit(system, "TTS_REQUESTS", 1)
    running = await system.ask(content="Tell me.")
    await system.ears.until(lambda: len(system.ears.turn(running).deltas) > 5)
    await limit(system, "CHAT_REQUESTS", 1)
    answer = await system.client.request("chat.ask.other", b'{"content": "And me."}', timeout=30)
    assert json.loads(answer.data)["error"]["code"] == "storage_unavailable"
    await system.ears.whole(running, seconds=60)
    assert ends(system.ears.turn(running)) == ("done", "busy")
    await system.until_empty("CHAT_REQUESTS")


@pytest.mark.parametrize("bucket", ["conversations", "speech"])
async def test_a_turn_whose_bucket_is_deleted_goes_on_in_a_higher_attempt(
    system: System, bucket: str
) -> None:
    system.emulator.change(SLOW)
    await system.up()
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
