"""The client of TypeScript on Node against the running system; `make web` builds and runs it.

The programs are those of clients/typescript/test/stack: each ends well, or says what was wrong.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import pytest
import pytest_asyncio

from local.service import Service
from local.stack import Stack
from tests.e2e.test_page import LONG, PACE, STORY, WebSystem

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.system import System

pytestmark = [
    pytest.mark.node,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.timeout(180),
]

CLIENT = Path(__file__).resolve().parents[2] / "clients" / "typescript"
PROGRAMS = CLIENT / "out" / "test" / "stack"
SECONDS = 100.0
BY_TCP = {"ACCESS_PLAIN_TCP": "true"}


class Program:
    """One that runs until it is left; it has to end well."""

    def __init__(self, *command: str | Path, **environ: str | Path) -> None:
        self._command = [str(part) for part in command]
        self._environ = {**os.environ, **{name: str(value) for name, value in environ.items()}}
        self.lines: list[str] = []

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            *self._command,
            env=self._environ,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        assert self._process.stderr is not None
        self._complaints = asyncio.create_task(self._process.stderr.read())
        return self

    async def reaches(self, line: str) -> None:
        """Waits until it says so."""
        async with asyncio.timeout(SECONDS):
            while self.lines[-1:] != [line]:
                if not await self._read():
                    await self._over()
                    raise AssertionError(f"it never said {line!r}: {self.lines}")

    async def _read(self) -> bool:
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        self.lines += [line.decode().strip()] if line else []
        return bool(line)

    async def _over(self) -> None:
        code = await self._process.wait()
        assert code == 0, (await self._complaints).decode()

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self._process.kill()
        async with asyncio.timeout(SECONDS):
            while await self._read():
                pass
            if kind is None:
                await self._over()


def program(system: System, name: str, *flags: str, **environ: str | Path) -> Program:
    file = PROGRAMS / f"{name}.js"
    assert file.is_file(), "clients/typescript is not built: make web"
    known: dict[str, str | Path] = {
        "NATS_URL": system.nats.url,
        "STORY": STORY,
        "LONG": LONG,
        "FOLDER": system.folder,
    }
    return Program("node", *flags, file, **(known | environ))


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[System]:
    async with WebSystem(tmp_path_factory.mktemp("system")) as system:
        await system.up()
        yield system


@pytest_asyncio.fixture(loop_scope="module")
async def system(running: System) -> System:
    running.emulator.reset()
    running.emulator.change(PACE)
    return running


def says(system: System, answer: str, **chat: Any) -> None:
    system.emulator.change({"chat": {"replies": [answer], **chat}})


async def test_a_turn_is_asked_read_saved_resumed_and_erased(system: System) -> None:
    says(system, STORY)
    async with program(system, "turn"):
        pass


async def test_it_is_the_same_by_a_websocket(system: System) -> None:
    says(system, STORY)
    # Node 22 has one without being asked for it.
    async with program(system, "turn", "--experimental-websocket", NATS_URL=system.nats.ws_url):
        pass


async def test_a_failure_is_an_exception_of_its_own_class(system: System) -> None:
    fault = {"kind": "chat.status", "status": 401, "times": 1}
    system.emulator.change({"faults": [fault]})
    async with program(system, "failing"):
        pass


async def test_what_is_played_can_be_interrupted_and_the_history_keeps_what_was_heard(
    system: System,
) -> None:
    says(system, LONG)
    async with program(system, "interrupt"):
        pass


@pytest.mark.parametrize("name", ["nats", "chat", "tts"])
async def test_a_turn_is_read_whole_whatever_dies_in_its_midst(system: System, name: str) -> None:
    says(system, LONG, tokens_per_second=30)
    system.emulator.change({"speech": {"realtime_factor": 3}})
    async with program(system, "disturbed") as reader:
        await reader.reaches("speaking")
        if name == "nats":
            await system.nats.kill()
            await system.nats.start()
        else:
            worker = next(s for s in system.services if s.name == name and s.running)
            await worker.kill()
            await system.add(name).ready()
    attempts = int(re.fullmatch(r"attempts (\d+)", reader.lines[-1])[1])  # type: ignore[index]
    assert name == "nats" or attempts > 1, "nobody took it over"


async def test_a_slow_reader_loses_nothing(system: System) -> None:
    says(system, LONG)
    system.emulator.change({"speech": {"realtime_factor": 50}})
    async with program(system, "slow"):
        pass


async def test_a_history_of_1500_messages_comes_in_pages(system: System) -> None:
    messages = [
        {
            "id": f"t{n // 2}.{'a' if n % 2 else '0'}",
            "role": "assistant" if n % 2 else "user",
            "content": f"Message {n}.".ljust(1_000),
            "turn_id": f"t{n // 2}",
            "created_at": f"2026-01-01T{n // 3600:02}:{n // 60 % 60:02}:{n % 60:02}.000Z",
        }
        for n in range(1_500)
    ]
    pages = [messages[at : at + 110] for at in range(0, 1_400, 110)]
    rest = messages[sum(map(len, pages)) :]
    document = {"messages": rest, "pages": len(pages), "ended": [m["turn_id"] for m in rest]}
    js = system.client.jetstream()
    for number, page in enumerate(pages, 1):
        await js.publish(f"$KV.conversations.many.{number}", json.dumps(page).encode())
    await js.publish("$KV.conversations.many", json.dumps(document).encode())
    async with program(system, "pages", CONVERSATION="many"):
        pass


async def test_a_token_opens_its_conversation_and_no_other(tmp_path: Path) -> None:
    script = {**PACE, "chat": {**PACE["chat"], "replies": [STORY]}}
    async with (
        Stack(data=tmp_path / "data", script=script) as stack,
        Service("access", stack.process_environment("access", HTTP_PORT="0", **BY_TCP)),
        Service("chat", stack.process_environment("chat", HTTP_PORT="0")),
        Service("tts", stack.process_environment("tts", HTTP_PORT="0")),
    ):
        conversation = "c" * 32
        environ = {"CONVERSATION": conversation, "TOKEN": stack.accounts.token(conversation)}
        file = PROGRAMS / "token.js"
        async with Program("node", file, NATS_URL=stack.nats.url, STORY=STORY, **environ):
            pass


# ---------------------------------------------------------------- as a package


@pytest.fixture(scope="module")
def consumer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project that has nothing but the packed client."""
    return tmp_path_factory.mktemp("consumer")


