"""Noun: how far somebody has come who plays a voice as it comes, and how long that one waits."""

from __future__ import annotations


class Playback:
    """Of one voice. Times are monotonic seconds; pieces are played one after the other."""

    def __init__(self) -> None:
        self._plays_until: float | None = None
        self._next = 0  # the first piece whose length is not known

    def sounds(self, now: float) -> float | None:
        """The first sound of a piece is there: the silence before it, None before the first of all.

        What is there before all of the piece before it has been played leaves no gap.
        """
        gap = None if self._plays_until is None else max(0.0, now - self._plays_until)
        self._plays_until = max(now, self._plays_until or 0.0)
        return gap

    def lasts(self, index: int, seconds: float) -> None:
        """A piece is whole. One that is told again is not played again."""
        if index >= self._next and self._plays_until is not None:
            self._plays_until += seconds
            self._next = index + 1
