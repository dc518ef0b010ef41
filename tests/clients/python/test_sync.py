"""The client without asyncio: a script's own thread asks, another one hears."""

from __future__ import annotations

import asyncio
import inspect
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import parley as p
import pytest
from parley import sync

from tests.clients.python.test_turns import Device, assert_whole

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.system import System

pytestmark = pytest.mark.timeout(120)
in_loop = pytest.mark.asyncio(loop_scope="module")
ENDS_SECONDS = 20.0


async def script(running: System, work: Callable[[sync.Parley], object]) -> None:
    """Run as a script is, in a thread beside the loop in which the emulator lives. The thread that
    hears ends with the client: it is looked for by itself, for others come and go meanwhile."""

    def run() -> list[threading.Thread]:
        before = set(threading.enumerate())
        with sync.Parley.connect(running.nats.url, idle=30) as parley:
            ours = [t for t in threading.enumerate() if t.name == "parley" and t not in before]
            work(parley)
        return ours

    with ThreadPoolExecutor(1, thread_name_prefix="script") as own:
        ours = await asyncio.get_running_loop().run_in_executor(own, run)
    assert len(ours) == 1
    ours[0].join(ENDS_SECONDS)
    assert not ours[0].is_alive()


@in_loop
async def test_a_script_asks_and_listens(running: System, tmp_path: Path) -> None:
    def work(parley: sync.Parley) -> None:
        turn = parley.ask("Hello!")
        assert_whole(list(turn))
        assert turn.text()
        assert turn.save(tmp_path / "a.wav").stat().st_size > 44
        assert turn.position is not None
        assert turn.link().bytes > 44
        assert turn.play(Device()) == turn.heard_ms
        again = parley.follow(turn.conversation_id, turn.turn_id)
        assert_whole(list(again.events()))
        pages = list(parley.history(turn.conversation_id))
        assert [m.turn_id for m in pages[0].messages] == [turn.turn_id] * 2
        assert parley.say("Hello!").voice()
        parley.cancel(turn.conversation_id)
        parley.delete(turn.conversation_id)

    await script(running, work)


@in_loop
async def test_an_iteration_may_be_left(running: System) -> None:
    def work(parley: sync.Parley) -> None:
        turn = parley.ask("Hello!")
        for event in turn:
            if isinstance(event, p.Text):
                break
        turn.cancel(heard_ms=0)
        for event in parley.tail(turn.conversation_id, past=True):
            assert isinstance(event, p.Started)
            break

    await script(running, work)


@in_loop
async def test_an_error_is_raised_where_it_is_waited_for(running: System) -> None:
    def work(parley: sync.Parley) -> None:
        with pytest.raises(p.InvalidRequest):
            parley.ask("Hello!", conversation="a b")
        with pytest.raises(p.ProviderRefused):
            parley.ask("Hello!", model="no/such", speech=False).text()
        with pytest.raises(p.ProviderRefused):
            list(parley.ask("Hello!", model="no/such", speech=False))

    await script(running, work)


def test_a_script_that_reaches_nobody_is_told() -> None:
    with (
        pytest.raises(p.Unreachable),
        sync.Parley.connect("nats://127.0.0.1:1", timeout=0.2),
    ):
        pass


@pytest.mark.parametrize("name", ["Parley", "Turn"])
def test_the_names_are_the_same(name: str) -> None:
    inside = {"follower", "asynchronous", "open"}
    theirs, ours = getattr(p, name), getattr(sync, name)

    missing = {n for n in vars(theirs) if not n.startswith("_")} - set(dir(ours)) - inside
    assert missing == set()
    assert inspect.signature(sync.Parley.ask) == inspect.signature(p.Parley.ask)
