"""How long to wait before something is tried again: full jitter, bounded, as the provider asks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

FIRST_SECONDS: Final = 0.25
MOST_SECONDS: Final = 8.0
MOST_ASKED_SECONDS: Final = 30.0  # a longer pause than this is a refusal in other words


def pause_before(
    try_number: int, asked: float | None, *, uniform: Callable[[float, float], float]
) -> float:
    """Seconds to wait before try 2, 3 …; `asked` is what the provider wants us to wait.

    Full jitter scatters replicas that were refused together; what was asked for is the least.
    """
    ceiling = min(MOST_SECONDS, FIRST_SECONDS * 2 ** max(0, try_number - 2))
    scattered = uniform(0, ceiling)
    return scattered if asked is None else asked + uniform(0, FIRST_SECONDS)


def worth_waiting(asked: float | None, left: float) -> bool:
    """False when the pause asked for would eat what is left of the turn."""
    return asked is None or asked <= min(MOST_ASKED_SECONDS, left)
