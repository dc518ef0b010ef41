"""`make demo`: everything on this machine, one spoken turn, and how to go on from there.

The turn (`ask`) uses nats-py and literal subjects only: it is also the example of a client.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import io
import json
import socket
import sys
import time
import uuid
import wave
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import nats
import nats.errors
from aiohttp import web

from local.child import Child, NotStarted
from local.emulator_process import ROOT, python_path
from local.s3_server import free_port
from local.stack import Ports, Service, Stack, stop_signals

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from nats.aio.client import Client
    from nats.aio.msg import Msg

QUESTION = "Hello! My name is Ada. Why is the sky blue?"
PAGE = ROOT / "web" / "dist"
# So that the commands that are printed are short; a free port where one of them is taken.
NATS_PORT, NATS_WEBSOCKET_PORT, S3_PORT = 4222, 9222, 9000
HEALTH_PORTS: dict[Service, int] = {"chat": 8080, "tts": 8081}
PAGE_PORT = 8000

_READY_SECONDS = 60.0  # two seconds when warm; much longer right after an installation
_TURN_SECONDS = 120.0
_CONNECT_SECONDS = 5.0
_STOP_SECONDS = 15.0
_LOOK_EVERY_SECONDS = 0.05
_RATE, _WIDTH = 24_000, 2


class DemoFailed(Exception):
    """The turn did not come to a good end; its text says how."""


# ---------------------------------------------------------------- one turn


@dataclass(slots=True)
class Heard:
    """What came of a question, as a listener has it."""

    text: str = ""
    attempt: int = 0
    pieces: dict[int, bytearray] = field(default_factory=dict)
    finished: set[int] = field(default_factory=set)
    stored: dict[str, Any] | None = None
    first_word: float | None = None  # seconds after the question
    first_sound: float | None = None
    text_done: float | None = None

    @property
    def pcm(self) -> bytes:
        """The samples of the finished pieces, in order: those of the stored object."""
        return b"".join(bytes(self.pieces[index]) for index in sorted(self.finished))


async def ask(
    nats_url: str,
    question: str,
    say: Callable[[str], None],
    *,
    seconds: float = _TURN_SECONDS,
) -> Heard:
    """Asks, hands on the words as they come, returns when the voice is stored.

    Raises: DemoFailed, when the turn fails or takes too long.
    """
    conversation = f"demo-{uuid.uuid4().hex[:8]}"
    client = await _connected(nats_url)
    heard = Heard()
    incoming: asyncio.Queue[Msg] = asyncio.Queue()
    try:
        # Listen first, and be sure that the server knows, before anything is asked. Twice,
        # because the first flush may overtake a subscription that is still being sent.
        await client.subscribe(f"chat.delta.{conversation}", cb=incoming.put)
        await client.subscribe(f"tts.audio.{conversation}", cb=incoming.put)
        await client.flush()
        await client.flush()

        request = {"conversation_id": conversation, "content": question}
        asked = time.monotonic()
        await client.jetstream().publish("chat.request", json.dumps(request).encode())

        async with asyncio.timeout(seconds):
            while heard.stored is None:
                message = await incoming.get()
                since = time.monotonic() - asked
                if message.subject.startswith("chat.delta."):
                    _on_words(heard, json.loads(message.data), since, say)
                else:
                    _on_voice(heard, message.headers or {}, message.data, since)
    except TimeoutError:
        missing = "its text" if heard.text_done is None else "the end of its voice"
        raise DemoFailed(
            f"The turn did not end within {seconds:g} s: {missing} is missing."
        ) from None
    except (OSError, nats.errors.Error) as exc:
        raise DemoFailed(f"NATS at {nats_url}: {exc or type(exc).__name__}") from exc
    finally:
        await client.close()
    return heard


async def _connected(url: str) -> Client:
    try:
        # The deadline is ours: nats-py tries for two minutes to reach a server that is not there.
        async with asyncio.timeout(_CONNECT_SECONDS):
            return await nats.connect(url, error_cb=_quiet)
    except (TimeoutError, OSError, nats.errors.Error) as exc:
        raise DemoFailed(f"NATS at {url} cannot be reached: is it running?") from exc


async def _quiet(_error: Exception) -> None:
    """What goes wrong with the connection is seen by the call that it fails."""


def _on_words(
    heard: Heard, event: Mapping[str, Any], since: float, say: Callable[[str], None]
) -> None:
    """An event of `chat.delta.<conversation>`."""
    match event["type"]:
        case "started" if event["attempt"] > 1:
            heard.text = ""
            say("\n(again from the start) ")
        case "text":
            heard.first_word = heard.first_word or since
            heard.text += event["text"]
            say(event["text"])
        case "done":
            heard.text_done = since
            if event["text"] != heard.text:
                raise DemoFailed("The text of `done` is not what was streamed: words were lost.")
        case "failed":
            raise DemoFailed(f"The model failed: {_reason(event)}")


def _on_voice(heard: Heard, headers: Mapping[str, str], body: bytes, since: float) -> None:
    """A message of `tts.audio.<conversation>`: PCM with its facts in headers, or JSON."""
    kind = headers.get("Parley-Type", "")
    if kind == "chunk":
        if int(headers["Parley-Attempt"]) == heard.attempt:
            heard.first_sound = heard.first_sound or since
            heard.pieces.setdefault(int(headers["Parley-Piece"]), bytearray()).extend(body)
        return
    event = json.loads(body)
    if event["attempt"] < heard.attempt:
        return  # a leftover of a worker that was replaced
    if kind == "started":
        heard.attempt = event["attempt"]
        # What was not finished is spoken again.
        heard.pieces = {i: pcm for i, pcm in heard.pieces.items() if i in heard.finished}
    elif kind == "piece_done":
        heard.pieces.setdefault(event["index"], bytearray())
        heard.finished.add(event["index"])
    elif kind == "stored":
        heard.stored = event
    elif kind == "failed":
        raise DemoFailed(f"The voice failed: {_reason(event)}")


def _reason(event: Mapping[str, Any]) -> str:
    error = event.get("error") or {}
    return f"{error.get('message')} ({error.get('code')})"


async def fetch(stored: Mapping[str, Any]) -> bytes:
    """The stored object, by the URL of its event.

    Raises: DemoFailed, when there is none or it is not what the event says.
    """
    url = stored.get("url")
    if not url:
        raise DemoFailed("Nothing was spoken, so nothing is stored.")
    try:
        timeout = aiohttp.ClientTimeout(total=30)
        async with aiohttp.ClientSession(timeout=timeout) as http, http.get(url) as answer:
            body: bytes = await answer.read()
            if answer.status != 200:
                raise DemoFailed(f"The stored audio cannot be fetched: status {answer.status}.")
    except (aiohttp.ClientError, TimeoutError) as exc:
        raise DemoFailed(f"The stored audio cannot be fetched: {exc!r}") from exc
    if hashlib.sha256(body).hexdigest() != stored.get("sha256"):
        raise DemoFailed("The stored audio is not the one that the event speaks of.")
    return body


def samples(wav: bytes) -> bytes:
    """The PCM of a WAV file.

    Raises: DemoFailed, when it is none, or not of the kind that is promised.
    """
    try:
        with wave.open(io.BytesIO(wav)) as file:
            form = (file.getnchannels(), file.getsampwidth(), file.getframerate())
            pcm = bytes(file.readframes(file.getnframes()))
    except (wave.Error, EOFError) as exc:
        raise DemoFailed(f"The stored audio is no WAV file: {exc}") from exc
    if form != (1, _WIDTH, _RATE):
        raise DemoFailed(f"The stored audio has the form {form}, not mono, 16 bit, 24 kHz.")
    return pcm


# ---------------------------------------------------------------- what is started


def preferred(port: int) -> int:
    """This port when nobody has it, else a free one."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return free_port()
    return port


