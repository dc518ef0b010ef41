"""A real nats-server for each test, and a connection to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from local.nats_server import NatsServer
from tests.integration.harness import connected, provisioned

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from shared.nats.connection import Connection


@pytest.fixture
async def server() -> AsyncIterator[NatsServer]:
    """Of its own: it starts within 40 ms, while a stream that is deleted and made again under the
    same name finds, one time in two hundred on a busy machine, what the old one held."""
    async with NatsServer(websocket=False) as running:
        yield running


@pytest.fixture
async def empty(server: NatsServer) -> AsyncIterator[Connection]:
    """Connected to a server without any stream."""
    async with connected(server.url) as connection:
        yield connection


@pytest.fixture
async def connection(empty: Connection) -> Connection:
    """Connected to a server as the services find it."""
    await provisioned(empty)
    return empty
