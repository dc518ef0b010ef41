"""One turn of the voice on a shared socket: its pieces, one after the other, in its own context.

No I/O: the socket brings what is heard, the consumer takes it part by part, and the time is given.
"""

from __future__ import annotations

import enum
import math
from collections import deque
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias

from services.tts.audio.pcm import ForeignFormat
from services.tts.ports import ConnectionLost, SpokenWord
from services.tts.together.assembler import Assembler
from services.tts.together.counts import Happened
from services.tts.together.end_of_audio import EndOfAudio
from services.tts.together.end_of_audio import State as PieceState
from services.tts.together.faults import TooManyContexts
from shared.errors import ProviderBroken, ProviderError, ProviderStalled

if TYPE_CHECKING:
    from collections.abc import Callable

    from services.tts.ports import Offer, VoiceParams
    from services.tts.together.counts import Count
    from services.tts.together.end_of_audio import Patience
    from services.tts.together.profile import Profile
    from services.tts.together.protocol import Audio, ItemDone, ItemId, Words

Part: TypeAlias = bytes | SpokenWord

MAX_WAITING: Final = 32 * 1024 * 1024  # bytes kept for a consumer: 11 minutes of speech
MAX_MOVES: Final = 3  # of one turn to other sockets, each before anything of its piece was heard


class Overflow(ProviderBroken):
    """More audio waits for its consumer than a turn may keep."""


class SocketLost(ConnectionLost):
    """The socket under a turn is gone."""


class Slot(Protocol):
    """A turn's slot on a socket: the socket, as the turn sees it."""

    def submit(self, turn: Turn, text: str, now: float, *, first: bool) -> None:
        """Asks for one piece, the first of its context or a later one; raises SocketLost."""

    def remove(self, turn: Turn, now: float, *, spoke: bool, settled: bool) -> None:
        """The turn is over; nothing of it may be heard any more."""

    def doubt(self) -> None:
        """A piece failed here: it had better be tried elsewhere."""


class Next(enum.Enum):
    """What the consumer does when there is no part to take."""

    WAIT = enum.auto()  # until `due`, or until it is woken
    MOVE = enum.auto()  # to another slot; nothing of the piece was heard yet
    COMPLETE = enum.auto()


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


