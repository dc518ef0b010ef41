"""`parley bench`: how long a listener waits, in percentiles."""

from __future__ import annotations

import asyncio
import time
import uuid
from dataclasses import dataclass, field
from typing import Annotated, Final

import typer
from rich.table import Table

from parley.cli.command import Cli
from parley.cli.outcome import Exit, Failure
from parley.client import Parley
from parley.contract import AudioFailed, Done, Failed, Text
from parley.errors import ParleyError, from_error
from parley.events import Chunk

_PERCENTILES: Final = (50, 90, 99)
_QUESTION: Final = "In two sentences: why is the sky blue?"


@dataclass(slots=True)
class Times:
    """Milliseconds from the question on, of the turns that came to a good end."""

    first_word: list[float] = field(default_factory=list[float])
    first_sound: list[float] = field(default_factory=list[float])
    text: list[float] = field(default_factory=list[float])
    turn: list[float] = field(default_factory=list[float])
    failed: dict[str, int] = field(default_factory=dict[str, int])

    def rows(self) -> dict[str, list[float]]:
        named = {"first_word": self.first_word, "first_sound": self.first_sound}
        return {**named, "whole_text": self.text, "whole_turn": self.turn}


def percentile(values: list[float], percent: int) -> float | None:
    """The smallest value that so many percent do not exceed; None of nothing.

    >>> percentile([1.0, 2.0, 3.0, 4.0], 50)
    2.0
    """
    if not values:
        return None
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * percent // 100) - 1)]


async def bench(
    cli: Cli,
    text: Annotated[str, typer.Argument(help="What each turn asks.", metavar="TEXT")] = _QUESTION,
    *,
    turns: Annotated[int, typer.Option("-n", "--turns", min=1, help="How many.")] = 20,
    at_once: Annotated[
        int, typer.Option("-j", "--at-once", "--concurrency", min=1, help="How many at once.")
    ] = 4,
    voice: Annotated[bool, typer.Option("--voice/--no-voice", help="Have them spoken.")] = True,
    keep: Annotated[bool, typer.Option("--keep", help="Do not erase the conversations.")] = False,
) -> int:
    """Ask N times, M at once; say when the first word, the first sound and the end came."""
    times, places = Times(), asyncio.Semaphore(at_once)
    began = time.monotonic()
    async with cli.settings.client() as parley:

        async def one() -> None:
            async with places:
                await _turn(parley, text, times, voice=voice, keep=keep)

        async with asyncio.TaskGroup() as running:
            for _ in range(turns):
                running.create_task(one())
    seconds = time.monotonic() - began
    failed = sum(times.failed.values())
    value: dict[str, object] = {"type": "bench", "turns": turns, "at_once": at_once}
    value |= {"seconds": round(seconds, 3), "failed": times.failed}
    table = Table("milliseconds", *(f"p{each}" for each in _PERCENTILES), box=None)
    for name, values in times.rows().items():
        if values:
            found = {f"p{each}": percentile(values, each) for each in _PERCENTILES}
            value[f"{name}_ms"] = {k: None if v is None else round(v, 1) for k, v in found.items()}
            table.add_row(name.replace("_", " "), *(f"{v or 0:,.0f}" for v in found.values()))
    cli.screen.value(value)
    cli.screen.show(table)
    cli.screen.line(f"{turns} turns, {at_once} at once, in {seconds:.1f} s; {failed} failed")
    for code, count in times.failed.items():
        cli.screen.note(f"{count} failed: {code}", "red")
    return Exit.FAILED if failed else Exit.DONE


async def _turn(parley: Parley, text: str, times: Times, *, voice: bool, keep: bool) -> None:
    began = time.monotonic()
    word: float | None = None
    sound: float | None = None
    done: float | None = None
    turn = parley.ask(
        text, conversation=f"bench-{uuid.uuid4().hex}", speech=None if voice else False
    )
    try:
        async for event in turn.events():
            since = (time.monotonic() - began) * 1000
            if isinstance(event, Text):
                word = since if word is None else word
            elif isinstance(event, Chunk):
                sound = since if sound is None else sound
            elif isinstance(event, Done):
                done = since
            elif isinstance(event, Failed | AudioFailed):
                raise from_error(event.error)
    except ParleyError as exc:
        code = Failure.of(exc).code
        times.failed[code] = times.failed.get(code, 0) + 1
        return
    times.turn.append((time.monotonic() - began) * 1000)
    for values, value in ((times.first_word, word), (times.first_sound, sound), (times.text, done)):
        if value is not None:
            values.append(value)
    if not keep:
        await parley.delete(turn.conversation_id)
