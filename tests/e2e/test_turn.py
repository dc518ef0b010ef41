"""Both services as processes on real parts: question in, words and voice out."""

from __future__ import annotations

import asyncio
import io
import json
import signal
import urllib.request
import wave
from typing import TYPE_CHECKING, Any

import pytest

from local.voices import spoken_texts

if TYPE_CHECKING:
    from tests.system import System, Turn

SENTENCES = (
    "Well, the weather is fine today, and it will stay like that. Dr. Smith paid 3.14 dollars "
    "at 5 p.m. for it! Is there anything else? No."
)
FAST = {
    "chat": {"first_token_ms": 20, "tokens_per_second": 200},
    "speech": {"realtime_factor": 100, "first_audio_ms": 20},
}


def letters(text: str) -> str:
    """What is left when spacing and marks do not count."""
    return "".join(c for c in text.lower() if c.isalnum())


def fetch(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return bytes(answer.read())


def assert_whole(turn: Turn, system: System) -> None:
    """Everything that a user may rely on for one finished turn."""
    assert turn.end is not None
    assert turn.end["type"] == "done", turn.end
    last = max(d["attempt"] for d in turn.deltas)
    deltas = [d for d in turn.deltas if d["attempt"] == last]
    assert [d["seq"] for d in deltas] == list(range(len(deltas)))
    assert deltas[0]["type"] == "started"
    assert "".join(d["text"] for d in deltas if d["type"] == "text") == turn.end["text"]

    stored = turn.voice_end
    assert stored is not None
    assert stored["type"] == "stored", stored
    voice = turn.voice()
    said = spoken_texts(voice)
    pieces = [json.loads(d) for h, d in turn.audio if h["Parley-Type"] == "piece"]
    assert said == [p["text"] for p in pieces if p["attempt"] == stored["attempt"]] or len(
        {p["attempt"] for p in pieces}
    ) > 1
    assert letters("".join(said)) == letters(turn.end["text"])

    body = fetch(stored["url"])
    with wave.open(io.BytesIO(body)) as wav:
        assert (wav.getframerate(), wav.getnchannels(), wav.getsampwidth()) == (24000, 1, 2)
        assert wav.readframes(wav.getnframes()) == voice
    assert len(body) == stored["bytes"]
    committed = [c.text for c in system.emulator.record.commits]
    assert all(committed.count(text) >= 1 for text in said)


async def test_a_question_is_answered_in_words_and_in_a_voice_that_is_kept(system: System) -> None:
    system.emulator.change({**FAST, "chat": {**FAST["chat"], "replies": [SENTENCES]}})
    await system.up()
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
    system.emulator.change(FAST)
    await system.up()
    turns = []
    for number in range(3):
        for c in range(4):
            turns.append(
                await system.ask(conversation_id=f"c{c}", content=f"Question {number} of {c}?")
            )
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
    system.emulator.change(FAST)
    await system.up()
    for _ in range(3):
        await system.ask(conversation_id="c", turn_id="same", content="Hello?", speech=False)
    await system.answered(conversation_id="c", turn_id="after", content="And?", speech=False)
    asked = [c for c in system.emulator.record.chats if c.messages[-1]["content"] == "Hello?"]
    assert len(asked) == 1
    ends = [d for d in system.ears.turn("same").deltas if d["type"] in {"done", "failed"}]
    assert len(ends) == 1


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
    system.emulator.change(
        {
            "chat": {"first_token_ms": 5, "tokens_per_second": 0, "replies": [SENTENCES]},
            "speech": {"realtime_factor": 200, "first_audio_ms": 10, "delta_ms": 50, **speech},
        }
    )
    await system.up()
    turns = [await system.ask(conversation_id=f"c{n}", content="Tell me.") for n in range(3)]
    await system.ears.whole(*turns, seconds=90)
    for turn_id in turns:
        assert_whole(system.ears.turn(turn_id), system)


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
    system.emulator.change({**FAST, "chat": {**FAST["chat"], **chat, "replies": [reply]}})
    await system.up()
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


async def test_a_second_start_on_the_same_data_goes_on_where_the_first_ended(
    system: System,
) -> None:
    system.emulator.change(FAST)
    await system.up()
    await system.answered(conversation_id="c", content="My name is Ada.", speech=False)
    for service in system.services:
        service.signal(signal.SIGTERM)
    assert [await service.ended() for service in system.services] == [0, 0]
    await system.nats.restart()
    await system.up()
    await system.answered(conversation_id="c", content="What is my name?", speech=False)
    prompt = [m["content"] for m in system.emulator.record.chats[-1].messages]
    assert "My name is Ada." in prompt


async def test_the_key_is_in_no_log_and_no_url(system: System) -> None:
    system.emulator.change(FAST)
    system.settings["LOG_LEVEL"] = "debug"
    await system.up()
    await system.answered(content="Hello!")
    assert system.emulator.record.totals.keys_in_urls == 0
    assert system.emulator.record.totals.requests_without_key == 0
    for service in system.services:
        assert "key-that-must-not-leak" not in service.log.read_text()
        assert system.s3.secret_key not in service.log.read_text()
        assert "key-that-must-not-leak" not in fetch(service.url("/metrics")).decode()


async def test_probes_metrics_and_the_document_are_there(system: System) -> None:
    await system.up()
    for service in system.services:
        assert fetch(service.url("/livez")) == b"ok\n"
        assert fetch(service.url("/readyz")) == b"ok\n"
        assert b"parley_turns" in fetch(service.url("/metrics"))
        document = json.loads(fetch(service.url("/asyncapi")))
        assert "chat.request" in {c["address"] for c in document["channels"].values()}


@pytest.mark.parametrize("name", ["chat", "tts"])
@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("TOGETHER_API_KEY", ""),
        ("NATS_URL", "http://somewhere"),
        ("HTTP_PORT", "many"),
        ("STREAM_REPLICAS", "2"),
        ("LOG_LEVEL", "loud"),
    ],
)
async def test_a_wrong_setting_stops_the_start_in_one_line_that_names_it(
    name: str, setting: str, value: str, system: System
) -> None:
    service = system.add(name, **{setting: value})
    assert await service.ended() == 2
    lines = service.log.read_text().splitlines()
    assert len(lines) == 1
    assert setting in lines[0]


