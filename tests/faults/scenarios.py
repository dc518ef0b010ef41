"""One run: turns under way, something dies, freezes or misbehaves, all is healed, all must hold."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shared.process.failpoints import POINTS
from tests.faults.invariants import Asked, check

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from local.service import Service
    from tests.system import System

LEASE = 6.0
HEALED_WITHIN = 60.0

SCRIPT: dict[str, Any] = {
    "chat": {"first_token_ms": 40, "tokens_per_second": 120},
    "speech": {"realtime_factor": 40, "first_audio_ms": 30, "char_samples": 400},
}
SETTINGS = {
    # Shorter than the defaults, so that a run ends; the same code waits.
    "CHAT_FIRST_TOKEN_TIMEOUT": "3",
    "CHAT_TOKEN_TIMEOUT": "2",
    "TTS_FIRST_AUDIO_TIMEOUT": "3",
    "TTS_AUDIO_TIMEOUT": "2",
    "MINIO_PATIENCE": "3",
}
FAULTS: tuple[dict[str, Any], ...] = (
    {"kind": "chat.status", "status": 429, "retry_after": 0.2},
    {"kind": "chat.status", "status": 503},
    {"kind": "chat.status", "status": 500},
    {"kind": "chat.cut", "after": 5},
    {"kind": "chat.unfinished", "after": 7},
    {"kind": "chat.error", "after": 4},
    {"kind": "chat.garbage", "after": 3},
    {"kind": "chat.stall", "after": 6},
    {"kind": "chat.silent"},
    {"kind": "speech.abort", "after": 2},
    {"kind": "speech.close", "after": 3},
    {"kind": "speech.dead", "after": 2},
    {"kind": "speech.stall", "after": 1},
    {"kind": "speech.no_audio"},
    {"kind": "speech.no_done"},
    {"kind": "speech.two_dones"},
    {"kind": "speech.failed", "after": 1},
    {"kind": "speech.error", "after": 1},
    {"kind": "speech.garbage", "after": 2},
    {"kind": "speech.unknown"},
    {"kind": "socket.refuse", "status": 503},
)


@dataclass(slots=True)
class Run:
    """The turns of one run, on a system that has lived through the runs before."""

    system: System
    dice: random.Random
    asked: list[Asked] = field(default_factory=list)

    async def ask(self, conversations: int = 3, turns: int = 2, *, voice: bool = True) -> None:
        names = [
            f"c{uuid.UUID(int=self.dice.getrandbits(128)).hex[:8]}" for _ in range(conversations)
        ]
        for _ in range(turns):
            for name in names:
                await self.ask_one(name, voice=voice)

    async def ask_one(self, conversation_id: str, *, voice: bool = True) -> None:
        mark = "q" + "".join(self.dice.choice("bcdfghjklmnp") for _ in range(7))
        answer = (
            f"{mark.title()} is what you asked, {mark}. A second {mark} sentence follows here. "
            f"And the third {mark} one is the last."
        )
        answers = {**self.system.emulator.script.chat.answers, f"{mark} ": answer}
        self.system.emulator.change({"chat": {"answers": answers}})
        one = Asked(
            turn_id=f"t-{mark}",
            conversation_id=conversation_id,
            content=f"{mark} please tell me",
            voice=voice,
        )
        request: dict[str, Any] = {
            "turn_id": one.turn_id,
            "conversation_id": conversation_id,
            "content": one.content,
        }
        if not voice:
            request["speech"] = False
        await self.publish(request)
        self.asked.append(one)

    async def publish(self, request: dict[str, Any]) -> None:
        """Until it is acked, with the same id: as a careful client does."""
        until = time.monotonic() + HEALED_WITHIN
        headers = {"Nats-Msg-Id": request["turn_id"]}
        while True:
            try:
                await self.system.client.jetstream().publish(
                    "chat.request", json.dumps(request).encode(), headers=headers, timeout=2
                )
            except Exception:  # noqa: BLE001  whatever it is, NATS is away: once more
                assert time.monotonic() < until, "NATS took no request for too long"
                await asyncio.sleep(0.1)
            else:
                return

    async def under_way(self) -> None:
        """Waits for a moment in the middle of the turns, another one in each run."""
        await asyncio.sleep(self.dice.uniform(0.0, 1.2))

    async def healed(self) -> None:
        """Everything asked has ended, as the streams tell; then all must hold."""
        await self.emptied()
        await check(self.system, self.asked)

    async def emptied(self) -> None:
        """No request is left in the queues, as their streams tell."""
        system, until = self.system, time.monotonic() + HEALED_WITHIN
        js = system.client.jetstream()
        waiting = {"CHAT_REQUESTS", "TTS_REQUESTS"}
        while waiting:
            assert time.monotonic() < until, f"not healed within {HEALED_WITHIN:g} s: {waiting}"
            await asyncio.sleep(0.1)
            try:
                for stream in ("CHAT_REQUESTS", "TTS_REQUESTS"):
                    if (await js.stream_info(stream)).state.messages:
                        waiting.add(stream)
                    else:
                        waiting.discard(stream)
            except Exception:  # noqa: BLE001  NATS is away; the deadline above decides
                waiting = {"CHAT_REQUESTS", "TTS_REQUESTS"}


def _of(system: System, name: str) -> list[Service]:
    return [s for s in system.services if s.name == name and s.running]


def frozen(service: Service) -> bool:
    stat = Path(f"/proc/{service.pid}/stat").read_text()
    return stat.rpartition(")")[2].split()[0] == "T"


async def _until(condition: Callable[[], bool], seconds: float, what: str) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, f"{what} did not happen within {seconds:g} s"
        await asyncio.sleep(0.02)


async def _replace_by_armed(run: Run, name: str, point: str, end: str) -> Service:
    """The only replica of its kind is one that will die or freeze at that point."""
    for old in _of(run.system, name):
        old.signal(signal.SIGTERM)
        assert await old.ended() == 0, "I10: SIGTERM"
    armed = run.system.add(name, PARLEY_FAILPOINTS=f"{point}={end}")
    await armed.ready()
    return armed


async def killed_at_a_point(run: Run, point: str | None = None) -> None:
    """SIGKILL between two steps of the protocol; another worker takes over."""
    place = point or run.dice.choice(POINTS)
    name = "tts" if place.startswith("tts.") else "chat"
    armed = await _replace_by_armed(run, name, _nth(run, place), "kill")
    await run.ask(2, 2)
    await _until(lambda: not armed.running, 20, f"death at {place}")
    await run.system.add(name).ready()
    await run.healed()


async def frozen_at_a_point(run: Run, point: str | None = None) -> None:
    """SIGSTOP for longer than the lease; the frozen worker wakes when all is over."""
    place = point or run.dice.choice(POINTS)
    name = "tts" if place.startswith("tts.") else "chat"
    armed = await _replace_by_armed(run, name, _nth(run, place), "stop")
    await run.ask(2, 1)
    await _until(lambda: frozen(armed), 20, f"freezing at {place}")
    await run.system.add(name).ready()
    await run.healed()
    armed.signal(signal.SIGCONT)
    # Long enough for whatever it still wants to say.
    await asyncio.sleep(2)
    await check(run.system, run.asked)
    armed.signal(signal.SIGTERM)
    assert await armed.ended() == 0, "I10: SIGTERM after a freeze"


def _nth(run: Run, place: str) -> str:
    """Chunks and texts come many times: any of the first few."""
    several = {"chat.text": 12, "tts.chunk": 8, "tts.piece": 3, "tts.piece_done": 3}
    return f"{place}:{run.dice.randint(1, several.get(place, 1))}"


async def killed_at_random(run: Run) -> None:
    """Whoever it hits, two or three times, each replaced a little later."""
    await run.ask(3, 2)
    for _ in range(run.dice.randint(2, 3)):
        await run.under_way()
        victims = [s for s in run.system.services if s.running]
        victim = run.dice.choice(victims)
        await victim.kill()
        await run.system.add(victim.name).ready()
    await run.healed()


async def frozen_at_random(run: Run) -> None:
    """SIGSTOP at any instant, for longer than the lease, beside a healthy replica."""
    name = run.dice.choice(["chat", "tts"])
    await run.system.add(name).ready()
    await run.ask(3, 1)
    await run.under_way()
    victim = run.dice.choice(_of(run.system, name))
    victim.signal(signal.SIGSTOP)
    await asyncio.sleep(LEASE + run.dice.uniform(1, 3))
    victim.signal(signal.SIGCONT)
    await run.healed()
    await one_of_each(run)


async def nats_killed(run: Run) -> None:
    """kill -9 and a restart on the same data, in the middle of turns."""
    await run.ask(3, 1)
    await run.under_way()
    await run.system.nats.kill()
    await asyncio.sleep(run.dice.uniform(0.0, 2.0))
    await run.system.nats.restart()
    await run.ask(1, 1)
    await run.healed()


async def store_killed(run: Run) -> None:
    """The object store is away for a while."""
    await run.system.s3.kill()
    await run.ask(2, 1)
    await asyncio.sleep(run.dice.uniform(1, 4))
    await run.system.s3.restart()
    await run.healed()


async def store_frozen(run: Run) -> None:
    """The object store takes connections and answers nothing."""
    await run.ask(2, 1)
    run.system.s3.freeze()
    try:
        await asyncio.sleep(run.dice.uniform(1, 5))
    finally:
        run.system.s3.thaw()
    await run.healed()


async def provider_misbehaves(run: Run, fault: dict[str, Any] | None = None) -> None:
    """One to three faults of the provider's whole list."""
    faults = [fault] if fault else run.dice.sample(FAULTS, run.dice.randint(1, 3))
    run.system.emulator.change(
        {"faults": [{"times": run.dice.randint(1, 2), **one} for one in faults]}
    )
    await run.ask(2, 2)
    await run.healed()
    run.system.emulator.change({"faults": []})


