"""A turn as it is told in a terminal: words as they come, its voice played or saved."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from rich.progress import BarColumn, Progress

from parley.captions import Captions
from parley.contract import (
    AudioFailed,
    AudioFormat,
    Done,
    Failed,
    FinishReason,
    Piece,
    Reasoning,
    Started,
    Stored,
    Text,
)
from parley.errors import InvalidRequest, NotFound, ParleyError, from_error
from parley.events import describe
from parley.sound import Sound, wav

if TYPE_CHECKING:
    from rich.progress import TaskID

    from parley.cli.screen import Screen
    from parley.events import Event
    from parley.turn import Turn

_CANCEL_SECONDS: Final = 5.0
FORMATS: Final = {f".{each.value}": each for each in AudioFormat} | {".ogg": AudioFormat.OPUS}


def can_play() -> bool:
    """Whether `sounddevice` is there; a sound card may still be missing."""
    return importlib.util.find_spec("sounddevice") is not None


def format_of(path: Path | None) -> AudioFormat | None:
    """By the suffix. Raises InvalidRequest, also where the file cannot be written."""
    if path is None:
        return None
    found = FORMATS.get(path.suffix.lower())
    if found is None:
        raise InvalidRequest(f"--save {path}: the suffix has to be one of {', '.join(FORMATS)}")
    if not path.parent.is_dir():
        raise InvalidRequest(f"--save {path}: there is no folder {path.parent}")
    return found


@dataclass(slots=True)
class Telling:
    """What became of a turn."""

    text: str = ""
    stored: Stored | None = None
    failed: ParleyError | None = None
    interrupted: bool = False
    sound: Sound = field(default_factory=Sound)
    captions: Captions = field(default_factory=Captions)
    complete: bool = False  # the text

    def add(self, event: Event) -> None:
        self.sound.add(event)
        self.captions.add(event)
        match event:
            case Started():
                self.text = ""
            case Text(text=text):
                self.text += text
            case Done(finish_reason=reason):
                self.complete, self.interrupted = True, reason is FinishReason.CANCELLED
            case Stored():
                self.stored = event
            case Failed(error=error) | AudioFailed(error=error):
                self.failed = self.failed or from_error(error)
            case _:
                return


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is done with a turn. `voice`: its end is waited for, whether it is heard here or not."""

    save: Path | None = None
    play: bool = False
    voice: bool = False
    captions: bool = False
    reasoning: bool = False


async def tell(
    turn: Turn, screen: Screen, wanted: Wanted, *, telling: Telling | None = None
) -> Telling:
    """Returns when it has ended; a turn goes on when this is cancelled.

    `telling`: what is known before, such as the text of a turn that only speaks.

    Raises: ParleyError, as an iteration of the turn does, but for a failure of the turn itself.
    """
    telling = Telling() if telling is None else telling
    playing = asyncio.create_task(turn.play()) if wanted.play else None
    try:
        with _Bar(screen, wanted) as bar:
            async for event in turn.events():
                telling.add(event)
                _say(event, telling, screen, wanted)
                bar.show(event, telling)
                if isinstance(event, Done | Failed) and not wanted.voice:
                    break
        if wanted.save is not None and telling.failed is None:
            await _save(turn, telling, screen, wanted)
        if playing is not None:
            await _played(playing, telling, screen)
    finally:
        if playing is not None:
            playing.cancel()
            await asyncio.gather(playing, return_exceptions=True)
    return telling


async def tell_or_stop(
    turn: Turn, screen: Screen, wanted: Wanted, *, telling: Telling | None = None
) -> Telling:
    """The same; whoever cancels this, stops the turn."""
    try:
        return await tell(turn, screen, wanted, telling=telling)
    except asyncio.CancelledError:
        with contextlib.suppress(TimeoutError, ParleyError):
            async with asyncio.timeout(_CANCEL_SECONDS):
                await turn.cancel()
        raise


async def _played(playing: asyncio.Task[int], telling: Telling, screen: Screen) -> None:
    """A card that does not play spoils no answer."""
    try:
        await playing
    except ParleyError as exc:
        if telling.failed is None:
            screen.note(f"The voice was not played: {exc.message}", "yellow")


def _say(event: Event, telling: Telling, screen: Screen, wanted: Wanted) -> None:
    screen.value(describe(event))
    match event:
        case Started(attempt=attempt) if attempt > 1:
            screen.words("\n")
            screen.words("(again from the start) ")
        case Text(text=text):
            screen.words(text)
        case Reasoning(text=text) if wanted.reasoning and not screen.is_json:
            screen.note(text)
        case Done(finish_reason=reason):
            cut = {
                FinishReason.CANCELLED: " (interrupted)",
                FinishReason.LENGTH: " (cut: too long)",
            }
            screen.words(cut.get(reason, "") + "\n")
        case Failed():
            screen.words("\n" if telling.text else "")
        case _:
            return


async def _save(turn: Turn, telling: Telling, screen: Screen, wanted: Wanted) -> None:
    """Raises NotFound, where nothing was spoken; OSError."""
    path = wanted.save
    assert path is not None
    if not telling.sound.pcm:
        raise NotFound("nothing was spoken: there is no voice to be saved")
    if path.suffix.lower() in {".wav", ".pcm"}:
        pcm = telling.sound.pcm
        await asyncio.to_thread(
            path.write_bytes, wav(pcm) if path.suffix.lower() == ".wav" else pcm
        )
    else:
        await turn.save(path)
    files = [path]
    if wanted.captions:
        files.append(path.with_suffix(".vtt"))
        await asyncio.to_thread(files[1].write_text, telling.captions.webvtt, encoding="utf-8")
    screen.value(
        {
            "type": "saved",
            "conversation_id": turn.conversation_id,
            "turn_id": turn.turn_id,
            "files": [str(each) for each in files],
            "bytes": path.stat().st_size,
            "duration_ms": round(telling.sound.seconds * 1000),
        }
    )
    names = " and ".join(str(each) for each in files)
    screen.note(f"{names}: {telling.sound.seconds:.1f} s of speech, {path.stat().st_size:,} bytes")


class _Bar:
    """Of a voice that is saved, how much is spoken; below the words, once they are complete."""

    def __init__(self, screen: Screen, wanted: Wanted) -> None:
        self._progress: Progress | None = None
        self._task: TaskID | None = None
        self._spoken = 0  # characters
        if wanted.save is not None and screen.err.is_terminal:
            columns = ("{task.description}", BarColumn(), "{task.fields[seconds]:.1f} s of speech")
            self._progress = Progress(*columns, console=screen.err, transient=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._progress is not None:
            self._progress.stop()

    def show(self, event: Event, telling: Telling) -> None:
        if self._progress is None:
            return
        if isinstance(event, Piece):
            self._spoken = event.chars[0]
        if isinstance(event, Stored):
            self._spoken = len(telling.text)
        if self._task is None and telling.complete:
            self._progress.start()
            self._task = self._progress.add_task("voice", total=len(telling.text), seconds=0.0)
        if self._task is not None:
            seconds = telling.sound.seconds
            self._progress.update(self._task, completed=self._spoken, seconds=seconds)
