"""What is being read of a text; the table from modes to scanners stands in `markdown.py`."""

from __future__ import annotations

import enum
from collections.abc import Callable


class Mode(enum.StrEnum):
    """Returned by what has just read something: how reading goes on."""

    LINE_START = "the start of a line, or what follows its markers"
    TEXT = "what stands in a line"
    CODE_SPAN = "code within a line"
    ADDRESS = "what follows the host name of a URL"
    CODE = "a line of a block of code"
    CODE_LINE_START = "where a line of a block of code begins, or the block ends"
    DEFINITION = "the address that a label stands for"


# Asked for one character; None means that the line goes on as text.
Rule = Callable[[], Mode | None]
