"""One class for each code."""

from __future__ import annotations

import json

import parley
import pytest
from parley.contract import Code, Error
from parley.errors import from_code, from_error
from parley.wire import refused

from shared import errors as services


@pytest.mark.parametrize("code", Code)
def test_each_code_has_a_class_like_that_of_the_services(code: Code) -> None:
    found = from_error(Error(code, "why", retryable=True))
    name = code.value.title().replace("_", "")
    theirs = getattr(services, name)

    assert type(found) is getattr(parley, name)
    assert (found.code, found.message, str(found)) == (code.value, "why", "why")
    assert found.retryable
    assert type(found)().retryable == theirs.retryable
    assert theirs.code.value == code.value


def test_a_code_of_a_newer_service_is_told_with_its_name() -> None:
    found = from_code("out_of_tea", "none left", retryable=True)

    assert type(found) is parley.Internal
    assert str(found) == "none left (out_of_tea)"
    assert found.retryable


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        ({"conversation_id": "c"}, None),
        ({"error": {"code": "busy", "message": "m", "retryable": True}}, parley.Busy),
        ({"error": {"code": "new", "message": "m", "retryable": True}}, parley.Internal),
        ({"error": {"code": 503, "description": "full"}}, parley.StorageUnavailable),
    ],
)
def test_an_answer_says_what_went_wrong(answer: object, kind: type | None) -> None:
    found = refused(json.dumps(answer).encode())

    assert (None if found is None else type(found)) is kind


def test_an_answer_that_cannot_be_read_is_an_error() -> None:
    assert isinstance(refused(b"\xff"), parley.Internal)
