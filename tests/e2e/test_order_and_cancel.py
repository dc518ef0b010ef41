"""Order within a conversation, what happens when it is busy, stopping, forgetting."""

from __future__ import annotations

import json
import time
import uuid
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio

from tests.e2e.whole import FAST, assert_whole
from tests.system import System, Turn

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

pytestmark = pytest.mark.asyncio(loop_scope="module")

LONG = " ".join(f"This is sentence number {n} of a long story." for n in range(40))
# Made at the pace of a person who reads: a stop comes in the middle.
SLOW: dict[str, Any] = {
    "chat": {"first_token_ms": 20, "tokens_per_second": 100, "replies": [LONG]},
    "speech": {"realtime_factor": 4, "first_audio_ms": 20},
}


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[System]:
    async with System(tmp_path_factory.mktemp("system")) as system:
        await system.up(chat=2)
        yield system


@pytest.fixture
def system(running: System) -> System:
    running.emulator.reset()
    running.emulator.change(SLOW)
    return running


def new() -> str:
    return uuid.uuid4().hex[:12]


async def cancel(system: System, conversation_id: str, **more: Any) -> float:
    body = {"conversation_id": conversation_id, **more}
    await system.client.publish("chat.cancel", json.dumps(body).encode())
    await system.client.flush()
    return time.monotonic()


async def longest_answer(system: System, conversation_id: str) -> float:
    """Seconds, of a few requests: milliseconds, or what other processes leave us."""
    longest = 0.0
    for _ in range(5):
        began = time.monotonic()
        await system.history(conversation_id)
        longest = max(longest, time.monotonic() - began)
    return longest


async def until_one_request(system: System, conversation_id: str) -> None:
    """Is left of them; the others were dealt with."""
    js, subject = system.client.jetstream(), f"chat.request.{conversation_id}"

    async def left() -> dict[str, int]:
        intake = await js.stream_info("CHAT_REQUESTS", subjects_filter="chat.request")
        own = await js.stream_info("CHAT_REQUESTS", subjects_filter=subject)
        return {**(intake.state.subjects or {}), **(own.state.subjects or {})}

    until = time.monotonic() + 10
    while await left() != {subject: 1}:
        assert time.monotonic() < until


def chunks(turn: Turn) -> int:
    return sum(1 for h, _ in turn.audio if h["Parley-Type"] == "chunk")


async def test_a_cancel_stops_words_and_voice_and_keeps_what_there_was(system: System) -> None:
    conversation = new()
    turn_id = await system.ask(conversation_id=conversation, content="Tell me a story.")
    turn = system.ears.turn(turn_id)
    await system.ears.until(lambda: chunks(turn) > 8)
    lag = await longest_answer(system, conversation)
    at = await cancel(system, conversation)
    await system.ears.whole(turn_id)
    assert time.monotonic() - at < 2 + 20 * lag
    assert turn.end is not None
    assert turn.voice_end is not None
    assert turn.end["finish_reason"] == "cancelled"
    assert turn.voice_end["finish"] == "cancelled"
    assert turn.last_chunk is not None
    assert turn.last_chunk - at < 0.25 + 5 * lag
    assert LONG.startswith(turn.end["text"])
    assert turn.end["text"] != LONG
    assert turn.voice_end["duration_ms"] * 48 == pytest.approx(len(turn.voice()), abs=48)
    answer = (await system.history(conversation))["messages"][-1]
    assert (answer["content"], answer["status"]) == (turn.end["text"], "interrupted")
    assert any(c.how == "closed_by_client" for c in system.emulator.record.chats)
    assert system.emulator.record.totals.cancels >= 1


async def test_the_history_keeps_what_was_heard(system: System) -> None:
    conversation = new()
    turn_id = await system.ask(conversation_id=conversation, content="Tell me a story.")
    turn = system.ears.turn(turn_id)
    await system.ears.until(lambda: chunks(turn) > 30)
    await cancel(system, conversation, turn_id=turn_id, heard_ms=2000)
    await system.ears.whole(turn_id)
    heard = (await system.history(conversation))["messages"][-1]["content"]
    # The computable voice says a character in 50 ms: 40 characters, less the word cut in two.
    assert LONG.startswith(heard)
    assert 25 <= len(heard) <= 45
    assert turn.end is not None
    assert len(turn.end["text"]) > len(heard)


