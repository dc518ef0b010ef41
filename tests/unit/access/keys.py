"""Keys that are the same in each run, and tokens made with them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import nkeys  # type: ignore[import-untyped]  # it has no types

from services.access import jwt
from services.access.nkey import SigningKey, account_seed
from services.access.token import Claims, Keys, May, mint

if TYPE_CHECKING:
    from collections.abc import Sequence

NOW = 1_800_000_000
SEED, OTHER_SEED, ISSUER_SEED = (account_seed(bytes([n]) * 32) for n in (1, 2, 3))
KEY, OTHER_KEY, ISSUER = map(SigningKey.from_seed, (SEED, OTHER_SEED, ISSUER_SEED))
KEYS = Keys.parse(SEED)
SERVER = SigningKey.from_seed(nkeys.encode_seed(bytes([4]) * 32, nkeys.PREFIX_BYTE_SERVER).decode())


def claims(
    *, exp: int = NOW + 60, conversations: Sequence[str] = ("c",), may: Sequence[May] = tuple(May)
) -> Claims:
    return Claims("ada", exp, list(conversations), list(may))


def token(key: SigningKey = KEY, **about: Any) -> str:
    return mint(claims(**about), key)


def of(body: object, key: SigningKey = KEY, algorithm: str = jwt.EDDSA) -> str:
    """A well-signed token that says anything."""
    return jwt.signed(body, key, algorithm)
