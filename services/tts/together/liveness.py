"""Does a socket that looks open still answer? It is asked when it falls silent while audio is due.

Given are the time, and when the last byte was heard on the socket. No clock, no socket.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final

# Seconds: asked after so long a silence, given up after so long without an answer. Together less
# than the two in which a dead socket has to be noticed.
SILENT, NO_ANSWER = 0.5, 1.2
LATE: Final = 0.2  # a look this much after its time: perhaps we stood still and the answer waits


class Verdict(enum.Enum):
    FINE = enum.auto()
    ASK = enum.auto()  # send a ping now; the next look counts on it
    DEAD = enum.auto()


@dataclass(slots=True)
class Liveness:
    """Of one socket."""

    idle_check: float = 10.0  # seconds; a socket at rest for so long may be dead
    _asked: float = 0.0  # when, after the last byte heard, something was first asked
    _pinged: float = 0.0

    def expect(self, heard: float, now: float) -> None:
        """Something was asked: from now on silence is suspicious."""
        if self._asked <= heard:
            self._asked = now

    def at_rest(self, heard: float, now: float) -> bool:
        """True when a ping had better be answered before the socket is used."""
        return now - heard >= self.idle_check

    def look(self, heard: float, now: float) -> Verdict:
        """What to think of it, while audio is due."""
        if self._pinged > heard:
            given_up = self._pinged + NO_ANSWER
            if now < given_up:
                return Verdict.FINE
            if now < given_up + LATE:
                return Verdict.DEAD
        if now < self._silent_at(heard):
            return Verdict.FINE
        self._pinged = now
        return Verdict.ASK

    def due(self, heard: float, now: float) -> float:
        """When to look again, while audio is due."""
        given_up = self._pinged + NO_ANSWER
        return given_up if self._pinged > heard and now < given_up else self._silent_at(heard)

    def _silent_at(self, heard: float) -> float:
        return max(heard, self._asked) + SILENT