async def test_what_was_heard_is_kept_also_when_the_text_was_long_done(system: System) -> None:
    system.emulator.change({"chat": {"tokens_per_second": 0}})
    conversation = new()
    turn_id = await system.ask(conversation_id=conversation, content="Tell me a story.")
    turn = system.ears.turn(turn_id)
    await system.ears.until(lambda: turn.end is not None and chunks(turn) > 20)
    await cancel(system, conversation, turn_id=turn_id, heard_ms=1000)
    await system.ears.whole(turn_id)
    assert turn.voice_end is not None
    assert turn.voice_end["finish"] == "cancelled"

    async def shortened() -> bool:
        return len((await system.history(conversation))["messages"][-1]["content"]) < 30

    until = time.monotonic() + 5
    while not await shortened():
        assert time.monotonic() < until
    answer = (await system.history(conversation))["messages"][-1]
    assert LONG.startswith(answer["content"])
    assert answer["status"] == "interrupted"


async def test_a_cancel_before_the_first_sound_does_not_silence_the_next_turn(
    system: System,
) -> None:
    system.emulator.change({"speech": {"first_audio_ms": 600}})
    conversation = new()
    turn_id = await system.ask(conversation_id=conversation, content="Tell me a story.")
    await system.ears.until(lambda: len(system.ears.turn(turn_id).deltas) > 5)
    await cancel(system, conversation)
    await system.ears.whole(turn_id)
    assert chunks(system.ears.turn(turn_id)) == 0
    system.emulator.change({**FAST, "chat": {**FAST["chat"], "replies": ["It works again."]}})
    turn = await system.answered(conversation_id=conversation, content="And now?")
    assert_whole(turn, system)


async def test_a_waiting_turn_that_is_cancelled_never_runs(system: System) -> None:
    conversation = new()
    first = await system.ask(conversation_id=conversation, content="Tell me a story.")
    second = await system.ask(conversation_id=conversation, content="Never asked.")
    await system.ears.until(lambda: len(system.ears.turn(first).deltas) > 3)
    await cancel(system, conversation, turn_id=second)
    await system.ears.whole(second)
    end = system.ears.turn(second).end
    assert end is not None
    assert (end["finish_reason"], end["text"]) == ("cancelled", "")
    voice = system.ears.turn(second).voice_end
    assert voice is not None
    assert (voice["key"], voice["finish"]) == (None, "cancelled")
    await cancel(system, conversation)
    await system.ears.whole(first)
    asked = [c.messages[-1]["content"] for c in system.emulator.record.chats]
    assert "Never asked." not in asked


async def test_a_cancel_of_what_is_done_or_unknown_harms_nothing(system: System) -> None:
    system.emulator.change({**FAST, "chat": {**FAST["chat"], "replies": ["Fine."]}})
    conversation = new()
    turn = await system.answered(conversation_id=conversation, content="How are you?")
    await cancel(system, conversation)
    await cancel(system, conversation, turn_id="nobody")
    await cancel(system, "unknown", turn_id="nobody")
    answer = await system.client.request("chat.cancel", b'{"conversation_id": "a b"}', timeout=5)
    assert json.loads(answer.data)["error"]["code"] == "invalid_request"
    again = await system.answered(conversation_id=conversation, content="Still?")
    assert_whole(again, system)
    assert len([d for d in turn.deltas if d["type"] == "done"]) == 1


@pytest.mark.parametrize("named", [True, False])
async def test_a_stop_after_a_turn_without_a_voice_keeps_its_answer(
    system: System, *, named: bool
) -> None:
    system.emulator.change({**FAST, "chat": {**FAST["chat"], "replies": ["Fine."]}})
    conversation = new()
    turn_id = await system.ask(conversation_id=conversation, content="How?", speech=False)
    await system.ears.whole(turn_id, voice=False)
    body = {"conversation_id": conversation, "heard_ms": 0}
    more = {"turn_id": turn_id} if named else {}
    await system.client.request("chat.cancel", json.dumps(body | more).encode(), timeout=5)
    answer = (await system.history(conversation))["messages"][-1]
    assert (answer["content"], answer["status"]) == ("Fine.", "complete")


