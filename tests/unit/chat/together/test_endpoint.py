"""Where chat completions are, and whether their usage is asked for."""

from __future__ import annotations

import pytest

from services.chat.together.endpoint import Endpoint, UsageAsked
from shared.contract import Usage

TOLD, UNTOLD = Usage(5, 2), Usage(None, None)


@pytest.mark.parametrize(
    ("base_url", "url"),
    [
        ("https://api.together.ai/v1", "https://api.together.ai/v1/chat/completions"),
        ("https://h/v1/", "https://h/v1/chat/completions"),
        ("https://h/openai/v1", "https://h/openai/v1/chat/completions"),
        ("https://h/api/paas/v4", "https://h/api/paas/v4/chat/completions"),
        ("https://h/v1beta/openai/", "https://h/v1beta/openai/chat/completions"),
        ("https://h/d%2Fx?api-version=1", "https://h/d%2Fx/chat/completions?api-version=1"),
    ],
)
def test_the_base_url_is_used_as_it_is_written(base_url: str, url: str) -> None:
    assert Endpoint(base_url).urls == (url,)


@pytest.mark.parametrize("base_url", ["http://h:8000", "http://h:8000/"])
def test_an_address_without_a_path_is_tried_as_written_first(base_url: str) -> None:
    endpoint = Endpoint(base_url)

    assert endpoint.urls == (
        "http://h:8000/chat/completions",
        "http://h:8000/v1/chat/completions",
    )
    endpoint.settle("http://h:8000/v1/chat/completions")
    assert list(endpoint.urls) == ["http://h:8000/v1/chat/completions"]


@pytest.mark.parametrize(
    ("base_url", "wanted"),
    [
        ("https://api.together.ai/v1", False),
        ("https://api.together.xyz/v1", False),
        ("https://api.example.com/v1", True),
        ("http://127.0.0.1:8000/v1", True),
    ],
)
def test_usage_is_asked_for_where_it_does_not_come_by_itself(
    base_url: str, *, wanted: bool
) -> None:
    assert UsageAsked(Endpoint(base_url)).wanted is wanted


def test_the_provider_is_asked_too_once_an_answer_came_without() -> None:
    usage = UsageAsked(Endpoint("https://api.together.ai/v1"))
    usage.finished(TOLD)
    assert not usage.wanted

    usage.finished(UNTOLD)
    assert usage.wanted


def test_who_refuses_to_be_asked_is_not_asked_again() -> None:
    usage = UsageAsked(Endpoint("http://h/v1"))
    usage.answered(asked=False, refused=True)
    usage.finished(UNTOLD)

    assert not usage.wanted
    assert not usage.taken
