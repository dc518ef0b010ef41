"""`parley chat`: a conversation in a terminal."""

from __future__ import annotations

import asyncio
import uuid
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from parley.cli.ask import Conversation, Idle
from parley.cli.command import Cli
from parley.cli.editor import End, Key, Line
from parley.cli.history import show_message
from parley.cli.keyboard import Keyboard
from parley.cli.outcome import Exit, Failure
from parley.cli.told import Telling, Wanted, can_play, format_of, tell
from parley.contract import Finish, OnBusy, Speech
from parley.errors import InvalidRequest, NotFound, ParleyError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from parley.cli.editor import Typed
    from parley.cli.screen import Screen
    from parley.client import Parley, SpeechOptions
    from parley.turn import Turn

PROMPT: Final = "> "
_SHOWN: Final = 20  # messages of a conversation that is gone on with
_STOP_SECONDS: Final = 10.0  # in which a turn that is stopped ends

Action = Callable[[str], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Command:
    """What is typed behind a `/`."""

    usage: str
    text: str
    run: Action


@dataclass(frozen=True, slots=True, kw_only=True)
class Manner:
    """How the next turn is asked. `voice`: a name, "" for the services' own, None for no voice."""

    voice: str | None = None
    play: bool = False
    system: str | None = None
    model: str | None = None


@dataclass(slots=True)
class _Running:
    """The turn that is being told."""

    turn: Turn
    telling: Telling
    task: asyncio.Task[Telling]
    stopped: bool = False


async def chat(
    cli: Cli,
    *,
    conversation: Conversation = None,
    voice: Annotated[
        bool | None,
        typer.Option(
            "--voice/--no-voice", help="Have it spoken; by default where the extra `play` is."
        ),
    ] = None,
    system: Annotated[
        str | None, typer.Option(help="The system prompt; stays with the conversation.")
    ] = None,
    model: Annotated[str | None, typer.Option(metavar="NAME")] = None,
    idle: Idle = 120.0,
) -> int:
    """Talk: a line is a question, Ctrl-C interrupts with what was heard, /help has the rest.

    What comes by a pipe is asked line by line.
    """
    play = can_play() and cli.screen.is_terminal and voice is not False
    spoken = play or cli.screen.is_json if voice is None else voice
    manner = Manner(voice="" if spoken else None, play=play, system=system, model=model)
    async with cli.settings.client(idle=idle) as parley, Keyboard() as keyboard:
        talk = Chat(parley, cli.screen, keyboard, manner, conversation=conversation)
        if conversation is not None:
            await talk.show_history()
        if keyboard.is_terminal:
            cli.screen.note("/help has the commands; Ctrl-C interrupts, Ctrl-D ends.")
        return await talk.run()


class Chat:
    """Reads what is typed, asks, tells.

    `keys`: what a key does that means nothing to a line, such as `ctrl-k`; given the turn's telling
    while one runs.
    """

    def __init__(
        self,
        parley: Parley,
        screen: Screen,
        keyboard: Keyboard,
        manner: Manner,
        *,
        conversation: str | None = None,
        keys: Mapping[str, Callable[[Telling | None], Awaitable[None]]] | None = None,
    ) -> None:
        self.parley, self.screen, self.keyboard = parley, screen, keyboard
        self.conversation = conversation or uuid.uuid4().hex
        self.manner = manner
        self.commands: dict[str, Command] = {}
        self._keys = keys or {}
        self._running: _Running | None = None
        self._last: Turn | None = None
        self._waiting: deque[str] = deque()
        self._left: Exit | None = None
        self._status = Exit.DONE
        self._add_commands()

    # ------------------------------------------------------------ the loop

    async def run(self) -> int:
        """Until `/quit`, the end of the input, or Ctrl-C at an empty prompt."""
        typing = asyncio.ensure_future(self.keyboard.next())
        try:
            while True:
                await self._go_on()
                if self._is_over:
                    break
                waiting = {typing, *([self._running.task] if self._running else [])}
                await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                if self._running is not None and self._running.task.done():
                    self._tell_end()
                if typing.done():
                    typed, typing = typing.result(), asyncio.ensure_future(self.keyboard.next())
                    await self._on_typed(typed)
        finally:
            typing.cancel()
            await self._leave()
        return self._left or self._status

    @property
    def _is_over(self) -> bool:
        """At the end of the input what was asked before is still told."""
        if self._left is None or self._left is Exit.INTERRUPTED:
            return self._left is not None
        return self._running is None and not self._waiting

    async def _leave(self) -> None:
        self.keyboard.hide()
        running, self._running = self._running, None
        if running is not None:
            running.task.cancel()
            await asyncio.wait({running.task}, timeout=_STOP_SECONDS)

    async def _go_on(self) -> None:
        """With the next line that waits, or with the prompt."""
        while self._running is None and self._waiting and self._left is not Exit.INTERRUPTED:
            text = self._waiting.popleft()
            if text.startswith("/"):
                await self._on_command(text)
            else:
                self._ask(text)
        if self._running is None and self._left is None:
            self.keyboard.prompt(PROMPT)

    async def _on_typed(self, typed: Typed) -> None:
        match typed:
            case Line(text=text) if text.strip():
                await self._on_line(text.strip())
            case Line():
                self.keyboard.close_line("")
            case End():
                self._left = Exit.DONE
            case Key(name="ctrl-c"):
                await self._on_ctrl_c()
            case Key(name=name) if name in self._keys:
                telling = None if self._running is None else self._running.telling
                await self._keys[name](telling)
            case _:
                return

    async def _on_line(self, text: str) -> None:
        self.keyboard.close_line(text)
        if text.startswith("/") and self.keyboard.is_terminal:  # of a pipe: one after the other
            await self._on_command(text)
            return
        self._waiting.append(text)
        if self._running is not None and self._running.telling.complete:
            await self._stop()  # its voice is talked over

    async def _on_ctrl_c(self) -> None:
        if self._running is not None and not self._running.stopped:
            self._waiting.clear()
            await self._stop()
        elif self._running is None and self.keyboard.editor.text:
            self.keyboard.editor.clear()
            self.keyboard.prompt(PROMPT)
        else:
            self.keyboard.close_line(self.keyboard.editor.text)
            self._left = Exit.INTERRUPTED

    async def _stop(self) -> None:
        """The history keeps what was heard."""
        assert self._running is not None
        self._running.stopped = True
        try:
            await self._running.turn.cancel()
        except ParleyError as exc:
            self._fail(exc)

    # ------------------------------------------------------------ a turn

    def _ask(self, text: str) -> None:
        manner = self.manner
        speech: SpeechOptions = False
        if manner.voice is not None:
            speech = Speech(voice=manner.voice or None)
        try:
            turn = self.parley.ask(
                text,
                conversation=self.conversation,
                system=manner.system,
                model=manner.model,
                speech=speech,
                on_busy=OnBusy.QUEUE,
            )
        except ParleyError as exc:
            self._fail(exc)
            return
        self.keyboard.hide()
        self._tell(turn)

    def _tell(self, turn: Turn) -> None:
        voiced = self.manner.voice is not None
        wanted = Wanted(play=self.manner.play and voiced, voice=voiced)
        telling = Telling()
        task = asyncio.create_task(tell(turn, self.screen, wanted, telling=telling))
        self._running = _Running(turn, telling, task)
        self._last = turn

    def _tell_end(self) -> None:
        assert self._running is not None
        running, self._running = self._running, None
        error = running.task.exception()
        failed = running.telling.failed if error is None else error
        if isinstance(failed, Exception):
            self._fail(failed)
            return
        stored = running.telling.stored
        if stored is not None and stored.key is not None and not self.screen.is_json:
            cut = ", interrupted" if stored.finish is Finish.CANCELLED else ""
            self.screen.note(f"♪ {stored.duration_ms / 1000:.1f} s of voice{cut}")

    def _fail(self, error: Exception) -> None:
        failure = Failure.of(error)
        self.keyboard.above(lambda: self.screen.fail(failure))
        self._status = failure.status

    # ------------------------------------------------------------ commands

    def _add_commands(self) -> None:
        for name, usage, text, run in (
            ("help", "", "this list", self._help),
            (
                "voice",
                "on|off|NAME",
                "whether the next answers are spoken, and by whom",
                self._voice,
            ),
            ("system", "TEXT", "the system prompt, from the next question on", self._system),
            ("model", "NAME", "the model, from the next question on", self._model),
            ("new", "[ID]", "another conversation", self._new),
            ("history", "", "what was said", self._history),
            ("save", "FILE", "the voice of the last answer", self._save),
            ("quit", "", "leave; the conversation stays", self._quit),
        ):
            self.commands[name] = Command(usage, text, run)

    async def _on_command(self, text: str) -> None:
        name, _, rest = text[1:].partition(" ")
        command = self.commands.get(name)
        if command is None:
            self._note(f"There is no /{name}; /help has those that there are.", "yellow")
            return
        try:
            await command.run(rest.strip())
        except (ParleyError, OSError) as exc:
            self._fail(exc)

    def _note(self, text: str, style: str = "dim") -> None:
        self.keyboard.above(lambda: self.screen.note(text, style))

    async def _help(self, _: str) -> None:
        for name, command in self.commands.items():
            self._note(f"  {f'/{name} {command.usage}':<20} {command.text}")

    async def _voice(self, text: str) -> None:
        if text == "off":
            self.manner = replace(self.manner, voice=None)
        elif text:
            name = "" if text == "on" else text
            self.manner = replace(self.manner, voice=name, play=can_play())
        voice = self.manner.voice
        if voice is None:
            self._note("The next answers are text only.")
            return
        heard = "played" if self.manner.play else "not heard here (no extra `play`); /save keeps it"
        self._note(f"The next answers are spoken{voice and f' by {voice}'}: {heard}.")

    async def _system(self, text: str) -> None:
        if text:
            self.manner = replace(self.manner, system="" if text in {'""', "''"} else text)
        said = self.manner.system
        self._note("The system prompt stays as it is." if said is None else f"System: {said}")

    async def _model(self, text: str) -> None:
        self.manner = replace(self.manner, model=text or None)
        self._note(f"The model is {text or 'the service’s own'}.")

    async def _new(self, text: str) -> None:
        if self._running is not None:
            raise InvalidRequest("an answer is under way: Ctrl-C stops it")
        self.conversation = text or uuid.uuid4().hex
        self._note(f"Conversation {self.conversation}.")
        await self.show_history()

    async def _history(self, _: str) -> None:
        await self.show_history()

    async def show_history(self) -> None:
        """The newest messages; a turn that is under way is told from its beginning.

        Raises: ParleyError.
        """
        async for page in self.parley.history(self.conversation, limit=_SHOWN):
            self.keyboard.hide()
            for message in page.messages:
                show_message(self.screen, message, self.conversation)
            if page.turn is not None and self._running is None:
                self._tell(self.parley.follow(self.conversation, page.turn.turn_id))
            break

    async def _save(self, text: str) -> None:
        path = Path(text)
        format_of(path)
        if self._last is None:
            raise NotFound("nothing was said yet")
        await self._last.save(path)
        self._note(f"{path} is written.")

    async def _quit(self, _: str) -> None:
        self._waiting.clear()
        self._left = Exit.DONE
        if self._running is not None:
            await self._stop()
