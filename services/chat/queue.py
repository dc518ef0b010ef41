"""Noun: requests that wait: who may start, who is refused, who is interrupted, who comes next."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

from shared.contract import OnBusy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Older:
    """A request of the same conversation that came before."""

    sequence: int
    turn_id: str


class Move(enum.Enum):
    """What a request does, seeing the requests of its conversation that came before it."""

    START = "start"  # it is the oldest one left
    YIELD = "yield"  # the same turn stands in the queue already and answers for both
    REJECT = "reject"  # it does not want to wait
    OVERFLOW = "overflow"  # too many wait already
    INTERRUPT = "interrupt"  # it asks the oldest to stop, and waits
    WAIT = "wait"


_WHILE_BUSY: Final = {
    OnBusy.QUEUE: Move.WAIT,
    OnBusy.INTERRUPT: Move.INTERRUPT,
    OnBusy.REJECT: Move.REJECT,
}


def next_move(older: Sequence[Older], turn_id: str, on_busy: OnBusy, max_waiting: int) -> Move:
    """`older`: at least `max_waiting + 1` of those before it, or all of them.

    One of them is under way, the others wait; this one must be among the first `max_waiting`.
    """
    if not older:
        return Move.START
    if any(request.turn_id == turn_id for request in older):
        return Move.YIELD
    move = _WHILE_BUSY[on_busy]
    if move is not Move.REJECT and len(older) > max_waiting:
        return Move.OVERFLOW
    return move


def oldest_of_each(items: Iterable[T], conversation: Callable[[T], str], count: int) -> list[T]:
    """The first of each conversation as they are given, at most `count` of them.

    So a flood in one conversation holds up no other; and where a burst of them is stored in another
    order than it is sent in, the order within a conversation stays.
    """
    oldest: dict[str, T] = {}
    for item in items:
        if len(oldest) >= count:
            break
        oldest.setdefault(conversation(item), item)
    return list(oldest.values())