async def test_a_stop_after_a_voice_whose_events_are_gone_keeps_the_answer(
    system: System,
) -> None:
    system.emulator.change({**FAST, "chat": {**FAST["chat"], "replies": ["Fine."]}})
    conversation = new()
    turn_id = await system.ask(conversation_id=conversation, content="How?")
    await system.ears.whole(turn_id)
    js = system.client.jetstream()
    await js.purge_stream("TTS_AUDIO", subject=f"tts.audio.{conversation}")
    body = {"conversation_id": conversation, "turn_id": turn_id, "heard_ms": 0}
    await system.client.request("chat.cancel", json.dumps(body).encode(), timeout=5)
    assert (await system.history(conversation))["messages"][-1]["content"] == "Fine."


async def test_a_stop_without_a_turn_id_means_no_voice_that_has_ended(system: System) -> None:
    system.emulator.change({**FAST, "chat": {**FAST["chat"], "replies": ["Fine."]}})
    conversation = new()
    await system.answered(conversation_id=conversation, content="How?")
    body = {"conversation_id": conversation, "heard_ms": 0}
    await system.client.request("chat.cancel", json.dumps(body).encode(), timeout=5)
    assert (await system.history(conversation))["messages"][-1]["content"] == "Fine."


async def test_a_turn_that_is_asked_for_again_while_it_runs_can_be_stopped(
    system: System,
) -> None:
    conversation = new()
    turn_id = await system.ask(conversation_id=conversation, content="Tell me a story.")
    turn = system.ears.turn(turn_id)
    await system.ears.until(lambda: chunks(turn) > 5)
    for _ in range(6):
        await system.ask(conversation_id=conversation, turn_id=turn_id, content="Tell me a story.")
    await until_one_request(system, conversation)
    await cancel(system, conversation, turn_id=turn_id)
    await system.ears.whole(turn_id, seconds=10)
    assert turn.end is not None
    assert turn.voice_end is not None
    assert (turn.end["finish_reason"], turn.end["attempt"]) == ("cancelled", 1)
    assert (turn.voice_end["finish"], turn.voice_end["attempt"]) == ("cancelled", 1)


async def speak(system: System, conversation: str, turn_id: str, text: str = LONG) -> None:
    body = {"turn_id": turn_id, "text": text}
    subject = f"tts.request.{conversation}"
    await system.client.jetstream().publish(subject, json.dumps(body).encode())


async def test_a_voice_that_is_asked_for_again_while_it_is_spoken_goes_on(system: System) -> None:
    conversation, turn_id = new(), new()
    await speak(system, conversation, turn_id)
    turn = system.ears.turn(turn_id)
    await system.ears.until(lambda: chunks(turn) > 5)
    for _ in range(6):
        await speak(system, conversation, turn_id)
    js = system.client.jetstream()
    until = time.monotonic() + 10
    while (await js.stream_info("TTS_REQUESTS")).state.messages > 1:
        assert time.monotonic() < until
    await cancel(system, conversation, turn_id=turn_id)
    await system.ears.until(lambda: turn.voice_end is not None)
    assert turn.voice_end is not None
    assert (turn.voice_end["finish"], turn.voice_end["attempt"]) == ("cancelled", 1)


