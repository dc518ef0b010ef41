"""Requests on their way into the work queue."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from services.chat.request import handed_on_with
from shared.contract import H_CONVERSATION, H_TURN, MSG_ID, chat_request, encode
from shared.errors import ApiError, StorageUnavailable
from shared.nats.publish import publish

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from shared.contract import ChatRequest
    from shared.nats.connection import Connection

# The server's codes of a stream at one of its limits: 10077 of any, 10047 and 10023 of its own.
_FULL: Final = frozenset({10077, 10047, 10023})


@dataclass(frozen=True, slots=True)
class NatsRequests:
    """Implements Requests. `headers`: those that are carried through."""

    connection: Connection
    headers: Mapping[str, str]

    async def put(
        self, request: ChatRequest, warnings: Sequence[str], *, anew: bool = False
    ) -> bool:
        conversation_id, turn_id = str(request.conversation_id), str(request.turn_id)
        unique = f"ask.{conversation_id}.{turn_id}"
        headers = {
            MSG_ID: f"{unique}.{uuid.uuid4().hex}" if anew else unique,
            H_CONVERSATION: conversation_id,
            H_TURN: turn_id,
            **handed_on_with(warnings),
            **self.headers,
        }
        subject = chat_request(conversation_id)
        try:
            ack = await publish(self.connection, subject, encode(request), headers)
        except ApiError as exc:
            if exc.err_code in _FULL:
                raise StorageUnavailable("the stream of requests is full; ask again later") from exc
            raise
        return not ack.duplicate