@contextlib.asynccontextmanager
async def step(name: str) -> AsyncIterator[None]:
    """Says what is being done, a dot for each second it takes, and how long it took."""
    print(f"  {name} ", end="", flush=True)

    async def dots() -> None:
        while True:
            await asyncio.sleep(1)
            print(".", end="", flush=True)

    began = time.monotonic()
    ticking = asyncio.create_task(dots())
    ended = "failed"
    try:
        yield
        ended = f"{time.monotonic() - began:.1f} s"
    finally:
        ticking.cancel()
        print(f" {ended}", flush=True)


class Services:
    """`python -m services.chat` and `python -m services.tts`, on a stack."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._children: dict[Service, Child] = {}
        self.health: dict[Service, str] = {}

    async def start(self) -> None:
        """Returns when both are ready.

        Raises: NotStarted, with the end of the log of the one that is not.
        """
        for name, port in HEALTH_PORTS.items():
            chosen = preferred(port)
            self.health[name] = f"http://127.0.0.1:{chosen}/readyz"
            environ = self._stack.process_environment(name, HTTP_PORT=str(chosen))
            environ["PYTHONPATH"] = python_path(environ)
            child = Child(f"services.{name}", self._stack.logs / f"{name}.log")
            child.start([sys.executable, "-m", f"services.{name}"], environ)
            self._children[name] = child
        timeout = aiohttp.ClientTimeout(total=3)
        async with aiohttp.ClientSession(timeout=timeout) as http:
            await asyncio.gather(*(self._ready(http, name) for name in self._children))

    async def _ready(self, http: aiohttp.ClientSession, name: Service) -> None:
        child, deadline = self._children[name], time.monotonic() + _READY_SECONDS
        while time.monotonic() < deadline:
            if not child.running:
                raise NotStarted(self._ended(child))
            with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                async with http.get(self.health[name]) as answer:
                    if answer.status == 200:
                        return
            await asyncio.sleep(_LOOK_EVERY_SECONDS)
        raise NotStarted(
            f"{child.name} was not ready within {_READY_SECONDS:g} s. "
            f"The end of its log:\n{child.tail()}"
        )

    def _ended(self, child: Child) -> str:
        hint = "A setting is wrong: its name is below." if child.status == 2 else ""
        return f"{child.name} ended with status {child.status}. {hint}\n{child.tail()}"

    async def failed(self) -> str:
        """Waits until one of them ends; says which, and what it logged last."""
        while True:
            for child in self._children.values():
                if not child.running:
                    return self._ended(child)
            await asyncio.sleep(1)

    async def close(self) -> None:
        await asyncio.gather(*(child.stop(_STOP_SECONDS) for child in self._children.values()))


class Page:
    """The web page, when it has been built, with the address it has to connect to."""

    def __init__(self, folder: Path, websocket_url: str) -> None:
        self._folder = folder
        self._config = {"nats_url": websocket_url}
        self._runner: web.AppRunner | None = None
        self.url = ""

    async def start(self) -> None:
        """Does nothing where no page has been built."""
        if not (self._folder / "index.html").is_file():
            return
        app = web.Application()
        app.router.add_get("/config.json", self._on_config)
        app.router.add_get("/", self._on_index)
        app.router.add_static("/", self._folder)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", preferred(PAGE_PORT))
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}/"

    async def _on_config(self, _request: web.Request) -> web.Response:
        return web.json_response(self._config)

    async def _on_index(self, _request: web.Request) -> web.FileResponse:
        return web.FileResponse(self._folder / "index.html")

    async def close(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()


# ---------------------------------------------------------------- what is said


def _words(text: str) -> None:
    print(text, end="", flush=True)


def _seconds(value: float | None) -> str:
    return "never" if value is None else f"{value * 1000:.0f} ms"


async def example_turn(stack: Stack, question: str, out: Path) -> None:
    """One question, its words, its voice, and what of it was stored.

    Raises: DemoFailed.
    """
    print(f"\nYou:       {question}\nAssistant: ", end="", flush=True)
    try:
        heard = await ask(stack.nats.url, question, _words)
    finally:
        print("\n")
    wav = await fetch(heard.stored or {})
    pcm = samples(wav)
    path = await asyncio.to_thread(_written, out, wav)
    print(f"  first word after  {_seconds(heard.first_word)}")
    print(f"  first sound after {_seconds(heard.first_sound)}")
    print(f"  text complete after {_seconds(heard.text_done)}")
    print(f"  {path}: {len(pcm) / _WIDTH / _RATE:.1f} s of speech, stored in S3")
    if pcm != heard.pcm:
        raise DemoFailed(
            f"The stored audio ({len(pcm)} bytes) is not what was heard ({len(heard.pcm)} bytes)."
        )
    print(f"  the stored audio is, sample for sample, the {len(heard.finished)} pieces heard live")


def _written(out: Path, wav: bytes) -> Path:
    try:
        out.write_bytes(wav)
    except OSError as exc:
        raise DemoFailed(f"{out} cannot be written: {exc.strerror}; choose another --out") from exc
    return out.resolve()


def instructions(stack: Stack, services: Services, page: Page) -> str:
    """What to try from another terminal."""
    url = stack.nats.url
    server = "" if url.endswith(":4222") else f" -s {url}"
    provider = f"emulated, {stack.emulator.base_url}" if stack.emulator else "the real one"
    lines = [
        "",
        "Everything is up. From another terminal, with the `nats` command:",
        "",
        f"  nats{server} sub 'chat.delta.>'",
        f"  nats{server} sub tts.audio --headers-only",
        f"  nats{server} pub chat.request 'What is NATS?'",
        "",
        "Or in Python (nats-py):",
        "",
        "  import asyncio, json, nats",
        "  async def main():",
        f'      nc = await nats.connect("{url}")',
        '      words = await nc.subscribe("chat.delta.my-talk")',
        "      await nc.flush(); await nc.flush()",
        '      ask = {"conversation_id": "my-talk", "content": "What is NATS?"}',
        '      await nc.publish("chat.request", json.dumps(ask).encode())',
        "      async for message in words.messages:",
        "          event = json.loads(message.data)",
        '          if event["type"] == "text":',
        '              print(event["text"], end="", flush=True)',
        '          elif event["type"] in ("done", "failed"):',
        "              break",
        "  asyncio.run(main())",
        "",
        f"  NATS            {url}",
        f"  NATS WebSocket  {stack.nats.ws_url}",
        f"  S3 ({stack.s3.kind})".ljust(18)
        + f"http://{stack.s3.endpoint}  ({stack.s3.access_key} / {stack.s3.secret_key})",
        f"  provider        {provider}",
        *(f"  {name} health".ljust(18) + health for name, health in services.health.items()),
        f"  logs            {stack.logs}",
        f"  web page        {page.url or 'not built (web/dist is missing)'}",
        "",
        "Ctrl-C stops everything.",
    ]
    return "\n".join(lines)


# ---------------------------------------------------------------- the command


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m local.demo", description="One spoken turn on this machine."
    )
    parser.add_argument("--once", action="store_true", help="end after the turn")
    parser.add_argument("--data", type=Path, help="keep the data here; without it, it is temporary")
    parser.add_argument("--out", type=Path, default=Path("demo.wav"), help="where the voice goes")
    parser.add_argument("--question", default=QUESTION)
    return parser.parse_args()


def new_stack(data: Path | None) -> Stack:
    ports = Ports(
        nats=preferred(NATS_PORT),
        nats_websocket=preferred(NATS_WEBSOCKET_PORT),
        s3=preferred(S3_PORT),
    )
    # At this pace the voice is ahead of a listener and the text still of the voice.
    script = {"speech": {"sound": "audible", "realtime_factor": 10}}
    return Stack(data=data, script=script, ports=ports)


async def demonstrate(given: argparse.Namespace) -> None:
    """Stays until it is cancelled, unless it is to end after the turn.

    Raises: NotStarted, DemoFailed.
    """
    async with contextlib.AsyncExitStack() as closing:
        stack = new_stack(given.data)
        closing.push_async_callback(stack.close)
        provider = "the emulated provider" if stack.emulator else "(the real provider is used)"
        async with step(f"NATS, S3 ({stack.s3.kind}), {provider}"):
            await stack.start()
        services = Services(stack)
        closing.push_async_callback(services.close)
        async with step("the services chat and tts"):
            await services.start()
        await example_turn(stack, given.question, given.out)
        if given.once:
            return
        page = Page(PAGE, stack.nats.ws_url)
        closing.push_async_callback(page.close)
        await page.start()
        print(instructions(stack, services, page), flush=True)
        raise DemoFailed(await services.failed())


async def run(given: argparse.Namespace) -> int:
    """0 when all went well, even if it was stopped after that; else 1, with the reason."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # in step with stderr, in a file as well
    print("Parley on this machine\n")
    showing = asyncio.ensure_future(demonstrate(given))
    stopping = asyncio.ensure_future(stop_signals().wait())
    try:
        await asyncio.wait({showing, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if stopping.done() and not showing.done():
            print("\nStopping …", flush=True)
            showing.cancel()
        await showing
    except (NotStarted, DemoFailed) as exc:
        print(f"\n{exc}", file=sys.stderr)
        return 1
    except asyncio.CancelledError:
        return 1 if given.once else 0
    finally:
        stopping.cancel()
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(run(arguments())))
