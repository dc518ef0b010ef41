"""`parley tail`: everything that is said, as it is said."""

from __future__ import annotations

import asyncio
import contextlib
import time
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Final

import typer

from parley.cli.command import Cli
from parley.cli.outcome import Exit
from parley.contract import (
    SAMPLE_RATE,
    AudioFailed,
    AudioStarted,
    Done,
    Failed,
    Piece,
    PieceDone,
    Reasoning,
    Started,
    Stored,
    Text,
)
from parley.errors import InvalidRequest
from parley.events import Chunk, Event, describe

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping

    from parley.client import Parley

KINDS: Final = (
    *("started", "text", "reasoning", "done", "failed"),
    *("piece", "chunk", "piece_done", "stored"),
)
_SHOWN: Final = 8  # characters of an id
_STYLES: Final = {"failed": "red", "done": "green", "stored": "green", "chunk": "dim"}


@dataclass(frozen=True, slots=True)
class _Only:
    """What is shown; None and nothing let all through."""

    turn: str | None
    kinds: frozenset[str]
    of: str | None

    def lets_through(self, event: Event, told: Mapping[str, object]) -> bool:
        return (
            self.turn in {None, event.turn_id}
            and (not self.kinds or told["type"] in self.kinds)
            and self.of in {None, told["of"]}
        )


async def tail(
    cli: Cli,
    conversations: Annotated[
        list[str] | None,
        typer.Argument(help="Only these; without any, all that the login may hear.", metavar="C"),
    ] = None,
    *,
    conversation: Annotated[
        list[str] | None,
        typer.Option("-c", "--conversation", help="Only this one; may be repeated.", metavar="C"),
    ] = None,
    turn: Annotated[str | None, typer.Option(help="Only this turn.", metavar="T")] = None,
    kind: Annotated[
        list[str] | None,
        typer.Option("-k", "--kind", help=f"Only these, of {', '.join(KINDS)}.", metavar="KIND"),
    ] = None,
    of: Annotated[str | None, typer.Option(help="Only `text`, or only `voice`.")] = None,
    past: Annotated[
        bool, typer.Option("--past", help="Of named conversations also what is kept.")
    ] = False,
    count: Annotated[
        int | None, typer.Option("-n", "--count", min=1, help="End after so many events.")
    ] = None,
    seconds: Annotated[
        float | None, typer.Option("--for", min=0.1, help="End after so many seconds.")
    ] = None,
) -> int:
    """Show every event of text and voice as it comes, until Ctrl-C."""
    wanted = [*(conversations or []), *(conversation or [])]
    kinds = {name for each in kind or [] for name in each.split(",")}
    if unknown := kinds - set(KINDS):
        raise InvalidRequest(f"--kind {', '.join(unknown)} is none of {', '.join(KINDS)}")
    if of not in {None, "text", "voice"}:
        raise InvalidRequest("--of is `text` or `voice`")
    if past and not wanted:
        raise InvalidRequest("--past needs the id of a conversation")
    only = _Only(turn, frozenset(kinds), of)
    left = -1 if count is None else count
    began = time.monotonic()
    async with (
        cli.settings.client() as parley,
        aclosing(_events(parley, wanted, past=past)) as events,
    ):
        if not past:
            cli.screen.note("Listening; Ctrl-C ends it.")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                async for event in events:
                    told = describe(event)
                    if not only.lets_through(event, told):
                        continue
                    cli.screen.value(told)
                    style = _STYLES.get(told["type"], "")
                    cli.screen.line(_readable(event, told, time.monotonic() - began), style)
                    left -= 1
                    if not left:
                        break
    return Exit.DONE


async def _events(parley: Parley, wanted: list[str], *, past: bool) -> AsyncGenerator[Event]:
    if not wanted:
        async for event in parley.listen():
            yield event
        return
    queue: asyncio.Queue[Event] = asyncio.Queue(256)  # who reads slowly holds them all up

    async def read(conversation: str) -> None:
        async for event in parley.tail(conversation, past=past):
            await queue.put(event)

    reading = [asyncio.create_task(read(each)) for each in wanted]
    getting = asyncio.create_task(queue.get())
    try:
        while True:
            await asyncio.wait({getting, *reading}, return_when=asyncio.FIRST_COMPLETED)
            if getting.done():
                yield getting.result()
                getting = asyncio.create_task(queue.get())
            for task in reading:
                if task.done():
                    await task  # raises why nothing more comes
    finally:
        for each in (getting, *reading):
            each.cancel()
        await asyncio.gather(getting, *reading, return_exceptions=True)


def _readable(event: Event, told: dict[str, object], seconds: float) -> str:
    attempt = f" ({event.attempt})" if event.attempt > 1 else ""
    ids = f"{event.conversation_id[:_SHOWN]:<{_SHOWN}} {event.turn_id[:_SHOWN]:<{_SHOWN}}"
    kind = f"{told['of']}.{told['type']}{attempt}"
    return f"{seconds:8.2f} {ids} {kind:<18} {_said(event)}".rstrip()


def _said(event: Event) -> str:  # noqa: PLR0911  one for each kind
    match event:
        case Started(model=model, warnings=warnings):
            return " ".join([model, *warnings])
        case Text(text=text) | Reasoning(text=text):
            return _one_line(text)
        case Done(finish_reason=reason, text=text, duration_ms=duration, first_token_ms=first):
            took = "" if first is None else f", first word after {first} ms"
            return f"{reason.value}, {len(text)} characters in {duration} ms{took}"
        case Failed(error=error) | AudioFailed(error=error):
            return f"{error.code.value}: {_one_line(error.message)}"
        case AudioStarted(model=model, voice=voice):
            return f"{model} {voice}"
        case Piece(index=index, text=text):
            return f"{index}: {_one_line(text)}"
        case Chunk(piece=piece, seconds=seconds):
            return f"{piece}: {seconds * 1000:.0f} ms of sound"
        case PieceDone(index=index, samples=samples):
            return f"{index}: {samples / SAMPLE_RATE:.2f} s"
        case Stored(finish=finish, duration_ms=duration, key=key):
            return f"{finish.value}, {duration / 1000:.2f} s, {key}"


def _one_line(text: str) -> str:
    return text.replace("\n", "⏎")
