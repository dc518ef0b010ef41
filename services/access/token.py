"""Noun: a conversation token, which is to a conversation what a room token is to a room.

A JSON Web Token, signed by a backend's key: whoever shows it may do what it says, in the
conversations that it names, until it ends.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Final

import msgspec
from msgspec import Meta, Struct

from services.access import jwt
from services.access.nkey import BadKey, PublicKey, SigningKey
from shared.contract import ID_RULE, Id

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_CHARACTERS: Final = 8_192
# An answer must not reach anybody else: these characters of the signature are nobody else's.
_INBOX_CHARACTERS: Final = 22


class BadToken(Exception):
    """Why a token is refused, in words that never repeat it."""


class May(enum.StrEnum):
    """What a token may allow."""

    ASK = "ask"
    CANCEL = "cancel"
    HISTORY = "history"
    LISTEN = "listen"
    DELETE = "delete"


class Claims(Struct, frozen=True):
    """`sub`: who it is for, for logs; `exp`: until when, in seconds since 1970."""

    # Visible ASCII: it stands in the log of the server.
    sub: Annotated[str, Meta(pattern=r"^[!-~]{1,128}\Z")]
    exp: int
    conversations: Annotated[list[Id], Meta(min_length=1)]
    may: Annotated[list[May], Meta(min_length=1)]


@dataclass(frozen=True, slots=True)
class Limits:
    """What a token may ask for at most."""

    conversations: int = 16
    seconds: int = 86_400  # that it is good for, from when it is shown


@dataclass(frozen=True, slots=True)
class Keys:
    """Those of the backends, by their public text. `signing`: the first one that is a seed."""

    public: Mapping[str, PublicKey]
    signing: SigningKey | None = None

    @classmethod
    def parse(cls, text: str) -> Keys:
        """One key a line, a seed or a public key; a # begins a comment. Raises BadKey."""
        signing: SigningKey | None = None
        public: dict[str, PublicKey] = {}
        for number, line in enumerate(text.splitlines(), 1):
            key = line.partition("#")[0].strip()
            if not key:
                continue
            try:
                if key.startswith("S"):
                    pair = SigningKey.from_seed(key)
                    signing = signing or pair
                    key = pair.public
                public[key] = PublicKey.parse(key)
            except BadKey as exc:
                raise BadKey(f"line {number}: {exc}") from None
        return cls(public, signing)


@dataclass(frozen=True, slots=True)
class Token:
    """One that was believed. `key`: the public text of the one that signed it."""

    claims: Claims
    key: str
    inbox: str


_decode = msgspec.json.Decoder(Claims).decode


def mint(claims: Claims, key: SigningKey) -> str:
    return jwt.signed(claims, key)


def inbox_of(token: str) -> str:
    """The prefix of its holder's inboxes, which whoever has the token can tell, and nobody else."""
    return "_INBOX_" + token.rpartition(".")[2][:_INBOX_CHARACTERS]


def verify(text: str, keys: Keys, now: float, limits: Limits) -> Token:
    """Raises BadToken."""
    if not text:
        raise BadToken("neither a login nor a token was shown")
    if len(text) > MAX_CHARACTERS:
        raise BadToken(f"the token has more than {MAX_CHARACTERS} characters")
    try:
        parsed = jwt.Jwt.parse(text)
    except jwt.Malformed as exc:
        raise BadToken(f"not a token: {exc}") from None
    key = _key_of(parsed, keys)
    if not parsed.is_signed_by(key):
        raise BadToken("the signature is not of what the token says: it was changed")
    claims = _claims_of(parsed)
    _check(claims, now, limits)
    return Token(claims, key.text, inbox_of(text))


def _key_of(parsed: jwt.Jwt, keys: Keys) -> PublicKey:
    if parsed.algorithm != jwt.EDDSA:
        raise BadToken(f"a token of another type: its `alg` is not {jwt.EDDSA}")
    if parsed.key_id is None:
        raise BadToken("`kid` is missing: the public key that it was signed with")
    try:
        return keys.public[parsed.key_id]
    except KeyError:
        raise BadToken("signed with a key that is not, or not any more, in use here") from None


def _claims_of(parsed: jwt.Jwt) -> Claims:
    try:
        return _decode(parsed.claims)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as exc:
        rule = f"; an id is {ID_RULE}" if "conversations" in str(exc) else ""
        raise BadToken(f"its claims are not those of a conversation token: {exc}{rule}") from None


def _check(claims: Claims, now: float, limits: Limits) -> None:
    """What types alone cannot say."""
    if claims.exp <= now:
        raise BadToken(f"it ended {now - claims.exp:.0f} seconds ago")
    if claims.exp > now + limits.seconds:
        raise BadToken(f"it would last for longer than {limits.seconds} seconds")
    if len(claims.conversations) > limits.conversations:
        raise BadToken(f"it names more than {limits.conversations} conversations")
