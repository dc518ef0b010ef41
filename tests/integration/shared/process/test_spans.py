"""Spans on their way to a collector, and where there is none."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from shared.process import spans, tracing
from shared.process.tracing import Tracing
from shared.spans import Operation
from tests.collector import Spanned, collector

if TYPE_CHECKING:
    from collections.abc import Iterator

MANY = 700  # whose spans are more than the SDK holds
TRACE = "0af7651916cd43dd8448eb211c80319c"


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        monkeypatch.delenv(name, raising=False)
    yield
    tracing.stop()


def turn(number: int = 0, headers: dict[str, str] | None = None) -> None:
    asked = datetime.now(UTC) - timedelta(seconds=1)
    tracer = Tracing("chat", "https://provider.example/v1")
    with tracer.turn(headers or {}, "c", f"t{number}", asked, 1) as span:
        with span.attempt(1).call(Operation.CHAT, "m") as call:
            call.first("token")
        span.ended("complete", attempt=1)


async def sent(**headers: str) -> list[Spanned]:
    async with collector() as found:
        tracing.configure(found.endpoint, "chat")
        turn(headers=headers)
        await asyncio.to_thread(tracing.stop)
        return found.spans


async def test_a_service_has_its_own_name() -> None:
    found = await sent()

    assert {span.service for span in found} == {"parley-chat"}
    assert len(found) == 4


@pytest.mark.parametrize(
    ("setting", "value"),
    [("OTEL_SERVICE_NAME", "ours"), ("OTEL_RESOURCE_ATTRIBUTES", "service.name=ours,a=b")],
)
async def test_an_operator_may_name_it(
    monkeypatch: pytest.MonkeyPatch, setting: str, value: str
) -> None:
    monkeypatch.setenv(setting, value)

    assert {span.service for span in await sent()} == {"ours"}


async def test_the_sampler_is_the_operators(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_traceidratio")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "0")

    assert await sent() == []
    assert await sent(traceparent=f"00-{TRACE}-b7ad6b7169203331-00") == []
    followed = await sent(traceparent=f"00-{TRACE}-b7ad6b7169203331-01")
    assert {span.trace for span in followed} == {TRACE}


async def test_an_sdk_that_is_disabled_leaves_a_turn_as_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")

    assert await sent() == []


async def test_a_request_without_a_trace_makes_the_same_one_whoever_takes_it_up() -> None:
    asked = datetime.now(UTC)
    tracer = Tracing("chat", "https://provider.example/v1")
    async with collector() as found:
        tracing.configure(found.endpoint, "chat")
        for deliveries in (1, 2):
            with tracer.turn({}, "c", "t", asked, deliveries):
                pass
        with tracer.turn({}, "c", "t", asked + timedelta(days=1), 1):  # the id came again
            pass
        await asyncio.to_thread(tracing.stop)

    turns = [span for span in found.spans if span.name == "chat.turn"]
    first, second, another = (span.trace for span in turns)
    assert first == second != another
    assert {span.parent for span in turns} == {""}


@pytest.mark.parametrize("listens", [True, False])
def test_a_collector_that_is_away_costs_a_turn_nothing_and_a_stop_little(
    monkeypatch: pytest.MonkeyPatch, *, listens: bool
) -> None:
    """One that hangs, and an address where nobody is."""
    monkeypatch.setattr(spans, "EXPORT_SECONDS", 1.0)
    monkeypatch.setattr(spans, "STOP_SECONDS", 0.2)
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as server:
        port = server.getsockname()[1]
        if not listens:
            server.close()
        tracing.configure(f"http://127.0.0.1:{port}", "chat")
        began = time.monotonic()
        for number in range(MANY):
            turn(number)
        took = time.monotonic() - began
        began = time.monotonic()
        tracing.stop()
        stopping = time.monotonic() - began

    assert took / MANY < 0.05  # nobody has waited for an export
    assert stopping < 5
