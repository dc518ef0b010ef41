"""The whole offline stack: together, from the command line, and as the demonstration."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from typing import TYPE_CHECKING

import aiohttp
import nats
import pytest
from minio import Minio

from local.emulator_process import EmulatorProcess
from local.nats_server import NatsServer
from local.process import ROOT, NotStarted
from local.service import Service
from local.stack import Stack

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

OFFLINE = {k: v for k, v in os.environ.items() if not k.startswith(("TOGETHER_", "NATS_"))}


async def test_a_stack_tells_each_service_what_it_needs(tmp_path: Path) -> None:
    async with Stack(data=tmp_path, environ={**OFFLINE, "NATS_USER": "somebody"}) as stack:
        assert stack.emulator is not None
        chat, tts = stack.environment("chat"), stack.environment("tts")
        provider = {"TOGETHER_API_KEY", "TOGETHER_BASE_URL"}
        assert set(chat) == {"NATS_URL", "NATS_USER", "NATS_PASSWORD", *provider}
        assert {"NATS_URL", "TOGETHER_API_KEY", "TTS_URL", "MINIO_ENDPOINT"} <= set(tts)
        assert stack.process_environment("chat")["NATS_USER"] == "chat"
        assert "NATS_USER" not in stack.environment()
        assert stack.process_environment("chat", HTTP_PORT="1")["HTTP_PORT"] == "1"
        with pytest.raises(NotStarted, match="in use by another stack"):
            async with Stack(data=tmp_path):
                pass
        async with aiohttp.ClientSession() as http, http.get(chat["TOGETHER_BASE_URL"] + "/models"):
            pass
        client = await nats.connect(chat["NATS_URL"])
        await client.close()


async def test_a_stack_keeps_what_it_was_given_until_a_fresh_one_is_wanted(
    tmp_path: Path,
) -> None:
    async with Stack(data=tmp_path, emulate=False) as stack:
        kind = stack.s3.kind
        assert await messages(stack) == 1
        assert await asyncio.to_thread(buckets, stack, "first") == ["first"]
    async with Stack(data=tmp_path, emulate=False) as stack:
        assert await messages(stack) == 2
        assert await asyncio.to_thread(buckets, stack, "second") == ["first", "second"]
    assert names(tmp_path) == {"accounts", "in-use", "logs", "nats", kind}
    async with Stack(data=tmp_path, fresh=True, emulate=False) as stack:
        assert await messages(stack) == 1
        assert await asyncio.to_thread(buckets, stack, "third") == ["third"]


async def test_a_page_shows_a_token_an_application_its_login_and_a_program_may_do_everything(
    tmp_path: Path,
) -> None:
    async with Stack(data=tmp_path, emulate=False, origins=["http://127.0.0.1:1"]) as stack:
        await messages(stack)
        environ = stack.process_environment("access", HTTP_PORT="0")
        async with Service("access", environ, log=tmp_path / "access.log"):
            by_page = {"error_cb": ignore, "allow_reconnect": False, "connect_timeout": 20}
            for shown in ({}, {"token": "guess"}):
                with pytest.raises(nats.errors.Error, match=r"(?i)authorization"):
                    await nats.connect(stack.nats.ws_url, **by_page, **shown)
            page = await nats.connect(
                stack.nats.ws_url, token=stack.accounts.token("c" * 22), **by_page
            )
            await page.publish("$JS.API.STREAM.DELETE.KEPT")
            await page.flush()
            await page.close()
            async with aiohttp.ClientSession() as http:
                with pytest.raises(aiohttp.WSServerHandshakeError, match="403"):
                    await http.ws_connect(stack.nats.ws_url, origin="http://evil.example")
        assert await messages(stack) == 2
        client = await nats.connect(stack.nats.url, **login(tmp_path, "client"), error_cb=ignore)
        with pytest.raises(nats.errors.Error):
            await client.jetstream().stream_info("KEPT")
        await client.close()
        assert (tmp_path / "accounts").stat().st_mode & 0o077 == 0


async def test_a_stack_finds_what_was_kept_before_there_were_accounts(tmp_path: Path) -> None:
    async with NatsServer(tmp_path / "nats", websocket=False) as server:
        client = await nats.connect(server.url)
        await client.jetstream().add_stream(name="KEPT", subjects=["kept"])
        await client.jetstream().publish("kept", b"")
        await client.close()
    async with Stack(data=tmp_path, emulate=False) as stack:
        assert await messages(stack) == 2


async def ignore(_error: Exception) -> None: ...


def login(folder: Path, user: str) -> dict[str, str]:
    password = (folder / "accounts" / "secrets" / f"nats_{user}").read_text().strip()
    return {"user": user, "password": password}


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


async def messages(stack: Stack) -> int:
    """Publishes one more; how many there are then."""
    client = await nats.connect(stack.nats.url)
    stream = client.jetstream()
    await stream.add_stream(name="KEPT", subjects=["kept"])
    await stream.publish("kept", b"")
    found = (await stream.stream_info("KEPT")).state.messages
    await client.close()
    return found


def buckets(stack: Stack, new: str) -> list[str]:
    """Makes one more; those that there are then."""
    login = (stack.s3.access_key, stack.s3.secret_key)
    store = Minio(stack.s3.endpoint, *login, secure=False, region=stack.s3.region)
    store.make_bucket(new)
    return [bucket.name for bucket in store.list_buckets()]


async def test_with_a_key_the_real_provider_is_used() -> None:
    stack = Stack(environ={"TOGETHER_API_KEY": "a-real-key", "PATH": os.environ["PATH"]})
    assert stack.emulator is None
    stack = Stack(environ={"TOGETHER_API_KEY": "a-real-key"}, emulate=True)
    assert stack.emulator is not None


async def test_the_emulator_as_a_process_is_changed_killed_and_started_again() -> None:
    async with EmulatorProcess({"chat": {"replies": ["Hi."]}}) as emulator:
        url = emulator.base_url
        await emulator.add_fault(kind="chat.status", status=503, times=1)
        body = {"model": "openai/gpt-oss-120b", "messages": [{"role": "user", "content": "Hello"}]}
        headers = {"Authorization": "Bearer key"}
        async with aiohttp.ClientSession(headers=headers) as http:
            async with http.post(f"{url}/chat/completions", json=body) as answer:
                assert answer.status == 503
            with pytest.raises(ValueError, match="unknown seconsd"):
                await emulator.add_fault(kind="chat.slow", seconsd=1)
            await emulator.change({"chat": {"replies": ["Ho."], "first_token_ms": 0}})
            async with http.post(f"{url}/chat/completions", json=body) as answer:
                assert (await answer.json())["choices"][0]["message"]["content"] == "Ho."
            assert (await emulator.totals())["chats"] == 2
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
    words = ("-m", "local", "--data", str(tmp_path), "--s3", "seaweedfs")
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
    words = ("-m", "local.together", "--script", str(file))
    async with asyncio.timeout(20), command(*words) as process:
        _, errors = await process.communicate()
    assert process.returncode == 2
    assert b"script.speech.done: 'maybe' is not one of" in errors
    assert errors.count(b"\n") == 1
