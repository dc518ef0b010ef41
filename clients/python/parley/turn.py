"""One turn of a conversation: what was asked, and what comes of it."""

from __future__ import annotations

import asyncio
import hashlib
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Final

from parley.contract import (
    CONTENT_TYPES,
    Asked,
    AudioFailed,
    AudioFormat,
    Done,
    Failed,
    Finish,
    Link,
    Stored,
)
from parley.errors import Internal, InvalidRequest, NotFound, from_error
from parley.sound import Heard, Sound, wav
from parley.speaker import SoundCard

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator
    from os import PathLike

    from parley.client import Parley
    from parley.events import Event
    from parley.follow import Follower, Position
    from parley.speaker import Speaker

FETCH_SECONDS: Final = 60.0


class Turn:
    """Give it to `async for`, any number of times: each time it is told from its beginning.

    An iteration that ends without an exception is a turn, text and voice, that came to a good end.
    """

    def __init__(
        self,
        parley: Parley,
        conversation_id: str,
        turn_id: str,
        *,
        asking: asyncio.Task[tuple[Asked, Follower]] | None = None,
        after: Position | None = None,
        text: str | None = None,
        only_voice: bool = False,
    ) -> None:
        self._parley = parley
        self.conversation_id, self.turn_id = conversation_id, turn_id
        self._asking, self._after = asking, after
        self._text, self._only_voice = text, only_voice
        self._first: Follower | None = None
        self._begun = False
        self._reader: Follower | None = None
        self._speaker: Speaker | None = None
        self._stored: Stored | None = None

    def __repr__(self) -> str:
        return f"Turn({self.conversation_id!r}, {self.turn_id!r})"

    def __await__(self) -> Generator[object, None, Turn]:
        """Returns once the services have the request. Raises what `accepted` raises."""
        return self._accepted().__await__()

    async def _accepted(self) -> Turn:
        await self.accepted()
        return self

    async def accepted(self) -> Asked | None:
        """What the services say to the request: `state` is `queued`, or of a turn id that is known
        already `running` or `ended`. None where nothing was asked.

        Raises:
            Busy: with `on_busy="reject"`, or where too many wait.
            InvalidRequest, TooLarge, Unauthorized, Unreachable, StorageUnavailable.

        >>> turn = parley.ask("Hello!")
        >>> (await turn.accepted()).state.value
        'queued'
        """
        if self._asking is None:
            return None
        asked, _ = await asyncio.shield(self._asking)
        return asked

    @property
    def position(self) -> Position | None:
        """How far the newest iteration has come, for `follow(…, after=…)`; None before the first.

        >>> turn = parley.ask("Hello!", speech=False)
        >>> async for event in turn:
        ...     pass
        >>> turn.position.text_attempt
        1
        """
        return None if self._reader is None else self._reader.position

    # ------------------------------------------------------------ its events

    async def __aiter__(self) -> AsyncGenerator[Event, None]:
        """All events, then what failed of the turn, as an exception."""
        failed: Failed | AudioFailed | None = None
        async for event in self.events():
            if isinstance(event, Failed | AudioFailed):
                failed = failed or event
            yield event
        if failed is not None:
            raise from_error(failed.error)

    async def events(self) -> AsyncGenerator[Event, None]:
        """The events of text and voice, each once and in order, from the beginning to the end.

        A failure of the turn is an event like any other here. `Started` or `AudioStarted` with a
        higher `attempt` than before says: forget the text so far; of the voice, forget the pieces
        that have no `PieceDone`.

        Raises:
            DeadlineExceeded: nothing came for so long as `connect(idle=…)` says.
            NotFound: the services keep the turn, or a part of it, no longer.
            Unreachable, Unauthorized, and what `accepted` raises.

        >>> turn = parley.ask("Hello!", speech=False)
        >>> [type(event).__name__ async for event in turn.events()][-1]
        'Done'
        """
        reader = await self._open()
        self._reader = reader
        async for event in reader.events(self._parley.idle):
            self._note(event)
            yield event

    async def _open(self) -> Follower:
        if self._asking is None:
            channel = await self._parley.channels.of(self.conversation_id)
            return self._parley.follower(
                channel, self.turn_id, after=self._after, only_voice=self._only_voice
            )
        _, first = await asyncio.shield(self._asking)
        if not self._begun:
            self._begun = True
            return first
        channel = await self._parley.channels.of(self.conversation_id)
        return self._parley.follower(
            channel, self.turn_id, only_voice=self._only_voice, starts=first.starts
        )

    def _note(self, event: Event) -> None:
        match event:
            case Done(text=text):
                self._text = text
            case Stored():
                self._stored = event
            case _:
                return

    # ------------------------------------------------------------ the text

    async def text(self) -> str:
        """All of the answer, as soon as it is complete; the voice is not waited for.

        Raises: as an iteration does, but for a failure of the voice.

        >>> await parley.ask("Hello!").text()
        'You said: Hello!'
        """
        if self._text is None:
            async for event in self.events():
                if isinstance(event, Failed):
                    raise from_error(event.error)
                if isinstance(event, Done):
                    break
        assert self._text is not None
        return self._text

    # ------------------------------------------------------------ the voice

    async def voice(self) -> bytes:
        """The samples of the whole voice, those of the stored object: 16 bit little-endian, mono,
        24,000 a second.

        Raises: as an iteration does.

        >>> pcm = await parley.say("Hello!").voice()
        >>> len(pcm) / 48_000  # seconds
        0.3
        """
        sound = Sound()
        async for event in self:
            sound.add(event)
        return sound.pcm

    async def save(self, path: str | PathLike[str]) -> Path:
        """Writes the voice to a file, once it is complete, and returns its path.

        `.wav` and `.pcm` are made of what is heard. Any other suffix (`.mp3`, `.flac`, `.opus`,
        `.ogg`, `.aac`) takes the stored object, which has the format that the request's
        `speech.format` asked for.

        Raises:
            InvalidRequest: the stored object has another format than the suffix says.
            NotFound: nothing was spoken.
            OSError: the file cannot be written.
            ParleyError: as an iteration does.

        >>> (await parley.ask("Hello!").save("hello.wav")).stat().st_size > 44
        True
        """
        target = Path(path)
        suffix = target.suffix.lower()
        if suffix in {".wav", ".pcm"}:
            pcm = await self.voice()
            body = wav(pcm) if suffix == ".wav" else pcm
        else:
            body = await self._object(suffix)
        await asyncio.to_thread(target.write_bytes, body)
        return target

    async def _object(self, suffix: str) -> bytes:
        wanted = _CONTENT_TYPES.get(suffix)
        if wanted is None:
            raise InvalidRequest(f"`{suffix}` is none of {', '.join(_CONTENT_TYPES)}")
        if self._stored is None:
            async for _ in self:
                pass
        stored = self._stored
        if stored is None or stored.key is None:
            raise NotFound("nothing was spoken")
        if stored.content_type != wanted:
            raise InvalidRequest(
                f"the voice is {stored.content_type}, not {wanted}: `speech.format`"
            )
        body = await asyncio.to_thread(_fetched, (await self.link()).url)
        if hashlib.sha256(body).hexdigest() != stored.sha256:
            raise Internal("the stored voice is not the one that its event speaks of")
        return body

    async def play(self, speaker: Speaker | None = None) -> int:
        """Plays the voice as it comes, on the sound card (extra `play`) unless `speaker` takes it;
        returns when it was heard, and how much of it, in milliseconds.

        Nothing is heard twice. Whoever stops it, by `cancel` or by cancelling the task, stops the
        sound at once.

        Raises:
            NoSpeaker: this machine cannot play.
            ParleyError: as an iteration does.
        """
        device = SoundCard() if speaker is None else speaker
        self._speaker, heard = device, Heard()
        try:
            async for event in self:
                pcm = heard.add(event)
                if pcm:
                    await device.write(pcm)
                if isinstance(event, Stored) and event.finish is Finish.CANCELLED:
                    device.stop()
            await device.drain()
        except BaseException:
            device.stop()
            raise
        return device.heard_ms

    @property
    def heard_ms(self) -> int | None:
        """How much of the voice `play` has played, in milliseconds; None where it did not."""
        return None if self._speaker is None else self._speaker.heard_ms

    # ------------------------------------------------------------ what else can be done

    async def cancel(self, heard_ms: int | None = None) -> None:
        """Stops the turn, its text and its voice; of one that has ended nothing is stopped.

        `heard_ms`: how much of the voice the listener heard, in milliseconds; the history then
        keeps what was heard. Without it, what `play` has played; where nothing was played, the
        history keeps all that was said.

        Raises:
            Unauthorized, Unreachable.

        >>> turn = parley.ask("Tell me everything about the sea.")
        >>> await turn.cancel(heard_ms=0)
        """
        if self._speaker is not None:
            self._speaker.stop()
        if self._asking is not None:
            await asyncio.shield(self._asking)
        heard = self.heard_ms if heard_ms is None else heard_ms
        await self._parley.cancel(self.conversation_id, self.turn_id, heard_ms=heard)

    async def link(self) -> Link:
        """Where the stored voice can be had just now: `url`, `captions_url`, `expires_at`.

        Raises:
            NotFound: it is not stored, not yet, or nothing was spoken.
            Unauthorized, Unreachable, StorageUnavailable.

        >>> turn = parley.say("Hello!")
        >>> async for event in turn:
        ...     pass
        >>> (await turn.link()).content_type
        'audio/wav'
        """
        return await self._parley.link(self.conversation_id, self.turn_id)


_CONTENT_TYPES: Final = {f".{kind.value}": CONTENT_TYPES[kind] for kind in AudioFormat} | {
    ".ogg": CONTENT_TYPES[AudioFormat.OPUS]
}


def _fetched(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=FETCH_SECONDS) as answer:  # noqa: S310  our own link
        return bytes(answer.read())
