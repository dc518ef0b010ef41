"""One nats-server that is full: what it costs to have kept a million turns.

    python -m bench.fill --conversations 100000 --turns 1000000

fills the services' own streams, as `python -m shared.provision` makes them, by raw publishes, and
tells after each step the server's memory and how long a read and an acknowledged publish take.
Each turn leaves a few text and audio events of the sizes that they have on the wire, since all of
them would not fit on a disk; what costs memory are subjects and messages, not bytes.

    python -m bench.fill --windows 120 10 0

instead publishes the events of so many turns a second under their message ids, with each
`duplicate_window`, and tells what the ids cost; 0 is without ids.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import subprocess
import sys
import time
import uuid
from typing import TYPE_CHECKING, Any, Final

import uvloop

from bench import page
from bench.client import Wire
from bench.contenders import memory_mb
from bench.table import percentile, plain
from local.nats_server import NatsServer
from local.process import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

_BATCH: Final = 2_000  # messages; the server drops what it has not stored beyond 10,000
_SAMPLES: Final = 300
TEXT_EVENTS: Final = 60  # of a turn, as they would be without anything joined
AUDIO_EVENTS: Final = 45
_TEXT: Final = (
    b'{"type":"text","conversation_id":"%s","turn_id":"%s","attempt":1,"seq":7,"text":" sea"}'
)
_RECORD: Final = b'{"v":1,"execution":"e","state":"stored","key":"%s","bytes":192044,"sha256":"%s"}'
_WINDOWED: Final = 50  # conversations
_PAUSE_SECONDS: Final = 0.1
_MESSAGES: Final = 20  # that a document holds


class Filled:
    """A server with the services' streams; asks go over the same connection as publishes."""

    def __init__(self, url: str, pid: int) -> None:
        self._url, self._pid = url, pid
        self._inbox = f"_INBOX.{uuid.uuid4().hex}".encode()
        self._answers: dict[bytes, asyncio.Future[bytes]] = {}
        self._asked = 0
        self._wire: Wire | None = None

    async def connect(self) -> None:
        self._wire = await Wire.connect(self._url, self._take)
        self._wire.send(b"SUB %s.* 1\r\n" % self._inbox)
        await self._wire.flush()

    def close(self) -> None:
        if self._wire is not None:
            self._wire.close()

    def _take(self, subject: bytes, _head: bytes, body: bytes, _now: float) -> None:
        answer = self._answers.pop(subject, None)
        if answer is not None:
            answer.set_result(body)

    def memory_mb(self) -> float:
        return memory_mb(self._pid)

    async def ask(self, subject: bytes, body: bytes = b"") -> bytes:
        """A request, or a publish that is acknowledged."""
        assert self._wire is not None
        self._asked += 1
        reply = b"%s.%d" % (self._inbox, self._asked)
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._answers[reply] = answer
        self._wire.send(b"PUB %s %s %d\r\n%s\r\n" % (subject, reply, len(body), body))
        async with asyncio.timeout(60):
            return await answer

    async def api(self, subject: str, body: object = None) -> dict[str, Any]:
        """Raises: SystemExit, where the server refuses."""
        data = b"" if body is None else json.dumps(body).encode()
        found: dict[str, Any] = json.loads(await self.ask(f"$JS.API.{subject}".encode(), data))
        if "error" in found:
            raise SystemExit(f"{subject}: {found['error']}")
        return found

    async def fill(self, messages: Iterable[tuple[bytes, bytes, bytes]]) -> int:
        """Publishes (subject, message id or nothing, body); waits for the last of each batch."""
        assert self._wire is not None
        batch: list[bytes] = []
        count = 0
        for subject, number, body in messages:
            count += 1
            if count % _BATCH == 0:
                self._wire.send(b"".join(batch))
                batch.clear()
                await self.ask(subject, body)
            elif number:
                head = b"NATS/1.0\r\nNats-Msg-Id: %s\r\n\r\n" % number
                sizes = b"%d %d" % (len(head), len(head) + len(body))
                batch.append(b"HPUB %s %s\r\n%s%s\r\n" % (subject, sizes, head, body))
            else:
                batch.append(b"PUB %s %d\r\n%s\r\n" % (subject, len(body), body))
        self._wire.send(b"".join(batch))
        await self._wire.flush()
        return count

    async def took(self, subjects: Iterable[bytes], body: bytes = b"") -> list[float]:
        """Milliseconds that each takes, one after the other."""
        found = []
        for subject in subjects:
            began = time.monotonic()
            await self.ask(subject, body)
            found.append((time.monotonic() - began) * 1000)
        return found


def _provision(url: str) -> None:
    """The streams as the services make them, with room for all that is to come."""
    kept = ("CONVERSATIONS", "SPEECH", "DELTAS", "AUDIO")
    unlimited = {f"RETENTION_{name}_BYTES": "0" for name in kept}
    environ = {**os.environ, "NATS_URL": url, **unlimited}
    command = [sys.executable, "-m", "shared.provision", "--apply"]
    subprocess.run(command, env=environ, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)


# ---------------------------------------------------------------- what is put there


def _conversation(number: int) -> bytes:
    return b"conversation-%07d" % number


def _documents(conversations: int) -> Iterator[tuple[bytes, bytes, bytes]]:
    body = b'{"v":1,"messages":[%s]}' % b",".join(
        b'{"role":"user","content":"This is message number %d."}' % n for n in range(_MESSAGES)
    )
    for number in range(conversations):
        yield b"$KV.conversations." + _conversation(number), b"", body


def _records(conversations: int, turns: int) -> Iterator[tuple[bytes, bytes, bytes]]:
    for number in range(turns):
        key = b"%s.t%d" % (_conversation(number % conversations), number)
        yield b"$KV.speech." + key, b"", _RECORD % (key, b"0" * 64)


