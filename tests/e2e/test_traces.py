"""What an operator finds of a turn in a collector of traces."""

from __future__ import annotations

import json
import signal
import uuid
from typing import TYPE_CHECKING, Any, Final

import pytest
import pytest_asyncio

from tests.collector import Collector, Spanned, collector
from tests.e2e.whole import SENTENCES
from tests.system import System

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(180)]

MODEL: Final = "meta-llama/Llama-3.3-70B-Instruct-Turbo"
SCRIPT: Final[dict[str, Any]] = {
    "chat": {"first_token_ms": 20, "tokens_per_second": 200, "replies": [SENTENCES]},
    "speech": {"realtime_factor": 100, "first_audio_ms": 20},
    "faults": [
        {"kind": "chat.status", "status": 401, "match": "without a key"},
        {"kind": "chat.status", "status": 503, "match": "busy at first", "times": 1},
        {"kind": "chat.cut", "after": 5, "match": "cut once", "times": 1},
        {"kind": "chat.slow", "seconds": 0.5, "match": "slowly"},
    ],
}
SETTINGS: Final = {
    "OTEL_BSP_SCHEDULE_DELAY": "100",  # milliseconds; a killed process loses what it holds
    "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=test",
    "CHAT_MODEL": MODEL,
}
SECRET: Final = "a-word-of-the-user"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def traces() -> AsyncIterator[Collector]:
    async with collector() as found:
        yield found


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def system(
    traces: Collector, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[System]:
    settings = {**SETTINGS, "OTEL_EXPORTER_OTLP_ENDPOINT": traces.endpoint}
    folder = tmp_path_factory.mktemp("system")
    async with System(folder, script=SCRIPT, settings=settings) as running:
        await running.up()
        yield running


async def asked(
    system: System, content: str, *, flags: str = "01", named: bool = True, **request: Any
) -> tuple[str, str, str]:
    """Asks within a trace; returns turn, trace and the publisher's span."""
    turn, trace, parent = f"t{uuid.uuid4().hex}", uuid.uuid4().hex, uuid.uuid4().hex[:16]
    body = {"turn_id": turn, "conversation_id": f"c-{turn}", "content": content, **request}
    headers = {"traceparent": f"00-{trace}-{parent}-{flags}"} if named else None
    js = system.client.jetstream()
    await js.publish("chat.request", json.dumps(body).encode(), headers=headers)
    return turn, trace, parent


def tree(spans: Sequence[Spanned], parent: str) -> list[Any]:
    """Names below a parent, by their start, each with what is below it."""
    below = sorted((s for s in spans if s.parent == parent), key=lambda s: (s.start, s.end))
    return [(span.name, inner) if (inner := tree(spans, span.id)) else span.name for span in below]


def named(spans: Sequence[Spanned], name: str) -> list[Spanned]:
    return sorted((s for s in spans if s.name == name), key=lambda s: s.start)


def one(spans: Sequence[Spanned], name: str) -> Spanned:
    (found,) = named(spans, name)
    return found


def outcome(span: Spanned) -> tuple[str, str, str]:
    """Its status, outcome and error."""
    told = span.attributes
    return span.status, told.get("parley.outcome", ""), told.get("error.type", "")


async def test_a_turn_is_one_tree_from_the_publisher_through_both_services(
    system: System, traces: Collector
) -> None:
    turn, trace, publisher = await asked(system, f"Hello, {SECRET}!")
    await system.ears.whole(turn)
    spans = await traces.turn(trace, "chat.turn", "tts.turn")
    speech = one(spans, "tts.turn").id
    pieces = len(named(spans, "tts.piece"))
    said = next(s.name for s in spans if s.name.startswith("text_to_speech "))

    assert tree(spans, publisher) == [
        (
            "chat.turn",
            [
                "chat.queue",
                ("chat.attempt", [f"chat {MODEL}"]),
                (
                    "tts.turn",
                    [
                        "tts.queue",
                        ("tts.attempt", [*[("tts.piece", [said])] * pieces, "tts.upload"]),
                    ],
                ),
            ],
        )
    ]
    assert pieces > 1
    assert {s.attributes["parley.turn"] for s in spans} == {turn}
    assert {s.attributes["gen_ai.conversation.id"] for s in spans} == {f"c-{turn}"}
    before_any = {"chat.queue", "tts.queue"}
    assert {s.attributes["parley.attempt"] for s in spans if s.name not in before_any} == {1}
    assert {s.status for s in spans} == {"unset"}
    assert outcome(one(spans, "chat.turn")) == ("unset", "stop", "")
    assert outcome(one(spans, "tts.turn")) == ("unset", "complete", "")
    assert {s.kind for s in spans if s.name.endswith(".turn")} == {"consumer"}
    assert {s.service for s in spans} == {"parley-chat", "parley-tts"}
    queue = one(spans, "chat.queue")
    assert queue.start == one(spans, "chat.turn").start <= queue.end
    events = {h["traceparent"].split("-")[2] for h, _ in system.ears.turn(turn).audio}
    assert events == {speech}
    assert SECRET.encode() not in b"".join(traces.bodies)


async def test_a_call_of_a_model_says_what_the_conventions_ask_for(
    system: System, traces: Collector
) -> None:
    turn, trace, _ = await asked(system, "Hello!")
    await system.ears.whole(turn)
    spans = await traces.turn(trace, "chat.turn", "tts.turn")
    call, end = one(spans, f"chat {MODEL}"), system.ears.turn(turn).end
    assert end is not None

    told = dict(call.attributes)
    first = told.pop("gen_ai.response.time_to_first_chunk")
    assert told == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "together_ai",
        "gen_ai.request.model": MODEL,
        "gen_ai.request.stream": True,
        "gen_ai.output.type": "text",
        "gen_ai.response.model": MODEL,
        "gen_ai.response.finish_reasons": ["stop"],
        "gen_ai.usage.input_tokens": end["usage"]["prompt_tokens"],
        "gen_ai.usage.output_tokens": end["usage"]["completion_tokens"],
        "gen_ai.conversation.id": f"c-{turn}",
        "server.address": "127.0.0.1",
        "server.port": int(system.emulator.base_url.split(":")[2].split("/")[0]),
        "parley.conversation": f"c-{turn}",
        "parley.turn": turn,
        "parley.attempt": 1,
    }
    assert call.kind == "client"
    assert call.start < call.events["first_token"] < call.end
    assert 0 < first <= (call.end - call.start) / 1e9
    speech = next(s for s in spans if s.name.startswith("text_to_speech "))
    assert speech.kind == "client"
    assert speech.attributes["gen_ai.output.type"] == "speech"
    assert speech.name == f"text_to_speech {speech.attributes['gen_ai.request.model']}"
    assert speech.start < speech.events["first_audio"] <= speech.end


