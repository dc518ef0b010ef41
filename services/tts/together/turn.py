"""One turn of the voice on a shared socket: its pieces, one after the other, in its own context."""

from __future__ import annotations

import asyncio
import enum
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias

from services.tts.audio.pcm import ForeignFormat
from services.tts.ports import SpokenWord
from services.tts.together import protocol as speech
from services.tts.together.assembler import Utterance
from services.tts.together.end_of_audio import Completion, Habits
from services.tts.together.end_of_audio import State as PieceState
from shared.errors import ProviderBroken, ProviderError, ProviderStalled

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from services.tts.ports import VoiceParams

Part: TypeAlias = bytes | SpokenWord

MAX_WAITING = 32 * 1024 * 1024  # bytes that a turn keeps for its consumer: 11 minutes of speech
MAX_MOVES = 3  # of one turn to other sockets, each before anything of its piece was heard


class Overflow(ProviderBroken):
    """More audio waits for its consumer than a turn may keep."""


class SocketLost(ProviderBroken):
    """The socket under a turn is gone."""


class Seat(Protocol):
    """A turn's place on a socket."""

    def introduce(self, turn: TogetherTurn) -> None:
        """Tells the provider how this turn is spoken."""

    def send(self, frame: bytes) -> None:
        """At once or not at all; raises SocketLost."""

    def expect(self, now: float) -> None:
        """Something was asked: from now on silence is suspicious."""

    def remove(self, turn: TogetherTurn, *, spoke: bool, settled: bool) -> None:
        """The turn is over; nothing of it may be heard any more."""

    def doubt(self) -> None:
        """A piece failed here: it had better be tried elsewhere."""


class Places(Protocol):
    """Who gives out places."""

    first_audio_timeout: float
    audio_timeout: float
    max_waiting: int
    counts: Counts

    async def place(self, turn: TogetherTurn) -> None:
        """Waits until the turn is attached to a socket."""

    def wanted(self, turn: TogetherTurn) -> bool:
        """True when others wait for a place such as this turn's."""
        ...

    def rests(self, turn: TogetherTurn) -> None:
        """The turn says nothing just now: others may have its place when it is quiet."""


@dataclass(slots=True)
class Counts:
    """What happened so far; metrics read it."""

    connects: int = 0
    connect_failures: int = 0
    lost: int = 0  # sockets that broke or were closed by the provider
    dead: int = 0  # of these: looked open and did not answer
    retired: int = 0  # closed by us
    turns: int = 0
    moves: int = 0  # of a turn to another socket
    lent: int = 0  # places given up between two pieces, for turns that waited
    pieces: int = 0
    characters: int = 0  # submitted: what is paid for
    stale_bytes: int = 0  # audio of turns that are over
    lost_words: int = 0  # that came too late to be placed
    unattributed: int = 0  # events that named nobody and could be anybody's
    unknown: int = 0  # events that no reference names
    garbled: int = 0
    crashes: int = 0  # tasks that ended by a bug


class State(enum.Enum):
    READY = enum.auto()
    SAYING = enum.auto()
    OVER = enum.auto()


class Step(enum.Enum):
    SAY = enum.auto()
    END = enum.auto()
    LEAVE = enum.auto()


NEXT = {  # everything that may happen to a turn
    (State.READY, Step.SAY): State.SAYING,
    (State.SAYING, Step.END): State.READY,
    (State.READY, Step.LEAVE): State.OVER,
    (State.SAYING, Step.LEAVE): State.OVER,
    (State.OVER, Step.LEAVE): State.OVER,
}


