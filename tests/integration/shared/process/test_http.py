"""Probes, metrics and the AsyncAPI document over HTTP."""

from __future__ import annotations

import asyncio
import json
import socket
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, cast

import nats.errors
import pytest
from faststream.asgi import AsgiFastStream

from shared.process.http import HttpServer, Probes
from shared.process.metrics import SOCKETS
from shared.process.settings import BadSetting

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from nats.aio.client import Client

pytestmark = pytest.mark.timeout(30)


class Nats:
    """A client that is asked whether the server answers."""

    def __init__(self) -> None:
        self.away = False

    async def flush(self) -> None:
        if self.away:
            raise nats.errors.FlushTimeoutError


@pytest.fixture
def probes() -> Probes:
    return Probes()


@pytest.fixture
async def server(probes: Probes) -> AsyncIterator[HttpServer]:
    app = AsgiFastStream(asgi_routes=probes.routes(), logger=None)
    running = HttpServer(app, "127.0.0.1", 0)
    running.start()
    yield running
    await running.stop()


async def get(server: HttpServer, path: str) -> tuple[int, str]:
    def fetch() -> tuple[int, str]:
        try:
            url = f"http://127.0.0.1:{server.port}{path}"
            with urllib.request.urlopen(url, timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as refused:
            with refused:
                return refused.code, refused.read().decode()

    return await asyncio.to_thread(fetch)


async def test_a_process_lives_before_it_is_ready(server: HttpServer) -> None:
    assert await get(server, "/livez") == (200, "ok\n")
    assert await get(server, "/readyz") == (503, "starting or stopping\n")


async def test_it_is_ready_while_nats_answers(server: HttpServer, probes: Probes) -> None:
    client = Nats()
    probes.client, probes.ready = cast("Client", client), True
    assert await get(server, "/readyz") == (200, "ok\n")
    client.away = True
    assert await get(server, "/readyz") == (503, "NATS does not answer\n")
    client.away = False
    assert await get(server, "/readyz") == (200, "ok\n")
    probes.ready = False
    assert await get(server, "/readyz") == (503, "starting or stopping\n")


async def test_metrics_and_the_contract_are_told(server: HttpServer) -> None:
    SOCKETS.set(3)
    _, metrics = await get(server, "/metrics")
    assert "parley_speech_sockets 3.0" in metrics
    _, document = await get(server, "/asyncapi")
    assert json.loads(document)["asyncapi"].startswith("3.")


async def test_nobody_answers_after_the_stop(probes: Probes) -> None:
    running = HttpServer(AsgiFastStream(asgi_routes=probes.routes(), logger=None), "127.0.0.1", 0)
    running.start()
    await get(running, "/livez")
    await running.stop()
    with pytest.raises(OSError, match="refused"):
        await get(running, "/livez")


def test_a_port_that_is_taken_is_a_wrong_setting() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(BadSetting, match=f"HTTP_PORT: cannot listen on 127.0.0.1:{port}"):
            HttpServer(AsgiFastStream(logger=None), "127.0.0.1", port)
