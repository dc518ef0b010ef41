"""Tokens as the emulated model makes them."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from local.together.completion import tokens


@given(st.text())
@example("  a\n\n- b_c\t__x__ 3.14!")
def test_tokens_joined_are_the_text(text: str) -> None:
    assert "".join(tokens(text)) == text


def test_tokens_are_some_characters_long() -> None:
    parts = tokens("Internationalisation of small words is fun.")
    assert parts[:3] == ["Interna", "tionali", "sation"]
    assert max(map(len, parts)) <= 8
