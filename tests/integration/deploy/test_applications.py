"""An application may ask and hear, and can make the server do nothing else: not by a reply either.

A publish permission says nothing about the reply subject, which the server, a stream or a service
answers to. The services here are stand-ins that answer whatever they are asked, to whatever reply
subject: what holds is held by deploy/nats alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import subprocess
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import nats
import pytest

from local.nats_cluster import NatsCluster
from local.nats_server import NatsServer
from shared.errors import NatsError
from shared.nats.connection import Connection, settle
from shared.nats.provision import apply
from shared.nats.read import read_back
from shared.process.settings import Retention
from tests.integration.deploy.test_nats_permissions import (
    CONSUMERS,
    DEPLOY,
    STREAMS,
    configuration,
    connected,
)
from tests.integration.harness import held

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from nats.aio.client import Client
    from nats.aio.msg import Msg

BODY: Final = b'{"asked": "by an application"}'
ANSWERS: Final = (b"", b'{"conversation_id": "victim"}')  # each verb of the API takes one of them
SERVED: Final = {
    "chat": (
        *("chat.ask.* chat", "chat.replay.* chat", "chat.cancel", "chat.cancel.*"),
        *("chat.history.get chat", "chat.history.get.* chat"),
        *("chat.history.delete chat", "chat.history.delete.* chat"),
        *("chat.request chat", "chat.request.* chat"),
    ),
    "tts": ("tts.link.* tts", "tts.request.* tts", "tts.erase", "tts.erase.*"),
}
REQUESTS: Final = ("chat.request", "tts.request")  # what may be more than before
STORED: Final = ("chat.request", "chat.request.c", "tts.request.c")
SERVICES: Final = {
    **dict.fromkeys(STORED, BODY),
    **dict.fromkeys(("chat.ask.c", "chat.replay.c", "tts.link.c"), BODY),
    **dict.fromkeys(("chat.cancel", "chat.cancel.c"), BODY),
    **dict.fromkeys(("chat.history.get", "chat.history.get.c"), BODY),
    **dict.fromkeys(("chat.history.delete", "chat.history.delete.c"), BODY),
    "$JS.API.DIRECT.GET.CHAT_DELTAS": b'{"next_by_subj": "chat.delta.c", "batch": 5, "seq": 1}',
    "$JS.API.DIRECT.GET.TTS_AUDIO": b'{"next_by_subj": "tts.audio.c", "batch": 5, "seq": 1}',
}
SEVERAL: Final = ("chat.replay.", "$JS.API.DIRECT.GET.")
SEEDS: Final = {
    **dict.fromkeys(("chat.request", "chat.request.v", "tts.request.v"), b'{"content": "Hello."}'),
    **dict.fromkeys(("chat.delta.c", "tts.audio.c", "chat.dead", "tts.dead.c"), b"an event"),
    **dict.fromkeys(("$KV.conversations.v", "$KV.speech.v.t"), b"a document"),
}


def _targets() -> Iterator[str]:
    """Where an attacker would have the answer go."""
    for stream in STREAMS:
        for verb in ("CREATE", "UPDATE", "DELETE", "PURGE", "SNAPSHOT", "RESTORE", "INFO"):
            yield f"$JS.API.STREAM.{verb}.{stream}"
        for verb in ("MSG.GET", "MSG.DELETE", "LEADER.STEPDOWN", "PEER.REMOVE"):
            yield f"$JS.API.STREAM.{verb}.{stream}"
        yield f"$JS.API.DIRECT.GET.{stream}"
        yield f"$JS.API.CONSUMER.CREATE.{stream}"
        yield f"$JS.API.CONSUMER.CREATE.{stream}.spy"
        for consumer in CONSUMERS.get(stream, ()):
            for verb in ("DELETE", "PAUSE", "UNPIN", "MSG.NEXT", "LEADER.STEPDOWN", "RESET"):
                yield f"$JS.API.CONSUMER.{verb}.{stream}.{consumer}"
            yield f"$JS.ACK.{stream}.{consumer}.1.1.1.1.0"
            yield f"$JS.ACK._.account.{stream}.{consumer}.1.1.1.1.0.x"
    yield from ("$JS.API.STREAM.CREATE.OTHER", "$JS.API.INFO", "$JS.API.META.LEADER.STEPDOWN")
    yield from ("$KV.conversations.v", "$KV.conversations.new", "$KV.speech.v.t", "$KV.new.x")
    yield from ("chat.request", "chat.request.v", "tts.request.v", "chat.ask.v", "tts.link.v")
    yield from ("chat.delta", "chat.delta.c", "chat.delta.v", "tts.audio", "tts.audio.v")
    yield from ("chat.dead", "chat.dead.v", "tts.dead", "tts.dead.v")
    yield from ("chat.cancel", "chat.cancel.v", "tts.erase", "tts.erase.v", "chat.replay.v")
    yield from ("chat.history.delete", "chat.history.delete.v", "chat.history.get.v")
    yield from ("_INBOX.parley-chat.x", "_INBOX.parley-tts.x", "_INBOX.parley-operator.x")
    yield from ("_R_.AAAAAA.AAAAAA", "$SYS.REQ.SERVER.PING", "$SYS.REQ.USER.INFO")


TARGETS: Final = tuple(_targets())
MAY_PASS: Final = (
    *REQUESTS,
    *("chat.ask.", "chat.cancel", "chat.history.", "chat.replay.", "tts.link."),
)


class Ears:
    """Keeps what a subscription hears."""

    def __init__(self) -> None:
        self.subjects: list[str] = []

    async def hear(self, msg: Msg) -> None:
        self.subjects.append(msg.subject)


class Installation:
    """A server by deploy/nats with two applications, every stream with something in it."""

    def __init__(
        self, server: NatsServer, operator: Client, asked: list[tuple[str, bytes]]
    ) -> None:
        self.server, self.operator = server, operator
        self.asked = asked  # of the services: subject and body

    async def state(self) -> dict[str, Any]:
        """Of every stream: settings, consumers, messages; without what applications requested."""
        connection = Connection(self.operator)
        await connection.start()
        names = await connection.api("STREAM.NAMES")
        found: dict[str, Any] = {"streams": sorted(names["streams"])}
        for stream in names["streams"]:
            info = await connection.api(f"STREAM.INFO.{stream}")
            listed = (await connection.api(f"CONSUMER.LIST.{stream}"))["consumers"] or []
            consumers = {c["name"]: (c["config"], c["delivered"], c["ack_floor"]) for c in listed}
            messages = [
                (m.sequence, m.subject, m.data)
                for m in await held(connection, stream)
                if not (m.subject.startswith(REQUESTS) and m.data == BODY)
            ]
            found[stream] = (info["config"], consumers, messages)
        await connection.close()
        return found


async def _serving(
    client: Client, subjects: tuple[str, ...], asked: list[tuple[str, bytes]]
) -> None:
    async def answer(msg: Msg) -> None:
        asked.append((msg.subject, msg.data))
        if msg.reply:
            for body in ANSWERS:
                await msg.respond(body)

    for subject in subjects:
        name, _, queue = subject.partition(" ")
        await client.subscribe(name, queue=queue, cb=answer)
    await settle(client)


async def seeded(operator: Client, replicas: int) -> None:
    connection = Connection(operator)
    await connection.start()
    async with asyncio.timeout(60):
        while True:  # a cluster has to find its leaders first
            with contextlib.suppress(NatsError):
                await apply(connection, replicas, Retention())
                break
            await asyncio.sleep(0.1)
    for subject, body in SEEDS.items():
        await operator.jetstream().publish(subject, body)


def secrets(folder: Path) -> Path:
    """Those of a laptop, and one application more."""
    shutil.copytree(DEPLOY / "secrets" / "local", folder)
    (folder / "nats_shop").write_text("shop-local\n")
    make = DEPLOY / "secrets" / "make.sh"
    subprocess.run([make, "--app", "shop", folder], check=True, timeout=30)
    return folder


@pytest.fixture(params=["one server", "a cluster"])
async def installed(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Installation]:
    """In a cluster those who ask, those who answer and the operator are on different servers."""
    config = configuration(tmp_path / "deploy", secrets=secrets(tmp_path / "secrets"))
    async with AsyncExitStack() as running:
        if request.param == "a cluster":
            cluster = NatsCluster(tmp_path / "nats", accounts=config)
            await running.enter_async_context(cluster)
            asking, answering, theirs = cluster.servers
        else:
            server = NatsServer(websocket=False, config=config)
            asking = answering = theirs = await running.enter_async_context(server)
        operator = (await running.enter_async_context(connected(theirs, "operator"))).client
        await seeded(operator, 1 if asking is theirs else 3)
        asked: list[tuple[str, bytes]] = []
        for user, subjects in SERVED.items():
            service = (await running.enter_async_context(connected(answering, user))).client
            await _serving(service, subjects, asked)
        yield Installation(asking, operator, asked)


@asynccontextmanager
async def application(server: NatsServer, user: str = "client") -> AsyncIterator[Client]:
    """As any NATS client has it, but for the inboxes of `shop`."""
    inbox = "_INBOX" if user == "client" else f"_INBOX_{user}"

    async def refused(_error: Exception) -> None: ...  # the server says so each time

    client = await nats.connect(
        server.url, user=user, password=f"{user}-local", inbox_prefix=inbox, error_cb=refused
    )
    try:
        yield client
    finally:
        await client.close()


async def all_answers(client: Client, subject: str) -> list[Msg]:
    """A stream's own answer and two of the service; an event, and the end of the batch; one."""
    count = 3 if subject in STORED else 2 if subject.startswith(SEVERAL) else 1
    inbox = client.new_inbox()
    subscription = await client.subscribe(inbox)
    await client.publish(subject, SERVICES[subject], reply=inbox)
    try:
        return [await subscription.next_msg(timeout=10) for _ in range(count)]
    finally:
        await subscription.unsubscribe()


