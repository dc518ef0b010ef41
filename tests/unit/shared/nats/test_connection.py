"""What nats-py does, in words of ours."""

from __future__ import annotations

import asyncio

import pytest

from shared.nats.connection import translated


async def test_a_cancel_that_comes_together_with_the_answer_is_not_forgotten() -> None:
    answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    waiting = asyncio.Event()

    async def ask() -> str:
        waiting.set()
        return await asyncio.wait_for(answer, 5)

    asking = asyncio.create_task(translated(ask(), "a request"))
    await waiting.wait()
    answer.set_result("yes")
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking


async def test_an_answer_in_a_task_that_was_cancelled_before_is_given() -> None:
    """As to a worker that hands its message back while it is being stopped."""

    async def work() -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return await translated(asyncio.sleep(0, "handed back"), "a request")
        return ""

    working = asyncio.create_task(work())
    await asyncio.sleep(0)
    working.cancel()

    assert await working == "handed back"
