"""The voices that this process holds, and which of them a cancel means."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from shared.contract import CancelRequest
    from shared.process.cancel import CancelToken

EARLY_KEPT: Final = 1_000


class HeldVoices:
    """The voices held here, waiting or spoken, each with its own token; `new` makes one."""

    def __init__(self, new: Callable[[], CancelToken]) -> None:
        self._new = new
        # By conversation and turn; a repeat of a request is held beside it.
        self._held: dict[tuple[str, str], list[CancelToken]] = {}
        self._early: dict[tuple[str, str], int | None] = {}  # cancels that came before the voice

    @property
    def running(self) -> int:
        return sum(map(len, self._held.values()))

    @contextlib.contextmanager
    def hold(self, conversation_id: str, turn_id: str) -> Iterator[CancelToken]:
        """The voice is here, waiting or spoken, and may be stopped."""
        key, token = (conversation_id, turn_id), self._new()
        if key in self._early:
            token.cancel(self._early.pop(key))
        self._held.setdefault(key, []).append(token)
        try:
            yield token
        finally:
            self._held[key].remove(token)
            if not self._held[key]:
                del self._held[key]

    def cancel(self, request: CancelRequest) -> None:
        """Stops the voice if it is here, or as soon as it is; without a turn id, all that are."""
        key = (request.conversation_id, request.turn_id or "")
        if request.turn_id is not None and key not in self._held:
            self._early[key] = request.heard_ms
            if len(self._early) > EARLY_KEPT:
                del self._early[next(iter(self._early))]
        for (conversation_id, turn_id), tokens in self._held.items():
            if conversation_id == request.conversation_id and request.turn_id in {None, turn_id}:
                for token in tokens:
                    token.cancel(request.heard_ms)
