"""What one provider does for one model, learned from all of its sockets and turns: its profile."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from services.tts.together.attempts import Attempts

MAX_PROFILES = 256  # a request may name any model

# So many commits with exactly one item, each watched until it was quiet, make it a rule.
SINGLE_PROVEN_BY = 3
# So many, and what a turn ends with need not be waited for as long.
SINGLE_SURE_BY = 12
# So many pieces without any `done` show that there really is none.
SILENCE_PROVEN_BY = 2
# A provider that changes its ways is noticed after so many pieces in a row without a `done`, over
# at least so long: a minute of trouble must not teach us to take cut audio for whole.
FORGET_AFTER, FORGET_SECONDS = 8, 120.0


class Position(enum.Enum):
    """The first piece of a context, or a later one: some give one `done` a context."""

    FIRST = enum.auto()
    LATER = enum.auto()

    @classmethod
    def of(cls, piece: int) -> Position:
        """Pieces are counted from 1."""
        return cls.FIRST if piece <= 1 else cls.LATER


@dataclass(slots=True)
class Dones:
    """How often a `done` came in one position, and how long none has."""

    came: int = 0
    missed: int = 0
    missed_since: float = 0.0

    def note(self, came: bool, now: float) -> None:
        if came:
            self.came, self.missed = self.came + 1, 0
            return
        if not self.missed:
            self.missed_since = now
        self.missed += 1
        if self.missed >= FORGET_AFTER and now - self.missed_since >= FORGET_SECONDS:
            self.came = 0


@dataclass(slots=True)
class Profile:
    """Of one model."""

    max_contexts: int = 100  # that a socket holds at once
    named: bool = False  # audio came with its context
    unnamed: bool = False  # audio or a `done` came without
    several: bool = False  # more than one item or `done` for a commit was seen
    words_late: bool = False  # words were seen after the `done` of their item
    first_audio: float = 0.0  # seconds; the longest lately
    slowest_pong: float | None = None  # seconds; None while none has come
    plain: bool = False  # a handshake was refused for its optional parameters, and is sent none
    said_model: bool = False  # that a session is of another model was said
    single: dict[bool, int] = field(default_factory=lambda: {False: 0, True: 0})
    dones: dict[Position, Dones] = field(default_factory=lambda: {p: Dones() for p in Position})
    attempts: Attempts = field(default_factory=Attempts)

    @property
    def tells_apart(self) -> bool:
        """True when a socket is expected to say whose audio it sends."""
        return self.named and not self.unnamed

    @property
    def silence_proven(self) -> bool:
        """True when it is known that silence may be the only end of a piece."""
        return sum(dones.missed for dones in self.dones.values()) >= SILENCE_PROVEN_BY

    def one_item(self, compound: bool) -> bool:
        """True when it is known that such a text gives exactly one item."""
        return not self.several and self._proofs(compound) >= SINGLE_PROVEN_BY

    def surely_one_item(self, compound: bool) -> bool:
        """True when it has been so for so long that nobody expects anything else."""
        return not self.several and self._proofs(compound) >= SINGLE_SURE_BY

    def _proofs(self, compound: bool) -> int:
        return self.single[True] + (0 if compound else self.single[False])

    def expects_done(self, position: Position) -> bool:
        """True where a missing `done` means that audio is missing, too."""
        here = self.dones[position]
        if here.came:
            return True
        # Seen in first pieces only: a later piece may fail once to find out, then we know.
        first = self.dones[Position.FIRST]
        return position is Position.LATER and first.came > 0 and not here.missed

    def note_pong(self, delay: float) -> None:
        self.slowest_pong = max(delay, self.slowest_pong or 0.0)

    def note_first_audio(self, delay: float) -> None:
        self.first_audio = max(delay, 0.9 * self.first_audio)


class Profiles:
    """By model. Of more than MAX_PROFILES, the one asked for longest ago is forgotten."""

    def __init__(self, max_contexts: int) -> None:
        self._max_contexts = max_contexts
        self._profiles: dict[str, Profile] = {}

    def __len__(self) -> int:
        return len(self._profiles)

    def of(self, model: str) -> Profile:
        """The profile of this model; sockets and turns keep theirs, forgotten or not."""
        profile = self._profiles.pop(model, None) or Profile(self._max_contexts)
        self._profiles[model] = profile
        if len(self._profiles) > MAX_PROFILES:
            del self._profiles[next(iter(self._profiles))]
        return profile
