"""deploy/nats on a real server: what each user needs is allowed, everything else is refused."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import nats
import nkeys  # type: ignore[import-untyped]  # it has no types
import pytest

from local.nats_server import NatsServer, binary
from local.process import ROOT
from local.service import Service
from shared.nats.connection import Connection
from shared.nats.provision import apply
from shared.process.settings import Retention
from tests.e2e.whole import fetch
from tests.system import System

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from nats.aio.client import Client

DEPLOY = ROOT / "deploy"
VIOLATION = re.compile(
    r"permissions violation for (?:publish|subscription) to \"([^\"]+)\""
    r"(?: using queue \"([^\"]+)\")?",
    re.IGNORECASE,
)
USERS = ("chat", "tts", "client")
INBOXES = {
    "chat": "_INBOX.parley-chat",
    "tts": "_INBOX.parley-tts",
    "operator": "_INBOX.parley-operator",
}
CONSUMERS = {
    "CHAT_REQUESTS": {"chat-intake": "chat.request", "chat-workers": "chat.request.*"},
    "TTS_REQUESTS": {"tts-workers": "tts.request.*"},
}
STREAMS = (
    "CHAT_REQUESTS",
    "CHAT_DELTAS",
    "TTS_REQUESTS",
    "TTS_AUDIO",
    "DEAD_LETTERS",
    "KV_conversations",
    "KV_speech",
)


LONG_ACKS = "feature_flags { js_ack_fc_v2: true }"  # the stream's domain and account in front


def _consumer(stream: str, *names: str) -> set[str]:
    """What a worker does with its own consumer."""
    found = set()
    for name in names:
        found |= {
            f"$JS.API.CONSUMER.INFO.{stream}.{name}",
            f"$JS.API.CONSUMER.CREATE.{stream}.{name}.{CONSUMERS[stream][name]}",
            f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{name}",
            f"$JS.ACK.{stream}.{name}.1.1.1.1.0",
            f"$JS.ACK._.aBcDeFgH.{stream}.{name}.1.1.1.1.0.x",  # as newer servers may name it
        }
    return found


def _streams(*names: str) -> set[str]:
    """Looked at, and made when missing."""
    return {f"$JS.API.STREAM.{verb}.{name}" for name in names for verb in ("INFO", "CREATE")}


PUBLISH: Mapping[str, set[str]] = {
    "chat": {
        *("chat.request.c", "chat.delta.c", "chat.cancel", "chat.dead"),
        *(
            "tts.request.c",
            "tts.audio.c",
            "tts.erase.c",
            "$KV.conversations.c",
            "$KV.conversations.c.1",
        ),
        *_streams("CHAT_REQUESTS", "CHAT_DELTAS", "TTS_REQUESTS", "TTS_AUDIO", "DEAD_LETTERS"),
        *_streams("KV_conversations"),
        *_consumer("CHAT_REQUESTS", "chat-intake", "chat-workers"),
        "$JS.API.CONSUMER.UNPIN.CHAT_REQUESTS.chat-intake",
        "$JS.API.INFO",
        "$JS.API.STREAM.MSG.GET.CHAT_REQUESTS",
        *(f"$JS.API.STREAM.MSG.GET.{s}" for s in ("TTS_AUDIO", "KV_conversations")),
        *(f"$JS.API.STREAM.PURGE.{s}" for s in ("CHAT_REQUESTS", "CHAT_DELTAS", "DEAD_LETTERS")),
        "$JS.API.STREAM.PURGE.KV_conversations",
        *(f"$JS.API.DIRECT.GET.{s}" for s in ("CHAT_REQUESTS", "CHAT_DELTAS", "TTS_AUDIO")),
        *(f"$JS.API.DIRECT.GET.{s}" for s in ("TTS_REQUESTS", "KV_speech")),
    },
    "tts": {
        *("tts.audio.c", "tts.dead", "$KV.speech.c.t"),
        *_streams("CHAT_DELTAS", "TTS_REQUESTS", "TTS_AUDIO", "DEAD_LETTERS", "KV_speech"),
        *_consumer("TTS_REQUESTS", "tts-workers"),
        *(f"$JS.API.STREAM.MSG.GET.{s}" for s in ("KV_speech", "TTS_AUDIO", "TTS_REQUESTS")),
        "$JS.API.INFO",
        *(f"$JS.API.DIRECT.GET.{s}" for s in ("CHAT_DELTAS", "TTS_AUDIO", "KV_speech")),
        "$JS.API.DIRECT.GET.TTS_REQUESTS",
        *(f"$JS.API.STREAM.PURGE.{s}" for s in ("TTS_REQUESTS", "TTS_AUDIO", "KV_speech")),
    },
    "client": {
        *("chat.request", "chat.request.c", "chat.cancel", "tts.request.c"),
        *("chat.history.get", "chat.history.delete", "chat.cancel.c"),
        *("chat.history.get.c", "chat.history.delete.c"),
        *("chat.ask.c", "chat.replay.c", "tts.link.c"),
        *(f"$JS.API.DIRECT.GET.{s}" for s in ("CHAT_DELTAS", "TTS_AUDIO")),
    },
}
# Nobody but the operator may do these (what a service needs of them, above, counts for it).
NOBODY = {
    *(f"$JS.API.STREAM.{v}.{s}" for s in STREAMS for v in ("UPDATE", "DELETE", "PURGE")),
    *(f"$JS.API.STREAM.MSG.DELETE.{s}" for s in STREAMS),
    *(f"$JS.API.STREAM.MSG.GET.{s}" for s in ("CHAT_DELTAS", "TTS_REQUESTS", "DEAD_LETTERS")),
    *(f"$JS.API.DIRECT.GET.{s}" for s in ("TTS_REQUESTS", "KV_conversations", "KV_speech")),
    *(f"$JS.API.CONSUMER.CREATE.{s}" for s in STREAMS),
    *(f"$JS.API.CONSUMER.CREATE.{s}.spy" for s in STREAMS),
    *(f"$JS.API.CONSUMER.DURABLE.CREATE.{s}.spy" for s in STREAMS),
    *(f"$JS.API.CONSUMER.DELETE.{s}.{c}" for s, names in CONSUMERS.items() for c in names),
    *(f"$JS.API.CONSUMER.MSG.NEXT.{s}.spy" for s in STREAMS),
    *("$JS.API.STREAM.LIST", "$JS.API.STREAM.NAMES", "$JS.API.STREAM.CREATE.OTHER"),
    "$JS.API.STREAM.SNAPSHOT.CHAT_REQUESTS",
    *("chat.delta", "tts.audio", "chat.history.other", "chat.request.c.d", "anything"),
    *("chat.ask", "chat.replay", "tts.link"),
    *("_INBOX.somebody", "_INBOX.parley-chat.x", "_INBOX.parley-tts.x"),
}
EVERY_PUBLISH = sorted(set().union(*PUBLISH.values()) | NOBODY)

SUBSCRIBE: Mapping[str, set[str]] = {
    "chat": {
        *("chat.cancel", "chat.cancel chat", "chat.delta.*", "chat.delta.c"),
        "_INBOX.parley-chat.>",
        *("chat.history.get chat", "chat.history.delete chat"),
        *("chat.cancel.*", "chat.cancel.* chat"),
        *("chat.history.get.* chat", "chat.history.delete.* chat"),
        *("chat.ask.* chat", "chat.replay.* chat"),
        *("chat.request chat", "chat.request.* chat", "chat.dead", "chat.dead.*"),
    },
    "tts": {
        *("chat.cancel", "chat.cancel tts", "chat.delta.*", "chat.delta.c"),
        *("chat.history.delete", "chat.history.delete tts", "_INBOX.parley-tts.>"),
        *("chat.history.delete.*", "tts.link.* tts", "tts.erase.* tts"),
        *("tts.erase", "tts.erase.*"),
        *("tts.request.* tts", "tts.dead", "tts.dead.*"),
        *("chat.cancel.*", "chat.cancel.* tts"),
    },
    "client": {
        *("chat.delta", "chat.delta.*", "chat.delta.c", "tts.audio", "tts.audio.*", "tts.audio.c"),
        "_INBOX.somebody.*",
        # Nobody's: the services are in another account.
        *("_INBOX.parley-chat.>", "_INBOX.parley-tts.>"),
    },
}
EVERY_SUBSCRIBE = sorted(
    set().union(*SUBSCRIBE.values())
    | {
        *("chat.request", "chat.request.c", "chat.request.*", "tts.request.c", "tts.request.*"),
        *("chat.history.get", "chat.history.delete", "chat.history.get spy"),
        *("chat.ask.*", "chat.replay.*", "tts.link.*", "chat.ask.c", "chat.history.get.*"),
        *("chat.dead", "tts.dead", "chat.>", "tts.>", ">", "$KV.>", "$KV.conversations.>"),
        *("$JS.>", "$JS.API.>", "$JS.EVENT.>", "$SYS.>", "$JS.ACK.>"),
    }
)


def configuration(
    folder: Path, users: str = "users.conf", secrets: Path = DEPLOY / "secrets" / "local"
) -> str:
    """deploy/nats, copied, as text for NatsServer's own configuration file."""
    shutil.copytree(DEPLOY / "nats", folder, dirs_exist_ok=True)
    (folder / "secrets").mkdir(exist_ok=True)
    for file in secrets.glob("*.conf"):
        shutil.copy(file, folder / "secrets")
    # An include is relative to the file that holds it: a folder of the server's own, below this.
    return f"include '../{os.path.relpath(folder / users, tempfile.gettempdir())}'"


