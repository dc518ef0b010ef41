"""A turn as the demonstration asks it, against services that say what they are told."""

from __future__ import annotations

import hashlib
import io
import json
import wave
from typing import TYPE_CHECKING, Any

import nats
import pytest
from aiohttp import web
from nats.aio.msg import Msg

from local.ask import TurnFailed, ask, fetch, samples
from local.nats_server import NatsServer
from local.voices import computable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from nats.aio.client import Client


class FakeServices:
    """Publishes what the two services would for one turn, as the wire contract has it."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.wav = b""

    async def listen(self) -> None:
        stream = self.client.jetstream()
        await stream.add_stream(name="CHAT_REQUESTS", subjects=["chat.request"])
        await self.client.subscribe("chat.request", cb=self.on_request)
        await self.client.flush()
        await self.client.flush()

    async def on_request(self, message: Msg) -> None:
        request = json.loads(message.data)
        for event in self.words(request["content"]):
            body = json.dumps({**event, "attempt": 1}).encode()
            await self.client.publish(f"chat.delta.{request['conversation_id']}", body)
        for headers, audio in self.voice():
            subject = f"tts.audio.{request['conversation_id']}"
            await self.client.publish(subject, audio, headers=headers)

    def words(self, question: str) -> list[dict[str, Any]]:
        if "fail" in question:
            error = {"code": "provider_overloaded", "message": "Full.", "retryable": True}
            return [{"type": "started"}, {"type": "failed", "error": error}]
        return [
            {"type": "started"},
            {"type": "text", "text": "Good "},
            {"type": "text", "text": "day."},
            {"type": "done", "text": "Good day."},
        ]

    def voice(self) -> list[tuple[dict[str, str], bytes]]:
        """Two attempts: the second speaks again what the first did not finish."""
        pcm = [computable("Good "), computable("day.")]
        out = io.BytesIO()
        with wave.open(out, "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(24_000)
            file.writeframes(b"".join(pcm))
        self.wav = out.getvalue()
        return [
            event("started", 1),
            chunk(1, 0, pcm[0]),
            event("piece_done", 1, index=0),
            chunk(1, 1, pcm[1][:100]),
            event("started", 2),
            chunk(1, 1, b"too late"),
            chunk(2, 1, pcm[1]),
            event("piece_done", 2, index=1),
            event("stored", 2, url="", sha256=hashlib.sha256(self.wav).hexdigest()),
        ]


def event(kind: str, attempt: int, **more: Any) -> tuple[dict[str, str], bytes]:
    return {"Parley-Type": kind}, json.dumps({"attempt": attempt, **more}).encode()


def chunk(attempt: int, piece: int, pcm: bytes) -> tuple[dict[str, str], bytes]:
    facts = {"Parley-Attempt": str(attempt), "Parley-Piece": str(piece)}
    return {"Parley-Type": "chunk", **facts}, pcm


@pytest.fixture
async def answered() -> AsyncIterator[tuple[str, FakeServices]]:
    async with NatsServer(websocket=False) as server:
        client = await nats.connect(server.url)
        services = FakeServices(client)
        await services.listen()
        yield server.url, services
        await client.close()


async def test_the_demonstration_hears_a_turn(answered: tuple[str, FakeServices]) -> None:
    url, services = answered
    said: list[str] = []
    heard = await ask(url, "Hello?", said.append, seconds=10)
    assert "".join(said) == heard.text == "Good day."
    assert heard.pcm == samples(services.wav)
    assert heard.first_word is not None
    assert heard.first_sound is not None


async def test_the_demonstration_says_what_failed(answered: tuple[str, FakeServices]) -> None:
    url, services = answered
    with pytest.raises(TurnFailed, match=r"The model failed: Full. \(provider_overloaded\)"):
        await ask(url, "Please fail.", print, seconds=10)
    services.voice = list  # type: ignore[method-assign]  # a voice that never says anything
    with pytest.raises(TurnFailed, match="the end of its voice is missing"):
        await ask(url, "Hello?", print, seconds=0.3)


async def test_what_is_fetched_is_what_the_event_speaks_of() -> None:
    app = web.Application()

    async def voice(_request: web.Request) -> web.Response:
        return web.Response(body=b"1;")

    app.router.add_get("/voice.wav", voice)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}/voice.wav"
    good = {"url": url, "sha256": hashlib.sha256(b"1;").hexdigest()}
    assert await fetch(good) == b"1;"
    with pytest.raises(TurnFailed, match="not the one"):
        await fetch({**good, "sha256": "0"})
    with pytest.raises(TurnFailed, match="status 404"):
        await fetch({**good, "url": f"{url}.gone"})
    await runner.cleanup()


async def test_what_is_no_wav_is_refused() -> None:
    with pytest.raises(TurnFailed, match="no WAV"):
        samples(b"something else")
    with pytest.raises(TurnFailed, match="Nothing was spoken"):
        await fetch({"url": None})
