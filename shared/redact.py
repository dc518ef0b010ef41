"""Noun: others' words as we repeat them: a refusal may quote the key that it refuses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

HIDDEN: Final = "***"


def hiding(secret: str) -> Callable[[str], str]:
    """Has every text say HIDDEN where it says `secret`."""

    def hide(text: str) -> str:
        return text.replace(secret, HIDDEN) if secret else text

    return hide
