"""Errors as the provider writes them."""

from __future__ import annotations

from local.together.http import error_body


def test_errors_have_the_providers_form() -> None:
    error = error_body(429)["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["code"] == "dynamic_request_limited"
