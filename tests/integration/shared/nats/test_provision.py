"""Streams, buckets and consumers on a real server: made, verified, changed only when told to."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from local.nats_server import NatsServer
from local.process import ROOT
from shared.nats import read
from shared.nats.connection import Connection
from shared.nats.provision import (
    Mismatch,
    Retention,
    apply,
    consumers,
    differences,
    ensure_consumer,
    streams,
    verify,
)
from shared.nats.publish import publish
from tests.integration.harness import connected, emptied

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


pytestmark = pytest.mark.timeout(30)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server() -> AsyncIterator[NatsServer]:
    async with NatsServer(websocket=False) as running:
        yield running


@pytest.fixture
async def connection(server: NatsServer) -> AsyncIterator[Connection]:
    """On a server without any stream."""
    async with connected(server.url) as connection:
        await emptied(connection)
        yield connection


async def command(url: str, *arguments: str, **environ: str) -> tuple[int, str, str]:
    ended = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "shared.nats.provision", *arguments],
        env={**os.environ, "NATS_URL": url, **environ},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    return ended.returncode, ended.stdout, ended.stderr


async def test_everything_is_made_once_and_found_again(connection: Connection) -> None:
    await verify(connection, 1, Retention())
    names = (await connection.api("STREAM.NAMES"))["streams"]
    assert set(names) == {config["name"] for config in streams(1, Retention())}
    for stream, wanted in consumers():
        info = await connection.api(f"CONSUMER.INFO.{stream}.{wanted['durable_name']}")
        assert differences(wanted, info["config"]) == []
    before = [await connection.api(f"STREAM.INFO.{name}") for name in sorted(names)]
    await verify(connection, 1, Retention())
    after = [await connection.api(f"STREAM.INFO.{name}") for name in sorted(names)]
    assert [i["created"] for i in after] == [i["created"] for i in before]


async def test_two_that_start_at_once_do_not_disturb_each_other(
    connection: Connection, server: NatsServer
) -> None:
    async with connected(server.url) as other:
        await asyncio.gather(
            *(verify(b, 1, Retention()) for b in (connection, other, connection, other))
        )


async def test_every_event_is_republished_on_its_literal_subject(connection: Connection) -> None:
    await verify(connection, 1, Retention())
    listening = await connection.client.subscribe("chat.delta")
    await connection.client.flush()
    await connection.client.flush()
    await publish(connection, "chat.delta.c", b"one", {"Parley-Turn": "t"})
    message = await listening.next_msg(timeout=5)
    assert (message.data, message.headers and message.headers["Parley-Turn"]) == (b"one", "t")


async def test_a_stream_with_other_settings_is_named_with_both_and_left_alone(
    connection: Connection,
) -> None:
    await verify(connection, 1, Retention(deltas=60))
    with pytest.raises(Mismatch) as mismatch:
        await verify(connection, 1, Retention(deltas=120))
    told = str(mismatch.value)
    assert "stream CHAT_DELTAS" in told
    assert "max_age is 60000000000, must be 120000000000" in told
    assert "--apply" in told
    info = await connection.api("STREAM.INFO.CHAT_DELTAS")
    assert info["config"]["max_age"] == 60_000_000_000


async def test_a_consumer_with_other_settings_is_named_with_both(connection: Connection) -> None:
    await verify(connection, 1, Retention())
    stream, config = consumers()[1]
    other = config | {"ack_wait": 1_000_000_000}
    with pytest.raises(
        Mismatch,
        match=r"consumer chat-workers of CHAT_REQUESTS .* ack_wait is "
        r"6000000000, must be 1000000000",
    ):
        await ensure_consumer(connection, stream, other)


async def test_what_differs_is_changed_when_told_to_and_nothing_is_lost(
    connection: Connection,
) -> None:
    await verify(connection, 1, Retention(deltas=60))
    await publish(connection, "chat.delta.c", b"kept")
    stream, config = consumers()[1]
    body = {"stream_name": stream, "config": config | {"ack_wait": 10**9}, "action": "update"}
    await connection.api(f"CONSUMER.CREATE.{stream}.chat-workers.chat.request.*", body)
    lines = await apply(connection, 1, Retention(deltas=120))
    assert len(lines) == 2
    assert "max_age is 60000000000, must be 120000000000" in lines[0]
    assert "ack_wait is 1000000000, must be 6000000000" in lines[1]
    assert await apply(connection, 1, Retention(deltas=120)) == []
    await verify(connection, 1, Retention(deltas=120))
    found = await read.last(connection, "CHAT_DELTAS", "chat.delta.c")
    assert found is not None
    assert found.data == b"kept"


async def test_the_command_makes_verifies_and_changes(
    connection: Connection, server: NatsServer
) -> None:
    status, told, _ = await command(server.url, "--apply")
    assert (status, told) == (0, "everything is as it should be\n")
    changed = {"RETENTION_DELTAS": "600"}
    status, told, error = await command(server.url, **changed)
    assert (status, told) == (1, "")
    assert "max_age is 86400000000000, must be 600000000000" in error
    assert error.count("\n") == 1
    status, told, _ = await command(server.url, "--apply", **changed)
    assert status == 0
    assert told.startswith("changed stream CHAT_DELTAS")
    status, told, _ = await command(server.url, **changed)
    assert (status, told) == (0, "everything is as it should be\n")
    await verify(connection, 1, Retention(deltas=600))


async def test_the_command_cannot_do_what_the_server_refuses(
    connection: Connection, server: NatsServer
) -> None:
    await connection.api("STREAM.CREATE.OTHER", {"name": "OTHER", "subjects": ["chat.>"]})
    status, _, error = await command(server.url, "--apply")
    assert status == 1
    assert "overlap" in error
    assert error.count("\n") == 1


async def test_the_command_names_a_wrong_setting(server: NatsServer) -> None:
    (status, _, error), (away, _, nobody) = await asyncio.gather(
        command(server.url, STREAM_REPLICAS="many"),
        command("nats://127.0.0.1:1"),
    )
    assert status == 2
    assert "STREAM_REPLICAS" in error
    assert error.count("\n") == 1
    assert away == 1
    assert nobody.splitlines()[-1].startswith("NATS_URL: cannot connect")