async def test_a_turn_that_is_stopped_while_nobody_holds_it_ends_as_it_was(system: System) -> None:
    conversation = new()
    turn_id = await system.ask(conversation_id=conversation, content="Tell me a story.")
    waiting = await system.ask(conversation_id=conversation, content="Never asked.")
    turn = system.ears.turn(turn_id)
    await system.ears.until(lambda: len(turn.deltas) > 20)
    both = [s for s in system.services if s.name == "chat"]
    for service in both:  # whoever of the two holds it
        await service.kill()
    one = system.add("chat")
    await one.ready()
    for name in (waiting, turn_id):  # else the one that waits might begin before its own stop
        body = {"conversation_id": conversation, "turn_id": name}
        await system.client.request("chat.cancel", json.dumps(body).encode(), timeout=5)
    await system.ears.whole(turn_id, waiting)
    system.services[:] = [s for s in system.services if s not in both]
    assert turn.end is not None
    assert turn.end["finish_reason"] == "cancelled"
    # Where its lease ran out before the stop came, the next worker had begun it again.
    assert turn.end["text"] or turn.end["attempt"] > 1
    assert LONG.startswith(turn.end["text"])
    end = system.ears.turn(waiting).end
    assert end is not None
    assert (end["finish_reason"], end["text"]) == ("cancelled", "")
    answers = [m["content"] for m in (await system.history(conversation))["messages"]]
    assert answers == ["Tell me a story.", *filter(None, [turn.end["text"]])]
    await system.add("chat").ready()


async def test_an_interruption_stops_the_old_and_starts_the_new(system: System) -> None:
    conversation = new()
    first = await system.ask(conversation_id=conversation, content="Tell me a story.")
    await system.ears.until(lambda: chunks(system.ears.turn(first)) > 5)
    system.emulator.change({**FAST, "chat": {**FAST["chat"], "replies": ["Yes, I listen."]}})
    lag = await longest_answer(system, conversation)
    asked = time.monotonic()
    second = await system.ask(
        conversation_id=conversation, content="Stop. Listen!", on_busy="interrupt"
    )
    await system.ears.whole(first, second)
    old, turn = system.ears.turn(first), system.ears.turn(second)
    assert old.end is not None
    assert old.end["finish_reason"] == "cancelled"
    assert old.last_chunk is not None
    assert old.last_chunk - asked < 0.25 + 5 * lag
    assert_whole(turn, system)
    assert turn.first_text is not None
    assert turn.first_text - asked < 1.5 + 20 * lag
    prompt = [m["content"] for m in system.emulator.record.chats[-1].messages]
    assert old.end["text"] in prompt


@pytest.mark.parametrize("heard_ms", [None, 1000])
async def test_an_interruption_stops_a_voice_whose_text_is_done(
    system: System, heard_ms: int | None
) -> None:
    system.emulator.change({"chat": {"tokens_per_second": 0}})
    conversation = new()
    first = await system.ask(conversation_id=conversation, content="Tell me a story.")
    old = system.ears.turn(first)
    await system.ears.until(lambda: old.end is not None and chunks(old) > 20)
    system.emulator.change({**FAST, "chat": {**FAST["chat"], "replies": ["Yes, I listen."]}})
    lag = await longest_answer(system, conversation)
    asked = time.monotonic()
    more = {} if heard_ms is None else {"heard_ms": heard_ms}
    second = await system.ask(
        conversation_id=conversation, content="Stop. Listen!", on_busy="interrupt", **more
    )
    await system.ears.whole(first, second)
    turn = system.ears.turn(second)
    assert old.voice_end is not None
    assert old.voice_end["finish"] == "cancelled"
    assert old.last_chunk is not None
    assert turn.first_chunk is not None
    assert old.last_chunk < min(asked + 0.25 + 5 * lag, turn.first_chunk)
    assert_whole(turn, system)
    answer = system.emulator.record.chats[-1].messages[-2]["content"]
    if heard_ms is None:
        assert answer == LONG
    else:  # the computable voice says a character in 50 ms
        assert LONG.startswith(answer)
        assert 10 <= len(answer) <= 25


async def test_a_busy_conversation_rejects_who_does_not_want_to_wait(system: System) -> None:
    conversation = new()
    first = await system.ask(conversation_id=conversation, content="Tell me a story.")
    await system.ears.until(lambda: len(system.ears.turn(first).deltas) > 3)
    second = await system.ask(
        conversation_id=conversation, content="Now or never.", on_busy="reject"
    )
    await system.ears.whole(second)
    end, voice = system.ears.turn(second).end, system.ears.turn(second).voice_end
    assert end is not None
    assert voice is not None
    assert end["error"]["code"] == voice["error"]["code"] == "busy"
    await cancel(system, conversation)
    await system.ears.whole(first)


