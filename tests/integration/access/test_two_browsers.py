"""Two browsers, a token each: neither can do anything about the other's conversation.

And each can do all that is its own, batched replay included.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import nats.errors
import pytest
import pytest_asyncio

from services.access.token import May
from shared.nats.connection import Connection
from shared.nats.read import read_back
from tests.integration.access.world import Browser, World, browser, token

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(240)]

MINE, THEIRS = "3f9a6b1c2d4e5f60718293a4b5c6d7e8", "e8d7c6b5a4938271605f4e3d2c1b6a9f"
OWN, SILENT = "5c1e0d9a8b7f60718293a4b5c6d7e8f9", "9f8e7d6c5b4a39281706f5e4d3c2b1a0"
PUBLISH = [
    # of the other conversation: ask, stop, read, erase, replay, link; say in the service's name
    *(f"chat.{what}.{MINE}" for what in ("ask", "request", "cancel", "delta", "replay")),
    *(f"chat.history.{what}.{MINE}" for what in ("get", "delete")),
    *(f"tts.{what}.{MINE}" for what in ("request", "audio", "link", "erase")),
    # where the body names the conversation
    *("chat.request", "chat.cancel", "chat.history.get", "chat.history.delete"),
    # of all of them at once
    *("chat.ask.*", "chat.cancel.>", "chat.history.get.*", "chat.replay.>"),
    # of one's own, what a token never gives
    *(f"chat.{what}.{THEIRS}" for what in ("request", "delta", "dead")),
    *(f"tts.{what}.{THEIRS}" for what in ("request", "audio", "erase")),
    # the store, the server, and who is in between
    *(f"$JS.API.DIRECT.GET.{s}" for s in ("CHAT_DELTAS", "TTS_AUDIO", "KV_conversations")),
    *("$JS.API.STREAM.DELETE.KV_conversations", "$JS.API.STREAM.NAMES", "$JS.API.INFO"),
    *(f"$KV.conversations.{MINE}", f"$KV.conversations.{THEIRS}", "$JS.ACK.CHAT_REQUESTS.x"),
    *("$SYS.REQ.USER.AUTH", "$SYS.REQ.SERVER.PING", "$SYS.REQ.SERVER.PING.CONNZ"),
    *("$SYS.REQ.USER.INFO", "$SYS.REQ.ACCOUNT.PING.CONNZ", "$SYS.REQ.SERVER.x.KICK"),
    *("_INBOX.x", "_INBOX.parley-chat.x", "_INBOX_client.x", "_R_.x", "anything"),
]
SUBSCRIBE = [
    *(f"chat.delta.{MINE}", f"tts.audio.{MINE}", f"chat.ask.{MINE}", f"chat.ask.{THEIRS}"),
    *("chat.delta", "tts.audio", "chat.delta.*", "tts.audio.*", "chat.>", "tts.>", ">", "*.*.*"),
    *("_INBOX.>", "_INBOX.*", "*.>", "_INBOX_x.>", "_R_.>", "_R_.*.*", "refused"),
    *("$JS.>", "$KV.>", "$KV.conversations.>", "$SYS.>", "$SYS.REQ.USER.AUTH", "$SYS.ACCOUNT.>"),
]


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    async with World(tmp_path_factory.mktemp("world")) as running:
        await running.up()
        running.emulator.change({"speech": {"realtime_factor": 100}})
        yield running


class Told(list[str]):
    """What the server said of each attempt."""

    def refused(self, subject: str) -> bool:
        # What would be heard as an event is refused by another name (deploy/nats/permissions.conf).
        said = {f'to "{prefix}{subject}"'.lower() for prefix in ("", "denied.")}
        return any("permissions violation" in e and any(s in e.lower() for s in said) for e in self)


async def told(page: Browser) -> Told:
    await page.settle()
    return Told(page.refused)


async def spoken(world: World, conversation_id: str) -> str:
    """A turn with its voice; returns its id."""
    turn = await world.answered(conversation_id=conversation_id, content="What is my secret?")
    assert turn.end is not None
    return str(turn.deltas[0]["turn_id"])


async def kept(world: World) -> dict[str, Any]:
    """All that there is of the conversation that is attacked, and what streams there are."""
    async with world.of("operator", inbox_prefix="_INBOX.parley-operator") as client:
        connection = Connection(client)
        await connection.start()
        found: dict[str, Any] = {}
        for stream, subject in (
            ("CHAT_DELTAS", f"chat.delta.{MINE}"),
            ("TTS_AUDIO", f"tts.audio.{MINE}"),
            ("KV_conversations", f"$KV.conversations.{MINE}"),
            ("KV_speech", f"$KV.speech.{MINE}.*"),
            ("CHAT_REQUESTS", f"chat.request.{MINE}"),
            ("TTS_REQUESTS", f"tts.request.{MINE}"),
        ):
            found[stream] = [m.data async for m in read_back(connection, stream, subject)]
        found["streams"] = (await connection.api("STREAM.NAMES"))["streams"]
        await connection.close()
        return found


async def test_a_token_reaches_nothing_but_its_own_conversation(world: World) -> None:
    """Each attack is refused in words, and nothing of the other conversation changes."""
    turn_id = await spoken(world, MINE)
    await world.until_settled()
    before = await kept(world)
    assert all(before[name] for name in ("CHAT_DELTAS", "TTS_AUDIO", "KV_conversations"))

    mine, theirs = token(MINE, sub="ada"), token(THEIRS, sub="eve")
    async with (
        browser(world.nats.ws_url, mine) as ada,
        browser(world.nats.ws_url, theirs) as eve,
    ):
        for subject in (f"chat.delta.{MINE}", f"tts.audio.{MINE}", f"{ada.inbox}.>"):
            await ada.hear(subject)
        await ada.settle()

        body = {"conversation_id": MINE, "turn_id": turn_id, "content": "Delete everything!"}
        for subject in [*PUBLISH, f"{ada.inbox}.x"]:
            await eve.client.publish(subject, json.dumps(body).encode(), reply=f"{eve.inbox}.x")
        said = await told(eve)
        assert [s for s in [*PUBLISH, f"{ada.inbox}.x"] if not said.refused(s)] == []

        for subject in [*SUBSCRIBE, f"{ada.inbox}.>", f"{ada.inbox}.*"]:
            await eve.client.subscribe(subject)
        said = await told(eve)
        assert [s for s in [*SUBSCRIBE, f"{ada.inbox}.>"] if not said.refused(s)] == []

        # What she may send names the other conversation in its body: refused, not done.
        for subject in (f"chat.ask.{THEIRS}", f"chat.cancel.{THEIRS}"):
            assert (await eve.ask(subject, **body))["error"]["code"] == "invalid_request"
        for what in ("get", "delete"):
            answer = await eve.ask(f"chat.history.{what}.{THEIRS}", conversation_id=MINE)
            assert answer["error"]["code"] == "invalid_request"
        link = await eve.ask(f"tts.link.{THEIRS}", turn_id=turn_id)
        assert link["error"]["code"] == "not_found"

        await forge_replies(eve)
        await world.until_settled()
        assert await kept(world) == before
        assert ada.heard == []


async def forge_replies(eve: Browser) -> None:
    """Every subject that she may send to, with a reply that would do harm where it is answered."""
    aims = [
        *("$JS.API.STREAM.DELETE.KV_conversations", "$JS.API.STREAM.PURGE.CHAT_DELTAS"),
        *(f"$KV.conversations.{MINE}", f"$KV.speech.{MINE}.t", "$JS.ACK.CHAT_REQUESTS.x"),
        *(f"chat.delta.{MINE}", f"tts.audio.{MINE}", "chat.delta", "tts.audio"),
        *(f"chat.{what}.{MINE}" for what in ("ask", "request", "cancel", "replay")),
        *(f"chat.history.{what}.{MINE}" for what in ("get", "delete")),
        *(f"tts.{what}.{MINE}" for what in ("request", "link", "erase")),
        *("chat.request", "chat.cancel", "chat.history.delete", "_INBOX.x", "_R_.x"),
        *("_INBOX.parley-chat.x", "$SYS.REQ.USER.AUTH", "$SYS.REQ.SERVER.x.KICK"),
    ]
    asked = {
        f"chat.ask.{THEIRS}": {"content": "Hello", "speech": False},
        f"chat.cancel.{THEIRS}": {},
        f"chat.history.get.{THEIRS}": {},
        f"chat.replay.{THEIRS}": {"what": "delta"},  # ends with an empty message
        f"tts.link.{THEIRS}": {"turn_id": "t"},
    }
    for aim in aims:
        for subject, body in asked.items():
            await eve.client.publish(subject, json.dumps(body).encode(), reply=aim)
    await eve.settle()


async def test_everything_of_its_own_works(world: World) -> None:
    async with browser(world.nats.ws_url, token(OWN)) as page:
        await page.hear(f"chat.delta.{OWN}")
        await page.hear(f"tts.audio.{OWN}")
        await page.settle()
        asked = await page.ask(f"chat.ask.{OWN}", content="Hello.", turn_id="t")
        assert asked == {"conversation_id": OWN, "turn_id": "t", "state": "queued"}
        await world.ears.whole("t", seconds=60)
        await page.settle()

        live = {kind: [m for m in page.heard if m.subject.startswith(kind)] for kind in KINDS}
        for kind, what in KINDS.items():
            replayed = await page.replayed(OWN, what)
            assert [m.data for m in replayed] == [m.data for m in live[kind]]
            assert len(replayed) > 3

        history = await page.ask(f"chat.history.get.{OWN}")
        assert [m["role"] for m in history["messages"]] == ["user", "assistant"]
        assert (await page.ask(f"tts.link.{OWN}", turn_id="t"))["duration_ms"] > 0
        assert "error" not in await page.ask(f"chat.cancel.{OWN}")
        deleted = await page.ask(f"chat.history.delete.{OWN}")
        assert deleted == {"conversation_id": OWN, "deleted": True}
        assert page.refused == []


KINDS = {"chat.delta": "delta", "tts.audio": "audio"}


async def test_a_token_that_may_only_listen_cannot_ask_stop_or_erase(world: World) -> None:
    async with browser(world.nats.ws_url, token(SILENT, may=[May.LISTEN])) as page:
        await page.hear(f"chat.delta.{SILENT}")
        assert await page.replayed(SILENT, "delta") == []
        subjects = [f"chat.ask.{SILENT}", f"chat.cancel.{SILENT}"]
        subjects += [f"chat.history.{what}.{SILENT}" for what in ("get", "delete")]
        for subject in subjects:
            with pytest.raises(nats.errors.Error):
                await asyncio.wait_for(page.client.request(subject, b"{}", timeout=0.5), 5)
        said = await told(page)
        assert [s for s in subjects if not said.refused(s)] == []
