"""The speech WebSocket as it is: what was sent, and every frame that came, with its time.

Shares no code with the services: it is to find out what they should know.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote, urlencode

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

if TYPE_CHECKING:
    from types import TracebackType

URL = os.environ.get("TTS_URL") or "wss://api.together.ai/v1/audio/speech/websocket"
MODEL = os.environ.get("TTS_MODEL") or "hexgrad/Kokoro-82M"
VOICE = os.environ.get("TTS_VOICE") or "af_heart"
BYTES_PER_SECOND = 48_000
QUIET = 2.0  # seconds without a frame: nothing more comes
FIRST = 15.0  # for the first frame that is awaited

DELTA = "conversation.item.audio_output.delta"
DONE = "conversation.item.audio_output.done"
WORDS = "conversation.item.word_timestamps"
FAILED = "conversation.item.tts.failed"
RECEIVED = "conversation.item.input_text.received"


@dataclass(frozen=True)
class Frame:
    at: float
    type: str
    context: str | None
    item: str | None
    audio: bytes
    body: dict[str, Any]


@dataclass
class Heard:
    """Frames, and what they say."""

    frames: list[Frame] = field(default_factory=list)

    def of(self, *types: str, context: str | None = None) -> list[Frame]:
        return [
            f
            for f in self.frames
            if f.type in types and (context is None or f.context in {None, context})
        ]

    def audio(self, context: str | None = None) -> bytes:
        return b"".join(frame.audio for frame in self.of(DELTA, "binary", context=context))

    def seconds(self, context: str | None = None) -> float:
        return len(self.audio(context)) / BYTES_PER_SECOND

    @property
    def items(self) -> list[str | None]:
        return list(dict.fromkeys(f.item for f in self.of(DELTA, "binary")))

    @property
    def complaints(self) -> list[Frame]:
        return self.of(FAILED, "error")


class RawSession:
    """`async with RawSession(segment="never") as session`: open, its `session.created` read."""

    def __init__(self, *, pings: bool = True, **query: Any) -> None:
        given = {"model": MODEL, "voice": VOICE, "response_format": "pcm", "segment": "never"}
        query = {k: v for k, v in (given | query).items() if v is not None}
        self._url = f"{URL}{'&' if '?' in URL else '?'}{urlencode(query, quote_via=quote)}"
        self._pings = pings
        self.created: dict[str, Any] = {}

    async def __aenter__(self) -> Self:
        self.socket: ClientConnection = await connect(
            self._url,
            additional_headers={"Authorization": f"Bearer {os.environ['TOGETHER_API_KEY']}"},
            max_size=None,
            open_timeout=15,
            close_timeout=1,
            ping_interval=15 if self._pings else None,
        )
        try:
            async with asyncio.timeout(FIRST):
                self.created = json.loads(await self.socket.recv())
        except BaseException:
            await self.socket.close()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.socket.close()

    async def send(self, kind: str, context: str | None = None, **fields: Any) -> None:
        if context is not None:
            fields["context_id"] = context
        await self.socket.send(json.dumps({"type": kind, **fields}))

    async def commit(self, text: str, context: str) -> None:
        await self.send("input_text_buffer.append", context, text=text)
        await self.send("input_text_buffer.commit", context)

    async def update(self, context: str | None = None, **session: Any) -> None:
        await self.send("tts_session.updated", context, session=session)

    async def listen(self, *, first: float = FIRST, quiet: float = QUIET) -> Heard:
        """All that comes until it is quiet, or the socket is closed."""
        heard, patience = Heard(), first
        with contextlib.suppress(TimeoutError, ConnectionClosed):
            while True:
                async with asyncio.timeout(patience):
                    frame = _frame(await self.socket.recv())
                heard.frames.append(frame)
                if frame.type != RECEIVED:
                    patience = quiet
        return heard

    async def say(self, text: str, context: str) -> Heard:
        await self.commit(text, context)
        return await self.listen()


def _frame(data: str | bytes) -> Frame:
    now = time.monotonic()
    if isinstance(data, bytes):
        return Frame(now, "binary", None, None, data, {})
    body = json.loads(data)
    kind = str(body.get("type"))
    audio = base64.b64decode(body.get("delta") or "") if kind == DELTA else b""
    return Frame(now, kind, body.get("context_id"), body.get("item_id"), audio, body)
