from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Literal

import pytest

from services.tts.script import Ending, Script
from shared.contract import (
    Code,
    Done,
    Error,
    Failed,
    FinishReason,
    Reasoning,
    Started,
    Text,
    Usage,
)

if TYPE_CHECKING:
    from services.tts.text.segments import Piece

TEXT = "It rains, and **nobody** minds.\n\n```\ncode\n```\nSee [the sea](https://sea.example)."


def script(
    *,
    max_chars: int = 250,
    code_blocks: Literal["skip", "announce"] = "skip",
    max_characters: int = 50_000,
) -> Script:
    return Script(max_chars=max_chars, code_blocks=code_blocks, max_characters=max_characters)


def started(attempt: int = 1) -> Started:
    return Started("c", "t", attempt, 0, model="m", metadata={}, speech=True, created_at="")


def text(words: str, attempt: int = 1) -> Text:
    return Text("c", "t", attempt, 1, text=words)


def done(finish: FinishReason = FinishReason.STOP) -> Done:
    return Done(
        "c",
        "t",
        1,
        9,
        finish_reason=finish,
        text="",
        usage=Usage(0, 0),
        first_token_ms=None,
        duration_ms=0,
        metadata={},
    )


def said(found: list[Piece]) -> list[str]:
    return [piece.text for piece in found]


def whole(words: str, *, max_chars: int = 250) -> list[Piece]:
    each = script(max_chars=max_chars)
    return [*each.say(words), *each.finish()]


def test_what_is_said_is_the_text_without_its_markup() -> None:
    assert " ".join(said(whole(TEXT))) == "It rains, and nobody minds. See the sea."


def test_each_piece_knows_where_it_stands_in_the_text() -> None:
    found = whole(TEXT)
    assert [piece.index for piece in found] == list(range(len(found)))
    assert all(a.end <= b.start for a, b in pairwise(found))
    for piece in found:
        first, last = piece.text.split()[0], piece.text.rstrip(".,").split()[-1]
        assert first in TEXT[piece.start : piece.end]
        assert last in TEXT[piece.start : piece.end]


def test_the_pieces_do_not_depend_on_how_the_text_came() -> None:
    each = script()
    found = [piece for char in TEXT for piece in each.add(text(char))]
    assert [*found, *each.add(done())] == whole(TEXT)
    assert each.text == TEXT


def test_no_piece_is_longer_than_the_limit() -> None:
    found = whole("word " * 200, max_chars=40)
    assert max(len(piece.text) for piece in found) <= 40


def test_a_later_attempt_starts_over() -> None:
    each = script()
    each.add(started())
    each.add(text("This is one thing.\n"))
    assert each.add(started(2)) == []
    assert said(each.add(text("That is another.\n", 2))) == ["That is another."]
    assert [piece.index for piece in each.add(text("More of it.\n", 2))] == [1]
    assert each.text == "That is another.\nMore of it.\n"


def test_reasoning_is_never_said() -> None:
    each = script()
    assert each.add(Reasoning("c", "t", 1, 1, text="Let me think.\n")) == []
    assert (each.text, each.ending) == ("", Ending.OPEN)


@pytest.mark.parametrize("finish", [FinishReason.STOP, FinishReason.LENGTH])
def test_the_end_gives_out_what_was_held_back(finish: FinishReason) -> None:
    each = script()
    assert said(each.add(text("Almost"))) == []
    assert said(each.add(done(finish))) == ["Almost"]
    assert each.ending is Ending.DONE


def test_a_cancelled_text_says_nothing_more() -> None:
    each = script()
    each.add(text("Almost"))
    assert each.add(done(FinishReason.CANCELLED)) == []
    assert each.ending is Ending.CANCELLED


def test_a_failed_text_tells_why() -> None:
    error = Error(Code.PROVIDER_STALLED, "quiet", retryable=True)
    each = script()
    each.add(text("Almost"))
    assert each.add(Failed("c", "t", 1, 2, error=error)) == []
    assert (each.ending, each.error) == (Ending.FAILED, error)


def test_beyond_the_limit_of_characters_nothing_is_said() -> None:
    each = script(max_characters=12)
    found = [*each.say("One two "), *each.say("three four "), *each.say("five."), *each.finish()]
    assert said(found) == ["One two thre"]
    assert each.text == "One two thre"
    assert each.truncated


def test_a_text_of_just_the_limit_is_whole() -> None:
    each = script(max_characters=8)
    each.say("One two.")
    each.finish()
    assert not each.truncated


def test_a_text_answered_anew_is_measured_anew() -> None:
    each = script(max_characters=8)
    each.say("One two three.")
    each.add(started(2))
    assert not each.truncated


def test_code_may_be_announced() -> None:
    each = script(code_blocks="announce")
    found = said([*each.say(TEXT), *each.finish()])
    assert len(found) > len(whole(TEXT))
    assert not any("code\n" in piece for piece in found)
