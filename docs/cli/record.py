#!/usr/bin/env python3
"""Runs the command line on a stack of its own, and writes what it shows: the recording in
docs/parley.cast and docs/parley.svg, and the outputs in clients/python/README.md."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

DOCS = Path(__file__).resolve().parents[1]
ROOT = DOCS.parent
sys.path[:0] = [str(ROOT), str(ROOT / "clients" / "python")]

import nats  # noqa: E402

from docs.cli.cast import Recording, svg  # noqa: E402
from docs.cli.running import COLUMNS, Place, place  # noqa: E402
from local.terminal import Terminal  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Mapping

README: Final = ROOT / "clients" / "python" / "README.md"
BEGIN, END = "<!-- outputs -->", "<!-- /outputs -->"
ROWS: Final = 26
_SECONDS: Final = 60.0
_KEY_SECONDS: Final = 0.04  # between two keys, as people type
_LOOK_SECONDS: Final = 1.2  # at what a command has shown
_SHOWN_LINES: Final = 24  # of one output
_CHAT: Final = "\x1b[K> "  # its prompt, drawn on a line that was wiped
_TITLE: Final = "parley: ask, save the voice, talk and interrupt, look at each part"


# ---------------------------------------------------------------- the recording


async def recorded(here: Place) -> Recording:
    """A person at a prompt."""
    environ = {**here.environ, "PS1": "$ ", "BASH_SILENCE_DEPRECATION_WARNING": "1"}
    del environ["COLUMNS"]
    shell = ["bash", "--norc", "--noprofile", "--noediting"]
    async with Terminal(shell, environ, columns=COLUMNS, rows=ROWS, cwd=here.folder) as terminal:
        await terminal.until("$ ", _SECONDS)
        await _type(terminal, 'parley ask "Why is the sky blue?" --save sky.wav\r')
        await _prompt(terminal)
        await _type(terminal, "parley chat -c lighthouse\r")
        await terminal.until(_CHAT, _SECONDS)
        await _type(terminal, "Tell me a story\r")
        await terminal.until("lit the lamp", _SECONDS)
        terminal.type("\x03")
        await terminal.until(_CHAT, _SECONDS)
        await asyncio.sleep(_LOOK_SECONDS)
        await _type(terminal, "What did I ask?\r")
        await terminal.until("forgotten it", _SECONDS)
        await terminal.until(_CHAT, _SECONDS)
        await asyncio.sleep(_LOOK_SECONDS)
        await _type(terminal, "/quit\r")
        await _prompt(terminal)
        await _type(terminal, "parley doctor\r")
        await _prompt(terminal)
        return Recording(COLUMNS, ROWS, _TITLE, list(terminal.shown)).shortened()


async def _prompt(terminal: Terminal) -> None:
    await terminal.until("\n$ ", _SECONDS)
    await asyncio.sleep(_LOOK_SECONDS)


async def _type(terminal: Terminal, text: str) -> None:
    for letter in text:
        terminal.type(letter)
        await asyncio.sleep(_KEY_SECONDS)


# ---------------------------------------------------------------- the outputs


async def outputs(here: Place) -> str:
    """Every command, and what it printed."""
    me, client, operator = here.environ, here.by("client"), here.by("operator")
    seeds = {**here.environ, "ACCESS_KEYS_FILE": str(here.stack.accounts.secrets / "access_keys")}
    await _a_dead_letter(here)
    token = (await _printed("parley token -c talk", seeds, here.folder)).strip()
    by_token = {**me, "NATS_URL": here.stack.nats.ws_url, "PARLEY_TOKEN": token}
    shown: list[tuple[str, Mapping[str, str]]] = [
        ('parley ask "What is NATS?" -c talk', me),
        ('parley ask "And a joke?" -c talk --save joke.mp3', me),
        ('echo "What is my name?" | parley ask --stdin -c talk --json --no-voice', me),
        ('parley say "Good morning. It is seven." --save morning.wav; cat morning.vtt', me),
        ("printf 'My name is Ada.\\nWhat is my name?\\n' | parley chat -c talk", me),
        ("parley history talk --limit 2", me),
        ("parley history talk --limit 1 --json", me),
        ("parley tail talk --past --kind done,stored,piece --for 2", me),
        ("parley dead list", operator),
        ("parley dead show 1", operator),
        ("parley dead retry 1", operator),
        ("parley dead drop --all --yes", operator),
        ("parley token -c talk --may ask,listen --ttl 600 --json", seeds),
        ("parley doctor", operator),
        ("parley doctor", by_token),
        ("parley bench -n 8 -j 4", client),
        ("parley delete talk --yes", me),
        ('parley ask "Hi" --url nats://127.0.0.1:1; echo $?', me),
        ('NATS_PASSWORD=wrong parley --user client ask "Hi"; echo $?', me),
        ('parley ask "Hi" -c theirs; echo $?', by_token),
    ]
    logins = {id(operator): "NATS_USER=operator NATS_PASSWORD=… "}
    logins |= {id(client): "NATS_USER=client NATS_PASSWORD=… "}
    logins |= {id(by_token): "NATS_URL=wss://… PARLEY_TOKEN=… ", id(seeds): ""}
    blocks = []
    for command, environ in shown:
        said = _shortened(await _printed(command, environ, here.folder))
        blocks.append(f"```console\n$ {logins.get(id(environ), '')}{command}\n{said}```\n")
    return "\n".join(blocks)


async def _printed(command: str, environ: Mapping[str, str], folder: Path) -> str:
    process = await asyncio.create_subprocess_shell(
        command,
        cwd=folder,
        env=dict(environ),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(_SECONDS):
        out, _ = await process.communicate()
    return out.decode()


def _shortened(text: str) -> str:
    """Tokens are not printed whole, nor what is long."""
    text = re.sub(r"eyJ[\w-]{20,}\.[\w-]+\.[\w-]+", "eyJ0eXAiOiJKV1QiLC…", text)
    lines = [line.rstrip() for line in text.splitlines()]
    if len(lines) > _SHOWN_LINES:
        lines = [*lines[:4], "…", *lines[-4:]]
    return "".join(f"{line}\n" for line in lines)


async def _a_dead_letter(here: Place) -> None:
    client = await nats.connect(here.stack.nats.url)
    heard = await client.subscribe("chat.dead.>")
    await client.flush()
    await client.flush()
    letter = json.dumps({"content": "Hi", "temperature": "hot"}).encode()
    await client.jetstream().publish("chat.request.weather", letter)
    await heard.next_msg(timeout=_SECONDS)
    await client.close()


def with_outputs(text: str, found: str) -> str:
    """The README with these in the place of those before."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{found}\n{END}{after}"


async def main(words: list[str]) -> int:
    """`outputs` or `recording`; both, unless one is named."""
    async with place() as here:
        if "recording" in words or not words:
            recording = await recorded(here)
            (DOCS / "parley.cast").write_text(recording.cast(), encoding="utf-8")
            (DOCS / "parley.svg").write_text(svg(recording), encoding="utf-8")
        if "outputs" in words or not words:
            text = README.read_text(encoding="utf-8")
            README.write_text(with_outputs(text, await outputs(here)), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main(sys.argv[1:])))
