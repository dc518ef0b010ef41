# Generated from shared/timeline.py by clients/python/generate.py (`make clients`): do not edit.
# pyright: reportUnknownVariableType=false
"""Puts the events of one turn in order, drops repeats and leftovers, reports gaps."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(slots=True)
class Timeline(Generic[T]):
    """Fed in any order and any number of times, gives each event once, in the order of `seq`.

    A higher attempt starts over at 0; what carries a lower one than the highest seen is a leftover
    of a superseded worker.
    """

    attempt: int = 0
    expected: int = 0
    _early: dict[int, T] = field(default_factory=dict)

    @property
    def gap(self) -> bool:
        """True while something came that cannot be given out yet."""
        return bool(self._early)

    def add(self, attempt: int, seq: int, event: T) -> list[T]:
        """The events that can be given out now; empty for a repeat, a leftover or a gap."""
        if attempt < self.attempt or (attempt == self.attempt and seq < self.expected):
            return []
        if attempt > self.attempt:
            self.attempt, self.expected = attempt, 0
            self._early.clear()
        if seq != self.expected:
            self._early[seq] = event
            return []
        ready = [event]
        self.expected += 1
        while self.expected in self._early:
            ready.append(self._early.pop(self.expected))
            self.expected += 1
        return ready
