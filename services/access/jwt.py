"""Noun: a JSON Web Token: taken apart, put together. What its claims mean is decided elsewhere."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import msgspec

if TYPE_CHECKING:
    from services.access.nkey import PublicKey, SigningKey

EDDSA: Final = "EdDSA"  # RFC 8037
NATS: Final = "ed25519-nkey"  # the same signature, by the name that NATS gives it
_PARTS: Final = 3


class Malformed(Exception):
    """A text that is no JSON Web Token at all."""


class _Header(msgspec.Struct, frozen=True, omit_defaults=True):
    typ: str
    alg: str
    kid: str | None = None


@dataclass(frozen=True, slots=True)
class Jwt:
    """Taken apart; nothing of it is believed before `is_signed_by`."""

    algorithm: str
    key_id: str | None
    claims: bytes = field(repr=False)
    _signed: bytes = field(repr=False)
    _signature: bytes = field(repr=False)

    @classmethod
    def parse(cls, text: str) -> Jwt:
        """Raises Malformed."""
        parts = text.split(".")
        if len(parts) != _PARTS:
            raise Malformed("not three parts with a dot between them")
        try:
            head, claims, signature = map(_decoded, parts)
            header = msgspec.json.decode(head, type=_Header)
        except (binascii.Error, ValueError, msgspec.MsgspecError, RecursionError):
            raise Malformed("its parts are not base64url, or its header is not JSON") from None
        signed = text.rpartition(".")[0].encode()
        return cls(header.alg, header.kid, claims, signed, signature)

    def is_signed_by(self, key: PublicKey) -> bool:
        return key.verifies(self._signed, self._signature)


def signed(claims: Any, key: SigningKey, algorithm: str = EDDSA) -> str:
    """As text; with EDDSA the header names the key."""
    header = _Header("JWT", algorithm, key.public if algorithm == EDDSA else None)
    text = ".".join(_encoded(msgspec.json.encode(part)) for part in (header, claims))
    return f"{text}.{_encoded(key.sign(text.encode()))}"


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decoded(text: str) -> bytes:
    return base64.b64decode(text.encode("ascii") + b"=" * (-len(text) % 4), b"-_", validate=True)
