"""`parley dead`: what could not be done, kept in the stream DEAD_LETTERS with the reason.

They take the operator's login.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final

import msgspec
import typer

from parley.cli.command import Cli
from parley.cli.jetstream import JetStream, Stored
from parley.cli.outcome import Exit
from parley.cli.screen import Screen
from parley.contract import (
    CHAT_DEAD,
    DEAD_LETTERS_STREAM,
    H_DELIVERIES,
    H_ERROR,
    H_ERROR_CODE,
    H_FAILED_AT,
    H_ORIGINAL_BYTES,
    H_SUBJECT,
    MSG_ID,
    TTS_DEAD,
    UNREADABLE,
    conversation_of,
)
from parley.errors import InvalidRequest, NotFound

_MARKS: Final = {
    *(H_ERROR_CODE, H_ERROR, H_SUBJECT, H_DELIVERIES, H_FAILED_AT, H_ORIGINAL_BYTES, MSG_ID)
}
_ORIGINAL: Final = "Parley-Original-"
_SHOWN: Final = 2_000  # characters of a body

Sequence = Annotated[
    list[int] | None, typer.Argument(help="Its number in the list.", metavar="NUMBER")
]
All = Annotated[bool, typer.Option("--all", help="All of them.")]


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter, or the server's word that a message was delivered too often."""

    kept: Stored

    @property
    def is_advisory(self) -> bool:
        return not self.kept.subject.startswith((CHAT_DEAD, TTS_DEAD))

    @property
    def subject(self) -> str:
        """Of the original."""
        return self.kept.headers.get(H_SUBJECT, self.kept.subject)

    @property
    def conversation(self) -> str:
        return conversation_of(self.kept.subject) or conversation_of(self.subject)

    @property
    def code(self) -> str:
        return "max_deliveries" if self.is_advisory else self.kept.headers.get(H_ERROR_CODE, "")

    @property
    def error(self) -> str:
        if not self.is_advisory:
            return self.kept.headers.get(H_ERROR, "")
        told = _json(self.kept.data)
        where = f"message {told.get('stream_seq')} of {told.get('stream')}"
        return f"{where} was delivered {told.get('deliveries')} times"

    @property
    def failed_at(self) -> str:
        return self.kept.headers.get(H_FAILED_AT, self.kept.time)

    @property
    def is_whole(self) -> bool:
        return H_ORIGINAL_BYTES not in self.kept.headers

    @property
    def headers(self) -> dict[str, str]:
        """Those of the original that are sent again."""
        kept = self.kept.headers
        return {k: v for k, v in kept.items() if k not in _MARKS and not k.startswith(_ORIGINAL)}

    def describe(self) -> dict[str, object]:
        return {
            "type": "dead_letter",
            "number": self.kept.sequence,
            "subject": self.subject,
            "conversation_id": self.conversation or None,
            "code": self.code,
            "error": self.error,
            "failed_at": self.failed_at,
            "deliveries": int(self.kept.headers.get(H_DELIVERIES, "0")),
            "bytes": len(self.kept.data),
            "whole": self.is_whole,
        }


async def list_dead(
    cli: Cli,
    *,
    limit: Annotated[int, typer.Option("-n", "--limit", min=1, help="The newest ones.")] = 100,
    conversation: Annotated[
        str | None, typer.Option("-c", "--conversation", help="Only of this one.", metavar="C")
    ] = None,
    code: Annotated[str | None, typer.Option(help="Only with this error, as `busy`.")] = None,
) -> int:
    """List them, the newest last."""
    async with cli.settings.client() as parley:
        found: deque[Letter] = deque(maxlen=limit)
        for letter in await _all(JetStream(parley)):
            if conversation in {None, letter.conversation} and code in {None, letter.code}:
                found.append(letter)
    for letter in found:
        cli.screen.value(letter.describe())
        when = letter.failed_at[:19].replace("T", " ")
        head = f"{letter.kept.sequence:>6}  {when}  {letter.subject}"
        cli.screen.line(f"{head}  {letter.code}: {letter.error}")
    if not found:
        cli.screen.note("There are no dead letters.", "green")
    return Exit.DONE


async def show(cli: Cli, number: Annotated[int, typer.Argument(metavar="NUMBER")]) -> int:
    """Show one: why it could not be done, and the original message."""
    async with cli.settings.client() as parley:
        letter = await _letter(JetStream(parley), number)
    text = letter.kept.data.decode(errors="replace")
    cli.screen.value({**letter.describe(), "headers": dict(letter.kept.headers), "body": text})
    _show(cli.screen, letter, text)
    return Exit.DONE


def _show(screen: Screen, letter: Letter, text: str) -> None:
    screen.line(f"{letter.code}: {letter.error}", "bold red")
    told = letter.describe()
    for name in ("number", "subject", "conversation_id", "failed_at", "deliveries"):
        screen.line(f"  {name:<16} {told[name]}")
    for name, value in letter.headers.items():
        screen.line(f"  {name:<16} {value}", "dim")
    if not letter.is_whole:
        screen.line("  The body was too large, and is cut.", "yellow")
    screen.line("\n" + text[:_SHOWN] + ("…" if len(text) > _SHOWN else ""))


