"""Verb: a request is taken from the work queue and dealt with, to its ack.

It is refused, or waits in its conversation, is answered, or ends without a start. Who
raises leaves the message to be delivered again: nothing that was done by then is done twice.
"""

from __future__ import annotations

from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from services.chat import conversation
from services.chat.answer import GivenUp
from services.chat.cancel import cut_to_heard
from services.chat.queue import Move, next_move
from services.chat.request import asked_at, speech_of, understand
from services.chat.turn import Turn, seconds_since
from shared.contract import AudioFailed, CancelRequest, OnBusy, SpeechRequest
from shared.errors import Busy, Cancelled, Full, StorageUnavailable, Unreadable
from shared.refuse import Refused, refuse

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractAsyncContextManager

    from services.chat.held_turns import HeldTurns
    from services.chat.ports import (
        Answering,
        Cancels,
        Clock,
        Conversations,
        Ends,
        Heard,
        Queue,
        QueuePosition,
        Slots,
        Voices,
    )
    from services.chat.queue import Older
    from shared.contract import ChatRequest, Done, Failed
    from shared.errors import Failure
    from shared.process.cancel import CancelToken
    from shared.refuse import DeadLetters, Message, Turns


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """What is let in, and how."""

    max_bytes: int
    max_queued: int  # requests of one conversation that may wait
    speech: bool  # whether a turn is spoken whose request does not say


@dataclass(frozen=True, slots=True, kw_only=True)
class Dependencies:
    conversations: Conversations
    queue: Queue
    slots: Slots
    held: HeldTurns
    cancels: Cancels
    voices: Voices
    heard: Heard
    ends: Ends
    # Held while a turn ends without a start: a flood of them must not crowd out those that run.
    ending: AbstractAsyncContextManager[object]
    turns: Turns
    dead_letters: DeadLetters
    count_refused: Callable[[Failure], None]
    # A turn, and the seconds it ran; 0 for one that never began here.
    count_ended: Callable[[Done | Failed, float], None]
    # A turn that never began here: its conversation ("" if not known), its id, and why.
    trace_unstarted: Callable[[Message, str, str, Failure | Cancelled], None]
    clock: Clock


async def handle(
    message: Message, answer: Answering, admission: Admission, needs: Dependencies
) -> None:
    """Deals with one message and acks it; `answer` is bound to it.

    Raises:
        Superseded: somebody else deals with it.
        NatsError: it has to be delivered again.
    """
    found = understand(message, max_bytes=admission.max_bytes)
    if isinstance(found, Refused):
        await _refuse(message, found, needs)
        return
    await _Handling(message, found, answer, admission, needs).run()


async def hopeless(
    message: Message, error: Failure, admission: Admission, needs: Dependencies
) -> None:
    """A message that fails however often it is delivered: told, kept among the dead, acked.

    Raises NatsError.
    """
    found = understand(message, max_bytes=admission.max_bytes)
    if isinstance(found, Refused):
        await _refuse(message, found, needs)
        return
    ids = str(found.conversation_id), str(found.turn_id)
    await refuse(
        message,
        Refused(error, *ids),
        turns=needs.turns,
        dead_letters=needs.dead_letters,
        count=lambda error: needs.count_ended(Turn(*ids).failed(error.as_error()), 0.0),
    )
    await message.ack()


async def _refuse(message: Message, refused: Refused, needs: Dependencies) -> None:
    await refuse(
        message,
        refused,
        turns=needs.turns,
        dead_letters=needs.dead_letters,
        count=needs.count_refused,
    )
    await message.ack()
    ids = refused.conversation_id or "", refused.turn_id
    needs.trace_unstarted(message, *ids, refused.error)


