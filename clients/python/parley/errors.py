"""What can go wrong, by whose fault it is. `code` is stable: programs branch on the class or on it.

    ParleyError
     ├── InvalidRequest            invalid_request          the request was not understood
     │    └── TooLarge             too_large                over a limit
     ├── Busy                      busy                     a turn is under way, or too many wait
     ├── NotFound                  not_found                there is no such thing, or no more
     ├── ProviderError
     │    ├── ProviderAuth         provider_auth            its key, or a spending limit
     │    ├── ProviderRefused      provider_refused         the request itself
     │    ├── ProviderRateLimited  provider_rate_limited    too many requests
     │    ├── ProviderOverloaded   provider_overloaded      its capacity
     │    ├── ProviderStalled      provider_stalled         nothing came in time
     │    └── ProviderBroken       provider_broken          cut, or out of protocol
     ├── StorageUnavailable        storage_unavailable      a store or a stream took nothing
     ├── DeadlineExceeded          deadline_exceeded        it took too long
     ├── Internal                  internal                 a bug, or given up
     ├── Unreachable               unreachable              NATS is away, or nobody answers there
     └── Unauthorized              unauthorized             the login or token may not do this

The last two are the client's own; all others are the codes of the services.
"""

from __future__ import annotations

from typing import ClassVar

from parley.contract import Code, Error


class ParleyError(Exception):
    """Base of all: `message` for people, `code` for programs.

    `retryable` says whether the same request may succeed later.
    """

    code: ClassVar[str] = Code.INTERNAL.value
    _retryable: ClassVar[bool] = False

    def __init__(self, message: str = "", *, retryable: bool | None = None) -> None:
        super().__init__(message or self.code)
        self.message = message or self.code
        self.retryable = self._retryable if retryable is None else retryable


class InvalidRequest(ParleyError):
    code = Code.INVALID_REQUEST.value


class TooLarge(InvalidRequest):
    code = Code.TOO_LARGE.value


class Busy(ParleyError):
    code = Code.BUSY.value
    _retryable = True


class NotFound(ParleyError):
    code = Code.NOT_FOUND.value


class ProviderError(ParleyError):
    """The provider of the models."""

    code = Code.PROVIDER_BROKEN.value


class ProviderAuth(ProviderError):
    code = Code.PROVIDER_AUTH.value


class ProviderRefused(ProviderError):
    code = Code.PROVIDER_REFUSED.value


class ProviderRateLimited(ProviderError):
    code = Code.PROVIDER_RATE_LIMITED.value
    _retryable = True


class ProviderOverloaded(ProviderError):
    code = Code.PROVIDER_OVERLOADED.value
    _retryable = True


class ProviderStalled(ProviderError):
    code = Code.PROVIDER_STALLED.value
    _retryable = True


class ProviderBroken(ProviderError):
    code = Code.PROVIDER_BROKEN.value
    _retryable = True


class StorageUnavailable(ParleyError):
    code = Code.STORAGE_UNAVAILABLE.value
    _retryable = True


class DeadlineExceeded(ParleyError):
    code = Code.DEADLINE_EXCEEDED.value
    _retryable = True


class Internal(ParleyError):
    code = Code.INTERNAL.value


class Unreachable(ParleyError):
    code = "unreachable"
    _retryable = True


class Unauthorized(ParleyError):
    code = "unauthorized"


_BY_CODE: dict[str, type[ParleyError]] = {
    kind.code: kind
    for kind in (
        *(InvalidRequest, TooLarge, Busy, NotFound),
        *(ProviderAuth, ProviderRefused, ProviderRateLimited),
        *(ProviderOverloaded, ProviderStalled, ProviderBroken),
        *(StorageUnavailable, DeadlineExceeded, Internal),
    )
}


def from_error(error: Error) -> ParleyError:
    """The exception of what the wire says, to be raised.

    >>> from_error(Error(Code.BUSY, "a turn is under way", retryable=True))
    Busy('a turn is under way')
    """
    return from_code(error.code.value, error.message, retryable=error.retryable)


def from_code(code: str, message: str, *, retryable: bool) -> ParleyError:
    """A code of a newer service is `Internal`, and says so."""
    kind = _BY_CODE.get(code)
    if kind is None:
        return Internal(f"{message} ({code})", retryable=retryable)
    return kind(message, retryable=retryable)
