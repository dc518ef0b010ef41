"""The emulated provider, from the outside: one test for each statement of its documents."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import time
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from local.together.emulator import Emulator
from local.voices import computable, spoken_texts

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

KEY = "a-harmless-key"
AUTH = {"Authorization": f"Bearer {KEY}"}
FAST: dict[str, Any] = {
    "chat": {"first_token_ms": 0, "tokens_per_second": 0},
    "speech": {"first_audio_ms": 0, "realtime_factor": 0, "char_samples": 48},
}
DELTA = "conversation.item.audio_output.delta"
DONE = "conversation.item.audio_output.done"
FAILED = "conversation.item.tts.failed"
RECEIVED = "conversation.item.input_text.received"
TIMES = "conversation.item.word_timestamps"


@pytest.fixture
async def emulator() -> AsyncIterator[Emulator]:
    async with Emulator(FAST) as running:
        yield running


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    timeout = aiohttp.ClientTimeout(total=10)
    async with aiohttp.ClientSession(headers=AUTH, timeout=timeout) as session:
        yield session


async def eventually(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - what it waits for tells nobody
            await asyncio.sleep(0.005)


# ---------------------------------------------------------------- chat


def asked(text: str, **more: Any) -> dict[str, Any]:
    return {
        "model": "openai/gpt-oss-20b",
        "stream": True,
        "messages": [{"role": "user", "content": text}],
        **more,
    }


async def lines(http: aiohttp.ClientSession, emulator: Emulator, **body: Any) -> list[str]:
    """The data of each event of a streamed completion."""
    url = f"{emulator.base_url}/chat/completions"
    async with http.post(url, json=asked("Hello", **body)) as answer:
        assert answer.status == 200
        assert answer.content_type == "text/event-stream"
        text = await answer.text()
    assert text.endswith("\n\n")
    return [event.removeprefix("data: ") for event in text.split("\n\n") if event]


def said(chunks: list[dict[str, Any]]) -> str:
    return "".join(c["choices"][0]["delta"]["content"] for c in chunks if c["choices"])


async def test_a_completion_is_streamed_in_the_recorded_form(
    emulator: Emulator, http: aiohttp.ClientSession
) -> None:
    emulator.change({"chat": {"replies": ["Good morning, Vietnam!"]}})
    *events, last = await lines(http, emulator)
    assert last == "[DONE]"
    chunks = [json.loads(event) for event in events]
    assert said(chunks) == "Good morning, Vietnam!"
    for chunk in chunks:
        assert chunk["object"] == "chat.completion.chunk"
        assert chunk["model"] == "openai/gpt-oss-20b"
        assert chunk["choices"][0]["delta"]["role"] == "assistant"
        assert chunk["choices"][0]["text"] == chunk["choices"][0]["delta"]["content"]
    assert any(chunk["choices"][0]["delta"]["token_id"] is None for chunk in chunks)
    finish = chunks[-1]
    assert finish["choices"][0]["finish_reason"] == "stop"
    assert finish["choices"][0]["seed"] > 2**53
    tokens = len(chunks) - 1
    assert finish["usage"]["completion_tokens"] == tokens
    assert finish["usage"]["total_tokens"] == finish["usage"]["prompt_tokens"] + tokens
    assert all(chunk["usage"] is None for chunk in chunks[:-1])


async def test_usage_may_trail_with_empty_choices(
    emulator: Emulator, http: aiohttp.ClientSession
) -> None:
    emulator.change({"chat": {"usage": "trailing"}})
    *_, finish, usage, _done = await lines(http, emulator)
    assert json.loads(finish)["usage"] is None
    assert json.loads(usage)["choices"] == []
    assert json.loads(usage)["usage"]["completion_tokens"] > 0


async def test_usage_may_have_to_be_asked_for(
    emulator: Emulator, http: aiohttp.ClientSession
) -> None:
    emulator.change({"chat": {"usage": "asked"}})
    assert not any(json.loads(line)["usage"] for line in (await lines(http, emulator))[:-1])
    *_, usage, _done = await lines(http, emulator, stream_options={"include_usage": True})
    assert json.loads(usage)["usage"]["completion_tokens"] > 0


async def test_more_than_the_model_can_read_is_refused(
    emulator: Emulator, http: aiohttp.ClientSession
) -> None:
    emulator.change({"chat": {"context_tokens": 100}})
    url = f"{emulator.base_url}/chat/completions"
    for body, status in (
        (asked("Hello"), 200),
        (asked("Hello", max_tokens=100), 400),
        (asked("Hello " * 100), 400),
    ):
        async with http.post(url, json=body) as answer:
            assert answer.status == status
            if status == 400:
                assert (await answer.json())["error"]["code"] == "context_length_exceeded"


@pytest.mark.parametrize("field", ["reasoning", "reasoning_content"])
async def test_reasoning_comes_before_the_content(
    emulator: Emulator, http: aiohttp.ClientSession, field: str
) -> None:
    emulator.change(
        {"chat": {"reasoning": "Let me think.", "reasoning_field": field, "replies": ["Yes."]}}
    )
    chunks = [json.loads(event) for event in (await lines(http, emulator))[:-1]]
    thought = [c["choices"][0]["delta"].get(field) for c in chunks]
    assert "".join(part for part in thought if part) == "Let me think."
    assert said(chunks) == "Yes."
    assert thought[0]
    assert not thought[-1]


async def test_reasoning_can_be_switched_off(
    emulator: Emulator, http: aiohttp.ClientSession
) -> None:
    emulator.change({"chat": {"reasoning": "Let me think.", "replies": ["Yes."]}})
    events = await lines(http, emulator, reasoning={"enabled": False})
    assert "reasoning" not in "".join(events)


async def test_max_tokens_end_with_length_and_stop_words_end_with_stop(
    emulator: Emulator, http: aiohttp.ClientSession
) -> None:
    emulator.change({"chat": {"replies": ["one two three four"]}})
    short = [json.loads(event) for event in (await lines(http, emulator, max_tokens=2))[:-1]]
    assert (said(short), short[-1]["choices"][0]["finish_reason"]) == ("one two", "length")
    cut = [json.loads(event) for event in (await lines(http, emulator, stop=[" three"]))[:-1]]
    assert (said(cut), cut[-1]["choices"][0]["finish_reason"]) == ("one two", "stop")


async def test_a_completion_that_is_not_streamed(
    emulator: Emulator, http: aiohttp.ClientSession
) -> None:
    emulator.change({"chat": {"answers": {"Hello": "Good day."}}})
    url = f"{emulator.base_url}/chat/completions"
    async with http.post(url, json=asked("Hello you", stream=False)) as answer:
        body = await answer.json()
    assert body["object"] == "chat.completion"
    assert body["choices"][0]["message"]["content"] == "Good day."


async def test_the_pace_is_kept(emulator: Emulator, http: aiohttp.ClientSession) -> None:
    emulator.change(
        {"chat": {"first_token_ms": 50, "tokens_per_second": 200, "replies": ["a b c d e f g h"]}}
    )
    await lines(http, emulator)
    call = emulator.record.chats[0]
    assert call.first_token is not None
    assert call.ended is not None
    assert call.first_token - call.at >= 0.05
    assert call.ended - call.at >= 0.05 + 7 / 200


async def test_without_a_key_nothing_is_answered(
    emulator: Emulator, http: aiohttp.ClientSession
) -> None:
    url = f"{emulator.base_url}/chat/completions"
    async with http.post(url, json=asked("Hello"), headers={"Authorization": ""}) as answer:
        assert answer.status == 401
        assert (await answer.json())["error"]["code"] == "missing_api_key"


@pytest.mark.parametrize("body", [b"no json", b"[]", b"{}", b'{"model": "x", "messages": []}'])
async def test_a_broken_request_is_refused(
    emulator: Emulator, http: aiohttp.ClientSession, body: bytes
) -> None:
    async with http.post(f"{emulator.base_url}/chat/completions", data=body) as answer:
        assert answer.status == 400
        assert (await answer.json())["error"]["type"] == "invalid_request_error"


async def test_a_model_that_is_not_on_offer_is_refused_unless_the_script_takes_any(
    emulator: Emulator, http: aiohttp.ClientSession
) -> None:
    url, body = f"{emulator.base_url}/chat/completions", {**asked("Hello"), "model": "no/such"}
    async with http.post(url, json=body) as answer:
        assert answer.status == 404
        assert (await answer.json())["error"]["code"] == "model_not_available"
    emulator.change({"chat": {"models": []}})
    async with http.post(url, json=body) as answer:
        assert answer.status == 200


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 408, 409, 422, 429, 500, 503, 504])
async def test_every_status_of_the_provider(
    emulator: Emulator, http: aiohttp.ClientSession, status: int
) -> None:
    emulator.add_fault(
        {
            "kind": "chat.status",
            "status": status,
            "times": 1,
            "retry_after": 2,
            "ratelimit_reset": 1.5,
        }
    )
    url = f"{emulator.base_url}/chat/completions"
    async with http.post(url, json=asked("Hello")) as answer:
        assert answer.status == status
        assert set((await answer.json())["error"]) == {"message", "type", "param", "code"}
        assert answer.headers["Retry-After"] == "2"
        assert answer.headers["x-ratelimit-reset"] == "1.5"
    assert (await lines(http, emulator))[-1] == "[DONE]"  # once was enough


async def read_until_it_ends(
    http: aiohttp.ClientSession, emulator: Emulator, patience: float
) -> tuple[str, str]:
    """What a client gets, and how it ended."""
    got = b""
    try:
        async with asyncio.timeout(patience):
            url = f"{emulator.base_url}/chat/completions"
            async with http.post(url, json=asked("Hello")) as answer:
                async for part in answer.content.iter_any():
                    got += part
    except TimeoutError:
        return got.decode(), "stalled"
    except aiohttp.ClientError:
        return got.decode(), "broken"
    return got.decode(), "ended"


@pytest.mark.parametrize(
    ("kind", "ends", "tokens"),
    [
        ("chat.silent", "stalled", 0),
        ("chat.stall", "stalled", 2),
        ("chat.cut", "broken", 2),
        ("chat.unfinished", "ended", 2),
        ("chat.error", "ended", 2),
        ("chat.empty", "ended", 0),
        ("chat.garbage", "ended", 4),
    ],
)
async def test_streams_that_go_wrong(
    emulator: Emulator, http: aiohttp.ClientSession, kind: str, ends: str, tokens: int
) -> None:
    emulator.change(
        {"chat": {"replies": ["one two three four"]}, "faults": [{"kind": kind, "after": 2}]}
    )
    got, how = await read_until_it_ends(http, emulator, 0.2 if ends == "stalled" else 5)
    assert how == ends
    assert got.count('"seed":null') == tokens
    assert ('data: {"error":' in got) == (kind == "chat.error")
    assert ("[DONE]" in got) == (kind in {"chat.empty", "chat.garbage"})
    call = emulator.record.chats[0]
    await eventually(lambda: call.ended)
    expected = {
        "stalled": "closed_by_client",
        "broken": "cut",
        "ended": {"chat.unfinished": "unfinished", "chat.error": "error"}.get(kind, "finished"),
    }
    assert call.how == expected[ends]
    assert call.faults == [kind]


async def test_the_header_comes_before_the_first_token(
    emulator: Emulator, http: aiohttp.ClientSession
) -> None:
    emulator.add_fault({"kind": "chat.stall"})
    async with (
        asyncio.timeout(30),
        http.post(f"{emulator.base_url}/chat/completions", json=asked("Hello")) as answer,
    ):
        assert answer.status == 200


async def test_a_fault_can_be_for_one_text_only(
    emulator: Emulator, http: aiohttp.ClientSession
) -> None:
    emulator.add_fault({"kind": "chat.status", "match": "MARK"})
    assert (await lines(http, emulator))[-1] == "[DONE]"
    url = f"{emulator.base_url}/chat/completions"
    async with http.post(url, json=asked("with MARK in it")) as answer:
        assert answer.status == 503


async def test_the_assistant_knows_what_was_said_before(
    emulator: Emulator, http: aiohttp.ClientSession
) -> None:
    history = [
        {"role": "user", "content": "Hello, my name is Ada."},
        {"role": "assistant", "content": "Nice to meet you, Ada."},
        {"role": "user", "content": "What is my name?"},
    ]
    chunks = await lines(http, emulator, messages=history)
    text = said([json.loads(chunk) for chunk in chunks[:-1]])
    assert "Ada" in text
    assert "message number 2" in text


# ---------------------------------------------------------------- speech


class Speaker:
    """A raw client: sends dicts, keeps events."""

    def __init__(self, ws: aiohttp.ClientWebSocketResponse) -> None:
        self.ws = ws
        self.events: list[dict[str, Any]] = []
        self.closed: int | None = None

    async def say(self, kind: str, context: str | None = "c1", **more: Any) -> None:
        named = {} if context is None else {"context_id": context}
        await self.ws.send_json({"type": kind, **named, **more})

    async def piece(self, text: str, context: str | None = "c1") -> None:
        await self.say("input_text_buffer.append", context, text=text)
        await self.say("input_text_buffer.commit", context)

    async def next(self) -> dict[str, Any]:
        async with asyncio.timeout(30):
            message = await self.ws.receive()
        event: dict[str, Any]
        if message.type is aiohttp.WSMsgType.TEXT:
            event = json.loads(message.data)
        elif message.type is aiohttp.WSMsgType.BINARY:
            event = {"type": "binary", "delta": base64.b64encode(message.data).decode()}
        else:
            self.closed = self.ws.close_code
            event = {"type": "closed"}
        self.events.append(event)
        return event

    async def until(self, kind: str, count: int = 1) -> dict[str, Any]:
        """Reads until this kind of event came so often; the last of them."""
        while True:
            event = await self.next()
            if event["type"] == kind:
                count -= 1
            if not count:
                return event
            assert event["type"] != "closed"

    async def quiet(self, seconds: float = 0.2) -> None:
        """Reads whatever still comes until nothing comes for this long."""
        with contextlib.suppress(TimeoutError):
            while True:
                async with asyncio.timeout(seconds):
                    message = await self.ws.receive_json()
                self.events.append(message)

    def of(self, kind: str, context: str | None = None) -> list[dict[str, Any]]:
        return [
            e
            for e in self.events
            if e["type"] == kind and (context is None or e.get("context_id") == context)
        ]

    def pcm(self, context: str | None = None) -> bytes:
        events = [*self.of(DELTA, context), *self.of("binary")]
        return b"".join(base64.b64decode(event["delta"]) for event in events)


@contextlib.asynccontextmanager
async def speaking(
    http: aiohttp.ClientSession, emulator: Emulator, **query: str
) -> AsyncIterator[Speaker]:
    asked = {
        "model": "hexgrad/Kokoro-82M",
        "voice": "af_heart",
        "response_format": "pcm",
        "segment": "never",
        **query,
    }
    url = emulator.tts_url
    async with http.ws_connect(url, params={k: v for k, v in asked.items() if v}) as ws:
        yield Speaker(ws)


def sound(text: str, speed: float = 1.0, voice: str = "af_heart") -> bytes:
    return computable(text, voice, speed, char_samples=48)


async def test_a_piece_is_spoken(emulator: Emulator, http: aiohttp.ClientSession) -> None:
    async with speaking(http, emulator) as speaker:
        created = await speaker.next()
        assert created["type"] == "session.created"
        assert created["event_id"]
        assert created["session"] | {"id": ""} == {
            "id": "",
            "object": "realtime.tts.session",
            "modalities": ["text", "audio"],
            "model": "hexgrad/Kokoro-82M",
            "voice": "af_heart",
        }
        await speaker.piece("Hello there.")
        done = await speaker.until(DONE)
    assert done == {"type": DONE, "item_id": "tts_1", "context_id": "c1"}
    assert speaker.of(RECEIVED)[0]["text"] == "Hello there."
    assert speaker.pcm() == sound("Hello there.")
    commit = emulator.record.commits[0]
    assert (commit.text, commit.voice, commit.how) == ("Hello there.", "af_heart", "complete")
    assert commit.samples == 12 * 48
    assert emulator.record.totals.characters_submitted == 12


async def test_without_context_id_it_is_the_default_context(
    emulator: Emulator, http: aiohttp.ClientSession
) -> None:
    async with speaking(http, emulator) as speaker:
        await speaker.piece("Hello.", None)
        done = await speaker.until(DONE)
    assert "context_id" not in done
    assert emulator.record.contexts[0].context == "default"


async def test_a_context_is_committed_more_than_once_and_keeps_the_order(
    emulator: Emulator, http: aiohttp.ClientSession
) -> None:
    async with speaking(http, emulator) as speaker:
        for text in ("One. ", "Two. ", "Three."):
            await speaker.piece(text)
        await speaker.until(DONE, 3)
    assert spoken_texts(speaker.pcm()) == ["One. ", "Two. ", "Three."]
    assert [event["item_id"] for event in speaker.of(DONE)] == ["tts_1", "tts_2", "tts_3"]


async def test_clear_drops_what_is_not_committed(
    emulator: Emulator, http: aiohttp.ClientSession
) -> None:
    async with speaking(http, emulator) as speaker:
        await speaker.say("input_text_buffer.append", text="Never said.")
        await speaker.say("input_text_buffer.clear")
        await speaker.piece("Said.")
        await speaker.until(DONE)
    assert speaker.pcm() == sound("Said.")


async def test_an_empty_commit_does_nothing_by_default(
    emulator: Emulator, http: aiohttp.ClientSession
) -> None:
    async with speaking(http, emulator) as speaker:
        await speaker.say("input_text_buffer.commit")
        await speaker.piece("Said.")
        assert (await speaker.until(DONE))["item_id"] == "tts_1"
        emulator.change({"speech": {"empty_commit": "done"}})
        await speaker.say("input_text_buffer.commit")
        assert (await speaker.until(DONE))["item_id"] == "tts_2"
        emulator.change({"speech": {"empty_commit": "error"}})
        await speaker.say("input_text_buffer.commit")
        await speaker.until("error")


async def test_contexts_speak_in_parallel_or_one_after_the_other(
    emulator: Emulator, http: aiohttp.ClientSession
) -> None:
    emulator.change({"speech": {"delta_ms": 2, "realtime_factor": 5}})
    for parallel in (True, False):
        emulator.change({"speech": {"parallel": parallel}})
        async with speaking(http, emulator) as speaker:
            await speaker.piece("The first of two.", "a")
            await speaker.piece("And the second.", "b")
            await speaker.until(DONE, 2)
        assert speaker.pcm("a") == sound("The first of two.")
        assert speaker.pcm("b") == sound("And the second.")
        turns = [e["context_id"] for e in speaker.of(DELTA)]
        assert (turns == sorted(turns)) is not parallel


async def test_the_voice_is_as_fast_as_it_is_told_even_behind_other_audio(
    emulator: Emulator, http: aiohttp.ClientSession
) -> None:
    emulator.change({"speech": {"delta_ms": 10, "realtime_factor": 2, "first_audio_ms": 40}})
    for parallel in (True, False):
        emulator.change({"speech": {"parallel": parallel}})
        async with speaking(http, emulator) as speaker:
            await speaker.piece("x" * 100, "a")  # 0.2 s of audio in 0.1 s
            await speaker.piece("y" * 100, "b")
            await speaker.until(DONE, 2)
        first, second = list(emulator.record.commits)[-2:]
        for commit in (first, second):
            assert commit.first_audio is not None
            assert commit.ended is not None
            assert commit.first_audio - commit.at >= 0.039
            assert commit.ended - commit.at >= 0.039 + 0.09
        assert first.ended is not None
        assert second.first_audio is not None
        assert (second.first_audio > first.ended) is not parallel


async def test_a_cancelled_context_is_silent_and_free(
    emulator: Emulator, http: aiohttp.ClientSession
) -> None:
    emulator.change({"speech": {"delta_ms": 2, "realtime_factor": 1, "max_contexts": 1}})
    async with speaking(http, emulator) as speaker:
        await speaker.piece("This is a long text that nobody hears to its end. " * 20)
        await speaker.until(DELTA)
        await speaker.say("context.cancel")
        await speaker.until("context.cancelled")
        heard = len(speaker.of(DELTA))
        emulator.change({"speech": {"realtime_factor": 0}})
        await speaker.piece("Next.", "c2")
        await speaker.until(DONE)
    assert len(speaker.of(DELTA, "c1")) == heard
    assert emulator.record.commits[0].how == "cancelled"
    assert 0 < emulator.record.commits[0].samples < 1000 * 48
    assert emulator.record.cancels[0]["known"]


async def test_a_connection_holds_so_many_contexts(
    emulator: Emulator, http: aiohttp.ClientSession
) -> None:
    async with speaking(http, emulator) as speaker:
        for number in range(101):
            await speaker.piece(".", f"c{number}")
        refused = await speaker.until("error")
        assert refused["context_id"] == "c100"
        await speaker.say("context.cancel", "c0")
        await speaker.until("context.cancelled")
        await speaker.piece(".", "c100")
        await speaker.until(DONE)
    assert emulator.record.sockets[0].peak_contexts == 100
    assert emulator.record.totals.refused_contexts == 2  # its append and its commit


async def test_settings_change_for_one_context_or_all(
    emulator: Emulator, http: aiohttp.ClientSession
) -> None:
    async with speaking(http, emulator) as speaker:
        await speaker.say("tts_session.updated", "fast", session={"speed": 2.0})
        await speaker.piece("ab", "fast")
        await speaker.until(DONE)
        await speaker.piece("ab", "slow")
        await speaker.until(DONE)
        await speaker.say("tts_session.updated", None, session={"voice": "bm_george"})
        await speaker.piece("ab", "slow")
        await speaker.until(DONE)
    assert speaker.pcm("fast") == sound("ab", 2.0)
    assert speaker.pcm("slow") == sound("ab") + sound("ab", voice="bm_george")
    assert not speaker.of("session.updated")


async def test_the_pronunciation_dictionary_is_what_is_spoken(
    emulator: Emulator, http: aiohttp.ClientSession
) -> None:
    async with speaking(http, emulator) as speaker:
        extra = {"pronunciation_dict": ["omg/oh my god"]}
        await speaker.say("tts_session.updated", session={"extra_params": extra})
        await speaker.piece("OMG, an omgx.")
        await speaker.until(DONE)
    assert spoken_texts(speaker.pcm()) == ["oh my god, an omgx."]
    assert emulator.record.commits[0].text == "OMG, an omgx."


async def test_sentences_are_cut_by_the_server_unless_told_otherwise(
    emulator: Emulator, http: aiohttp.ClientSession
) -> None:
    async with speaking(http, emulator, segment="", max_partial_length="10") as speaker:
        await speaker.say("input_text_buffer.append", text="One. Two! Thr")
        await speaker.until(DONE, 2)
        await speaker.say("input_text_buffer.append", text="ee and some more")
        await speaker.until(DONE)
        await speaker.say("input_text_buffer.commit")
        await speaker.until(DONE)
    assert spoken_texts(speaker.pcm()) == ["One. ", "Two! ", "Three and ", "some more"]
    because = [commit.because for commit in emulator.record.commits]
    assert because == ["sentence", "sentence", "partial", "commit"]


async def test_immediate_speaks_text_as_it_comes(
    emulator: Emulator, http: aiohttp.ClientSession
) -> None:
    async with speaking(http, emulator, segment="immediate") as speaker:
        await speaker.say("input_text_buffer.append", text="half a ")
        await speaker.until(DONE)
    assert spoken_texts(speaker.pcm()) == ["half a "]


@pytest.mark.parametrize("asked", ["", "wav"])
async def test_without_pcm_each_item_has_a_wav_header(
    emulator: Emulator, http: aiohttp.ClientSession, asked: str
) -> None:
    async with speaking(http, emulator, response_format=asked) as speaker:
        await speaker.piece("ab")
        await speaker.until(DONE)
        await speaker.piece("cd")
        await speaker.until(DONE)
    first, second = (base64.b64decode(event["delta"]) for event in speaker.of(DELTA))
    assert first.startswith(b"RIFF")
    assert (first[44:], second[44:]) == (sound("ab"), sound("cd"))


async def test_headers_with_pcm_and_odd_splits_by_setting(
    emulator: Emulator, http: aiohttp.ClientSession
) -> None:
    emulator.change({"speech": {"wav_header": "always", "odd_splits": True, "delta_ms": 0.25}})
    async with speaking(http, emulator) as speaker:
        await speaker.piece("abc")
        await speaker.until(DONE)
    assert len(base64.b64decode(speaker.of(DELTA)[0]["delta"])) % 2 == 1
    assert speaker.pcm()[44:] == sound("abc")
    assert emulator.record.commits[0].samples == 3 * 48


async def test_audio_may_come_in_binary_frames(
    emulator: Emulator, http: aiohttp.ClientSession
) -> None:
    emulator.change({"speech": {"binary": True}})
    async with speaking(http, emulator) as speaker:
        await speaker.piece("abc")
        await speaker.until(DONE)
    assert not speaker.of(DELTA)
    assert speaker.pcm() == sound("abc")


async def test_only_some_models_honour_the_sample_rate(
    emulator: Emulator, http: aiohttp.ClientSession
) -> None:
    for model, factor in (("hexgrad/Kokoro-82M", 1.0), ("cartesia/sonic-2", 2 / 3)):
        async with speaking(http, emulator, model=model, sample_rate="16000") as speaker:
            await speaker.piece("abc")
            await speaker.until(DONE)
        assert len(speaker.pcm()) == len(sound("abc")) * factor


@pytest.mark.parametrize(
    ("mode", "dones"),
    [("commit", 2), ("item", 4), ("two_items", 4), ("context", 1), ("context_once", 1)],
)
async def test_what_gets_a_done(
    emulator: Emulator, http: aiohttp.ClientSession, mode: str, dones: int
) -> None:
    emulator.change({"speech": {"done": mode, "first_audio_ms": 50}})
    async with speaking(http, emulator) as speaker:
        await speaker.piece("Hello! How are you? ")
        await speaker.piece("Fine. And you?")
        await speaker.until(DONE, dones)
        await speaker.piece("Again. ")
        if mode != "context_once":
            await speaker.until(DONE)
        await speaker.quiet()
    last = {"two_items": 2, "context_once": 0}.get(mode, 1)
    assert len(speaker.of(DONE)) == dones + last
    assert "".join(spoken_texts(speaker.pcm())) == "Hello! How are you? Fine. And you?Again. "


async def test_sometimes_a_done_never_comes(
    emulator: Emulator, http: aiohttp.ClientSession
) -> None:
    emulator.change({"speech": {"done": "none"}})
    async with speaking(http, emulator) as speaker:
        await speaker.piece("Hello.")
        await speaker.quiet()
    assert speaker.pcm() == sound("Hello.")
    assert not speaker.of(DONE)


async def test_word_timestamps_are_relative_to_the_item_or_the_context(
    emulator: Emulator, http: aiohttp.ClientSession
) -> None:
    for relative, second in (("item", 0.0), ("context", 0.01)):
        emulator.change({"speech": {"timestamps": relative}})
        async with speaking(http, emulator, alignment="word") as speaker:
            await speaker.piece("ab cd")
            await speaker.piece("ef")
            await speaker.until(DONE, 2)
        first, last = speaker.of(TIMES)
        assert first["words"] == ["ab", "cd"]
        assert first["start_seconds"] == [0.0, 0.006]
        assert first["end_seconds"] == [0.004, 0.01]
        assert last["start_seconds"] == [second]


async def test_a_handshake_is_refused_or_the_socket_fails_later(
    emulator: Emulator, http: aiohttp.ClientSession
) -> None:
    emulator.change({"speech": {"models": ["hexgrad/Kokoro-82M"], "keys": [KEY]}})
    with pytest.raises(aiohttp.WSServerHandshakeError, match="400"):
        async with speaking(http, emulator, model="unknown/model"):
            pass
    with pytest.raises(aiohttp.WSServerHandshakeError, match="401"):
        await http.ws_connect(emulator.tts_url, headers={"Authorization": "Bearer other"})
    emulator.change({"speech": {"refuse_late": True}})
    async with speaking(http, emulator, model="unknown/model") as speaker:
        failed = await speaker.until(FAILED)
        assert failed["error"]["code"] == "model_not_available"
        assert (await speaker.next())["type"] == "closed"


@pytest.mark.parametrize("voice", ["nobody", "af_heart+nobody", "tara(2)+af_heart", "af_heart("])
async def test_a_voice_that_its_model_does_not_have_is_refused(
    emulator: Emulator, http: aiohttp.ClientSession, voice: str
) -> None:
    async with speaking(http, emulator) as speaker:
        await speaker.say("tts_session.updated", "a", session={"voice": voice})
        assert (await speaker.until(FAILED))["error"]["param"] == "voice"
        await speaker.say("tts_session.updated", "b", session={"voice": "af_bella(2)+af_sky"})
        await speaker.piece("ab", "b")
        await speaker.until(DONE)
    emulator.change({"speech": {"any_voice": True}})
    async with speaking(http, emulator) as speaker:
        await speaker.say("tts_session.updated", "a", session={"voice": voice})
        await speaker.piece("ab", "a")
        await speaker.until(DONE)


async def test_a_key_in_the_url_works_and_is_recorded_without_it(
    emulator: Emulator, http: aiohttp.ClientSession
) -> None:
    url = f"{emulator.tts_url}?api_key={KEY}"
    async with http.ws_connect(url, headers={"Authorization": ""}) as ws:
        assert (await ws.receive_json())["type"] == "session.created"
    assert emulator.record.sockets[0].key_in_url
    assert emulator.record.totals.keys_in_urls == 1
    assert KEY not in json.dumps(emulator.record.as_json())


async def test_pings_are_answered_and_an_idle_socket_is_closed(
    emulator: Emulator, http: aiohttp.ClientSession
) -> None:
    emulator.change({"speech": {"idle_seconds": 0.2, "idle_close_code": 1001}})
    async with speaking(http, emulator) as speaker:
        await speaker.next()
        await speaker.ws.ping()
        await eventually(lambda: emulator.record.totals.pings)
        assert (await speaker.next())["type"] == "closed"
        assert speaker.closed == 1001
    await eventually(lambda: emulator.record.sockets[0].ended)
    assert emulator.record.sockets[0].how == "idle"


async def test_unknown_and_broken_messages_get_an_error(
    emulator: Emulator, http: aiohttp.ClientSession
) -> None:
    async with speaking(http, emulator) as speaker:
        await speaker.say("something.else")
        assert (await speaker.until("error"))["error"]["code"] == "invalid_request_error"
        await speaker.ws.send_str("no json")
        await speaker.until("error")
        await speaker.say("tts_session.updated", session={"speed": "fast"})
        assert (await speaker.until(FAILED))["error"]["param"] == "speed"
    assert emulator.record.totals.unknown_messages == 2


# ---------------------------------------------------------------- speech that goes wrong


async def test_a_refused_handshake_and_then_a_good_one(
    emulator: Emulator, http: aiohttp.ClientSession
) -> None:
    emulator.add_fault({"kind": "socket.refuse", "status": 429, "times": 2, "retry_after": 1})
    for _ in range(2):
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            async with speaking(http, emulator):
                pass
        assert refused.value.status == 429
        assert refused.value.headers is not None
        assert refused.value.headers["Retry-After"] == "1"
    async with speaking(http, emulator) as speaker:
        assert (await speaker.next())["type"] == "session.created"


async def test_a_handshake_or_a_session_that_never_comes(
    emulator: Emulator, http: aiohttp.ClientSession
) -> None:
    emulator.change({"faults": [{"kind": "socket.hang", "times": 1}]})
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2), speaking(http, emulator):
            pass
    emulator.change({"faults": [{"kind": "socket.no_session"}]})
    async with speaking(http, emulator) as speaker:
        await speaker.quiet()
        assert not speaker.events


async def test_a_socket_that_fails_after_its_101(
    emulator: Emulator, http: aiohttp.ClientSession
) -> None:
    emulator.add_fault({"kind": "socket.failed", "code": "invalid_api_key"})
    async with speaking(http, emulator) as speaker:
        assert (await speaker.until(FAILED))["error"]["code"] == "invalid_api_key"


@pytest.mark.parametrize(
    ("kind", "ends", "code"),
    [
        ("speech.abort", "aborted", 1006),
        ("speech.close", "closed", 1011),
        ("speech.failed", "failed", 1011),
    ],
)
async def test_a_socket_that_ends_in_mid_piece(
    emulator: Emulator, http: aiohttp.ClientSession, kind: str, ends: str, code: int
) -> None:
    emulator.change(
        {
            "speech": {"delta_ms": 2},
            "faults": [{"kind": kind, "after": 3, "match": "MARK", "close": True}],
        }
    )
    async with speaking(http, emulator) as speaker:
        await speaker.piece("Fine.")
        await speaker.until(DONE)
        await speaker.piece("With a MARK.", "c2")
        while speaker.closed is None:
            await speaker.next()
    assert len(speaker.of(DELTA, "c2")) == 3
    assert not speaker.of(DONE, "c2")
    assert speaker.closed == code
    await eventually(lambda: emulator.record.sockets[0].ended)
    assert emulator.record.sockets[0].how == ends
    commit = emulator.record.commits[1]
    assert commit.how == ("failed" if ends == "failed" else "lost")
    assert commit.samples == 3 * 48


async def test_a_socket_that_dies_while_it_looks_open(
    emulator: Emulator, http: aiohttp.ClientSession
) -> None:
    emulator.change({"speech": {"delta_ms": 2}, "faults": [{"kind": "speech.dead", "after": 1}]})
    async with speaking(http, emulator) as speaker:
        await speaker.piece("Hello?")
        await speaker.until(DELTA)
        await speaker.quiet()
        pings = emulator.record.totals.pings
        await speaker.ws.ping()
        await speaker.piece("Are you there?")
        await speaker.quiet()
        assert not speaker.ws.closed
    assert len(speaker.of(DELTA)) == 1
    assert emulator.record.totals.pings == pings
    assert len(emulator.record.commits) == 1


async def test_a_context_that_stalls_while_others_go_on(
    emulator: Emulator, http: aiohttp.ClientSession
) -> None:
    emulator.add_fault({"kind": "speech.stall", "match": "MARK"})
    async with speaking(http, emulator) as speaker:
        await speaker.piece("MARK", "stalled")
        await speaker.piece("Fine.", "fine")
        await speaker.until(DONE)
        await speaker.quiet()
    assert speaker.pcm() == sound("Fine.")


@pytest.mark.parametrize(
    ("kind", "deltas", "dones"),
    [
        ("speech.no_audio", 0, 1),
        ("speech.no_done", 1, 0),
        ("speech.two_dones", 1, 2),
        ("speech.unknown", 1, 1),
        ("speech.error", 1, 1),
        ("speech.slow", 1, 1),
    ],
)
async def test_items_that_go_wrong(
    emulator: Emulator, http: aiohttp.ClientSession, kind: str, deltas: int, dones: int
) -> None:
    emulator.add_fault({"kind": kind, "seconds": 0.02})
    async with speaking(http, emulator) as speaker:
        await speaker.piece("Hello.")
        await speaker.quiet()
    assert len(speaker.of(DELTA)) == deltas
    assert len(speaker.of(DONE)) == dones
    strange = {e["type"] for e in speaker.events} - {"session.created", RECEIVED, DELTA, DONE}
    assert bool(strange) == (kind in {"speech.unknown", "speech.error"})


async def test_late_audio_of_a_cancelled_context(
    emulator: Emulator, http: aiohttp.ClientSession
) -> None:
    emulator.change(
        {
            "speech": {"delta_ms": 2, "realtime_factor": 1},
            "faults": [{"kind": "speech.late_audio", "count": 3}],
        }
    )
    async with speaking(http, emulator) as speaker:
        await speaker.piece("A long text, to be interrupted. " * 10)
        await speaker.until(DELTA)
        await speaker.say("context.cancel")
        await speaker.until("context.cancelled")
        before = len(speaker.of(DELTA))
        await speaker.until(DONE)
    assert len(speaker.of(DELTA)) == before + 3


async def test_a_frame_of_several_megabytes(
    emulator: Emulator, http: aiohttp.ClientSession
) -> None:
    emulator.add_fault({"kind": "speech.big_frame", "bytes": 3_000_000})
    async with speaking(http, emulator) as speaker:
        await speaker.piece("Hello.")
        await speaker.until(DONE)
    assert len(speaker.of(DELTA)[0]["padding"]) == 3_000_000
    assert speaker.pcm() == sound("Hello.")


async def test_garbage_between_deltas(emulator: Emulator, http: aiohttp.ClientSession) -> None:
    emulator.add_fault({"kind": "speech.garbage"})
    async with speaking(http, emulator) as speaker:
        await speaker.piece("Hello.")
        with pytest.raises(json.JSONDecodeError):
            await speaker.until(DONE)
        await speaker.until(DONE)
    assert speaker.pcm() == sound("Hello.")


async def test_a_refused_context(emulator: Emulator, http: aiohttp.ClientSession) -> None:
    emulator.add_fault({"kind": "speech.refuse_context", "times": 1})
    async with speaking(http, emulator) as speaker:
        await speaker.say("input_text_buffer.append", "a", text="Hello.")
        assert (await speaker.until("error"))["context_id"] == "a"
        await speaker.piece("Hello.", "b")
        await speaker.until(DONE)


# ---------------------------------------------------------------- control


async def test_the_script_is_changed_over_http(
    emulator: Emulator, http: aiohttp.ClientSession
) -> None:
    control = emulator.control_url
    async with http.put(f"{control}/script", json={"speech": {"done": "item"}}) as answer:
        assert (await answer.json())["speech"]["done"] == "item"
    assert emulator.script.chat.tokens_per_second == 0  # what was not named stays
    async with http.put(f"{control}/script", json={"speech": {"dnoe": "item"}}) as answer:
        assert answer.status == 400
        assert "dnoe" in (await answer.json())["error"]
    async with http.post(f"{control}/faults", json={"kind": "chat.empty"}) as answer:
        number = (await answer.json())["id"]
    await lines(http, emulator)
    async with http.get(f"{control}/faults") as answer:
        assert [(f["id"], f["hits"]) for f in await answer.json()] == [(number, 1)]
    async with http.delete(f"{control}/faults/{number}") as answer:
        assert answer.status == 200
    async with http.get(f"{control}/record") as answer:
        record = await answer.json()
    assert record["chats"][0]["messages"] == [{"role": "user", "content": "Hello"}]
    assert record["chats"][0]["has_key"]
    async with http.post(f"{control}/reset") as answer:
        assert (await answer.json())["speech"]["done"] == "commit"
    assert not emulator.record.chats


# ---------------------------------------------------------------- for a bench


async def test_the_record_says_when_each_chunk_went_out(http: aiohttp.ClientSession) -> None:
    script = {"chat": {**FAST["chat"], "wire_times": True, "replies": ["One two."]}}
    async with Emulator(script) as emulator:
        began = time.monotonic()
        async with http.post(f"{emulator.base_url}/chat/completions", json=asked("x")) as answer:
            await answer.read()
        wire = emulator.record.chats[0].wire
    assert [size for _, size in wire] == [3, 4, 1]
    assert began < wire[0][0] <= wire[-1][0] < time.monotonic()


async def test_only_a_new_connection_takes_its_time(http: aiohttp.ClientSession) -> None:
    async with Emulator({**FAST, "connect_ms": 200.0}) as emulator:
        took = []
        for _ in range(2):
            began = time.monotonic()
            async with http.get(f"{emulator.base_url}/models") as answer:
                await answer.read()
            took.append(time.monotonic() - began)
    assert took[0] >= 0.2
    assert took[1] < took[0]
