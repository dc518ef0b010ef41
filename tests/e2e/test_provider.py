"""The voice is whole however the provider speaks: each way is that of a model of its own."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio

from tests.e2e.whole import SENTENCES, assert_whole
from tests.system import System

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.asyncio(loop_scope="module")

PACE = {
    "realtime_factor": 200,
    "first_audio_ms": 10,
    "delta_ms": 50,
    "models": [],
    "any_voice": True,
}


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def system(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[System]:
    async with System(tmp_path_factory.mktemp("system")) as running:
        await running.up()
        yield running


@pytest.mark.parametrize(
    "speech",
    [
        {"done": "item"},
        {"done": "commit"},
        {"done": "context"},
        {"done": "context_once"},
        {"done": "two_items"},
        {"done": "none"},
        {"binary": True},
        {"wav_header": "always", "odd_splits": True},
        {"unknown_every": 2, "session_updated": True},
        {"echo_context": False},
        {"max_contexts": 2},
        {"realtime_factor": 2.0, "char_samples": 100},
    ],
    ids=str,
)
async def test_the_voice_is_whole_however_the_provider_speaks(
    system: System, speech: dict[str, Any]
) -> None:
    system.emulator.reset()
    system.emulator.change(
        {
            "chat": {"first_token_ms": 5, "tokens_per_second": 0, "replies": [SENTENCES]},
            "speech": {**PACE, **speech},
        }
    )
    system.emulator.break_sockets()  # a new one speaks as it is told now
    # What the worker has learned of one model's ways helps no other.
    way = {"model": f"some/model-{uuid.uuid4().hex}", "voice": "af_heart"}
    turns = [await system.ask(content="Tell me.", speech=way) for _ in range(3)]
    await system.ears.whole(*turns, seconds=90)
    for turn_id in turns:
        assert_whole(system.ears.turn(turn_id), system)
