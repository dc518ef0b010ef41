"""Noun: about how many tokens a text takes. The provider counts in its own way."""

from __future__ import annotations

import re
from typing import Final

# Tokenizers of today's models, measured on plain prose: English about 4 characters a token, other
# alphabets 2 to 3, Chinese, Japanese and Korean about 1. Rather too many than a request refused.
_LATIN_CHARACTERS: Final = 4
_OTHER_CHARACTERS: Final = 2
PER_MESSAGE: Final = 4  # role and separators
_WIDE: Final = re.compile(
    "[\u1100-\u11ff\u2e80-\u9fff\uac00-\ud7ff\uf900-\ufaff\uff00-\uffef\U00020000-\U0003ffff]"
)
_LATIN: Final = re.compile("[\u0000-\u024f\u1e00-\u1eff\u2000-\u206f]")


def tokens(text: str) -> int:
    """At least 1 for a text that is not empty."""
    if text.isascii():
        return -(-len(text) // _LATIN_CHARACTERS)
    wide = len(_WIDE.findall(text))
    latin = len(_LATIN.findall(text))
    other = len(text) - wide - latin
    return wide + -(-latin // _LATIN_CHARACTERS) + -(-other // _OTHER_CHARACTERS)
