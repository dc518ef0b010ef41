"""What can go wrong, as a small tree. The class tells whose fault it is, the code goes to the user.

    ParleyError                      code                    retry?
     ├── InvalidRequest              invalid_request         no
     │    └── TooLarge               too_large               no
     ├── Busy                        busy                    later
     ├── NotFound                    not_found               no
     ├── ProviderError
     │    ├── ProviderAuth           provider_auth           no    key refused, spending limit
     │    ├── ProviderRefused        provider_refused        no    the request itself was refused
     │    ├── ProviderRateLimited    provider_rate_limited   yes   429: our rate
     │    ├── ProviderOverloaded     provider_overloaded     yes   5xx: their capacity
     │    ├── ProviderStalled        provider_stalled        yes   nothing came within a deadline
     │    └── ProviderBroken         provider_broken         yes   cut, garbled, out of protocol
     ├── StorageUnavailable          storage_unavailable     yes
     ├── DeadlineExceeded            deadline_exceeded       yes
     ├── Internal                    internal                no    a bug of ours, or given up
     ├── Replaced                    (never sent: another worker has this work now)
     └── Cancelled                   (never sent: the user stopped the turn)

An adapter translates a vendor's exceptions into these once, keeping the cause.
"""

from __future__ import annotations

from typing import ClassVar

from shared.contract import Code, Error


class ParleyError(Exception):
    """Base of all; `retryable` says whether the same request may succeed later."""

    code: ClassVar[Code] = Code.INTERNAL
    retryable: ClassVar[bool] = False

    def __str__(self) -> str:
        return super().__str__() or self.code.value

    def as_error(self) -> Error:
        """The form that users see."""
        return Error(self.code, str(self), self.retryable)


class InvalidRequest(ParleyError):
    code = Code.INVALID_REQUEST


class TooLarge(InvalidRequest):
    code = Code.TOO_LARGE


class Busy(ParleyError):
    code = Code.BUSY
    retryable = True


class NotFound(ParleyError):
    code = Code.NOT_FOUND


class ProviderError(ParleyError):
    """Together AI, or what stands in for it. `wait` is the pause it asked for, in seconds."""

    code = Code.PROVIDER_BROKEN

    def __init__(self, message: str = "", *, wait: float | None = None) -> None:
        super().__init__(message)
        self.wait = wait


class ProviderAuth(ProviderError):
    code = Code.PROVIDER_AUTH


class ProviderRefused(ProviderError):
    code = Code.PROVIDER_REFUSED


class ProviderRateLimited(ProviderError):
    code = Code.PROVIDER_RATE_LIMITED
    retryable = True


class ProviderOverloaded(ProviderError):
    code = Code.PROVIDER_OVERLOADED
    retryable = True


class ProviderStalled(ProviderError):
    code = Code.PROVIDER_STALLED
    retryable = True


class ProviderBroken(ProviderError):
    code = Code.PROVIDER_BROKEN
    retryable = True


class StorageUnavailable(ParleyError):
    code = Code.STORAGE_UNAVAILABLE
    retryable = True


class DeadlineExceeded(ParleyError):
    code = Code.DEADLINE_EXCEEDED
    retryable = True


class Internal(ParleyError):
    code = Code.INTERNAL


class Replaced(ParleyError):
    """Another worker has taken this piece of work over: publish nothing more, stop."""


class Cancelled(ParleyError):
    """The user stopped the turn."""


# An error of the provider by its HTTP status; 402 is the spending limit, which no retry mends.
_BY_STATUS: dict[int, type[ProviderError]] = {
    401: ProviderAuth,
    402: ProviderAuth,
    403: ProviderAuth,
    408: ProviderStalled,
    409: ProviderOverloaded,
    425: ProviderOverloaded,
    429: ProviderRateLimited,
}


def from_status(status: int, message: str, *, wait: float | None = None) -> ProviderError:
    """The error that an HTTP status of the provider means; 5xx is their capacity."""
    fallback = ProviderOverloaded if status >= 500 else ProviderRefused
    return _BY_STATUS.get(status, fallback)(message, wait=wait)
