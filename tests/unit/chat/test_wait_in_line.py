"""A request waits until it is the oldest of its conversation, or says why it does not."""

from __future__ import annotations

import pytest

from services.chat.ports import Older
from services.chat.wait_in_line import Repeated, wait_in_line
from shared.contract import OnBusy
from shared.errors import Busy, Cancelled, Superseded
from tests.fakes import Queue

EVERY = list(OnBusy)


async def wait(line: Queue, on_busy: OnBusy = OnBusy.QUEUE, most: int = 20) -> None:
    await wait_in_line(line, "me", on_busy, most)


@pytest.mark.parametrize("on_busy", EVERY)
async def test_the_oldest_request_goes_on_at_once(on_busy: OnBusy) -> None:
    line = Queue([])
    await wait(line, on_busy)

    assert line.waits == 0
    assert line.interrupted == []


async def test_a_request_waits_until_all_before_it_are_gone() -> None:
    line = Queue(["a", "b"], ["b"], ["b"], [])
    await wait(line)

    assert line.waits == 3


async def test_a_request_that_does_not_want_to_wait_is_refused() -> None:
    line = Queue(["a"])
    with pytest.raises(Busy):
        await wait(line, OnBusy.REJECT)

    assert line.waits == 0


@pytest.mark.parametrize("on_busy", EVERY)
async def test_a_turn_that_stands_in_the_queue_already_answers_for_both(on_busy: OnBusy) -> None:
    with pytest.raises(Repeated):
        await wait(Queue(["a", "me", "b"]), on_busy)


async def test_as_many_may_wait_as_may_and_no_more() -> None:
    one_runs = ["running"]
    await wait(Queue([*one_runs, *"abc"[:2]], []), most=3)
    with pytest.raises(Busy, match="3 requests"):
        await wait(Queue([*one_runs, *"abc"]), most=3)


async def test_where_none_may_wait_the_second_is_refused() -> None:
    await wait(Queue([]), most=0)
    with pytest.raises(Busy):
        await wait(Queue(["running"]), most=0)


async def test_no_more_is_read_of_a_flood_than_decides() -> None:
    line = Queue([str(n) for n in range(500)])
    with pytest.raises(Busy):
        await wait(line, most=20)

    assert line.limits == [21]


async def test_an_interrupting_request_stops_each_turn_before_it() -> None:
    line = Queue(["a", "b"], ["b"], [])
    await wait(line, OnBusy.INTERRUPT)

    assert list(dict.fromkeys(line.interrupted)) == ["a", "b"]


async def test_a_waiting_request_stops_nobody() -> None:
    line = Queue(["a"], [])
    await wait(line)

    assert line.interrupted == []


@pytest.mark.parametrize("end", [Cancelled(), Superseded()])
async def test_a_request_that_is_stopped_while_it_waits_says_so(end: Exception) -> None:
    class Stopped(Queue):
        async def changed(self) -> None:
            raise end

    with pytest.raises(type(end)):
        await wait(Stopped(["a"]))


async def test_a_request_whose_message_is_gone_leaves_it_to_others() -> None:
    class Gone(Queue):
        async def older(self, limit: int) -> list[Older]:
            raise Superseded

    with pytest.raises(Superseded):
        await wait(Gone([]))
