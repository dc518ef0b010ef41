"""When is the audio of one piece complete? No event says so; this weighs the signs. Time is given.

One commit may give one item or several; `done` comes for each item, for each commit, once for a
context, or never. So a piece is complete when all of its items that began are done, and it is
either known that a commit gives one item only, or has been quiet for so long that a further item
would have begun. What the provider does is learned, for each model on its own (`Profile`).

A mistake must be harmless: what comes after a piece was taken for complete is heard with the next
piece or at the end of the turn, in order. It never counts as that next piece's own audio when it
can be told apart, and teaches to wait longer when it cannot.
"""

from __future__ import annotations

import enum
import math
import re
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from services.tts.ports import Unvoiced
from services.tts.together.profile import Position, Profile
from shared.errors import ProviderStalled

if TYPE_CHECKING:
    from services.tts.together.protocol import ItemId

# A second item of a commit begins about as late after the first one's end as the first one did
# after the commit; half as much again for the network.
QUIET_FACTOR = 1.5
QUIET_MAX = 1.0  # seconds
# Without any `done` only silence tells. Wait for several of the longest pauses heard so far.
SILENCE_FACTOR = 4.0
# "done" without audio is what a spent quota looks like; it could also have overtaken its audio.
HOLLOW_MIN = 1.0
# After an error that may mean nothing: is the voice still going on?
DOUBTED = 1.5
# A verdict asked for this much after it was due proves nothing: perhaps all of us stood still and
# the audio waits to be read. Look once more after a moment.
LATE, GRACE = 0.05, 0.1

# Text in which a provider may see more than one sentence, and make more than one item.
_COMPOUND = re.compile(r"[.!?…:;][\"'”’)\]]*\s+\S|[。！？；]\s*\S|\n\s*\S")
_COMPOUND_CHARS = 200  # by default text is cut at 250 characters whatever it says