async def test_a_stream_with_other_settings_stops_the_start_with_both_named(
    system: System,
) -> None:
    await system.up(tts=0)
    service = system.add("chat", RETENTION_DELTAS="7200")
    assert await service.ended() == 2
    assert "max_age is 86400000000000, must be 7200000000000" in service.log.read_text()


async def test_history_of_an_unknown_conversation_is_empty_and_a_bad_request_gets_a_code(
    system: System,
) -> None:
    await system.up(tts=0)
    assert await system.history("nobody") == {
        "conversation_id": "nobody",
        "messages": [],
        "turn": None,
    }
    answer = await system.client.request("chat.history.get", b"{", timeout=5)
    assert json.loads(answer.data)["error"]["code"] == "invalid_request"


async def test_a_turn_under_way_is_shown_with_its_text_so_far(system: System) -> None:
    system.emulator.change({"chat": {"first_token_ms": 5, "tokens_per_second": 20}})
    await system.up(tts=0)
    turn_id = await system.ask(conversation_id="c", content="A long story.", speech=False)
    await system.ears.until(lambda: len(system.ears.turn(turn_id).deltas) > 5)
    shown = (await system.history("c"))["turn"]
    assert shown["turn_id"] == turn_id
    live = system.ears.turn(turn_id).deltas
    upto = [d for d in live if d["seq"] <= shown["seq"] and d["type"] == "text"]
    assert shown["text"].startswith("".join(d["text"] for d in upto[:3]))
    await system.ears.whole(turn_id, voice=False)
    assert (await system.history("c"))["turn"] is None


async def test_two_thousand_hostile_messages_are_answered_or_buried_and_nothing_dies(
    system: System,
) -> None:
    system.emulator.change(FAST)
    await system.up()
    await send_hostile(system, 2000)
    turn = await system.answered(content="Still there?", seconds=60)
    assert_whole(turn, system)
    assert all(service.running for service in system.services)
    info = await system.client.jetstream().stream_info("CHAT_REQUESTS")
    assert info.state.messages == 0


async def send_hostile(system: System, count: int) -> None:
    bodies = [
        b"{",
        b"\xff\xfe\x00",
        b"",
        b'{"content": 5}',
        b'{"content": "x", "conversation_id": "a.b"}',
        b'{"content": "\\ud800"}',
        b'{"a":' * 5000,
        b"[" * 100_000,
        b'{"content": "' + b"x" * 600_000 + b'"}',
        b'{"content": "x", "temperature": 1e999}',
        b'{"messages": [{"role": "robot", "content": "x"}]}',
        b'{"conversation_id": "known", "turn_id": "*", "content": "x"}',
        b'{"conversation_id": "known", "speech": true, "content": "x"}',
        b"null",
    ]
    subjects = [
        "chat.request.known",
        "tts.request.known",
        "chat.cancel",
        "chat.history.get",
        "chat.history.delete",
        "chat.request.a$b",
        "tts.request.a$b",
    ]
    js = system.client.jetstream()
    before = (await js.stream_info("DEAD_LETTERS")).state.messages
    for number in range(count):
        body = bodies[number % len(bodies)]
        subject = subjects[(number // len(bodies)) % len(subjects)]
        headers = {"Nats-Msg-Id": f"hostile-{number}", "X-Number": str(number)}
        await system.client.publish(subject, body, headers=headers)
        if number % 50 == 0:
            await system.client.flush()
    await system.client.flush()
    async with asyncio.timeout(60):
        while (await js.stream_info("CHAT_REQUESTS")).state.messages:
            await asyncio.sleep(0.1)
    assert (await js.stream_info("DEAD_LETTERS")).state.messages > before + count // 4
