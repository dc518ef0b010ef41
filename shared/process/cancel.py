"""Asks a piece of work to end early, at its next wait and nowhere else."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, TypeVar

from shared.errors import Cancelled, Failure, ParleyError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator

T = TypeVar("T")


class CancelToken:
    """One for each turn: `cancel` it from anywhere, the work notices inside `guard`."""

    def __init__(self) -> None:
        self.cancelled = False
        self.heard_ms: int | None = None
        self._reason: ParleyError = Cancelled()
        self._task: asyncio.Task[object] | None = None
        self._told: Callable[[ParleyError], None] | None = None

    def cancel(self, heard_ms: int | None = None) -> None:
        """The first call counts; `heard_ms` is how much of the voice was heard."""
        if not self.cancelled:
            self.heard_ms = heard_ms
            self._end()

    def expire(self, reason: Failure) -> None:
        """Its time is over: the work ends with `reason` instead, unless it was cancelled before."""
        if not self.cancelled:
            self._reason = reason
            self._end()

    def _end(self) -> None:
        self.cancelled = True
        if self._task is not None:
            self._task.cancel()
        elif self._told is not None:
            self._told(self._reason)

    @contextlib.contextmanager
    def deadline(self, seconds: float, reason: Failure) -> Iterator[None]:
        """What is done inside expires after so many seconds."""
        timer = asyncio.get_running_loop().call_later(seconds, self.expire, reason)
        try:
            yield
        finally:
            timer.cancel()

    @contextlib.contextmanager
    def tells(self, end: Callable[[ParleyError], None]) -> Iterator[None]:
        """For work of many short waits, each of which would cost a `guard`: `end` is to end the one
        under way, or the next one, with the reason that it is given."""
        self._told = end
        try:
            if self.cancelled:
                raise self._reason
            yield
        finally:
            self._told = None

    async def guard(self, work: Awaitable[T]) -> T:
        """Awaits `work`; raises Cancelled when the token was or is cancelled meanwhile.

        Or the reason for which it has expired.
        """
        if self.cancelled:
            if asyncio.iscoroutine(work):
                work.close()
            raise self._reason
        task = asyncio.current_task()
        self._task = task
        try:
            return await work
        except asyncio.CancelledError:
            # Ours, unless somebody else cancelled the task as well.
            if self.cancelled and task is not None and task.cancelling() == 1:
                raise self._reason from None
            raise
        finally:
            self._task = None
            if self.cancelled and task is not None:
                task.uncancel()  # ours is dealt with, also where the work has swallowed it

    async def items(self, source: AsyncGenerator[T, None]) -> AsyncGenerator[T, None]:
        """What `source` gives, until the token is cancelled: then Cancelled, with it closed."""
        try:
            while True:
                try:
                    item = await self.guard(anext(source))
                except StopAsyncIteration:
                    return
                yield item
        finally:
            await source.aclose()
