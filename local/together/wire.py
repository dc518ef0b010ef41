"""The sending side of one speech socket. It may die, and then looks open for ever."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
from typing import TYPE_CHECKING, Any

from local.together.http import for_ever, reset

if TYPE_CHECKING:
    from aiohttp import web

    from local.together.context import Item, SpeechContext
    from local.together.provider import Provider
    from local.together.record import SocketCall


class Wire:
    """Whoever sends on a dead one waits until he is cancelled."""

    def __init__(
        self,
        provider: Provider,
        request: web.Request,
        ws: web.WebSocketResponse,
        call: SocketCall,
    ) -> None:
        self._provider = provider
        self._request = request
        self._ws = ws
        self._deltas = 0
        self._clock = asyncio.get_running_loop().time
        self.call = call
        self.dead = False
        self.moved_at = self._clock()  # when something last went either way

    def moved(self) -> None:
        self.moved_at = self._clock()

    # ------------------------------------------------------------ what is sent

    async def send(self, event: dict[str, Any], context: SpeechContext | None = None) -> None:
        if context is not None and self._names(context):
            event["context_id"] = context.name
        if self._provider.speech.nulls:
            event = {"event_id": None, "previous_item_id": None, "words": None, **event}
        await self.text(json.dumps(event))

    def _names(self, context: SpeechContext) -> bool:
        return context.named and self._provider.speech.echo_context

    async def text(self, data: str) -> None:
        if self.dead:
            await for_ever()
        await self._ws.send_str(data)

    async def complain(
        self,
        message: str,
        code: str = "invalid_request_error",
        context: SpeechContext | None = None,
    ) -> None:
        self._provider.record.totals.unknown_messages += code == "invalid_request_error"
        event = {"type": "error", "error": {"message": message, "code": code}}
        await self.fail(event, context)

    async def fail(self, event: dict[str, Any], context: SpeechContext | None) -> None:
        """An event that tells of an error."""
        await self.send(event, None if self._provider.speech.nameless_errors else context)

    async def unknown(self, context: SpeechContext) -> None:
        event = {"type": "conversation.item.emulator.unknown", "detail": {"nested": [1, None]}}
        await self.send(event, context)

    async def done(self, context: SpeechContext, item: str) -> None:
        event = {"type": "conversation.item.audio_output.done", "item_id": item}
        if self._provider.speech.nulls:
            await self._say_nothing(context, item)
        await self.send(event, context)

    async def _say_nothing(self, context: SpeechContext, item: str) -> None:
        """Events that are whole but for what they should carry."""
        nothing: tuple[dict[str, Any], ...] = (
            {"type": "conversation.item.audio_output.delta", "item_id": item, "delta": None},
            {
                "type": "conversation.item.word_timestamps",
                "item_id": item,
                "words": [None, "word"],
                "start_seconds": [0.0, None],
                "end_seconds": None,
            },
            {"type": "conversation.item.input_text.received", "text": None},
            {"type": None},
        )
        for event in nothing:
            await self.send(event, context)

    async def delta(self, context: SpeechContext, item: Item, raw: bytes, padding: int = 0) -> None:
        self._deltas += 1
        every = self._provider.speech.unknown_every
        if every and self._deltas % every == 0:
            await self.unknown(context)
        if self._provider.speech.binary:
            if self.dead:
                await for_ever()
            await self._ws.send_bytes(raw)
        else:
            await self.text(self._as_text(context, item, raw, padding))
        self.moved()
        item.sent += len(raw)

    def _as_text(self, context: SpeechContext, item: Item, raw: bytes, padding: int) -> str:
        # Put together by hand: base64 needs no escapes, and this is the hot path.
        named = f'"context_id":{json.dumps(context.name)},' if self._names(context) else ""
        filled = f'"padding":"{"x" * padding}",' if padding else ""
        audio = base64.b64encode(raw).decode("ascii")
        return (
            f'{{"type":"conversation.item.audio_output.delta","item_id":"{item.id}",'
            f'{named}{filled}"delta":"{audio}"}}'
        )

    async def pong(self, data: bytes, seconds: float) -> None:
        """Answers a ping, so late."""
        await asyncio.sleep(seconds)
        with contextlib.suppress(ConnectionError):
            if not self.dead:
                await self._ws.pong(data)

    # ------------------------------------------------------------ how it ends

    def ended(self, how: str) -> None:
        """The first word counts."""
        self.call.how = self.call.how or how

    async def close(self, code: int, how: str) -> None:
        """Says goodbye properly, if the other end still listens."""
        self.ended(how)
        if self.dead:
            self.reset()
            return
        self.call.close_code = code
        await self._ws.close(code=code, message=how.encode())

    def reset(self) -> None:
        reset(self._request)

    def die(self) -> None:
        """From now on it reads nothing, sends nothing, answers no ping, and stays open."""
        self.dead = True
        self.ended("dead")
        if self._request.transport is not None:
            self._request.transport.pause_reading()
