"""The floor: a minimal program without any queue, model stream to speech socket, whole sentences.

    python -m bench.direct BASE_URL TTS_URL TURNS AT_ONCE

prints one line of JSON for each turn and one with its own CPU seconds. It keeps nothing, survives
nothing, and hears the voice to its end only because the emulator sends a `done` for each commit.
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

import aiohttp
from websockets.asyncio.client import ClientConnection, connect

QUESTION = "Tell me about the sea."
SENTENCE = re.compile(r"(?<=[.!?])\s+")
HEADERS = {"Authorization": "Bearer bench"}
VOICE = {
    "model": "hexgrad/Kokoro-82M",
    "voice": "af_heart",
    "response_format": "pcm",
    "segment": "never",
}


async def _hear(socket: ClientConnection, heard: list[float], sizes: list[int]) -> None:
    """Until cancelled: notes when audio came and how much; -1 marks a done."""
    async for frame in socket:
        event = json.loads(frame)
        kind = event["type"]
        if kind == "conversation.item.audio_output.delta":
            heard.append(time.monotonic())
            sizes.append(len(base64.b64decode(event["delta"])))
        elif kind == "conversation.item.audio_output.done":
            sizes.append(-1)


async def _say(socket: ClientConnection, text: str) -> None:
    for kind, more in (("append", {"text": text}), ("commit", {})):
        await socket.send(json.dumps({"type": f"input_text_buffer.{kind}", **more}))


async def turn(http: aiohttp.ClientSession, base_url: str, tts_url: str) -> dict[str, float]:
    """One turn on a socket that is open already, as a voice agent would have it."""
    async with connect(
        f"{tts_url}?{urllib.parse.urlencode(VOICE)}", additional_headers=HEADERS, compression=None
    ) as socket:
        await socket.recv()
        heard: list[float] = []
        sizes: list[int] = []
        listener = asyncio.create_task(_hear(socket, heard, sizes))
        began = time.monotonic()
        body = {
            "model": "openai/gpt-oss-120b",
            "stream": True,
            "messages": [{"role": "user", "content": QUESTION}],
        }
        waiting, commits = "", 0
        async with http.post(f"{base_url}/chat/completions", json=body, headers=HEADERS) as answer:
            async for line in answer.content:
                if not line.startswith(b"data: {"):
                    continue
                for choice in json.loads(line[6:])["choices"]:
                    waiting += choice["delta"].get("content") or ""
                *sentences, waiting = SENTENCE.split(waiting)
                for sentence in sentences:
                    await _say(socket, sentence)
                    commits += 1
        if waiting.strip():
            await _say(socket, waiting)
            commits += 1
        async with asyncio.timeout(120):
            while sizes.count(-1) < commits:  # noqa: ASYNC110  minimal on purpose
                await asyncio.sleep(0.005)
        listener.cancel()
        return {
            "first_audio": heard[0] - began,
            "whole": time.monotonic() - began,
            "bytes": sum(size for size in sizes if size > 0),
        }


async def main(base_url: str, tts_url: str, turns: int, at_once: int) -> None:
    async with aiohttp.ClientSession() as http:
        await turn(http, base_url, tts_url)  # imports and connections are not what is measured
        before = resource.getrusage(resource.RUSAGE_SELF)
        for _ in range(turns // at_once):
            for result in await asyncio.gather(
                *(turn(http, base_url, tts_url) for _ in range(at_once))
            ):
                print(json.dumps(result), flush=True)
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(json.dumps({"cpu": cpu, "memory_mb": after.ru_maxrss / 1024}), flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
