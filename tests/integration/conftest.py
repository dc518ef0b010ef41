"""A real nats-server for each file of tests, and a connection to it for each test."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from local.nats_server import NatsServer
from tests.integration.harness import connected, emptied, provisioned

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from shared.nats.connection import Connection


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server() -> AsyncIterator[NatsServer]:
    async with NatsServer(websocket=False) as running:
        yield running


@pytest.fixture
async def empty(server: NatsServer) -> AsyncIterator[Connection]:
    """Connected to a server without any stream."""
    async with connected(server.url) as connection:
        await emptied(connection)
        yield connection


@pytest.fixture
async def connection(server: NatsServer) -> AsyncIterator[Connection]:
    """Connected to a server as the services find it, without a message."""
    async with connected(server.url) as connection:
        await provisioned(connection)
        yield connection
