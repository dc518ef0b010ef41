"""What the provider says when it refuses or fails, as errors of ours."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct

from shared.errors import (
    ProviderAuth,
    ProviderBroken,
    ProviderError,
    ProviderOverloaded,
    ProviderRateLimited,
    ProviderRefused,
    from_status,
)
from shared.retry import asked_pause

if TYPE_CHECKING:
    from collections.abc import Mapping


class Fault(Struct, frozen=True):
    """What the provider says of an error."""

    message: str | None = None
    type: str | None = None
    param: Any = None
    code: str | int | None = None


class TooManyContexts(ProviderOverloaded):
    """This socket holds as many contexts as the provider allows: go to another one."""


_CODES: dict[str, type[ProviderError]] = {
    "invalid_api_key": ProviderAuth,
    "missing_api_key": ProviderAuth,
    "authentication_error": ProviderAuth,
    "permission_error": ProviderAuth,
    "insufficient_quota": ProviderAuth,
    "model_not_available": ProviderRefused,
    "model_not_found": ProviderRefused,
    "too_many_contexts": TooManyContexts,
    "max_contexts_reached": TooManyContexts,
    "context_limit_reached": TooManyContexts,
    "rate_limit": ProviderRateLimited,
    "rate_limit_error": ProviderRateLimited,
    "rate_limit_exceeded": ProviderRateLimited,
    "rate_limited": ProviderRateLimited,
    "too_many_requests": ProviderRateLimited,
    "dynamic_request_limited": ProviderRateLimited,
    "dynamic_token_limited": ProviderRateLimited,
    "overloaded": ProviderOverloaded,
    "overloaded_error": ProviderOverloaded,
    "service_unavailable": ProviderOverloaded,
}
# The general word comes last: `type` says invalid_request_error of nearly everything.
_TYPES: dict[str, type[ProviderError]] = {**_CODES, "invalid_request_error": ProviderRefused}
# "Max contexts reached", "maximum of 100 contexts", "too many contexts": no code is documented.
_CONTEXTS = re.compile(
    r"\b(?:max|many|limit|exceed|reached)\w*\b.*\bcontexts\b"
    r"|\bcontexts\b.*\b(?:max|limit|exceed|reached)",
    re.IGNORECASE | re.DOTALL,
)


def as_error(fault: Fault | str | None) -> ProviderError:
    """The error of ours that the provider means."""
    if not isinstance(fault, Fault):
        fault = Fault(message=fault)
    message = fault.message or str(fault.code or fault.type or "the provider gave no reason")
    return _error_class(fault, message)(message)


def refused_handshake(
    status: int, headers: Mapping[str, str], body: bytes | bytearray | None, *, now: float
) -> ProviderError:
    """The error that the HTTP answer to a handshake means; `now` is Unix time."""
    message = _said(body) or f"the socket was refused: {status}"
    return from_status(status, message, wait=asked_pause(headers, now=now))


def _error_class(fault: Fault, message: str) -> type[ProviderError]:
    if _CONTEXTS.search(message):
        return TooManyContexts
    code = fault.code
    if isinstance(code, str) and code.isdigit():
        code = int(code)
    if isinstance(code, int):
        return type(from_status(code, message)) if 400 <= code < 600 else ProviderBroken
    return (
        _CODES.get(code or "")
        or _TYPES.get(fault.type or "")
        or _TYPES.get(code or "")
        or ProviderBroken
    )


class _Refusal(Struct):
    error: Fault | str | None = None


def _said(body: bytes | bytearray | None) -> str:
    """The provider's own words."""
    try:
        error = msgspec.json.decode(body or b"", type=_Refusal).error
    except msgspec.DecodeError:
        return ""
    return (error.message or "") if isinstance(error, Fault) else (error or "")
