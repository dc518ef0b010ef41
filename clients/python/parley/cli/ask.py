"""`parley ask`, `parley say`: one turn, from the question or the text to the end of its voice."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path
from typing import Annotated, Final

import typer

from parley.cli.command import Cli
from parley.cli.outcome import Exit
from parley.cli.screen import Screen
from parley.cli.settings import read_file
from parley.cli.told import Telling, Wanted, can_play, format_of, tell_or_stop
from parley.contract import Alignment, OnBusy, Speech
from parley.errors import InvalidRequest
from parley.speaker import NoSpeaker

_READ_SECONDS: Final = 300.0

Conversation = Annotated[
    str | None,
    typer.Option("-c", "--conversation", help="Its id; else a new one.", metavar="C"),
]
Save = Annotated[
    Path | None,
    typer.Option(
        "-s",
        "--save",
        help="The voice goes into this file: .wav .flac .mp3 .opus .ogg .aac .pcm.",
        metavar="FILE",
    ),
]
Voice = Annotated[
    str | None, typer.Option("--voice-name", help="Whose voice, as `af_heart`.", metavar="NAME")
]
Language = Annotated[str | None, typer.Option(help="Of the voice, as `en`.", metavar="CODE")]
Speed = Annotated[
    float | None, typer.Option(min=0.25, max=4, help="1 is the voice's own.", metavar="X")
]
Words = Annotated[bool, typer.Option("--words", help="Have the voice tell when each word comes.")]
Idle = Annotated[
    float, typer.Option(min=1, help="Seconds without any event after which a turn is lost.")
]
Play = Annotated[
    bool | None,
    typer.Option(
        "--play/--no-play",
        help="Play the voice; by default in a terminal, where the extra `play` is installed.",
    ),
]


async def ask(
    cli: Cli,
    text: Annotated[list[str] | None, typer.Argument(help="What is asked.", metavar="TEXT")] = None,
    *,
    conversation: Conversation = None,
    stdin: Annotated[
        bool, typer.Option("--stdin", help="Standard input is asked, behind TEXT if there is any.")
    ] = False,
    save: Save = None,
    play: Play = None,
    voice: Annotated[
        bool | None,
        typer.Option(
            "--voice/--no-voice",
            help="Have it spoken; by default where it is played, saved, or told with --json.",
        ),
    ] = None,
    system: Annotated[
        str | None, typer.Option(help="The system prompt; stays with the conversation.")
    ] = None,
    model: Annotated[str | None, typer.Option(metavar="NAME")] = None,
    temperature: Annotated[float | None, typer.Option(min=0, max=2)] = None,
    max_tokens: Annotated[int | None, typer.Option(min=1)] = None,
    on_busy: Annotated[
        OnBusy, typer.Option(help="While another turn of the conversation runs.")
    ] = OnBusy.QUEUE,
    turn_id: Annotated[
        str | None, typer.Option("--turn", help="Its id: the same is never answered twice.")
    ] = None,
    voice_name: Voice = None,
    language: Language = None,
    speed: Speed = None,
    words: Words = False,
    reasoning: Annotated[bool, typer.Option("--reasoning", help="Show what it thinks.")] = False,
    idle: Idle = 120.0,
) -> int:
    """Ask: the words come as the model says them, and the voice as it is spoken.

    `parley ask "Why is the sky blue?" --save sky.wav`
    """
    content = await _content(text, stdin=stdin)
    format_of(save)
    playing = save is None and _plays(cli.screen, play)
    spoken = (save is not None or playing or cli.screen.is_json) if voice is None else voice
    if save is not None and not spoken:
        raise InvalidRequest("--save needs a voice: leave --no-voice out")
    speech = _speech(save, voice_name, language, speed, words=words)
    async with cli.settings.client(idle=idle) as parley:
        turn = parley.ask(
            content,
            conversation=conversation,
            turn_id=turn_id,
            system=system,
            model=model,
            temperature=temperature,
            max_tokens=max_tokens,
            on_busy=on_busy,
            speech=speech if spoken else False,
        )
        wanted = Wanted(
            save=save,
            play=playing and spoken,
            voice=save is not None or (cli.screen.is_json and spoken),
            captions=False,
            reasoning=reasoning,
        )
        telling = await tell_or_stop(turn, cli.screen, wanted)
        if cli.screen.is_terminal and conversation is None:
            cli.screen.note(f"To go on: parley ask -c {turn.conversation_id} …")
    return ended(telling)


async def say(
    cli: Cli,
    text: Annotated[list[str] | None, typer.Argument(help="What is said.", metavar="TEXT")] = None,
    *,
    file: Annotated[
        Path | None, typer.Option("-f", "--file", help="Say what is in this file.", metavar="FILE")
    ] = None,
    stdin: Annotated[bool, typer.Option("--stdin", help="Say what standard input has.")] = False,
    save: Save = None,
    captions: Annotated[
        bool, typer.Option("--captions/--no-captions", help="With --save, a .vtt file beside it.")
    ] = True,
    play: Play = None,
    conversation: Conversation = None,
    voice_name: Voice = None,
    language: Language = None,
    speed: Speed = None,
    words: Words = False,
    idle: Idle = 120.0,
) -> int:
    """Have a text spoken, into a sound file with captions beside it, or by the sound card.

    `parley say "Good morning." --save morning.wav`
    """
    if file is not None and (text or stdin):
        raise InvalidRequest("either TEXT, --file or --stdin")
    said = read_file(file, "--file") if file is not None else await _content(text, stdin=stdin)
    if not said.strip():
        raise InvalidRequest("there is nothing to be said")
    format_of(save)
    playing = save is None and _plays(cli.screen, play)
    if save is None and not playing and not cli.screen.is_json:
        raise NoSpeaker("nobody would hear it")
    async with cli.settings.client(idle=idle) as parley:
        speech = _speech(save, voice_name, language, speed, words=words)
        began = time.monotonic()
        turn = parley.say(said, conversation=conversation, speech=speech)
        wanted = Wanted(save=save, play=playing, voice=True, captions=captions)
        known = Telling(text=said, complete=True)
        telling = await tell_or_stop(turn, cli.screen, wanted, telling=known)
        if playing:
            cli.screen.note(f"{telling.sound.seconds:.1f} s in {time.monotonic() - began:.1f} s")
    return ended(telling)


def ended(telling: Telling) -> int:
    """Raises what failed of the turn."""
    if telling.failed is not None:
        raise telling.failed
    return Exit.DONE


def _plays(screen: Screen, asked: bool | None) -> bool:
    if asked is None:
        return screen.is_terminal and not screen.is_json and can_play()
    return asked


async def _content(text: list[str] | None, *, stdin: bool) -> str:
    """Raises InvalidRequest, where there is none."""
    given = " ".join(text or [])
    if stdin:
        try:
            async with asyncio.timeout(_READ_SECONDS):
                read = await asyncio.to_thread(sys.stdin.read)
        except UnicodeDecodeError:
            raise InvalidRequest("standard input is no text in UTF-8") from None
        read = read.rstrip("\r\n")
        given = f"{given}\n\n{read}" if given else read
    if not given.strip():
        raise InvalidRequest("TEXT is missing, or --stdin")
    return given


def _speech(
    save: Path | None,
    voice: str | None,
    language: str | None,
    speed: float | None,
    *,
    words: bool,
) -> Speech | None:
    """None for the services' own."""
    kind = format_of(save)
    found = Speech(
        voice=voice,
        language=language,
        speed=speed,
        format=kind,
        alignment=Alignment.WORD if words else None,
    )
    return None if found == Speech() else found
