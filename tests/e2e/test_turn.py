"""One user's turns, on services that stay up from test to test."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio

from local.voices import spoken_texts
from tests.e2e.whole import FAST, SENTENCES, assert_whole, letters
from tests.system import System

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.asyncio(loop_scope="module")


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


async def test_a_question_is_answered_in_words_and_in_a_voice_that_is_kept(system: System) -> None:
    system.emulator.change({"chat": {"replies": [SENTENCES]}})
    turn = await system.answered(content="How is the weather?", metadata={"page": "7"})
    assert_whole(turn, system)
    assert turn.end is not None
    assert turn.end["text"] == SENTENCES
    assert turn.end["usage"]["completion_tokens"] > 0
    assert turn.end["metadata"] == turn.deltas[0]["metadata"] == {"page": "7"}
    kinds = [h["Parley-Type"] for h, _ in turn.audio]
    assert kinds[0] == "started"
    assert kinds[-1] == "stored"
    assert turn.first_chunk is not None
    chunk = next((h for h, _ in turn.audio if h["Parley-Type"] == "chunk"))
    assert chunk["Content-Type"] == "audio/pcm;rate=24000;channels=1;encoding=s16le"


async def test_four_conversations_of_three_turns_at_once_are_all_whole(system: System) -> None:
    turns = [
        await system.ask(conversation_id=f"c{c}", content=f"Question {number} of {c}?")
        for number in range(3)
        for c in range(4)
    ]
    await system.ears.whole(*turns, seconds=60)
    for turn_id in turns:
        assert_whole(system.ears.turn(turn_id), system)
    for c in range(4):
        own = turns[c::4]
        history = (await system.history(f"c{c}"))["messages"]
        assert [m["role"] for m in history] == ["user", "assistant"] * 3
        said = [system.ears.turn(t).end["text"] for t in own]  # type: ignore[index]  # whole
        assert [m["content"] for m in history if m["role"] == "assistant"] == said
        prompts = [
            call.messages
            for call in system.emulator.record.chats
            if call.messages[-1]["content"] == f"Question 2 of {c}?"
        ]
        assert len(prompts) == 1
        contents = [m["content"] for m in prompts[0]]
        assert said[0] in contents
        assert said[1] in contents


async def test_the_same_turn_id_is_answered_once(system: System) -> None:
    for _ in range(3):
        await system.ask(conversation_id="again", turn_id="same", content="Hello?", speech=False)
    await system.answered(conversation_id="again", turn_id="after", content="And?", speech=False)
    asked = [c for c in system.emulator.record.chats if c.messages[-1]["content"] == "Hello?"]
    assert len(asked) == 1
    ends = [d for d in system.ears.turn("same").deltas if d["type"] in {"done", "failed"}]
    assert len(ends) == 1


@pytest.mark.parametrize(
    ("reply", "chat"),
    [
        ("Sure!", {}),
        ("word " * 80, {"tokens_per_second": 0}),
        ("今天天气很好。我们去公园吧！你觉得怎么样？", {}),
        ("# Plan\n\n* **First**, `make`\n* Then [rest](https://example.org/x)\n", {}),
        (SENTENCES, {"usage": "trailing", "reasoning": "Let me think. "}),
    ],
    ids=["one word", "no punctuation", "Chinese", "markdown", "reasoning and trailing usage"],
)
async def test_every_kind_of_text_is_spoken(
    system: System, reply: str, chat: dict[str, Any]
) -> None:
    system.emulator.change({"chat": {**chat, "replies": [reply]}})
    turn = await system.answered(content="Go on.")
    assert turn.end is not None
    assert turn.end["type"] == "done"
    assert turn.end["text"] == reply
    assert turn.voice_end is not None
    assert turn.voice_end["type"] == "stored"
    said = "".join(spoken_texts(turn.voice()))
    if "#" in reply:
        assert letters(said) == letters("Plan First, make Then rest")
    else:
        assert letters(said) == letters(reply)
    assert "think" not in said


async def test_history_of_an_unknown_conversation_is_empty_and_a_bad_request_gets_a_code(
    system: System,
) -> None:
    assert await system.history("nobody") == {
        "conversation_id": "nobody",
        "messages": [],
        "turn": None,
        "before": None,
    }
    answer = await system.client.request("chat.history.get", b"{", timeout=5)
    assert json.loads(answer.data)["error"]["code"] == "invalid_request"


async def test_a_turn_under_way_is_shown_with_its_text_so_far(system: System) -> None:
    system.emulator.change({"chat": {"tokens_per_second": 30}})
    turn_id = await system.ask(conversation_id="story", content="Hello!", speech=False)
    await system.ears.until(lambda: len(system.ears.turn(turn_id).deltas) > 5)
    shown = (await system.history("story"))["turn"]
    assert shown["turn_id"] == turn_id
    live = system.ears.turn(turn_id).deltas
    upto = [d for d in live if d["seq"] <= shown["seq"] and d["type"] == "text"]
    assert shown["text"].startswith("".join(d["text"] for d in upto[:3]))
    await system.ears.whole(turn_id, voice=False)
    assert (await system.history("story"))["turn"] is None
