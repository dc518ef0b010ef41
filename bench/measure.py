"""The cases, each taken in turn: direct, Parley (as of each revision), the rival.

What a case finds is kept as samples by contender and figure, in the units of the table.
"""

from __future__ import annotations

import asyncio
import re
import resource
import statistics
import time
from collections import defaultdict
from typing import TYPE_CHECKING, Any, Final

from bench.client import Wire, latencies, whole
from bench.contenders import Program, cpu
from bench.workload import LONG_REPLY, QUESTION, SHORT_REPLY, chat, speech

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bench.client import Turn
    from bench.contenders import Batch, Parley
    from local.emulator_process import EmulatorProcess

    Samples = dict[str, dict[str, list[float]]]
    Say = Callable[[str], None]

AT_ONCE: Final = (8, 16, 64)
BUSY: Final = 32
STREAMS: Final = 40
TOKENS_A_SECOND: Final = 50.0
CONNECT_MS: Final = 100.0
HISTORIES: Final = (10, 1_000)
ASKS: Final = 5
_FLOOD_SECONDS: Final = 60.0
_NEVER_MS: Final = 600_000.0
_LOOK_SECONDS: Final = 0.05


class Bench:
    """Everything that is measured in one run."""

    def __init__(
        self,
        emulator: EmulatorProcess,
        parleys: Sequence[Parley],
        direct: Program,
        rival: Program | None,
        *,
        quick: bool,
        two_replicas: bool,
        say: Say,
    ) -> None:
        self._emulator, self._direct, self._rival, self._say = emulator, direct, rival, say
        self._parleys = list(parleys)
        self._quick = quick
        self._has_cores_for_two = two_replicas
        self.samples: Samples = defaultdict(lambda: defaultdict(list))

    def _keep(self, name: str, figure: str, values: Sequence[float]) -> None:
        self.samples[name][figure].extend(values)

    async def _script(self, **script: Any) -> None:
        await self._emulator.change({"connect_ms": 0.0, **script})
        await self._emulator.clear_record()

    async def round(self) -> None:
        for case in (
            self._start,
            self._one,
            self._several,
            self._busy,
            self._long_voice,
            self._one_stream,
            self._streams,
            self._history,
            self._far_away,
            self._replicas,
            self._flood,
        ):
            self._say((case.__doc__ or "").partition("\n")[0])
            await case()
        self._parleys.append(self._parleys.pop(0))  # nobody is always the first

    # ------------------------------------------------------------ the cases

    async def _start(self) -> None:
        """start to ready"""
        await self._script(chat=chat(), speech=speech())
        for parley in self._parleys:
            for service, seconds in (await parley.serve()).items():
                self._keep(parley.name, f"start_{service}", [seconds])
        for parley in self._parleys:
            await parley.turns(2)  # makes its connections

    async def _one(self) -> None:
        """one conversation"""
        await self._script(chat=chat(), speech=speech())
        for _ in range(3):
            for program in self._programs():
                await self._emulator.clear_record()
                batch = await program.turns(1)
                self._turned(program.name, 1, batch)
            for parley in self._parleys:
                await self._emulator.clear_record()
                (turn,) = await parley.asked(1)
                self._keep(parley.name, "first_sound_1", [turn.first_audio * 1000])
                self._keep(parley.name, "whole_1", [turn.whole * 1000])
                self._keep(parley.name, "frame", await self._frames(turn))

    async def _frames(self, turn: Turn) -> list[float]:
        """Milliseconds from the provider's wire to the subscriber, for each frame of a turn."""
        commits = (await self._emulator.record())["commits"]
        sent = [(at, size) for commit in commits for at, size in commit["wire"]]
        return [seconds * 1000 for seconds in latencies(sent, turn.chunks)]

    async def _several(self) -> None:
        """8, 16 and 64 conversations at once"""
        await self._script(chat=chat(), speech=speech())
        for at_once in AT_ONCE:
            for contender in self._contenders():
                self._turned(contender.name, at_once, await self._weighed(contender, at_once))
        for parley in self._parleys:
            for figure in ("memory", "peak"):
                of = self.samples[parley.name]
                few, many = (of[f"{figure}_mb_{at_once}"][-1] for at_once in AT_ONCE[-2:])
                more = (many - few) / (AT_ONCE[-1] - AT_ONCE[-2])
                self._keep(parley.name, figure, [more])

    async def _weighed(self, contender: Program | Parley, at_once: int) -> Batch:
        """The turns; what memory ours have while they run, half of the time at least."""
        turning = asyncio.create_task(contender.turns(at_once, at_once))
        if isinstance(contender, Program):
            return await turning
        seen = []
        while not turning.done():
            await asyncio.wait({turning}, timeout=_LOOK_SECONDS)
            seen.append(contender.memory_mb())
        self._keep(contender.name, f"memory_mb_{at_once}", [statistics.median(seen)])
        self._keep(contender.name, f"peak_mb_{at_once}", [contender.memory_mb("VmHWM")])
        return turning.result()

    async def _busy(self) -> None:
        """32 conversations at once, 4 s of audio"""
        await self._script(chat=chat(), speech=speech())
        await self._spent("4", turns=BUSY if self._quick else 2 * BUSY)

    async def _long_voice(self) -> None:
        """32 conversations at once, 20 s of audio"""
        await self._script(chat=chat(), speech=speech(20))
        await self._spent("20", turns=BUSY)

    async def _spent(self, audio: str, turns: int) -> None:
        """The processor that turns take: of each process of ours, and of the measuring."""
        for parley in self._parleys:
            before, others = parley.cpu(), self._others()
            batch = await parley.turns(turns, BUSY)
            for process, seconds in parley.cpu().items():
                used = (seconds - before[process]) * 1000 / turns
                self._keep(parley.name, f"cpu_{process}_{audio}", [used])
            for process, seconds in self._others().items():
                used = (seconds - others[process]) * 1000 / turns
                self._keep(parley.name, f"cpu_{process}_{audio}", [used])
            if audio == "4":
                self._turned(parley.name, BUSY, batch)
        for program in self._programs():
            batch = await program.turns(BUSY, BUSY)
            self._keep(program.name, f"cpu_{audio}", [batch.cpu * 1000 / BUSY])
            if audio == "4":
                self._turned(program.name, BUSY, batch)

    def _others(self) -> dict[str, float]:
        used = resource.getrusage(resource.RUSAGE_SELF)
        return {"client": used.ru_utime + used.ru_stime, "emulator": cpu(self._emulator.pid)}

    async def _one_stream(self) -> None:
        """one stream of 50 tokens/s, text only"""
        await self._fast_tokens()
        for parley in self._parleys:
            (found,) = await self._streamed(parley, 1)
            self._keep(parley.name, "token_1", found)

    async def _streams(self) -> None:
        """40 streams of 50 tokens/s, text only"""
        await self._fast_tokens()
        for parley in self._parleys:
            for found in await self._streamed(parley, STREAMS):
                self._keep(parley.name, "token_40", found)

    async def _fast_tokens(self) -> None:
        await self._script(chat=chat(replies=[LONG_REPLY], tokens_per_second=TOKENS_A_SECOND))

    async def _streamed(self, parley: Parley, streams: int) -> list[list[float]]:
        """Milliseconds from the wire to the subscriber, while all streams are under way.

        They begin one after the other, so that their tokens do not come all at once.
        """
        pause = (1 + 1 / streams) / TOKENS_A_SECOND
        turns: dict[str, Turn] = {}
        for number in range(streams):
            marker = f"stream {parley.name} {number} of {streams}."
            turns[marker] = parley.client.ask(content=marker, speech=False)
            await asyncio.sleep(pause)
        for turn in turns.values():
            await whole(turn)
        calls = {call["messages"][-1]["content"]: call for call in await self._chats()}
        wires = {marker: calls[marker]["wire"] for marker in turns}
        all_run = (
            max(wire[0][0] for wire in wires.values()),
            min(wire[-1][0] for wire in wires.values()),
        )
        found = [
            latencies(wires[marker], turn.text_arrivals(), all_run)
            for marker, turn in turns.items()
        ]
        return [[seconds * 1000 for seconds in each] for each in found]

    async def _chats(self) -> list[dict[str, Any]]:
        chats: list[dict[str, Any]] = (await self._emulator.record())["chats"]
        return chats

    async def _history(self) -> None:
        """the first word after 10 and after 1,000 messages, text only"""
        await self._script(
            chat=chat(replies=[SHORT_REPLY], first_token_ms=20.0, tokens_per_second=0.0)
        )
        for parley in self._parleys:
            names = {count: f"history-{time.monotonic_ns()}-{count}" for count in HISTORIES}
            for count, name in names.items():
                messages = [_message(number) for number in range(count)]
                await parley.client.turn(name, messages=messages, history="replace", speech=False)
            for _ in range(ASKS):
                for count, name in names.items():
                    await self._emulator.clear_record()
                    turn = await parley.client.turn(name, content=QUESTION, speech=False)
                    (call,) = await self._chats()
                    at_provider = call["wire"][0][0] - call["at"]
                    added = (turn.first_text - at_provider) * 1000
                    self._keep(parley.name, f"first_word_{count}", [added])

    async def _far_away(self) -> None:
        """connects of 100 ms"""
        await self._script(chat=chat(), speech=speech(), connect_ms=CONNECT_MS)
        for _ in range(2):
            example = await self._direct.turns(1, mode="example")
            self._keep(self._direct.name, "example", _ms(example.first_audio))
            for parley in self._parleys:
                batch = await parley.turns(1)
                self._keep(parley.name, "first_sound_far", _ms(batch.first_audio))

    async def _replicas(self) -> None:
        """two replicas of each service against one"""
        if not self._has_cores_for_two:
            return
        await self._script(chat=chat(tokens_per_second=0.0), speech=speech())
        for parley in self._parleys:
            alone = await self._turns_a_second(parley)
            await parley.another()
            await parley.turns(2 * BUSY, BUSY)  # its connections are made
            together = await self._turns_a_second(parley)
            self._keep(parley.name, "replicas", [together / alone])

    async def _turns_a_second(self, parley: Parley) -> float:
        """More at once than one replica can do."""
        began = time.monotonic()
        await asyncio.gather(*(parley.turns(2 * ASKS) for _ in range(4 * BUSY)))
        return 4 * BUSY * 2 * ASKS / (time.monotonic() - began)

    async def _flood(self) -> None:
        """requests accepted on chat.request, in order; the services end with it"""
        await self._script(chat=chat(first_token_ms=_NEVER_MS))
        for parley in self._parleys:
            rate = await accepted(parley, 1_000 if self._quick else 3_000)
            self._keep(parley.name, "accepted", [rate])
            await parley.kill()

    # ------------------------------------------------------------ who takes part

    def _programs(self) -> list[Program]:
        return [self._direct] if self._rival is None else [self._direct, self._rival]

    def _contenders(self) -> list[Program | Parley]:
        return [*self._programs(), *self._parleys]

    def _turned(self, name: str, at_once: int, batch: Batch) -> None:
        self._keep(name, f"first_sound_{at_once}", _ms(batch.first_audio))
        self._keep(name, f"whole_{at_once}", _ms(batch.whole))
        self._keep(name, f"heard_{at_once}", batch.bytes)


