"""What the provider says when it refuses or fails, as errors of ours."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from services.tts.together.faults import (
    Fault,
    TooManyContexts,
    as_error,
    refused_handshake,
)
from shared.errors import (
    ProviderAuth,
    ProviderBroken,
    ProviderError,
    ProviderOverloaded,
    ProviderRateLimited,
    ProviderRefused,
)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        ({"code": "invalid_api_key", "message": "no"}, ProviderAuth),
        ({"code": "missing_api_key", "type": "invalid_request_error"}, ProviderAuth),
        ({"code": "model_not_available", "type": "invalid_request_error"}, ProviderRefused),
        ({"type": "invalid_request_error", "message": "voice"}, ProviderRefused),
        ({"code": "invalid_request_error"}, ProviderRefused),
        ({"code": None, "type": "invalid_request_error"}, ProviderRefused),
        ({"code": "rate_limit_exceeded"}, ProviderRateLimited),
        ({"type": "dynamic_request_limited"}, ProviderRateLimited),
        ({"code": 429}, ProviderRateLimited),
        ({"code": "401"}, ProviderAuth),
        ({"code": 402}, ProviderAuth),
        ({"code": 503}, ProviderOverloaded),
        ({"code": 1011}, ProviderBroken),
        ({"code": "overloaded"}, ProviderOverloaded),
        ({"code": "internal_error", "message": "x"}, ProviderBroken),
        ({"message": "Max contexts reached"}, TooManyContexts),
        ({"message": "Too many contexts: at most 100."}, TooManyContexts),
        ({"message": "The limit of 100 contexts is exceeded"}, TooManyContexts),
        ({"message": "The context is longer than allowed"}, ProviderBroken),
        ({"message": "100 contexts is the maximum"}, TooManyContexts),
        ({}, ProviderBroken),
        ("something", ProviderBroken),
        (None, ProviderBroken),
    ],
)
def test_errors_become_ours(error: object, expected: type[ProviderError]) -> None:
    fault = msgspec.convert(error, Fault | str | None)
    assert type(as_error(fault)) is expected


def test_an_error_always_has_words() -> None:
    assert str(as_error(None))
    assert str(as_error(Fault(code=500))) == "500"
    assert str(as_error(Fault(message="No."))) == "No."


def test_too_many_contexts_may_be_tried_again() -> None:
    assert TooManyContexts.retryable


def test_a_refused_handshake_tells_how_long_to_wait() -> None:
    error = refused_handshake(429, {"retry-after": "2.5"}, None, now=0.0)
    assert type(error) is ProviderRateLimited
    assert error.wait == 2.5
    assert "429" in str(error)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"error": {"message": "No such model.", "code": "model_not_available"}}, "No such model."),
        ({"error": "No."}, "No."),
        ({"error": {"code": "x"}}, "the socket was refused: 400"),
        ({"detail": "No."}, "the socket was refused: 400"),
        ([], "the socket was refused: 400"),
    ],
)
def test_a_refused_handshake_has_the_providers_words(body: Any, words: str) -> None:
    assert str(refused_handshake(400, {}, json.dumps(body).encode(), now=0.0)) == words


@pytest.mark.parametrize("body", [None, b"", b"<html>", b"{"])
def test_a_refusal_that_is_no_json_is_told_by_its_status(body: bytes | None) -> None:
    assert str(refused_handshake(503, {}, body, now=0.0)) == "the socket was refused: 503"
