from __future__ import annotations

import io

import pytest
from minio.error import S3Error, ServerError
from urllib3 import HTTPResponse
from urllib3.exceptions import ProtocolError

from services.tts.minio.reasons import FAILURES, explained, lasts, reason_of, refused


def answer(status: int, body: bytes = b"") -> HTTPResponse:
    headers = {"Content-Type": "application/xml"}
    return HTTPResponse(io.BytesIO(body), headers, status, preload_content=False)


def refusal(code: str) -> HTTPResponse:
    return answer(403, f"<Error><Code>{code}</Code><Message>secret</Message></Error>".encode())


def test_a_refusal_of_the_store_is_named_by_its_code() -> None:
    found = refused(refusal("SlowDown"))
    assert isinstance(found, S3Error)
    assert reason_of(found) == "SlowDown"


@pytest.mark.parametrize("body", [b"", b"<html>Bad gateway</html>"])
def test_an_answer_without_a_code_is_named_by_its_status(body: bytes) -> None:
    found = refused(answer(502, body))
    assert isinstance(found, ServerError)
    assert reason_of(found) == "HTTP 502"


@pytest.mark.parametrize(
    "error", [ProtocolError("to 10.0.0.1: secret"), OSError("secret"), ValueError("x")]
)
def test_anything_else_is_named_by_its_kind_and_never_by_its_text(error: Exception) -> None:
    assert isinstance(error, FAILURES)
    assert reason_of(error) == type(error).__name__


@pytest.mark.parametrize(
    "reason",
    ["AccessDenied", "NoSuchBucket", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ValueError"],
)
def test_what_no_repeating_mends_says_what_to_check(reason: str) -> None:
    assert lasts(reason)
    assert explained("storing", reason).startswith(f"storing: {reason}; check MINIO_")


def test_what_may_pass_is_explained_where_somebody_can_mend_it() -> None:
    assert not lasts("SlowDown")
    assert not lasts("NewConnectionError")
    assert explained("erasing", "SlowDown") == "erasing: SlowDown"
    assert explained("erasing", "NewConnectionError").endswith(
        "is there a store at MINIO_ENDPOINT?"
    )
