"""A server that asks the access service, the services behind it, and browsers with tokens."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import time
from typing import TYPE_CHECKING, Any, Self

import nats
import nats.errors
import pytest

from local.nats_server import NatsServer
from local.process import ROOT
from services.access.nkey import SigningKey, account_seed
from services.access.token import Claims, May, inbox_of, mint
from tests.forked import ForkedService
from tests.integration.deploy.test_nats_permissions import configuration
from tests.integration.harness import soon
from tests.system import System, until_empty

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from nats.aio.client import Client
    from nats.aio.msg import Msg

    from local.service import Service

SEED, OTHER_SEED = (account_seed(bytes([n]) * 32) for n in (1, 2))
KEY, OTHER_KEY = SigningKey.from_seed(SEED), SigningKey.from_seed(OTHER_SEED)
ISSUER_SEED_FILE = ROOT / "deploy" / "secrets" / "local" / "access_issuer_seed"
VIOLATION = re.compile(r"permissions violation for (?:publish|subscription) to", re.IGNORECASE)
SECONDS = 20.0  # for what comes at once on a machine that has time


def token(
    *conversations: str,
    may: Sequence[May] = tuple(May),
    seconds: float = 3_600,  # some are made when tests are collected, long before they are shown
    key: SigningKey = KEY,
    sub: str = "ada",
) -> str:
    return mint(Claims(sub, int(time.time() + seconds), list(conversations), list(may)), key)


class Browser:
    """A connection with a token, and what the server refused it."""

    def __init__(self, client: Client, token: str) -> None:
        self.client, self.token, self.inbox = client, token, inbox_of(token)
        self.refused: list[str] = []
        self.heard: list[Msg] = []

    async def settle(self) -> None:
        for _ in range(2):  # see shared.settle
            await self.client.flush(timeout=10)

    async def hear(self, subject: str) -> None:
        async def keep(msg: Msg) -> None:
            self.heard.append(msg)

        await self.client.subscribe(subject, cb=keep)

    async def ask(self, subject: str, **body: Any) -> dict[str, Any]:
        answer = await self.client.request(subject, json.dumps(body).encode(), timeout=SECONDS)
        return dict(json.loads(answer.data))

    async def replayed(self, conversation: str, what: str) -> list[Msg]:
        inbox = self.client.new_inbox()
        answers = await self.client.subscribe(inbox)
        body = json.dumps({"what": what}).encode()
        await self.client.publish(f"chat.replay.{conversation}", body, reply=inbox)
        found: list[Msg] = []
        while "Parley-Next" not in ((msg := await answers.next_msg(SECONDS)).headers or {}):
            found.append(msg)
        return found

    async def gone(self) -> None:
        """Waits until the server has ended the connection."""
        await soon(lambda: self.client.is_closed, SECONDS)


@contextlib.asynccontextmanager
async def browser(url: str, shown: str, **options: Any) -> AsyncIterator[Browser]:
    """With the ten lines that a client needs: the token, and the prefix of its inboxes."""
    refused: list[str] = []

    async def on_error(error: Exception) -> None:
        refused.append(str(error))

    client = await nats.connect(
        url,
        token=shown,
        inbox_prefix=inbox_of(shown),
        allow_reconnect=False,
        error_cb=on_error,
        **options,
    )
    found = Browser(client, shown)
    found.refused = refused
    try:
        yield found
    finally:
        with contextlib.suppress(nats.errors.Error):
            await client.close()


def guard(server: NatsServer, keys: Path, **settings: str) -> Service:
    """The access service of a server."""
    environ = {
        "NATS_URL": server.url,
        "NATS_USER": "access",
        "NATS_PASSWORD": "access-local",
        "HTTP_PORT": "0",
        "ACCESS_KEYS_FILE": str(keys),
        "ACCESS_ISSUER_SEED_FILE": str(ISSUER_SEED_FILE),
    }
    return ForkedService("access", {**os.environ, **environ, **settings})


def keys_in(folder: Path) -> Path:
    file = folder / "keys"
    file.write_text(f"{SEED}\n{OTHER_KEY.public}\n")
    return file


class World(System):
    """Everything as it is deployed, each part with a login of its own."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.nats = NatsServer(folder / "nats", config=configuration(folder / "deploy"))
        self.keys = keys_in(folder)

    async def __aenter__(self) -> Self:
        try:
            await asyncio.gather(self.nats.start(), self.s3.start(), self.emulator.start())
            await self.connect(user="client", password="client-local")
            self.access = guard(self.nats, self.keys)
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.access.close()
        await super().__aexit__()

    async def up(self, *, chat: int = 1, tts: int = 1) -> None:
        new = [
            self.add(name, NATS_USER=name, NATS_PASSWORD=f"{name}-local")
            for name, count in (("chat", chat), ("tts", tts))
            for _ in range(count)
        ]
        await asyncio.gather(self.access.start(), *(service.ready() for service in new))
        await self.ears.listen(self.client)

    async def until_settled(self) -> None:
        """Waits until both work queues are empty."""
        async with self.of("operator", inbox_prefix="_INBOX.parley-operator") as client:
            await until_empty(client, "CHAT_REQUESTS", "TTS_REQUESTS")

    @contextlib.asynccontextmanager
    async def of(self, name: str, **options: Any) -> AsyncIterator[Client]:
        login = {"user": name, "password": f"{name}-local"}
        client = await nats.connect(self.nats.url, **login, **options)
        try:
            yield client
        finally:
            await client.close()


class Guarded:
    """Only the server and the access service; `chat.ask.*` echoes its subject."""

    def __init__(self, folder: Path) -> None:
        self.nats = NatsServer(folder / "nats", config=configuration(folder / "deploy"))
        self.keys = keys_in(folder)

    async def __aenter__(self) -> Self:
        await self.nats.start()
        self.service = guard(self.nats, self.keys)
        await self.service.start()
        self._chat = await nats.connect(self.nats.url, user="chat", password="chat-local")

        async def echo(msg: Msg) -> None:
            await msg.respond(b'{"subject": "%s"}' % msg.subject.encode())

        await self._chat.subscribe("chat.ask.*", "chat", cb=echo)
        for _ in range(2):  # see shared.settle
            await self._chat.flush()
        return self

    async def __aexit__(self, *_: object) -> None:
        with contextlib.suppress(nats.errors.Error):
            await self._chat.close()
        await self.service.close()
        await self.nats.close()

    @property
    def url(self) -> str:
        return self.nats.ws_url

    def said(self) -> list[dict[str, Any]]:
        """The lines of the access service's log."""
        return [json.loads(line) for line in self.service.said().splitlines()]

    def reasons(self) -> list[str]:
        return [line["reason"] for line in self.said() if line["event"] == "access.refused"]

    async def refuses(self, shown: str, *, url: str = "", **options: Any) -> str:
        """The reason, in words."""
        before = len(self.reasons())
        with pytest.raises(nats.errors.Error, match=r"(?i)authorization violation"):
            async with browser(url or self.url, shown, **options):
                pass
        await soon(lambda: len(self.reasons()) > before, SECONDS)
        return self.reasons()[-1]
