"""Noun: the turns that this process holds, and which of them a cancel means."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from shared.contract import CancelRequest
    from shared.process.cancel import CancelToken


class HeldTurns:
    """The turns held here, waiting or running, each with its own stop; `new` makes one."""

    def __init__(self, new: Callable[[], CancelToken]) -> None:
        self._new = new
        self._held: dict[tuple[str, str], CancelToken] = {}
        self._running: dict[str, str] = {}  # conversation -> its turn

    @property
    def running(self) -> int:
        return len(self._running)

    @property
    def waiting(self) -> int:
        return len(self._held) - len(self._running)

    @contextlib.contextmanager
    def hold(self, conversation_id: str, turn_id: str) -> Iterator[CancelToken]:
        """The turn is here, and may be stopped."""
        key, stop = (conversation_id, turn_id), self._new()
        self._held[key] = stop
        try:
            yield stop
        finally:
            if self._held.get(key) is stop:
                del self._held[key]

    @contextlib.contextmanager
    def run(self, conversation_id: str, turn_id: str) -> Iterator[None]:
        """The turn is the one under way in its conversation."""
        self._running[conversation_id] = turn_id
        try:
            yield
        finally:
            self._running.pop(conversation_id, None)

    def cancel(self, request: CancelRequest) -> None:
        """Stops the turn if it is held here; without a turn id, the one under way."""
        turn_id = request.turn_id or self._running.get(request.conversation_id)
        if turn_id is None:
            return
        stop = self._held.get((request.conversation_id, turn_id))
        if stop is not None:
            stop.cancel(request.heard_ms)
