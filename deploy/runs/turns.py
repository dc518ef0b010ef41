"""Turns from outside, as a client of a deployment, and what a user may rely on for each.

What is looked at is read back from the streams: a restart of NATS or of a port-forward loses what
passed live meanwhile, and nothing of what is kept.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import time
import urllib.error
import urllib.request
import uuid
import wave
from dataclasses import dataclass
from typing import TYPE_CHECKING

import nats

from local.voices import spoken_texts
from shared.errors import NatsError
from shared.nats.connection import Connection
from shared.nats.publish import publish
from shared.nats.read import read_back
from tests.e2e.whole import letters
from tests.system import Turn

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

# Sound that a test can read, and enough of it that something can be restarted meanwhile.
SCRIPT = json.dumps(
    {
        "chat": {"tokens_per_second": 12},
        "speech": {"sound": "computable", "realtime_factor": 5},
    }
)
TURN_SECONDS = 150.0
CONNECT_SECONDS = 30.0


class Broken(Exception):
    """A turn is not what a user may rely on."""


@dataclass(frozen=True, slots=True)
class Asked:
    conversation_id: str
    turn_id: str


class Client:
    """The trusted client of a deployment."""

    def __init__(
        self, connection: Connection, link: Callable[[str], urllib.request.Request]
    ) -> None:
        self.connection, self._link = connection, link

    async def ask(self, content: str, conversation_id: str | None = None) -> Asked:
        asked = Asked(conversation_id or f"c{uuid.uuid4().hex[:10]}", f"t{uuid.uuid4().hex[:10]}")
        body = {
            "conversation_id": asked.conversation_id,
            "turn_id": asked.turn_id,
            "content": content,
        }
        await publish(
            self.connection,
            "chat.request",
            json.dumps(body).encode(),
            {"Nats-Msg-Id": asked.turn_id},
        )
        return asked

    async def look(self, asked: Asked) -> Turn:
        """What the streams hold of the turn."""
        turn = Turn()
        c, t = asked.conversation_id, asked.turn_id
        async for message in read_back(self.connection, "CHAT_DELTAS", f"chat.delta.{c}", 1):
            event = json.loads(message.data)
            if event["turn_id"] == t:
                turn.deltas.append(event)
        async for message in read_back(self.connection, "TTS_AUDIO", f"tts.audio.{c}", 1):
            if message.headers.get("Parley-Turn") == t:
                turn.audio.append((dict(message.headers), message.data))
        return turn

    async def until(
        self, asked: Asked, condition: Callable[[Turn], bool], seconds: float = TURN_SECONDS
    ) -> Turn:
        """Looks until it is so. Raises Broken when it takes too long."""
        until = time.monotonic() + seconds
        turn = Turn()
        while time.monotonic() < until:
            with contextlib.suppress(NatsError):
                turn = await self.look(asked)
                if condition(turn):
                    return turn
            await asyncio.sleep(0.2)
        kinds = [h["Parley-Type"] for h, _ in turn.audio]
        raise Broken(f"{asked}: after {seconds:g} s {turn.deltas[-2:]}, voice {kinds[-6:]}")

    async def speaking(self, asked: Asked) -> None:
        """Until both services are in the middle of it."""
        await self.until(
            asked,
            lambda t: len(t.deltas) > 5 and any(h["Parley-Type"] == "chunk" for h, _ in t.audio),
        )

    async def whole(self, asked: Asked, seconds: float = TURN_SECONDS) -> str:
        """Waits for the end and checks everything; returns one line about it."""
        turn = await self.until(asked, lambda t: bool(t.end and t.voice_end), seconds)
        body = await asyncio.to_thread(self._fetch, str((turn.voice_end or {}).get("url")))
        return check(asked, turn, body)

    def _fetch(self, url: str) -> bytes:
        until = time.monotonic() + 30
        while True:
            try:
                with urllib.request.urlopen(self._link(url), timeout=10) as answer:  # noqa: S310  ours
                    return bytes(answer.read())
            except urllib.error.HTTPError as exc:
                raise Broken(f"the link to the voice answers {exc.code}") from None
            except OSError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.5)


def check(asked: Asked, turn: Turn, body: bytes) -> str:
    """The words without a gap, a voice that says all of them once, an object that holds it."""

    def must(condition: object, what: str) -> None:
        if not condition:
            raise Broken(f"{asked}: {what}")

    assert turn.end is not None
    assert turn.voice_end is not None
    must(turn.end["type"] == "done", f"ended with {turn.end}")
    last = max(d["attempt"] for d in turn.deltas)
    deltas = [d for d in turn.deltas if d["attempt"] == last]
    must([d["seq"] for d in deltas] == list(range(len(deltas))), "a gap or a repeat in the text")
    text = "".join(d["text"] for d in deltas if d["type"] == "text")
    must(text == turn.end["text"], "the text is not what `done` says")
    must(sum(d["type"] in {"done", "failed"} for d in turn.deltas) == 1, "two ends")
    must(turn.voice_end["type"] == "stored", f"the voice ended with {turn.voice_end}")
    voice = turn.voice()
    said = "".join(spoken_texts(voice))
    must(letters(said) == letters(text), f"said {said!r}, not {text!r}")
    with wave.open(io.BytesIO(body)) as wav:
        must(wav.readframes(wav.getnframes()) == voice, "the object is not what was heard")
    must(len(body) == turn.voice_end["bytes"], "the object has another size")
    return (
        f"whole: {len(text)} characters in {len(deltas)} events (attempt {last}), "
        f"{turn.voice_end['pieces']} pieces (attempt {turn.voice_end['attempt']}), "
        f"{turn.voice_end['duration_ms'] / 1000:.1f} s of voice, {len(body)} bytes stored"
    )


@contextlib.asynccontextmanager
async def client(
    url: str,
    password: str,
    link: Callable[[str], urllib.request.Request] = urllib.request.Request,
) -> AsyncIterator[Client]:
    """Connected as the user `client`; `link` makes of a link the request that reaches it."""
    connections: list[Connection] = []

    async def on_reconnect() -> None:
        for connection in connections:
            await connection.reconnected()

    async def on_error(_exc: Exception) -> None: ...  # it goes away on purpose, and comes back

    async with asyncio.timeout(CONNECT_SECONDS):
        nc = await nats.connect(
            url,
            user="client",
            password=password,
            max_reconnect_attempts=-1,
            reconnect_time_wait=0.25,
            reconnected_cb=on_reconnect,
            error_cb=on_error,
        )
    connection = Connection(nc)
    connections.append(connection)
    await connection.start()
    try:
        yield Client(connection, link)
    finally:
        await nc.close()
