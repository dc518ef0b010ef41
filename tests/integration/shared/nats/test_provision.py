"""Streams, buckets and consumers on a real server: made, verified, changed only when told to."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys

import pytest

from local.nats_server import NatsServer
from local.process import ROOT
from shared.contract import CHAT_WORKERS
from shared.nats import read
from shared.nats.connection import Connection
from shared.nats.provision import (
    Leases,
    Mismatch,
    apply,
    assets_of,
    consumer,
    consumers,
    differences,
    ensure,
    provision,
    say_storage,
    streams,
    verify,
)
from shared.nats.publish import publish
from shared.process.settings import Retention
from tests.integration.harness import connected

pytestmark = pytest.mark.timeout(120)


async def command(url: str, *arguments: str, **environ: str) -> tuple[int, str, str]:
    ended = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "shared.provision", *arguments],
        env={**os.environ, "NATS_URL": url, **environ},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return ended.returncode, ended.stdout, ended.stderr


async def test_everything_is_made_once_and_found_again(empty: Connection) -> None:
    await verify(empty, 1, Retention())
    names = (await empty.api("STREAM.NAMES"))["streams"]
    assert set(names) == {stream.name for stream in streams(1, Retention())}
    for wanted in consumers():
        info = await empty.api(wanted.info)
        assert differences(wanted.config, info["config"]) == []
    before = [await empty.api(f"STREAM.INFO.{name}") for name in sorted(names)]
    await verify(empty, 1, Retention())
    after = [await empty.api(f"STREAM.INFO.{name}") for name in sorted(names)]
    assert [i["created"] for i in after] == [i["created"] for i in before]


async def test_two_that_start_at_once_do_not_disturb_each_other(
    empty: Connection, server: NatsServer
) -> None:
    async with connected(server.url) as other:
        await asyncio.gather(*(verify(b, 1, Retention()) for b in (empty, other, empty, other)))


async def test_every_event_is_republished_on_its_literal_subject(empty: Connection) -> None:
    await verify(empty, 1, Retention())
    listening = await empty.client.subscribe("chat.delta")
    await empty.client.flush()
    await empty.client.flush()
    await publish(empty, "chat.delta.c", b"one", {"Parley-Turn": "t"})
    message = await listening.next_msg(timeout=5)
    assert (message.data, message.headers and message.headers["Parley-Turn"]) == (b"one", "t")


async def test_a_stream_with_other_settings_is_named_with_both_and_left_alone(
    empty: Connection,
) -> None:
    await verify(empty, 1, Retention(deltas=600))
    with pytest.raises(Mismatch) as mismatch:
        await verify(empty, 1, Retention(deltas=1200))
    told = str(mismatch.value)
    assert "stream CHAT_DELTAS" in told
    assert "max_age is 600000000000, must be 1200000000000" in told
    assert "--apply" in told
    info = await empty.api("STREAM.INFO.CHAT_DELTAS")
    assert info["config"]["max_age"] == 600_000_000_000


async def test_a_setting_that_does_no_harm_is_told_and_left_alone(
    empty: Connection, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("WARNING")
    await provision(empty, assets_of("chat", 1, Retention(deltas=86_400, deltas_bytes=0)))
    await provision(empty, assets_of("chat", 1, Retention(deltas=7_200)))
    warned = [r for r in caplog.records if r.message == "provision.differs"]
    assert [vars(record)["what"] for record in warned] == ["stream CHAT_DELTAS"]
    assert vars(warned[0])["settings"] == [
        "max_age is 86400000000000, must be 7200000000000",
        "max_bytes is -1, must be 1073741824",
    ]
    info = await empty.api("STREAM.INFO.CHAT_DELTAS")
    assert (info["config"]["max_age"], info["config"]["max_bytes"]) == (86_400_000_000_000, -1)


async def test_where_the_server_has_less_room_streams_are_made_smaller_and_it_is_said(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with (
        NatsServer(websocket=False, jetstream="max_file_store: 4GB") as small,
        connected(small.url) as connection,
    ):
        with caplog.at_level("INFO"):
            await say_storage(connection, 1, Retention())
            await provision(connection, assets_of("chat", 1, Retention()))
        info = await connection.api("STREAM.INFO.TTS_AUDIO")
        other = await connection.api("STREAM.INFO.CHAT_DELTAS")
    said = [r for r in caplog.records if r.message == "provision.storage"]
    assert vars(said[0])["bytes"] == 7_680 * 1024 * 1024
    less = [r for r in caplog.records if r.message == "provision.server_has_less"]
    assert {vars(record)["what"] for record in less} == {"stream TTS_AUDIO"}
    assert info["config"]["max_bytes"] == 512 * 1024 * 1024
    assert other["config"]["max_bytes"] == 1024 * 1024 * 1024


async def test_an_account_that_may_store_less_is_told(caplog: pytest.LogCaptureFixture) -> None:
    config = """
    accounts { A { jetstream { max_file: 1GB }, users: [ { user: u, password: p } ] } }
    no_auth_user: u
    """
    async with (
        NatsServer(websocket=False, config=config) as small,
        connected(small.url) as connection,
    ):
        with caplog.at_level("WARNING"):
            await say_storage(connection, 1, Retention())
    warned = [r for r in caplog.records if r.message == "provision.server_has_less"]
    assert [vars(record)["account_bytes"] for record in warned] == [1024**3]


async def test_a_consumer_with_other_settings_is_named_with_both(empty: Connection) -> None:
    await verify(empty, 1, Retention())
    other = consumer(CHAT_WORKERS, Leases(work=9.0))
    with pytest.raises(
        Mismatch,
        match=r"consumer chat-workers of CHAT_REQUESTS .* ack_wait is "
        r"6000000000, must be 9000000000",
    ):
        await ensure(empty, other)


async def test_what_differs_is_changed_when_told_to_and_nothing_is_lost(
    empty: Connection,
) -> None:
    await verify(empty, 1, Retention(deltas=60))
    await publish(empty, "chat.delta.c", b"kept")
    await empty.api(*consumer(CHAT_WORKERS, Leases(work=1.0)).update({}))
    lines = await apply(empty, 1, Retention(deltas=120))
    assert len(lines) == 2
    assert "max_age is 60000000000, must be 120000000000" in lines[0]
    assert "ack_wait is 1000000000, must be 6000000000" in lines[1]
    assert await apply(empty, 1, Retention(deltas=120)) == []
    await verify(empty, 1, Retention(deltas=120))
    found = await read.last(empty, "CHAT_DELTAS", "chat.delta.c")
    assert found is not None
    assert found.data == b"kept"


async def test_the_command_makes_verifies_and_changes(
    empty: Connection, server: NatsServer
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
    await verify(empty, 1, Retention(deltas=600))


async def test_the_command_cannot_do_what_the_server_refuses(
    empty: Connection, server: NatsServer
) -> None:
    await empty.api("STREAM.CREATE.OTHER", {"name": "OTHER", "subjects": ["chat.>"]})
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