class Turn:
    """`wake` is called when there may be something for the consumer."""

    def __init__(
        self,
        params: VoiceParams,
        profile: Profile,
        patience: Patience,
        *,
        wake: Callable[[], None],
        count: Count,
        max_waiting: int = MAX_WAITING,
    ) -> None:
        self.params = params
        self.wake = wake
        self.context = ""
        self.state = State.READY
        self._profile = profile
        self._patience = patience
        self._count = count
        self._max_waiting = max_waiting
        self._slot: Slot | None = None
        self._renew()
        self._parts: deque[Part] = deque()
        self._kept = 0  # bytes in `_parts`
        self._offer: Offer | None = None
        self._offer_failed: Exception | None = None
        self._text = ""
        self._taken = 0  # parts of this piece that the consumer has
        self._moves = 0
        self._error: ProviderError | None = None
        self._doubt: ProviderError | None = None

    # ------------------------------------------------------------ for the consumer

    def begin(self, offer: Offer | None = None) -> None:
        """A piece, or the end of the turn, is to be heard; audio is offered until it was.

        Raises:
            ProviderError: the turn is over.
        """
        if self.state is State.OVER:
            raise self._error or ProviderBroken("this turn of the voice is over")
        self._step(Step.SAY)
        self._offer = offer

    def commit(self, text: str, now: float) -> None:
        """Asks for one piece; a socket that is gone shows in what is heard of it."""
        self._text, self._taken, self._doubt = text, 0, None
        self._assembler.next_piece()
        first = self._end_of_audio.state is PieceState.SILENT
        self._end_of_audio.commit(text, now, words=self.params.word_timestamps)
        if self._slot is None or self._error is not None:
            return
        try:
            self._slot.submit(self, text, now, first=first)
        except SocketLost as exc:
            self.fail(exc)

    def finish(self) -> None:
        """No piece follows in this context: the next COMPLETE is that of all that was to come."""
        self._end_of_audio.finish()

    def take(self) -> Part | None:
        """The next part, when there is one: all the audio that waits, or a word."""
        if not self._parts:
            return None
        part = self._parts.popleft()
        self._taken += 1
        if not isinstance(part, bytes):
            return part
        audio = [part]
        while self._parts and isinstance(self._parts[0], bytes):
            audio.append(self._parts.popleft())  # type: ignore[arg-type]  # it is bytes
        whole = b"".join(audio)
        self._kept -= len(whole)
        return whole

    def next(self, now: float) -> Next:
        """What to do when there is no part.

        Raises:
            ProviderError: the piece fails.
            Exception: what offering audio has raised.
        """
        if self._offer_failed is not None:
            raise self._offer_failed
        if self._error is None:
            return Next.COMPLETE if self._complete(now) else Next.WAIT
        if self._complete_without_socket(now):
            return Next.COMPLETE
        unheard = self._taken == 0 and self._assembler.heard == 0
        movable = isinstance(self._error, SocketLost | TooManyContexts)
        if movable and unheard and self._moves < MAX_MOVES:
            return Next.MOVE
        raise self._error

    @property
    def due(self) -> float:
        """When to ask again, unless it is woken before."""
        return self._end_of_audio.due

    def end(self) -> None:
        """The piece was heard to its end."""
        self._offer = None
        self._step(Step.END)

    def leave(self, now: float) -> None:
        """Stops the audio at once; what still comes goes nowhere."""
        self._offer = None
        self._step(Step.LEAVE)
        self.detach(now)
        self._parts.clear()
        self._kept = 0

    def move(self, now: float) -> None:
        """Leaves a socket that is lost or full; `commit_again` when there is another slot."""
        self._moves += 1
        self._count(Happened.MOVED)
        self.detach(now)
        self._renew()

    def commit_again(self, now: float) -> None:
        self.commit(self._text, now)

    def doubt_slot(self) -> None:
        """The piece failed: it had better be tried on another socket."""
        if self._slot is not None:
            self._slot.doubt()

    # ------------------------------------------------------------ its slot

    @property
    def has_slot(self) -> bool:
        return self._slot is not None

    def attach(self, slot: Slot, context: str) -> None:
        """A slot, for the whole turn, until its socket is lost, or until it is released."""
        self.context, self._slot = context, slot
        self._error = None
        self.wake()

    def detach(self, now: float) -> None:
        """Gives the slot back."""
        slot, self._slot = self._slot, None
        if slot is not None:
            spoke = self._end_of_audio.state is not PieceState.SILENT
            slot.remove(self, now, spoke=spoke, settled=self._end_of_audio.settled(now))

    @property
    def releasable_at(self) -> float:
        """When others may have its slot: between two pieces, when nothing is to come any more."""
        silent = self._end_of_audio.state is PieceState.SILENT
        if self.state is not State.READY or silent:
            return math.inf
        return self._end_of_audio.settled_at

    def release(self, now: float) -> None:
        """Gives the slot to those who wait; the next piece waits for another."""
        self._count(Happened.RELEASED)
        self.detach(now)
        self._renew()

    # ------------------------------------------------------------ for the socket

    @property
    def expecting(self) -> bool:
        """True while audio is to come."""
        return self.state is State.SAYING and self._end_of_audio.speaking

    @property
    def refused(self) -> bool:
        """True while it looks for another socket, since this one is full."""
        return isinstance(self._error, TooManyContexts)

    def knows(self, item_id: ItemId | None) -> bool:
        """True when this item's audio was heard in this turn."""
        return item_id is not None and self._end_of_audio.knows(item_id)

    def fail(self, error: ProviderError) -> None:
        """The first reason counts."""
        if self._error is None:
            self._error = error
        self.wake()

    def doubt(self, error: ProviderError) -> None:
        """An error that may mean nothing; if the voice stops now, this is the reason."""
        self._doubt = error
        self._end_of_audio.doubt()
        self.wake()

    def hear(self, event: Audio, now: float) -> None:
        """Audio of this turn has come."""
        if self._error is not None or self._end_of_audio.state is PieceState.SILENT:
            self._count(Happened.STALE_AUDIO)
            return
        begins = self._end_of_audio.begins(event.item_id)
        try:
            audio = self._assembler.audio(event.item_id, event.data, begins=begins)
        except ForeignFormat as exc:
            self.fail(ProviderBroken(f"not the audio we asked for: {exc}"))
            return
        self._keep(event.item_id, audio, now)

    def item_done(self, event: ItemDone, now: float) -> None:
        self._keep(event.item_id, self._assembler.done(event.item_id), now)
        self._end_of_audio.done(event.item_id, now)
        self.wake()

    def words(self, event: Words, now: float) -> None:
        if self._error is not None or not self.params.word_timestamps:
            return
        self._end_of_audio.words(event.item_id, now)
        words = self._assembler.words(event)
        if words is None:
            self._count(Happened.WORDS_LOST)
            return
        self._parts.extend(words)
        self.wake()

    # ------------------------------------------------------------ its own

    def _step(self, step: Step) -> None:
        self.state = NEXT[self.state, step]

    def _renew(self) -> None:
        """A new context knows nothing of the one before."""
        self._end_of_audio = EndOfAudio(self._profile, self._patience)
        self._assembler = Assembler()

    def _complete(self, now: float) -> bool:
        try:
            return self._end_of_audio.look(now)
        except ProviderStalled as exc:
            if self._doubt is None:
                raise
            raise self._doubt from exc

    def _complete_without_socket(self, now: float) -> bool:
        """True when the socket was lost, but all that was to come had come."""
        complete = self._end_of_audio.state in {PieceState.SILENT, PieceState.PAUSED}
        surprises = self._profile.several and not self._end_of_audio.settled(now)
        return isinstance(self._error, SocketLost) and complete and not surprises

    def _keep(self, item_id: ItemId | None, audio: bytes, now: float) -> None:
        if not audio:
            return  # a header, or half a sample: no item has begun to be heard
        before = self._end_of_audio.state
        self._end_of_audio.audio(item_id, now)
        if not self._parts and self._is_taken(audio):
            self._taken += 1
            if self._end_of_audio.state is not before:
                self.wake()  # it waits for something else now
            return
        self._parts.append(audio)
        self._kept += len(audio)
        if self._kept > self._max_waiting:
            self._parts.clear()
            self._kept = 0
            self.fail(Overflow(f"more than {self._max_waiting} bytes of audio not taken"))
            self.detach(now)
        self.wake()

    def _is_taken(self, audio: bytes) -> bool:
        """Whether the consumer has taken it where it came, without being woken."""
        if self._offer is None:
            return False
        try:
            return self._offer(audio)
        except Exception as exc:  # noqa: BLE001  the consumer's own, and no fault of the socket
            self._offer, self._offer_failed = None, exc
            self.wake()
            return True