class Listener:
    """A connection of one user that keeps what the server refuses it."""

    def __init__(self, client: Client, refused: list[str]) -> None:
        self.client, self.refused = client, refused

    async def refuses(self, kind: str, subjects: list[str]) -> set[str]:
        """The subjects among these that the server refuses."""
        self.refused.clear()
        for subject in subjects:
            if kind == "publish":
                await self.client.publish(subject, b"")
            else:
                name, _, queue = subject.partition(" ")
                await self.client.subscribe(name, queue=queue, cb=_ignore)
        for _ in range(2):  # see shared.settle
            await self.client.flush(timeout=5)
        told = set(self.refused)  # nats-py makes lower case of what the server says
        return {subject for subject in subjects if subject.lower() in told}


async def _ignore(_msg: object) -> None: ...


@asynccontextmanager
async def connected(
    server: NatsServer, name: str, *, url: str = "", **options: Any
) -> AsyncIterator[Listener]:
    refused: list[str] = []

    async def on_error(exc: Exception) -> None:
        found = VIOLATION.search(str(exc))
        assert found, exc
        refused.append(" ".join(word for word in found.groups() if word).removeprefix("denied."))

    login = {"user": name, "password": f"{name}-local", "inbox_prefix": INBOXES.get(name, "_INBOX")}
    client = await nats.connect(
        url or server.url, error_cb=on_error, allow_reconnect=False, **{**login, **options}
    )
    try:
        yield Listener(client, refused)
    finally:
        await client.close()


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[NatsServer]:
    """The users and permissions of deploy/nats, the streams made by the operator."""
    config = configuration(tmp_path / "deploy")
    async with NatsServer(websocket=False, config=config) as running:
        async with connected(running, "operator") as operator:
            connection = Connection(operator.client)
            await connection.start()
            await apply(connection, 1, Retention())
        yield running


