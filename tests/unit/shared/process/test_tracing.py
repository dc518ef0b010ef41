"""A message's trace context is carried on, and nothing else of it."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime

import pytest

from local.process import ROOT
from shared.process.tracing import Tracing, carried, onward
from shared.spans import OFF, Operation

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def test_a_trace_is_carried_and_nothing_else() -> None:
    headers = {"traceparent": TRACE, "Nats-Msg-Id": "x", "Authorization": "secret"}

    assert carried(headers) == {"traceparent": TRACE}


@pytest.mark.parametrize(
    "wrong",
    ["", "x", TRACE + "\n", TRACE + "-more", TRACE.upper(), TRACE[:-1], f"{TRACE}\r\nA: b"],
)
def test_a_trace_that_is_none_is_not_carried(wrong: str) -> None:
    assert carried({"traceparent": wrong}) == {}


def test_a_message_without_a_trace_carries_nothing() -> None:
    assert carried({}) == {}


def test_without_an_exporter_nothing_is_made_and_what_came_is_carried() -> None:
    headers = {"traceparent": TRACE, "Nats-Msg-Id": "x"}
    span = Tracing("chat", "http://provider").turn(headers, "c", "t", datetime.now(UTC), 1)

    assert span is OFF
    assert onward(span, headers) == {"traceparent": TRACE}
    with span as turn, turn.attempt(1) as attempt, attempt.call(Operation.CHAT, "m") as call:
        assert (turn, attempt, call) == (OFF, OFF, OFF)
        assert call.piece(0, 1) is OFF
        assert call.upload() is OFF


def test_without_an_exporter_opentelemetry_is_not_loaded() -> None:
    program = (
        "import sys, services.chat.answer, services.tts.speak; "
        "from shared.process import tracing; tracing.configure(None, 'chat'); "
        "sys.exit(any(name.startswith('opentelemetry') for name in sys.modules))"
    )

    assert subprocess.run([sys.executable, "-c", program], check=False, cwd=ROOT).returncode == 0
