"""Model over the provider's streamed chat completions.

The SDK makes the request (auth, connection pool); the lines of the stream are decoded by sse.py,
since a validated object for each token costs more than all the rest of its way.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Any, Final

import aiohttp
import httpx
import msgspec
import together

from services.chat.ports import Finished, Said, Thought
from services.chat.together.endpoint import Endpoint, UsageAsked
from services.chat.together.refusal import knows_no_stream_options, refused
from services.chat.together.sse import ChatStream
from shared.errors import (
    Cancelled,
    DeadlineExceeded,
    ProviderBroken,
    ProviderOverloaded,
    ProviderStalled,
)
from shared.process.gate import Gates
from shared.redact import hiding
from shared.retry import asked_pause

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine

    from services.chat.prompt import Prompt
    from shared.contract import Usage
    from shared.errors import ProviderError
    from shared.process.cancel import CancelToken
    from shared.process.gate import Gate

CONNECTIONS: Final = 256
PATH: Final = "/chat/completions"
URL_HEADER: Final = "Parley-Url"  # never leaves the process
# The second one is the SDK's own: it hands the response over before its body is read.
HEADERS: Final = {"Content-Type": "application/json", "X-Stainless-Raw-Response": "stream"}
NOT_HERE: Final = frozenset({404, 405})
SERVER_ERROR: Final = 500  # this status and those above: nobody is there who could answer


class TogetherChat:
    """One for the process. `model_for` binds it to a turn."""

    def __init__(
        self,
        *,
        base_url: str,
        api_key: str,
        connect_timeout: float,
        first_token_timeout: float,
        token_timeout: float,
    ) -> None:
        self.first_token_timeout, self.token_timeout = first_token_timeout, token_timeout
        self.hide = hiding(api_key)
        self.gates = Gates()
        self.endpoint = Endpoint(base_url)
        self.usage = UsageAsked(self.endpoint)
        self._client = together.AsyncTogether(
            api_key=api_key,
            base_url=base_url,
            max_retries=0,  # the turn retries: it knows what was said, and for how long it may
            timeout=httpx.Timeout(None, connect=connect_timeout, pool=connect_timeout),
            # Its HTTP is parsed in C: two thirds of the processor of httpx's own.
            http_client=together.DefaultAioHttpClient(
                limits=httpx.Limits(
                    max_connections=CONNECTIONS,
                    max_keepalive_connections=CONNECTIONS,
                    keepalive_expiry=30,
                ),
                event_hooks={"request": [_direct]},
            ),
        )

    def model_for(self, stop: CancelToken) -> TurnModel:
        return TurnModel(self, stop)

    async def close(self) -> None:
        await self._client.close()

    async def request(self, prompt: Prompt, url: str, *, ask_usage: bool) -> httpx.Response:
        """The answer, its body not yet read.

        The body goes out as it is encoded here: the SDK's `create` walks every message of a prompt
        in Python, 34 ms for two hundred of them.
        """
        optional = {
            "temperature": prompt.temperature,
            "top_p": prompt.top_p,
            "max_tokens": prompt.max_tokens,
            "stop": list(prompt.stop) if prompt.stop else None,
            "seed": prompt.seed,
            "reasoning_effort": prompt.reasoning_effort,
            "stream_options": {"include_usage": True} if ask_usage else None,
        }
        body = {
            "model": prompt.model,
            "messages": [{"role": m.role.value, "content": m.content} for m in prompt.messages],
            "stream": True,
            **{k: v for k, v in optional.items() if v is not None},
        }
        return await self._client.post(
            PATH,
            cast_to=httpx.Response,
            content=msgspec.json.encode(body),
            options={"headers": {**HEADERS, URL_HEADER: url}},
        )


class TurnModel:
    """The model of one turn: every wait has a deadline and ends when the turn is stopped."""

    def __init__(self, chat: TogetherChat, stop: CancelToken) -> None:
        self._chat, self._stop = chat, stop

    async def _within(self, work: Awaitable[Any], seconds: float, until: float, what: str) -> Any:
        left = until - time.monotonic()
        if left <= 0:
            if asyncio.iscoroutine(work):
                work.close()
            raise DeadlineExceeded("the turn took too long")
        try:
            async with asyncio.timeout(min(seconds, left)):
                return await self._stop.guard(work)
        except TimeoutError:
            if left < seconds:
                raise DeadlineExceeded("the turn took too long") from None
            raise ProviderStalled(f"{what} did not come within {seconds:g} s") from None
        except (httpx.HTTPError, aiohttp.ClientError) as exc:
            raise ProviderBroken(f"the stream broke: {_first_cause(exc)}") from exc

    async def answer(
        self, prompt: Prompt, *, until: float, patient_until: float = 0.0
    ) -> AsyncIterator[Said | Thought | Usage | Finished]:
        if self._stop.cancelled:
            raise Cancelled
        if time.monotonic() >= until:
            raise DeadlineExceeded("the turn took too long")
        gate = self._chat.gates.of(prompt.model)
        await self._stop.guard(gate.enter(min(patient_until, until)))
        first = time.monotonic() + self._chat.first_token_timeout
        response = await self._open(prompt, gate, until)
        stream = ChatStream(self._chat.hide)
        try:
            body = response.aiter_bytes()
            said = False
            while not stream.over:
                seconds = self._chat.token_timeout if said else max(first - time.monotonic(), 0.01)
                what = "the next token" if said else "the first token"
                data = await self._within(anext(body, None), seconds, until, what)
                if data is None:
                    break
                for part in stream.feed(data):
                    said = True
                    yield part
            for last in stream.finish():
                if isinstance(last, Finished):
                    self._chat.usage.finished(last.usage)
                yield last
        finally:
            # Closing tells the provider to stop; it must not hang on a dead connection.
            with contextlib.suppress(Exception):
                async with asyncio.timeout(1):
                    await response.aclose()

    async def _open(self, prompt: Prompt, gate: Gate, until: float) -> httpx.Response:
        """Asked again in the form that the endpoint takes."""
        chat = self._chat
        urls, ask_usage, refused_to_tell = list(chat.endpoint.urls), chat.usage.wanted, False
        while True:
            asking = chat.request(prompt, urls[0], ask_usage=ask_usage)
            try:
                response = await self._ask(asking, gate, until)
            except together.APIStatusError as exc:
                if exc.status_code in NOT_HERE and len(urls) > 1:
                    del urls[0]
                elif (
                    ask_usage
                    and not chat.usage.taken
                    and knows_no_stream_options(exc.status_code, str(exc.body))
                ):
                    ask_usage, refused_to_tell = False, True
                else:
                    raise _translate(exc, chat.hide) from exc
            else:
                chat.endpoint.settle(urls[0])
                chat.usage.answered(asked=ask_usage, refused=refused_to_tell)
                return response

    async def _ask(
        self, asking: Coroutine[Any, Any, httpx.Response], gate: Gate, until: float
    ) -> httpx.Response:
        try:
            response: httpx.Response = await self._within(
                asking, self._chat.first_token_timeout, until, "an answer"
            )
        except together.APIStatusError as exc:
            if exc.status_code >= SERVER_ERROR:
                gate.failed()
            else:
                gate.succeeded()
            raise
        except together.APIConnectionError as exc:
            gate.failed()
            raise ProviderOverloaded(f"no connection: {_first_cause(exc)}") from exc
        except together.TogetherError as exc:
            raise ProviderBroken(type(exc).__name__) from exc
        except BaseException:  # stopped, or too late: that says nothing of the endpoint
            gate.left()
            raise
        gate.succeeded()
        return response


async def _direct(request: httpx.Request) -> None:
    """The SDK adds /v1 to a base URL by itself; the setting is used as it is written."""
    request.url = httpx.URL(request.headers.pop(URL_HEADER))


def _first_cause(exc: BaseException) -> str:
    """The name of what the connection said; each layer above it has a name of its own for it."""
    while exc.__cause__ is not None:
        exc = exc.__cause__
    return type(exc).__name__


def _translate(exc: together.APIStatusError, hide: Callable[[str], str]) -> ProviderError:
    message, kind = f"the provider answered {exc.status_code}", ""
    body = exc.body
    if isinstance(body, dict):
        inner = body.get("error", body)
        if isinstance(inner, str):
            inner = {"message": inner}
        if isinstance(inner, dict):
            kind = f"{inner.get('type', '')} {inner.get('code', '')}"
            said = inner.get("message") or inner.get("detail")
            message += f": {hide(said)[:300]}" if isinstance(said, str) else ""
    elif isinstance(body, str) and body:
        message += f": {hide(body)[:300]}"
    wait = asked_pause(exc.response.headers, now=time.time())
    return refused(exc.status_code, message, kind, wait=wait)
