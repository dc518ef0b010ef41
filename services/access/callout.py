"""Noun: the server asks who somebody is, and is answered with a user, or with why there is none.

The question and both answers are the JSON Web Tokens of NATS' auth callout (ADR-26, version 2).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import msgspec
from msgspec import Struct

from services.access import jwt
from services.access.nkey import BadKey, PublicKey, SigningKey
from services.access.permissions import permissions_of
from services.access.token import BadToken, Keys, Limits, Token, verify

AUDIENCE: Final = "nats-authorization-request"
_VERSION: Final = 2
_WEBSOCKET: Final = "websocket"
_LOOPBACK: Final = ("127.", "::1")


class Unanswerable(Exception):
    """Not a question of a server: there is nobody to answer."""


class _Server(Struct, frozen=True):
    id: str


class _Client(Struct, frozen=True):
    type: str = ""
    host: str = ""


class _Shown(Struct, frozen=True):
    auth_token: str = ""


class _Nats(Struct, frozen=True):
    server_id: _Server
    user_nkey: str
    client_info: _Client
    connect_opts: _Shown
    client_tls: dict[str, Any] | None = None  # only of a connection with TLS


class Question(Struct, frozen=True):
    """What a server asks. `iss`: its own key."""

    iss: str
    aud: str
    nats: _Nats

    @property
    def is_encrypted(self) -> bool:
        return self.nats.client_tls is not None

    @property
    def is_from_here(self) -> bool:
        return self.nats.client_info.host.startswith(_LOOPBACK)

    # A Struct shows its fields, and one of them is the token.
    def __repr__(self) -> str:
        return f"Question(server={self.nats.server_id.id})"


_decode = msgspec.json.Decoder(Question).decode


@dataclass(frozen=True, slots=True)
class Rules:
    """`issuer`: the key that the server believes. `account`: where the users belong.

    `plain_tcp`: a token may come over TCP without TLS, from the server's own machine.
    """

    issuer: SigningKey
    account: str
    limits: Limits
    plain_tcp: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """`answer` is for the server; `token` or `refused` for who keeps count."""

    answer: bytes
    token: Token | None
    refused: str = ""


def question(data: bytes) -> Question:
    """Raises Unanswerable."""
    try:
        asked = jwt.Jwt.parse(data.decode("ascii"))
        found = _decode(asked.claims)
        is_signed = asked.is_signed_by(PublicKey.parse(found.iss))
    except (jwt.Malformed, BadKey, msgspec.MsgspecError, UnicodeDecodeError) as exc:
        raise Unanswerable(f"not a request of a server: {type(exc).__name__}") from None
    if not is_signed or found.iss != found.nats.server_id.id or found.aud != AUDIENCE:
        raise Unanswerable("not signed by the server that it names")
    return found


def verdict(asked: Question, keys: Keys, now: float, rules: Rules) -> Verdict:
    """A user for exactly what the token says, until it ends; else why not."""
    try:
        token = _shown(asked, keys, now, rules)
    except BadToken as exc:
        return Verdict(_answer(asked, rules, now, error=str(exc)), None, str(exc))
    return Verdict(_answer(asked, rules, now, jwt=_user(asked, token, now, rules)), token)


def _shown(asked: Question, keys: Keys, now: float, rules: Rules) -> Token:
    token = verify(asked.nats.connect_opts.auth_token, keys, now, rules.limits)
    is_browser = asked.nats.client_info.type == _WEBSOCKET
    if is_browser or asked.is_encrypted or (rules.plain_tcp and asked.is_from_here):
        return token
    raise BadToken("a token is taken over a WebSocket or over TLS only, and this is neither")


def name_of(token: Token) -> str:
    """Of the user, in the server's log and list: who it is, and by which key."""
    return f"{token.key}/{token.claims.sub}"


def key_in(name: str) -> str:
    """The key in a user's name; "" in a name that was not given here."""
    return name.partition("/")[0] if "/" in name else ""


def _user(asked: Question, token: Token, now: float, rules: Rules) -> str:
    permissions = permissions_of(token)
    return _signed(
        asked,
        rules,
        now,
        aud=rules.account,
        name=name_of(token),
        exp=token.claims.exp,
        nats={
            "type": "user",
            "version": _VERSION,
            "pub": {"allow": permissions.publish},
            "sub": {"allow": permissions.subscribe},
        },
    )


def _answer(asked: Question, rules: Rules, now: float, **outcome: str) -> bytes:
    """`outcome`: `jwt` or `error`."""
    nats = {"type": "authorization_response", "version": _VERSION, **outcome}
    return _signed(asked, rules, now, aud=asked.nats.server_id.id, nats=nats).encode()


def _signed(asked: Question, rules: Rules, now: float, **claims: object) -> str:
    common = {"iat": int(now), "iss": rules.issuer.public, "sub": asked.nats.user_nkey}
    return jwt.signed(common | claims, rules.issuer, jwt.NATS)
