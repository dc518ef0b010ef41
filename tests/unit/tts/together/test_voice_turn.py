"""What waits for a slot and for audio: an event loop, and a connection that goes nowhere."""

from __future__ import annotations

import asyncio
import itertools
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import pytest

from services.tts.ports import VoiceParams
from services.tts.together.end_of_audio import Patience
from services.tts.together.pool import Limits, Pool
from services.tts.together.profile import SINGLE_PROVEN_BY
from services.tts.together.turn import SocketLost
from services.tts.together.voice_turn import TogetherTurn
from shared.errors import ProviderBroken, ProviderOverloaded, ProviderStalled
from tests.fakes_together import SAMPLES, SESSION, Counts, FakeWire, audio, cancelled, done

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from services.tts.together.socket import Socket
    from services.tts.together.turn import Part

pytestmark = pytest.mark.timeout(120)

PARAMS = VoiceParams(model="m", voice="v")


@dataclass
class Rig:
    """A pool whose sockets open at once, on wires that the test speaks for."""

    patience: Patience = field(default_factory=Patience)
    limits: Limits = field(default_factory=lambda: Limits(sockets=1))
    counts: Counts = field(default_factory=Counts)

    def __post_init__(self) -> None:
        self.now = asyncio.get_running_loop().time
        self.wires: dict[Socket, FakeWire] = {}
        self.contexts = itertools.count(1)
        self.pool = Pool(
            ahead=PARAMS,
            limits=self.limits,
            connect=self.connect,
            stir=self.stir,
            new_context=lambda: f"c{next(self.contexts)}",
            uniform=lambda low, _: low,
            count=self.counts,
        )
        self.pool.profiles.of("m").single[True] = SINGLE_PROVEN_BY  # a `done` is the end at once
        self.pool.tick(self.now())

    def connect(self, socket: Socket) -> None:
        wire = self.wires[socket] = FakeWire(heard=self.now())
        socket.greet(SESSION, wire, self.now())

    def stir(self, _at: float) -> None:
        asyncio.get_running_loop().call_soon(lambda: self.pool.tick(self.now()))

    @property
    def socket(self) -> Socket:
        return self.pool.sockets[-1]

    def turn(self) -> TogetherTurn:
        return TogetherTurn(
            PARAMS,
            self.patience,
            pool=self.pool,
            count=self.counts,
            max_waiting=1_000_000,
        )

    async def committed(self, count: int = 1) -> str:
        """The context of the last of so many pieces."""
        await until(lambda: len(self.commits()) >= count)
        return self.commits()[-1]

    def commits(self) -> list[str]:
        wires = self.wires.values()
        return [f["context_id"] for wire in wires for f in wire.of("input_text_buffer.commit")]

    def receive(self, *frames: str) -> None:
        for frame in frames:
            self.socket.receive(frame, self.now())


async def until(condition: Callable[[], bool]) -> None:
    """Lets the others run until this holds."""
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - nobody sets an event for what a wire records
            await asyncio.sleep(0)


async def all_of(turn: TogetherTurn, text: str = "One.") -> list[Part]:
    return [part async for part in turn.say(text)]


async def test_audio_is_given_out_as_it_comes_and_together_what_came_together() -> None:
    rig, got = Rig(), []
    turn = rig.turn()
    await turn.acquire()
    async with aclosing(turn.say("One.")) as parts, asyncio.TaskGroup() as tasks:
        first = tasks.create_task(anext(parts))
        context = await rig.committed()
        rig.receive(audio(context))
        got.append(await first)
        rig.receive(audio(context), audio(context))
        got.append(await anext(parts))
        rest = tasks.create_task(anext(parts, None))
        await asyncio.sleep(0)
        assert not rest.done()
        rig.receive(done(context))
    assert got == [SAMPLES, SAMPLES * 2]
    assert rest.result() is None


async def test_audio_is_offered_where_it_comes_and_given_out_where_it_is_not_taken() -> None:
    rig, offered = Rig(), list[bytes]()

    def offer(audio: bytes) -> bool:
        offered.append(audio)
        return len(offered) != 2

    turn = rig.turn()
    await turn.acquire()
    said = asyncio.create_task(_collected(turn.say("One.", offer)))
    context = await rig.committed()
    rig.receive(audio(context))
    assert offered == [SAMPLES]
    rig.receive(audio(context), audio(context))  # the third waits behind the second
    await until(lambda: len(offered) == 2)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    rig.receive(audio(context))
    rig.receive(done(context))
    assert await said == [SAMPLES * 2]
    assert len(offered) == 3