@pytest.mark.parametrize("user", USERS)
async def test_a_user_may_publish_what_it_needs_and_nothing_else(
    server: NatsServer, user: str
) -> None:
    async with connected(server, user) as listener:
        refused = await listener.refuses("publish", EVERY_PUBLISH)
    assert refused == set(EVERY_PUBLISH) - PUBLISH[user]


@pytest.mark.parametrize("user", USERS)
async def test_a_user_may_hear_what_it_needs_and_nothing_else(
    server: NatsServer, user: str
) -> None:
    async with connected(server, user) as listener:
        refused = await listener.refuses("subscribe", EVERY_SUBSCRIBE)
    assert refused == set(EVERY_SUBSCRIBE) - SUBSCRIBE[user]


async def test_nobody_gets_in_without_a_login_or_with_a_wrong_one(server: NatsServer) -> None:
    for login in ({}, {"user": "chat", "password": "guess"}, {"user": "root", "password": ""}):
        with pytest.raises(nats.errors.Error, match=r"(?i)authorization violation"):
            await nats.connect(server.url, allow_reconnect=False, connect_timeout=20, **login)


async def test_a_client_hears_no_inbox_of_a_service(server: NatsServer) -> None:
    """What a pull hands out travels by inbox: all requests would be heard there."""
    heard: list[str] = []

    async def hear(msg: Any) -> None:
        heard.append(msg.subject)

    async with connected(server, "client") as client, connected(server, "operator") as operator:
        await client.client.subscribe("_INBOX.>", cb=hear)
        await client.client.flush()
        await client.client.flush()
        async with connected(server, "tts") as tts:
            inbox = tts.client.new_inbox()
            subscription = await tts.client.subscribe(inbox)
            await tts.client.flush()
            await tts.client.flush()
            await operator.client.publish("tts.request.c", b"secret")
            await tts.client.publish(
                "$JS.API.CONSUMER.MSG.NEXT.TTS_REQUESTS.tts-workers", b"1", reply=inbox
            )
            assert (await subscription.next_msg(timeout=5)).data == b"secret"
        assert await client.client.request("$JS.API.DIRECT.GET.TTS_AUDIO", b'{"seq":1}', timeout=5)
        assert not [s for s in heard if "parley" in s]