async def test_a_flood_in_one_conversation_holds_up_no_other(system: System) -> None:
    system.emulator.change({"chat": {"replies": ["Hello there."]}, "speech": FAST["speech"]})
    calm = (await system.answered(content="Anyone?", speech=False)).first_text
    assert calm is not None
    began = time.monotonic()
    quiet = await system.answered(content="Anyone?", speech=False)
    assert quiet.first_text is not None
    usual = quiet.first_text - began

    system.emulator.change(
        {
            "chat": {
                "tokens_per_second": 5,  # the first of them runs until all are dealt with
                "replies": [LONG],
                "answers": {"Anyone?": "Hello there."},
            }
        }
    )
    conversation = new()
    flood = [f"{conversation}-{n}" for n in range(500)]
    for turn_id in flood:
        body = {"conversation_id": conversation, "turn_id": turn_id, "content": "Me!"}
        await system.client.publish("chat.request", json.dumps(body | {"speech": False}).encode())
    await system.client.flush()
    began = time.monotonic()
    turn = await system.answered(content="Anyone?", speech=False)
    assert turn.first_text is not None
    delay = turn.first_text - began - usual
    # The promise is 100 ms; on two shared cores that also run this test, all servers and two
    # replicas of each service, the figure that matters is printed by the benchmark.
    assert delay < 1.0, f"{delay * 1000:.0f} ms later than usual"

    def ended() -> list[dict[str, Any]]:
        return [e for e in (system.ears.turn(t).end for t in flood) if e is not None]

    await system.ears.until(lambda: len(ended()) >= 500 - 21, 30)
    busy = [e for e in ended() if e["type"] == "failed"]
    assert {e["error"]["code"] for e in busy} == {"busy"}
    assert 478 <= len(busy) <= 480
    for turn_id in flood:
        await system.client.publish(
            "chat.cancel",
            json.dumps({"conversation_id": conversation, "turn_id": turn_id}).encode(),
        )
    await system.ears.whole(*flood, voice=False)


async def test_one_senders_order_is_kept_over_two_replicas(system: System) -> None:
    system.emulator.change({**FAST, "chat": {"first_token_ms": 2, "tokens_per_second": 0}})
    conversation = new()
    turns = [
        await system.ask(conversation_id=conversation, content=f"Number {n}.", speech=False)
        for n in range(15)
    ]
    await system.ears.whole(*turns, voice=False)
    messages = (await system.history(conversation))["messages"]
    users = [m["content"] for m in messages if m["role"] == "user"]
    assert users == [f"Number {n}." for n in range(15)]


async def test_a_voice_that_waits_for_a_slot_is_stopped(tmp_path: Path) -> None:
    async with System(tmp_path, script=SLOW, settings={"TTS_MAX_TURNS": "1"}) as system:
        await system.up()
        conversation, spoken, held, later = new(), new(), new(), new()
        await speak(system, conversation, spoken)
        await system.ears.until(lambda: chunks(system.ears.turn(spoken)) > 3)
        await speak(system, conversation, held)
        at = await cancel(system, conversation, turn_id=held)
        await system.ears.until(lambda: system.ears.turn(held).voice_end is not None)
        assert time.monotonic() - at < 10
        assert system.ears.turn(spoken).voice_end is None  # the slot is not free
        for service in [s for s in system.services if s.name == "tts"]:
            await service.kill()
        await system.add("tts").ready()
        await speak(system, conversation, later)
        await cancel(system, conversation, turn_id=later)
        await cancel(system, conversation, turn_id=spoken)
        turns = [system.ears.turn(name) for name in (held, later, spoken)]
        await system.ears.until(lambda: all(turn.voice_end for turn in turns))
        assert {turn.voice_end and turn.voice_end["finish"] for turn in turns} == {"cancelled"}
        assert chunks(system.ears.turn(held)) == 0  # `later` may have had the place for a moment
