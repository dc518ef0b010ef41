"""`chat.history.get`, `chat.history.delete`, and what a cancel leaves in the history."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from services.chat import conversation
from services.chat.nats.heard import NatsHeard
from shared.contract import (
    CHAT_CANCEL,
    CHAT_DELTAS_STREAM,
    SPEECH_BUCKET,
    CancelRequest,
    Deleted,
    Done,
    Failed,
    History,
    HistoryRequest,
    Role,
    TurnUnderWay,
    chat_delta,
    encode,
)
from shared.errors import Busy, Conflict, Internal, NoStream, StorageUnavailable
from shared.nats import read
from shared.nats.connection import Connection
from shared.nats.documents import Bucket
from shared.nats.follow import decode_delta
from shared.nats.read import purge, read_back
from shared.nats.replies import decode_request
from shared.process.wait import wait_until

if TYPE_CHECKING:
    from services.chat.conversation import Conversation
    from services.chat.nats.conversations import NatsConversations
    from shared.contract import Delta, Message

SAVE_TRIES: Final = 20
STOP_SECONDS: Final = 8.0
ERASE_SECONDS: Final = 10.0


class NatsHistory:
    def __init__(self, connection: Connection, conversations: NatsConversations) -> None:
        self._connection, self._conversations = connection, conversations

    async def get(self, body: bytes) -> History:
        conversation_id = decode_request(body, HistoryRequest).conversation_id
        document, _ = await self._conversations.load(conversation_id)
        return History(
            conversation_id,
            await self._conversations.messages(conversation_id, document),
            await self._under_way(conversation_id, document),
        )

    async def _under_way(self, conversation_id: str, document: Conversation) -> TurnUnderWay | None:
        turn = document.turn
        if turn is None:
            return None
        events: list[Delta] = []
        async for message in read_back(
            self._connection,
            CHAT_DELTAS_STREAM,
            chat_delta(conversation_id),
            document.delta_sequence,
        ):
            event = decode_delta(message.data)
            if event is not None:
                events.append(event)
        text, seq = conversation.text_so_far(events, turn.turn_id, turn.attempt)
        return TurnUnderWay(turn.turn_id, turn.attempt, text, seq)

    async def delete(self, body: bytes) -> Deleted:
        """Erases everything; a turn under way is stopped first.

        The speech workers hear the same request and erase the voice; their part is done when the
        bucket `speech` holds nothing of the conversation.

        Raises:
            Busy: a turn could not be stopped in time.
            StorageUnavailable: the voice is still there.
        """
        conversation_id = decode_request(body, HistoryRequest).conversation_id
        await self._connection.send(CHAT_CANCEL, encode(CancelRequest(conversation_id)))
        if not await wait_until(lambda: self._is_over(conversation_id), STOP_SECONDS):
            raise Busy("a turn of this conversation could not be stopped in time")
        await purge(self._connection, CHAT_DELTAS_STREAM, chat_delta(conversation_id))
        await self._conversations.erase(conversation_id)
        if not await wait_until(lambda: self._has_no_voice(conversation_id), ERASE_SECONDS):
            raise StorageUnavailable("the voice could not be erased; ask again")
        return Deleted(conversation_id)

    async def _is_over(self, conversation_id: str) -> bool:
        """No turn runs, and the last one's end was told."""
        document, _ = await self._conversations.load(conversation_id)
        if document.turn is not None:
            return False
        last = await read.last(self._connection, CHAT_DELTAS_STREAM, chat_delta(conversation_id))
        return last is None or isinstance(decode_delta(last.data), Done | Failed | None)

    async def _has_no_voice(self, conversation_id: str) -> bool:
        try:
            async for _ in Bucket(self._connection, SPEECH_BUCKET).entries(f"{conversation_id}.*"):
                return False
        except NoStream:
            return True  # no speech worker was ever here
        return True

    async def cancelled(self, body: bytes) -> CancelRequest:
        """A turn that has ended keeps what was heard of it; any other is stopped by its worker."""
        request = decode_request(body, CancelRequest)
        if request.heard_ms is None:
            return request
        for _ in range(SAVE_TRIES):
            document, revision = await self._conversations.load(request.conversation_id)
            spoken = _answer_of(document, request.turn_id)
            if spoken is None:
                return request
            began = next(m.created_at for m in document.messages if m.turn_id == spoken.turn_id)
            heard = await NatsHeard(self._connection, began).text(
                request.conversation_id, spoken.turn_id, request.heard_ms, spoken.content
            )
            changed = conversation.heard(document, spoken.turn_id, heard)
            if changed is None:
                return request
            try:
                await self._conversations.save(request.conversation_id, changed, revision)
            except Conflict:
                continue
            return request
        raise Internal("the conversation's document could not be saved")


def _answer_of(document: Conversation, turn_id: str | None) -> Message | None:
    """The answer that a cancel means: of that turn, or of the last one when none runs."""
    if document.turn is not None and turn_id in {None, document.turn.turn_id}:
        return None
    for message in reversed(document.messages):
        if message.role is Role.ASSISTANT and turn_id in {None, message.turn_id}:
            return message
    return None
