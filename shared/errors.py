"""What can go wrong, as a small tree. The class tells whose fault it is, the code goes to the user.

    ParleyError
     ├── Failure                        what a user is told            retry?
     │    ├── InvalidRequest            invalid_request                no
     │    │    └── TooLarge             too_large                      no
     │    ├── Busy                      busy                           later
     │    ├── NotFound                  not_found                      no
     │    ├── ProviderError
     │    │    ├── ProviderAuth         provider_auth                  no   key, spending limit
     │    │    ├── ProviderRefused      provider_refused               no   the request itself
     │    │    │    └── ContextTooLong  provider_refused               no   more than it can read
     │    │    ├── ProviderRateLimited  provider_rate_limited          yes  429: our rate
     │    │    ├── ProviderOverloaded   provider_overloaded            yes  5xx: their capacity
     │    │    ├── ProviderStalled      provider_stalled               yes  nothing in time
     │    │    └── ProviderBroken       provider_broken                yes  cut, out of protocol
     │    ├── StorageUnavailable        storage_unavailable            yes
     │    │    └── StorageRefused       storage_unavailable            yes  an operator mends it
     │    ├── DeadlineExceeded          deadline_exceeded              yes
     │    └── Internal                  internal                       no   a bug, or given up
     │         └── Unreadable           internal                       no   a damaged document
     ├── NatsError                      NATS did not do it within the deadline: the message that was
     │    │                             worked on is handed back, and somebody does it again
     │    ├── Conflict                  a compare-and-set met another revision
     │    │    └── InFlight             another write there is still being agreed on
     │    ├── NoStream                  nobody answers for that stream at this moment
     │    ├── ApiError                  the JetStream API refused the request
     │    │    ├── NotNow               for the moment: the same again may be taken
     │    │    └── Full                 a stream, an account or a disk has no more room
     │    ├── Torn                      a burst was stored in another order than it was sent in
     │    ├── Unsendable                NATS would never take this message
     │    └── WrittenByNewer            a newer version wrote the document: it goes on with it
     ├── Superseded                     another worker has this work now
     └── Cancelled                      the user stopped the turn

An adapter translates a vendor's exceptions into these once, keeping the cause.
"""

from __future__ import annotations

from typing import ClassVar

from shared.contract import Code, Error


class ParleyError(Exception):
    """Base of all."""


class Failure(ParleyError):
    """What a user is told; `retryable` says whether the same request may succeed later."""

    code: ClassVar[Code] = Code.INTERNAL
    retryable: ClassVar[bool] = False

    def __str__(self) -> str:
        return super().__str__() or self.code.value

    def as_error(self) -> Error:
        """The form that users see."""
        return Error(self.code, str(self), self.retryable)


class InvalidRequest(Failure):
    code = Code.INVALID_REQUEST


class TooLarge(InvalidRequest):
    code = Code.TOO_LARGE


class Busy(Failure):
    code = Code.BUSY
    retryable = True


class NotFound(Failure):
    code = Code.NOT_FOUND


class ProviderError(Failure):
    """Together AI, or what stands in for it. `wait` is the pause it asked for, in seconds."""

    code = Code.PROVIDER_BROKEN

    def __init__(self, message: str = "", *, wait: float | None = None) -> None:
        super().__init__(message)
        self.wait = wait


class ProviderAuth(ProviderError):
    code = Code.PROVIDER_AUTH


class ProviderRefused(ProviderError):
    code = Code.PROVIDER_REFUSED


class ContextTooLong(ProviderRefused):
    """Messages and answer are more than the model can read: fewer messages may do."""


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


class StorageUnavailable(Failure):
    code = Code.STORAGE_UNAVAILABLE
    retryable = True


class StorageRefused(StorageUnavailable):
    """What no repeating mends: a wrong key, a name that no bucket may have."""


class DeadlineExceeded(Failure):
    code = Code.DEADLINE_EXCEEDED
    retryable = True


class Internal(Failure):
    code = Code.INTERNAL


class Unreadable(Internal):
    """A document that is none of ours: nobody can go on with it, it can only be erased."""

    def __init__(self, what: str) -> None:
        super().__init__(f"{what} cannot be read; erase the conversation to begin anew")


class NatsError(ParleyError):
    """NATS did not do what was asked, within the deadline."""


class Conflict(NatsError):
    """A compare-and-set met another revision than it expected."""


class InFlight(Conflict):
    """Another write to the same subject is still being agreed on in the cluster."""


class NoStream(NatsError):
    """There is no stream of that name, or nobody answers for it at this moment."""


class ApiError(NatsError):
    """The JetStream API refused a request. `code` is like an HTTP status, `err_code` says more."""

    def __init__(self, code: int, err_code: int, description: str) -> None:
        super().__init__(f"{description} ({err_code})")
        self.code, self.err_code = code, err_code


class NotNow(ApiError):
    """Refused for the moment only: a change of leader, or the same message is under way already."""


class Full(ApiError):
    """There is no more room, in the stream, in the account or on the disk."""


class Torn(NatsError):
    """A burst was stored in another order than it was sent in: a leader changed in its midst.

    All of it is stored, and stays; only saying it again, as a higher attempt, gives the order back.
    """


class Unsendable(NatsError):
    """NATS would never take this message."""


class WrittenByNewer(NatsError):
    """An older version must not rewrite a document: what it does not know would be lost."""

    def __init__(self, what: str, found: int, known: int) -> None:
        super().__init__(f"{what} has version {found}, and this worker knows {known}")


class Superseded(ParleyError):
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