def _events(
    conversations: int, turns: int, *, text: int, audio: int, ids: bool = False, first: int = 0
) -> Iterator[tuple[bytes, bytes, bytes]]:
    frame = bytes(480)
    for turn in range(first, first + turns):
        conversation = _conversation(turn % conversations)
        body = _TEXT % (conversation, b"t%d" % turn)
        for kind, count, said in ((b"chat.delta", text, body), (b"tts.audio", audio, frame)):
            for number in range(count):
                name = b"t%d:%s:1:%d" % (turn, kind, number) if ids else b""
                yield b"%s.%s" % (kind, conversation), name, said


# ---------------------------------------------------------------- what is told


class Told:
    """A line for each step: memory, and what reads and publishes take, ms p50 / p99."""

    def __init__(self, conversations: int) -> None:
        self._conversations = conversations
        self._random = random.Random(1)  # noqa: S311 - which ones are read, not a secret
        self.lines: list[tuple[str, ...]] = [
            (
                "after",
                "memory, MB",
                "read a document",
                "read the last event",
                "publish with its ack",
            )
        ]

    async def step(self, name: str, server: Filled) -> None:
        some = [_conversation(self._random.randrange(self._conversations)) for _ in range(_SAMPLES)]
        read = b"$JS.API.DIRECT.GET.KV_conversations.$KV.conversations."
        last = b"$JS.API.DIRECT.GET.CHAT_DELTAS.chat.delta."
        figures = [
            await server.took(read + each for each in some),
            await server.took(last + each for each in some),
            await server.took((b"chat.delta." + each for each in some), _TEXT),
        ]
        shown = (f"{percentile(f, 50):.2f} / {percentile(f, 99):.2f}" for f in figures)
        self.lines.append((name, f"{server.memory_mb():.0f}", *shown))
        print(plain(self.lines[-1:]), file=sys.stderr, flush=True)


async def _filled(conversations: int, turns: int) -> list[tuple[str, ...]]:
    async with NatsServer(websocket=False) as nats:
        _provision(nats.url)
        server = Filled(nats.url, nats.pid)
        await server.connect()
        told = Told(conversations)
        await told.step("nothing", server)
        for name, messages in (
            (f"{conversations:,} documents", _documents(conversations)),
            (f"{turns:,} records of voices", _records(conversations, turns)),
            (f"{turns:,} turns' events", _events(conversations, turns, text=3, audio=2)),
        ):
            began = time.monotonic()
            count = await server.fill(messages)
            rate = count / (time.monotonic() - began)
            await told.step(f"{name}, at {rate:,.0f} /s", server)
        server.close()
        began = time.monotonic()
        await nats.restart()
        restarted = time.monotonic() - began
        server = Filled(nats.url, nats.pid)
        await server.connect()
        await told.step(f"a restart of {restarted:.1f} s", server)
        server.close()
    return told.lines


# ---------------------------------------------------------------- what ids cost


async def _windowed(windows: Sequence[float], rate: float, seconds: float) -> list[tuple[str, ...]]:
    """Each window on a server of its own, all at once; 0 is without ids."""
    marks = [seconds * part / 5 for part in range(1, 6)]
    grown = await asyncio.gather(*(_window(each, rate, marks) for each in windows))
    told: list[tuple[str, ...]] = [
        (f"memory after, MB, at {rate:g} turns/s", *(f"{mark:.0f} s" for mark in marks))
    ]
    for window, found in zip(windows, grown, strict=True):
        name = f"`duplicate_window` {window:g} s" if window else "without ids"
        told.append((name, *(f"{more:.0f}" for more in found)))
    return told


async def _window(window: float, rate: float, marks: Sequence[float]) -> list[float]:
    """MB that the server has more at each of these times."""
    async with NatsServer(websocket=False) as nats:
        await asyncio.to_thread(_provision, nats.url)
        server = Filled(nats.url, nats.pid)
        await server.connect()
        for stream in ("CHAT_DELTAS", "TTS_AUDIO") if window else ():
            config = (await server.api(f"STREAM.INFO.{stream}"))["config"]
            changed = {**config, "duplicate_window": int(window * 1e9)}
            await server.api(f"STREAM.UPDATE.{stream}", changed)
        before, began, turns = server.memory_mb(), time.monotonic(), 0
        grown: list[float] = []
        for mark in marks:
            while (passed := time.monotonic() - began) < mark:
                due = int(passed * rate) - turns
                events = _events(
                    _WINDOWED,
                    due,
                    text=TEXT_EVENTS,
                    audio=AUDIO_EVENTS,
                    ids=window > 0,
                    first=turns,
                )
                await server.fill(events)
                turns += due
                await asyncio.sleep(_PAUSE_SECONDS)
            grown.append(server.memory_mb() - before)
        server.close()
        return grown


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.fill", description=__doc__)
    add = parser.add_argument
    add("--conversations", type=int, default=100_000)
    add("--turns", type=int, default=1_000_000)
    add("--windows", type=float, nargs="+", metavar="SECONDS", help="what ids cost, instead")
    add("--rate", type=float, default=36.0, help="turns a second, with --windows")
    add("--seconds", type=float, default=150.0, help="with --windows")
    page.may_write(parser)
    arguments, where = parser.parse_args(), page.machine()
    if arguments.windows:
        found = uvloop.run(_windowed(arguments.windows, arguments.rate, arguments.seconds))
        page.tell("windows", found, where, arguments.write)
    else:
        found = uvloop.run(_filled(arguments.conversations, arguments.turns))
        page.tell("full", found, where, arguments.write)


if __name__ == "__main__":
    main()
