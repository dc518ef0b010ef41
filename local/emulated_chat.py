"""The provider's chat completions: streamed as SSE, or whole."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import struct
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aiohttp import web

from local import assistant
from local.record import ChatCall
from local.scripts import Chat, Fault, FaultKind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from local.record import Record
    from local.scripts import Faults

# Larger than 2^53, as in a public recording: a reader that takes it for a float changes it.
SEED = 15924764223251450000
_TOKEN = re.compile(r"\s?[^\W_]{1,7}|\s?[^\w\s]+|\s+|_+")
_YIELD_EVERY = 16  # tokens, where none is waited for, so that other streams get their turn

# The words that the provider uses for a status, and the type of the error.
_CODES = {
    400: ("invalid_request", "invalid_request_error"),
    401: ("invalid_api_key", "invalid_request_error"),
    402: ("spending_limit_exceeded", "billing_error"),
    403: ("forbidden", "invalid_request_error"),
    404: ("model_not_found", "invalid_request_error"),
    408: ("request_timeout", "server_error"),
    409: ("conflict", "invalid_request_error"),
    422: ("unprocessable_entity", "invalid_request_error"),
    429: ("dynamic_request_limited", "rate_limit_error"),
    500: ("internal_error", "server_error"),
    503: ("service_unavailable", "server_error"),
    504: ("gateway_timeout", "server_error"),
}


def error_body(
    status: int, code: str = "", message: str = "", param: str | None = None
) -> dict[str, Any]:
    """The JSON of an error as the provider writes it."""
    usual, kind = _CODES.get(status, ("error", "server_error"))
    text = message or f"The emulator was told to answer {status}."
    return {"error": {"message": text, "type": kind, "param": param, "code": code or usual}}


def refusal(fault: Fault) -> web.Response:
    """The answer of a fault that is an HTTP status."""
    headers = {}
    if fault.retry_after is not None:
        headers["Retry-After"] = f"{fault.retry_after:g}"
    if fault.ratelimit_reset is not None:
        headers["x-ratelimit-reset"] = f"{fault.ratelimit_reset:g}"
    body = error_body(fault.status, fault.code, fault.message)
    return web.json_response(body, status=fault.status, headers=headers)


def bearer(request: web.Request) -> str:
    """The key in the header, or nothing."""
    kind, _, key = request.headers.get("Authorization", "").partition(" ")
    return key.strip() if kind.lower() == "bearer" else ""


def reset(request: web.Request) -> None:
    """Ends the TCP connection as a broken network does: RST, no farewell."""
    transport = request.transport
    if transport is None:
        return
    raw = transport.get_extra_info("socket")
    if raw is not None:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


def tokens(text: str) -> list[str]:
    """Parts of some characters, as tokenizers make them; joined, they are the text."""
    return _TOKEN.findall(text)


async def for_ever() -> None:
    """Until the client goes away, or the emulator."""
    await asyncio.Event().wait()


@dataclass(slots=True)
class _Answer:
    """What is to be said, before anything goes wrong."""

    model: str
    reasoning: list[str]
    content: list[str]
    finish_reason: str
    usage: dict[str, int]


class _Writer:
    """Chunks of one stream, in the provider's form."""

    def __init__(self, response: web.StreamResponse, call: ChatCall, answer: _Answer) -> None:
        self._response = response
        self._call = call
        self._answer = answer
        self._head = (
            f'data: {{"id":"oEmulated-{call.id}","object":"chat.completion.chunk",'
            f'"created":{int(time.time())},"choices":'
        )
        self._tail = f',"model":{json.dumps(answer.model)},"usage":'

    async def _write(self, choices: str, usage: dict[str, int] | None) -> None:
        line = f"{self._head}{choices}{self._tail}{json.dumps(usage)}}}\n\n"
        await self._response.write(line.encode())

    async def token(self, text: str, field: str, token_id: int | None) -> None:
        said = json.dumps(text)
        shown = said if field == "content" else '""'
        content = "" if field == "content" else '"content":"",'
        choice = (
            f'[{{"index":0,"text":{shown},"logprobs":null,"finish_reason":null,"seed":null,'
            f'"delta":{{"token_id":{json.dumps(token_id)},"role":"assistant",{content}'
            f'"{field}":{said}}}}}]'
        )
        await self._write(choice, None)
        if self._call.first_token is None:
            self._call.first_token = time.monotonic()
        if field == "content":
            self._call.text += text

    async def finish(self, usage: str) -> None:
        answer = self._answer
        choice = (
            f'[{{"index":0,"text":"","logprobs":null,"finish_reason":"{answer.finish_reason}",'
            f'"seed":{SEED},"delta":{{"token_id":128009,"role":"assistant","content":""}}}}]'
        )
        await self._write(choice, answer.usage if usage == "finish" else None)
        if usage == "trailing":
            await self._write("[]", answer.usage)
        await self._response.write(b"data: [DONE]\n\n")

    async def raw(self, line: str) -> None:
        await self._response.write(f"data: {line}\n\n".encode())


