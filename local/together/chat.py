"""The provider's chat completions: streamed as SSE, or whole."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from aiohttp import web

from local.together import assistant
from local.together.completion import Chunks, Completion, completion, context_length
from local.together.faults import Fault, FaultKind
from local.together.http import Refused, bearer, error_body, for_ever, refusal, reset
from local.together.record import ChatCall

if TYPE_CHECKING:
    from local.together.provider import Provider

_YIELD_EVERY = 16  # tokens, where none is waited for, so that other streams get their turn

Faults = dict[FaultKind, Fault]


class EmulatedChat:
    """Answers `POST /v1/chat/completions`."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider
        self._next_reply = 0

    def rewind(self) -> None:
        """The next reply is the first one again."""
        self._next_reply = 0

    async def handle(self, request: web.Request) -> web.StreamResponse:
        call = self._opened(request)
        try:
            await self._understood(request, call)
            said = assistant.user_texts(call.messages)
            faults = self._provider.faults.take("chat", said[-1] if said else "")
            call.faults = [str(kind) for kind in faults]
            return await self._respond(request, call, faults)
        except Refused as exc:
            call.how, call.status = "refused", exc.status
            return exc.response()
        except (asyncio.CancelledError, ConnectionError):
            call.how = call.how or "closed_by_client"
            raise
        finally:
            call.ended = time.monotonic()

    def _opened(self, request: web.Request) -> ChatCall:
        record = self._provider.record
        call = ChatCall(
            id=record.number(),
            at=time.monotonic(),
            has_key=bool(bearer(request)),
            key_in_url=any("key" in name.lower() for name in request.query),
            params={},
            messages=[],
        )
        record.chats.append(call)
        record.totals.chats += 1
        record.totals.keys_in_urls += call.key_in_url
        record.totals.requests_without_key += not call.has_key
        return call

    async def _understood(self, request: web.Request, call: ChatCall) -> None:
        """Takes the request apart.

        Raises: Refused.
        """
        try:
            body = json.loads(await request.read())
        except ValueError:
            body = None
        key, keys = bearer(request), self._provider.chat.keys
        if not key:
            raise Refused(401, "missing_api_key", "No API key was sent.")
        if keys and key not in keys:
            raise Refused(401, "invalid_api_key", "The API key is not valid.")
        if not isinstance(body, dict):
            raise Refused(400, "invalid_request", "The body is not a JSON object.")
        call.params = {name: value for name, value in body.items() if name != "messages"}
        wrong = _wrong_parameter(body)
        if wrong:
            raise Refused(400, "invalid_request", f"{wrong}: missing or wrong", wrong)
        call.messages = body["messages"]
        models = self._provider.chat.models
        if models and body["model"] not in models:
            said = f"The model {body['model']} is not available."
            raise Refused(404, "model_not_available", said, "model")
        most = self._provider.chat.context_tokens
        if most and (length := context_length(body, call.messages)) > most:
            words = f"This model's maximum context length is {most} tokens, not {length}."
            raise Refused(400, "context_length_exceeded", words, "messages")

    async def _respond(
        self, request: web.Request, call: ChatCall, faults: Faults
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
        await _Stream(self._provider, call, answer, request, response).run(faults)
        return response

    async def _whole(self, call: ChatCall, answer: Completion) -> web.Response:
        settings = self._provider.chat
        await asyncio.sleep(settings.first_token_ms / 1000)
        call.first_token, call.how = time.monotonic(), "finished"
        call.text, call.tokens = "".join(answer.content), len(answer.content)
        self._provider.record.totals.tokens += call.tokens
        return web.json_response(answer.whole(settings.reasoning_field))

    def _answer(self, call: ChatCall, *, empty: bool) -> Completion:
        settings = self._provider.chat
        if empty:
            settings = replace(settings, reasoning="")
        text = "" if empty else self._reply(call.messages)
        return completion(call.id, text, call.params, call.messages, settings)

    def _reply(self, messages: list[Any]) -> str:
        settings = self._provider.chat
        said = assistant.user_texts(messages)
        last = said[-1] if said else ""
        for words, answer in settings.answers.items():
            if words in last:
                return answer
        if replies := settings.replies:
            self._next_reply += 1
            return replies[(self._next_reply - 1) % len(replies)]
        return assistant.reply(messages)


class _Stream:
    """One streamed answer, in its pace, and what goes wrong with it."""

    def __init__(
        self,
        provider: Provider,
        call: ChatCall,
        answer: Completion,
        request: web.Request,
        response: web.StreamResponse,
    ) -> None:
        self._settings = provider.chat
        self._record = provider.record
        self._call = call
        self._answer = answer
        self._request = request
        self._write = response.write
        self._chunks = Chunks(answer, provider.chat)
        self._clock = asyncio.get_running_loop().time

    async def run(self, faults: Faults) -> None:
        """Sends all of it, unless it breaks."""
        reasoning: str = self._settings.reasoning_field
        parts = [(reasoning, part) for part in self._answer.reasoning]
        parts += [("content", part) for part in self._answer.content]
        pause = self._pause(faults)
        due = self._clock() + self._settings.first_token_ms / 1000
        for index, (field, text) in enumerate([*parts, ("", "")]):
            # What is to happen after more tokens than there are happens after the last.
            due_now = {k: f for k, f in faults.items() if min(f.after, len(parts)) == index}
            if due_now and not await self._goes_on(due_now):
                return
            if not field:
                break
            await self._paced(due, index)
            due += pause
            chunk = self._chunks.token(index, text, field)
            if self._settings.wire_times:
                self._call.wire.append((time.monotonic(), len(text)))
            await self._write(chunk)
            self._count(text if field == "content" else "")
        await self._write(self._chunks.finish())
        self._call.how = "finished"

    def _pause(self, faults: Faults) -> float:
        """Seconds between two chunks."""
        if slow := faults.get(FaultKind.CHAT_SLOW):
            return slow.seconds
        rate = self._settings.tokens_per_second / self._settings.tokens_per_chunk
        return 1 / rate if rate else 0.0

    async def _paced(self, due: float, index: int) -> None:
        wait = due - self._clock()
        if wait > 0:
            await asyncio.sleep(wait)
        elif index % _YIELD_EVERY == 0:
            await asyncio.sleep(0)

    def _count(self, content: str) -> None:
        self._call.first_token = self._call.first_token or time.monotonic()
        self._call.text += content
        self._call.tokens += 1
        self._record.totals.tokens += 1

    async def _goes_on(self, due: Faults) -> bool:
        """Lets go wrong what is due at this token; false where the stream is over."""
        if FaultKind.CHAT_GARBAGE in due:
            await self._line('{"id":"oEmulated","choices":[{"delta":{"content":"tru')
        if fault := due.get(FaultKind.CHAT_ERROR):
            await self._line(json.dumps(error_body(fault.status, fault.code, fault.message)))
            self._call.how = "error"
            return False
        if FaultKind.CHAT_UNFINISHED in due:
            self._call.how = "unfinished"
            return False
        if FaultKind.CHAT_CUT in due:
            # What was written must leave first: a reset throws away what is still queued here.
            await asyncio.sleep(0)
            self._call.how = "cut"
            reset(self._request)
            return False
        if FaultKind.CHAT_STALL in due:
            await for_ever()
        return True

    async def _line(self, data: str) -> None:
        await self._write(f"data: {data}\n\n".encode())


def _wrong_parameter(body: dict[str, Any]) -> str:
    """The name of the one that is missing or wrong, or nothing."""
    if not isinstance(body.get("model"), str):
        return "model"
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        return "messages"
    fine = all(isinstance(m, dict) and isinstance(m.get("role"), str) for m in messages)
    return "" if fine else "messages"
