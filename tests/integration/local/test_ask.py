"""A turn as the demonstration asks it, and what it says when something is missing."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio
from aiohttp import web

from local.ask import TurnFailed, ask, fetch, samples
from tests.system import System

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

in_loop = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[System]:
    script = {"chat": {"first_token_ms": 5, "replies": ["Good day."]}}
    async with System(tmp_path_factory.mktemp("system"), script=script) as system:
        await system.up()
        yield system


@in_loop
async def test_the_demonstration_hears_a_turn(running: System) -> None:
    said: list[str] = []
    heard = await ask(running.nats.url, "Hello?", said.append, seconds=30)
    stored = heard.stored
    assert stored is not None

    assert "".join(said) == heard.text == "Good day."
    assert heard.sound.pcm == samples(await fetch(stored.url, stored.sha256))
    assert heard.pieces == 1
    assert heard.first_word is not None
    assert heard.first_sound is not None
    assert heard.text_done is not None


@in_loop
async def test_the_demonstration_says_what_failed(running: System) -> None:
    running.emulator.change({"faults": [{"kind": "chat.status", "status": 400, "times": 9}]})
    with pytest.raises(TurnFailed, match=r"The model failed: .* \(provider_refused\)"):
        await ask(running.nats.url, "Please fail.", print, seconds=30)
    running.emulator.change({"faults": [], "speech": {"first_audio_ms": 60_000}})
    with pytest.raises(TurnFailed, match="the end of its voice is missing"):
        await ask(running.nats.url, "Hello?", print, seconds=2)


async def test_the_demonstration_says_that_nobody_is_there() -> None:
    with pytest.raises(TurnFailed, match="cannot be reached: is it running"):
        await ask("nats://127.0.0.1:1", "Hello?", print)


async def test_what_is_fetched_is_what_the_event_speaks_of() -> None:
    app = web.Application()

    async def voice(_request: web.Request) -> web.Response:
        return web.Response(body=b"1;")

    app.router.add_get("/voice.wav", voice)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}/voice.wav"
    digest = hashlib.sha256(b"1;").hexdigest()
    assert await fetch(url, digest) == b"1;"
    with pytest.raises(TurnFailed, match="not the one"):
        await fetch(url, "0")
    with pytest.raises(TurnFailed, match="status 404"):
        await fetch(f"{url}.gone", digest)
    await runner.cleanup()


async def test_what_is_no_wav_is_refused() -> None:
    with pytest.raises(TurnFailed, match="no WAV"):
        samples(b"something else")
    with pytest.raises(TurnFailed, match="Nothing was spoken"):
        await fetch(None, "")
