"""Verb: a request is put into the work queue for somebody who waits to hear that it is there."""

from __future__ import annotations

import functools
import uuid
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from services.chat.request import characters_of, understand, warnings_of
from shared.contract import MSG_ID, Asked, AskState
from shared.refuse import Refused

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from services.chat.ports import Conversations, Queue, Requests
    from shared.contract import ChatRequest
    from shared.refuse import Unqueued


@dataclass(frozen=True, slots=True, kw_only=True)
class Dependencies:
    conversations: Conversations
    queue: Queue
    requests: Requests
    take: Callable[[str, int], None]  # from what a conversation may use; raises Busy


async def ask(asked: Unqueued, needs: Dependencies, *, max_bytes: int) -> Asked:
    """Returns once the stream has the request, or where its turn id is known already.

    A turn whose sender gave no id is given one.

    Raises:
        InvalidRequest: it is not understood.
        Busy: the conversation has used what it may.
        StorageUnavailable: the stream takes no more.
        NatsError: it may be in the stream, or not; asking again is harmless.
    """
    named = replace(asked, headers={MSG_ID: uuid.uuid4().hex, **asked.headers})
    found = understand(named, max_bytes=max_bytes)
    if isinstance(found, Refused):
        raise found.error
    return await _Ask(found, warnings_of(named), needs).run()


@dataclass(frozen=True, slots=True)
class _Ask:
    request: ChatRequest
    warnings: Sequence[str]
    needs: Dependencies

    @property
    def conversation_id(self) -> str:
        return str(self.request.conversation_id)

    @property
    def turn_id(self) -> str:
        return str(self.request.turn_id)

    async def run(self) -> Asked:
        state = await self._state()
        # A turn that runs by the document, and whose request is gone, is nobody's: asked anew.
        if state is AskState.QUEUED or (state is AskState.RUNNING and not await self._is_held()):
            self.needs.take(self.conversation_id, characters_of(self.request))
            state = await self._put()
        return Asked(self.conversation_id, self.turn_id, state)

    async def _put(self) -> AskState:
        put = functools.partial(self.needs.requests.put, self.request, self.warnings)
        if await put() or await self._is_held():
            return AskState.QUEUED
        # The stream has had it of late, and it is gone: it was answered, or it was refused.
        state = await self._state()
        if state is AskState.QUEUED:
            await put(anew=True)
        return state

    async def _is_held(self) -> bool:
        return await self.needs.queue.holds(self.conversation_id, self.turn_id)

    async def _state(self) -> AskState:
        """As the document tells it: queued where it knows nothing of the turn."""
        document = (await self.needs.conversations.load(self.conversation_id)).value
        if self.turn_id in document.ended:
            return AskState.ENDED
        if document.turn is not None and document.turn.turn_id == self.turn_id:
            return AskState.RUNNING
        return AskState.QUEUED