async def run(*command: str | Path, cwd: Path, **environ: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *(str(part) for part in command),
        cwd=cwd,
        env={**os.environ, **environ},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(SECONDS):
        said, _ = await process.communicate()
    assert process.returncode == 0, said.decode()
    return said.decode()


def example() -> str:
    found = re.search(r"```ts\n(.*?)```", (CLIENT / "README.md").read_text(), re.DOTALL)
    assert found is not None
    return found[1]


async def installed(folder: Path) -> None:
    if (folder / "package.json").is_file():
        return
    said = await run("npm", "pack", "--pack-destination", folder, cwd=CLIENT)
    package = said.split()[-1]
    (folder / "package.json").write_text(
        json.dumps({"type": "module", "dependencies": {"@parley/client": f"file:{package}"}})
    )
    flags = ("--prefer-offline", "--no-audit", "--no-fund", "--no-package-lock")
    await run("npm", "install", *flags, cwd=folder)


async def test_the_packed_client_has_types_for_node_and_for_browsers(consumer: Path) -> None:
    await installed(consumer)
    assert len([line for line in example().splitlines() if line]) <= 15
    (consumer / "example.ts").write_text(example())
    (consumer / "page.ts").write_text(
        'import { Parley, Player, Recording, WebSound } from "@parley/client";\n'
        'const parley: Parley = await Parley.connect("ws://127.0.0.1");\n'
        'await parley.ask("Hello").play(new Player(new WebSound()));\n'
        "export const recording = new Recording(() => undefined);\n"
    )
    (consumer / "wrong.ts").write_text(
        'import { Parley } from "@parley/client";\n'
        'const parley = await Parley.connect("nats://127.0.0.1");\n'
        'parley.ask("Hello", { temprature: 1 });\n'
    )
    (consumer / "node_modules" / "@types").mkdir(exist_ok=True)
    types = consumer / "node_modules" / "@types" / "node"
    if not types.exists():
        shutil.copytree(CLIENT / "node_modules" / "@types" / "node", types)
        undici = consumer / "node_modules" / "undici-types"
        shutil.copytree(CLIENT / "node_modules" / "undici-types", undici)
    tsc = ("npx", "--prefix", CLIENT, "tsc", "--strict", "--target", "es2022", "--noEmit")
    node = ("--module", "nodenext", "--types", "node", "--lib", "es2023,esnext.disposable,dom")
    await run(*tsc, *node, "example.ts", cwd=consumer)
    page = ("--module", "esnext", "--moduleResolution", "bundler", "--customConditions", "browser")
    await run(*tsc, *page, "--types", "", "--lib", "es2023,esnext.disposable,dom", "page.ts",
              cwd=consumer)  # fmt: skip
    with pytest.raises(AssertionError, match="temprature"):
        await run(*tsc, *node, "wrong.ts", cwd=consumer)


async def test_fifteen_lines_ask_play_and_interrupt(system: System, consumer: Path) -> None:
    says(system, LONG)
    await installed(consumer)
    (consumer / "example.mjs").write_text(example())  # it has no types to be taken off
    speaker = consumer / "bin" / "aplay"
    speaker.parent.mkdir(exist_ok=True)
    speaker.write_text('#!/bin/sh\nexec cat > "$HEARD"\n')
    speaker.chmod(speaker.stat().st_mode | stat.S_IXUSR)
    path = f"{speaker.parent}:{os.environ['PATH']}"
    heard = consumer / "heard.pcm"
    said = await run("node", "example.mjs", cwd=consumer, NATS_URL=system.nats.url, PATH=path,
                     HEARD=str(heard))  # fmt: skip
    assert LONG.startswith(said.split("{")[0].strip()[:40])
    told = re.search(r"heardMs: (\d+), complete: false", said)
    assert told is not None, said
    assert 1_500 < int(told[1]) <= 3_000
    assert abs(heard.stat().st_size / 48 - int(told[1])) < 300
