"""The whole offline stack: together, from the command line, and in the demonstration's parts."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import io
import json
import os
import signal
import sys
import wave
from typing import TYPE_CHECKING, Any

import aiohttp
import nats
import pytest
from nats.aio.msg import Msg

from local.child import NotStarted
from local.demo import DemoFailed, Page, ask, fetch, preferred, samples
from local.emulator_process import ROOT, EmulatorProcess
from local.nats_server import NatsServer
from local.stack import Stack
from local.voices import computable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from nats.aio.client import Client

OFFLINE = {k: v for k, v in os.environ.items() if not k.startswith(("TOGETHER_", "NATS_"))}


async def test_a_stack_tells_each_service_what_it_needs(tmp_path: Path) -> None:
    async with Stack(data=tmp_path, environ={**OFFLINE, "NATS_USER": "somebody"}) as stack:
        assert stack.emulator is not None
        chat, tts = stack.environment("chat"), stack.environment("tts")
        assert set(chat) == {"NATS_URL", "TOGETHER_API_KEY", "TOGETHER_BASE_URL"}
        assert {"NATS_URL", "TOGETHER_API_KEY", "TTS_URL", "MINIO_ENDPOINT"} <= set(tts)
        assert "NATS_USER" not in stack.process_environment("chat")
        assert stack.process_environment("chat", HTTP_PORT="1")["HTTP_PORT"] == "1"
        with pytest.raises(NotStarted, match="in use by another stack"):
            async with Stack(data=tmp_path):
                pass
        async with aiohttp.ClientSession() as http, http.get(chat["TOGETHER_BASE_URL"] + "/models"):
            pass
        client = await nats.connect(chat["NATS_URL"])
        await client.close()


async def test_with_a_key_the_real_provider_is_used() -> None:
    stack = Stack(environ={"TOGETHER_API_KEY": "a-real-key", "PATH": os.environ["PATH"]})
    assert stack.emulator is None
    stack = Stack(environ={"TOGETHER_API_KEY": "a-real-key"}, emulate=True)
    assert stack.emulator is not None


async def test_the_emulator_as_a_process_is_changed_killed_and_started_again() -> None:
    async with EmulatorProcess({"chat": {"replies": ["Hi."]}}) as emulator:
        url = emulator.base_url
        number = await emulator.add_fault(kind="chat.status", status=503, times=1)
        body = {"model": "m", "messages": [{"role": "user", "content": "Hello"}]}
        headers = {"Authorization": "Bearer key"}
        async with aiohttp.ClientSession(headers=headers) as http:
            async with http.post(f"{url}/chat/completions", json=body) as answer:
                assert answer.status == 503
            assert await emulator.hits(number) == 1
            with pytest.raises(ValueError, match="unknown seconsd"):
                await emulator.add_fault(kind="chat.slow", seconsd=1)
            await emulator.change({"chat": {"replies": ["Ho."], "first_token_ms": 0}})
            async with http.post(f"{url}/chat/completions", json=body) as answer:
                assert (await answer.json())["choices"][0]["message"]["content"] == "Ho."
            assert (await emulator.totals())["chats"] == 2
            assert len((await emulator.record("Hello"))["chats"]) == 2
        await emulator.kill()
        await emulator.restart()
        assert emulator.base_url == url
        assert (await emulator.totals())["chats"] == 0
    with pytest.raises(ValueError, match="unknown"):
        EmulatorProcess({"nonsense": 1})


@contextlib.asynccontextmanager
async def command(*words: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *words,
        cwd=ROOT,
        env=OFFLINE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_the_command_prints_the_environment_and_ends_cleanly(
    number: signal.Signals, tmp_path: Path
) -> None:
    words = ("-m", "local", "--data", str(tmp_path), "--s3", "moto")
    async with asyncio.timeout(30), command(*words) as process:
        assert process.stdout is not None
        told: list[str] = []
        while not told or "Ctrl-C" not in told[-1]:
            told.append((await process.stdout.readline()).decode())
            assert told[-1], "it ended early"
        exports = [line for line in told if line.startswith("export ")]
        assert any(line.startswith("export NATS_URL=nats://127.0.0.1:") for line in exports)
        process.send_signal(number)
        assert await process.wait() == 0
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", int(exports[0].rpartition(":")[2]))


async def test_a_wrong_script_ends_the_emulator_with_one_line(tmp_path: Path) -> None:
    file = tmp_path / "script.json"
    file.write_text('{"speech": {"done": "maybe"}}')
    words = ("-m", "local.together_emulator", "--script", str(file))
    async with asyncio.timeout(20), command(*words) as process:
        _, errors = await process.communicate()
    assert process.returncode == 2
    assert b"script.speech.done: 'maybe' is not one of" in errors
    assert errors.count(b"\n") == 1


# ---------------------------------------------------------------- the demonstration


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
    with pytest.raises(DemoFailed, match=r"The model failed: Full. \(provider_overloaded\)"):
        await ask(url, "Please fail.", print, seconds=10)
    services.voice = list  # type: ignore[method-assign]  # a voice that never says anything
    with pytest.raises(DemoFailed, match="the end of its voice is missing"):
        await ask(url, "Hello?", print, seconds=0.3)


async def test_the_page_is_served_with_the_address_of_nats(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("<p>Hello</p>")
    (tmp_path / "main.js").write_text("1;")
    page = Page(tmp_path, "ws://127.0.0.1:1")
    await page.start()
    async with aiohttp.ClientSession() as http:
        async with http.get(page.url) as answer:
            assert await answer.text() == "<p>Hello</p>"
        async with http.get(f"{page.url}config.json") as answer:
            assert await answer.json() == {"nats_url": "ws://127.0.0.1:1"}
        async with http.get(f"{page.url}main.js") as answer:
            assert await answer.text() == "1;"
        wav = f"{page.url}main.js"
        good = {"url": wav, "sha256": hashlib.sha256(b"1;").hexdigest()}
        assert await fetch(good) == b"1;"
        with pytest.raises(DemoFailed, match="not the one"):
            await fetch({**good, "sha256": "0"})
        with pytest.raises(DemoFailed, match="status 404"):
            await fetch({**good, "url": f"{page.url}missing"})
    await page.close()
    empty = Page(tmp_path / "nothing", "")
    await empty.start()
    assert not empty.url


async def test_a_port_that_is_taken_is_not_preferred() -> None:
    async with NatsServer(websocket=False) as server:
        taken = int(server.url.rpartition(":")[2])
        assert preferred(taken) != taken
    assert preferred(taken) == taken


def test_what_is_no_wav_is_refused() -> None:
    with pytest.raises(DemoFailed, match="no WAV"):
        samples(b"something else")
    with pytest.raises(DemoFailed, match="Nothing was spoken"):
        asyncio.run(fetch({"url": None}))
