"""Probes, metrics and the AsyncAPI document over HTTP."""

from __future__ import annotations

import asyncio
import json
import socket
import urllib.error
import urllib.request
from typing import TYPE_CHECKING

import pytest
from faststream.asgi import AsgiFastStream

from shared.process.http import HttpServer, Probes
from shared.process.metrics import DRAINING
from shared.process.settings import BadSetting

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.timeout(120)


class Waiting:
    """What a service waits for."""

    def __init__(self, **reasons: str) -> None:
        self.reasons = reasons

    async def __call__(self) -> dict[str, str]:
        return self.reasons


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


async def test_it_is_ready_while_nothing_is_waited_for(server: HttpServer, probes: Probes) -> None:
    nats, store = Waiting(), Waiting()
    probes.checks, probes.ready = [nats, store], True
    assert await get(server, "/readyz") == (200, "ok\n")
    nats.reasons = {"NATS": "does not answer"}
    assert await get(server, "/readyz") == (503, "waiting for NATS: does not answer\n")
    store.reasons = {"store": "the key is refused"}
    assert await get(server, "/readyz") == (
        503,
        "waiting for NATS: does not answer; waiting for store: the key is refused\n",
    )
    nats.reasons = store.reasons = {}
    assert await get(server, "/readyz") == (200, "ok\n")
    probes.ready = False
    assert await get(server, "/readyz") == (503, "starting or stopping\n")


async def test_metrics_and_the_contract_are_told(server: HttpServer) -> None:
    DRAINING.set(1)
    _, metrics = await get(server, "/metrics")
    assert "parley_draining 1.0" in metrics
    assert "_created" not in metrics  # a series more for each, which nobody asks for
    _, document = await get(server, "/asyncapi")
    assert json.loads(document)["asyncapi"].startswith("3.")
    status, page = await get(server, "/asyncapi.html")
    assert (status, page[:15]) == (200, "<!doctype html>")


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
