"""Tokens as the emulated model makes them."""

from __future__ import annotations

import pytest

from local.emulated_chat import error_body, tokens


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Hello there, how are you?",
        "  a\n\n- b_c\t__x__ 3.14!",
        "日本語のテキスト。",
        "😀 naïve",
    ],
)
def test_tokens_joined_are_the_text(text: str) -> None:
    assert "".join(tokens(text)) == text


def test_tokens_are_some_characters_long() -> None:
    parts = tokens("Internationalisation of small words is fun.")
    assert parts[:3] == ["Interna", "tionali", "sation"]
    assert max(map(len, parts)) <= 8


def test_errors_have_the_providers_form() -> None:
    error = error_body(429)["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["code"] == "dynamic_request_limited"