class Guarded(System):
    """The whole system, each part with a login of its own."""

    def __init__(self, folder: Path, config: str = "") -> None:
        super().__init__(folder=folder)
        self.nats = NatsServer(
            folder / "nats",
            websocket=False,
            config=f"{configuration(folder / 'deploy')}\n{config}",
        )

    async def __aenter__(self) -> Self:
        try:
            await asyncio.gather(self.nats.start(), self.s3.start(), self.emulator.start())
            await self.connect(user="client", password="client-local")
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def up(self, *, chat: int = 1, tts: int = 1) -> None:
        new = [
            self.add(name, NATS_USER=name, NATS_PASSWORD=f"{name}-local")
            for name, count in (("chat", chat), ("tts", tts))
            for _ in range(count)
        ]
        await self.ears.listen(self.client)  # before anybody goes on with what was torn
        await asyncio.gather(*(service.ready() for service in new))

    def violations(self) -> list[str]:
        """What the server refused, by its own log and by the services'."""
        texts = [self.nats.log.read_text(), *(s.log.read_text() for s in self.services)]
        return [found[0] for text in texts for found in VIOLATION.finditer(text)]


async def until_one_reads(*replicas: Service) -> None:
    """One of the replicas shows what the server tells of streams and consumers."""

    def shows(service: Service) -> bool:
        metrics = fetch(service.url("/metrics"))
        return b"parley_stream_bytes{" in metrics and b"parley_consumer_lag{" in metrics

    until = time.monotonic() + 60
    while sum([await asyncio.to_thread(shows, each) for each in replicas]) != 1:
        assert time.monotonic() < until
        await asyncio.sleep(0.1)