async def retry(
    cli: Cli,
    numbers: Sequence = None,
    *,
    everything: All = False,
    new_turn: Annotated[
        bool,
        typer.Option(
            "--new-turn", help="Without its turn id: a turn that has ended is not answered again."
        ),
    ] = False,
) -> int:
    """Publish the original again, then drop the dead letter."""
    _some(numbers, everything=everything)
    async with cli.settings.client() as parley:
        jetstream = JetStream(parley)
        for number in await _numbers(jetstream, numbers, everything=everything):
            letter = await _letter(jetstream, number)
            original = await _original(jetstream, letter)
            data = _without_turn(original.data) if new_turn else original.data
            # So that a retry that was cut in the middle asks for no second turn.
            marks = {MSG_ID: f"dead-{number}-{_digits(letter.failed_at)}"}
            await jetstream.publish(original.subject, data, {**letter.headers, **marks})
            await jetstream.delete(DEAD_LETTERS_STREAM, number)
            cli.screen.value({"type": "retried", "number": number, "subject": original.subject})
            cli.screen.line(f"{number} is published again on {original.subject}, and dropped.")
    return Exit.DONE


async def drop(
    cli: Cli,
    numbers: Sequence = None,
    *,
    everything: All = False,
    yes: Annotated[bool, typer.Option("-y", "--yes", help="Do not ask whether to.")] = False,
) -> int:
    """Drop them for good."""
    _some(numbers, everything=everything)
    async with cli.settings.client() as parley:
        jetstream = JetStream(parley)
        found = await _numbers(jetstream, numbers, everything=everything)
        if everything and not yes and not _agrees(cli.screen, len(found)):
            return Exit.FAILED
        for number in found:
            await _letter(jetstream, number)
            await jetstream.delete(DEAD_LETTERS_STREAM, number)
            cli.screen.value({"type": "dropped", "number": number})
            cli.screen.line(f"{number} is dropped.")
    return Exit.DONE


def _agrees(screen: Screen, count: int) -> bool:
    if not (sys.stdin.isatty() and screen.err.is_terminal):
        raise InvalidRequest("--yes is needed where nobody can be asked")
    screen.err.print(f"Drop all {count} dead letters? [y/N] ", end="", markup=False)
    return sys.stdin.readline().strip().lower() in {"y", "yes"}


def _some(given: list[int] | None, *, everything: bool) -> None:
    """Raises InvalidRequest, where none are named."""
    if not given and not everything:
        raise InvalidRequest("NUMBER is missing, or --all; `parley dead list` has the numbers")


async def _numbers(jetstream: JetStream, given: list[int] | None, *, everything: bool) -> list[int]:
    if everything:
        return [letter.kept.sequence for letter in await _all(jetstream)]
    return given or []


async def _all(jetstream: JetStream) -> list[Letter]:
    try:
        state = (await jetstream.stream(DEAD_LETTERS_STREAM)).state
    except NotFound:
        said = f"there is no stream {DEAD_LETTERS_STREAM}: a service makes it at its start"
        raise NotFound(said) from None
    found: list[Letter] = []
    sequence = state.first_seq
    while sequence <= state.last_seq:
        kept = await jetstream.next(DEAD_LETTERS_STREAM, sequence)
        if kept is None:
            break
        found.append(Letter(kept))
        sequence = kept.sequence + 1
    return found


async def _letter(jetstream: JetStream, number: int) -> Letter:
    """Raises NotFound."""
    try:
        return Letter(await jetstream.get(DEAD_LETTERS_STREAM, number))
    except NotFound:
        said = f"there is no dead letter {number}: `parley dead list` has the numbers"
        raise NotFound(said) from None


async def _original(jetstream: JetStream, letter: Letter) -> Stored:
    """Raises NotFound, InvalidRequest, where it cannot be sent again."""
    if not letter.is_whole:
        raise InvalidRequest(f"{letter.kept.sequence}: its body was too large, and is cut")
    if not letter.is_advisory:
        return Stored(letter.subject, 0, letter.kept.time, data=letter.kept.data)
    told = _json(letter.kept.data)
    try:
        return await jetstream.get(str(told.get("stream")), int(told.get("stream_seq", 0)))
    except NotFound:
        raise NotFound(f"{letter.kept.sequence}: its message is in no stream any more") from None


def _without_turn(data: bytes) -> bytes:
    told = _json(data)
    if not told:
        return data
    return msgspec.json.encode({k: v for k, v in told.items() if k != "turn_id"})


def _json(data: bytes) -> Mapping[str, Any]:
    try:
        found = msgspec.json.decode(data, type=dict[str, Any])
    except UNREADABLE:
        return {}
    return found


def _digits(text: str) -> str:
    return "".join(letter for letter in text if letter.isdigit())
