"""Turns from outside, as a client of a deployment, and what a user may rely on for each."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import time
import urllib.error
import urllib.request
import wave
from typing import TYPE_CHECKING

from parley import (
    Chunk,
    Done,
    Event,
    Failed,
    Parley,
    ParleyError,
    Sound,
    Stored,
    Text,
    Turn,
    is_text,
)

from local.voices import spoken_texts
from tests.e2e.whole import letters

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence

# Sound that a test can read, and enough of it that something can be restarted meanwhile.
SCRIPT = json.dumps(
    {
        "chat": {"tokens_per_second": 12},
        "speech": {"sound": "computable", "realtime_factor": 5},
    }
)
TURN_SECONDS = 150.0
ASK_SECONDS = 90.0  # every replica may be on its way


class Broken(Exception):
    """A turn is not what a user may rely on."""


class Client:
    """The trusted client of a deployment."""

    def __init__(self, parley: Parley, link: Callable[[str], urllib.request.Request]) -> None:
        self._parley, self._link = parley, link

    async def ask(self, content: str, conversation_id: str | None = None) -> Turn:
        """Returns once the services have it."""
        return await self._parley.ask(content, conversation=conversation_id)

    async def history(self, conversation_id: str) -> list[str]:
        """What was said, the oldest first."""
        pages = [page async for page in self._parley.history(conversation_id)]
        return [message.content for page in reversed(pages) for message in page.messages]

    async def speaking(self, turn: Turn) -> None:
        """Until both services are in the middle of it. Raises Broken when it takes too long."""
        words, sounds = 0, 0
        with _in_time(turn, TURN_SECONDS):
            async with asyncio.timeout(TURN_SECONDS), contextlib.aclosing(turn.events()) as events:
                async for event in events:
                    words += is_text(event)
                    sounds += isinstance(event, Chunk)
                    if words > 5 and sounds:
                        return

    async def whole(self, turn: Turn, seconds: float = TURN_SECONDS) -> str:
        """Waits for the end and checks everything; returns one line about it."""
        with _in_time(turn, seconds):
            async with asyncio.timeout(seconds):
                events = [event async for event in turn]
        stored = next(event for event in events if isinstance(event, Stored))
        body = await asyncio.to_thread(self._fetch, str(stored.url))
        return check(turn, events, stored, body)

    def _fetch(self, url: str) -> bytes:
        until = time.monotonic() + 30
        while True:
            try:
                with urllib.request.urlopen(self._link(url), timeout=10) as answer:  # noqa: S310  ours
                    return bytes(answer.read())
            except urllib.error.HTTPError as exc:
                raise Broken(f"the link to the voice answers {exc.code}") from None
            except OSError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.5)


@contextlib.contextmanager
def _in_time(turn: Turn, seconds: float) -> Iterator[None]:
    try:
        yield
    except TimeoutError:
        raise Broken(f"{turn}: not there after {seconds:g} s: {turn.position}") from None
    except ParleyError as exc:
        raise Broken(f"{turn}: {exc} ({exc.code})") from exc


def check(turn: object, events: Sequence[Event], stored: Stored, body: bytes) -> str:
    """The words without a gap, a voice that says all of them once, an object that holds it."""

    def must(condition: object, what: str) -> None:
        if not condition:
            raise Broken(f"{turn}: {what}")

    last = max(event.attempt for event in events if is_text(event))
    texts = [event for event in events if is_text(event) and event.attempt == last]
    done = texts[-1]
    must(isinstance(done, Done), f"ended with {done}")
    must(sum(isinstance(e, Done | Failed) for e in events) == 1, "two ends")
    assert isinstance(done, Done)
    must([e.seq for e in texts] == list(range(len(texts))), "a gap or a repeat in the text")
    text = "".join(e.text for e in texts if isinstance(e, Text))
    must(text == done.text, "the text is not what `done` says")
    sound = Sound()
    for event in events:
        sound.add(event)
    said = "".join(spoken_texts(sound.pcm))
    must(letters(said) == letters(text), f"said {said!r}, not {text!r}")
    with wave.open(io.BytesIO(body)) as wav:
        must(wav.readframes(wav.getnframes()) == sound.pcm, "the object is not what was heard")
    must(len(body) == stored.bytes, "the object has another size")
    return (
        f"whole: {len(text)} characters in {len(texts)} events (attempt {last}), "
        f"{stored.pieces} pieces (attempt {stored.attempt}), "
        f"{stored.duration_ms / 1000:.1f} s of voice, {len(body)} bytes stored"
    )


@contextlib.asynccontextmanager
async def client(
    url: str,
    password: str,
    link: Callable[[str], urllib.request.Request] = urllib.request.Request,
) -> AsyncIterator[Client]:
    """Connected as the user `client`; `link` makes of a link the request that reaches it."""
    async with Parley.connect(
        url, user="client", password=password, timeout=ASK_SECONDS, idle=TURN_SECONDS
    ) as parley:
        yield Client(parley, link)