@pytest.mark.parametrize("acks", ["short", "long"])
async def test_services_start_provision_and_work_under_their_own_users(
    tmp_path: Path, acks: str
) -> None:
    """On an empty server, two replicas of each, with everything that they do now and then."""
    async with Guarded(tmp_path, LONG_ACKS if acks == "long" else "") as system:
        await system.up(chat=2, tts=2)
        system.emulator.change({"speech": {"realtime_factor": 100}})
        turn = await system.answered(conversation_id="c", content="How are you?")
        assert turn.end is not None
        assert turn.end["type"] == "done"
        assert turn.voice_end is not None
        assert turn.voice_end["type"] == "stored"
        assert len((await system.history("c"))["messages"]) == 2
        chats, voices = system.services[:2], system.services[2:]
        for replicas in (chats, voices):
            await until_one_reads(*replicas)

        # One interrupts another: chat.cancel by the service, and what was heard by the client.
        system.emulator.change({"chat": {"tokens_per_second": 20}})
        first = await system.ask(conversation_id="c", content="Tell me a story.")
        await system.ears.until(lambda: len(system.ears.turn(first).deltas) > 3)
        second = await system.ask(conversation_id="c", content="Stop!", on_busy="interrupt")
        await system.ears.whole(first, second, seconds=60)
        body = b'{"conversation_id": "c", "turn_id": "%s", "heard_ms": 200}' % second.encode()
        assert b"error" not in (await system.client.request("chat.cancel", body, timeout=5)).data

        # Asked for, replayed, linked; a bad request is refused in its inbox.
        async def told(subject: str, **body: Any) -> dict[str, Any]:
            answer = await system.client.request(subject, json.dumps(body).encode(), timeout=10)
            return dict(json.loads(answer.data))

        asked = await told("chat.ask.a", content="Hello.", turn_id="asked", speech={})
        assert asked == {"conversation_id": "a", "turn_id": "asked", "state": "queued"}
        await system.ears.whole("asked", seconds=60)
        assert (await told("chat.ask.a", content="Hello.", turn_id="asked"))["state"] == "ended"
        assert len((await told("chat.history.get.a"))["messages"]) == 2
        assert (await told("tts.link.a", turn_id="asked"))["duration_ms"] > 0
        for what, last in (("delta", "done"), ("audio", "stored")):
            events = await replayed(system.client, "a", what)
            kind = events[-1].headers.get("Parley-Type") or json.loads(events[-1].data)["type"]
            assert (len(events) > 2, kind) == (True, last)
        for subject in ("chat.request", "chat.request.c", "tts.request.c"):
            answers = await answered_twice(system.client, subject, b'{"content": 5, "text": 5}')
            assert ("seq" in answers[0], "error" in answers[1]) == (True, True)

        # What is not understood is a dead letter, what is busy is refused, text alone is spoken.
        await system.client.jetstream().publish("chat.request", b'{"content": 5}')
        await system.client.jetstream().publish("tts.request.c", b'{"text": 5}')
        await system.client.jetstream().publish("tts.request.d", b'{"turn_id":"t","text":"Hello."}')
        await system.ears.until(lambda: system.ears.turn("t").voice_end is not None)
        answer = await system.client.request(
            "chat.history.delete", b'{"conversation_id":"c"}', timeout=20
        )
        assert b"error" not in answer.data

        # A service that stops hands its places over.
        for service in (system.services[0], system.services[2]):
            service.signal(signal.SIGTERM)
            assert await service.ended() == 0
        for left in (chats[1], voices[1]):
            await until_one_reads(left)
        await system.answered(conversation_id="e", content="Still there?", seconds=60)

        # A worker that is killed in mid-voice leaves pieces to the next.
        system.emulator.change({"speech": {"realtime_factor": 2}})
        torn = await system.ask(conversation_id="f", content="Tell me a story.")
        await system.ears.until(lambda: len(system.ears.turn(torn).audio) > 8, seconds=60)
        system.services[3].signal(signal.SIGKILL)
        await system.services[3].ended()
        system.emulator.change({"speech": {"realtime_factor": 100}})
        await system.add("tts", NATS_USER="tts", NATS_PASSWORD="tts-local").ready()
        await system.ears.whole(torn, seconds=90)
        assert not system.violations()


async def replayed(client: Client, conversation: str, what: str) -> list[Any]:
    inbox = client.new_inbox()
    subscription = await client.subscribe(inbox)
    body = json.dumps({"what": what}).encode()
    await client.publish(f"chat.replay.{conversation}", body, reply=inbox)
    events: list[Any] = []
    while True:
        message = await subscription.next_msg(timeout=10)
        headers = message.headers or {}
        if "Parley-Next" in headers:
            assert headers["Parley-Next"] == "0"
            return events
        events.append(message)