async def accepted(parley: Parley, count: int) -> float:
    """Requests a second that go from `chat.request` to their conversations, in order.

    All of them are published at once; the time ends with the last that was handed on.
    """
    handed: list[int] = []
    came = asyncio.Event()
    last = 0.0

    def take(_subject: bytes, _head: bytes, body: bytes, now: float) -> None:
        nonlocal last
        found = re.search(rb'"content":\s*"flood (\d+)"', body)
        assert found is not None
        handed.append(int(found.group(1)))
        last = now
        if len(handed) == count:
            came.set()

    wire = await Wire.connect(parley.nats.url, take)
    wire.send(b"SUB chat.request.* 1\r\n")
    await wire.flush()
    bodies = (b'{"content":"flood %d","speech":false}' % number for number in range(count))
    flood = b"".join(b"PUB chat.request %d\r\n%s\r\n" % (len(body), body) for body in bodies)
    began = time.monotonic()
    wire.send(flood)
    try:
        async with asyncio.timeout(_FLOOD_SECONDS):
            await came.wait()
    finally:
        wire.close()
    if handed != sorted(handed):
        raise SystemExit("requests were handed on out of order")
    return count / (last - began)


def _message(number: int) -> dict[str, str]:
    role = "user" if number % 2 else "assistant"  # the last one is the user's
    return {"role": role, "content": f"This is message number {number}, as long as most are said."}


def _ms(seconds: Sequence[float]) -> list[float]:
    return [each * 1000 for each in seconds]
