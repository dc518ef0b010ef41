"""One turn as a client has it: asked, heard, and its stored voice fetched.

Uses nats-py and literal subjects only: it is also the example of a client.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import time
import uuid
import wave
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import aiohttp
import nats
import nats.errors

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from nats.aio.client import Client
    from nats.aio.msg import Msg

RATE, WIDTH = 24_000, 2

_TURN_SECONDS = 120.0
_CONNECT_SECONDS = 5.0
_FETCH_SECONDS = 30.0


class TurnFailed(Exception):
    """The turn did not come to a good end; its text says how."""


@dataclass(slots=True)
class Heard:
    """What came of a question, as a listener has it."""

    text: str = ""
    attempt: int = 0
    pieces: dict[int, bytearray] = field(default_factory=dict)
    finished: set[int] = field(default_factory=set)
    stored: dict[str, Any] | None = None
    first_word: float | None = None  # seconds after the question
    first_sound: float | None = None
    text_done: float | None = None

    @property
    def pcm(self) -> bytes:
        """The samples of the finished pieces, in order: those of the stored object."""
        return b"".join(bytes(self.pieces[index]) for index in sorted(self.finished))


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
    conversation = f"demo-{uuid.uuid4().hex[:8]}"
    client = await _connected(nats_url)
    heard = Heard()
    incoming: asyncio.Queue[Msg] = asyncio.Queue()
    try:
        # Listen first, and be sure that the server knows, before anything is asked. Twice,
        # because the first flush may overtake a subscription that is still being sent.
        await client.subscribe(f"chat.delta.{conversation}", cb=incoming.put)
        await client.subscribe(f"tts.audio.{conversation}", cb=incoming.put)
        await client.flush()
        await client.flush()

        request = {"conversation_id": conversation, "content": question}
        asked = time.monotonic()
        await client.jetstream().publish("chat.request", json.dumps(request).encode())

        async with asyncio.timeout(seconds):
            while heard.stored is None:
                message = await incoming.get()
                since = time.monotonic() - asked
                if message.subject.startswith("chat.delta."):
                    _on_words(heard, json.loads(message.data), since, say)
                else:
                    _on_voice(heard, message.headers or {}, message.data, since)
    except TimeoutError:
        missing = "its text" if heard.text_done is None else "the end of its voice"
        raise TurnFailed(
            f"The turn did not end within {seconds:g} s: {missing} is missing."
        ) from None
    except (OSError, nats.errors.Error) as exc:
        raise TurnFailed(f"NATS at {nats_url}: {exc or type(exc).__name__}") from exc
    finally:
        await client.close()
    return heard


async def _connected(url: str) -> Client:
    try:
        # The deadline is ours: nats-py tries for two minutes to reach a server that is not there.
        async with asyncio.timeout(_CONNECT_SECONDS):
            return await nats.connect(url, error_cb=_quiet)
    except (TimeoutError, OSError, nats.errors.Error) as exc:
        raise TurnFailed(f"NATS at {url} cannot be reached: is it running?") from exc


async def _quiet(_error: Exception) -> None:
    """What goes wrong with the connection is seen by the call that it fails."""


def _on_words(
    heard: Heard, event: Mapping[str, Any], since: float, say: Callable[[str], None]
) -> None:
    """An event of `chat.delta.<conversation>`."""
    match event["type"]:
        case "started" if event["attempt"] > 1:
            heard.text = ""
            say("\n(again from the start) ")
        case "text":
            heard.first_word = heard.first_word or since
            heard.text += event["text"]
            say(event["text"])
        case "done":
            heard.text_done = since
            if event["text"] != heard.text:
                raise TurnFailed("The text of `done` is not what was streamed: words were lost.")
        case "failed":
            raise TurnFailed(f"The model failed: {_reason(event)}")


def _on_voice(heard: Heard, headers: Mapping[str, str], body: bytes, since: float) -> None:
    """A message of `tts.audio.<conversation>`: PCM with its facts in headers, or JSON."""
    kind = headers.get("Parley-Type", "")
    if kind == "chunk":
        if int(headers["Parley-Attempt"]) == heard.attempt:
            heard.first_sound = heard.first_sound or since
            heard.pieces.setdefault(int(headers["Parley-Piece"]), bytearray()).extend(body)
        return
    event = json.loads(body)
    if event["attempt"] < heard.attempt:
        return  # a leftover of a worker that was replaced
    if kind == "started":
        heard.attempt = event["attempt"]
        # What was not finished is spoken again.
        heard.pieces = {i: pcm for i, pcm in heard.pieces.items() if i in heard.finished}
    elif kind == "piece_done":
        heard.pieces.setdefault(event["index"], bytearray())
        heard.finished.add(event["index"])
    elif kind == "stored":
        heard.stored = event
    elif kind == "failed":
        raise TurnFailed(f"The voice failed: {_reason(event)}")


def _reason(event: Mapping[str, Any]) -> str:
    error = event.get("error") or {}
    return f"{error.get('message')} ({error.get('code')})"


async def fetch(stored: Mapping[str, Any]) -> bytes:
    """The stored object, by the URL of its event.

    Raises: TurnFailed, when there is none or it is not what the event says.
    """
    url = stored.get("url")
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
    if hashlib.sha256(body).hexdigest() != stored.get("sha256"):
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
