"""Both adapters against the real provider: what the services ask of it, and what it answers."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from typing import TYPE_CHECKING, Any

import pytest

from services.chat.ports import Finished, Said
from services.chat.prompt import Prompt
from services.chat.together.chat import TogetherChat
from services.tts.ports import SpokenWord, VoiceParams
from services.tts.together.connection import Endpoint
from services.tts.together.counts import Happened
from services.tts.together.pool import Limits
from services.tts.together.voice import TogetherVoice
from shared.contract import FinishReason, PromptMessage, Role
from shared.errors import Cancelled, ProviderAuth, ProviderError, ProviderRefused
from shared.process.cancel import CancelToken
from tests.fakes_together import Counts
from tests.live.raw_session import MODEL, URL, VOICE

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

BASE_URL = os.environ.get("TOGETHER_BASE_URL") or "https://api.together.ai/v1"
CHAT_MODEL = os.environ.get("CHAT_MODEL") or "meta-llama/Llama-3.3-70B-Instruct-Turbo"
PARAMS = VoiceParams(model=MODEL, voice=VOICE)
PIECES = ("Hello! How are you today?", "Yes.", "One more sentence, of some length.", "The end.")
SLOWEST, FASTEST = 6, 30  # letters a second, of anybody who speaks

# ---------------------------------------------------------------- the text


@contextlib.asynccontextmanager
async def chatting(key: str) -> AsyncIterator[TogetherChat]:
    chat = TogetherChat(
        base_url=BASE_URL,
        api_key=key,
        connect_timeout=10,
        first_token_timeout=30,
        token_timeout=20,
    )
    try:
        yield chat
    finally:
        await chat.close()


def prompt(text: str, **more: Any) -> Prompt:
    return Prompt(**{"model": CHAT_MODEL, "messages": [PromptMessage(Role.USER, text)], **more})


async def answered(
    chat: TogetherChat, asked: Prompt, stop: CancelToken | None = None
) -> tuple[str, Finished]:
    said: list[str] = []
    async for part in chat.model_for(stop or CancelToken()).answer(
        asked, until=time.monotonic() + 60
    ):
        if isinstance(part, Finished):
            return "".join(said), part
        if isinstance(part, Said):
            said.append(part.text)
    raise AssertionError("no end")


async def test_an_answer_has_words_an_end_and_its_tokens(api_key: str) -> None:
    async with chatting(api_key) as chat:
        text, end = await answered(chat, prompt("Say hello.", temperature=0.0, seed=1))
    assert text.strip()
    assert end.reason is FinishReason.STOP
    assert (end.usage.prompt_tokens or 0) > 0
    assert (end.usage.completion_tokens or 0) > 0


async def test_an_answer_at_its_limit_says_so(api_key: str) -> None:
    async with chatting(api_key) as chat:
        _, end = await answered(chat, prompt("Tell me a long story.", max_tokens=5))
    assert end.reason is FinishReason.LENGTH


async def test_an_answer_that_is_stopped_stops_at_once(api_key: str) -> None:
    stop = CancelToken()
    async with chatting(api_key) as chat:
        asyncio.get_running_loop().call_later(0.05, stop.cancel)
        with pytest.raises(Cancelled):
            await answered(chat, prompt("Tell me a long story of at least a thousand words."), stop)


async def test_a_chat_model_that_is_not_there_is_refused(api_key: str) -> None:
    if "127.0.0.1" in BASE_URL:
        pytest.skip("the emulator answers for any model")
    async with chatting(api_key) as chat:
        with pytest.raises(ProviderRefused):
            await answered(chat, prompt("Hello", model="nobody/no-such-model"))


async def test_a_key_that_is_not_ours_is_refused() -> None:
    if "127.0.0.1" in BASE_URL:
        pytest.skip("the emulator takes any key")
    async with chatting("not-a-key") as chat:
        with pytest.raises(ProviderAuth):
            await answered(chat, prompt("Hello"))


# ---------------------------------------------------------------- the voice


@contextlib.asynccontextmanager
async def speaking(
    key: str, *, count: Counts | None = None, model: str = MODEL, limits: Limits | None = None
) -> AsyncIterator[TogetherVoice]:
    count = Counts() if count is None else count
    async with (
        asyncio.timeout(100),
        TogetherVoice(
            Endpoint(url=URL, api_key=key, connect_timeout=15),
            model=model,
            voice=VOICE,
            count=count,
            limits=limits,
        ) as voice,
    ):
        yield voice
    assert count[Happened.CRASHED] == 0


Heard = tuple[float, list[SpokenWord]]


async def heard(parts: AsyncGenerator[bytes | SpokenWord, None]) -> Heard:
    """Seconds of audio, and words."""
    size, words = 0, []
    async for part in parts:
        if isinstance(part, bytes):
            assert len(part) % 2 == 0
            size += len(part)
        else:
            words.append(part)
    return size / 48_000, words


async def spoken(
    voice: TogetherVoice, params: VoiceParams = PARAMS, texts: tuple[str, ...] = PIECES
) -> list[Heard]:
    async with voice.turn(params) as turn:
        pieces = [await heard(turn.say(text)) for text in texts]
        late, words = await heard(turn.finish())
    return [*pieces[:-1], (pieces[-1][0] + late, pieces[-1][1] + words)]


def assert_plausible(texts: tuple[str, ...], pieces: list[Heard], speed: float = 1.0) -> None:
    """All of it was said, and nothing twice: as long as such a text takes."""
    letters, seconds = sum(map(len, texts)), sum(seconds for seconds, _ in pieces)
    assert letters / FASTEST < seconds * speed < letters / SLOWEST + len(texts)


async def test_every_piece_of_a_turn_is_heard(api_key: str) -> None:
    counts = Counts()
    async with speaking(api_key, count=counts) as voice:
        for _ in range(3):  # the first teaches what the provider does
            pieces = await spoken(voice)
            assert_plausible(PIECES, pieces)
    assert all(seconds > 0 for seconds, _ in pieces)
    assert counts[Happened.UNKNOWN_EVENT] == 0


async def test_turns_at_once_are_all_heard(api_key: str) -> None:
    async with speaking(api_key) as voice:
        for pieces in await asyncio.gather(*(spoken(voice) for _ in range(8))):
            assert_plausible(PIECES, pieces)
        assert voice.open_sockets <= 4


async def test_voice_speed_and_pronunciations_change_on_the_open_socket(api_key: str) -> None:
    counts = Counts()
    async with speaking(api_key, count=counts, limits=Limits(sockets=1)) as voice:
        plain = await spoken(voice)
        ways = [
            VoiceParams(model=MODEL, voice="af_bella(2)+af_heart(1)"),
            VoiceParams(model=MODEL, voice="am_adam", speed=2.0),
            VoiceParams(model=MODEL, voice=VOICE, pronunciations=(("omg", "oh my god"),)),
        ]
        for way in ways:
            assert_plausible(PIECES, await spoken(voice, way), way.speed)
        fast = await spoken(voice, ways[1])
        assert sum(s for s, _ in fast) < 0.75 * sum(s for s, _ in plain)
        assert counts[Happened.CONNECTED] == 1


async def test_words_have_times_within_their_piece(api_key: str) -> None:
    params = VoiceParams(model=MODEL, voice=VOICE, word_timestamps=True)
    async with speaking(api_key) as voice:
        for seconds, words in await spoken(voice, params):
            starts = [word.start for word in words]
            assert starts == sorted(starts)
            assert all(word.start <= word.end <= seconds + 0.5 for word in words)


async def test_a_turn_that_is_left_is_silent_and_the_next_one_speaks(api_key: str) -> None:
    async with speaking(api_key, limits=Limits(sockets=1)) as voice:
        async with voice.turn(PARAMS) as turn:
            parts = turn.say("This is a sentence that nobody will hear to its end, is it not?")
            await anext(parts)
            await parts.aclose()
        assert_plausible(PIECES, await spoken(voice))


@pytest.mark.parametrize(
    ("key", "model"), [("not-a-key", MODEL), ("", "nobody/no-such-model")], ids=["key", "model"]
)
async def test_what_is_refused_is_an_error_by_name(api_key: str, key: str, model: str) -> None:
    if "127.0.0.1" in URL:
        pytest.skip("the emulator refuses nobody")
    async with speaking(key or api_key, model=model) as voice:
        with pytest.raises(ProviderError) as caught:
            await spoken(voice, VoiceParams(model=model, voice=VOICE))
    assert isinstance(caught.value, ProviderAuth if key else ProviderRefused)
