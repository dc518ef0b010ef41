"""The list of what each user may do, in docs/permissions.md, is what the server says."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Final

from local.nats_server import NatsServer
from services.access.token import inbox_of
from tests.integration.access.world import guard, keys_in, token
from tests.integration.deploy.test_nats_permissions import (
    CONSUMERS,
    DEPLOY,
    STREAMS,
    Listener,
    configuration,
    connected,
)

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

_DOCUMENT = DEPLOY.parent / "docs" / "permissions.md"
_TOKEN: Final = "token"
_USERS: Final = (_TOKEN, "client", "operator", "chat", "tts")
_KV: Final = ("$KV.conversations.c", "$KV.speech.c.t")


def _api(verb: str, *streams: str) -> tuple[str, ...]:
    return tuple(f"$JS.API.{verb}.{stream}" for stream in streams or STREAMS)


def _both(subject: str) -> tuple[str, ...]:
    return subject, f"{subject}.c"


PUBLISHES: Final[dict[str, tuple[str, ...]]] = {
    "ask: `chat.request`, `chat.request.<c>`": _both("chat.request"),
    "ask and be told: `chat.ask.<c>`": ("chat.ask.c",),
    "stop: `chat.cancel`, `chat.cancel.<c>`": _both("chat.cancel"),
    "read the history: `chat.history.get`, `chat.history.get.<c>`": _both("chat.history.get"),
    "erase: `chat.history.delete`, `chat.history.delete.<c>`": _both("chat.history.delete"),
    "replay: `chat.replay.<c>`": ("chat.replay.c",),
    "have spoken: `tts.request.<c>`": ("tts.request.c",),
    "have a link signed: `tts.link.<c>`": ("tts.link.c",),
    "read back deltas and audio: `$JS.API.DIRECT.GET.…`": _api(
        "DIRECT.GET", "CHAT_DELTAS", "TTS_AUDIO"
    ),
    "say the assistant's words: `chat.delta.<c>`": ("chat.delta.c",),
    "voice them: `tts.audio.<c>`": ("tts.audio.c",),
    "erase voices: `tts.erase.<c>`": ("tts.erase.c",),
    "write dead letters: `chat.dead`, `tts.dead`, with `.<c>`": (
        *_both("chat.dead"),
        *_both("tts.dead"),
    ),
    "write documents: `$KV.…`": _KV,
    "read any other stream or bucket": (
        *_api("DIRECT.GET", "CHAT_REQUESTS", "TTS_REQUESTS", "KV_conversations", "KV_speech"),
        *_api("STREAM.MSG.GET"),
    ),
    "look at streams: `STREAM.INFO`, `LIST`, `NAMES`": (
        *_api("STREAM.INFO"),
        *_api("STREAM", "LIST", "NAMES"),
    ),
    "make the streams: `STREAM.CREATE`": _api("STREAM.CREATE"),
    "make other streams": ("$JS.API.STREAM.CREATE.OTHER",),
    "purge": _api("STREAM.PURGE"),
    "change or delete: `STREAM.UPDATE`, `DELETE`, `MSG.DELETE`": (
        *_api("STREAM.UPDATE"),
        *_api("STREAM.DELETE"),
        *_api("STREAM.MSG.DELETE"),
    ),
    "back up: `STREAM.SNAPSHOT`, `RESTORE`": (*_api("STREAM.SNAPSHOT"), *_api("STREAM.RESTORE")),
    "take work: `CONSUMER.MSG.NEXT`, `$JS.ACK.…`": tuple(
        subject
        for stream, names in CONSUMERS.items()
        for name in names
        for subject in (
            f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{name}",
            f"$JS.ACK.{stream}.{name}.1.1.1.1.0",
            f"$JS.ACK._.a.{stream}.{name}.1.1.1.1.0.x",
        )
    ),
    "make other consumers, delete them": (
        *(f"{subject}.spy" for subject in _api("CONSUMER.CREATE")),
        *(f"{subject}.spy" for subject in _api("CONSUMER.DELETE")),
    ),
    "ask the server itself: `$SYS.…`": ("$SYS.REQ.SERVER.PING", "$SYS.REQ.ACCOUNT.PARLEY.INFO"),
    "anything else": ("anything", "$KV.other.x", "_INBOX.x", "_INBOX.parley-chat.x"),
}
HEARS: Final[dict[str, tuple[str, ...]]] = {
    "words: `chat.delta`, `chat.delta.<c>`": _both("chat.delta"),
    "voices: `tts.audio`, `tts.audio.<c>`": _both("tts.audio"),
    "requests: `chat.request.*`, `tts.request.*`, `chat.ask.*`": (
        *("chat.request", "chat.request.*", "tts.request.*", "chat.ask.*"),
    ),
    "dead letters: `chat.dead`, `tts.dead`, with `.<c>`": (*_both("chat.dead"), *_both("tts.dead")),
    "documents: `$KV.>`": ("$KV.>", "$KV.conversations.>"),
    "advisories: `$JS.EVENT.>`": ("$JS.EVENT.>",),
    "acks, API calls, system events: `$JS.>`, `$SYS.>`": ("$JS.ACK.>", "$JS.API.>", "$SYS.>"),
    "answers to others: `_R_.>`, another one's inboxes": (
        "_R_.>",
        "_INBOX_other.>",
        "_INBOX_other.x",
    ),
    "everything: `>`": (">",),
}


def _as(server: NatsServer, user: str) -> AbstractAsyncContextManager[Listener]:
    if user != _TOKEN:
        return connected(server, user)
    shown = token("c")
    login = {"user": None, "password": None, "token": shown, "inbox_prefix": inbox_of(shown)}
    return connected(server, user, url=server.ws_url, **login)


async def _told(server: NatsServer, kind: str, rows: dict[str, tuple[str, ...]]) -> list[str]:
    """A line for each row: who may do all of it, some of it, nothing."""
    refused: dict[str, set[str]] = {}
    subjects = sorted({subject for row in rows.values() for subject in row})
    for user in _USERS:
        async with _as(server, user) as listener:
            refused[user] = await listener.refuses(kind, subjects)
    lines = []
    for words, row in rows.items():
        cells = []
        for user in _USERS:
            left = set(row) - refused[user]
            cells.append("yes" if left == set(row) else "some" if left else "-")
        lines.append(f"| {words} | {' | '.join(cells)} |")
    return lines


HEAD: Final = """\
# Who may do what in NATS

