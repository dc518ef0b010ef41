"""Conversations in the key-value bucket `conversations`.

`<c>` is the document; a document that nears its limit moves its oldest messages to `<c>.1`,
`<c>.2` …, which are written before the document stops holding them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from services.chat import conversation
from services.chat.conversation import Conversation
from shared.contract import CONVERSATIONS_BUCKET, Message
from shared.document import decoded
from shared.errors import Conflict, Unreadable
from shared.nats.documents import Bucket, Held, amend

if TYPE_CHECKING:
    from collections.abc import Callable

    from shared.nats.connection import Connection


_decode_messages = msgspec.json.Decoder(list[Message]).decode


def _decode_page(data: bytes) -> list[Message]:
    """Raises Unreadable."""
    return decoded(data, _decode_messages, what="a page of a conversation", version=0)


def _decode_old_page(data: bytes | None) -> list[Message]:
    """What would be written over; nothing where nobody can read it."""
    try:
        return [] if data is None else _decode_page(data)
    except Unreadable:
        return []


class NatsConversations:
    """Implements Conversations."""

    def __init__(self, connection: Connection) -> None:
        self._bucket = Bucket(connection, CONVERSATIONS_BUCKET)

    async def load(self, conversation_id: str) -> Held[Conversation]:
        held = await self._bucket.get(conversation_id)
        return Held(conversation.decode(held.value), held.revision)

    async def amend(
        self,
        conversation_id: str,
        change: Callable[[Conversation], Conversation],
        held: Held[Conversation] | None = None,
    ) -> Held[Conversation]:
        return await amend(
            lambda: self.load(conversation_id),
            change,
            lambda document, revision: self.save(conversation_id, document, revision),
            held,
        )

    async def save(self, conversation_id: str, document: Conversation, revision: int) -> int:
        """Returns the new revision. Raises Conflict, NatsError."""
        data = conversation.encode(document)
        while count := conversation.overflow(document, len(data)):
            document = await self._page_out(conversation_id, document, count, revision)
            data = conversation.encode(document)
        return await self._bucket.put(conversation_id, data, revision)

    async def _page_out(
        self, conversation_id: str, document: Conversation, count: int, revision: int
    ) -> Conversation:
        page = document.pages + 1
        key = f"{conversation_id}.{page}"
        found = await self._bucket.get(key)
        there = _decode_old_page(found.value)
        if there and there == document.messages[: len(there)]:
            # Put there by an earlier save of the same messages: it may be in use as it stands.
            count = len(there)
        else:
            if there and (await self._bucket.get(conversation_id)).revision != revision:
                raise Conflict("the document has moved on, and may need its page")
            data = msgspec.json.encode(document.messages[:count])
            await self._bucket.put(key, data, found.revision)
        return msgspec.structs.replace(document, messages=document.messages[count:], pages=page)

    async def page(self, conversation_id: str, number: int) -> list[Message]:
        """Implements Pages."""
        data = (await self._bucket.get(f"{conversation_id}.{number}")).value
        return [] if data is None else _decode_page(data)

    async def erase(self, conversation_id: str) -> None:
        """Removes document and pages."""
        await self._bucket.erase(f"{conversation_id}.*")
        await self._bucket.erase(conversation_id)
