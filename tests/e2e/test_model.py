"""What the model is asked and what comes of it, on the whole system."""

from __future__ import annotations

import asyncio
import uuid
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio

from tests.system import System

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.asyncio(loop_scope="module")

FAST: dict[str, Any] = {"first_token_ms": 5, "tokens_per_second": 0, "replies": ["Yes."]}
KILOBYTE = "word " * 205
SECONDS_WAITED = 1.5


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[System]:
    settings = {"CHAT_SPEECH": "false", "CHAT_CONTEXT_TOKENS": "200000"}
    settings |= {"CHAT_CONTEXT_MESSAGES": "10000"}
    async with System(tmp_path_factory.mktemp("system"), settings=settings) as system:
        await system.up(tts=0)
        yield system


@pytest.fixture
def system(running: System) -> System:
    running.emulator.reset()
    running.emulator.change({"chat": FAST})
    return running


async def end_of(system: System, /, **request: Any) -> dict[str, Any]:
    request.setdefault("speech", False)
    turn = await system.answered(**request)
    assert turn.end is not None
    return turn.end


def talk(count: int) -> list[dict[str, str]]:
    """So many messages of a kilobyte, the user's last."""
    roles = ("user", "assistant")
    return [{"role": roles[n % 2], "content": f"{n} {KILOBYTE}"} for n in range(count)]


async def grown(system: System, messages: int) -> str:
    """A conversation of at least so many messages, most of them on pages."""
    conversation = uuid.uuid4().hex[:12]
    for _ in range(-(-messages // 102)):
        await end_of(system, conversation_id=conversation, messages=talk(101))
    return conversation


async def test_messages_on_pages_reach_the_model(system: System) -> None:
    conversation = await grown(system, 400)
    end = await end_of(system, conversation_id=conversation, content="And now?")
    asked = system.emulator.record.chats[-1].messages

    assert end["finish_reason"] == "stop"
    assert len(asked) > 400
    assert asked[1]["content"].startswith("0 word")
    assert asked[-1]["content"] == "And now?"


def asked_of(system: System) -> list[tuple[str, str]]:
    """What the model was asked last."""
    return [(m["role"], m["content"]) for m in system.emulator.record.chats[-1].messages]


async def test_a_request_without_history_is_answered_as_it_is(system: System) -> None:
    conversation = uuid.uuid4().hex[:12]
    await end_of(system, conversation_id=conversation, content="Hello!", system="Be brief.")
    await end_of(
        system,
        conversation_id=conversation,
        history="none",
        messages=[{"role": "user", "content": "And now?"}],
    )

    assert asked_of(system) == [("user", "And now?")]


async def test_an_empty_system_prompt_takes_away_what_was_there(system: System) -> None:
    conversation = uuid.uuid4().hex[:12]
    await end_of(system, conversation_id=conversation, content="Hello!", system="Be brief.")
    await end_of(system, conversation_id=conversation, content="And now?", system="")
    past = [("user", "Hello!"), ("assistant", "Yes.")]

    assert asked_of(system) == [*past, ("user", "And now?")]


async def test_a_greeting_that_opened_the_conversation_stays_in_front_of_it(
    system: System,
) -> None:
    conversation = uuid.uuid4().hex[:12]
    greeting = {"role": "assistant", "content": "Welcome!"}
    hello = {"role": "user", "content": "Hello!"}
    for said in ([greeting, hello], [{"role": "user", "content": "And now?"}]):
        await end_of(system, conversation_id=conversation, messages=said, system="")
    past = [("assistant", "Welcome!"), ("user", "Hello!"), ("assistant", "Yes.")]

    assert asked_of(system) == [*past, ("user", "And now?")]


async def test_a_conversation_too_long_for_its_model_goes_on(system: System) -> None:
    conversation = await grown(system, 200)
    system.emulator.change({"chat": {"context_tokens": 12_000}})
    for _ in range(2):
        end = await end_of(system, conversation_id=conversation, content="And now?")

        assert (end["text"], end["attempt"]) == ("Yes.", 1)
        asked = system.emulator.record.chats[-1].messages
        assert len(asked) > 3
        assert asked[-1]["content"] == "And now?"


async def test_what_a_model_thinks_in_front_of_its_answer_is_no_part_of_it(system: System) -> None:
    system.emulator.change({"chat": {"replies": ["<think>They greet me.</think>\n\nHello."]}})
    conversation = uuid.uuid4().hex[:12]
    turn = await system.answered(conversation_id=conversation, content="Hi.", speech=False)
    kinds = {kind: "".join(d["text"] for d in turn.deltas if d["type"] == kind)
             for kind in ("text", "reasoning")}  # fmt: skip

    assert kinds == {"text": "Hello.", "reasoning": "They greet me."}
    assert turn.end is not None
    assert turn.end["text"] == "Hello."
    history = (await system.history(conversation))["messages"]
    assert [m["content"] for m in history] == ["Hi.", "Hello."]


async def test_usage_that_has_to_be_asked_for_is_told(system: System) -> None:
    system.emulator.change({"chat": {"usage": "asked"}})

    assert (await end_of(system, content="Hi."))["usage"]["completion_tokens"] > 0


async def test_the_first_word_is_measured_from_when_the_stream_took_the_request(
    system: System,
) -> None:
    for service in system.services:
        await service.kill()
    system.services.clear()
    turn_id = await system.ask(content="Is anybody there?", speech=False)
    await asyncio.sleep(SECONDS_WAITED)
    await system.add("chat").ready()
    await system.ears.whole(turn_id, voice=False)
    end = system.ears.turn(turn_id).end

    assert end is not None
    assert SECONDS_WAITED * 1000 <= end["first_token_ms"] <= end["duration_ms"]