async def test_a_turn_that_fails_is_a_failure_in_each_of_its_steps(
    system: System, traces: Collector
) -> None:
    turn, trace, _ = await asked(system, f"Answer without a key, {SECRET}.")
    await system.ears.whole(turn)
    spans = await traces.turn(trace, "chat.turn", "tts.turn")

    failed = ("error", "failed", "provider_auth")
    steps = ("chat.turn", "chat.attempt", f"chat {MODEL}", "tts.turn", "tts.attempt")
    assert {name: outcome(one(spans, name)) for name in steps} == dict.fromkeys(steps, failed)
    assert {s.message for s in spans} == {""}  # what a provider says may quote a user
    assert SECRET.encode() not in b"".join(traces.bodies)


async def test_a_call_that_is_tried_again_is_a_span_of_its_own(
    system: System, traces: Collector
) -> None:
    turn, trace, publisher = await asked(system, "You are busy at first.", speech=False)
    await system.ears.whole(turn, voice=False)
    spans = await traces.turn(trace, "chat.turn")

    calls = [f"chat {MODEL}"] * 2
    assert tree(spans, publisher) == [("chat.turn", ["chat.queue", ("chat.attempt", calls)])]
    assert [outcome(s)[::2] for s in named(spans, f"chat {MODEL}")] == [
        ("error", "provider_overloaded"),
        ("unset", ""),
    ]
    assert outcome(one(spans, "chat.turn")) == ("unset", "stop", "")


async def test_an_attempt_that_broke_off_has_failed_and_the_next_one_has_not(
    system: System, traces: Collector
) -> None:
    turn, trace, _ = await asked(system, "You are cut once.", speech=False)
    await system.ears.whole(turn, voice=False)
    spans = await traces.turn(trace, "chat.turn")

    assert [(s.attributes["parley.attempt"], outcome(s)) for s in named(spans, "chat.attempt")] == [
        (1, ("error", "failed", "provider_broken")),
        (2, ("unset", "stop", "")),
    ]
    assert one(spans, "chat.turn").attributes["parley.attempt"] == 2


async def test_a_piece_that_broke_off_has_failed_and_is_said_again(
    system: System, traces: Collector
) -> None:
    system.emulator.add_fault({"kind": "speech.abort", "after": 1, "times": 1})
    turn, trace, _ = await asked(system, "Hello!")
    await system.ears.whole(turn)
    spans = await traces.turn(trace, "chat.turn", "tts.turn")

    first, second = named(spans, "tts.attempt")
    broken, *said = named(spans, "tts.piece")
    assert outcome(first) == outcome(broken) == ("error", "failed", "provider_broken")
    assert outcome(second) == ("unset", "complete", "")
    assert {s.status for s in said} == {"unset"}
    assert broken.parent == first.id
    assert {s.parent for s in said} == {second.id}
    assert outcome(one(spans, "tts.turn")) == ("unset", "complete", "")