async def attack(client: Client) -> None:
    """Every service, asked to answer to every target; and every target itself."""
    for target in TARGETS:
        for service, body in SERVICES.items():
            await client.publish(service, body, reply=target)
        await client.publish(target, BODY)
        if target.startswith("$"):
            for body in ANSWERS:
                await client.publish(target, body)
    await settle(client, seconds=30)


async def test_no_application_changes_a_stream_nor_reaches_a_listener_by_a_reply_subject(
    installed: Installation,
) -> None:
    heard, passed = Ears(), Ears()
    before = await installed.state()
    async with (
        application(installed.server) as attacker,
        application(installed.server, "shop") as victim,
        connected(installed.server, "operator") as second,
    ):
        for subject in ("chat.delta", "chat.delta.*", "tts.audio", "tts.audio.*", "_INBOX_shop.>"):
            await victim.subscribe(subject, cb=heard.hear)
        # All that passes in PARLEY; the API tells of each call that it took.
        for subject in ("_INBOX.parley-operator.>", "chat.>", "tts.>", "$JS.EVENT.ADVISORY.API"):
            await second.client.subscribe(subject, cb=passed.hear)
        await settle(victim)
        await settle(second.client)
        await attack(attacker)
        # Each service answers in order: with its last answer all of them are through.
        for subject in SERVICES:
            await all_answers(attacker, subject)
        await settle(victim)
        await settle(second.client)
    assert await installed.state() == before
    assert {body for _, body in installed.asked} == {BODY}
    assert not heard.subjects
    assert all(subject.startswith(MAY_PASS) for subject in passed.subjects)


