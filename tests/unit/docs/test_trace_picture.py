"""A trace as a picture: each span below the one that began it, whatever it is called."""

from __future__ import annotations

from dataclasses import replace
from xml.etree import ElementTree as ET

from docs.traces.picture import rows, svg
from tests.collector import Spanned

MS = 1_000_000
TURN = Spanned(
    service="parley-chat",
    name="chat.turn",
    trace="t",
    id="1",
    parent="of the publisher",
    kind="consumer",
    start=0,
    end=100 * MS,
    status="unset",
    message="",
    attributes={},
    events={},
)
CALL = replace(
    TURN,
    id="3",
    name="chat a<b&c " + "x" * 80,
    parent="2",
    kind="client",
    start=20 * MS,
    end=60 * MS,
    status="error",
    attributes={"error.type": "provider_overloaded"},
    events={"first_token": 35 * MS},
)
ATTEMPT = replace(TURN, id="2", name="chat.attempt", parent="1", start=10 * MS)
SPANS = [CALL, ATTEMPT, TURN]


def test_each_span_stands_below_the_one_that_began_it() -> None:
    assert [(depth, span.id) for depth, span in rows(SPANS)] == [(0, "1"), (1, "2"), (2, "3")]


def test_the_picture_says_how_long_each_took_and_what_failed() -> None:
    drawn = "{http://www.w3.org/2000/svg}text"
    said = [each.text for each in ET.fromstring(svg(SPANS, "A & B")).iter(drawn)]

    assert said[0] == "A & B"
    assert "100 ms" in said
    assert "40 ms · first_token after 15 ms · provider_overloaded" in said
    (name,) = [text for text in said if text and text.startswith("chat a<b&c")]
    assert name.endswith("…")
