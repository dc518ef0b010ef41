"""The voices that are spoken in this process, and which of them a cancel means."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from shared.contract import CancelRequest
    from shared.process.cancel import CancelToken


class HeldVoices:
    """The voices that are spoken here, each with its own token; `new` makes one."""

    def __init__(self, new: Callable[[], CancelToken]) -> None:
        self._new = new
        self._held: dict[tuple[str, str], CancelToken] = {}
        self._newest: dict[str, str] = {}  # conversation -> its last turn taken up here

    @property
    def running(self) -> int:
        return len(self._held)

    @contextlib.contextmanager
    def hold(self, conversation_id: str, turn_id: str) -> Iterator[CancelToken]:
        """The voice is spoken here, and may be stopped."""
        key, token = (conversation_id, turn_id), self._new()
        self._held[key] = token
        self._newest[conversation_id] = turn_id
        try:
            yield token
        finally:
            if self._held.get(key) is token:
                del self._held[key]
            if self._newest.get(conversation_id) == turn_id:
                del self._newest[conversation_id]

    def cancel(self, request: CancelRequest) -> None:
        """Stops the voice if it is spoken here; without a turn id, the conversation's newest."""
        turn_id = request.turn_id or self._newest.get(request.conversation_id, "")
        token = self._held.get((request.conversation_id, turn_id))
        if token is not None:
            token.cancel(request.heard_ms)

    def cancel_all(self, conversation_id: str) -> None:
        for (conversation, _), token in self._held.items():
            if conversation == conversation_id:
                token.cancel()