@dataclass(frozen=True, slots=True)
class _Handling:
    """A request that was understood, on its way."""

    message: Message
    request: ChatRequest
    answer: Answering
    admission: Admission
    needs: Dependencies

    @property
    def conversation_id(self) -> str:
        return str(self.request.conversation_id)

    @property
    def turn_id(self) -> str:
        return str(self.request.turn_id)

    async def run(self) -> None:
        try:
            with self.needs.held.hold(self.conversation_id, self.turn_id) as stop:
                await self._in_its_turn(stop)
        except Unreadable as exc:
            await self._end_unstarted(exc)
        finally:
            self.needs.queue.ended(self.conversation_id)

    async def _in_its_turn(self, stop: CancelToken) -> None:
        waiting = self.needs.queue.position(self.conversation_id, self.message.sequence, stop)
        try:
            async with waiting as position:
                try:
                    is_first = await self._wait(position)
                except Cancelled:
                    await position.older(1)  # a worker that was frozen may have lost it
                    raise
        except (Busy, Cancelled) as exc:
            async with self.needs.ending:
                await self._end_unstarted(exc)
            self.needs.trace_unstarted(self.message, self.conversation_id, self.turn_id, exc)
            return
        if not is_first:
            await self.message.ack()
            return
        async with AsyncExitStack() as slot:
            with suppress(Cancelled):  # who is stopped needs no slot to end
                await stop.guard(slot.enter_async_context(self.needs.slots.slot(self.message)))
            with self.needs.held.run(self.conversation_id, self.turn_id):
                await self._answer(stop)

    async def _wait(self, position: QueuePosition) -> bool:
        """True when it is the oldest one left, False when an older one answers for both.

        Raises:
            Busy: it does not want to wait, or too many wait already.
            Cancelled: it was stopped while it waited.
            Superseded: its message is gone from the queue, so somebody else has dealt with it.
        """
        limit = self.admission.max_queued
        older = await position.older(limit + 1)
        heard = await self._silence(older)
        while True:
            match next_move(older, self.turn_id, self.request.on_busy, limit):
                case Move.START:
                    return True
                case Move.YIELD:
                    return False
                case Move.REJECT:
                    raise Busy("a turn of this conversation is under way")
                case Move.OVERFLOW:
                    raise Busy(f"{limit} requests of this conversation wait already")
                case Move.INTERRUPT:
                    # Each time: nobody may have heard it, and whoever has stopped does not mind.
                    await self._stop(older[0].turn_id, heard)
                case Move.WAIT:
                    pass
            await position.changed()
            older = await position.older(limit + 1)

    async def _silence(self, older: Sequence[Older]) -> str | None:
        """An interruption stops every voice of earlier turns, also where all text is said.

        Returns the turn whose worker keeps what was heard; here that is done of one that has ended.
        """
        if self.request.on_busy is not OnBusy.INTERRUPT:
            return None
        if any(request.turn_id == self.turn_id for request in older):
            return None  # a repeat interrupts nobody, least of all itself
        heard = older[0].turn_id if older else None
        voices = await self.needs.voices.under_way(self.conversation_id)
        # Its own one may be under way: a worker that is dead by now has asked for it.
        earlier = [turn_id for turn_id in voices if turn_id != self.turn_id]
        for turn_id in earlier:
            await self._stop(turn_id, heard)
        if earlier and heard is None and self.request.heard_ms is not None:
            await cut_to_heard(
                self.conversation_id,
                earlier[-1],
                self.request.heard_ms,
                conversations=self.needs.conversations,
                heard=self.needs.heard,
            )
        return heard

    async def _stop(self, turn_id: str, heard: str | None) -> None:
        heard_ms = self.request.heard_ms if turn_id == heard else None
        await self.needs.cancels.send(CancelRequest(self.conversation_id, turn_id, heard_ms))

    async def _answer(self, stop: CancelToken) -> None:
        began = self.needs.clock.monotonic()
        end = None
        try:
            end = await self.answer(self.request, stop)
        except (Busy, StorageUnavailable, Cancelled) as exc:
            await self._end_unstarted(exc)
            return
        except GivenUp as exc:
            end = exc.end
            await self.needs.dead_letters.add(self.message, exc)
        await self.message.ack()
        if end is not None:
            self.needs.count_ended(end, self.needs.clock.monotonic() - began)

    async def _end_unstarted(self, why: Failure | Cancelled) -> None:
        """Refused, or stopped while it waited: an end without a start, and the voice ends too."""
        end = self._end_of_text(why)
        sequence = await self.needs.ends.text(self.message, end)
        voice = self._end_of_voice(why, sequence)
        if voice is not None:
            await self._tell_voice(voice)
        if isinstance(why, Cancelled):  # for good; who was refused may ask again
            with suppress(Full):  # who asks for it again is answered, then
                await self.needs.conversations.amend(
                    self.conversation_id,
                    lambda document: conversation.dropped(document, self.turn_id),
                )
        if isinstance(why, Unreadable):
            await self.needs.dead_letters.add(self.message, why)
        await self.message.ack()
        self.needs.count_ended(end, 0.0)

    async def _tell_voice(self, voice: SpeechRequest | AudioFailed) -> None:
        try:
            await self.needs.ends.voice(self.message, voice)
        except Full as exc:  # nobody else would tell that the voice was never asked for
            error = Busy(f"too many voices wait to be spoken: {exc}").as_error()
            failed = AudioFailed(self.conversation_id, self.turn_id, 1, error=error)
            await self.needs.ends.voice(self.message, failed)

    def _end_of_text(self, why: Failure | Cancelled) -> Done | Failed:
        turn = Turn(self.conversation_id, self.turn_id)
        if isinstance(why, Cancelled):
            waited = seconds_since(asked_at(self.message), self.needs.clock.utc())
            return turn.stopped(self.request.metadata, duration_ms=round(waited * 1000))
        return turn.failed(why.as_error())

    def _end_of_voice(
        self, why: Failure | Cancelled, sequence: int
    ) -> SpeechRequest | AudioFailed | None:
        """`sequence` is that of the end of the text."""
        speech = speech_of(self.request, default=self.admission.speech)
        if speech is None:
            return None
        if isinstance(why, Cancelled):  # the speech worker says what is kept of it: nothing
            ids = self.conversation_id, self.turn_id
            return SpeechRequest(*ids, speech, start_sequence=sequence)
        # A flood of refusals must not become work for the speech workers.
        return AudioFailed(self.conversation_id, self.turn_id, 1, error=why.as_error())


@dataclass(frozen=True, slots=True)
class KnownTurns:
    """Implements shared.refuse.Turns: a turn is known when its conversation's document names it."""

    conversations: Conversations
    ends: Ends

    async def knows(self, conversation_id: str, turn_id: str) -> bool:
        try:
            held = await self.conversations.load(conversation_id)
        except Unreadable:
            return False
        return conversation.knows(held.value, turn_id)

    async def fail(
        self, message: Message, conversation_id: str, turn_id: str, error: Failure
    ) -> None:
        failed = Turn(conversation_id, turn_id).failed(error.as_error())
        await self.ends.text(message, failed)
