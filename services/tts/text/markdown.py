"""Takes markdown, code, links and emoji off a stream of text, so that only what is said remains.

How it reads: a mode says who reads on (`modes.py`). At the start of a line `blocks.py` asks the
rules for what may open one; within a line `inline.py` takes the longest plain stretch, or else
asks the one rule for the next character.
To add a rule, write a method in the class of its kind and name its character in `rules`: it first
looks (`Lookahead.char`, `span`, `find`: they may raise `More`, and then the rule is asked again
when more text is there), then says or drops what it has seen (`RunWriter`). Nothing may be said or
changed before the last look: then the result cannot depend on how the text was split, and each
rule holds back at most the limit that it looks ahead.
"""

from __future__ import annotations

from typing import Literal

from services.tts.text.blocks import Blocks
from services.tts.text.inline import CodeSpans, Emphasis, Inline
from services.tts.text.links import Links
from services.tts.text.lookahead import Lookahead, More
from services.tts.text.modes import Mode, Rule
from services.tts.text.runs import Run, RunWriter
from services.tts.text.symbols import Formulas, Pictures, Punctuation
from services.tts.text.tags import Tags


class MarkdownReader:
    """Reads a turn's text as it comes and gives out what is to be said of it.

    The runs, joined, are the same however the text is split. Ranges ascend and never overlap.
    """

    def __init__(
        self,
        *,
        code_blocks: Literal["skip", "announce"] = "skip",
        announcement: str = "Here is the code.",
    ) -> None:
        self._ahead = Lookahead()
        self._out = out = RunWriter(self._ahead)
        blocks = Blocks(out, announcement if code_blocks == "announce" else "")
        links, pictures = Links(out), Pictures(out)
        code = CodeSpans(out, blocks, pictures.other)
        rules: dict[str, Rule] = {
            "\n": blocks.newline,
            **code.rules(),
            **Emphasis(out).rules(),
            **links.rules(),
            **Tags(out).rules(),
            **Punctuation(out).rules(),
            **pictures.rules(),
            **Formulas(out).rules(),
        }
        self._mode = Mode.LINE_START
        self._scanners = {
            Mode.LINE_START: blocks.open_line,
            Mode.TEXT: Inline(out, rules, pictures.other).read,
            Mode.CODE_SPAN: code.read,
            Mode.ADDRESS: links.skip_address,
            Mode.CODE: blocks.skip_code,
            Mode.CODE_LINE_START: blocks.start_line_of_code,
            Mode.DEFINITION: blocks.skip_definition,
        }

    def feed(self, text: str) -> list[Run]:
        self._ahead.add(text)
        return self._read()

    def finish(self) -> list[Run]:
        """What was held back for a look ahead; nothing may be fed afterwards."""
        self._ahead.ended = True
        return self._read()

    def _read(self) -> list[Run]:
        ahead, scanners = self._ahead, self._scanners
        try:
            while not ahead.empty:
                self._mode = scanners[self._mode]()
        except More:
            pass  # who asked is asked again with the next text
        return self._out.take()
