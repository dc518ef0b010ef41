"""The chat model against the emulated provider, in all of its moods."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Any

import pytest

from local.together.emulator import Emulator
from services.chat.ports import Finished, Said, Thought
from services.chat.prompt import Prompt
from services.chat.together.chat import TogetherChat
from shared.contract import FinishReason, PromptMessage, Role, Usage
from shared.errors import (
    Cancelled,
    DeadlineExceeded,
    ProviderAuth,
    ProviderBroken,
    ProviderError,
    ProviderOverloaded,
    ProviderRateLimited,
    ProviderRefused,
    ProviderStalled,
)
from shared.process.cancel import CancelToken
from tests.integration.harness import soon

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.timeout(120)

KEY = "key-that-nobody-may-see"
REPLY = "Hello there. How are you today?"
PROMPT = Prompt(model="openai/gpt-oss-20b", messages=[PromptMessage(Role.USER, "Hi!")])
PATIENT = 25.0  # a machine that has other things to do breaks no answer
FIRST, BETWEEN = 0.5, 0.3  # for answers that never come
# What an endpoint that is not the provider's own is asked for besides.
ASKED = {"stream_options": {"include_usage": True}}


@contextlib.asynccontextmanager
async def provider(
    *faults: dict[str, Any], first: float = PATIENT, between: float = PATIENT, **chat: Any
) -> AsyncIterator[tuple[Emulator, TogetherChat]]:
    settings = {"replies": [REPLY], "first_token_ms": 1, "tokens_per_second": 0, **chat}
    async with Emulator({"chat": settings, "faults": list(faults)}) as emulator:
        model = client(emulator.base_url, first, between)
        try:
            yield emulator, model
        finally:
            await model.close()


def client(base_url: str, first: float = PATIENT, between: float = PATIENT) -> TogetherChat:
    return TogetherChat(
        base_url=base_url,
        api_key=KEY,
        connect_timeout=PATIENT,
        first_token_timeout=first,
        token_timeout=between,
    )


Part = Said | Thought | Usage | Finished


@pytest.fixture(scope="module", autouse=True)
def first_request() -> None:
    """The SDK imports half of itself at its first request, for longer than a test here may wait."""

    async def ask() -> None:
        async with Emulator() as emulator:
            model = TogetherChat(
                base_url=emulator.base_url,
                api_key=KEY,
                connect_timeout=20.0,
                first_token_timeout=20.0,
                token_timeout=20.0,
            )
            await answered(model)
            await model.close()

    asyncio.run(ask())


async def answered(
    model: TogetherChat,
    *,
    prompt: Prompt = PROMPT,
    seconds: float = PATIENT,
    stop: CancelToken | None = None,
    into: list[Part] | None = None,
) -> list[Part]:
    parts: list[Part] = [] if into is None else into
    bound = model.model_for(stop or CancelToken())
    async for part in bound.answer(prompt, until=time.monotonic() + seconds):
        parts.append(part)  # noqa: PERF401  what came before an error must be kept
    return parts


def said(parts: list[Part]) -> str:
    return "".join(part.text for part in parts if isinstance(part, Said))


# ---------------------------------------------------------------- an answer


@pytest.mark.parametrize("usage", ["finish", "trailing"])
async def test_the_whole_answer_comes_and_ends_with_its_usage(usage: str) -> None:
    async with provider(usage=usage) as (emulator, model):
        parts = await answered(model)
        assert said(parts) == REPLY
        end = parts[-1]
        assert isinstance(end, Finished)
        assert end.reason is FinishReason.STOP
        assert end.usage.completion_tokens == emulator.record.chats[0].tokens
        assert (end.usage.prompt_tokens or 0) > 0
        assert emulator.record.chats[0].how == "finished"


async def test_an_answer_without_usage_ends_all_the_same() -> None:
    async with provider(usage="none") as (_, model):
        parts = await answered(model)
        assert said(parts) == REPLY
        assert isinstance(parts[-1], Finished)


@pytest.mark.parametrize("field", ["reasoning", "reasoning_content"])
async def test_thoughts_are_no_words(field: str) -> None:
    async with provider(reasoning="Let me think.", reasoning_field=field) as (_, model):
        parts = await answered(model)
        assert said(parts) == REPLY
        thoughts = [part.text for part in parts if isinstance(part, Thought)]
        assert "".join(thoughts) == "Let me think."


async def test_words_are_given_out_as_they_come() -> None:
    async with provider({"kind": "chat.stall", "after": 1}) as (emulator, model):
        parts = model.model_for(CancelToken()).answer(PROMPT, until=time.monotonic() + PATIENT)
        word = await anext(aiter(parts))
        assert isinstance(word, Said)
        assert REPLY.startswith(word.text)
        assert emulator.record.chats[0].ended is None
        await parts.aclose()  # type: ignore[attr-defined]  # it is a generator


async def test_an_answer_at_its_limit_says_so() -> None:
    async with provider() as (_, model):
        prompt = Prompt(model="openai/gpt-oss-120b", messages=PROMPT.messages, max_tokens=3)
        end = (await answered(model, prompt=prompt))[-1]
        assert isinstance(end, Finished)
        assert end.reason is FinishReason.LENGTH


async def test_the_provider_gets_what_was_asked_and_nothing_else() -> None:
    async with provider() as (emulator, model):
        await answered(model)
        await answered(
            model,
            prompt=Prompt(
                model="openai/gpt-oss-120b",
                messages=[PromptMessage(Role.SYSTEM, "Be."), PromptMessage(Role.USER, "grün ✓")],
                temperature=0.0,
                top_p=0.5,
                max_tokens=50,
                stop=("END",),
                seed=2**60,
                reasoning_effort="low",
            ),
        )
        first, second = emulator.record.chats
        assert first.params == {"model": "openai/gpt-oss-20b", "stream": True, **ASKED}
        assert first.messages == [{"role": "user", "content": "Hi!"}]
        assert second.params == {
            "model": "openai/gpt-oss-120b",
            "stream": True,
            **ASKED,
            "temperature": 0.0,
            "top_p": 0.5,
            "max_tokens": 50,
            "stop": ["END"],
            "seed": 2**60,
            "reasoning_effort": "low",
        }
        assert second.messages[1]["content"] == "grün ✓"


async def test_many_answers_at_once_are_not_mixed_up() -> None:
    answers = {f"Number {n}.": f"This is answer {n}. " * 20 for n in range(40)}
    async with provider(answers=answers) as (_, model):
        prompts = [
            Prompt(model="openai/gpt-oss-120b", messages=[PromptMessage(Role.USER, question)])
            for question in answers
        ]
        found = await asyncio.gather(*(answered(model, prompt=p) for p in prompts))
        assert [said(parts) for parts in found] == list(answers.values())


async def test_an_empty_answer_is_one() -> None:
    async with provider({"kind": "chat.empty"}) as (_, model):
        parts = await answered(model)
        assert said(parts) == ""
        assert isinstance(parts[-1], Finished)


# ---------------------------------------------------------------- where and who


@pytest.mark.parametrize("path", ["/v1", "/v1/", "", "/"])
async def test_the_base_url_is_taken_with_and_without_its_version(path: str) -> None:
    async with provider() as (emulator, _):
        model = client(emulator.base_url.removesuffix("/v1") + path)
        assert said(await answered(model)) == REPLY
        await model.close()


async def test_the_key_is_in_the_header_and_nowhere_else() -> None:
    async with provider(keys=[KEY]) as (emulator, model):
        await answered(model)
        call = emulator.record.chats[0]
        assert call.has_key
        assert not call.key_in_url
        assert KEY not in str(call)


async def test_a_wrong_key_is_refused_without_being_told() -> None:
    async with provider(keys=["another"]) as (_, model):
        with pytest.raises(ProviderAuth) as refused:
            await answered(model)
        assert KEY not in str(refused.value)


# ---------------------------------------------------------------- refused


@pytest.mark.parametrize(
    ("status", "kind", "retryable"),
    [
        (400, ProviderRefused, False),
        (401, ProviderAuth, False),
        (402, ProviderAuth, False),
        (403, ProviderAuth, False),
        (404, ProviderRefused, False),
        (408, ProviderStalled, True),
        (409, ProviderOverloaded, True),
        (422, ProviderRefused, False),
        (429, ProviderRateLimited, True),
        (500, ProviderOverloaded, True),
        (503, ProviderOverloaded, True),
        (504, ProviderOverloaded, True),
    ],
)
async def test_each_status_is_an_error_of_its_kind(
    status: int, kind: type[ProviderError], *, retryable: bool
) -> None:
    fault = {"kind": "chat.status", "status": status, "message": "so said the provider"}
    async with provider(fault) as (emulator, model):
        with pytest.raises(ProviderError, match="so said the provider") as refused:
            await answered(model)
        assert type(refused.value) is kind
        assert refused.value.retryable is retryable
        assert refused.value.wait is None
        # Whether and when it is tried again is the turn's to decide.
        assert len(emulator.record.chats) == 1


@pytest.mark.parametrize("header", ["retry_after", "ratelimit_reset"])
@pytest.mark.parametrize("status", [429, 503])
async def test_the_pause_that_is_asked_for_is_handed_on(header: str, status: int) -> None:
    async with provider({"kind": "chat.status", "status": status, header: 2.5}) as (_, model):
        with pytest.raises(ProviderError) as refused:
            await answered(model)
        assert refused.value.wait == 2.5


async def test_after_a_refusal_the_next_one_is_answered() -> None:
    async with provider({"kind": "chat.status", "status": 503, "times": 1}) as (_, model):
        with pytest.raises(ProviderOverloaded):
            await answered(model)
        assert said(await answered(model)) == REPLY


async def test_nobody_listens() -> None:
    async with provider() as (emulator, _):
        gone = emulator.base_url
    model = client(gone)
    with pytest.raises(ProviderOverloaded, match="no connection") as refused:
        await answered(model)
    assert refused.value.retryable
    await model.close()


# ---------------------------------------------------------------- too slow


@pytest.mark.parametrize("fault", ["chat.silent", "chat.stall"])
async def test_nothing_comes_at_all(fault: str) -> None:
    async with provider({"kind": fault}, first=FIRST) as (emulator, model):
        began = time.monotonic()
        with pytest.raises(ProviderStalled) as stalled:
            await answered(model)
        assert stalled.value.retryable
        assert time.monotonic() - began > FIRST * 0.9
        await soon(lambda: emulator.record.chats[0].how == "closed_by_client")


async def test_the_stream_stalls_between_two_words() -> None:
    async with provider({"kind": "chat.stall", "after": 3}, between=BETWEEN) as (emulator, model):
        parts: list[Part] = []
        began = time.monotonic()
        with pytest.raises(ProviderStalled, match="next token"):
            await answered(model, into=parts)
        assert time.monotonic() - began > BETWEEN * 0.9
        assert said(parts) == emulator.record.chats[0].text != ""
        await soon(lambda: emulator.record.chats[0].how == "closed_by_client")


async def test_slow_words_are_in_time_as_long_as_each_one_is() -> None:
    slow = {"kind": "chat.slow", "seconds": 0.2}
    async with provider(slow, between=0.2 * 5) as (_, model):  # of the whole, less than it takes
        assert said(await answered(model)) == REPLY


@pytest.mark.parametrize("fault", [{"kind": "chat.silent"}, {"kind": "chat.slow", "seconds": 2}])
async def test_the_turn_takes_too_long(fault: dict[str, Any]) -> None:
    async with provider(fault) as (emulator, model):
        with pytest.raises(DeadlineExceeded):
            await answered(model, seconds=3)  # the answer would take 15, or for ever
        await soon(lambda: emulator.record.chats[0].how == "closed_by_client")


async def test_the_time_was_over_before_it_began() -> None:
    async with provider() as (emulator, model):
        with pytest.raises(DeadlineExceeded):
            await answered(model, seconds=-1)
        assert not emulator.record.chats


# ---------------------------------------------------------------- broken


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ({"kind": "chat.cut"}, ProviderBroken),
        ({"kind": "chat.unfinished"}, ProviderBroken),
        ({"kind": "chat.garbage"}, ProviderBroken),
        ({"kind": "chat.error", "status": 503}, ProviderOverloaded),
        ({"kind": "chat.error", "status": 429}, ProviderRateLimited),
        ({"kind": "chat.error", "status": 400}, ProviderRefused),
    ],
)
@pytest.mark.parametrize("after", [0, 3])
async def test_a_stream_that_breaks_is_told_after_what_it_said(
    fault: dict[str, Any], kind: type[ProviderError], after: int
) -> None:
    async with provider({**fault, "after": after}, tokens_per_second=200) as (emulator, model):
        parts: list[Part] = []
        with pytest.raises(ProviderError) as broken:
            await answered(model, into=parts)
        assert type(broken.value) is kind
        assert not any(isinstance(part, Finished) for part in parts)
        assert REPLY.startswith(said(parts))
        assert bool(said(parts)) == bool(after)
        # The next one is not disturbed by what is left of this one.
        emulator.change({"faults": []})
        assert said(await answered(model)) == REPLY


# ---------------------------------------------------------------- stopped


async def test_a_stop_closes_the_stream() -> None:
    async with provider({"kind": "chat.stall", "after": 3}) as (emulator, model):
        stop = CancelToken()
        parts: list[Part] = []
        answering = asyncio.create_task(answered(model, stop=stop, into=parts))
        await soon(lambda: bool(parts))
        stop.cancel()
        with pytest.raises(Cancelled):
            await answering
        await soon(lambda: emulator.record.chats[0].how == "closed_by_client")
        assert emulator.record.chats[0].text != REPLY


async def test_a_stop_ends_the_wait_for_the_first_word() -> None:
    async with provider({"kind": "chat.silent"}) as (emulator, model):
        stop = CancelToken()
        answering = asyncio.create_task(answered(model, stop=stop))
        await soon(lambda: bool(emulator.record.chats))
        stop.cancel()
        with pytest.raises(Cancelled):
            await answering
        await soon(lambda: emulator.record.chats[0].how == "closed_by_client")


async def test_who_was_stopped_before_does_not_even_ask() -> None:
    async with provider() as (emulator, model):
        stop = CancelToken()
        stop.cancel()
        with pytest.raises(Cancelled):
            await answered(model, stop=stop)
        assert not emulator.record.chats


async def test_a_reader_that_leaves_closes_the_stream() -> None:
    async with provider({"kind": "chat.stall", "after": 3}) as (emulator, model):
        parts = model.model_for(CancelToken()).answer(PROMPT, until=time.monotonic() + PATIENT)
        await anext(aiter(parts))
        await parts.aclose()  # type: ignore[attr-defined]  # it is a generator
        await soon(lambda: emulator.record.chats[0].how == "closed_by_client")
