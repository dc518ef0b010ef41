"""The real nats-server as the offline stack starts it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import aiohttp
import nats
import pytest

from local.nats_server import NatsServer
from local.process import NotStarted

if TYPE_CHECKING:
    from pathlib import Path


async def messages(server: NatsServer, *publish: bytes) -> int:
    """Publishes to a stream, made if need be; how many messages it holds then."""
    async with asyncio.timeout(30):
        client = await nats.connect(server.url)
        stream = client.jetstream()
        await stream.add_stream(name="KEPT", subjects=["kept"])
        for body in publish:
            await stream.publish("kept", body)
        state = (await stream.stream_info("KEPT")).state
        await client.close()
    return state.messages


async def test_it_listens_for_programs_and_browsers() -> None:
    async with NatsServer() as server:
        assert await messages(server, b"one") == 1
        async with (
            aiohttp.ClientSession() as http,
            http.ws_connect(server.ws_url, protocols=("nats",)) as browser,
        ):
            info = await browser.receive(timeout=5)
            assert b"INFO" in info.data


@pytest.mark.parametrize("how", ["kill", "stop", "restart"])
async def test_it_comes_back_on_the_same_ports_with_its_data(how: str) -> None:
    async with NatsServer() as server:
        before = (server.url, server.ws_url)
        pid = server.pid
        assert await messages(server, b"one", b"two") == 2
        if how == "kill":
            await server.kill()
            assert not server.running
        elif how == "stop":
            await server.stop()
            assert not server.running
        await server.restart()
        assert (server.url, server.ws_url) == before
        assert server.pid != pid
        assert await messages(server, b"three") == 3


async def test_data_in_a_given_folder_outlives_it(tmp_path: Path) -> None:
    for expected in (1, 2):
        async with NatsServer(tmp_path, websocket=False) as server:
            assert await messages(server, b"one more") == expected


async def test_a_frozen_server_answers_when_it_is_thawed() -> None:
    async with NatsServer(websocket=False) as server:
        server.freeze()
        asking = asyncio.ensure_future(messages(server, b"one"))
        done, _ = await asyncio.wait({asking}, timeout=0.2)
        assert not done
        server.thaw()
        assert await asking == 1


async def test_users_come_from_extra_configuration() -> None:
    users = "authorization { users: [ { user: ann, password: secret-of-ann } ] }"
    async with NatsServer(websocket=False, config=users) as server:
        url = server.url.replace("nats://", "nats://ann:secret-of-ann@")
        client = await nats.connect(url)
        assert client.is_connected
        await client.close()


async def test_a_server_that_cannot_start_says_why() -> None:
    async with NatsServer(websocket=False) as first:
        port = int(first.url.rpartition(":")[2])
        with pytest.raises(NotStarted, match="address already in use"):
            async with NatsServer(websocket=False, port=port):
                pass
    with pytest.raises(NotStarted, match="Parse error"):
        async with NatsServer(websocket=False, config="nonsense {{"):
            pass
