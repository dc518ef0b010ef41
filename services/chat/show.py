"""Verb: shows a page of a conversation: what was said, and the turn under way so far."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from services.chat import conversation
from services.chat.cursor import Cursor
from shared.contract import History, TurnUnderWay, encode

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from services.chat.conversation import Conversation
    from services.chat.ports import Conversations, Pages, Past
    from shared.contract import HistoryRequest, Message

MAX_MESSAGES: Final = 1_000
MAX_BYTES: Final = 512 * 1024  # of the answer; NATS takes 1 MiB
_CURSOR: Final = "x" * 200  # as long as any


async def show(
    request: HistoryRequest, *, conversations: Conversations, pages: Pages, past: Past
) -> History:
    """The newest messages before the cursor, oldest first; none of a conversation that nobody
    knows. One message is there however large it is.

    Raises:
        InvalidRequest: the cursor is none of ours.
        NatsError: something could not be read.
    """
    conversation_id = request.conversation_id
    cursor = None if request.before is None else Cursor.read(request.before)
    document = (await conversations.load(conversation_id)).value
    turn = await _under_way(conversation_id, document, past) if cursor is None else None
    room = MAX_BYTES - len(encode(History(conversation_id, [], turn, before=_CURSOR)))
    newest_first: list[Message] = []
    oldest, before = 0, None
    async for page, message in _newest_first(conversation_id, document, pages, cursor):
        room -= len(encode(message)) + len(",")
        full = len(newest_first) >= min(request.limit, MAX_MESSAGES)
        if newest_first and (full or room < 0):
            before = str(Cursor.at(newest_first[-1], oldest))
            break
        newest_first.append(message)
        oldest = page
    return History(conversation_id, newest_first[::-1], turn, before=before)


async def _newest_first(
    conversation_id: str, document: Conversation, pages: Pages, cursor: Cursor | None
) -> AsyncIterator[tuple[int, Message]]:
    """Messages before the cursor, each with the page where it stands; the document is the last."""
    last = document.pages + 1

    async def read(page: int) -> Sequence[Message]:
        return document.messages if page == last else await pages.page(conversation_id, page)

    start = last if cursor is None else max(1, min(cursor.page, last))
    for page, message in reversed(await _older(range(start, last + 1), read, cursor)):
        yield page, message
    for page in range(start - 1, 0, -1):
        for message in reversed(await read(page)):
            yield page, message


async def _older(
    among: range, read: Callable[[int], Awaitable[Sequence[Message]]], cursor: Cursor | None
) -> list[tuple[int, Message]]:
    """Those on some pages that came before the cursor, oldest first."""
    found: list[tuple[int, Message]] = []
    for page in among:
        messages = await read(page)
        place = None if cursor is None else cursor.place_in(messages)
        found += [(page, message) for message in messages[:place]]
        if place is not None:
            return found
    return [each for each in found if cursor is None or cursor.is_after(each[1])]


async def _under_way(
    conversation_id: str, document: Conversation, past: Past
) -> TurnUnderWay | None:
    turn = document.turn
    if turn is None:
        return None
    events = await past.events(conversation_id, document.delta_sequence)
    text, seq = conversation.text_so_far(events, turn.turn_id, turn.attempt)
    return TurnUnderWay(turn.turn_id, turn.attempt, text, seq)
