"""The user of Parley who costs the machine least: NATS by hand, arrivals noted as they are read.

A client library's queues and tasks would be measured as ours; here a message's time is that of the
read of the socket that brought its last byte.
"""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable

    Take = Callable[[bytes, bytes, bytes, float], None]

_CONNECT: Final = b'CONNECT {"verbose":false,"pedantic":false,"headers":true}\r\n'
_TURN_SECONDS: Final = 120.0


class Wire(asyncio.Protocol):
    """One connection to nats-server; `take` gets subject, header block, body and arrival."""

    def __init__(self, take: Take) -> None:
        self._take = take
        self._rest = b""
        self._pongs: list[asyncio.Future[None]] = []
        self._transport: asyncio.Transport | None = None

    @classmethod
    async def connect(cls, url: str, take: Take) -> Wire:
        where = urlsplit(url.partition(",")[0])  # of a cluster, the first
        loop = asyncio.get_running_loop()
        host, port = where.hostname or "127.0.0.1", where.port or 4222
        _, wire = await loop.create_connection(lambda: cls(take), host, port)
        wire.send(_CONNECT)
        await wire.flush()
        return wire

    def send(self, data: bytes) -> None:
        assert self._transport is not None
        self._transport.write(data)

    async def flush(self) -> None:
        """Returns when the server has dealt with everything before."""
        pong = asyncio.get_running_loop().create_future()
        self._pongs.append(pong)
        self.send(b"PING\r\n")
        async with asyncio.timeout(60):
            await pong

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    # ------------------------------------------------------------ asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none of asyncio's

    def data_received(self, data: bytes) -> None:
        now = time.monotonic()
        if self._rest:
            data = self._rest + data
        at, size = 0, len(data)
        while (end := data.find(b"\r\n", at)) >= 0:
            if not data.startswith((b"MSG", b"HMSG"), at):
                self._command(data[at:end])
                at = end + 2
                continue
            words = data[at:end].split(b" ")
            stop = end + 2 + int(words[-1])
            if stop + 2 > size:
                break
            body = end + 2 + (int(words[-2]) if words[0] == b"HMSG" else 0)
            self._take(words[1], data[end + 2 : body], data[body:stop], now)
            at = stop + 2
        self._rest = data[at:]

    def _command(self, line: bytes) -> None:
        if line == b"PING":
            self.send(b"PONG\r\n")
        elif line == b"PONG":
            self._pongs.pop(0).set_result(None)
        elif line.startswith(b"-ERR"):
            raise SystemExit(f"nats-server: {line.decode()}")


@dataclass(slots=True)
class Turn:
    """What came of one, in seconds of the monotonic clock."""

    began: float
    ended: asyncio.Future[float]
    voiced: bool
    texts: list[tuple[float, bytes]] = field(default_factory=list)
    chunks: list[tuple[float, int]] = field(default_factory=list)  # arrival, bytes

    @property
    def first_text(self) -> float:
        return self.texts[0][0] - self.began

    @property
    def first_audio(self) -> float:
        return self.chunks[0][0] - self.began

    @property
    def whole(self) -> float:
        return self.ended.result() - self.began

    def text_arrivals(self) -> list[tuple[float, int]]:
        """When the text events came, and how many characters each had."""
        return [(at, len(json.loads(body)["text"])) for at, body in self.texts]


class Client:
    """Asks on `chat.request`, listens to every conversation's text and voice."""

    def __init__(self) -> None:
        self._wire: Wire | None = None
        self._turns: dict[bytes, Turn] = {}

    async def connect(self, url: str) -> None:
        self._wire = await Wire.connect(url, self._take)
        self._wire.send(b"SUB chat.delta.* 1\r\nSUB tts.audio.* 2\r\n")
        await self._wire.flush()

    def close(self) -> None:
        if self._wire is not None:
            self._wire.close()

    def ask(self, conversation: str = "", **request: Any) -> Turn:
        """Publishes it; the answer's `ended` is done with the last event.

        A new conversation where none is named.
        """
        assert self._wire is not None
        conversation = conversation or uuid.uuid4().hex
        body = json.dumps({"conversation_id": conversation, **request}).encode()
        turn = Turn(
            began=time.monotonic(),
            ended=asyncio.get_running_loop().create_future(),
            voiced=request.get("speech") is not False,
        )
        self._turns[conversation.encode()] = turn
        self._wire.send(b"PUB chat.request %d\r\n%s\r\n" % (len(body), body))
        return turn

    async def turn(self, conversation: str = "", **request: Any) -> Turn:
        return await whole(self.ask(conversation, **request))

    def _take(self, subject: bytes, head: bytes, body: bytes, now: float) -> None:
        kind, _, conversation = subject.rpartition(b".")
        turn = self._turns.get(conversation)
        if turn is None:
            return
        if kind == b"chat.delta":
            self._text(turn, conversation, body, now)
        elif b"Parley-Type: chunk" in head:
            turn.chunks.append((now, len(body)))
        elif b"Parley-Type: stored" in head or b"Parley-Type: failed" in head:
            self._end(turn, conversation, body, now, failed=b": failed" in head)

    def _text(self, turn: Turn, conversation: bytes, body: bytes, now: float) -> None:
        if b'"type":"text"' in body:
            turn.texts.append((now, body))
        elif b'"type":"failed"' in body:
            self._end(turn, conversation, body, now, failed=True)
        elif b'"type":"done"' in body and not turn.voiced:
            self._end(turn, conversation, body, now)

    def _end(
        self, turn: Turn, conversation: bytes, body: bytes, now: float, *, failed: bool = False
    ) -> None:
        del self._turns[conversation]
        if turn.ended.done():
            return
        if failed:
            turn.ended.set_exception(RuntimeError(f"a turn failed: {body.decode()}"))
        else:
            turn.ended.set_result(now)


async def whole(turn: Turn) -> Turn:
    async with asyncio.timeout(_TURN_SECONDS):
        await turn.ended
    return turn


def latencies(
    wire: list[tuple[float, int]],
    arrivals: list[tuple[float, int]],
    between: tuple[float, float] = (0.0, float("inf")),
) -> list[float]:
    """Seconds from the wire to the subscriber, for each of what was sent within the time.

    Both are (time, size) in order, and say the same in all; a message that joins several, or a
    part of one, is arrived when all of it is.

    Raises: ValueError, where something was lost or doubled.
    """
    if sum(size for _, size in wire) != sum(size for _, size in arrivals):
        raise ValueError("what came is not what was sent")
    found, come, at, last = [], 0, 0, 0.0
    due = 0
    for sent, size in wire:
        due += size
        while come < due:
            last = arrivals[at][0]
            come += arrivals[at][1]
            at += 1
        if between[0] <= sent <= between[1]:
            found.append(last - sent)
    return found
