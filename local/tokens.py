"""Conversation tokens for the page, as docs/security.md says that a backend makes them."""

from __future__ import annotations

import base64
import json
import time
from typing import Final

import nkeys  # type: ignore[import-untyped]  # it has no types

SECONDS: Final = 12 * 3600
MAY: Final = ("ask", "cancel", "history", "listen")


def mint(seed: str, conversation_id: str) -> str:
    key = nkeys.from_seed(bytearray(seed.encode()))
    head = {"typ": "JWT", "alg": "EdDSA", "kid": key.public_key.decode()}
    exp = int(time.time()) + SECONDS
    claims = {"sub": "page", "exp": exp, "conversations": [conversation_id], "may": MAY}
    text = ".".join(_part(json.dumps(each).encode()) for each in (head, claims))
    return f"{text}.{_part(key.sign(text.encode()))}"


def _part(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
