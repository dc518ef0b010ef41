"""A message's trace context is carried on, and nothing else of it."""

from __future__ import annotations

import pytest

from shared.process.tracing import carried, span

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


def test_without_an_exporter_a_span_carries_what_came() -> None:
    with span("chat.turn", {"traceparent": TRACE, "Nats-Msg-Id": "x"}) as found:
        found.note(parley__turn="t1")

    assert found.headers == {"traceparent": TRACE}