async def test_a_request_that_is_refused_is_a_turn_that_failed(
    system: System, traces: Collector
) -> None:
    turn, trace, publisher = await asked(system, "", speech=False)
    await system.ears.whole(turn, voice=False)
    spans = await traces.turn(trace, "chat.turn")

    assert tree(spans, publisher) == [("chat.turn", ["chat.queue"])]
    assert outcome(one(spans, "chat.turn")) == ("error", "failed", "invalid_request")


async def test_a_stop_is_no_error_while_it_runs_nor_while_it_waits(
    system: System, traces: Collector
) -> None:
    turn, trace, _ = await asked(system, "Answer slowly.")
    running = system.ears.turn(turn)
    await system.ears.until(lambda: running.first_text is not None)
    waiting, its_trace, _ = await asked(system, "And then?", conversation_id=f"c-{turn}")
    for each in (waiting, turn):
        stop = {"conversation_id": f"c-{turn}", "turn_id": each}
        await system.client.request("chat.cancel", json.dumps(stop).encode(), timeout=10)
        await system.ears.whole(each)
    spans = await traces.turn(trace, "chat.turn", "tts.turn")
    unstarted = await traces.turn(its_trace, "chat.turn")

    assert {s.status for s in [*spans, *unstarted]} == {"unset"}
    steps = ("chat.turn", "chat.attempt", f"chat {MODEL}", "tts.turn", "tts.attempt")
    assert {name: outcome(one(spans, name))[1] for name in steps} == dict.fromkeys(
        steps, "cancelled"
    )
    assert outcome(one(unstarted, "chat.turn"))[1] == "cancelled"


async def test_a_turn_that_its_publisher_does_not_sample_leaves_no_span(
    system: System, traces: Collector
) -> None:
    turn, trace, _ = await asked(system, "Hello!", flags="00")
    await system.ears.whole(turn)
    after, its_trace, _ = await asked(system, "Hello again!")
    await system.ears.whole(after)
    await traces.turn(its_trace, "chat.turn", "tts.turn")

    assert traces.of(trace) == []
    carried = {h["traceparent"] for h, _ in system.ears.turn(turn).audio}
    assert {(value.split("-")[1], value.split("-")[3]) for value in carried} == {(trace, "00")}


async def test_a_collector_that_hangs_or_refuses_holds_no_turn_up(
    system: System, traces: Collector
) -> None:
    traces.open.clear()
    turn, _, _ = await asked(system, "Hello!")
    await system.ears.whole(turn)
    await traces.until(lambda: traces.waiting > 0)
    during, _, _ = await asked(system, "Hello again!")
    await system.ears.whole(during)
    assert traces.waiting > 0
    traces.status = 400
    traces.open.set()
    refused, _, _ = await asked(system, "And again!")
    await system.ears.whole(refused)
    traces.status = 200

    for each in (turn, during, refused):
        end = system.ears.turn(each).end
        assert end is not None
        assert end["type"] == "done"


async def test_a_turn_that_another_replica_takes_over_stays_in_one_trace(
    system: System, traces: Collector
) -> None:
    """Also where its publisher has named none."""
    turn, trace, _ = await asked(system, "Answer slowly.", speech=False)
    unnamed, _, _ = await asked(system, "Answer slowly.", speech=False, named=False)
    both = (turn, unnamed)

    def told(each: str, name: str) -> list[Spanned]:
        return [s for s in named(traces.spans, name) if s.attributes["parley.turn"] == each]

    # All that can be told of a worker before it dies: how long the turn had waited for it.
    await traces.until(lambda: all(told(each, "chat.queue") for each in both))
    running = [system.ears.turn(each) for each in both]
    await system.ears.until(lambda: all(each.first_text is not None for each in running))
    old = next(s for s in system.services if s.name == "chat" and s.running)
    system.emulator.change({"faults": []})
    new = system.add("chat")
    old.signal(signal.SIGKILL)
    await new.ready()
    await system.ears.whole(*both, voice=False, seconds=60)
    await traces.until(lambda: all(told(each, "chat.turn") for each in both))
    system.emulator.change({"faults": SCRIPT["faults"]})

    for each in both:
        spans = [s for s in traces.spans if s.attributes["parley.turn"] == each]
        assert one(spans, "chat.attempt").attributes["parley.attempt"] == 2
        assert one(spans, "chat.turn").attributes["parley.deliveries"] > 1
        assert len(named(spans, "chat.queue")) == 2
        assert len({s.trace for s in spans}) == 1
    assert {s.trace for s in told(turn, "chat.turn")} == {trace}
