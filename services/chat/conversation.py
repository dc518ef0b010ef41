"""A conversation as one document: its messages, the turn under way, how the last turn ended.

Every change is made here and saved by compare-and-set. A worker that does not find its own
`execution` in the document has been superseded.
"""

from __future__ import annotations

import enum
from datetime import datetime
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec import Struct, field
from msgspec.structs import replace

from services.chat.request import messages_of
from shared.contract import (
    ChatRequest,
    Delta,
    Done,
    Failed,
    FinishReason,
    HistoryMode,
    Message,
    Role,
    Status,
    Text,
)
from shared.document import decoded
from shared.errors import Superseded, WrittenByNewer

if TYPE_CHECKING:
    from collections.abc import Sequence

MINUTE: Final = 60  # seconds
ERASING: Final = 30  # seconds: longer than an erasure takes
STOPS_KEPT: Final = 100  # of turns that nobody holds
ENDED_KEPT: Final = 500  # ids of ended turns that are remembered, so that none is answered twice
# A document above this moves its oldest messages to a page. Each turn reads and writes all of it
# before the first word: 1 ms for 64 KiB.
PAGE_BYTES: Final = 128 * 1024


class Begin(enum.Enum):
    """What a request finds in the document."""

    RUN = "run"  # it may run, as the attempt that the document now names
    ENDED = "ended"  # it was committed before: only its end may be missing outside
    STOPPED = (
        "stopped"  # it was under way and stopped while nobody held it; it is ours, to be ended
    )
    DROPPED = "dropped"  # it was stopped before it ever began
    TOLD = "told"  # its end was told; what the document knew of it is gone
    GIVEN_UP = "given up"  # it was begun too often
    TOO_MANY = "too many"  # turns of this conversation within a minute


class TurnRecord(Struct, frozen=True):
    """The turn under way. `execution` names the worker's run that owns it now."""

    turn_id: str
    attempt: int
    executions: int
    execution: str
    created_at: str
    history: HistoryMode = HistoryMode.APPEND


class Conversation(Struct, frozen=True):
    """The document. `delta_sequence`: a stream sequence at or before the turn's first event.

    `stops`: turns that are stopped by who takes them up, and how much of each was heard (ms).
    `erased_until`: while the conversation is being erased all are; epoch seconds, lest an erasure
    that dies stops them for ever.
    """

    version: int = 1
    system: str | None = None
    messages: list[Message] = field(default_factory=list)
    turn: TurnRecord | None = None
    ended: list[str] = field(default_factory=list)
    last_end: Done | Failed | None = None
    delta_sequence: int = 1
    pages: int = 0
    begun: list[int] = field(default_factory=list)  # when, within the last minute; epoch seconds
    stops: dict[str, int | None] = field(default_factory=dict)
    erased_until: int = 0

    def stops_turn(self, turn_id: str, second: int) -> bool:
        return turn_id in self.stops or second < self.erased_until


VERSION: Final = 1
WHAT: Final = "a conversation"
_decoder = msgspec.json.Decoder(Conversation)


def decode(data: bytes | None) -> Conversation:
    """Raises Unreadable, or WrittenByNewer."""
    if data is None:
        return Conversation()
    return decoded(data, _decoder.decode, what=WHAT, version=VERSION)


def encode(document: Conversation) -> bytes:
    """Raises WrittenByNewer."""
    if document.version > VERSION:
        raise WrittenByNewer(WHAT, document.version, VERSION)
    return msgspec.json.encode(document)


