"""The whole system on real parts: nats-server, S3, the provider's emulator, services as processes.

What is said is taken down as it crosses the wire, on the literal subjects, with the repeats and
leftovers that a client drops. Sound is put together, and the past is asked for, by the client.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import msgspec
import nats
import nats.js.errors
from parley import Parley, Sound, Started, Text
from parley.events import Event, Later, VoiceEvent, text_event, voice_event
from parley.voice import VoiceTimeline

from local.nats_cluster import NatsCluster
from local.nats_server import NatsServer
from local.object_store import object_store, preferred_kind
from local.together.emulator import Emulator
from tests.forked import ForkedService, warm

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from nats.aio.client import Client
    from nats.aio.msg import Msg

    from local.s3_server import Kind
    from local.service import Service

API_KEY = "key-that-must-not-leak"
WAIT = 100.0  # seconds, for what is there at once on a machine that has nothing else to do


@dataclass(slots=True)
class Turn:
    """What came live for one turn, in the order in which it came."""

    deltas: list[dict[str, Any]] = field(default_factory=list)
    audio: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    first_text: float | None = None
    first_chunk: float | None = None
    last_chunk: float | None = None

    @property
    def end(self) -> dict[str, Any] | None:
        return next((d for d in self.deltas if d["type"] in {"done", "failed"}), None)

    @property
    def voice_end(self) -> dict[str, Any] | None:
        for headers, data in self.audio:
            if headers["Parley-Type"] in {"stored", "failed"}:
                return {"type": headers["Parley-Type"], **json.loads(data)}
        return None

    def events(self) -> list[Event]:
        """As the client has them: the text's as they came, the voice's without repeats."""
        found: list[Event] = []
        for delta in self.deltas:
            event = text_event(json.dumps(delta).encode())
            assert event is not None, delta
            assert not isinstance(event, Later), delta
            found.append(event)
        return [*found, *self._voice_events()]

    def _voice_events(self) -> list[VoiceEvent]:
        timeline = VoiceTimeline()
        found: list[VoiceEvent] = []
        for headers, data in self.audio:
            event = voice_event(headers, data)
            assert event is not None, headers
            found += timeline.add(event, kept=True)
        return found

    def voice(self) -> bytes:
        """The chunks of the finished pieces, joined in order."""
        sound = Sound()
        for event in self._voice_events():
            sound.add(event)
        return sound.pcm


class Ears:
    """Listens to everything on the literal subjects."""

    def __init__(self) -> None:
        self.turns: dict[str, Turn] = {}
        self._changed = asyncio.Event()

    async def listen(self, client: Client) -> None:
        await client.subscribe("chat.delta", cb=self._on_delta)
        await client.subscribe("tts.audio", cb=self._on_audio)
        await client.flush()
        await client.flush()

    def turn(self, turn_id: str) -> Turn:
        return self.turns.setdefault(turn_id, Turn())

    async def _on_delta(self, msg: Msg) -> None:
        event = json.loads(msg.data)
        turn = self.turn(event["turn_id"])
        if event["type"] == "text" and turn.first_text is None:
            turn.first_text = time.monotonic()
        turn.deltas.append(event)
        self._changed.set()

    async def _on_audio(self, msg: Msg) -> None:
        assert msg.headers is not None
        turn = self.turn(msg.headers["Parley-Turn"])
        if msg.headers["Parley-Type"] == "chunk":
            turn.last_chunk = time.monotonic()
            turn.first_chunk = turn.first_chunk or turn.last_chunk
        turn.audio.append((dict(msg.headers), msg.data))
        self._changed.set()

    async def until(self, condition: Callable[[], bool], seconds: float = WAIT) -> None:
        async with asyncio.timeout(seconds):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    async def whole(self, *turn_ids: str, voice: bool = True, seconds: float = WAIT) -> None:
        """Waits until text and voice of all these turns have ended."""

        def ended() -> bool:
            turns = [self.turn(t) for t in turn_ids]
            return all(t.end and (t.voice_end or not voice) for t in turns)

        try:
            await self.until(ended, seconds)
        except TimeoutError:
            raise AssertionError(self._missing(turn_ids)) from None

    def _missing(self, turn_ids: tuple[str, ...]) -> str:
        lines = []
        for turn_id in turn_ids:
            turn = self.turn(turn_id)
            kinds = [h["Parley-Type"] for h, _ in turn.audio]
            lines.append(
                f"{turn_id}: text ended {turn.end is not None} ({len(turn.deltas)} events), "
                f"voice ended {turn.voice_end is not None} ({kinds[-6:]})"
            )
        return "not whole in time: " + "; ".join(lines)


async def until_empty(client: Client, *streams: str, seconds: float = WAIT) -> None:
    """Waits until these work queues hold nothing."""
    js = client.jetstream()
    until = time.monotonic() + seconds
    for stream in streams:
        while left := (await js.stream_info(stream)).state.messages:
            assert time.monotonic() < until, f"{left} messages left in {stream}"
            await asyncio.sleep(0.05)


class System:
    """Starts what it is asked for, stops all of it."""

    def __init__(
        self,
        folder: Path,
        *,
        script: dict[str, Any] | None = None,
        s3: Kind | None = None,
        settings: Mapping[str, str] | None = None,
        cluster: bool = False,
    ) -> None:
        """`cluster`: of three nats-servers, every stream on each of them."""
        self.folder = folder
        self.cluster = NatsCluster(self.folder / "nats") if cluster else None
        if self.cluster is None:
            self.nats = NatsServer(self.folder / "nats", websocket=False)
        else:
            self.nats = self.cluster.servers[0]
        self.s3 = object_store(s3 or preferred_kind())
        self.emulator = Emulator(script or {})
        self.settings = dict(settings or {})
        if cluster:
            self.settings.setdefault("STREAM_REPLICAS", "3")
        self.services: list[Service] = []  # a test may forget those that it ended
        self._added: list[Service] = []
        self.ears = Ears()
        self._client: Client | None = None
        self._parley: Parley | None = None

    @property
    def client(self) -> Client:
        assert self._client is not None
        return self._client

    @property
    def parley(self) -> Parley:
        assert self._parley is not None
        return self._parley

    @property
    def _servers(self) -> NatsServer | NatsCluster:
        return self.cluster or self.nats

    def environment(self) -> dict[str, str]:
        return {
            "NATS_URL": self._servers.url,
            "TOGETHER_API_KEY": API_KEY,
            "TOGETHER_BASE_URL": self.emulator.base_url,
            "TTS_URL": self.emulator.tts_url,
            "MINIO_ENDPOINT": self.s3.endpoint,
            "MINIO_ACCESS_KEY": self.s3.access_key,
            "MINIO_SECRET_KEY": self.s3.secret_key,
            "HTTP_PORT": "0",
            "PYTHONUNBUFFERED": "1",
            **self.settings,
        }

    async def __aenter__(self) -> Self:
        warm("chat", "tts")
        try:
            await asyncio.gather(self._servers.start(), self.s3.start(), self.emulator.start())
            await self.connect()
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def connect(self, user: str | None = None, password: str | None = None) -> None:
        """As a user of NATS, and as one of Parley."""
        servers = self._servers.url.split(",")
        self._client = await nats.connect(
            servers,
            user=user,
            password=password,
            max_reconnect_attempts=-1,
            reconnect_time_wait=0.1,
        )
        self._parley = Parley.connect(servers, user=user, password=password)
        await self._parley.open()

    async def __aexit__(self, *_: object) -> None:
        for service in self._added:
            await service.kill()
            await service.close()
        for client in (self._client, self._parley):
            if client is not None:
                with contextlib.suppress(Exception):
                    await client.close()
        await self.emulator.close()
        await self.s3.close()
        await self._servers.close()

    def add(self, name: str, **settings: str) -> Service:
        """A service, started; wait for it with `ready`."""
        environ = {**os.environ, **self.environment(), **settings}
        log = self.folder / f"{name}-{len(self._added)}.log"
        service = ForkedService(name, environ, log=log)
        self._added.append(service)
        self.services.append(service)
        service.spawn()
        return service

    async def up(self, *, chat: int = 1, tts: int = 1) -> None:
        """So many replicas of each, ready, and somebody who listens."""
        new = [self.add("chat") for _ in range(chat)] + [self.add("tts") for _ in range(tts)]
        await asyncio.gather(*(service.ready() for service in new))
        await self.ears.listen(self.client)

    async def ask(self, **request: Any) -> str:
        """Publishes a request to `chat.request`, acked; returns its turn id."""
        request.setdefault("turn_id", uuid.uuid4().hex)
        await self.client.jetstream().publish("chat.request", json.dumps(request).encode())
        return str(request["turn_id"])

    async def answered(self, seconds: float = WAIT, **request: Any) -> Turn:
        """Asks as a user of the client does, and waits for the whole turn: what the client gives is
        what crossed the wire."""
        conversation_id = request.pop("conversation_id", None)
        asked = self.parley.ask(conversation=conversation_id, **request)
        given, sound = "", Sound()
        async with asyncio.timeout(seconds):
            async for event in asked.events():
                sound.add(event)
                match event:
                    case Started():
                        given = ""
                    case Text(text=text):
                        given += text
                    case _:
                        pass
        voice = request.get("speech") is not False
        await self.ears.whole(asked.turn_id, voice=voice, seconds=seconds)
        turn = self.ears.turn(asked.turn_id)
        assert turn.end is not None
        assert given == turn.end.get("text", given)
        assert sound.pcm == turn.voice()
        return turn

    async def history(self, conversation_id: str) -> dict[str, Any]:
        """The newest page."""
        found: dict[str, Any] = msgspec.to_builtins(
            await anext(self.parley.history(conversation_id))
        )
        return found

    async def until_empty(self, *streams: str, seconds: float = WAIT) -> None:
        """Waits until these work queues hold nothing."""
        await until_empty(self.client, *streams, seconds=seconds)

    async def stored(self, stream: str, *, after: int = 0) -> list[Any]:
        """Every message that a stream holds from behind sequence `after`, in its order."""
        js = self.client.jetstream()
        state = (await js.stream_info(stream)).state
        found: list[Any] = []
        first, last = max(1, state.first_seq, after + 1), state.last_seq
        for start in range(first, last + 1, 200):
            numbers = range(start, min(start + 200, last + 1))
            batch = await asyncio.gather(
                *(js.get_msg(stream, n) for n in numbers), return_exceptions=True
            )
            for message in batch:
                if isinstance(message, nats.js.errors.NotFoundError):
                    continue
                if isinstance(message, BaseException):
                    raise message
                found.append(message)
        return found
