"""Model over the provider's streamed chat completions.

The SDK makes the request (auth, connection pool); the lines of the stream are decoded by sse.py,
since a validated object for each token costs more than all the rest of its way.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from typing import TYPE_CHECKING, Any, Final, Self

import aiohttp
import httpx
import msgspec
import together

from services.chat.ports import Finished, Said, Thought
from services.chat.together.endpoint import Endpoint, UsageAsked
from services.chat.together.refusal import knows_no_stream_options, refused
from services.chat.together.sse import ChatStream, joined
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
    from shared.errors import ParleyError, ProviderError
    from shared.process.cancel import CancelToken
    from shared.process.gate import Gate

CONNECTIONS: Final = 256
HEADERS: Final[dict[str, str | together.Omit]] = {
    "Content-Type": "application/json",
    "Accept-Encoding": "identity",
    # The SDK's own, to itself: it hands the response over before its body is read.
    "X-Stainless-Raw-Response": "stream",
    # What the SDK tells of this machine: half of all headers, and each passes three libraries.
    **{
        f"X-Stainless-{name}": together.omit
        for name in (
            "Lang",
            "Package-Version",
            "OS",
            "Arch",
            "Runtime",
            "Runtime-Version",
            "Async",
            "Retry-Count",
            "Read-Timeout",
        )
    },
}
NOT_HERE: Final = frozenset({404, 405})
SERVER_ERROR: Final = 500  # this status and those above: nobody is there who could answer


class _NoCookies(httpx.Cookies):
    """Nobody who answers a request with a key in it needs to know us again: a tenth of all that a
    request costs us."""

    def extract_cookies(self, response: httpx.Response) -> None:
        """Of which there are none."""


_NO_COOKIES: Final = _NoCookies()


class _Http(together.DefaultAioHttpClient):
    @property
    def cookies(self) -> httpx.Cookies:
        return _NO_COOKIES

    @cookies.setter
    def cookies(self, cookies: object) -> None:
        raise NotImplementedError


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
            http_client=_Http(
                limits=httpx.Limits(
                    max_connections=CONNECTIONS,
                    max_keepalive_connections=CONNECTIONS,
                    keepalive_expiry=30,
                ),
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
            "messages": prompt.messages,
            "stream": True,
            **{k: v for k, v in optional.items() if v is not None},
        }
        return await self._client.post(
            url,  # whole: to a path the SDK adds the base URL, and /v1 to that by itself
            cast_to=httpx.Response,
            content=msgspec.json.encode(body),
            options={"headers": HEADERS},
        )


class _Body:
    """The body of an answer as it comes, all that has come at once.

    The waits have one timer, which is moved on: a context for each wait, and the two layers of HTTP
    clients above the connection, cost more than all else that is done with a token.
    """

    def __init__(self, response: httpx.Response, until: float) -> None:
        self._reader = _reader_of(response)
        self._until = until
        self._due = math.inf  # the wait under way is over then; monotonic
        self._what = "", 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._rings = math.inf

    async def next(self, seconds: float, what: str) -> bytes:
        """What has come, after `seconds` at most; empty at the end.

        Raises ProviderBroken, ProviderStalled, DeadlineExceeded, or what `end` was given.
        """
        due = time.monotonic() + seconds
        self._what = what, seconds
        self._due = min(due, self._until)
        if self._due < self._rings:
            self._set(self._due)
        try:
            return await self._reader.readany()
        except aiohttp.ClientError as exc:
            raise ProviderBroken(f"the stream broke: {_first_cause(exc)}") from exc
        finally:
            self._due = math.inf

    def end(self, reason: ParleyError) -> None:
        """The wait under way raises it, or the next one does."""
        self._reader.set_exception(reason)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _set(self, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._rings = at
        self._timer = asyncio.get_running_loop().call_later(
            max(at - time.monotonic(), 0), self._ring
        )

    def _ring(self) -> None:
        self._timer, self._rings = None, math.inf
        if self._due == math.inf:
            return  # nobody waits
        if time.monotonic() < self._due:
            self._set(self._due)
        elif self._due >= self._until:
            self.end(DeadlineExceeded("the turn took too long"))
        else:
            what, seconds = self._what
            self.end(ProviderStalled(f"{what} did not come within {seconds:g} s"))


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
            with _Body(response, until) as body, self._stop.tells(body.end):
                seconds, what = max(first - time.monotonic(), 0.01), "the first token"
                while not stream.over and (data := await body.next(seconds, what)):
                    for part in joined(stream.feed(data)):
                        what = "the next token"
                        yield part
                    seconds = self._chat.token_timeout
                    if what == "the first token":
                        seconds = max(first - time.monotonic(), 0.01)
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


def _reader_of(response: httpx.Response) -> aiohttp.StreamReader:
    """The body as aiohttp has it: httpx, and what joins the two, hand it on through three
    generators, and have no public way around them.

    Raises ProviderBroken for one that is compressed, which nobody asked for.
    """
    if response.headers.get("Content-Encoding", "identity") != "identity":
        raise ProviderBroken("the answer is compressed")
    stream: Any = response.stream
    reader: aiohttp.StreamReader = stream._stream._aiohttp_response.content  # noqa: SLF001  see above
    return reader


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
