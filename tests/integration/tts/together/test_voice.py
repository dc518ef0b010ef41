"""The voice against the emulated provider, in all of its moods."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import re
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from local import voices
from local.together.emulator import Emulator
from services.tts.ports import SpokenWord, VoiceParams
from services.tts.together.connection import Endpoint
from services.tts.together.counts import Happened
from services.tts.together.end_of_audio import Patience
from services.tts.together.pool import Limits
from services.tts.together.protocol import OptionalParameters
from services.tts.together.turn import Overflow, Turn
from services.tts.together.voice import TogetherVoice
from services.tts.together.voice_turn import TogetherTurn
from shared.errors import (
    ProviderAuth,
    ProviderBroken,
    ProviderError,
    ProviderOverloaded,
    ProviderRateLimited,
    ProviderRefused,
    ProviderStalled,
)
from tests.fakes_together import Counts

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable

KEY = "key-that-nobody-may-see"
PARAMS = VoiceParams(model="hexgrad/Kokoro-82M", voice="af_heart")
TEXTS = (
    "Hello! How are you today?",
    "Yes.",
    "One more sentence, of some length.",
    "And another.",
    "The end. Really!",
)
FAST = {"realtime_factor": 100.0, "first_audio_ms": 15.0, "char_samples": 480}


# The emulator is near: half the quiet does, and the tests take half the time.
PATIENCE = Patience(first_audio=2.0, audio=0.7, quiet_min=0.04)
LIMITS = Limits(slot_timeout=3.0)


@contextlib.asynccontextmanager
async def speaking(
    script: dict[str, Any] | None = None,
    *,
    faults: list[dict[str, Any]] | None = None,
    count: Counts | None = None,
    voice: str = PARAMS.voice,
    endpoint: dict[str, Any] | None = None,
    limits: Limits = LIMITS,
    sockets: int = 4,
    **options: Any,
) -> AsyncIterator[tuple[Emulator, TogetherVoice]]:
    """An emulator with a voice on it, and a deadline for all that is done with them."""
    speech = {**FAST, **(script or {})}
    count = Counts() if count is None else count
    options = {"patience": PATIENCE, **options}
    async with (
        asyncio.timeout(30),
        Emulator({"speech": speech, "faults": faults or []}) as emulator,
        TogetherVoice(
            Endpoint(url=emulator.tts_url, api_key=KEY, **(endpoint or {})),
            model=PARAMS.model,
            voice=voice,
            count=count,
            limits=replace(limits, sockets=sockets),
            **options,
        ) as together,
    ):
        yield emulator, together
    assert count[Happened.CRASHED] == 0


def samples(texts: tuple[str, ...], emulator: Emulator, *, voice: str = "af_heart") -> bytes:
    """What the emulator's voice makes of these pieces, each item as a text of its own."""
    settings = emulator.script.speech
    parts = [part for text in texts for part in items(text, settings.done)]
    return b"".join(
        voices.computable(part, voice, char_samples=settings.char_samples) for part in parts
    )


