"""`make demo`: everything on this machine, one spoken turn, and how to go on from there."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import io
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from local.ask import RATE, WIDTH, TurnFailed, ask, fetch, samples
from local.page import PAGE, PAGE_PORT, Page, origins
from local.ports import preferred
from local.process import ROOT, NotStarted, start_all
from local.service import Service
from local.stack import Ports, Stack, stop_signals

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from local.stack import ServiceName

DATA = ROOT / ".parley"
QUESTION = "Hello! My name is Ada. Why is the sky blue?"
# So that the commands that are printed are short; a free port where one of them is taken.
NATS_PORT, NATS_WEBSOCKET_PORT, S3_PORT = 4222, 9222, 9000
HEALTH_PORTS: dict[ServiceName, int] = {"chat": 8080, "tts": 8081, "access": 8082}

_LOOK_EVERY_SECONDS = 0.5


# ---------------------------------------------------------------- what is started


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


def new_stack(given: argparse.Namespace, page_port: int) -> Stack:
    ports = Ports(
        nats=preferred(NATS_PORT),
        nats_websocket=preferred(NATS_WEBSOCKET_PORT),
        s3=preferred(S3_PORT),
    )
    # At this pace the voice is ahead of a listener and the text still of the voice.
    script = {"speech": {"sound": "audible", "realtime_factor": 10}}
    return Stack(
        data=given.data, fresh=given.fresh, script=script, ports=ports, origins=origins(page_port)
    )


def new_services(stack: Stack) -> list[Service]:
    found = []
    for name, port in HEALTH_PORTS.items():
        environ = stack.process_environment(name, HTTP_PORT=str(preferred(port)))
        found.append(Service(name, environ, log=stack.logs / f"{name}.log"))
    return found


async def start(services: list[Service]) -> None:
    """Returns when all of them are ready.

    Raises: NotStarted, for the first that is not.
    """
    try:
        await start_all(services)
    except NotStarted as exc:
        hint = "If it is about what an earlier version kept: `make demo ARGS=--fresh` starts over."
        raise NotStarted(f"{exc}\n{hint}") from exc


async def close(services: list[Service]) -> None:
    await asyncio.gather(*(service.close() for service in services))


async def one_ended(services: list[Service]) -> str:
    """Waits until one of them ends; says which, and what it logged last."""
    while True:
        for service in services:
            if not service.running:
                return service.obituary()
        await asyncio.sleep(_LOOK_EVERY_SECONDS)


# ---------------------------------------------------------------- what is said


def _words(text: str) -> None:
    print(text, end="", flush=True)


def _seconds(value: float | None) -> str:
    return "never" if value is None else f"{value * 1000:.0f} ms"


async def example_turn(stack: Stack, question: str, out: Path) -> None:
    """One question, its words, its voice, and what of it was stored.

    Raises: TurnFailed.
    """
    print(f"\nYou:       {question}\nAssistant: ", end="", flush=True)
    try:
        heard = await ask(stack.nats.url, question, _words)
    finally:
        print("\n")
    stored = heard.stored
    wav = await fetch(stored.url, stored.sha256) if stored else b""
    pcm = samples(wav)
    path = await asyncio.to_thread(_written, out, wav)
    print(f"  first word after  {_seconds(heard.first_word)}")
    print(f"  first sound after {_seconds(heard.first_sound)}")
    print(f"  text complete after {_seconds(heard.text_done)}")
    print(f"  {path}: {len(pcm) / WIDTH / RATE:.1f} s of speech, stored in S3")
    live = heard.sound.pcm
    if pcm != live:
        raise TurnFailed(
            f"The stored audio ({len(pcm)} bytes) is not what was heard ({len(live)} bytes)."
        )
    print(f"  the stored audio is, sample for sample, the {heard.pieces} pieces heard live")


def _written(out: Path, wav: bytes) -> Path:
    try:
        out.write_bytes(wav)
    except OSError as exc:
        raise TurnFailed(f"{out} cannot be written: {exc.strerror}; choose another --out") from exc
    return out.resolve()


def instructions(stack: Stack, services: list[Service], page: Page) -> str:
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
        "Or in Python (clients/python):",
        "",
        "  from parley.sync import Parley",
        f'  with Parley.connect("{url}") as parley:',
        '      turn = parley.ask("What is NATS?", conversation="my-talk")',
        "      print(turn.text())",
        '      turn.save("answer.wav")',
        "",
        f"  NATS            {url}  (no login needed on this machine)",
        f"  as an application  user client, password in {stack.accounts.secrets}/nats_client",
        f"  NATS WebSocket  {stack.nats.ws_url}",
        f"  {stack.s3.kind}".ljust(18)
        + f"http://{stack.s3.endpoint}  ({stack.s3.access_key} / {stack.s3.secret_key})",
        f"  provider        {provider}",
        *(f"  {s.name} health".ljust(18) + s.url("/readyz") for s in services),
        f"  data            {stack.data}",
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
    parser.add_argument("--fresh", action="store_true", help="forget what earlier runs kept")
    parser.add_argument("--data", type=Path, default=DATA, help="what is kept, is kept here")
    parser.add_argument("--out", type=Path, default=Path("demo.wav"), help="where the voice goes")
    parser.add_argument("--question", default=QUESTION)
    return parser.parse_args()


async def demonstrate(given: argparse.Namespace, closing: contextlib.AsyncExitStack) -> None:
    """Stays until it is cancelled, unless it is to end after the turn; `closing` stops it all.

    Raises: NotStarted, TurnFailed.
    """
    page_port = preferred(PAGE_PORT)
    stack = new_stack(given, page_port)
    closing.push_async_callback(stack.close)
    provider = "the emulated provider" if stack.emulator else "(the real provider is used)"
    async with step(f"NATS, S3 ({stack.s3.kind}), {provider}"):
        await stack.start()
    services = new_services(stack)
    closing.push_async_callback(close, services)
    async with step("the services chat, tts and access"):
        await start(services)
    await example_turn(stack, given.question, given.out)
    if given.once:
        return
    page = Page(PAGE, stack.nats.ws_url, token=stack.accounts.token, port=page_port)
    closing.push_async_callback(page.close)
    await page.start()
    print(instructions(stack, services, page), flush=True)
    raise TurnFailed(await one_ended(services))


async def run(given: argparse.Namespace) -> int:
    """0 when all went well, even if it was stopped after that; else 1, with the reason."""
    stop = stop_signals()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # in step with stderr, in a file as well
    print("Parley on this machine\n")
    async with contextlib.AsyncExitStack() as closing:
        showing = asyncio.ensure_future(demonstrate(given, closing))
        stopping = asyncio.ensure_future(stop.wait())
        await asyncio.wait({showing, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if not showing.done():
            print("\nStopping …", flush=True)
            await _cancelled(showing)
        if showing.cancelled():
            return 1 if given.once else 0
        try:
            await showing
        except (NotStarted, TurnFailed) as exc:
            print(f"\n{exc}", file=sys.stderr)
            return 1
    return 0


async def _cancelled(task: asyncio.Task[None]) -> None:
    """Until it obeys: before Python 3.12 `wait_for`, in nats-py, may swallow a cancellation."""
    while not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=_LOOK_EVERY_SECONDS)


if __name__ == "__main__":
    sys.exit(asyncio.run(run(arguments())))
