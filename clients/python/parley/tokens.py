"""Conversation tokens: what a client that is not trusted shows in the place of a login."""

from __future__ import annotations

import base64
import importlib
import time
from typing import TYPE_CHECKING, Any, Final

import msgspec

from parley.contract import ID_RULE, is_id
from parley.errors import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Sequence

RIGHTS: Final = ("ask", "cancel", "history", "listen", "delete")
MAX_SECONDS: Final = 86_400  # as long as the services take one for, unless they are told otherwise


class Claims(msgspec.Struct, frozen=True):
    """What a token says. `exp`: until when, in seconds since 1970."""

    sub: str
    exp: int
    conversations: list[str]
    may: list[str]


class _Head(msgspec.Struct, frozen=True):
    typ: str
    alg: str
    kid: str


def mint(
    seed: str,
    conversations: Sequence[str],
    *,
    sub: str = "parley",
    may: Sequence[str] = ("ask", "cancel", "history", "listen"),
    seconds: int = 3600,
) -> str:
    """A token for these conversations, signed with the seed of a backend's key.

    `sub`: who it is for, as it stands in logs; `seconds`: how long it is good for.

    Raises:
        InvalidRequest: the seed, an id, a right or the time is none.
    """
    for each in conversations:
        if not is_id(each):
            raise InvalidRequest(f"{each!r} is no id of a conversation: {ID_RULE}")
    for right in may:
        if right not in RIGHTS:
            raise InvalidRequest(f"{right!r} is no right: {', '.join(RIGHTS)}")
    if not conversations or not may or not 0 < seconds <= MAX_SECONDS:
        raise InvalidRequest(
            f"a token needs a conversation, a right and 1 to {MAX_SECONDS} seconds"
        )
    key = _key(seed)
    claims = Claims(sub, int(time.time()) + seconds, list(conversations), list(may))
    head = _Head("JWT", "EdDSA", key.public_key.decode())
    text = f"{_part(msgspec.json.encode(head))}.{_part(msgspec.json.encode(claims))}"
    return f"{text}.{_part(key.sign(text.encode()))}"


def claims_of(token: str) -> Claims | None:
    """What a token says, unverified; None where it is no conversation token.

    >>> claims_of("secret") is None
    True
    """
    try:
        _, body, _ = token.split(".")
        return msgspec.json.decode(
            base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)), type=Claims
        )
    except (ValueError, msgspec.MsgspecError):
        return None


def _key(seed: str) -> Any:
    nkeys: Any = importlib.import_module("nkeys")  # it has no types
    try:
        return nkeys.from_seed(bytearray(seed.strip().encode()))
    except (nkeys.NkeysError, ValueError) as exc:
        raise InvalidRequest(f"no seed of an nkey: {exc}") from None


def _part(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