async def test_what_offering_audio_raises_reaches_the_consumer_and_no_other_turn() -> None:
    rig = Rig()

    def offer(_audio: bytes) -> bool:
        raise OSError("no room on the disk")

    first, second = rig.turn(), rig.turn()
    rig.pool.profiles.of("m").named = True
    await first.acquire()
    said = asyncio.create_task(_collected(first.say("One.", offer)))
    context = await rig.committed()
    rig.receive(audio(context), audio(context))
    with pytest.raises(OSError, match="no room"):
        await said
    await second.acquire()
    other = asyncio.create_task(_collected(second.say("Two.")))
    rig.receive(audio(context := await rig.committed(2)), done(context))
    assert await other == [SAMPLES]


async def test_nothing_is_offered_between_two_pieces() -> None:
    rig, offered = Rig(), list[bytes]()
    turn = rig.turn()
    await turn.acquire()

    def offer(audio: bytes) -> bool:
        offered.append(audio)
        return True

    said = asyncio.create_task(_collected(turn.say("One.", offer)))
    context = await rig.committed()
    rig.receive(audio(context), done(context))
    assert await said == []
    rig.receive(audio(context, item="late"))
    assert offered == [SAMPLES]
    again = asyncio.create_task(_collected(turn.say("Two.")))
    await rig.committed(2)
    rig.receive(audio(context, item="j"), done(context, item="late"), done(context, item="j"))
    assert b"".join(part for part in await again if isinstance(part, bytes)) == SAMPLES * 2


async def _collected(parts: AsyncGenerator[Part, None]) -> list[Part]:
    return [part async for part in parts]


async def test_nothing_to_say_is_not_said() -> None:
    rig = Rig()
    turn = rig.turn()
    await turn.acquire()
    assert await all_of(turn, " \n") == []
    assert [part async for part in turn.finish()] == []
    assert not rig.commits()


async def test_no_audio_in_time_is_a_stall_and_the_turn_is_left() -> None:
    rig = Rig(Patience(first_audio=0.05))
    turn = rig.turn()
    await turn.acquire()
    with pytest.raises(ProviderStalled):
        await all_of(turn)
    assert not rig.socket.turns
    with pytest.raises(ProviderBroken):
        await all_of(turn)


async def test_a_timer_that_is_early_ends_nothing() -> None:
    rig = Rig(Patience(first_audio=0.4, audio=0.4))
    turn = rig.turn()
    await turn.acquire()
    speaking = asyncio.create_task(all_of(turn))
    context = await rig.committed()
    for _ in range(6):  # longer than any one wait may take
        await asyncio.sleep(0.1)
        rig.receive(audio(context))
    rig.receive(done(context))
    assert await speaking == [SAMPLES] * 6


async def test_a_consumer_that_stops_stops_the_audio() -> None:
    rig = Rig()
    turn = rig.turn()
    await turn.acquire()
    speaking = asyncio.create_task(all_of(turn))
    wire = rig.wires[rig.socket]
    context = await rig.committed()
    speaking.cancel()
    await asyncio.wait([speaking])
    assert [frame["context_id"] for frame in wire.of("context.cancel")] == [context]


async def test_a_piece_of_which_nothing_was_heard_is_said_again_elsewhere() -> None:
    rig = Rig()
    turn = rig.turn()
    await turn.acquire()
    speaking = asyncio.create_task(all_of(turn))
    await rig.committed()
    first = rig.socket
    first.served = True
    rig.pool.ended(first, SocketLost("gone"), rig.now())
    context = await rig.committed(2)
    assert rig.socket is not first
    rig.receive(audio(context), done(context))
    assert await speaking == [SAMPLES]


async def test_without_a_slot_in_time_there_is_no_turn() -> None:
    rig = Rig(limits=Limits(sockets=1, contexts=1, slot_timeout=0.0))
    first, second = rig.turn(), rig.turn()
    await first.acquire()
    rig.pool.tick(rig.now())
    with pytest.raises(ProviderOverloaded):
        await second.acquire()
    assert not rig.pool.waiters


async def test_who_waits_is_served_between_two_pieces_of_another() -> None:
    quick = replace(Patience(), quiet_min=0.01)
    rig = Rig(quick, Limits(sockets=1, contexts=1))
    first, second = rig.turn(), rig.turn()
    await first.acquire()
    one = asyncio.create_task(all_of(first))
    context = await rig.committed(1)
    rig.receive(audio(context), done(context))
    await one
    waiting = asyncio.create_task(second.acquire())
    await asyncio.sleep(0)
    two = asyncio.create_task(all_of(first, "Two."))  # what is quiet gives its slot first
    wire = rig.wires[rig.socket]
    await until(lambda: wire.of("context.cancel") != [])
    rig.receive(cancelled(context))
    await waiting
    assert len(rig.commits()) == 1
    second.leave()
    rig.receive(cancelled(None))
    context = await rig.committed(2)
    rig.receive(audio(context), done(context))
    assert await two == [SAMPLES]