def begin(
    document: Conversation,
    request: ChatRequest,
    turn_id: str,
    *,
    execution: str,
    now: str,
    give_up_after: int,
    max_per_minute: int = 0,
    told: int = 0,
) -> tuple[Begin, Conversation]:
    """The turn starts, or starts over as the next attempt; else the very same document.

    `told`: the highest attempt that listeners know of a turn that the document does not.
    """
    if turn_id in document.ended:
        return Begin.ENDED, document
    second = int(datetime.fromisoformat(now).timestamp())
    under_way = document.turn
    if under_way is not None and under_way.turn_id == turn_id:
        return _begin_again(document, under_way, second, execution, give_up_after)
    if document.stops_turn(turn_id, second):
        return Begin.DROPPED, document
    begun = [at for at in document.begun if second - at < MINUTE]
    if 0 < max_per_minute <= len(begun):
        return Begin.TOO_MANY, document
    if max_per_minute:
        document = replace(document, begun=[*begun, second])
    # A turn under way whose request is gone cannot come back: this one takes its place.
    turn = TurnRecord(turn_id, told + 1, 1, execution, now, request.history)
    if request.history is HistoryMode.NONE:
        return Begin.RUN, replace(document, turn=turn, last_end=None)
    new = [
        Message(f"{turn_id}.{n}", m.role, m.content, turn_id, now)
        for n, m in enumerate(messages_of(request))
    ]
    fresh = request.history is HistoryMode.REPLACE
    return Begin.RUN, replace(
        document,
        turn=turn,
        last_end=None,
        messages=new if fresh else [*document.messages, *new],
        pages=0 if fresh else document.pages,
        system=request.system if request.system is not None or fresh else document.system,
    )


def _begin_again(
    document: Conversation, turn: TurnRecord, second: int, execution: str, give_up_after: int
) -> tuple[Begin, Conversation]:
    if document.stops_turn(turn.turn_id, second):
        return Begin.STOPPED, taken_over(document, turn, execution)
    if turn.executions >= give_up_after:
        return Begin.GIVEN_UP, document
    again = replace(
        turn, attempt=turn.attempt + 1, executions=turn.executions + 1, execution=execution
    )
    return Begin.RUN, replace(document, turn=again)


def owned(document: Conversation, turn_id: str, execution: str) -> TurnRecord:
    """The turn's record; raises Superseded when this execution does not own it any more."""
    turn = document.turn
    if turn is None or turn.turn_id != turn_id or turn.execution != execution:
        raise Superseded
    return turn


def next_attempt(document: Conversation, turn_id: str, execution: str) -> Conversation:
    """The same execution starts the turn over. Raises Superseded."""
    turn = owned(document, turn_id, execution)
    return replace(document, turn=replace(turn, attempt=turn.attempt + 1))


def handed_back(document: Conversation, turn_id: str, execution: str) -> Conversation:
    """An execution that ended in good order, through no fault of the turn, does not count.

    The very same document where the turn is another's.
    """
    turn = document.turn
    if turn is None or (turn.turn_id, turn.execution) != (turn_id, execution):
        return document
    return replace(document, turn=replace(turn, executions=max(0, turn.executions - 1)))


def taken_over(document: Conversation, turn: TurnRecord, execution: str) -> Conversation:
    """The turn as `execution`'s own, as one more attempt, to be ended.

    Raises Superseded unless it is under way as it was found in `turn`.
    """
    turn = owned(document, turn.turn_id, turn.execution)
    return replace(document, turn=replace(turn, attempt=turn.attempt + 1, execution=execution))


def stopped(document: Conversation, turn_id: str, heard_ms: int | None) -> Conversation:
    """Whoever takes the turn up ends it. The very same document where it has ended, or was told."""
    if turn_id in document.ended or turn_id in document.stops:
        return document
    stops = {**document.stops, turn_id: heard_ms}
    return replace(document, stops=dict(list(stops.items())[-STOPS_KEPT:]))


def dropped(document: Conversation, turn_id: str) -> Conversation:
    """The turn was stopped before it began, and is never answered."""
    if turn_id in document.ended:
        return document
    return _ended(document, turn_id)


def _ended(document: Conversation, turn_id: str) -> Conversation:
    return replace(
        document,
        ended=[*document.ended, turn_id][-ENDED_KEPT:],
        stops={name: ms for name, ms in document.stops.items() if name != turn_id},
    )