Made by `tests/integration/deploy/test_permissions_list.py`, which tries each line on a server with `deploy/nats`; with `WRITE=1` it writes this file anew.
`token` is a conversation token that opens `<c>` with every right that there is; `client` stands for every application.
Applications are in an account of their own: whatever reply subject one gives, its answers go nowhere else (`tests/integration/deploy/test_applications.py`).
What a service has `some` of is what its work needs; `deploy/nats/permissions.conf` spells it out.
"""  # noqa: E501  one sentence a line


def _columns(words: str) -> list[str]:
    return [f"| {words} | {' | '.join(_USERS)} |", "|---" * (len(_USERS) + 1) + "|"]


async def listed(server: NatsServer) -> str:
    lines = [HEAD, *_columns("may publish, or ask to"), *await _told(server, "publish", PUBLISHES)]
    lines += ["", *_columns("may hear"), *await _told(server, "subscribe", HEARS), ""]
    return "\n".join(lines)


async def test_the_list_of_what_each_may_do_is_what_the_server_says(tmp_path: Path) -> None:
    config = configuration(tmp_path / "deploy")
    async with NatsServer(tmp_path / "nats", config=config) as server:
        access = guard(server, keys_in(tmp_path))
        try:
            await access.start()
            told = await listed(server)
        finally:
            await access.close()
    if os.environ.get("WRITE"):
        await asyncio.to_thread(_DOCUMENT.write_text, told)
    assert await asyncio.to_thread(_DOCUMENT.read_text) == told
