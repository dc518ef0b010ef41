"""What a refusal by the provider means."""

from __future__ import annotations

import pytest

from services.chat.together.refusal import knows_no_stream_options, refused
from shared.errors import ContextTooLong, ProviderRateLimited, ProviderRefused


@pytest.mark.parametrize(
    ("status", "kind", "message"),
    [
        (
            400,
            "invalid_request_error context_length_exceeded",
            (
                "This model's maximum context length is 8192 tokens. However, your messages "
                "resulted in 9001 tokens. Please reduce the length of the messages."
            ),
        ),
        (400, "", "This model's maximum context length is 4096 tokens."),
        (400, "None context_length_exceeded", ""),
        (
            422,
            "invalid_request_error",
            (
                "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 8193. "
                "Given: 7500 `inputs` tokens and 4096 `max_new_tokens`"
            ),
        ),
        (400, "", "prompt is too long: 210000 tokens > 200000 maximum"),
        (400, "", "Prompt contains 40000 tokens, too large for model with 32768 maximum"),
        (
            400,
            "BadRequestError",
            "The input (9000 tokens) is longer than the model's context length",
        ),
        (400, "", "the request exceeds the available context size (4096 tokens)"),
        (400, "", "Input length 9000 exceeds the maximum allowed length of 8192"),
        (400, "", "Please reduce the length of the messages or completion."),
        (400, "", "The input token count (1200000) exceeds the maximum number of tokens allowed"),
        (400, "", "Requested token count exceeds the model's maximum context length"),
        (413, "", "Request too large for model: too many tokens"),
        (400, "", "max_total_tokens exceeded: max_seq_len is 4096"),
        (400, "string_above_max_length", "string too long"),
        (400, "", "Too many tokens in the prompt"),
    ],
)
def test_a_context_too_long_is_told_by_the_words_of_several_providers(
    status: int, kind: str, message: str
) -> None:
    assert isinstance(refused(status, message, kind), ContextTooLong)


@pytest.mark.parametrize(
    ("status", "kind", "message"),
    [
        (400, "invalid_request_error", "temperature must be between 0 and 2"),
        (400, "", "so said the provider"),
        (404, "model_not_found", "The model `x` does not exist or you do not have access to it."),
        (400, "", "stop: at most 4 sequences"),
        (400, "", "messages[0].role must be one of system, user, assistant"),
        (422, "", "Invalid value for seed"),
        (400, "content_filter", "The response was filtered"),
    ],
)
def test_another_refusal_is_not_taken_for_it(status: int, kind: str, message: str) -> None:
    assert type(refused(status, message, kind)) is ProviderRefused


def test_too_many_tokens_a_minute_are_no_long_context() -> None:
    error = refused(429, "Rate limit: too many tokens per minute", wait=2.0)

    assert type(error) is ProviderRateLimited
    assert error.wait == 2.0


@pytest.mark.parametrize(
    ("status", "text", "asked"),
    [
        (400, "Unrecognized request argument supplied: stream_options", True),
        (422, ("{'detail': [{'loc': ['body', 'stream_options'], 'msg': 'Extra inputs are "
              "not permitted'}]}"), True),
        (400, "unknown field include_usage", True),
        (400, "maximum context length is 8192 tokens", False),
        (500, "stream_options", False),
        (404, "unknown model", False),
    ],
)  # fmt: skip
def test_who_does_not_know_stream_options_is_told_by_its_words(
    status: int, text: str, *, asked: bool
) -> None:
    assert knows_no_stream_options(status, text) is asked