async def rolled(run: Run) -> None:
    """A deployment in the middle of turns: new ones first, then SIGTERM for the old."""
    old = [s for s in run.system.services if s.running]
    await run.ask(3, 2)
    await run.under_way()
    await asyncio.gather(*(run.system.add(s.name).ready() for s in old))
    for service in old:
        service.signal(signal.SIGTERM)
    assert [await s.ended(110) for s in old] == [0] * len(old), "I10: SIGTERM"
    await run.healed()


async def one_of_each(run: Run) -> None:
    """Back to one replica of each, so that a run does not depend on the ones before."""
    for name in ("chat", "tts"):
        running = _of(run.system, name)
        for extra in running[1:]:
            extra.signal(signal.SIGTERM)
            assert await extra.ended() == 0, "I10: SIGTERM"
        if not running:
            await run.system.add(name).ready()


SCENARIOS: tuple[Callable[[Run], Awaitable[None]], ...] = (
    killed_at_a_point,
    killed_at_a_point,
    frozen_at_a_point,
    killed_at_random,
    frozen_at_random,
    nats_killed,
    store_killed,
    store_frozen,
    provider_misbehaves,
    provider_misbehaves,
    rolled,
)


async def run_seed(system: System, seed: int) -> str:
    """One run, chosen and driven by its seed; returns the scenario's name."""
    dice = random.Random(seed)
    scenario = SCENARIOS[seed % len(SCENARIOS)]
    run = Run(system, dice)
    await one_of_each(run)
    await scenario(run)
    await one_of_each(run)
    return scenario.__name__