class TogetherTurn:
    """The voice of one turn. Its consumer takes parts; the reader of its socket brings them."""

    def __init__(self, places: Places, params: VoiceParams, habits: Habits) -> None:
        self.params = params
        self.context = ""
        self._places = places
        self._habits = habits
        self._seat: Seat | None = None
        self._state = State.READY
        self._utterance = Utterance()
        self._completion = self._new_completion()
        self._parts: deque[Part] = deque()
        self._kept = 0  # bytes in `_parts`
        self._text = ""
        self._taken = 0  # parts of this piece that the consumer has
        self._moves = 0
        self._error: ProviderError | None = None
        self._doubt: ProviderError | None = None
        self._waiter: asyncio.Future[None] | None = None

    # ------------------------------------------------------------ for the consumer

    async def say(self, text: str) -> AsyncGenerator[Part, None]:
        """Speak one piece; PCM in whole samples as it arrives, ends when its audio is complete.

        Raises:
            ProviderError: the piece may be incomplete; say it again in a new turn of the voice.
        """
        if not text.strip():
            return  # nobody knows what an empty commit does
        self._begin()
        try:
            if self._seat is not None and self._places.wanted(self):
                self._completion.finish()
                while (part := await self._next()) is not None:
                    yield part
                self.lend()
            if self._seat is None:
                await self._places.place(self)
            self._commit(text)
            while (part := await self._next()) is not None:
                yield part
            self._step(Step.END)
            self._places.rests(self)
        except (ProviderBroken, ProviderStalled):
            self._doubt_seat()
            raise
        finally:
            if self._state is not State.READY:
                self.leave()

    async def finish(self) -> AsyncGenerator[Part, None]:
        """After the last piece: what is still to come, until it is quiet.

        Raises:
            ProviderError: something of it is missing.
        """
        self._begin()
        self._completion.finish()
        try:
            while (part := await self._next()) is not None:
                yield part
            self._step(Step.END)
        except (ProviderBroken, ProviderStalled):
            self._doubt_seat()
            raise
        finally:
            if self._state is not State.READY:
                self.leave()

    def leave(self) -> None:
        """Stops the audio at once; what still comes goes nowhere."""
        self._step(Step.LEAVE)
        self.detach()
        self._parts.clear()
        self._kept = 0

    # ------------------------------------------------------------ for the pool and the socket

    @property
    def expecting(self) -> bool:
        """True while audio is to come."""
        return self._state is State.SAYING and self._completion.speaking

    @property
    def refused(self) -> bool:
        """True while it looks for another socket, since this one is full."""
        return isinstance(self._error, speech.TooManyContexts)

    def attach(self, seat: Seat, context: str) -> None:
        """A place on a socket, for the whole turn or until that socket is lost."""
        self.context, self._seat = context, seat
        self._error = None

    def detach(self) -> None:
        """Gives the place back."""
        seat, self._seat = self._seat, None
        if seat is not None:
            spoke = self._completion.state is not PieceState.SILENT
            seat.remove(self, spoke=spoke, settled=self._completion.settled(_now()))

    @property
    def lendable(self) -> bool:
        """True between two pieces, when nothing is to come any more."""
        silent = self._completion.state is PieceState.SILENT
        return self._state is State.READY and not silent and self._completion.settled(_now())

    @property
    def quiet(self) -> float:
        """Seconds without a sound after which it is lendable."""
        return self._completion.quiet

    def lend(self) -> None:
        """Gives the place to those who wait; the next piece waits for another."""
        self._places.counts.lent += 1
        self.detach()
        self._renew()

    def fail(self, error: ProviderError) -> None:
        """The first reason counts."""
        if self._error is None:
            self._error = error
        self._wake()

    def doubt(self, error: ProviderError) -> None:
        """An error that may mean nothing; if the voice stops now, this is the reason."""
        self._doubt = error
        self._completion.doubt()
        self._wake()

    def hear(self, event: speech.Audio, now: float) -> None:
        """Audio of this turn has come."""
        if self._error is not None or self._completion.state is PieceState.SILENT:
            self._places.counts.stale_bytes += len(event.data)
            return
        begins = self._completion.begins(event.item_id)
        try:
            audio = self._utterance.audio(event.item_id, event.data, begins=begins)
        except ForeignFormat as exc:
            self.fail(ProviderBroken(f"not the audio we asked for: {exc}"))
            return
        self._keep(event.item_id, audio, now)

    def item_done(self, event: speech.ItemDone, now: float) -> None:
        self._keep(event.item_id, self._utterance.done(event.item_id), now)
        self._completion.done(event.item_id, now)
        self._wake()

    def words(self, event: speech.Words, now: float) -> None:
        if self._error is not None or not self.params.word_timestamps:
            return
        self._completion.words(event.item_id, now)
        before = self._utterance.lost_words
        self._parts.extend(self._utterance.words(event))
        self._places.counts.lost_words += self._utterance.lost_words - before
        self._wake()

    def knows(self, item_id: speech.ItemId | None) -> bool:
        """True when this item's audio was heard in this turn."""
        return item_id is not None and self._completion.knows(item_id)

    # ------------------------------------------------------------ its own

    def _begin(self) -> None:
        if self._state is State.OVER:
            raise self._error or ProviderBroken("this turn of the voice is over")
        self._step(Step.SAY)

    def _step(self, step: Step) -> None:
        self._state = NEXT[self._state, step]

    def _new_completion(self) -> Completion:
        return Completion(
            self._habits, self._places.first_audio_timeout, self._places.audio_timeout
        )

    def _commit(self, text: str) -> None:
        """Sends one piece; a socket that is gone shows in what is heard of it."""
        self._text, self._taken, self._doubt = text, 0, None
        self._utterance.next_piece()
        first = self._completion.state is PieceState.SILENT
        now = _now()
        self._completion.commit(text, now, words=self.params.word_timestamps)
        if self._seat is None or self._error is not None:
            return
        try:
            if first:
                self._seat.introduce(self)
            self._seat.send(speech.append(self.context, text))
            self._seat.send(speech.commit(self.context))
        except SocketLost as exc:
            self.fail(exc)
            return
        self._seat.expect(now)
        self._places.counts.pieces += 1
        self._places.counts.characters += len(text)

    async def _next(self) -> Part | None:
        """The next part; None when the piece is complete."""
        while True:
            if self._parts:
                return self._take()
            if self._error is not None:
                if self._spoken_without_it():
                    return None
                await self._move()
            elif self._complete():
                return None
            else:
                await self._wait(self._completion.due)

    def _complete(self) -> bool:
        try:
            return self._completion.look(_now())
        except ProviderStalled as exc:
            if self._doubt is None:
                raise
            raise self._doubt from exc

    def _take(self) -> Part:
        part = self._parts.popleft()
        self._taken += 1
        if isinstance(part, bytes):
            self._kept -= len(part)
        return part

    def _keep(self, item_id: speech.ItemId | None, audio: bytes, now: float) -> None:
        if not audio:
            return  # a header, or half a sample: no item has begun to be heard
        self._completion.audio(item_id, now)
        self._parts.append(audio)
        self._kept += len(audio)
        if self._kept > self._places.max_waiting:
            self._parts.clear()
            self._kept = 0
            self.fail(Overflow(f"more than {self._places.max_waiting} bytes of audio not taken"))
            self.detach()
        self._wake()

    def _spoken_without_it(self) -> bool:
        """True when the socket was lost, but all that was to come had come."""
        complete = self._completion.state in {PieceState.SILENT, PieceState.PAUSED}
        surprises = self._habits.several and not self._completion.settled(_now())
        return isinstance(self._error, SocketLost) and complete and not surprises

    async def _move(self) -> None:
        """To another socket, as if nothing had happened: nothing of this piece was heard yet.

        Raises:
            ProviderError: something was heard, or the reason would be the same elsewhere.
        """
        error = self._error
        assert error is not None
        unheard = self._taken == 0 and self._utterance.heard == 0
        movable = isinstance(error, SocketLost | speech.TooManyContexts)
        if not (movable and unheard and self._moves < MAX_MOVES):
            raise error
        self._moves += 1
        self._places.counts.moves += 1
        self.detach()
        self._renew()
        await self._places.place(self)
        self._commit(self._text)

    def _renew(self) -> None:
        """A new context knows nothing of the one before."""
        self._completion, self._utterance = self._new_completion(), Utterance()

    def _doubt_seat(self) -> None:
        if self._seat is not None:
            self._seat.doubt()

    async def _wait(self, until: float) -> None:
        loop = asyncio.get_running_loop()
        self._waiter = loop.create_future()
        timer = loop.call_at(until, self._wake)
        try:
            await self._waiter
        finally:
            timer.cancel()
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


def _now() -> float:
    return asyncio.get_running_loop().time()
