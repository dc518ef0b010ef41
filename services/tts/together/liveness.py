"""Does a socket that looks open still answer? It is asked when it falls silent while audio is due,
and now and then while nobody speaks, which also keeps it open.

Given are the time, when the last byte was heard on the socket, and how long its provider's pongs
took so far. No clock, no socket.
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass
from typing import Final

SILENT: Final = 0.25  # seconds; asked after so long a silence, while audio is due
REST: Final = 15.0  # seconds; asked after so long a silence, while none is
# A provider may be slow to answer, and some never answer: late is what is late there.
LATE_FACTOR, LATE_MIN = 4.0, 2.0  # seconds
STOOD_STILL: Final = 0.2  # a look this much after its time: perhaps we did, and the answer waits


def answer_due(slowest_pong: float | None) -> float:
    """Seconds after which a socket that was asked, and says nothing, is dead."""
    return math.inf if slowest_pong is None else max(LATE_MIN, LATE_FACTOR * slowest_pong)


class Verdict(enum.Enum):
    FINE = enum.auto()
    ASK = enum.auto()  # send a ping now; the next look counts on it
    DEAD = enum.auto()


@dataclass(slots=True)
class Liveness:
    """Of one socket."""

    _asked: float = 0.0  # when, after the last byte heard, something was first asked
    _silent: float = SILENT  # after which it is asked, while audio is due
    _pinged: float = 0.0

    def expect(self, heard: float, now: float) -> None:
        """Something was asked: from now on silence is suspicious."""
        if self._asked <= heard:
            self._asked = now
            # After a rest it may have died without a word: it is asked at once.
            self._silent = 0.0 if now - heard >= REST else SILENT

    def look(self, heard: float, now: float, slowest_pong: float | None, *, due: bool) -> Verdict:
        """What to think of it; `due`: audio is."""
        next_look = self.next_look(heard, slowest_pong, due=due)
        if now < next_look:
            return Verdict.FINE
        if next_look == self._late_at(heard, slowest_pong, due=due) and (
            now < next_look + STOOD_STILL
        ):
            return Verdict.DEAD
        self._pinged = now
        return Verdict.ASK

    def next_look(self, heard: float, slowest_pong: float | None, *, due: bool) -> float:
        """When, unless a byte is heard before."""
        if self._is_asked(heard, due=due):
            late = self._late_at(heard, slowest_pong, due=due)
            return self._pinged + REST if late == math.inf else late
        return max(heard, self._asked) + self._silent if due else heard + REST

    def _late_at(self, heard: float, slowest_pong: float | None, *, due: bool) -> float:
        if not self._is_asked(heard, due=due):
            return math.inf
        return self._pinged + answer_due(slowest_pong)

    def _is_asked(self, heard: float, *, due: bool) -> bool:
        """True while a ping is out that was sent for what is waited for now."""
        return self._pinged > heard and not (due and self._pinged < self._asked)
