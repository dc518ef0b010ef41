"""Noun: the turns that this process holds, and which of them a cancel means."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from shared.contract import CancelRequest
    from shared.process.cancel import CancelToken

EARLY_KEPT: Final = 1_000
K = TypeVar("K")
V = TypeVar("V")


class HeldTurns:
    """The turns held here, waiting or running, each with its own stop; `new` makes one."""

    def __init__(self, new: Callable[[], CancelToken]) -> None:
        self._new = new
        # A repeat of a request is held beside it: whoever stops the turn stops both.
        self._held: dict[tuple[str, str], list[CancelToken]] = {}
        self._running: dict[str, list[str]] = {}  # conversation -> its turns
        self._early: dict[tuple[str, str], int | None] = {}  # cancels that came before the turn

    @property
    def running(self) -> int:
        return sum(map(len, self._running.values()))

    @property
    def waiting(self) -> int:
        return sum(map(len, self._held.values())) - self.running

    @contextlib.contextmanager
    def hold(self, conversation_id: str, turn_id: str) -> Iterator[CancelToken]:
        """The turn is here, and may be stopped."""
        key, stop = (conversation_id, turn_id), self._new()
        if key in self._early:
            stop.cancel(self._early.pop(key))
        with _listed(self._held, key, stop):
            yield stop

    @contextlib.contextmanager
    def run(self, conversation_id: str, turn_id: str) -> Iterator[None]:
        """The turn is the one under way in its conversation."""
        with _listed(self._running, conversation_id, turn_id):
            yield

    def cancel(self, request: CancelRequest) -> None:
        """Stops the turn if it is held, or as soon as it is; without an id, the one under way."""
        key = (request.conversation_id, request.turn_id or "")
        if request.turn_id is not None and key not in self._held:
            self._early[key] = request.heard_ms
            if len(self._early) > EARLY_KEPT:
                del self._early[next(iter(self._early))]
        under_way = self._running.get(request.conversation_id, ())
        for turn_id in under_way if request.turn_id is None else [request.turn_id]:
            for stop in self._held.get((request.conversation_id, turn_id), ()):
                stop.cancel(request.heard_ms)


@contextlib.contextmanager
def _listed(lists: dict[K, list[V]], key: K, value: V) -> Iterator[None]:
    """`value` is in the list of `key` meanwhile; an empty list is not kept."""
    lists.setdefault(key, []).append(value)
    try:
        yield
    finally:
        lists[key].remove(value)
        if not lists[key]:
            del lists[key]
