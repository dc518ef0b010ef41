"""What goes wrong at the emulated provider, and which of it hits when.

A fault hits when its text matches, its `skip` is used up, its dice fall, and `times` is not yet
reached. Of several faults of one kind that match, the first in the list that can hit does.
"""

from __future__ import annotations

import enum
import random
from dataclasses import asdict, dataclass
from typing import Any


class FaultKind(enum.StrEnum):
    """What can go wrong. The first word tells which text `match` is looked for in.

    `chat.*`: the last user message. `socket.*`: the query string of the handshake.
    `speech.*`: the text that is spoken; for `refuse_context` the first text of the context.
    """

    CHAT_STATUS = "chat.status"  # refused with `status`, `code`, `message`, `retry_after`
    CHAT_SILENT = "chat.silent"  # accepted, and never answered, not even with a header
    CHAT_STALL = "chat.stall"  # after `after` tokens nothing more comes, for ever
    CHAT_CUT = "chat.cut"  # after `after` tokens the TCP connection is reset
    CHAT_UNFINISHED = "chat.unfinished"  # after `after` tokens it ends politely, without a finish
    CHAT_GARBAGE = "chat.garbage"  # after `after` tokens one line of SSE is no JSON
    CHAT_ERROR = "chat.error"  # after `after` tokens `data: {"error": …}`, and the end
    CHAT_EMPTY = "chat.empty"  # a completion without a word
    CHAT_SLOW = "chat.slow"  # `seconds` between tokens

    SOCKET_REFUSE = "socket.refuse"  # the handshake is answered with `status`
    SOCKET_HANG = "socket.hang"  # the handshake is never answered
    SOCKET_NO_SESSION = "socket.no_session"  # `session.created` never comes
    SOCKET_FAILED = "socket.failed"  # 101, then tts.failed with `code`, then closed

    SPEECH_REFUSE_CONTEXT = "speech.refuse_context"  # an error event, and no context
    SPEECH_ABORT = "speech.abort"  # the TCP connection is reset after `after` deltas
    SPEECH_CLOSE = "speech.close"  # closed with `close_code` after `after` deltas
    SPEECH_DEAD = "speech.dead"  # after `after` deltas it reads, sends and pongs no more
    SPEECH_STALL = "speech.stall"  # after `after` deltas this context says nothing more
    SPEECH_NO_AUDIO = "speech.no_audio"  # done, with zero audio
    SPEECH_NO_DONE = "speech.no_done"  # an item without a done
    SPEECH_TWO_DONES = "speech.two_dones"  # each done twice
    SPEECH_LATE_AUDIO = "speech.late_audio"  # `count` deltas after context.cancelled
    SPEECH_FAILED = "speech.failed"  # after `after` deltas tts.failed with `code`; no done
    SPEECH_ERROR = "speech.error"  # after `after` deltas an `error` event; the voice goes on
    SPEECH_BIG_FRAME = "speech.big_frame"  # delta `after` comes in a frame of `bytes` bytes
    SPEECH_UNKNOWN = "speech.unknown"  # an event of an unknown type before each delta
    SPEECH_GARBAGE = "speech.garbage"  # after `after` deltas a text frame that is no JSON
    SPEECH_SLOW = "speech.slow"  # `seconds` before each delta


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One thing that goes wrong, and when."""

    kind: FaultKind
    match: str = ""  # hits only where the text contains this
    times: int | None = None  # how often it hits; null: always
    skip: int = 0  # how many that match pass unharmed first
    probability: float = 1.0  # from the script's seeded dice
    after: int = 0  # tokens or audio deltas that come first
    status: int = 503
    code: str = ""  # empty: the usual one for the status
    message: str = ""
    retry_after: float | None = None  # seconds, in Retry-After
    ratelimit_reset: float | None = None  # seconds, in x-ratelimit-reset
    seconds: float = 0.0
    count: int = 2
    bytes: int = 4 * 1024 * 1024
    close: bool = False  # of speech.failed: the socket is closed after it
    close_code: int = 1011


@dataclass(slots=True)
class _Armed:
    """A fault and how often it was met and hit."""

    id: int
    fault: Fault
    met: int = 0
    hits: int = 0


class Faults:
    """The faults of a running emulator: decides which hit, and counts them."""

    def __init__(self, faults: tuple[Fault, ...] = (), seed: int = 0) -> None:
        self._armed: list[_Armed] = []
        self._next_id = 1
        self.load(faults, seed)

    def load(self, faults: tuple[Fault, ...], seed: int) -> None:
        """Takes these in place of all it had."""
        self._armed.clear()
        self._dice = random.Random(seed)  # noqa: S311 - a fault is no secret
        for one in faults:
            self.add(one)

    def add(self, one: Fault) -> int:
        """Adds one at the end; the answer is its id."""
        armed = _Armed(self._next_id, one)
        self._next_id += 1
        self._armed.append(armed)
        return armed.id

    def remove(self, number: int) -> bool:
        """Whether there was one."""
        before = len(self._armed)
        self._armed = [armed for armed in self._armed if armed.id != number]
        return len(self._armed) < before

    def hits(self, number: int) -> int:
        """How often the fault with this id has hit; 0 for an unknown one."""
        return next((armed.hits for armed in self._armed if armed.id == number), 0)

    def take(self, stage: str, text: str) -> dict[FaultKind, Fault]:
        """The faults that hit now, at most one of a kind; `stage` is a kind or its first word."""
        hit: dict[FaultKind, Fault] = {}
        for armed in self._armed:
            one = armed.fault
            if one.kind in hit or stage not in {one.kind, one.kind.partition(".")[0]}:
                continue
            if stage != one.kind and one.kind is FaultKind.SPEECH_REFUSE_CONTEXT:
                continue  # this one is asked for by its full name: it meets another text
            if one.match not in text or not self._falls(armed):
                continue
            hit[one.kind] = one
        return hit

    def _falls(self, armed: _Armed) -> bool:
        one = armed.fault
        if one.times is not None and armed.hits >= one.times:
            return False
        armed.met += 1
        if armed.met <= one.skip:
            return False
        if one.probability < 1.0 and self._dice.random() >= one.probability:
            return False
        armed.hits += 1
        return True

    def as_json(self) -> list[dict[str, Any]]:
        """Each with its id and how often it hit."""
        return [{"id": a.id, "hits": a.hits, **asdict(a.fault)} for a in self._armed]