def is_compound(text: str) -> bool:
    """True where a provider might find several items in one piece."""
    return len(text) > _COMPOUND_CHARS or _COMPOUND.search(text.strip()) is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long is waited for what, in seconds."""

    first_audio: float = 10.0  # after a commit
    audio: float = 5.0  # between two deltas
    quiet_min: float = 0.1  # after the last `done`, however fast the provider is
    quiet_sure: float = 0.05  # where every commit has given one item, and that for long
    # Without any `done`: the least, and the least until it is proven that there is none.
    silence_min: float = 0.6
    silence_min_unproven: float = 1.5


class State(enum.Enum):
    """Of the piece under way, or the last one."""

    SILENT = enum.auto()  # nothing was committed yet
    WAITING = enum.auto()  # committed; no audio of its own yet
    HOLLOW = enum.auto()  # a `done`, but no audio
    SPEAKING = enum.auto()  # an item is open
    PAUSED = enum.auto()  # all items that began are done


class Step(enum.Enum):
    COMMIT = enum.auto()
    AUDIO = enum.auto()  # of an item of this piece
    DONE = enum.auto()  # of all items that began


NEXT = {  # everything that may happen to a piece
    (State.SILENT, Step.COMMIT): State.WAITING,
    (State.SPEAKING, Step.COMMIT): State.WAITING,  # complete by its silence
    (State.PAUSED, Step.COMMIT): State.WAITING,
    (State.WAITING, Step.AUDIO): State.SPEAKING,
    (State.HOLLOW, Step.AUDIO): State.SPEAKING,
    (State.SPEAKING, Step.AUDIO): State.SPEAKING,
    (State.PAUSED, Step.AUDIO): State.SPEAKING,
    (State.WAITING, Step.DONE): State.HOLLOW,
    (State.HOLLOW, Step.DONE): State.HOLLOW,
    (State.SPEAKING, Step.DONE): State.PAUSED,
    (State.PAUSED, Step.DONE): State.PAUSED,
}


@dataclass(slots=True)
class _Item:
    piece: int
    began: float
    last: float
    done: bool = False


@dataclass(slots=True)
class EndOfAudio:
    """Watches the pieces of one context, one after the other."""

    profile: Profile
    patience: Patience
    state: State = State.SILENT
    pieces: int = 0
    _compound: bool = False
    _patient: bool = False
    _has_taught: bool = False  # what this piece could
    _untaught: Counter[bool] = field(
        default_factory=Counter
    )  # pieces taken at once; compound or not
    _words: bool = False
    _committed: float = 0.0
    _last: float = 0.0  # audio or `done`, of whichever piece
    _last_audio: float | None = None  # since the commit
    _first_delay: float = 0.0  # longest in this context
    _gap: float = 0.0  # longest between two deltas in this context
    _items: dict[ItemId | None, _Item] = field(default_factory=dict)
    _hollow: set[ItemId] = field(default_factory=set)  # done, and never heard of otherwise
    _begun: int = 0
    _dones: int = 0
    _owed: int = 0  # `done`s of earlier pieces that may still come and name no item of theirs
    _done_here: bool = False
    _grace: float | None = None
    _doubted: bool = False

    # ------------------------------------------------------------ what happens

    def commit(self, text: str, now: float, *, words: bool = False) -> None:
        """A piece of text was committed; the one before is over, whatever still comes of it."""
        self.state = NEXT[self.state, Step.COMMIT]
        anonymous = self._items.get(None)
        if anonymous and not anonymous.done and anonymous.piece == self.pieces:
            self._owed += self.profile.expects_done(self._position)
        if self.pieces and not self._has_taught:
            self._untaught[self._compound] += 1
        self.pieces += 1
        self._compound, self._words, self._patient = is_compound(text), words, False
        self._has_taught = False
        self._committed = self._last = now
        self._last_audio, self._grace = None, None
        self._done_here = self._doubted = False

    def audio(self, item_id: ItemId | None, now: float) -> None:
        """Audio of an item has come; before the first commit it cannot be ours."""
        if self.state is State.SILENT:
            return
        self._note_pause(now)
        self._last, self._grace = now, None
        item = self._items.get(item_id)
        if item is None or self.begins(item_id):
            item = self._begin(item_id, now)
        item.last = now
        if self.state is State.SPEAKING:
            return  # nearly all of what comes
        # What comes after its item's `done`, or of an earlier piece, only puts the quiet off.
        if item.piece == self.pieces and not item.done:
            self.state = NEXT[self.state, Step.AUDIO]

    def done(self, item_id: ItemId | None, now: float) -> None:
        """The provider calls an item complete."""
        if self.state is State.SILENT:
            return
        item = self._items.get(item_id) if item_id is not None else None
        if item is not None:
            self._done_known(item, now)
        elif item_id is None or item_id not in self._hollow:
            if item_id is not None:
                self._hollow.add(item_id)
            self._done_unknown(item_id, now)

    def words(self, item_id: ItemId | None, now: float) -> None:
        """Words of an item have come."""
        item = self._items.get(item_id)
        if item is not None and item.done:
            self.profile.words_late = True
        if self.state is State.PAUSED:
            self._last = now

    def doubt(self) -> None:
        """The provider speaks of an error; it may go on all the same, or never."""
        self._doubted = True

    def finish(self) -> None:
        """No piece will follow: what is still to come must come before it is quiet."""
        self._patient = True

    # ------------------------------------------------------------ what it means

    @property
    def speaking(self) -> bool:
        """True while audio of a piece is under way or still to come."""
        return self.state is not State.SILENT and self.state is not State.PAUSED

    def begins(self, item_id: ItemId | None) -> bool:
        """True when audio of this name, coming now, is of an item that begins with it."""
        item = self._items.get(item_id)
        if item is None:
            return True
        if item.piece == self.pieces:
            return item_id is None and item.done
        # Some give one item a context: then its name comes again with the next piece. But where a
        # `done` is to be expected, an item of an earlier piece without one is late.
        return (
            item_id is None or item.done or not self.profile.expects_done(Position.of(item.piece))
        )

    def knows(self, item_id: ItemId) -> bool:
        """True when audio of this item was heard."""
        return item_id in self._items

    @property
    def settled_at(self) -> float:
        """When nothing is expected any more, unless something happens before."""
        match self.state:
            case State.SILENT:
                return 0.0
            case State.PAUSED:
                return self._last + self.quiet
            case State.SPEAKING if not self.profile.expects_done(self._position):
                return self._last + self.silence
            case _:
                return math.inf

    def settled(self, now: float) -> bool:
        """True when what still came would be a surprise."""
        return now >= self.settled_at

    @property
    def quiet(self) -> float:
        """So long a silence after the last `done` means that no further item will begin."""
        wanted = QUIET_FACTOR * max(self._first_delay, self._gap)
        quiet = min(max(wanted, self.patience.quiet_min), QUIET_MAX)
        if self.profile.surely_one_item(self._compound) and not self._needs_words:
            return min(quiet, self.patience.quiet_sure)
        return quiet

    @property
    def silence(self) -> float:
        """So long a silence means the end where no `done` ever says it."""
        wanted = max(SILENCE_FACTOR * self._gap, QUIET_FACTOR * self._first_delay)
        proven = self.profile.silence_proven
        least = self.patience.silence_min if proven else self.patience.silence_min_unproven
        return min(max(wanted, least), self.patience.audio)

    @property
    def due(self) -> float:
        """When to look again, unless something happens before."""
        return max(self._due(), self._grace or 0.0)

    def look(self, now: float) -> bool:
        """True when the piece is complete.

        Raises:
            ProviderStalled: no audio, or not the rest of it, came in time.
            Unvoiced: the provider calls the piece done and has sent no audio.
        """
        due = self._due()
        if now < max(due, self._grace or 0.0):
            return False
        if self._grace is None and not self._at_once() and now - due > LATE:
            self._grace = now + GRACE
            return False
        return self._verdict(now)

    # ------------------------------------------------------------ rules

    def _due(self) -> float:
        match self.state:
            case State.SILENT:
                return 0.0
            case State.WAITING:
                # `_last`: while an earlier piece is still being heard, ours has not stalled.
                return self._last + self._first_audio_patience
            case State.HOLLOW:
                known = max(self._first_delay, self.profile.first_audio)
                return self._last + max(HOLLOW_MIN, QUIET_FACTOR * known)
            case State.SPEAKING if self.profile.expects_done(self._position):
                return self._last + self._audio_patience
            case State.SPEAKING:
                return self._last + self.silence
            case State.PAUSED:
                return 0.0 if self._at_once() else self._last + self.quiet

    @property
    def _first_audio_patience(self) -> float:
        if not self._doubted:
            return self.patience.first_audio
        return min(self.patience.first_audio, max(DOUBTED, 2 * self.profile.first_audio))

    @property
    def _audio_patience(self) -> float:
        return min(self.patience.audio, DOUBTED) if self._doubted else self.patience.audio

    def _at_once(self) -> bool:
        """True when no silence is needed to know."""
        if self.state is State.SILENT:
            return True
        return (
            self.state is State.PAUSED
            and not self._patient
            and not self._needs_words
            and self.profile.one_item(self._compound)
        )

    @property
    def _needs_words(self) -> bool:
        """True where words may come after the `done` of their item."""
        return self._words and self.profile.words_late

    def _verdict(self, now: float) -> bool:
        match self.state:
            case State.WAITING:
                raise ProviderStalled(f"no audio within {self._first_audio_patience:g} s")
            case State.HOLLOW:
                raise Unvoiced("the provider calls a piece done without any audio")
            case State.SPEAKING if self.profile.expects_done(self._position):
                self.profile.dones[self._position].note(False, now)
                raise ProviderStalled(f"no audio and no done for {self._audio_patience:g} s")
            case State.SPEAKING:
                self._learn(came=False, now=now)
            case State.PAUSED if not self._at_once():
                self._learn(came=True, now=now)
        return True

    def _learn(self, *, came: bool, now: float) -> None:
        if self._has_taught:
            return
        self._has_taught = True
        if not came:
            self.profile.dones[self._position].note(False, now)
        elif sum(item.piece == self.pieces for item in self._items.values()) == 1:
            self.profile.single[self._compound] += 1
            self._learn_of_earlier()

    def _learn_of_earlier(self) -> None:
        """It is quiet, and nothing came late: the pieces that nobody waited for were right, too."""
        heard = {item.piece for item in self._items.values()}
        if len(heard) == len(self._items) == self._begun == self.pieces:
            for compound, count in self._untaught.items():
                self.profile.single[compound] += count
        self._untaught.clear()

    @property
    def _position(self) -> Position:
        return Position.of(self.pieces)

    def _note_pause(self, now: float) -> None:
        if self._last_audio is not None:
            self._gap = max(self._gap, now - self._last_audio)
        self._last_audio = now

    def _begin(self, item_id: ItemId | None, now: float) -> _Item:
        item = self._items[item_id] = _Item(self.pieces, began=now, last=now)
        self._begun += 1
        if self.state in {State.WAITING, State.HOLLOW}:
            delay = now - self._committed
            self._first_delay = max(self._first_delay, delay)
            self.profile.note_first_audio(delay)
        self._note_several()
        return item

    def _note_several(self) -> None:
        if self._begun > self.pieces or self._dones > self.pieces:
            self.profile.several = True

    def _done_known(self, item: _Item, now: float) -> None:
        if item.done:
            return
        item.done = True
        self._count_done()
        if item.piece != self.pieces:
            return  # late, of an earlier piece: says nothing of this one
        for other in self._items.values():
            # Items are spoken in turn: one that fell silent when this one began is over, though
            # nobody says so where a `done` comes once for a commit.
            if other.piece == self.pieces and other.last <= item.began:
                other.done = True
        self._step_done(now)

    def _done_unknown(self, item_id: ItemId | None, now: float) -> None:
        """A `done` that names no item we have heard: of anonymous audio, late, or hollow."""
        self._count_done()
        if self._owed:
            self._owed -= 1
            return
        anonymous = self._items.get(None)
        for item in self._items.values():
            closed = item_id is None or item is anonymous
            if closed and item.piece == self.pieces:
                item.done = True
        self._step_done(now)

    def _count_done(self) -> None:
        self._dones += 1
        self._note_several()

    def _step_done(self, now: float) -> None:
        mine = [item for item in self._items.values() if item.piece == self.pieces]
        if not all(item.done for item in mine):
            return
        self._last, self._grace = now, None
        self.state = NEXT[self.state, Step.DONE]
        if self.state is State.PAUSED and not self._done_here:
            self._done_here = True
            self.profile.dones[self._position].note(True, now)
