"""The error tree: whose fault, which code, whether to try again."""

from __future__ import annotations

import re

import pytest

from shared import errors
from shared.contract import Code, Error
from shared.errors import (
    Busy,
    Cancelled,
    Conflict,
    Failure,
    InvalidRequest,
    NatsError,
    ParleyError,
    ProviderAuth,
    ProviderBroken,
    ProviderError,
    ProviderOverloaded,
    ProviderRateLimited,
    ProviderRefused,
    ProviderStalled,
    Superseded,
    TooLarge,
    Unsendable,
    from_status,
)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, ProviderRefused),
        (401, ProviderAuth),
        (402, ProviderAuth),
        (403, ProviderAuth),
        (404, ProviderRefused),
        (408, ProviderStalled),
        (409, ProviderOverloaded),
        (413, ProviderRefused),
        (422, ProviderRefused),
        (425, ProviderOverloaded),
        (429, ProviderRateLimited),
        (500, ProviderOverloaded),
        (502, ProviderOverloaded),
        (503, ProviderOverloaded),
        (504, ProviderOverloaded),
        (599, ProviderOverloaded),
    ],
)
def test_a_status_tells_whose_fault_it_is(status: int, kind: type[ProviderError]) -> None:
    error = from_status(status, "why", wait=1.5)

    assert type(error) is kind
    assert str(error) == "why"
    assert error.wait == 1.5


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 413, 422])
def test_what_a_repetition_cannot_mend_is_not_repeated(status: int) -> None:
    assert not from_status(status, "").retryable


@pytest.mark.parametrize("status", [408, 409, 425, 429, 500, 503, 504])
def test_what_may_pass_is_repeated(status: int) -> None:
    assert from_status(status, "").retryable


def test_users_see_code_words_and_whether_to_try_again() -> None:
    assert Busy("wait a little").as_error() == Error(Code.BUSY, "wait a little", retryable=True)
    assert ProviderAuth("no").as_error() == Error(Code.PROVIDER_AUTH, "no", retryable=False)


def test_an_error_without_words_says_its_code() -> None:
    assert str(ProviderBroken()) == "provider_broken"
    assert TooLarge().as_error().message == "too_large"


def every_failure() -> list[type[Failure]]:
    found = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    return [kind for kind in found if issubclass(kind, Failure) and kind is not Failure]


def test_every_code_has_its_error() -> None:
    assert {kind.code for kind in every_failure()} == set(Code)


@pytest.mark.parametrize("kind", [NatsError, Conflict, Unsendable, Superseded, Cancelled])
def test_no_user_is_told_what_is_between_us_and_nats(kind: type[ParleyError]) -> None:
    assert not issubclass(kind, Failure)


def test_a_lost_compare_and_set_is_an_error_of_nats() -> None:
    assert issubclass(Conflict, NatsError)


def test_the_table_in_the_docstring_is_true() -> None:
    rows = re.findall(r"(\w+) {2,}(\w+) {2,}(no|yes|later)\b", errors.__doc__ or "")
    told = {name: (code, word != "no") for name, code, word in rows}

    assert told == {
        kind.__name__: (kind.code.value, kind.retryable)
        for kind in every_failure()
        if kind is not ProviderError
    }


def test_a_body_that_is_too_large_is_an_invalid_request() -> None:
    assert issubclass(TooLarge, InvalidRequest)