@pytest.mark.parametrize(("user", "other"), [("client", "shop"), ("shop", "client")])
async def test_an_application_is_answered_and_hears_what_it_should(
    installed: Installation, user: str, other: str
) -> None:
    heard = Ears()
    async with (
        application(installed.server, user) as client,
        application(installed.server, other) as second,
    ):
        for subject in SERVICES:
            got = await all_answers(client, subject)
            assert sum(b'"seq"' in msg.data for msg in got) == (subject in STORED)
        # Two requests of two applications at once do not hear each other's answers.
        for asker in (client, second):
            assert (await asker.request("chat.history.get.c", b"{}", timeout=5)).data in ANSWERS

        for subject in ("chat.delta", "chat.delta.c", "tts.audio", "tts.audio.*"):
            await client.subscribe(subject, cb=heard.hear)
        await settle(client)
        # In a cluster the other servers learn of a subscription a moment after our own.
        subjects, said = {"chat.delta", "chat.delta.c", "tts.audio", "tts.audio.c"}, 0
        while set(heard.subjects) != subjects and said < 60:
            for subject in ("chat.delta.c", "tts.audio.c"):
                await installed.operator.jetstream().publish(subject, b"live")
            said += 1
            await asyncio.sleep(0.1 * (said > 1))
            await settle(client)
        assert set(heard.subjects) == subjects

        connection = Connection(client)
        await connection.start()
        for stream, subject in (("CHAT_DELTAS", "chat.delta.c"), ("TTS_AUDIO", "tts.audio.c")):
            events = [m.data async for m in read_back(connection, stream, subject, batch=1)]
            assert events == [SEEDS[subject], *[b"live"] * said]


async def test_an_application_reads_no_other_ones_answers(installed: Installation) -> None:
    heard = Ears()
    async with (
        application(installed.server) as client,
        application(installed.server, "shop") as shop,
    ):
        await client.subscribe("_INBOX.>", cb=heard.hear)
        for refused in ("_INBOX.>", "_INBOX_client.>", "_INBOX.*.*", ">", "*.>"):
            await shop.subscribe(refused, cb=heard.hear)
        for refused in ("_INBOX_shop.>", "*.>", "_R_.>", "denied.>"):
            await client.subscribe(refused, cb=heard.hear)
        await settle(client)
        await settle(shop)
        for subject in ("chat.history.get.c", "chat.ask.c"):
            assert (await shop.request(subject, BODY, timeout=5)).data in ANSWERS
        assert not heard.subjects
        await client.request("chat.ask.c", BODY, timeout=5)
        await settle(shop)
        assert all(subject.startswith("_INBOX.") for subject in heard.subjects)