class EmulatedChat:
    """Answers `POST /v1/chat/completions`."""

    def __init__(self, faults: Faults, record: Record) -> None:
        self.settings = Chat()
        self._faults = faults
        self._record = record
        self._next_reply = 0

    def load(self, settings: Chat) -> None:
        self.settings = settings

    def rewind(self) -> None:
        """The next reply is the first one again."""
        self._next_reply = 0

    async def handle(self, request: web.Request) -> web.StreamResponse:
        call, wrong = await self._opened(request)
        try:
            if wrong is not None:
                call.how = "refused"
                call.status = wrong.status
                return wrong
            said = assistant.user_texts(call.messages)
            faults = self._faults.take("chat", said[-1] if said else "")
            call.faults = [str(kind) for kind in faults]
            return await self._respond(request, call, faults)
        except (asyncio.CancelledError, ConnectionError):
            call.how = call.how or "closed_by_client"
            raise
        finally:
            call.ended = time.monotonic()

    async def _opened(self, request: web.Request) -> tuple[ChatCall, web.Response | None]:
        totals = self._record.totals
        key = bearer(request)
        in_url = any("key" in name.lower() for name in request.query)
        call = ChatCall(
            id=self._record.number(),
            at=time.monotonic(),
            has_key=bool(key),
            key_in_url=in_url,
            params={},
            messages=[],
        )
        self._record.chats.append(call)
        totals.chats += 1
        totals.keys_in_urls += in_url
        totals.requests_without_key += not key
        try:
            body = json.loads(await request.read())
        except ValueError:
            body = None
        return call, self._understood(call, key, body)

    def _understood(self, call: ChatCall, key: str, body: Any) -> web.Response | None:
        """Takes the request apart; the answer is a refusal, or nothing."""
        if not key:
            return _refused(401, "missing_api_key", "No API key was sent.")
        if self.settings.keys and key not in self.settings.keys:
            return _refused(401, "invalid_api_key", "The API key is not valid.")
        if not isinstance(body, dict):
            return _refused(400, "invalid_request", "The body is not a JSON object.")
        call.params = {name: value for name, value in body.items() if name != "messages"}
        messages = body.get("messages")
        wrong = "model" if not isinstance(body.get("model"), str) else _wrong_messages(messages)
        if wrong:
            return _refused(400, "invalid_request", f"{wrong}: missing or wrong", wrong)
        call.messages = messages if isinstance(messages, list) else []
        return None

    async def _respond(
        self, request: web.Request, call: ChatCall, faults: dict[FaultKind, Fault]
    ) -> web.StreamResponse:
        if fault := faults.get(FaultKind.CHAT_STATUS):
            call.how, call.status = "refused", fault.status
            return refusal(fault)
        if FaultKind.CHAT_SILENT in faults:
            await for_ever()
        answer = self._answer(call, empty=FaultKind.CHAT_EMPTY in faults)
        call.status = 200
        if call.params.get("stream") is not True:
            return await self._whole(call, answer)
        response = web.StreamResponse(
            headers={"Content-Type": "text/event-stream", "Cache-Control": "no-cache"}
        )
        await response.prepare(request)
        writer = _Writer(response, call, answer)
        if await self._stream(request, call, writer, answer, faults):
            await writer.finish(self.settings.usage)
            call.how = "finished"
        return response

    async def _stream(
        self,
        request: web.Request,
        call: ChatCall,
        writer: _Writer,
        answer: _Answer,
        faults: dict[FaultKind, Fault],
    ) -> bool:
        """Sends the tokens; whether the stream is to be finished in the normal way."""
        settings = self.settings
        parts: list[tuple[str, str]] = [
            (settings.reasoning_field, part) for part in answer.reasoning
        ]
        parts += [("content", part) for part in answer.content]
        slow = faults.get(FaultKind.CHAT_SLOW)
        rate = settings.tokens_per_second / settings.tokens_per_chunk
        pause = slow.seconds if slow else (1 / rate if rate else 0.0)
        clock = asyncio.get_running_loop().time
        due = clock() + settings.first_token_ms / 1000
        for index, (field, text) in enumerate([*parts, ("", "")]):
            # What is to happen after more tokens than there are happens after the last.
            due_now = {k: f for k, f in faults.items() if min(f.after, len(parts)) == index}
            if due_now and not await self._goes_on(request, call, writer, due_now):
                return False
            if not field:
                break
            wait = due - clock()
            if wait > 0:
                await asyncio.sleep(wait)
            elif index % _YIELD_EVERY == 0:
                await asyncio.sleep(0)
            due += pause
            await writer.token(text, field, _token_id(text, index, settings.token_ids))
            call.tokens += 1
            self._record.totals.tokens += 1
        return True

    async def _goes_on(
        self,
        request: web.Request,
        call: ChatCall,
        writer: _Writer,
        due: dict[FaultKind, Fault],
    ) -> bool:
        """Lets go wrong what is due at this token; false where the stream is over."""
        if FaultKind.CHAT_GARBAGE in due:
            await writer.raw('{"id":"oEmulated","choices":[{"delta":{"content":"tru')
        if fault := due.get(FaultKind.CHAT_ERROR):
            await writer.raw(json.dumps(error_body(fault.status, fault.code, fault.message)))
            call.how = "error"
            return False
        if FaultKind.CHAT_UNFINISHED in due:
            call.how = "unfinished"
            return False
        if FaultKind.CHAT_CUT in due:
            # What was written must leave first: a reset throws away what is still queued here.
            await asyncio.sleep(0)
            call.how = "cut"
            reset(request)
            return False
        if FaultKind.CHAT_STALL in due:
            await for_ever()
        return True

    async def _whole(self, call: ChatCall, answer: _Answer) -> web.Response:
        await asyncio.sleep(self.settings.first_token_ms / 1000)
        text = "".join(answer.content)
        call.first_token, call.text, call.how = time.monotonic(), text, "finished"
        call.tokens = len(answer.content)
        self._record.totals.tokens += call.tokens
        message: dict[str, Any] = {"role": "assistant", "content": text, "tool_calls": []}
        if answer.reasoning:
            message[self.settings.reasoning_field] = "".join(answer.reasoning)
        choice = {
            "index": 0,
            "finish_reason": answer.finish_reason,
            "logprobs": None,
            "seed": SEED,
            "message": message,
        }
        body = {
            "id": f"oEmulated-{call.id}",
            "object": "chat.completion",
            "created": int(time.time()),
            "model": answer.model,
            "prompt": [],
            "choices": [choice],
            "usage": answer.usage,
        }
        return web.json_response(body)

    def _answer(self, call: ChatCall, *, empty: bool) -> _Answer:
        text = "" if empty else self._reply(call.messages)
        finish = self.settings.finish_reason
        stops = call.params.get("stop") or []
        for stop in [stops] if isinstance(stops, str) else stops:
            text = text.partition(str(stop))[0]
        parts = tokens(text)
        most = call.params.get("max_tokens")
        if isinstance(most, int) and len(parts) > most:
            parts, finish = parts[:most], "length"
        thought = [] if empty or _no_reasoning(call.params) else tokens(self.settings.reasoning)
        asked = sum(len(tokens(assistant.plain_text(m.get("content")))) for m in call.messages)
        said = len(parts) + len(thought)
        usage = {
            "prompt_tokens": asked,
            "completion_tokens": said,
            "total_tokens": asked + said,
            "cached_tokens": 0,
        }
        size = max(1, self.settings.tokens_per_chunk)
        chunks = (list(_joined(thought, size)), list(_joined(parts, size)))
        return _Answer(str(call.params["model"]), *chunks, finish, usage)

    def _reply(self, messages: list[Any]) -> str:
        said = assistant.user_texts(messages)
        last = said[-1] if said else ""
        for words, answer in self.settings.answers.items():
            if words in last:
                return answer
        if replies := self.settings.replies:
            self._next_reply += 1
            return replies[(self._next_reply - 1) % len(replies)]
        return assistant.reply(messages)


def _refused(status: int, code: str, message: str, param: str | None = None) -> web.Response:
    return web.json_response(error_body(status, code, message, param), status=status)


def _wrong_messages(messages: Any) -> str:
    """The name of the parameter that is wrong, or nothing."""
    if not isinstance(messages, list) or not messages:
        return "messages"
    fine = all(isinstance(m, dict) and isinstance(m.get("role"), str) for m in messages)
    return "" if fine else "messages"


def _no_reasoning(params: dict[str, Any]) -> bool:
    asked = params.get("reasoning")
    return isinstance(asked, dict) and asked.get("enabled") is False


def _joined(parts: list[str], size: int) -> Iterator[str]:
    return ("".join(parts[at : at + size]) for at in range(0, len(parts), size))


def _token_id(text: str, index: int, which: str) -> int | None:
    if which == "never" or (which == "sometimes" and index % 3 == 2):
        return None
    return 1000 + sum(text.encode()) % 100_000
