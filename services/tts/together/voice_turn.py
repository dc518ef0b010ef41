"""The voice of one turn: waits for its slot and for its audio, and gives it out part by part."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from services.tts.together.socket import NOW
from services.tts.together.turn import Next, State, Turn
from shared.errors import ProviderBroken, ProviderStalled

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from services.tts.ports import Offer, VoiceParams
    from services.tts.together.counts import Count
    from services.tts.together.end_of_audio import Patience
    from services.tts.together.pool import Pool
    from services.tts.together.turn import Part


class TogetherTurn:
    """Implements VoiceTurn."""

    def __init__(
        self,
        params: VoiceParams,
        patience: Patience,
        *,
        pool: Pool,
        count: Count,
        max_waiting: int,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._now = self._loop.time
        self._pool = pool
        self._waiter: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._turn = Turn(
            params,
            pool.profiles.of(params.model),
            patience,
            wake=self._wake,
            count=count,
            max_waiting=max_waiting,
        )

    async def say(self, text: str, offer: Offer | None = None) -> AsyncGenerator[Part, None]:
        """Speak one piece; PCM in whole samples as it arrives, ends when its audio is complete.

        What comes while nothing waits is offered first, in the turn of the loop that reads it.

        Raises:
            ProviderError: the piece may be incomplete; say it again in a new turn of the voice.
        """
        if not text.strip():
            return  # nobody knows what an empty commit does
        turn, kind = self._turn, self._turn.params.kind
        turn.begin(offer)
        try:
            if turn.has_slot and self._pool.wanted(kind):
                turn.finish()
                while (part := await self._next()) is not None:
                    yield part
                turn.release(self._now())
            if not turn.has_slot:
                await self.acquire()
            turn.commit(text, self._now())
            while (part := await self._next()) is not None:
                yield part
            turn.end()
            if self._pool.wanted(kind):
                self._pool.stir(NOW)  # others may have its slot when it has been quiet
        except (ProviderBroken, ProviderStalled):
            turn.doubt_slot()
            raise
        finally:
            if turn.state is not State.READY:
                self.leave()

    async def finish(self, offer: Offer | None = None) -> AsyncGenerator[Part, None]:
        """After the last piece: what is still to come, until it is quiet.

        Raises:
            ProviderError: something of it is missing.
        """
        turn = self._turn
        turn.begin(offer)
        turn.finish()
        try:
            while (part := await self._next()) is not None:
                yield part
            turn.end()
        except (ProviderBroken, ProviderStalled):
            turn.doubt_slot()
            raise
        finally:
            if turn.state is not State.READY:
                self.leave()

    def leave(self) -> None:
        """Stops the audio at once; what still comes goes nowhere."""
        self._turn.leave(self._now())
        self._stop_timer()

    async def acquire(self) -> None:
        """Waits for a slot on a socket.

        Raises:
            ProviderError: there was none in time.
        """
        with self._pool.queued(self._turn, self._now()) as waiter:
            while waiter.outcome() is None:
                await self._wait(None)  # the pool knows its deadline

    async def _next(self) -> Part | None:
        """The next part; None when the piece is complete."""
        turn = self._turn
        while True:
            if (part := turn.take()) is not None:
                return part
            match turn.next(self._now()):
                case Next.COMPLETE:
                    return None
                case Next.WAIT:
                    await self._wait(turn.due)
                case Next.MOVE:
                    turn.move(self._now())
                    await self.acquire()
                    turn.commit_again(self._now())

    async def _wait(self, until: float | None) -> None:
        """Until it is woken, which may be early: who waits looks again.

        A timer that is early stays, since most waits end with a frame, and a timer for each would
        be a tenth of what a frame costs.
        """
        if until is not None and (self._timer is None or self._timer.when() > until):
            self._stop_timer()
            self._timer = self._loop.call_at(until, self._timed_out)
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _timed_out(self) -> None:
        self._timer = None
        self._wake()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
