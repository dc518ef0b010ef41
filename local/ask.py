"""One turn as a user has it: asked, heard, and its stored voice fetched."""

from __future__ import annotations

import asyncio
import hashlib
import io
import time
import uuid
import wave
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import aiohttp
from parley import (
    AudioFailed,
    Chunk,
    Done,
    Failed,
    Parley,
    ParleyError,
    Sound,
    Started,
    Stored,
    Text,
    Unreachable,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from parley import Event

RATE, WIDTH = 24_000, 2

_TURN_SECONDS: Final = 120.0
_FETCH_SECONDS: Final = 30.0


class TurnFailed(Exception):
    """The turn did not come to a good end; its text says how."""


@dataclass(slots=True)
class Heard:
    """What came of a question, as a listener has it; times in seconds after the question."""

    say: Callable[[str], None]
    text: str = ""
    sound: Sound = field(default_factory=Sound)
    pieces: int = 0
    stored: Stored | None = None
    first_word: float | None = None
    first_sound: float | None = None
    text_done: float | None = None

    def add(self, event: Event, since: float) -> None:
        """Raises: TurnFailed."""
        self.sound.add(event)
        match event:
            case Started(attempt=attempt) if attempt > 1:
                self.text = ""
                self.say("\n(again from the start) ")
            case Text(text=text):
                self.first_word = self.first_word or since
                self.text += text
                self.say(text)
            case Chunk():
                self.first_sound = self.first_sound or since
            case Done():
                self.text_done = since
            case Stored(pieces=pieces):
                self.stored, self.pieces = event, pieces
            case Failed(error=error):
                raise TurnFailed(f"The model failed: {error.message} ({error.code.value})")
            case AudioFailed(error=error):
                raise TurnFailed(f"The voice failed: {error.message} ({error.code.value})")
            case _:
                return


async def ask(
    nats_url: str,
    question: str,
    say: Callable[[str], None],
    *,
    seconds: float = _TURN_SECONDS,
) -> Heard:
    """Asks, hands on the words as they come, returns when the voice is stored.

    Raises: TurnFailed, when the turn fails or takes too long.
    """
    heard = Heard(say)
    try:
        async with Parley.connect(nats_url) as parley, asyncio.timeout(seconds):
            asked = time.monotonic()
            turn = parley.ask(question, conversation=f"demo-{uuid.uuid4().hex[:8]}")
            async for event in turn.events():
                heard.add(event, time.monotonic() - asked)
    except TimeoutError:
        missing = "its text" if heard.text_done is None else "the end of its voice"
        raise TurnFailed(
            f"The turn did not end within {seconds:g} s: {missing} is missing."
        ) from None
    except Unreachable as exc:
        raise TurnFailed(f"NATS at {nats_url} cannot be reached: is it running? ({exc})") from exc
    except ParleyError as exc:
        raise TurnFailed(f"The turn failed: {exc} ({exc.code})") from exc
    return heard


async def fetch(url: str | None, sha256: str) -> bytes:
    """The stored object, by the URL of its event.

    Raises: TurnFailed, when there is none or it is not what the event says.
    """
    if not url:
        raise TurnFailed("Nothing was spoken, so nothing is stored.")
    try:
        timeout = aiohttp.ClientTimeout(total=_FETCH_SECONDS)
        async with aiohttp.ClientSession(timeout=timeout) as http, http.get(url) as answer:
            body: bytes = await answer.read()
            if answer.status != 200:
                raise TurnFailed(f"The stored audio cannot be fetched: status {answer.status}.")
    except (aiohttp.ClientError, TimeoutError) as exc:
        raise TurnFailed(f"The stored audio cannot be fetched: {exc!r}") from exc
    if hashlib.sha256(body).hexdigest() != sha256:
        raise TurnFailed("The stored audio is not the one that the event speaks of.")
    return body


def samples(wav: bytes) -> bytes:
    """The PCM of a WAV file.

    Raises: TurnFailed, when it is none, or not of the kind that is promised.
    """
    try:
        with wave.open(io.BytesIO(wav)) as file:
            form = (file.getnchannels(), file.getsampwidth(), file.getframerate())
            pcm = bytes(file.readframes(file.getnframes()))
    except (wave.Error, EOFError) as exc:
        raise TurnFailed(f"The stored audio is no WAV file: {exc}") from exc
    if form != (1, WIDTH, RATE):
        raise TurnFailed(f"The stored audio has the form {form}, not mono, 16 bit, 24 kHz.")
    return pcm
