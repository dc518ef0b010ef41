"""Two installations on one NATS, in an account each, and one store, in a bucket each.

The same conversation, the same turn, at the same time: neither hears, reads, or erases the other's.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING, Any, Self

from local.nats_server import NatsServer
from local.object_store import object_store, preferred_kind
from tests.e2e.whole import FAST, assert_whole
from tests.system import System

if TYPE_CHECKING:
    from pathlib import Path

    from local.s3_server import S3Server

NAMES = ("one", "two")
ACCOUNTS = "\n".join(
    f"{name.upper()} {{ jetstream: enabled, users: [{{ user: {name}, password: {name} }}] }}"
    for name in NAMES
)


class Installation(System):
    """One of two on the same servers; what it starts of its own are services and a provider."""

    def __init__(self, folder: Path, name: str, server: NatsServer, store: S3Server) -> None:
        super().__init__(
            folder,
            settings={"NATS_USER": name, "NATS_PASSWORD": name, "MINIO_BUCKET": f"voices-{name}"},
        )
        self.name, self.nats, self.s3 = name, server, store

    async def __aenter__(self) -> Self:
        await self.emulator.start()
        words = FAST["chat"] | {"replies": [f"This is {self.name}, and nobody else."]}
        self.emulator.change({**FAST, "chat": words})
        await self.connect(self.name, self.name)
        return self

    async def __aexit__(self, *_: object) -> None:
        for service in self._added:
            await service.kill()
            await service.close()
        for client in (self.client, self.parley):
            await client.close()
        await self.emulator.close()

    async def told(self, subject: str, **body: Any) -> dict[str, Any]:
        answer = await self.client.request(subject, json.dumps(body).encode(), timeout=20)
        return dict(json.loads(answer.data))


async def test_two_installations_on_the_same_servers_never_meet(tmp_path: Path) -> None:
    server = NatsServer(websocket=False, config=f"accounts {{ {ACCOUNTS} }}")
    store = object_store(preferred_kind())
    async with server, store, contextlib.AsyncExitStack() as running:
        one, two = [
            await running.enter_async_context(Installation(tmp_path / n, n, server, store))
            for n in NAMES
        ]
        await asyncio.gather(one.up(), two.up())
        same: dict[str, Any] = {"conversation_id": "c", "turn_id": "t", "content": "Who are you?"}
        turns = await asyncio.gather(one.answered(**same), two.answered(**same))
        for system, turn in zip((one, two), turns, strict=True):
            assert_whole(turn, system)
            assert turn.end is not None
            assert turn.end["text"] == f"This is {system.name}, and nobody else."
            assert set(system.ears.turns) == {"t"}
            assert turn.voice_end is not None
            assert turn.voice_end["bucket"] == f"voices-{system.name}"
            kept = (await system.history("c"))["messages"]
            assert [m["content"] for m in kept][1:] == [turn.end["text"]]

        gone = await one.told("chat.history.delete.c")
        assert "error" not in gone
        assert not (await one.history("c"))["messages"]
        assert len((await two.history("c"))["messages"]) == 2
        link = await two.told("tts.link.c", turn_id="t")
        assert link["duration_ms"] > 0
        assert "error" in await one.told("tts.link.c", turn_id="t")
