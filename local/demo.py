"""`make demo`: everything on this machine, one spoken turn, and a place to talk."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import io
import os
import signal
import sys
import time
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Final

from parley import NotFound, Parley, ParleyError
from parley.cli.chat import Chat, Command, Manner
from parley.cli.keyboard import Keyboard
from parley.cli.screen import Screen
from parley.cli.told import can_play

from local.ask import RATE, WIDTH, TurnFailed, ask, fetch, samples
from local.page import PAGE, Page, listen, origins
from local.ports import is_free, preferred
from local.process import ROOT, NotStarted, Process, start_all, wants_another_port
from local.service import Service
from local.stack import Ports, Stack, stop_signals

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from parley.cli.told import Telling

    from local.stack import ServiceName

DATA = ROOT / ".parley"
QUESTION = "Hello! My name is Ada. Why is the sky blue?"
# So that the commands that are printed are short; a free port where one of them is taken.
NATS_PORT, NATS_WEBSOCKET_PORT, S3_PORT = 4222, 9222, 9000
HEALTH_PORTS: dict[ServiceName, int] = {"chat": 8080, "tts": 8081, "access": 8082}
CONVERSATION: Final = "at-the-prompt"  # the same each time: what was said is there the next time

_LOOK_EVERY_SECONDS = 0.2
_PORT_TRIES: Final = 3
_CROWDED: Final = "The ports are taken, over and over: is something else being started?"
_FRESH: Final = "If it is about what an earlier version kept: `make demo ARGS=--fresh` starts over."
# A process that ends so often within so many seconds is not started any more.
_GIVE_UP_AFTER, _GIVE_UP_SECONDS = 5, 60.0


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
        wanted = str(port if is_free(port) else 0)  # 0: one that it picks itself
        environ = stack.process_environment(name, HTTP_PORT=wanted)
        found.append(Service(name, environ, log=stack.logs / f"{name}.log"))
    return found


async def start_stack(
    given: argparse.Namespace, page_port: int, closing: contextlib.AsyncExitStack
) -> Stack:
    """One that has started; elsewhere where another was faster to take a port.

    Raises: NotStarted, for the first part that is not.
    """
    for _ in range(_PORT_TRIES):
        stack = new_stack(given, page_port)
        closing.push_async_callback(stack.close)
        try:
            await stack.start()
        except NotStarted as exc:
            if not wants_another_port(exc):
                raise
            await stack.close()
        else:
            return stack
    raise NotStarted(_CROWDED)


async def start_services(stack: Stack, closing: contextlib.AsyncExitStack) -> list[Service]:
    """The same for the services."""
    for _ in range(_PORT_TRIES):
        services = new_services(stack)
        closing.push_async_callback(close, services)
        try:
            await start_all(services)
        except NotStarted as exc:
            if not wants_another_port(exc):
                raise NotStarted(f"{exc}\n{_FRESH}") from exc
            await close(services)
        else:
            return services
    raise NotStarted(_CROWDED)


async def close(services: list[Service]) -> None:
    await asyncio.gather(*(service.close() for service in services))


async def keep_up(processes: Sequence[Process], say: Callable[[str], None]) -> None:
    """Starts each again that ends, for ever.

    Raises: NotStarted, with what one logged last, where that is of no use.
    """
    try:
        async with asyncio.TaskGroup() as keeping:
            for process in processes:
                keeping.create_task(_keep_up(process, say))
    except* NotStarted as group:
        raise NotStarted(str(group.exceptions[0])) from group


async def _keep_up(process: Process, say: Callable[[str], None]) -> None:
    ends: deque[float] = deque(maxlen=_GIVE_UP_AFTER)
    while True:
        if process.running:
            await asyncio.sleep(_LOOK_EVERY_SECONDS)
            continue
        ends.append(time.monotonic())
        if len(ends) == _GIVE_UP_AFTER and ends[-1] - ends[0] < _GIVE_UP_SECONDS:
            raise NotStarted(process.obituary())
        say(f"[{process.name} has ended ({_ending(process.status)}); it is started again]")
        with contextlib.suppress(NotStarted):  # it is looked at again
            await process.start()
            say(f"[{process.name} is back after {time.monotonic() - ends[-1]:.1f} s]")


def _ending(status: int | None) -> str:
    if status is not None and status < 0:
        return signal.Signals(-status).name
    return f"status {status}"


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


def addresses(stack: Stack, services: list[Service], page: Page) -> str:
    """The page stands first: most people want nothing else."""
    url = stack.nats.url
    provider = f"emulated, {stack.emulator.base_url}" if stack.emulator else "the real one"
    lines = [
        f"  web page        {page.url or 'not built (web/dist is missing)'}",
        f"  NATS            {url}  (no login needed on this machine)",
        f"  as an application  user client, password in {stack.accounts.secrets}/nats_client",
        f"  NATS WebSocket  {stack.nats.ws_url}",
        f"  {stack.s3.kind}".ljust(18)
        + f"http://{stack.s3.endpoint}  ({stack.s3.access_key} / {stack.s3.secret_key})",
        f"  provider        {provider}",
        *(f"  {s.name} health".ljust(18) + s.url("/readyz") for s in services),
        f"  data            {stack.data}",
        f"  logs            {stack.logs}",
    ]
    return "\n".join(lines)


def instructions(stack: Stack) -> str:
    """What to try from another terminal."""
    url = stack.nats.url
    standard = url.endswith(":4222")
    server, option = ("", "") if standard else (f" -s {url}", f" --url {url}")
    lines = [
        "From another terminal, with the command line of clients/python:",
        "",
        f"  .venv/bin/python -m parley{option} ask 'What is NATS?'",
        f"  .venv/bin/python -m parley{option} tail",
        "",
        "with the `nats` command:",
        "",
        f"  nats{server} sub 'chat.delta.>'",
        f"  nats{server} sub tts.audio --headers-only",
        f"  nats{server} pub chat.request 'What is NATS?'",
        "",
        "or in Python:",
        "",
        "  from parley.sync import Parley",
        f'  with Parley.connect("{url}") as parley:',
        '      print(parley.ask("What is NATS?").text())',
    ]
    return "\n".join(lines)


# ---------------------------------------------------------------- the place to talk


class Talk:
    """`parley chat` on this stack, where a worker can be killed in mid-answer."""

    def __init__(
        self, stack: Stack, services: list[Service], keyboard: Keyboard, tell: Callable[[], None]
    ) -> None:
        """`tell` prints the addresses."""
        self._processes: dict[str, Process] = {service.name: service for service in services}
        self._processes |= {"nats": stack.nats, "s3": stack.s3}
        self._stack, self._keyboard, self._tell = stack, keyboard, tell
        self._screen = Screen()

    async def run(self) -> None:
        """Until the one at the keyboard leaves."""
        manner = Manner(voice="", play=can_play())
        async with Parley.connect(self._stack.nats.url) as parley:
            chat = Chat(
                parley,
                self._screen,
                self._keyboard,
                manner,
                conversation=CONVERSATION,
                keys={"ctrl-k": self._kill_worker},
            )
            kill = "kill -9 for one of them, in mid-answer; Ctrl-K does it to who is at work"
            chat.commands["kill"] = Command("|".join(self._processes), kill, self._kill)
            chat.commands["where"] = Command("", "the addresses, and what else to try", self._where)
            await chat.show_history()
            await chat.run()

    def say(self, text: str) -> None:
        self._keyboard.above(lambda: self._screen.note(text, "yellow"))

    async def _kill_worker(self, telling: Telling | None) -> None:
        at_work = "tts" if telling is not None and telling.complete else "chat"
        await self._kill(at_work)

    async def _kill(self, name: str) -> None:
        """Raises: NotFound."""
        process = self._processes.get(name)
        if process is None:
            raise NotFound(f"/kill {'|'.join(self._processes)}")
        process.signal(signal.SIGKILL)

    async def _where(self, _: str) -> None:
        self._keyboard.above(self._tell)


HINTS: Final = """\
Type a question, here or on the page. /help has the commands.
Try: `Tell me a story`, and in mid-answer press Ctrl-K, which kills the worker: the answer goes on.
Ctrl-C interrupts an answer; at the empty prompt it stops everything.
"""


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
    listening = closing.enter_context(listen())
    page_port = listening.getsockname()[1]
    planned = new_stack(given, page_port)
    provider = "the emulated provider" if planned.emulator else "(the real provider is used)"
    async with step(f"NATS, S3 ({planned.s3.kind}), {provider}"):
        stack = await start_stack(given, page_port, closing)
    async with step("the services chat, tts and access"):
        services = await start_services(stack, closing)
    if given.once:
        await example_turn(stack, given.question, given.out)
        return
    page = Page(PAGE, stack.nats.ws_url, token=stack.accounts.token, listening=listening)
    closing.push_async_callback(page.close)
    await page.start()
    print(f"\nTalk in a browser: {page.url}" if page.url else "", flush=True)
    await example_turn(stack, given.question, given.out)
    await stay(stack, services, page)


async def stay(stack: Stack, services: list[Service], page: Page) -> None:
    """Everything is kept up until the one at the keyboard leaves; without a keyboard, for ever.

    Raises: NotStarted, where a process cannot be kept up.
    """
    processes = [*services, stack.nats, stack.s3, *([stack.emulator] if stack.emulator else [])]

    def tell() -> None:
        print(f"\n{addresses(stack, services, page)}\n\n{instructions(stack)}\n", flush=True)

    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        print("\nEverything is up.", end="")
        tell()
        print("Ctrl-C stops everything.", flush=True)
        await keep_up(processes, print)
    async with Keyboard() as keyboard:
        talk = Talk(stack, services, keyboard, tell)
        print(f"\n{addresses(stack, services, page)}\n\n{HINTS}", flush=True)
        keeping = asyncio.ensure_future(keep_up(processes, talk.say))
        talking = asyncio.ensure_future(talk.run())
        try:
            await asyncio.wait({keeping, talking}, return_when=asyncio.FIRST_COMPLETED)
            for each in (keeping, talking):
                if each.done():
                    await each
        except ParleyError as exc:
            raise TurnFailed(f"{exc.message} ({exc.code})") from exc
        finally:
            for each in (keeping, talking):
                each.cancel()
            await asyncio.wait({keeping, talking})


async def run(given: argparse.Namespace) -> int:
    """0 when all went well, even if it was stopped after that; else 1, with the reason."""
    stop = stop_signals()
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, hung_up, stop)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # in step with stderr, in a file as well
    print("Parley on this machine\n")
    async with contextlib.AsyncExitStack() as closing:
        showing = asyncio.ensure_future(demonstrate(given, closing))
        stopping = asyncio.ensure_future(stop.wait())
        await asyncio.wait({showing, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        # Once more, and again: a keyboard has had them meanwhile, and closing is not interrupted.
        asyncio.get_running_loop().add_signal_handler(signal.SIGINT, stop.set)
        if not (given.once and showing.done()):
            print("\nStopping …", flush=True)
        if not showing.done():
            await _cancelled(showing)
        if showing.cancelled():
            return 1 if given.once else 0
        try:
            await showing
        except (NotStarted, TurnFailed) as exc:
            print(f"\n{exc}", file=sys.stderr)
            return 1
    return 0


def hung_up(stop: asyncio.Event) -> None:
    """The terminal has gone: whatever is said from now on is said to nobody."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(nowhere, number)
    stop.set()


async def _cancelled(task: asyncio.Task[None]) -> None:
    """Until it obeys: before Python 3.12 `wait_for`, in nats-py, may swallow a cancellation."""
    while not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=_LOOK_EVERY_SECONDS)


if __name__ == "__main__":
    sys.exit(asyncio.run(run(arguments())))
