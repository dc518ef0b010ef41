"""Kinds of characters: what a voice says, and what it does not."""

from __future__ import annotations

import re

# Unicode has no simple property for "a picture": these are the blocks and the strays that
# assistants use. ©, ®, ™, °, arrows (← → ⇒), ♭ ♮ ♯ and CJK signs are text and stay.
PICTURES = (
    "\U0001f000-\U0001fbff\u2600-\u266c\u2670-\u27bf\u2b00-\u2bff\u25a0-\u25ff\u2500-\u259f"
    "\u231a\u231b\u2328\u23cf\u23e9-\u23fa\u2139\u24c2\u2194-\u2199\u21a9\u21aa\u3030\u303d"
)
# Zero width, direction and tag characters, controls, surrogates without their other half,
# private use (icon fonts), variation selectors and the keycap.
NOTHING = (
    "\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\r\u00ad\u061c"
    "\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f"
    "\ufeff\ufffc\ufffd\ufff9-\ufffb\ud800-\udfff\ue000-\uf8ff\ufe00-\ufe0f\u20e3"
    "\U000e0000-\U000e0fff\U000f0000-\U0010ffff"
)
DROPPED = PICTURES + NOTHING
JOINERS = "\u200c\u200d"  # they shape letters in Persian and Indic, and join pictures
KEYCAPS = "\ufe0f\u20e3"  # after a digit, * or #: drawn as a key
BREAKS = "\n\x0b\x0c\x1c-\x1e\x85\u2028\u2029"
SPACES = " \t\x1f\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000"

PICTURE = re.compile(f"[{PICTURES}]")
SILENT = re.compile(f"[{DROPPED}{JOINERS}]*")
INDENT = re.compile(rf"[{SPACES}]*")
WORD = re.compile(r"[A-Za-z0-9]")
SPEAKABLE = re.compile(r"[^\W_]|[%&@+=°©®™§€$£¥₹₽₩¢]")

# Chinese and Japanese have no spaces between words, and their characters take as long to say as
# two letters; so do those of Korean.
UNSPACED = (
    "\u3041-\u30fa\u30fc-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\u3005\U00020000-\U0003ffff"
)
WIDE = re.compile(f"[{UNSPACED}\uac00-\ud7a3\u3001-\u303f\uff01-\uff60]")
OPENING = "\"'“„‚«»‹›([¿¡「『（《"
