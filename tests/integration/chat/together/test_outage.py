"""A provider that is away for ten seconds, while turns run and while others begin."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from local.together.emulator import Emulator
from services.chat.answer import Dependencies, Job, Rules, answer
from services.chat.prompt import Context, Contexts
from services.chat.together.chat import TogetherChat
from shared.contract import ChatRequest, Done, FinishReason, Started
from shared.process.cancel import CancelToken
from shared.process.clock import SystemClock
from tests.fakes import MemoryConversations, MemoryPages, Published, Reported, SteadyVoice
from tests.integration.harness import soon

if TYPE_CHECKING:
    from shared.contract import Failed

pytestmark = pytest.mark.timeout(180)

SECONDS_AWAY = 10.0
PATIENT = 60.0  # a machine that has other things to do gives no turn up
TURNS = 30  # half of them under way, half of them new
REPLY = "The sea breathes twice a day, and nobody has ever seen it hurry. " * 16
RULES = Rules(
    model="openai/gpt-oss-20b",
    fallback_model=None,
    turns_per_minute=0,
    turn_timeout=150,
    tries=4,
    patience=PATIENT,
    executions=5,
    output_chars=10_000,
)
CONTEXT = Context(system="", max_context_tokens=1_000, max_messages=100, max_tokens=1_000)


class Turns:
    """Turns of one worker, each with its own conversation, as they were told."""

    def __init__(self, model: TogetherChat) -> None:
        self._model = model
        self.told: list[Published] = []
        self.tasks: list[asyncio.Task[Done | Failed | None]] = []

    def begin(self, count: int) -> None:
        for _ in range(count):
            self.told.append(Published())
            self.tasks.append(asyncio.create_task(self._answer(self.told[-1])))

    async def _answer(self, published: Published) -> Done | Failed | None:
        token = CancelToken()
        job = Job(
            conversation_id="c1",
            turn_id="t1",
            request=ChatRequest(content="What is a tide?"),
            execution="e1",
            asked_at=datetime.now(UTC),
            speech=None,
        )
        needs = Dependencies(
            conversations=MemoryConversations(),
            pages=MemoryPages(),
            model=self._model.model_for(token),
            contexts=Contexts(CONTEXT),
            publish=published,
            heard=SteadyVoice(),
            clock=SystemClock(token),
            confirm=_nobody_was_frozen,
            heard_ms=lambda: None,
            price=lambda _model, _given, _made: None,
            report=Reported(),
        )
        return await answer(job, RULES, needs)


async def _nobody_was_frozen() -> None: ...


@pytest.mark.parametrize("refuses", ["connections", "503"])
async def test_ten_seconds_away_cost_no_turn_and_few_knocks(refuses: str) -> None:
    script = {"chat": {"replies": [REPLY], "first_token_ms": 5, "tokens_per_second": 40}}
    emulator = Emulator(script)
    await emulator.start()
    model = TogetherChat(
        base_url=emulator.base_url,
        api_key="key",
        connect_timeout=5.0,
        first_token_timeout=PATIENT,
        token_timeout=PATIENT,
    )
    turns = Turns(model)
    try:
        turns.begin(TURNS // 2)
        await soon(lambda: all(len(told.read) > 5 for told in turns.told))
        heard = [told.read for told in turns.told]
        if refuses == "503":
            emulator.add_fault({"kind": "chat.status", "status": 503})
        await emulator.close()  # cuts off all that is under way
        if refuses == "503":
            await emulator.start()
        began = emulator.record.totals.chats
        turns.begin(TURNS // 2)
        since = time.monotonic()
        await asyncio.sleep(SECONDS_AWAY)
        assert not any(task.done() for task in turns.tasks)
        knocks = emulator.record.totals.chats - began
        away = time.monotonic() - since
        still = [told.read for told in turns.told[: len(heard)]]
        assert all(now.startswith(before) for now, before in zip(still, heard, strict=True))
        if refuses == "503":
            emulator.change({"faults": []})
        else:
            await emulator.start()
        ends = await asyncio.wait_for(asyncio.gather(*turns.tasks), 90)
    finally:
        for task in turns.tasks:
            task.cancel()
        await model.close()
        await emulator.close()

    for end, told in zip(ends, turns.told, strict=True):
        assert isinstance(end, Done)
        assert (end.finish_reason, end.text) == (FinishReason.STOP, REPLY)
        assert told.read == REPLY
    starts = [[e.attempt for e in t.events if isinstance(e, Started)] for t in turns.told]
    assert starts == [[1, 2]] * (TURNS // 2) + [[1]] * (TURNS // 2)
    # Each turn may find it out for itself, then they knock one after the other.
    assert knocks <= TURNS + 15 * away / SECONDS_AWAY
