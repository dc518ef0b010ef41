"""`parley history`, `parley delete`: what is kept of a conversation."""

from __future__ import annotations

import sys
from typing import Annotated

import msgspec
import typer

from parley.cli.command import Cli
from parley.cli.outcome import Exit
from parley.cli.screen import Screen
from parley.contract import History, Message, Role, Status
from parley.errors import InvalidRequest

Conversation = Annotated[str, typer.Argument(help="The conversation's id.", metavar="C")]
_STYLES = {Role.USER: "bold cyan", Role.ASSISTANT: "bold green", Role.SYSTEM: "bold yellow"}


async def history(
    cli: Cli,
    conversation: Conversation,
    *,
    limit: Annotated[int, typer.Option("-n", "--limit", min=1, help="The newest messages.")] = 200,
    everything: Annotated[bool, typer.Option("--all", help="All messages.")] = False,
) -> int:
    """Show what was said in a conversation, the oldest first.

    A conversation that nobody knows has no messages, which is no error.
    """
    pages: list[History] = []
    count = 0
    async with cli.settings.client() as parley:
        async for page in parley.history(conversation, limit=1000 if everything else limit):
            pages.append(page)
            count += len(page.messages)
            if not everything and count >= limit:
                break
    found = [message for page in reversed(pages) for message in page.messages]
    for message in found if everything else found[-limit:]:
        show_message(cli.screen, message, conversation)
    under_way = pages[0].turn if pages else None
    if under_way is not None:
        cli.screen.value(
            {"type": "turn", "conversation_id": conversation, **msgspec.to_builtins(under_way)}
        )
        cli.screen.line(f"assistant, just now: {under_way.text}", "green")
    if not found and under_way is None:
        cli.screen.note(f"Nothing is kept of {conversation}: is that its id?", "yellow")
    return Exit.DONE


def show_message(screen: Screen, message: Message, conversation: str) -> None:
    value = {"type": "message", "conversation_id": conversation, **msgspec.to_builtins(message)}
    screen.value(value)
    cut = " (interrupted)" if message.status is Status.INTERRUPTED else ""
    when = message.created_at[:19].replace("T", " ")
    screen.line(f"{message.role.value}{cut}  {when}", _STYLES[message.role])
    screen.line(message.content + "\n")


async def delete(
    cli: Cli,
    conversation: Conversation,
    *,
    yes: Annotated[bool, typer.Option("-y", "--yes", help="Do not ask whether to.")] = False,
) -> int:
    """Erase a conversation everywhere: messages, events, voices, dead letters; what runs stops."""
    if not yes:
        if not (sys.stdin.isatty() and cli.screen.err.is_terminal):
            raise InvalidRequest("--yes is needed where nobody can be asked")
        cli.screen.err.print(f"Erase {conversation} everywhere? [y/N] ", end="", markup=False)
        if sys.stdin.readline().strip().lower() not in {"y", "yes"}:
            cli.screen.note("Nothing was erased.")
            return Exit.FAILED
    async with cli.settings.client() as parley:
        await parley.delete(conversation)
    cli.screen.value({"type": "deleted", "conversation_id": conversation, "deleted": True})
    cli.screen.line(f"{conversation} is erased.")
    return Exit.DONE
