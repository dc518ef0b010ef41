"""Noun: what a model thinks in front of its answer, told from the answer.

Reasoning models without a field of their own for it put `<think>` and `</think>` into the content.
"""

from __future__ import annotations

import enum
from typing import Final

from services.chat.ports import Said, Thought

OPENING: Final = "<think>"
CLOSING: Final = "</think>"


class _State(enum.Enum):
    FRONT = "front"  # nothing but space so far, or the beginning of the opening tag
    THINKING = "thinking"
    AFTER = "after"  # behind the closing tag, where space is nobody's
    ANSWERING = "answering"


class Thinking:
    """Fed the content as it comes, however the tags are split; holds back no more than a tag.

    Only what stands in front is thought: a tag inside an answer is text.
    """

    def __init__(self) -> None:
        self._state = _State.FRONT
        self._held = ""

    def feed(self, text: str) -> list[Said | Thought]:
        if self._state is _State.ANSWERING:
            return [Said(text)] if text else []
        self._held += text
        parts: list[Said | Thought] = []
        if self._state is _State.FRONT:
            parts += self._front()
        if self._state is _State.THINKING:
            parts += self._think()
        if self._state is _State.AFTER:
            parts += self._after()
        return parts

    def finish(self) -> list[Said | Thought]:
        """The content has ended: what was held back is what it looked like."""
        held, self._held = self._held, ""
        if not held:
            return []
        return [Thought(held)] if self._state is _State.THINKING else [Said(held)]

    def _front(self) -> list[Said | Thought]:
        begins = self._held.lstrip()
        if begins.startswith(OPENING):
            self._state, self._held = _State.THINKING, begins[len(OPENING) :]
            return []
        if OPENING.startswith(begins):  # also while there is only space
            return []
        return self._answer()

    def _think(self) -> list[Said | Thought]:
        thought, tag, rest = self._held.partition(CLOSING)
        if tag:
            self._state, self._held = _State.AFTER, rest
        else:
            keep = _overlap(self._held)
            thought, self._held = (
                self._held[: len(self._held) - keep],
                self._held[-keep:] * (keep > 0),
            )
        return [Thought(thought)] if thought else []

    def _after(self) -> list[Said | Thought]:
        self._held = self._held.lstrip()
        return self._answer() if self._held else []

    def _answer(self) -> list[Said | Thought]:
        self._state = _State.ANSWERING
        said, self._held = self._held, ""
        return [Said(said)]


def _overlap(text: str) -> int:
    """How many characters at the end of `text` may be the beginning of the closing tag."""
    for length in range(min(len(CLOSING) - 1, len(text)), 0, -1):
        if CLOSING.startswith(text[-length:]):
            return length
    return 0
