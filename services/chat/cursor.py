"""Noun: where a page of the history ends and the next older one begins."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared.errors import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shared.contract import Message


@dataclass(frozen=True, slots=True)
class Cursor:
    """A message that is known; wanted is what came before it.

    `page` is where it stood: that page, a newer one, or the document still has it, for messages
    only ever move from the document to the page that is written next. The time is for a message
    that is gone: its answer was stopped before anything was heard, or the conversation started
    over, and then nothing is older than it.
    """

    page: int
    created_at: str
    message_id: str

    @classmethod
    def at(cls, message: Message, page: int) -> Cursor:
        return cls(page, message.created_at, message.id)

    @classmethod
    def read(cls, text: str) -> Cursor:
        """Raises InvalidRequest."""
        page, _, rest = text.partition("_")
        created_at, _, message_id = rest.partition("_")
        if not (page.isascii() and page.isdigit() and len(page) < 10 and message_id):
            raise InvalidRequest("`before` must be what the page that is newer says as `before`")
        return cls(int(page), created_at, message_id)

    def __str__(self) -> str:
        return f"{self.page}_{self.created_at}_{self.message_id}"

    def place_in(self, messages: Sequence[Message]) -> int | None:
        """How many of them come before it; None where it is not among them."""
        for number, message in enumerate(messages):
            if (message.created_at, message.id) == (self.created_at, self.message_id):
                return number
        return None

    def is_after(self, message: Message) -> bool:
        """By the clock; for where it is not found itself."""
        return message.created_at <= self.created_at