def erasing(document: Conversation, now: str) -> Conversation:
    """No turn begins for a while, and who takes up one that is under way ends it."""
    second = int(datetime.fromisoformat(now).timestamp())
    return replace(document, erased_until=second + ERASING)


def retracted(document: Conversation, turn_id: str, execution: str) -> Conversation:
    """As it was before this execution began the turn; the very same where it is another's."""
    turn = document.turn
    if turn is None or (turn.turn_id, turn.execution) != (turn_id, execution):
        return document
    messages = [message for message in document.messages if message.turn_id != turn_id]
    return replace(document, turn=None, messages=messages)


def ended_without_room(document: Conversation, end: Failed, execution: str) -> Conversation:
    """The turn is closed, and nothing of it kept but its end: smaller than what was begun.

    Raises Superseded.
    """
    owned(document, end.turn_id, execution)
    return replace(_ended(retracted(document, end.turn_id, execution), end.turn_id), last_end=end)


def is_blank(document: Conversation) -> bool:
    """Nothing was ever said in it."""
    return document.turn is None and not (document.messages or document.pages or document.ended)


def commit(
    document: Conversation,
    end: Done | Failed,
    *,
    said: str,
    execution: str,
    now: str,
    delta_sequence: int,
) -> Conversation:
    """The turn is closed, the assistant's message is in: `said`, nothing if empty.

    Raises Superseded.
    """
    turn = owned(document, end.turn_id, execution)
    messages = document.messages
    if isinstance(end, Done) and said and turn.history is not HistoryMode.NONE:
        cut = end.finish_reason is FinishReason.CANCELLED
        status = Status.INTERRUPTED if cut else Status.COMPLETE
        answer = Message(f"{end.turn_id}.a", Role.ASSISTANT, said, end.turn_id, now, status)
        messages = [*messages, answer]
    return replace(
        _ended(document, end.turn_id),
        messages=messages,
        turn=None,
        last_end=end,
        delta_sequence=delta_sequence,
    )


def knows(document: Conversation, turn_id: str) -> bool:
    """True for a turn that is under way or has ended."""
    under_way = document.turn is not None and document.turn.turn_id == turn_id
    return under_way or turn_id in document.ended


def answer_of(document: Conversation, turn_id: str) -> Message | None:
    """What the history keeps of the answer of a turn that has ended; None where it keeps none."""
    for message in reversed(document.messages):
        if message.role is Role.ASSISTANT and message.turn_id == turn_id:
            return message
    return None


def began_at(document: Conversation, turn_id: str) -> str:
    """When a turn began of which the document has a message."""
    return next(m.created_at for m in document.messages if m.turn_id == turn_id)


def heard(document: Conversation, turn_id: str, text: str) -> Conversation:
    """The listener stopped the voice of a finished turn: the history keeps what was heard.

    The very same document where there is nothing to change.
    """
    for at in range(len(document.messages) - 1, -1, -1):
        message = document.messages[at]
        if message.turn_id != turn_id or message.role is not Role.ASSISTANT:
            continue
        if len(text) >= len(message.content):
            return document
        messages = list(document.messages)
        if text:
            messages[at] = replace(message, content=text, status=Status.INTERRUPTED)
        else:
            del messages[at]
        return replace(document, messages=messages)
    return document


def overflow(document: Conversation, size: int) -> int:
    """How many of the oldest messages belong on a page, for a document of `size` bytes."""
    if size <= PAGE_BYTES or len(document.messages) < 4:
        return 0
    total, half = 0, PAGE_BYTES // 2
    for count, message in enumerate(document.messages):
        total += len(message.content.encode()) + 200
        if total >= half or count >= len(document.messages) - 3:
            return count + 1
    return 0


def text_so_far(events: Sequence[Delta], turn_id: str, attempt: int) -> tuple[str, int]:
    """The words of an attempt, and the seq of the last event in them; -1 before the first."""
    own = [e for e in events if e.turn_id == turn_id and e.attempt == attempt]
    text = "".join(e.text for e in own if isinstance(e, Text))
    return text, max((e.seq for e in own), default=-1)
