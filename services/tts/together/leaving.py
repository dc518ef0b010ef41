"""Contexts that were cancelled, until they count no more against a socket's slots."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Final

# Where nobody is named, audio may follow a cancellation, and the next turn waits until none does.
LATE_AUDIO: Final = 0.1  # seconds
FREED_AFTER: Final = 2.0  # a cancelled context counts as free by then, even if nobody says so


@dataclass(slots=True)
class Leaving:
    """Of one socket."""

    _free_at: dict[str, float] = field(default_factory=dict)  # in the order of that
    _confirmed: set[str] = field(default_factory=set)  # of these: audio may still follow

    def __len__(self) -> int:
        return len(self._free_at)

    def __contains__(self, context: object) -> bool:
        return context in self._free_at

    @property
    def oldest(self) -> str | None:
        return next(iter(self._free_at), None)

    @property
    def due(self) -> float:
        """When the next counts as free."""
        return min(self._free_at.values(), default=math.inf)

    def cancel(self, context: str, now: float) -> None:
        """The provider was asked to end it."""
        self._put(context, now + FREED_AFTER)

    def confirm(self, context: str, now: float) -> None:
        """The provider says that it has ended; audio may follow, for a moment."""
        self._confirmed.add(context)
        self._put(context, now + LATE_AUDIO)

    def heard(self, now: float) -> None:
        """Audio of nobody has come: it is not over yet."""
        for context in self._confirmed:
            self._put(context, now + LATE_AUDIO)

    def free(self, context: str) -> bool:
        """It has ended for good; True if that was not known."""
        self._confirmed.discard(context)
        return self._free_at.pop(context, None) is not None

    def free_due(self, now: float) -> None:
        """Forgets those that count as free by now."""
        for context in [each for each, when in self._free_at.items() if when <= now]:
            self.free(context)

    def clear(self) -> None:
        self._free_at.clear()
        self._confirmed.clear()

    def _put(self, context: str, when: float) -> None:
        self._free_at.pop(context, None)  # so that what is freed last is last
        self._free_at[context] = when
