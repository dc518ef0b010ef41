"""Noun: Ed25519 keys in the text form of NATS (nkeys): a seed signs, a public key verifies."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, field
from typing import Self

import nkeys  # type: ignore[import-untyped]  # it has no types
from nacl.exceptions import BadSignatureError
from nacl.signing import VerifyKey

_RAW_BYTES = 35  # of a public key: its kind, the key, a checksum
_CHECKSUM_BYTES = 2


class BadKey(Exception):
    """A text that is no such key; it is never repeated, for it may be a seed."""


@dataclass(frozen=True, slots=True)
class PublicKey:
    """`text`: such as `ABDQ…`; its first letter tells what the key is for."""

    text: str
    _key: VerifyKey = field(repr=False, compare=False)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises BadKey."""
        try:
            raw = base64.b32decode(text + "=" * (-len(text) % 8))
        except (binascii.Error, ValueError):
            raise BadKey("not a public nkey") from None
        body, checksum = raw[:-_CHECKSUM_BYTES], raw[-_CHECKSUM_BYTES:]
        if (
            len(raw) != _RAW_BYTES
            or nkeys.crc16_checksum(body) != checksum
            or not nkeys.valid_public_prefix_byte(body[0])
        ):
            raise BadKey("not a public nkey")
        return cls(text, VerifyKey(body[1:]))

    def verifies(self, data: bytes, signature: bytes) -> bool:
        try:
            self._key.verify(data, signature)
        except (BadSignatureError, ValueError):  # the latter: of another length
            return False
        return True


@dataclass(frozen=True, slots=True)
class SigningKey:
    """`public`: the text by which others know the key."""

    public: str
    _pair: nkeys.KeyPair = field(repr=False, compare=False)

    @classmethod
    def from_seed(cls, seed: str) -> Self:
        """Raises BadKey."""
        try:
            pair = nkeys.from_seed(bytearray(seed.encode()))
            return cls(pair.public_key.decode(), pair)
        except (nkeys.NkeysError, ValueError):
            raise BadKey("not an nkey seed") from None

    @property
    def is_of_an_account(self) -> bool:
        """Only such a key may issue users."""
        return self.public.startswith("A")

    def sign(self, data: bytes) -> bytes:
        return bytes(self._pair.sign(data))


def account_seed(randomness: bytes) -> str:
    """A new seed, from 32 random bytes."""
    return str(nkeys.encode_seed(randomness, nkeys.PREFIX_BYTE_ACCOUNT).decode())
