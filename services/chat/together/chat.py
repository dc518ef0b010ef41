"""Model over the provider's streamed chat completions.

The SDK makes the request (auth, base URL, connection pool); the lines of the stream are decoded by
sse.py, since a validated object for each token costs more than all the rest of its way.
"""

from __future__ import annotations

import asyncio
import contextlib
import email.utils
import time
from typing import TYPE_CHECKING, Any, Final

import httpx
import together

from services.chat.ports import Finished, Said, Thought
from services.chat.together.sse import ChatStream
from shared.errors import (
    Cancelled,
    DeadlineExceeded,
    ProviderBroken,
    ProviderOverloaded,
    ProviderStalled,
    from_status,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Mapping

    from services.chat.prompt import Prompt
    from shared.errors import ProviderError
    from shared.process.cancel import CancelToken

CONNECTIONS: Final = 256


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
        # The SDK adds /v1 by itself to a base URL; the setting has it, as the endpoint is written.
        self._client = together.AsyncTogether(
            api_key=api_key,
            base_url=base_url.rstrip("/").removesuffix("/v1"),
            max_retries=0,  # the turn retries: it knows what was said, and for how long it may
            timeout=httpx.Timeout(None, connect=connect_timeout, pool=connect_timeout),
            http_client=together.DefaultAsyncHttpxClient(
                limits=httpx.Limits(
                    max_connections=CONNECTIONS,
                    max_keepalive_connections=CONNECTIONS,
                    keepalive_expiry=30,
                )
            ),
        )
        # The SDK imports its resources when they are first used: 0.3 s off the first turn.
        _ = self._client.chat.completions.with_streaming_response

    def model_for(self, stop: CancelToken) -> TurnModel:
        return TurnModel(self, stop)

    async def close(self) -> None:
        await self._client.close()

    def request(self, prompt: Prompt) -> Any:
        """An async context manager: the response, its body not yet read."""
        optional = {
            "temperature": prompt.temperature,
            "top_p": prompt.top_p,
            "max_tokens": prompt.max_tokens,
            "stop": list(prompt.stop) if prompt.stop else None,
            "seed": prompt.seed,
            "reasoning_effort": prompt.reasoning_effort,
        }
        given: dict[str, Any] = {k: v for k, v in optional.items() if v is not None}
        messages: list[Any] = [
            {"role": m.role.value, "content": m.content} for m in prompt.messages
        ]
        return self._client.chat.completions.with_streaming_response.create(
            model=prompt.model, messages=messages, stream=True, **given
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
        except httpx.HTTPError as exc:
            raise ProviderBroken(f"the stream broke: {type(exc).__name__}") from exc

    async def answer(
        self, prompt: Prompt, *, until: float
    ) -> AsyncIterator[Said | Thought | Finished]:
        if self._stop.cancelled:
            raise Cancelled
        if time.monotonic() >= until:
            raise DeadlineExceeded("the turn took too long")
        first = min(until, time.monotonic() + self._chat.first_token_timeout)
        manager = self._chat.request(prompt)
        response = await self._open(manager, until)
        stream = ChatStream()
        try:
            body = response.http_response.aiter_bytes()
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
                yield last
        finally:
            # Closing tells the provider to stop; it must not hang on a dead connection.
            with contextlib.suppress(Exception):
                async with asyncio.timeout(1):
                    await manager.__aexit__(None, None, None)

    async def _open(self, manager: Any, until: float) -> Any:
        try:
            return await self._within(
                manager.__aenter__(), self._chat.first_token_timeout, until, "an answer"
            )
        except together.APIStatusError as exc:
            raise _translate(exc) from exc
        except together.APITimeoutError as exc:
            raise ProviderOverloaded("the provider did not take the connection in time") from exc
        except together.APIConnectionError as exc:
            cause = exc.__cause__ or exc
            raise ProviderOverloaded(f"no connection: {type(cause).__name__}") from exc
        except together.TogetherError as exc:
            raise ProviderBroken(type(exc).__name__) from exc


def _translate(exc: together.APIStatusError) -> ProviderError:
    message = f"the provider answered {exc.status_code}"
    body = exc.body
    if isinstance(body, dict):
        inner = body.get("error", body)
        if isinstance(inner, dict) and isinstance(inner.get("message"), str):
            message += f": {inner['message'][:300]}"
    return from_status(exc.status_code, message, wait=asked_wait(exc.response.headers))


def asked_wait(headers: Mapping[str, str]) -> float | None:
    """The pause that the provider asks for, in seconds."""
    for name in ("retry-after", "x-ratelimit-reset"):
        value = headers.get(name)
        if not value:
            continue
        try:
            return max(0.0, float(value))
        except ValueError:
            with contextlib.suppress(ValueError, TypeError):
                date = email.utils.parsedate_to_datetime(value)
                return max(0.0, date.timestamp() - time.time())
    return None
