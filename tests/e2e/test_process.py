"""The services as processes: start, stop, start again, and what a start refuses."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from typing import TYPE_CHECKING

import pytest

from local.process import ROOT
from local.service import Service
from shared.nats.connection import settle
from tests.e2e.whole import FAST

if TYPE_CHECKING:
    from pathlib import Path

    from tests.system import System


async def test_a_second_start_on_the_same_data_goes_on_where_the_first_ended(
    system: System,
) -> None:
    system.emulator.change(FAST)
    await system.up(tts=0)
    await system.answered(conversation_id="c", content="My name is Ada.", speech=False)
    (chat,) = system.services
    chat.signal(signal.SIGTERM)
    assert await chat.ended() == 0
    await system.nats.restart()
    await system.up(tts=0)
    await system.answered(conversation_id="c", content="What is my name?", speech=False)
    prompt = [m["content"] for m in system.emulator.record.chats[-1].messages]
    assert "My name is Ada." in prompt


async def test_what_a_stopping_worker_cannot_finish_is_taken_over_at_once(
    system: System,
) -> None:
    reply = "So it is. " * 300
    system.emulator.change({"chat": {"tokens_per_second": 20, "replies": [reply]}})
    system.settings["SHUTDOWN_GRACE"] = "0.3"
    await system.up(tts=0)
    old = system.services[0]
    turn_id = await system.ask(content="Tell me.", speech=False)
    turn = system.ears.turn(turn_id)
    await system.ears.until(lambda: len(turn.deltas) > 5)
    await system.add("chat").ready()
    advisory = "$JS.EVENT.ADVISORY.CONSUMER.MSG_NAKED.CHAT_REQUESTS.chat-workers"
    handed_back = await system.client.subscribe(advisory)
    await settle(system.client)
    system.emulator.change({"chat": {"tokens_per_second": 0}})  # from the next answer on
    old.signal(signal.SIGTERM)
    assert await old.ended() == 0
    # A request that is handed back is delivered at once; one that is only left, after its lease.
    await handed_back.next_msg(timeout=10)
    await system.ears.until(lambda: turn.deltas[-1]["attempt"] == 2)
    await system.ears.whole(turn_id, voice=False)
    assert turn.end is not None
    assert turn.end["text"] == reply


@pytest.mark.parametrize(
    ("name", "setting", "value"),
    [
        ("chat", "TOGETHER_API_KEY", ""),
        ("chat", "NATS_URL", "http://somewhere"),
        ("chat", "LOG_LEVEL", "loud"),
        ("tts", "HTTP_PORT", "many"),
        ("tts", "STREAM_REPLICAS", "2"),
    ],
)
async def test_a_wrong_setting_stops_the_start_in_one_line_that_names_it(
    name: str, setting: str, value: str, tmp_path: Path
) -> None:
    """Before anything is connected to: nobody listens anywhere."""
    environ = {**os.environ, "TOGETHER_API_KEY": "a-key", "MINIO_ACCESS_KEY": "a"}
    environ |= {"MINIO_SECRET_KEY": "b", "NATS_URL": "nats://127.0.0.1:1", setting: value}
    service = Service(name, environ, log=tmp_path / "log")
    service.spawn()
    assert await service.ended() == 2
    lines = service.said().splitlines()
    await service.close()
    assert len(lines) == 1
    assert setting in lines[0]


async def test_a_stream_with_other_settings_stops_the_start_with_both_named(
    system: System,
) -> None:
    await system.up(tts=0)
    js = "$JS.API.STREAM.UPDATE.CHAT_DELTAS"
    config = (await system.client.jetstream().stream_info("CHAT_DELTAS")).config.as_dict()
    await system.client.request(js, json.dumps({**config, "max_age": 600 * 10**9}).encode())
    service = system.add("chat")
    assert await service.ended() == 2
    lines = service.log.read_text().splitlines()
    assert "stream CHAT_DELTAS" in lines[-1]
    assert "max_age is 600000000000, must be 86400000000000" in lines[-1]
    assert "python -m shared.provision --apply" in lines[-1]


# As the version before had it, which knew no limits of bytes.
BEFORE = {
    f"RETENTION_{name}_BYTES": "0"
    for name in ("REQUESTS", "DELTAS", "AUDIO", "DEAD_LETTERS", "CONVERSATIONS", "SPEECH")
}


async def test_replicas_of_two_versions_stand_side_by_side_while_they_are_rolled(
    system: System,
) -> None:
    system.emulator.change(FAST)
    old = [system.add(name, **BEFORE, RETENTION_AUDIO="43200") for name in ("chat", "tts")]
    for service in old:
        await service.ready()
    await system.ears.listen(system.client)
    js = system.client.jetstream()
    config = (await js.stream_info("DEAD_LETTERS")).config
    subjects = [name for name in config.subjects or [] if not name.endswith(".dead.*")]
    dead = {**config.as_dict(), "subjects": subjects}
    await system.client.request("$JS.API.STREAM.UPDATE.DEAD_LETTERS", json.dumps(dead).encode())
    new = [system.add(name) for name in ("chat", "tts")]
    for service in new:
        await service.ready()
        assert "max_bytes is -1, must be 4294967296" in service.log.read_text()
    await system.answered(content="Hello!")
    assert await applied(system) == 0
    again = [system.add(name, **BEFORE, RETENTION_AUDIO="43200") for name in ("chat", "tts")]
    for service in again:
        await service.ready()
    for service in old:
        service.signal(signal.SIGTERM)
        assert await service.ended() == 0
    await system.answered(content="Hello again!")
    assert all(service.running for service in new + again)


async def applied(system: System) -> int:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "shared.provision",
        "--apply",
        env={**os.environ, **system.environment()},
        cwd=ROOT,
    )
    return await process.wait()
