"""Quotes and brackets around the end of a sentence."""

from __future__ import annotations

import pytest

from services.tts.text.lookahead import Lookahead, More
from services.tts.text.quotes import bracket_around, closed, closed_wide
from tests.unit.tts.text.texts import all_of


def after(text: str, mark: str) -> int:
    return text.rindex(mark) + 2  # behind the mark; a lookahead begins with one more character


@pytest.mark.parametrize(
    ("text", "closing"),
    [
        ("It ends. Then", ""),
        ('It "ends." Then', '"'),
        ('It "ends.") Then', '")'),
        ("« Fini. » Puis", " »"),
        ("Fini. » Puis", ""),  # nothing was opened
        ("»Halt.« Dann", "«"),
    ],
)
def test_what_closes_behind_a_sentence_belongs_to_it(text: str, closing: str) -> None:
    end = after(text, ".")
    assert closed(all_of(text), end) == end + len(closing)


def test_wide_signs_look_ahead_only_inside_quotes() -> None:
    ahead = Lookahead()
    ahead.add("「はい。")
    with pytest.raises(More):
        closed_wide(ahead, 5)
    ahead = Lookahead()
    ahead.add("「は」い。")
    assert closed_wide(ahead, 6) == 6
    assert closed_wide(all_of("「はい。」そ"), 5) == 6


@pytest.mark.parametrize(
    ("text", "opened"),
    [
        ("a (b c", 2),
        ("a (b) c", -1),
        ("a (b) (c", 6),
        ("a b", -1),
        ("（b c", 0),
        ("(" + "x" * 80, -1),  # so long ago that it does not matter
    ],
)
def test_a_bracket_that_is_open(text: str, opened: int) -> None:
    ahead = all_of(text)
    found = bracket_around(ahead, len(ahead.text))
    assert found == (opened + ahead.at if opened >= 0 else -1)


def test_only_the_piece_under_way_counts() -> None:
    ahead = all_of("(a b", at=1)
    assert bracket_around(ahead, len(ahead.text)) == -1