async def answered_twice(client: Client, subject: str, body: bytes) -> list[dict[str, Any]]:
    inbox = client.new_inbox()
    subscription = await client.subscribe(inbox)
    await client.publish(subject, body, reply=inbox)
    return [json.loads((await subscription.next_msg(timeout=10)).data) for _ in range(2)]


async def test_the_operator_may_provision_and_change(tmp_path: Path, server: NatsServer) -> None:
    environ = {
        **os.environ,
        "NATS_URL": server.url,
        "NATS_USER": "operator",
        "NATS_PASSWORD": "operator-local",
    }
    for changed, told in (({}, "as it should be"), ({"RETENTION_DELTAS": "600"}, "max_age")):
        ended = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-m", "shared.provision", "--apply"],
            env=environ | changed,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert ended.returncode == 0, ended.stderr
        assert told in ended.stdout


async def test_services_log_in_by_nkey_and_over_tls(tmp_path: Path) -> None:
    """What users-nkeys.conf and nats-tls.conf are for: the server holds no secret of a user."""
    secrets = tmp_path / "secrets"
    shutil.copytree(DEPLOY / "secrets" / "local", secrets)
    pairs = {
        user: nkeys.from_seed(_seed()) for user in ("access", "chat", "client", "operator", "tts")
    }
    public = {user: pair.public_key.decode() for user, pair in pairs.items()}
    lines = [f'{user.upper()}_NKEY: "{key}"' for user, key in public.items() if user != "client"]
    (secrets / "passwords.conf").write_text("\n".join(lines) + "\n")
    apps = (secrets / "apps.conf").read_text()
    login = 'user: client, password: "client-local"'
    assert login in apps
    (secrets / "apps.conf").write_text(apps.replace(login, f"nkey: {public['client']}"))
    callout = (secrets / "callout.conf").read_text()
    logins = re.search(r"auth_users: \[(.*)\]", callout)
    assert logins
    assert {login.removesuffix("-2") for login in logins[1].split(", ")} == pairs.keys()
    (secrets / "callout.conf").write_text(callout.replace(logins[1], ", ".join(public.values())))
    config = configuration(tmp_path / "deploy", "users-nkeys.conf", secrets)
    certificate, key = _certificate(tmp_path)
    tls = f'tls {{ cert_file: "{certificate}", key_file: "{key}" }}'
    async with NatsServer(websocket=False, config=f"{config}\n{tls}") as server:
        environ = {
            "NATS_URL": server.url.replace("nats://", "tls://"),
            "NATS_CA": str(certificate),
            "NATS_NKEY_SEED": pairs["chat"].seed.decode(),
            "TOGETHER_API_KEY": "none",
            "HTTP_PORT": "0",
        }
        async with Service("chat", {**os.environ, **environ}) as chat:
            assert not VIOLATION.search(chat.said())


def _seed() -> bytes:
    return bytes(nkeys.encode_seed(os.urandom(32), nkeys.PREFIX_BYTE_USER))


def _certificate(folder: Path) -> tuple[Path, Path]:
    """Of this machine's own address, signed by itself."""
    folder.mkdir(exist_ok=True)
    certificate, key = folder / "tls.crt", folder / "tls.key"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *(
                "-nodes",
                "-days",
                "1",
                "-subj",
                "/CN=nats",
                "-addext",
                "subjectAltName=IP:127.0.0.1",
            ),
            *("-keyout", str(key), "-out", str(certificate)),
        ],
        check=True,
        capture_output=True,
    )
    return certificate, key


@pytest.mark.parametrize("file", ["nats.conf", "nats-tls.conf"])
def test_the_files_as_they_are_deployed_are_valid(tmp_path: Path, file: str) -> None:
    configuration(tmp_path)
    _certificate(tmp_path / "tls")
    shutil.copy(tmp_path / "tls" / "tls.crt", tmp_path / "tls" / "ca.crt")
    text = (tmp_path / file).read_text().replace("/etc/nats/", f"{tmp_path}/")
    (tmp_path / file).write_text(text)
    told = subprocess.run(
        [binary(), "-t", "-c", str(tmp_path / file)], check=False, capture_output=True, text=True
    )
    assert told.returncode == 0, told.stderr
