"""The floor: a minimal program without any queue, model stream to speech socket.

    python -m bench.direct BASE_URL TTS_URL

reads a line of JSON for each batch, `{"mode": "open", "turns": 4, "at_once": 2}`, and answers with
one: what each turn came to, and the CPU seconds and memory of this process. It keeps nothing,
survives nothing, and hears the voice to its end only because the emulator sends a `done` for each
text that it speaks.

`open`: on a socket that is open before the question comes, in whole sentences that it cuts itself,
as a hand-written voice agent would. `example`: as the provider's documentation shows, with the
connections of the turn's own, made one after the other, each token appended as it comes, the
sentences left to the server.
"""

from __future__ import annotations

import asyncio
import base64
import json
import re
import resource
import sys
import time
import urllib.parse
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import aiohttp
from websockets.asyncio.client import ClientConnection, connect

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

QUESTION = "Tell me about the sea."
SENTENCE = re.compile(r"(?<=[.!?])\s+")
HEADERS = {"Authorization": "Bearer bench"}
BODY = {
    "model": "openai/gpt-oss-120b",
    "stream": True,
    "messages": [{"role": "user", "content": QUESTION}],
}
VOICE = {"model": "hexgrad/Kokoro-82M", "voice": "af_heart", "response_format": "pcm"}


@dataclass(slots=True)
class Heard:
    at: list[float] = field(default_factory=list)
    bytes: int = 0
    dones: int = 0
    last: float = 0.0


async def _hear(socket: ClientConnection, heard: Heard, whole: asyncio.Event, texts: int) -> None:
    """Until so many texts were spoken; where the server cuts them, one more for each sentence."""
    async for frame in socket:
        event = json.loads(frame)
        kind = event["type"]
        if kind == "conversation.item.audio_output.delta":
            heard.at.append(time.monotonic())
            heard.bytes += len(base64.b64decode(event["delta"]))
        elif kind == "conversation.item.audio_output.done":
            heard.dones += 1
            if heard.dones == texts:
                heard.last = time.monotonic()
                whole.set()


async def _say(socket: ClientConnection, text: str) -> None:
    for kind, more in (("append", {"text": text}), ("commit", {})):
        await socket.send(json.dumps({"type": f"input_text_buffer.{kind}", **more}))


async def _tokens(http: aiohttp.ClientSession, base_url: str) -> AsyncIterator[str]:
    url = f"{base_url}/chat/completions"
    async with http.post(url, json=BODY, headers=HEADERS) as answer:
        async for line in answer.content:
            if line.startswith(b"data: {"):
                for choice in json.loads(line[6:])["choices"]:
                    yield choice["delta"].get("content") or ""


async def _sentences(socket: ClientConnection, tokens: AsyncIterator[str]) -> None:
    waiting = ""
    async for token in tokens:
        *sentences, waiting = SENTENCE.split(waiting + token)
        for sentence in sentences:
            await _say(socket, sentence)
    if waiting.strip():
        await _say(socket, waiting)


async def _as_they_come(socket: ClientConnection, tokens: AsyncIterator[str]) -> None:
    async for token in tokens:
        if token:
            await socket.send(json.dumps({"type": "input_text_buffer.append", "text": token}))
    await socket.send(json.dumps({"type": "input_text_buffer.commit"}))


class Direct:
    def __init__(self, base_url: str, tts_url: str, sentences: int) -> None:
        self._base_url, self._tts_url, self._texts = base_url, tts_url, sentences

    async def turn(self, mode: str, http: aiohttp.ClientSession) -> dict[str, float]:
        heard, whole = Heard(), asyncio.Event()
        async with AsyncExitStack() as stack:
            began = time.monotonic()
            if mode == "example":
                http = await stack.enter_async_context(aiohttp.ClientSession())
            voice = VOICE if mode == "example" else {**VOICE, "segment": "never"}
            url = f"{self._tts_url}?{urllib.parse.urlencode(voice)}"
            socket = await stack.enter_async_context(
                connect(url, additional_headers=HEADERS, compression=None)
            )
            await socket.recv()
            listener = asyncio.create_task(_hear(socket, heard, whole, self._texts))
            if mode == "open":
                began = time.monotonic()
            tokens = _tokens(http, self._base_url)
            await (_as_they_come if mode == "example" else _sentences)(socket, tokens)
            async with asyncio.timeout(120):
                await whole.wait()
            listener.cancel()
        return {
            "first_audio": heard.at[0] - began,
            "whole": heard.last - began,
            "bytes": heard.bytes,
        }

    async def batch(self, order: dict[str, Any], http: aiohttp.ClientSession) -> dict[str, Any]:
        before = _cpu()
        turns: list[dict[str, float]] = []
        for _ in range(order["turns"] // order["at_once"]):
            turns += await asyncio.gather(
                *(self.turn(order["mode"], http) for _ in range(order["at_once"]))
            )
        used = resource.getrusage(resource.RUSAGE_SELF)
        return {"turns": turns, "cpu": _cpu() - before, "memory_mb": used.ru_maxrss / 1024}


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def main(base_url: str, tts_url: str, sentences: int) -> None:
    direct = Direct(base_url, tts_url, sentences)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as http:
        while line := await asyncio.to_thread(sys.stdin.readline):
            print(json.dumps(await direct.batch(json.loads(line), http)), flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
