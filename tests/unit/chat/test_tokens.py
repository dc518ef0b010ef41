"""About how many tokens a text takes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.chat.tokens import tokens


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("", 0),
        ("Hi", 1),
        ("four", 1),
        ("fours", 2),
        ("你好世界", 4),
        ("こんにちは", 5),
        ("안녕하세요", 5),
        ("Привет", 3),
        ("Grüße", 2),
        ("a你b好", 3),
    ],
)
def test_it_goes_by_the_script(text: str, count: int) -> None:
    assert tokens(text) == count


@given(st.text(), st.text())
def test_more_text_never_takes_fewer(one: str, two: str) -> None:
    assert max(tokens(one), tokens(two)) <= tokens(one + two) <= tokens(one) + tokens(two)
