"""Why a store did not do it, in fixed words, and who can mend it."""

from __future__ import annotations

import socket
import ssl
from typing import TYPE_CHECKING, Final
from xml.etree.ElementTree import ParseError

import urllib3
from minio.error import MinioException, S3Error, ServerError

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse

_WRONG_KEY: Final = "check MINIO_ACCESS_KEY and MINIO_SECRET_KEY"
_CLOCKS: Final = "set this machine's clock or the store's"
# What no repeating mends, and who can mend it.
_LASTING: Final = {
    "InvalidAccessKeyId": _WRONG_KEY,
    "SignatureDoesNotMatch": _WRONG_KEY,
    # Also what a wrong key looks like where the answer has no body.
    "AccessDenied": f"{_WRONG_KEY}, and that they may read and write in MINIO_BUCKET",
    "AuthorizationHeaderMalformed": "check MINIO_REGION",
    "InvalidBucketName": "check MINIO_BUCKET",
    "NoSuchBucket": "check MINIO_BUCKET",  # and nobody lets us make it
    "PermanentRedirect": "check MINIO_REGION and MINIO_ENDPOINT",
    "RequestTimeTooSkewed": _CLOCKS,
    "ValueError": "check MINIO_BUCKET and MINIO_ENDPOINT",
}
_HINTS: Final = {
    "NameResolutionError": "check MINIO_ENDPOINT",
    "NewConnectionError": "is there a store at MINIO_ENDPOINT?",
    "SSLError": "check MINIO_SECURE and the store's certificate",
    "InvalidResponseError": "check MINIO_ENDPOINT and MINIO_SECURE",
}
# An answer that is not what S3 answers; what minio-py makes of it is not a MinioException.
_GARBLED: Final = (ParseError, ValueError)

# All that a request to a store may raise.
FAILURES: Final = (MinioException, urllib3.exceptions.HTTPError, OSError, *_GARBLED)


def refused(response: BaseHTTPResponse) -> MinioException:
    """What the store answered instead of 200, in minio-py's words."""
    if b"<Code>" in response.data:
        return S3Error.fromxml(response)
    return ServerError(f"HTTP {response.status}", response.status)


def reason_of(exc: Exception) -> str:
    """A fixed word: an exception's own text may hold addresses and what a stranger answered."""
    if isinstance(exc, S3Error):
        return str(exc.code)
    if isinstance(exc, ServerError):
        return f"HTTP {exc.status_code}"
    # As urllib3 calls them, whoever it was that met them.
    if isinstance(exc, ssl.SSLError):
        return "SSLError"
    if isinstance(exc, socket.gaierror):
        return "NameResolutionError"
    return type(exc).__name__


def lasts(reason: str) -> bool:
    """True for what no repeating mends."""
    return reason in _LASTING


def explained(what: str, reason: str) -> str:
    hint = _LASTING.get(reason) or _HINTS.get(reason)
    return f"{what}: {reason}; {hint}" if hint else f"{what}: {reason}"