def items(text: str, done: str) -> list[str]:
    if done == "item":
        return re.findall(r".+?(?:[.!?]+\s+|$)", text)
    if done == "two_items":
        middle = text.find(" ", len(text) // 2) + 1 or len(text) // 2
        return [text[:middle], text[middle:]]
    return [text]


async def heard(parts: AsyncGenerator[bytes | SpokenWord, None]) -> bytes:
    audio = [part async for part in parts if isinstance(part, bytes)]
    assert all(len(part) % 2 == 0 for part in audio)
    return b"".join(audio)


async def spoken(
    voice: TogetherVoice, texts: tuple[str, ...] = TEXTS, params: VoiceParams = PARAMS
) -> bytes:
    """A turn as the service speaks it: a piece that fails is said again in a new context."""
    audio, left = b"", list(texts)
    for _ in range(4):
        with contextlib.suppress(ProviderStalled, ProviderBroken):
            async with voice.turn(params) as turn:
                while left:
                    audio += await heard(turn.say(left[0]))
                    left.pop(0)
                audio += await heard(turn.finish())
                return audio
    raise AssertionError(f"never said: {left}")


async def until(condition: Callable[[], bool]) -> None:
    """Waits for something that happens elsewhere; the test's deadline ends it."""
    while not condition():  # noqa: ASYNC110 - nobody sets an event for what the emulator records
        await asyncio.sleep(0.002)


async def first_part(turn: TogetherTurn, text: str) -> AsyncGenerator[bytes | SpokenWord, None]:
    parts = turn.say(text)
    await anext(parts)
    return parts


async def rest_of(
    first: asyncio.Task[Any], parts: AsyncGenerator[bytes | SpokenWord, None]
) -> None:
    await first
    await heard(parts)


# ---------------------------------------------------------------- every kind of provider


WIRES: dict[str, dict[str, Any]] = {
    "base64": {"unknown_every": 3},
    "binary": {"binary": True},
    "headers": {"wav_header": "always", "odd_splits": True},
    "nameless": {"echo_context": False},
    "binary headers": {"binary": True, "wav_header": "always", "odd_splits": True},
}


@pytest.mark.parametrize("done", ["commit", "item", "two_items", "context", "context_once", "none"])
async def test_every_sample_is_heard_once_and_in_order(done: str) -> None:
    await asyncio.gather(*(all_is_heard({"done": done, **wire}) for wire in WIRES.values()))


async def all_is_heard(script: dict[str, Any]) -> None:
    texts = TEXTS[:3]
    patience = replace(PATIENCE, silence_min=0.2, silence_min_unproven=0.3)
    async with speaking(script, patience=patience) as (emulator, voice):
        expected = samples(texts, emulator)
        assert await spoken(voice, texts) == expected, script
        turns = await asyncio.gather(*(spoken(voice, texts) for _ in range(4)))
        assert turns == [expected] * 4, script
        assert emulator.record.totals.keys_in_urls == 0
        assert emulator.record.totals.unknown_messages == 0


async def test_with_as_many_dones_as_commits_nothing_is_waited_for() -> None:
    async with speaking() as (emulator, voice):
        await spoken(voice)
        await spoken(voice)
        waits = []
        async with voice.turn(PARAMS) as turn:
            for text in TEXTS:
                last = 0.0
                async for _ in turn.say(text):
                    last = time.monotonic()
                waits.append(time.monotonic() - last)
        # The first text is of several sentences, of which two turns have shown too few.
        assert max(waits[1:4]) < 0.05
        assert len(emulator.record.sockets) <= 4


async def test_one_done_a_context_is_learned_and_costs_one_retry_in_all() -> None:
    async with speaking({"done": "context_once"}) as (emulator, voice):
        expected = samples(TEXTS[:3], emulator)
        for _ in range(2):
            assert await spoken(voice, TEXTS[:3]) == expected
        assert len(emulator.record.commits) == 2 * 3 + 1


@pytest.mark.parametrize("extra", [{"extra_dones": 2}, {"received": "sentence"}])
async def test_events_more_than_needed(extra: dict[str, Any]) -> None:
    async with speaking({**extra, "session_updated": True}) as (emulator, voice):
        assert await spoken(voice) == samples(TEXTS, emulator)


async def test_a_voice_slower_than_its_sound() -> None:
    script = {"realtime_factor": 0.8, "delta_ms": 40.0, "char_samples": 240}
    async with speaking(script) as (emulator, voice):
        assert await spoken(voice, TEXTS[:3]) == samples(TEXTS[:3], emulator)


async def test_a_frame_of_several_megabytes() -> None:
    faults = [{"kind": "speech.big_frame", "after": 1, "bytes": 6_000_000}]
    async with speaking(faults=faults) as (emulator, voice):
        assert await spoken(voice, TEXTS[:2]) == samples(TEXTS[:2], emulator)


async def test_nothing_to_say_is_not_said() -> None:
    async with speaking() as (emulator, voice):
        async with voice.turn(PARAMS) as turn:
            assert await heard(turn.say(" \n")) == b""
            assert await heard(turn.say("")) == b""
            assert await heard(turn.finish()) == b""
            assert await heard(turn.say("Yes.")) == samples(("Yes.",), emulator)
        async with voice.turn(PARAMS):
            pass
        assert len(emulator.record.commits) == 1
        assert len(emulator.record.contexts) == 1


async def test_words_have_their_place_in_the_piece() -> None:
    params = VoiceParams(
        model=PARAMS.model,
        voice=PARAMS.voice,
        word_timestamps=True,
        pronunciations=(("Yes", "No"),),
    )
    text = "No it is all good today. Very good!"
    for timestamps in ("item", "context"):
        script = {"timestamps": timestamps, "done": "item"}
        async with speaking(script) as (_, voice), voice.turn(params) as turn:
            for _ in range(2):
                parts = [part async for part in turn.say(text.replace("No", "Yes"))]
                words = [part for part in parts if isinstance(part, SpokenWord)]
                assert " ".join(word.text for word in words) == text
                # 20 ms a character; an item of its own begins with "Very".
                assert words[0].start == 0.0
                assert words[6].start == pytest.approx(25 * 0.02, abs=0.001)
                assert words[7].start == pytest.approx(30 * 0.02, abs=0.001)


# ---------------------------------------------------------------- settings


async def test_another_voice_needs_no_other_socket() -> None:
    other = VoiceParams(model=PARAMS.model, voice="am_adam", speed=2.0, language="de")
    async with speaking(sockets=1) as (emulator, voice):
        await spoken(voice, ("Yes.",))
        async with voice.turn(other) as turn:
            audio = await heard(turn.say("Yes."))
        assert audio == voices.computable("Yes.", "am_adam", 2.0, char_samples=480)
        assert await spoken(voice, ("Yes.",)) == samples(("Yes.",), emulator)
        assert [c.voice for c in emulator.record.commits] == ["af_heart", "am_adam", "af_heart"]
        assert emulator.record.commits[1].language == "de"
        assert len(emulator.record.sockets) == 1


async def test_a_blend_of_voices_arrives_as_it_was_written() -> None:
    blend = "af_bella(2)+af_heart(1)"
    async with speaking(voice=blend) as (emulator, voice):
        await spoken(voice, ("Yes.",), VoiceParams(model=PARAMS.model, voice=blend))
        query = emulator.record.sockets[0].query
        assert query["voice"] == blend
        assert query["model"] == PARAMS.model
        assert query["response_format"] == "pcm"
        assert query["segment"] == "never"
        assert query["sample_rate"] == "24000"


async def test_another_model_has_sockets_of_its_own_within_the_bound() -> None:
    other = VoiceParams(model="cartesia/sonic-2", voice="sophie")
    async with speaking(sockets=2) as (emulator, voice):
        for params in (PARAMS, other, PARAMS, other):
            audio = await spoken(voice, ("Yes.",), params)
            assert audio == samples(("Yes.",), emulator, voice=params.voice)
        models = {c.model for c in emulator.record.commits}
        assert models == {PARAMS.model, other.model}
        assert emulator.record.totals.peak_sockets <= 3  # one may still be saying goodbye


async def test_one_socket_serves_two_models_in_turn() -> None:
    other = VoiceParams(model="cartesia/sonic-2", voice="sophie")
    async with speaking(sockets=1) as (emulator, voice):
        both = (PARAMS, other) * 3
        turns = await asyncio.gather(*(spoken(voice, TEXTS[:2], params) for params in both))
        for params, audio in zip(both, turns, strict=True):
            assert audio == samples(TEXTS[:2], emulator, voice=params.voice)


# ---------------------------------------------------------------- many turns


async def test_many_turns_share_few_sockets() -> None:
    async with speaking() as (emulator, voice):
        expected = samples(TEXTS, emulator)
        assert await asyncio.gather(*(spoken(voice) for _ in range(30))) == [expected] * 30
        assert emulator.record.totals.peak_sockets <= 4
        assert emulator.record.totals.peak_contexts > 1
        contexts = [c.context for c in emulator.record.contexts]
        assert len(set(contexts)) == len(contexts)


@pytest.mark.parametrize("script", [{"binary": True}, {"echo_context": False}])
async def test_a_socket_that_names_nobody_serves_one_turn_at_a_time(
    script: dict[str, Any],
) -> None:
    limits = replace(LIMITS, turns=2)
    async with speaking(script, sockets=2, limits=limits) as (emulator, voice):
        expected = samples(TEXTS[:2], emulator)
        turns = await asyncio.gather(*(spoken(voice, TEXTS[:2]) for _ in range(6)))
        assert turns == [expected] * 6
        assert emulator.record.totals.peak_sockets <= 2


@pytest.mark.parametrize("script", [{"binary": True}, {"echo_context": False}])
async def test_where_nobody_is_named_each_turn_has_a_socket_of_its_own(
    script: dict[str, Any],
) -> None:
    limits = replace(LIMITS, turns=12, idle=0.2, max_age=0.4)
    pace = {"realtime_factor": 4.0, "char_samples": 1200}
    async with speaking({**script, **pace}, sockets=2, limits=limits) as (emulator, voice):
        await spoken(voice, ("Yes.",))
        expected = samples(TEXTS[:2], emulator)
        turns = await asyncio.gather(*(spoken(voice, TEXTS[:2]) for _ in range(12)))
        assert turns == [expected] * 12
        assert emulator.record.totals.peak_sockets > 9
        assert emulator.record.totals.peak_sockets <= 14  # some may still be saying goodbye
        await until(lambda: voice.open_sockets <= 2)


async def test_turns_lend_each_other_a_socket_that_serves_one_at_a_time() -> None:
    counts = Counts()
    script = {"binary": True, "realtime_factor": 20.0}
    limits = replace(LIMITS, turns=1)
    async with speaking(script, sockets=1, limits=limits, count=counts) as (emulator, voice):
        began: list[int] = []

        async def said(number: int) -> bytes:
            async with voice.turn(PARAMS) as turn:
                audio = await heard(turn.say(TEXTS[0]))
                began.append(number)
                for text in TEXTS[1:]:
                    audio += await heard(turn.say(text))
                audio += await heard(turn.finish())
            return audio

        turns = await asyncio.gather(*(said(n) for n in range(3)))
        assert turns == [samples(TEXTS, emulator)] * 3
        assert began == [0, 1, 2]
        assert len({c.context for c in list(emulator.record.commits)[:3]}) == 3
        assert counts[Happened.RELEASED] >= 6
        assert counts[Happened.CONNECTED] == 1


async def test_a_turn_that_waits_for_its_text_lends_its_socket() -> None:
    async with (
        speaking({"binary": True}, sockets=1, limits=replace(LIMITS, turns=1)) as (emulator, voice),
        voice.turn(PARAMS) as turn,
    ):
        audio = await heard(turn.say(TEXTS[2]))
        assert await spoken(voice) == samples(TEXTS, emulator)
        audio += await heard(turn.say(TEXTS[3]))
        assert audio == samples(TEXTS[2:4], emulator)


@pytest.mark.parametrize("segment", ["sentence", "immediate"])
@pytest.mark.parametrize("empty_commit", ["nothing", "done", "error"])
async def test_an_endpoint_that_cuts_by_itself(segment: str, empty_commit: str) -> None:
    script = {"empty_commit": empty_commit}
    async with speaking(script, endpoint={"optional": OptionalParameters(segment=segment)}) as (
        _,
        voice,
    ):
        audio = await spoken(voice)
        said = [text for text in voices.spoken_texts(audio) if text]
        assert "".join(said).replace(" ", "") == "".join(TEXTS).replace(" ", "")


async def test_after_a_failure_a_turn_goes_to_another_socket() -> None:
    faults = [{"kind": "speech.failed", "match": "length", "after": 1, "times": 2}]
    async with speaking(faults=faults, sockets=3) as (emulator, voice):
        await spoken(voice, ("Yes.",))
        texts = (TEXTS, TEXTS[3:], TEXTS[3:])  # beside it are turns without the text that fails
        turns = await asyncio.gather(*(spoken(voice, each) for each in texts))
        assert turns == [samples(each, emulator) for each in texts]
        *failed, last = [c for c in emulator.record.commits if "length" in c.text]
        assert [c.how for c in failed] == ["failed", "failed"]
        assert last.socket not in {c.socket for c in failed}


async def test_contexts_are_freed_after_each_turn() -> None:
    async with speaking({"max_contexts": 2}, sockets=1) as (emulator, voice):
        for _ in range(8):
            assert await spoken(voice, ("Yes.",)) == samples(("Yes.",), emulator)
        await until(lambda: len(emulator.record.cancels) == 8)
        assert emulator.record.totals.refused_contexts == 0


async def test_fewer_contexts_than_expected_are_learned_and_nobody_notices() -> None:
    counts = Counts()
    async with speaking({"max_contexts": 3}, sockets=2, count=counts) as (emulator, voice):
        expected = samples(TEXTS[:2], emulator)
        turns = await asyncio.gather(*(spoken(voice, TEXTS[:2]) for _ in range(16)))
        assert turns == [expected] * 16
        assert counts[Happened.MOVED] > 0
        refused = emulator.record.totals.refused_contexts
        await asyncio.gather(*(spoken(voice, TEXTS[:1]) for _ in range(16)))
        assert emulator.record.totals.refused_contexts == refused


async def test_no_place_in_time_is_a_named_error() -> None:
    async with (
        speaking({"binary": True}, sockets=1, limits=Limits(slot_timeout=0.3, turns=1)) as (
            _,
            voice,
        ),
        voice.turn(PARAMS) as turn,
    ):
        parts = await first_part(turn, TEXTS[2])
        with pytest.raises(ProviderOverloaded):
            async with voice.turn(PARAMS):
                pass
        await parts.aclose()


# ---------------------------------------------------------------- stopping


@pytest.mark.parametrize("how", ["left", "closed", "cancelled"])
async def test_a_turn_that_is_stopped_stops_at_once_and_is_never_heard_again(how: str) -> None:
    counts = Counts()
    script = {"late_deltas": 20, "realtime_factor": 5.0, "char_samples": 1200}
    async with speaking(script, sockets=1, count=counts) as (emulator, voice):
        await spoken(voice, ("Yes.",))
        before = len(emulator.record.cancels)
        async with voice.turn(PARAMS) as turn:
            if how == "cancelled":
                task = asyncio.create_task(heard(turn.say(TEXTS[2])))
                await until(lambda: len(emulator.record.commits) == 2)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
            else:
                parts = await first_part(turn, TEXTS[2])
                if how == "closed":
                    await parts.aclose()
            if how != "left":
                await until(lambda: len(emulator.record.cancels) == before + 1)
        await until(lambda: len(emulator.record.cancels) == before + 1)
        # The same socket, at once: nothing of the old turn is in the new one.
        assert await spoken(voice, ("Yes.",)) == samples(("Yes.",), emulator)
        await until(lambda: counts[Happened.STALE_AUDIO] > 0)
        assert len(emulator.record.sockets) == 1


@pytest.mark.parametrize("script", [{"binary": True}, {"echo_context": False}])
async def test_where_nobody_is_named_a_stopped_turn_takes_its_socket_with_it(
    script: dict[str, Any],
) -> None:
    limits = replace(LIMITS, turns=1)
    async with speaking({**script, "late_deltas": 20}, sockets=1, limits=limits) as (
        emulator,
        voice,
    ):
        await spoken(voice, ("Yes.",))
        async with voice.turn(PARAMS) as turn:
            await first_part(turn, TEXTS[2])
        for _ in range(2):
            assert await spoken(voice, ("Yes.",)) == samples(("Yes.",), emulator)
        assert len(emulator.record.sockets) == 2


async def test_stopped_before_the_first_audio_the_next_turn_speaks() -> None:
    async with speaking({"first_audio_ms": 100.0}) as (emulator, voice):
        for _ in range(3):
            async with voice.turn(PARAMS) as turn:
                task = asyncio.create_task(heard(turn.say(TEXTS[2])))
                commits = len(emulator.record.commits)
                await until(lambda n=commits: len(emulator.record.commits) > n)  # type: ignore[misc]
                task.cancel()
                await asyncio.wait([task])
        assert await spoken(voice) == samples(TEXTS, emulator)


async def test_a_turn_that_is_over_says_so() -> None:
    async with speaking() as (_, voice):
        async with voice.turn(PARAMS) as turn:
            await heard(turn.say("Yes."))
        with pytest.raises(ProviderError):
            await heard(turn.say("Yes."))


async def test_a_consumer_that_takes_nothing_fails_by_name_and_holds_up_nobody() -> None:
    script = {"realtime_factor": 0.0, "char_samples": 1200}
    async with speaking(script, sockets=1, max_waiting=60_000) as (emulator, voice):
        await spoken(voice, ("Yes.",))
        async with voice.turn(PARAMS) as slow:
            parts = slow.say(TEXTS[2] * 3)
            first = asyncio.create_task(anext(parts))
            other = await spoken(voice, ("Yes.",))
            assert other == samples(("Yes.",), emulator)
            with pytest.raises(Overflow):
                await rest_of(first, parts)


# ---------------------------------------------------------------- sockets that break


@pytest.mark.parametrize("kind", ["speech.abort", "speech.close", "speech.garbage"])
async def test_a_socket_that_breaks_in_mid_piece_breaks_the_piece(kind: str) -> None:
    faults = [{"kind": kind, "match": "length", "after": 2, "times": 1}]
    async with speaking(faults=faults) as (emulator, voice):
        async with voice.turn(PARAMS) as turn:
            assert await heard(turn.say("Yes.")) == samples(("Yes.",), emulator)
            with pytest.raises(ProviderBroken):
                await heard(turn.say(TEXTS[2]))
        assert await spoken(voice) == samples(TEXTS, emulator)
        assert voice.open_sockets > 0


@pytest.mark.parametrize("kind", ["speech.abort", "speech.close"])
async def test_a_socket_that_breaks_before_anything_was_heard_is_not_noticed(kind: str) -> None:
    counts = Counts()
    faults = [{"kind": kind, "match": "length", "after": 0, "times": 1}]
    async with speaking(faults=faults, count=counts) as (emulator, voice):
        async with voice.turn(PARAMS) as turn:
            audio = b"".join([await heard(turn.say(text)) for text in TEXTS])
        assert audio == samples(TEXTS, emulator)
        assert counts[Happened.MOVED] == 1


async def test_all_turns_of_a_socket_learn_that_it_broke() -> None:
    async with speaking({"realtime_factor": 10.0}, sockets=1) as (emulator, voice):
        await spoken(voice, ("Yes.",))
        emulator.add_fault({"kind": "speech.abort", "match": "end", "after": 3, "times": 1})
        texts = TEXTS[2:] * 2
        results = await asyncio.gather(
            *(self_said(voice, text) for text in texts), return_exceptions=True
        )
        for text, result in zip(texts, results, strict=True):
            # Whole, or broken by name: a piece that had all its audio needs no socket any more.
            whole = result == samples((text,), emulator)
            assert (
                isinstance(result, ProviderBroken)
                if "end" in text
                else (whole or isinstance(result, ProviderBroken))
            )
        assert await spoken(voice) == samples(TEXTS, emulator)


async def self_said(voice: TogetherVoice, text: str) -> bytes:
    async with voice.turn(PARAMS) as turn:
        return await heard(turn.say(text))


@pytest.mark.parametrize("after", [0, 2])
async def test_a_socket_that_only_looks_open_is_noticed_soon(after: int) -> None:
    counts = Counts()
    faults = [{"kind": "speech.dead", "match": "length", "after": after, "times": 1}]
    patience = replace(PATIENCE, first_audio=10.0, audio=10.0)
    async with speaking(faults=faults, patience=patience, count=counts) as (emulator, voice):
        await spoken(voice, ("Yes.",))
        began = time.monotonic()
        if after:
            with pytest.raises(ProviderBroken):
                await self_said(voice, TEXTS[2])
        else:
            assert await self_said(voice, TEXTS[2]) == samples(TEXTS[2:3], emulator)
        assert 2.0 < time.monotonic() - began < 8.0
        assert counts[Happened.DEAD] == 1


@pytest.mark.parametrize(
    "answers", [{"pong_seconds": 3.0}, {"pongs": False}], ids=["slow pongs", "no pongs"]
)
async def test_a_socket_whose_pongs_are_slow_or_never_come_is_not_dead(
    answers: dict[str, Any],
) -> None:
    counts = Counts()
    script = {**answers, "first_audio_ms": 2600.0}
    patience = replace(PATIENCE, first_audio=8.0)
    async with speaking(script, patience=patience, count=counts, sockets=1) as (emulator, voice):
        texts = TEXTS[1:2]
        turns = await asyncio.gather(*(spoken(voice, texts) for _ in range(2)))
        assert turns == [samples(texts, emulator)] * 2
        assert counts[Happened.DEAD] == 0
        assert counts[Happened.LOST] == 0
        assert len(emulator.record.sockets) == 1
        assert emulator.record.totals.pings > 0


async def test_without_pongs_the_first_audio_deadline_decides() -> None:
    counts = Counts()
    faults = [{"kind": "speech.dead", "match": "length", "times": 1}]
    patience = replace(PATIENCE, first_audio=3.0)
    async with speaking({"pongs": False}, faults=faults, patience=patience, count=counts) as (
        _,
        voice,
    ):
        await spoken(voice, ("Yes.",))
        began = time.monotonic()
        with pytest.raises(ProviderStalled):
            await self_said(voice, TEXTS[2])
        assert 2.9 < time.monotonic() - began < 8.0
        assert counts[Happened.DEAD] == 0


async def test_a_turn_on_a_socket_that_died_at_rest_is_heard_on_another() -> None:
    counts = Counts()
    async with speaking(sockets=1, count=counts, patience=replace(PATIENCE, first_audio=5.0)) as (
        emulator,
        voice,
    ):
        await spoken(voice, ("Yes.",))
        emulator.play_dead()
        assert await spoken(voice) == samples(TEXTS, emulator)
        assert counts[Happened.DEAD] == 1
        assert counts[Happened.MOVED] == 1


async def test_an_idle_socket_that_the_provider_closes_is_replaced() -> None:
    counts = Counts()
    async with speaking({"idle_seconds": 0.05, "pings_count": False}, count=counts) as (
        emulator,
        voice,
    ):
        await spoken(voice, ("Yes.",))
        await until(lambda: counts[Happened.LOST] > 0)
        emulator.change({"speech": {"idle_seconds": 0.0}})
        assert await spoken(voice) == samples(TEXTS, emulator)
        await until(lambda: voice.open_sockets > 0)


async def test_old_sockets_are_retired_and_no_turn_is_cut() -> None:
    counts = Counts()
    async with speaking(
        {"realtime_factor": 8.0}, limits=replace(LIMITS, max_age=0.2), count=counts
    ) as (emulator, voice):
        turns = await asyncio.gather(*(spoken(voice) for _ in range(6)))
        assert turns == [samples(TEXTS, emulator)] * 6
        await until(lambda: counts[Happened.RETIRED] > 0)
        assert not [c for c in emulator.record.commits if c.how != "complete"]


# ---------------------------------------------------------------- pieces that fail


async def test_audio_that_stops_is_a_stall() -> None:
    faults = [{"kind": "speech.stall", "match": "length", "after": 2, "times": 1}]
    patience = replace(PATIENCE, first_audio=10.0)
    async with speaking(faults=faults, patience=patience) as (emulator, voice):
        await spoken(voice, ("Yes.", "No."))
        began = time.monotonic()
        with pytest.raises(ProviderStalled):
            async with voice.turn(PARAMS) as turn:
                await heard(turn.say(TEXTS[2]))
        assert time.monotonic() - began < 5.0
        assert await spoken(voice) == samples(TEXTS, emulator)


async def test_no_audio_at_all_is_a_stall() -> None:
    faults = [{"kind": "speech.stall", "match": "length"}]
    async with speaking(faults=faults, patience=replace(PATIENCE, first_audio=0.3)) as (_, voice):
        with pytest.raises(ProviderStalled):
            await self_said(voice, TEXTS[2])


async def test_a_done_without_audio_is_an_error_soon() -> None:
    patience = replace(PATIENCE, first_audio=10.0)
    async with speaking(faults=[{"kind": "speech.no_audio"}], patience=patience) as (_, voice):
        began = time.monotonic()
        with pytest.raises(ProviderBroken):
            await self_said(voice, TEXTS[2])
        assert time.monotonic() - began < 5.0


async def test_a_done_that_never_comes_is_a_stall_once_dones_are_known() -> None:
    faults = [{"kind": "speech.no_done", "match": "length", "times": 1}]
    async with speaking(faults=faults) as (emulator, voice):
        await spoken(voice, TEXTS[:2])
        with pytest.raises(ProviderStalled):
            await self_said(voice, TEXTS[2])
        assert await spoken(voice) == samples(TEXTS, emulator)


@pytest.mark.parametrize(
    ("code", "status", "expected"),
    [
        ("internal_error", 500, ProviderBroken),
        ("model_not_available", 400, ProviderRefused),
        ("rate_limit_exceeded", 429, ProviderRateLimited),
        ("invalid_api_key", 401, ProviderAuth),
    ],
)
async def test_a_failed_piece_has_the_providers_reason(
    code: str, status: int, expected: type[ProviderError]
) -> None:
    faults = [
        {"kind": "speech.failed", "match": "length", "after": 1, "code": code, "status": status}
    ]
    async with speaking(faults=faults) as (_, voice):
        await spoken(voice, ("Yes.",))
        with pytest.raises(expected):
            await self_said(voice, TEXTS[2])


async def test_a_failure_of_one_turn_is_not_that_of_the_others() -> None:
    faults = [{"kind": "speech.failed", "match": "length", "after": 1}]
    async with speaking(faults=faults, sockets=1) as (emulator, voice):
        await spoken(voice, ("Yes.",))
        results = await asyncio.gather(
            *(self_said(voice, text) for text in TEXTS), return_exceptions=True
        )
        assert isinstance(results[2], ProviderError)
        good = [result for result in results if isinstance(result, bytes)]
        assert good == [samples((text,), emulator) for text in (*TEXTS[:2], *TEXTS[3:])]


async def test_after_an_error_that_means_nothing_the_voice_goes_on() -> None:
    faults = [{"kind": "speech.error", "after": 1}]
    async with speaking(faults=faults) as (emulator, voice):
        async with voice.turn(PARAMS) as turn:
            audio = b"".join([await heard(turn.say(text)) for text in TEXTS])
        assert audio == samples(TEXTS, emulator)


# ---------------------------------------------------------------- no connection


@pytest.mark.parametrize("status", [400, 422])
async def test_a_parameter_that_is_not_known_is_left_out_once_and_for_all(status: int) -> None:
    script = {"unknown_parameters": ["segment", "sample_rate"], "refused_with": status}
    async with speaking({**script, "binary": True}, sockets=2) as (emulator, voice):
        texts = TEXTS[1:2]
        turns = await asyncio.gather(*(spoken(voice, texts) for _ in range(6)))
        assert turns == [samples(texts, emulator)] * 6
        statuses = [call.status for call in emulator.record.sockets]
        assert status in statuses
        assert statuses.count(status) <= 2  # two may open at once before it is known
        assert set(emulator.record.sockets[-1].query) == {"model", "voice", "response_format"}


async def test_what_is_refused_in_any_form_is_refused() -> None:
    async with speaking(faults=[{"kind": "socket.refuse", "status": 400}]) as (emulator, voice):
        with pytest.raises(ProviderRefused):
            await spoken(voice)
        assert 2 <= len(emulator.record.sockets) <= 4


@pytest.mark.parametrize("optional", [OptionalParameters(segment=None, sample_rate=None)])
async def test_what_is_set_to_nothing_is_not_sent(optional: OptionalParameters) -> None:
    async with speaking(endpoint={"optional": optional}) as (emulator, voice):
        await spoken(voice, ("Yes.",))
        assert set(emulator.record.sockets[0].query) == {"model", "voice", "response_format"}


async def test_a_session_of_another_model_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    script = {"session_model": "other/voice", "binary": True}
    async with speaking(script, sockets=2) as (_, voice):
        await asyncio.gather(*(spoken(voice, ("Yes.",)) for _ in range(4)))
    said = [record for record in caplog.records if record.message == "tts.another_model"]
    assert len(said) == 1
    assert said[0].__dict__["model"] == PARAMS.model
    assert said[0].__dict__["session_model"] == "other/voice"


async def test_null_where_something_belongs_is_read_over() -> None:
    counts = Counts()
    params = replace(PARAMS, word_timestamps=True)
    async with speaking({"nulls": True}, count=counts) as (emulator, voice):
        assert await spoken(voice, TEXTS, params) == samples(TEXTS, emulator)
        assert counts[Happened.GARBLED_EVENT] == 0
        assert not [c for c in emulator.record.commits if c.how != "complete"]


async def test_an_error_that_names_nobody_harms_none_but_the_one_that_asked_last() -> None:
    script = {"nameless_errors": True, "realtime_factor": 8.0, "first_audio_ms": 150.0}
    faults = [{"kind": "speech.failed", "match": "length", "times": 1}]
    async with speaking(script, faults=faults, sockets=1) as (emulator, voice):
        await spoken(voice, ("Yes.",))
        others = [asyncio.create_task(spoken(voice, TEXTS[3:])) for _ in range(4)]
        await until(lambda: len(emulator.record.commits) >= 5)
        with pytest.raises(ProviderBroken):
            await self_said(voice, TEXTS[2])
        assert await asyncio.gather(*others) == [samples(TEXTS[3:], emulator)] * 4
        assert len(emulator.record.commits) == 2 + 4 * 2


@pytest.mark.parametrize("how", ["refused connections", "503"])
async def test_ten_seconds_away_in_mid_turn_lose_nothing(how: str) -> None:
    """Here three: what counts is that they are longer than all tries used to be."""
    script = {"realtime_factor": 8.0, "char_samples": 1200}
    async with speaking(script, limits=Limits(), sockets=2) as (emulator, voice):
        expected = samples(TEXTS, emulator)
        turns = [asyncio.create_task(spoken(voice)) for _ in range(8)]
        await until(lambda: len(emulator.record.commits) >= 8)
        before = len(emulator.record.sockets)
        if how == "503":
            emulator.change({"faults": [{"kind": "socket.refuse", "status": 503}]})
            emulator.break_sockets()
        else:
            await emulator.close()
        turns += [asyncio.create_task(spoken(voice)) for _ in range(12)]
        await asyncio.sleep(3.0)  # the time that the provider is away: the test's subject
        knocks = len(emulator.record.sockets) - before
        if how == "503":
            emulator.change({"faults": []})
        else:
            await emulator.start()
        assert await asyncio.gather(*turns) == [expected] * 20
        assert knocks <= 8


async def test_a_pool_that_cannot_connect_starts_and_says_why() -> None:
    counts, faults = Counts(), [{"kind": "socket.refuse", "status": 503}]
    limits = Limits(slot_timeout=2.0)
    async with speaking(faults=faults, limits=limits, count=counts) as (emulator, voice):
        await until(lambda: counts[Happened.CONNECT_FAILED] > 0)
        assert voice.open_sockets == 0
        with pytest.raises(ProviderOverloaded):
            async with voice.turn(PARAMS):
                pass
        emulator.change({"faults": []})
        await until(lambda: voice.open_sockets > 0)
        assert await spoken(voice) == samples(TEXTS, emulator)


async def test_a_turn_waits_while_the_provider_asks_for_a_pause() -> None:
    faults = [{"kind": "socket.refuse", "status": 429, "retry_after": 0.4, "times": 1}]
    async with speaking(faults=faults) as (emulator, voice):
        began = time.monotonic()
        assert await spoken(voice) == samples(TEXTS, emulator)
        assert time.monotonic() - began > 0.4
        assert len(emulator.record.sockets) <= 4


async def test_a_pause_longer_than_a_turn_can_wait_is_an_error_now() -> None:
    faults = [{"kind": "socket.refuse", "status": 429, "retry_after": 60}]
    async with speaking(faults=faults) as (_, voice):
        began = time.monotonic()
        with pytest.raises(ProviderRateLimited) as caught:
            await spoken(voice)
        assert caught.value.wait == 60
        assert time.monotonic() - began < 20.0


@pytest.mark.parametrize("late", [False, True])
async def test_a_key_that_is_refused_is_an_error_at_once_and_no_storm(late: bool) -> None:
    async with speaking({"keys": ["another"], "refuse_late": late}) as (emulator, voice):
        began = time.monotonic()
        for _ in range(5):
            with pytest.raises(ProviderAuth) as caught:
                await spoken(voice)
            assert KEY not in str(caught.value)
        assert time.monotonic() - began < 3 * LIMITS.slot_timeout
        assert len(emulator.record.sockets) <= 5


@pytest.mark.parametrize("late", [False, True])
async def test_a_model_that_is_refused_harms_no_other(late: bool) -> None:
    script = {"models": [PARAMS.model], "refuse_late": late}
    async with speaking(script) as (emulator, voice):
        with pytest.raises(ProviderRefused):
            await spoken(voice, TEXTS, VoiceParams(model="none/such", voice="v"))
        assert await spoken(voice) == samples(TEXTS, emulator)


@pytest.mark.parametrize("kind", ["socket.hang", "socket.no_session"])
async def test_a_handshake_that_hangs_has_a_deadline(kind: str) -> None:
    counts = Counts()
    faults = [{"kind": kind, "times": 2}]
    async with speaking(faults=faults, endpoint={"connect_timeout": 2.0}, count=counts) as (
        emulator,
        voice,
    ):
        assert await spoken(voice) == samples(TEXTS, emulator)
        assert counts[Happened.CONNECT_FAILED] == 2


async def test_nobody_listens() -> None:
    async with (
        asyncio.timeout(30),
        TogetherVoice(
            Endpoint(url="ws://127.0.0.1:9/", api_key=KEY),
            model="m",
            voice="v",
            count=Counts(),
            limits=Limits(slot_timeout=0.2),
        ) as voice,
    ):
        with pytest.raises(ProviderBroken):
            async with voice.turn(PARAMS):
                pass


# ---------------------------------------------------------------- life


async def test_closing_ends_turns_and_tasks() -> None:
    async with speaking({"realtime_factor": 1.0}) as (_, voice):
        async with voice.turn(PARAMS) as turn:
            parts = await first_part(turn, TEXTS[2])
            began = time.monotonic()
            await voice.close()
            assert time.monotonic() - began < 10.0
            with pytest.raises(ProviderBroken):
                await heard(parts)
        names = {task.get_name() for task in asyncio.all_tasks()}
        assert not {name for name in names if name.startswith("speech.")}
        with pytest.raises(ProviderBroken):
            async with voice.turn(PARAMS):
                pass


async def test_a_turn_that_gives_up_waiting_leaves_nothing_behind() -> None:
    async with speaking(faults=[{"kind": "socket.hang"}]) as (_, voice):
        task = asyncio.create_task(spoken(voice))
        await until(lambda: voice.waiting_turns == 1)
        task.cancel()
        await asyncio.wait([task])
        assert voice.waiting_turns == 0


async def test_the_key_is_in_no_log_and_no_repr(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with speaking() as (emulator, voice):
        await spoken(voice, ("Yes.",))
        assert KEY not in repr(voice)
        assert emulator.record.totals.requests_without_key == 0
    assert KEY not in caplog.text


async def test_a_hundred_turns_leave_no_memory_behind() -> None:
    script = {"realtime_factor": 0.0, "first_audio_ms": 0.0, "char_samples": 16}
    async with speaking(script, sockets=2) as (_, voice):
        await asyncio.gather(*(spoken(voice, ("Yes.",)) for _ in range(100)))
        gc.collect()
        assert sum(isinstance(one, TogetherTurn | Turn) for one in gc.get_objects()) == 0
