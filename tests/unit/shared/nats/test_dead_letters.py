"""A dead letter keeps the original's headers, tells the reason, and obeys nobody."""

from __future__ import annotations

import re

import pytest

from shared.errors import InvalidRequest, ProviderBroken, TooLarge
from shared.nats.dead_letters import _ROOM, headers_of

SUBJECT = "chat.request.c1"


def of(headers: dict[str, str], reason: str = "why") -> dict[str, str]:
    return headers_of(headers, SUBJECT, InvalidRequest(reason), 3)


def bytes_on_the_wire(headers: dict[str, str]) -> int:
    lines = (f"{name}: {value}\r\n" for name, value in headers.items())
    return len(f"NATS/1.0\r\n{''.join(lines)}\r\n".encode())


def test_a_dead_letter_tells_why_from_where_and_how_often() -> None:
    headers = headers_of({}, SUBJECT, TooLarge("the body has 9 bytes"), 3)
    failed_at = headers.pop("Parley-Failed-At")

    assert headers == {
        "Parley-Error-Code": "too_large",
        "Parley-Error": "the body has 9 bytes",
        "Parley-Subject": SUBJECT,
        "Parley-Deliveries": "3",
    }
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", failed_at)


def test_the_headers_of_the_original_are_kept() -> None:
    headers = of({"traceparent": "00-ab-cd-01", "Parley-Turn": "t1", "X_1": "ü"})

    assert headers["traceparent"] == "00-ab-cd-01"
    assert headers["Parley-Turn"] == "t1"
    assert headers["X_1"] == "ü"


@pytest.mark.parametrize("name", ["Nats-Msg-Id", "nats-msg-id", "NATS-Expected-Stream"])
def test_a_header_that_the_server_would_obey_is_renamed(name: str) -> None:
    headers = of({name: "x"})

    assert headers[f"Parley-Original-{name}"] == "x"
    assert not [each for each in headers if each.lower().startswith("nats-")]


@pytest.mark.parametrize("name", ["", "a b", "a:b", "a\r\nb", "a\n", "ü", "a" * 129, "a.b"])
def test_a_header_whose_name_is_none_is_left_out(name: str) -> None:
    assert set(of({name: "x"})) == set(of({}))


@pytest.mark.parametrize("evil", ["x\r\nNats-Rollup: all", "x\nNats-Rollup: all", "x\r"])
def test_no_value_breaks_out_of_its_line(evil: str) -> None:
    headers = of({"A": evil}, reason=evil)

    assert not [value for value in headers.values() if "\r" in value or "\n" in value]


def test_the_reason_cannot_be_forged_by_the_original() -> None:
    headers = of({"Parley-Error": "all is well", "Parley-Error-Code": "none"})

    assert headers["Parley-Error"] == "why"
    assert headers["Parley-Error-Code"] == "invalid_request"


@pytest.mark.parametrize(
    "hostile",
    [
        {"A": "x" * 1_000_000},
        {f"H{n}": "x" * 100 for n in range(10_000)},
        {f"Nats-{n}": "" for n in range(10_000)},
        {f"n{n}": "" for n in range(10_000)},
        {f"H{n}": "🌊" * 500 for n in range(100)},
        {f"H{n}": "\r\n" * 500 for n in range(100)},
    ],
)
def test_headers_never_outgrow_the_room_that_is_left_for_them(hostile: dict[str, str]) -> None:
    longest = "chat.request." + "c" * 4_000  # a subject and its line in the protocol: 4,096 bytes
    headers = headers_of(hostile, longest, ProviderBroken("🌊" * 5_000), 10**9)

    assert bytes_on_the_wire(headers) < _ROOM


def test_one_header_that_is_too_large_takes_no_room_from_a_small_one() -> None:
    headers = of({"Parley-Turn": "t1", "Huge": "x" * 100_000})

    assert headers["Parley-Turn"] == "t1"
    assert "Huge" not in headers
