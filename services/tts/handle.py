"""Verb: a request to speak is taken from the work queue and dealt with, to its ack.

It is refused, or waits for a slot and is spoken. Who raises leaves the message to be delivered
again: nothing that was done by then is done twice.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

from services.tts import record
from services.tts.finish import GivenUp
from services.tts.given_text import GivenText
from services.tts.record import Repeated
from services.tts.request import understand, warnings_of
from shared.contract import AudioFailed
from shared.errors import Cancelled, StorageUnavailable, Unreadable
from shared.refuse import Refused, refuse
from shared.retry import Backoff

if TYPE_CHECKING:
    from services.tts.held_voices import HeldVoices
    from services.tts.job import Defaults, Job, Rules
    from services.tts.ports import Clock, Ends, Records, Report, Requests, Slots, Speaking, TurnText
    from shared.contract import CancelRequest, SpeechRequest
    from shared.errors import Failure
    from shared.process.cancel import CancelToken
    from shared.refuse import DeadLetters, Message, Turns

STORE_AGAIN_LONGEST: Final = 15.0  # seconds; a store that is back is soon noticed

# The records of one turn's voice, by its conversation and turn.
RecordsOf: TypeAlias = "Callable[[str, str], Records]"
RequestsOf: TypeAlias = "Callable[[str, str], Requests]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Dependencies:
    """`follow` gives the text of a turn, by conversation, turn and stream sequence."""

    rules: Rules
    defaults: Defaults
    slots: Slots
    held: HeldVoices
    turns: Turns
    dead_letters: DeadLetters
    follow: Callable[[str, str, int], TurnText]
    new_execution: Callable[[], str]
    clock: Clock
    report: Report
    trace_refused: Callable[[Message, Refused], None]


async def handle(message: Message, speaking: Speaking, deps: Dependencies) -> None:
    """Deals with one message, to its ack or its hand-back; `speaking` is bound to it.

    Raises:
        Superseded: somebody else deals with it.
        NatsError: it has to be delivered again.
    """
    found = understand(message)
    if isinstance(found, Refused):
        await _refuse(message, found, deps)
        deps.trace_refused(message, found)
        return
    job = deps.defaults.job(
        found,
        execution=deps.new_execution(),
        sequence=message.sequence,
        taken_at=message.taken_at,
        redelivered=message.deliveries > 1,
        warnings=warnings_of(message),
    )
    with deps.held.hold(job.conversation_id, job.turn_id) as token:
        async with AsyncExitStack() as slot:
            with suppress(Cancelled):  # who is stopped needs no slot to end
                await token.guard(slot.enter_async_context(deps.slots.slot(message)))
            await _speak(message, found, job, token, speaking, deps)


async def hopeless(message: Message, error: Failure, deps: Dependencies) -> None:
    """A message that fails however often it is delivered: told, kept among the dead, acked.

    Raises NatsError.
    """
    found = understand(message)
    if isinstance(found, Refused):
        await _refuse(message, found, deps)
        return
    ids = str(found.conversation_id), str(found.turn_id)
    await refuse(
        message,
        Refused(error, *ids),
        turns=deps.turns,
        dead_letters=deps.dead_letters,
        count=lambda error: deps.report.ended(AudioFailed(*ids, 1, error=error.as_error()), 0.0),
    )
    await message.ack()


async def _refuse(message: Message, refused: Refused, deps: Dependencies) -> None:
    await refuse(
        message,
        refused,
        turns=deps.turns,
        dead_letters=deps.dead_letters,
        count=deps.report.refused,
    )
    await message.ack()


async def _speak(
    message: Message,
    request: SpeechRequest,
    job: Job,
    token: CancelToken,
    speaking: Speaking,
    deps: Dependencies,
) -> None:
    began, end = deps.clock.monotonic(), None
    try:
        end = await speaking(job, _text(request, job, deps), token)
    except StorageUnavailable as exc:
        # Nothing has to be spoken again when the store is there.
        deps.report.handed_back(exc)
        again = Backoff(deps.rules.store_again, STORE_AGAIN_LONGEST)
        await message.nak(again.ceiling(message.deliveries))
        return
    except Unreadable as exc:
        await _refuse(message, Refused(exc, job.conversation_id, job.turn_id), deps)
        return
    except Repeated:
        pass
    except GivenUp as exc:
        end = exc.end
        await deps.dead_letters.add(message, exc.reason)
    await message.ack()
    if end is not None:
        deps.report.ended(end, deps.clock.monotonic() - began)


def _text(request: SpeechRequest, job: Job, deps: Dependencies) -> TurnText:
    if request.text is not None:
        return GivenText(job.conversation_id, job.turn_id, request.text)
    return deps.follow(job.conversation_id, job.turn_id, request.start_sequence)


async def note_cancel(request: CancelRequest, records: RecordsOf, requests: RequestsOf) -> None:
    """A voice that nobody speaks at this moment is found cancelled by who takes it up.

    Raises NatsError.
    """
    if request.turn_id is None:
        return
    turn = request.conversation_id, request.turn_id
    # What nobody ever asked for leaves no record.
    if await requests(*turn).any():
        await records(*turn).amend(record.cancelled)


@dataclass(frozen=True, slots=True)
class KnownVoices:
    """Implements shared.refuse.Turns: a voice is known when somebody has taken it up."""

    records: RecordsOf
    ends: Ends

    async def knows(self, conversation_id: str, turn_id: str) -> bool:
        try:
            return (await self.records(conversation_id, turn_id).load()).value.begun
        except Unreadable:
            return False

    async def fail(
        self, message: Message, conversation_id: str, turn_id: str, error: Failure
    ) -> None:
        failed = AudioFailed(conversation_id, turn_id, 1, error=error.as_error())
        await self.ends.failed(message, failed)
