"""Asks a piece of work to end early, at its next wait and nowhere else."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

from shared.errors import Cancelled

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable

T = TypeVar("T")


class CancelToken:
    """One for each turn: `cancel` it from anywhere, the work notices inside `guard`."""

    def __init__(self) -> None:
        self.cancelled = False
        self.heard_ms: int | None = None
        self._task: asyncio.Task[object] | None = None

    def cancel(self, heard_ms: int | None = None) -> None:
        """The first call counts; `heard_ms` is how much of the voice was heard."""
        if self.cancelled:
            return
        self.cancelled = True
        self.heard_ms = heard_ms
        if self._task is not None:
            self._task.cancel()

    async def guard(self, work: Awaitable[T]) -> T:
        """Awaits `work`; raises Cancelled when the token was or is cancelled meanwhile."""
        if self.cancelled:
            if asyncio.iscoroutine(work):
                work.close()
            raise Cancelled
        task = asyncio.current_task()
        self._task = task
        try:
            return await work
        except asyncio.CancelledError:
            # Ours, unless somebody else cancelled the task as well.
            if self.cancelled and task is not None and task.cancelling() == 1:
                raise Cancelled from None
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
