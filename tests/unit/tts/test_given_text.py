from __future__ import annotations

import pytest

from services.tts.given_text import SLICE, GivenText
from services.tts.script import Ending, Script
from shared.contract import Done, FinishReason, Text

LONG = "".join(f"This is sentence {n}. " for n in range(100))


async def test_it_comes_as_the_events_of_a_turn_that_is_followed() -> None:
    *texts, end = [event async for event in GivenText("c", "t", LONG).events()]
    assert "".join(event.text for event in texts if isinstance(event, Text)) == LONG
    assert [event.seq for event in texts] == list(range(len(texts)))
    assert len(texts) == -(-len(LONG) // SLICE)
    assert isinstance(end, Done)
    assert (end.text, end.finish_reason) == (LONG, FinishReason.STOP)


@pytest.mark.parametrize("text", ["", "Hi.", LONG])
async def test_it_is_said_to_its_end(text: str) -> None:
    script = Script(max_chars=250, code_blocks="skip", max_characters=50_000)
    said = [
        piece.text
        async for event in GivenText("c", "t", text).events()
        for piece in script.add(event)
    ]
    assert " ".join(said) == text.strip()
    assert script.ending is Ending.DONE
    assert script.text == text


async def test_all_of_it_is_known_from_the_start() -> None:
    assert await GivenText("c", "t", LONG).whole() == LONG
