"""A text that comes in parts, read with a look ahead that cannot depend on how it was split."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import re

MARKER = 64  # how far ahead to look for the end of a run of one sign: ***, ~~~, ......


class More(Exception):
    """What has arrived does not tell; ask again when more is there."""


class Lookahead:
    """The text that is still to be read, and one character before it.

    Reading past what has arrived raises `More`, so a rule that looks only through `char`, `span`
    and `find`, and changes nothing before its last look, decides the same however the text came.
    Positions are those of `text`; `index` turns them into positions in the whole text.
    """

    def __init__(self) -> None:
        self.text = "\n"  # a text begins like a line
        self.at = 1  # the next character to read
        self.ended = False
        # What to add to a position in `text` for one in the whole text, which lacks the "\n" above.
        self.offset = -1

    def add(self, text: str) -> None:
        self.offset += self.at - 1
        self.text = self.text[self.at - 1 :] + text
        self.at = 1

    def index(self, position: int) -> int:
        return self.offset + position

    @property
    def empty(self) -> bool:
        return self.at >= len(self.text)

    @property
    def before(self) -> str:
        """The character in front of the next one, as it was written."""
        return self.text[self.at - 1]

    def char(self, position: int) -> str:
        """The character there; "" after the end of the text.

        Raises:
            More: it has not arrived.
        """
        if position < len(self.text):
            return self.text[position]
        if self.ended:
            return ""
        raise More

    def span(self, kind: re.Pattern[str], start: int, limit: int) -> int:
        """Where the characters of a kind (a pattern `[...]*`) end, at most `limit` after `start`.

        Raises:
            More: what has arrived ends before they do.
        """
        stop = start + limit
        found = kind.match(self.text, start, stop)
        end = found.end() if found else start
        if end >= len(self.text) and end < stop and not self.ended:
            raise More
        return end

    def find(self, what: str, start: int, limit: int) -> int:
        """Where `what` begins within `limit` characters after `start`; -1 if it does not.

        Raises:
            More: it may still come.
        """
        stop = start + limit
        found = self.text.find(what, start, stop)
        if found < 0 and len(self.text) < stop and not self.ended:
            raise More
        return found

    def starts(self, words: str, position: int) -> bool:
        """Whether the text goes on with these words, in any case of letters.

        Raises:
            More: so far it does.
        """
        there = self.text[position : position + len(words)].lower()
        if len(there) < len(words) and words.startswith(there) and not self.ended:
            raise More
        return there == words
