"""A token ends a wait as Cancelled, and never hides a cancellation of somebody else."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import pytest

from shared.errors import Cancelled, DeadlineExceeded
from shared.process.cancel import CancelToken

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Coroutine


class Waiting:
    """A wait that says when it began and how it ended."""

    def __init__(self) -> None:
        self.began = asyncio.Event()
        self.cancelled = False

    async def for_ever(self) -> str:
        self.began.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        return "never"


async def outcome(work: Coroutine[object, object, object]) -> str:
    """How a task ended, and whether cancellations are left in it."""
    try:
        result = await work
    except Cancelled:
        result = "cancelled by the user"
    except TimeoutError:
        result = "timeout"
    task = asyncio.current_task()
    assert task is not None
    return f"{result}, {task.cancelling()} left"


async def value() -> str:
    return "value"


async def test_what_is_not_stopped_returns_its_value() -> None:
    assert await CancelToken().guard(value()) == "value"


async def test_an_error_of_the_work_passes_through() -> None:
    async def broken() -> None:
        raise LookupError

    with pytest.raises(LookupError):
        await CancelToken().guard(broken())


async def test_a_stop_while_waiting_ends_the_wait() -> None:
    token, waiting = CancelToken(), Waiting()
    task = asyncio.create_task(outcome(token.guard(waiting.for_ever())))
    async with asyncio.timeout(30):
        await waiting.began.wait()
        token.cancel()

        assert await task == "cancelled by the user, 0 left"
    assert waiting.cancelled


async def test_a_stop_before_the_wait_keeps_the_work_from_beginning() -> None:
    token, waiting = CancelToken(), Waiting()
    token.cancel()

    with pytest.raises(Cancelled):
        await token.guard(waiting.for_ever())
    assert not waiting.began.is_set()


async def test_a_stop_before_the_wait_leaves_a_future_alone() -> None:
    token = CancelToken()
    token.cancel()
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    with pytest.raises(Cancelled):
        await token.guard(future)
    assert not future.cancelled()


async def test_a_stop_between_two_waits_is_noticed_by_the_second() -> None:
    token = CancelToken()
    assert await token.guard(value()) == "value"
    token.cancel()

    with pytest.raises(Cancelled):
        await token.guard(value())


async def test_only_the_first_request_counts() -> None:
    token, waiting = CancelToken(), Waiting()
    task = asyncio.create_task(outcome(token.guard(waiting.for_ever())))
    async with asyncio.timeout(30):
        await waiting.began.wait()
        token.cancel(heard_ms=1200)
        token.cancel(heard_ms=5)
        token.cancel()

        assert await task == "cancelled by the user, 0 left"
    assert token.heard_ms == 1200


async def test_every_wait_after_a_stop_is_refused() -> None:
    token = CancelToken()
    token.cancel()
    for _ in range(3):
        with pytest.raises(Cancelled):
            await token.guard(value())
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_a_cancellation_by_somebody_else_passes_through() -> None:
    token, waiting = CancelToken(), Waiting()
    task = asyncio.create_task(outcome(token.guard(waiting.for_ever())))
    async with asyncio.timeout(30):
        await waiting.began.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert task.cancelled()
    assert not token.cancelled


@pytest.mark.parametrize("stop_first", [True, False])
async def test_a_cancellation_by_somebody_else_wins_over_a_stop(*, stop_first: bool) -> None:
    token, waiting = CancelToken(), Waiting()
    task = asyncio.create_task(outcome(token.guard(waiting.for_ever())))
    async with asyncio.timeout(30):
        await waiting.began.wait()
        if stop_first:
            token.cancel()
        task.cancel()
        if not stop_first:
            token.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert task.cancelled()


async def test_work_that_cancels_itself_is_no_stop() -> None:
    async def gives_up() -> None:
        raise asyncio.CancelledError

    async def guarded() -> None:
        await CancelToken().guard(gives_up())

    task = asyncio.create_task(guarded())
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_stop_inside_a_timeout_is_no_timeout() -> None:
    token, waiting = CancelToken(), Waiting()

    async def work() -> str:
        async with asyncio.timeout(60):
            return await token.guard(waiting.for_ever())

    task = asyncio.create_task(outcome(work()))
    async with asyncio.timeout(30):
        await waiting.began.wait()
        token.cancel()

        assert await task == "cancelled by the user, 0 left"


async def test_a_timeout_around_a_guard_is_no_stop() -> None:
    token, waiting = CancelToken(), Waiting()

    async def work() -> str:
        async with asyncio.timeout(0):
            return await token.guard(waiting.for_ever())

    assert await outcome(work()) == "timeout, 0 left"
    assert waiting.cancelled
    assert await token.guard(value()) == "value"


async def test_a_timeout_after_a_stop_still_works() -> None:
    token, waiting = CancelToken(), Waiting()

    async def work() -> str:
        with contextlib.suppress(Cancelled):
            await token.guard(waiting.for_ever())
        async with asyncio.timeout(0):
            await asyncio.Event().wait()
        return "never"

    task = asyncio.create_task(outcome(work()))
    async with asyncio.timeout(30):
        await waiting.began.wait()
        token.cancel()

        assert await task == "timeout, 0 left"


async def test_a_stop_that_the_work_swallows_leaves_nothing_behind() -> None:
    token, began = CancelToken(), asyncio.Event()

    async def deaf() -> str:
        began.set()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        return "went on"

    task = asyncio.create_task(outcome(token.guard(deaf())))
    async with asyncio.timeout(30):
        await began.wait()
        token.cancel()

        assert (await task).endswith(", 0 left")


# ---------------------------------------------------------------- items


class Source:
    """Gives 0, 1, 2 … and then waits for ever; says when it was closed."""

    def __init__(self, count: int, *, ends: bool = False) -> None:
        self.waits = asyncio.Event()
        self.closed = False
        self._count, self._ends = count, ends

    async def items(self) -> AsyncGenerator[int, None]:
        try:
            for number in range(self._count):
                yield number
            self.waits.set()
            if not self._ends:
                await asyncio.Event().wait()
        finally:
            self.closed = True


async def read(items: AsyncIterator[int], into: list[int]) -> str:
    async for item in items:
        into.append(item)  # noqa: PERF401  what came before the end must be kept
    return "end"


async def test_items_come_until_the_source_ends() -> None:
    source = Source(3, ends=True)

    assert [item async for item in CancelToken().items(source.items())] == [0, 1, 2]
    assert source.closed


async def test_a_stop_ends_the_items_and_closes_their_source() -> None:
    token, source = CancelToken(), Source(2)
    got: list[int] = []

    task = asyncio.create_task(outcome(read(token.items(source.items()), got)))
    async with asyncio.timeout(30):
        await source.waits.wait()
        token.cancel()

        assert await task == "cancelled by the user, 0 left"
    assert got == [0, 1]
    assert source.closed


async def test_a_stop_between_two_items_closes_the_source() -> None:
    token, source = CancelToken(), Source(5)
    items = token.items(source.items())
    assert await anext(aiter(items)) == 0
    token.cancel()

    with pytest.raises(Cancelled):
        await anext(aiter(items))
    assert source.closed


async def test_a_stop_before_the_first_item_reads_nothing() -> None:
    token, source = CancelToken(), Source(5)
    token.cancel()

    with pytest.raises(Cancelled):
        await anext(aiter(token.items(source.items())))
    assert not source.waits.is_set()


async def test_an_error_of_the_source_passes_through() -> None:
    async def broken() -> AsyncGenerator[int, None]:
        yield 1
        raise LookupError

    got: list[int] = []
    with pytest.raises(LookupError):
        await read(CancelToken().items(broken()), got)
    assert got == [1]


async def test_a_token_expires_with_the_reason_that_it_is_given() -> None:
    token = CancelToken()
    reason = DeadlineExceeded("it took longer than 0 s")
    with token.deadline(0, reason), pytest.raises(DeadlineExceeded) as caught:
        await token.guard(asyncio.Event().wait())
    assert caught.value is reason
    with pytest.raises(DeadlineExceeded):
        await token.guard(asyncio.sleep(0))


async def test_what_is_done_in_time_does_not_expire() -> None:
    token = CancelToken()
    with token.deadline(0, DeadlineExceeded("late")):
        pass
    await asyncio.sleep(0)
    assert await token.guard(asyncio.sleep(0, "done")) == "done"


async def test_who_was_cancelled_does_not_expire() -> None:
    token = CancelToken()
    token.cancel(7)
    token.expire(DeadlineExceeded("late"))
    with pytest.raises(Cancelled):
        await token.guard(asyncio.sleep(0))
    assert token.heard_ms == 7


async def test_who_is_told_of_a_stop_is_told_once_and_while_it_asks_to_be() -> None:
    token, told = CancelToken(), list[object]()
    with token.tells(told.append):
        token.cancel()
        token.cancel()
    assert [type(reason) for reason in told] == [Cancelled]
    with pytest.raises(Cancelled), token.tells(told.append):
        pytest.fail("it was stopped before")
    later = CancelToken()
    with later.tells(told.append):
        pass
    later.cancel()
    assert len(told) == 1


async def test_who_is_told_of_an_end_is_told_its_reason() -> None:
    token, told = CancelToken(), list[object]()
    late = DeadlineExceeded("late")
    with token.tells(told.append):
        token.expire(late)
    assert told == [late]


async def test_a_guarded_wait_inside_is_ended_itself() -> None:
    token, told = CancelToken(), list[object]()
    waiting = Waiting()
    with token.tells(told.append):
        work = asyncio.ensure_future(outcome(token.guard(waiting.for_ever())))
        await waiting.began.wait()
        token.cancel()
        await work
    assert waiting.cancelled
    assert not told
