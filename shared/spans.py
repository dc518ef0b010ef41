"""Noun: a turn's spans as the verbs see them; without tracing all of them are `OFF`.

Each is begun in one call and given what it says in another, with plain arguments, so that where
nobody traces nothing is made but the call. What a span is called, and its attributes, stands in
`shared/process/spans.py`. No span holds a word of a user.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Self

from shared.errors import Failure, NatsError, ParleyError

if TYPE_CHECKING:
    from types import TracebackType


class Operation(Enum):
    """What a model is asked for."""

    CHAT = "chat"
    SPEECH = "text_to_speech"


class Span:
    """One that does nothing, and the form of those that do.

    Leaving its `with` ends it, and with it the attempt that it began last; what is raised through
    it is its outcome. `headers` carry its context to what follows from it; empty without tracing.
    """

    __slots__ = ()

    headers: Mapping[str, str] = MappingProxyType({})

    def attempt(self, number: int) -> Span:  # noqa: ARG002  nothing is done with anything here
        """The turn's next attempt; ends the one before it."""
        return self

    def call(self, operation: Operation, model: str) -> Span:  # noqa: ARG002  as above
        """A request to a model, and its answer."""
        return self

    def piece(self, index: int, characters: int) -> Span:  # noqa: ARG002  as above
        """A piece of the text, as often as it is said."""
        return self

    def upload(self) -> Span:
        """The object's way to the store, within the attempt under way."""
        return self

    def first(self, what: str) -> None:
        """The first of what a call gives has come: such as "token"."""

    def answered(self, model: str, reason: str) -> None:
        """A call has ended by itself: which model answered ("" if it does not say), and why."""

    def used(self, given: int | None, made: int | None) -> None:
        """Tokens, as the provider counts them."""

    def failed(self, error: BaseException) -> None:
        """How it will have ended, where `error` is not raised through it."""

    def ended(self, outcome: str, code: str = "", *, attempt: int = 0) -> None:
        """How it ends, and the attempt under way; with a `code` it has failed."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        return None


OFF: Final = Span()


def outcome_of(error: BaseException) -> tuple[str, str]:
    """The outcome that an exception is, and its code where that is a failure.

    A stop, work that is somebody else's by now, or handed back in good order, is none.
    """
    if not isinstance(error, Exception):
        return "interrupted", ""  # the task was cancelled, or nobody wants more
    if isinstance(error, Failure):
        return "failed", error.as_error().code.value
    if isinstance(error.__cause__, Failure):
        return outcome_of(error.__cause__)
    if isinstance(error, ParleyError) and not isinstance(error, NatsError):
        return type(error).__name__.lower(), ""  # cancelled, superseded, repeated
    return "failed", type(error).__name__
