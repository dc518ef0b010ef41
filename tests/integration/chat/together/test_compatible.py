"""The chat model against endpoints that are compatible, each in its own way."""

from __future__ import annotations

import contextlib
import json
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web

from services.chat.ports import Finished, Said, Thought
from services.chat.prompt import Prompt
from services.chat.together.chat import TogetherChat
from shared.contract import FinishReason, PromptMessage, Role, Usage
from shared.errors import ContextTooLong, ProviderRefused
from shared.process.cancel import CancelToken

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.timeout(120)

PROMPT = Prompt(model="openai/gpt-oss-20b", messages=[PromptMessage(Role.USER, "Hi!")])
ASKED = {"include_usage": True}
USAGE = {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11}


def chunk(content: str | None = None, finish: str | None = None, **more: Any) -> dict[str, Any]:
    return {"choices": [{"delta": {"content": content}, "finish_reason": finish}], **more}


@dataclass
class Endpoint:
    """Answers chat completions at one path; keeps what it was asked, and where."""

    path: str = "/v1"
    usage: str = "asked"  # tells it when it is asked to; `refuses` to be asked; `never` tells it
    chunks: list[dict[str, Any]] = field(default_factory=lambda: [chunk("He"), chunk("llo.")])
    refusal: tuple[int, Any] | None = None
    asked: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.asked.append((request.raw_path, body))
        if request.path != f"{self.path}/chat/completions":
            return web.json_response({"error": {"message": "no such path"}}, status=404)
        if self.usage == "refuses" and "stream_options" in body:
            message = "Unrecognized request argument supplied: stream_options"
            return web.json_response({"error": {"message": message}}, status=400)
        if self.refusal is not None:
            return web.json_response(self.refusal[1], status=self.refusal[0])
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        told = [{"choices": [], "usage": USAGE}] if body.get("stream_options") == ASKED else []
        for one in [*self.chunks, chunk(None, "stop"), *(told if self.usage == "asked" else [])]:
            await response.write(b"data: " + json.dumps(one).encode() + b"\n\n")
        await response.write(b"data: [DONE]\n\n")
        return response


@contextlib.asynccontextmanager
async def model_for(endpoint: Endpoint, base: str | None = None) -> AsyncIterator[TogetherChat]:
    app = web.Application()
    app.router.add_post("/{path:.*}", endpoint.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port = runner.addresses[0][1]
    model = TogetherChat(
        base_url=f"http://127.0.0.1:{port}{endpoint.path if base is None else base}",
        api_key="key",
        connect_timeout=5.0,
        first_token_timeout=5.0,
        token_timeout=5.0,
    )
    try:
        yield model
    finally:
        await model.close()
        await runner.cleanup()


async def answered(model: TogetherChat) -> list[Said | Thought | Usage | Finished]:
    bound = model.model_for(CancelToken())
    return [part async for part in bound.answer(PROMPT, until=time.monotonic() + 10)]


def said(parts: list[Said | Thought | Usage | Finished]) -> str:
    return "".join(part.text for part in parts if isinstance(part, Said))


# ---------------------------------------------------------------- where it is


@pytest.mark.parametrize("path", ["/v1", "/api/v3", "/openai/v1", "/v1beta/openai", "/x"])
@pytest.mark.parametrize("slash", ["", "/"])
async def test_the_base_url_is_used_as_it_is_written(path: str, slash: str) -> None:
    endpoint = Endpoint(path)
    async with model_for(endpoint, path + slash) as model:
        assert said(await answered(model)) == "Hello."
        assert [where for where, _ in endpoint.asked] == [f"{path}/chat/completions"]


@pytest.mark.parametrize("base", ["", "/"])
@pytest.mark.parametrize("path", ["", "/v1"])
async def test_an_address_without_a_path_is_found_with_and_without_a_version(
    base: str, path: str
) -> None:
    endpoint = Endpoint(path)
    async with model_for(endpoint, base) as model:
        for _ in range(2):
            assert said(await answered(model)) == "Hello."
        assert [where for where, _ in endpoint.asked][-1] == f"{path}/chat/completions"
        assert len(endpoint.asked) == (3 if path else 2)


# ---------------------------------------------------------------- what it takes


async def test_usage_is_asked_for() -> None:
    async with model_for(Endpoint()) as model:
        end = (await answered(model))[-1]
        assert end == Finished(FinishReason.STOP, Usage(9, 2))


async def test_who_refuses_to_be_asked_for_usage_answers_without() -> None:
    endpoint = Endpoint(usage="refuses")
    async with model_for(endpoint) as model:
        for _ in range(2):
            parts = await answered(model)
            assert said(parts) == "Hello."
            assert parts[-1] == Finished(FinishReason.STOP, Usage(None, None))
        assert ["stream_options" in body for _, body in endpoint.asked] == [True, False, False]


async def test_a_request_that_is_refused_for_another_reason_is_asked_once() -> None:
    endpoint = Endpoint(refusal=(400, {"error": {"message": "temperature is too high"}}))
    async with model_for(endpoint) as model:
        with pytest.raises(ProviderRefused, match="temperature is too high"):
            await answered(model)
        assert len(endpoint.asked) == 1


@pytest.mark.parametrize(
    "body",
    [
        {"error": {"message": "too many", "code": "context_length_exceeded"}},
        {"error": {"message": "This model's maximum context length is 4096 tokens."}},
        {"error": "prompt is too long"},
        {"message": "Input is longer than the context window", "object": "error"},
        {"detail": "input tokens exceed the maximum context length"},
    ],
)
async def test_a_context_too_long_is_told_from_other_refusals(body: dict[str, Any]) -> None:
    async with model_for(Endpoint(refusal=(400, body))) as model:
        with pytest.raises(ContextTooLong):
            await answered(model)


# ---------------------------------------------------------------- what it says


async def test_null_where_something_belongs_is_read_over() -> None:
    null: list[dict[str, Any]] = [
        {"choices": None, "usage": None, "error": None},
        {"choices": [None]},
        {"choices": [{"delta": None}]},
        chunk(None, usage={"prompt_tokens": None, "completion_tokens": None}),
    ]
    async with model_for(Endpoint(chunks=[*null, chunk("Hel"), *null, chunk("lo.")])) as model:
        parts = await answered(model)
        assert said(parts) == "Hello."
        assert parts[-1] == Finished(FinishReason.STOP, Usage(9, 2))


@pytest.mark.parametrize("size", [1, 3, 100])
async def test_what_is_thought_in_front_of_the_answer_is_not_said(size: int) -> None:
    content = "\n<think>The user greets.</think>\n\nHello."
    chunks = [chunk(content[at : at + size]) for at in range(0, len(content), size)]
    async with model_for(Endpoint(chunks=chunks)) as model:
        parts = await answered(model)
        assert said(parts) == "Hello."
        assert "".join(p.text for p in parts if isinstance(p, Thought)) == "The user greets."
