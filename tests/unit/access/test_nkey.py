"""A seed signs what its public key verifies; what is neither is refused, and never repeated."""

from __future__ import annotations

import nkeys  # type: ignore[import-untyped]  # it has no types
import pytest

from services.access.nkey import BadKey, PublicKey, SigningKey, account_seed
from tests.unit.access.keys import KEY, OTHER_KEY, SEED


def test_what_a_seed_signs_its_public_key_verifies_and_no_other() -> None:
    signature = KEY.sign(b"text")

    assert PublicKey.parse(KEY.public).verifies(b"text", signature)
    assert not PublicKey.parse(KEY.public).verifies(b"other text", signature)
    assert not PublicKey.parse(KEY.public).verifies(b"text", signature[:-1])
    assert not PublicKey.parse(OTHER_KEY.public).verifies(b"text", signature)


def test_keys_are_those_of_the_nkeys_library() -> None:
    pair = nkeys.from_seed(bytearray(SEED.encode()))

    assert KEY.public == pair.public_key.decode()
    assert PublicKey.parse(KEY.public).verifies(b"text", pair.sign(b"text"))


@pytest.mark.parametrize(
    "text",
    ["", "A", "no key at all", SEED, KEY.public[:-1], "B" + KEY.public[1:], KEY.public[:-1] + "A"],
)
def test_what_is_no_public_key_is_refused(text: str) -> None:
    with pytest.raises(BadKey):
        PublicKey.parse(text)


@pytest.mark.parametrize("text", ["", "S", "SAAA", KEY.public, "SA" + "é" * 56, SEED[:20]])
def test_what_is_no_seed_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(BadKey) as refused:
        SigningKey.from_seed(text)

    assert not text or text not in str(refused.value)


def test_a_seed_is_not_shown() -> None:
    assert SEED not in repr(KEY)


def test_only_the_key_of_an_account_may_issue_users() -> None:
    user = nkeys.encode_seed(b"1" * 32, nkeys.PREFIX_BYTE_USER).decode()

    assert SigningKey.from_seed(account_seed(b"1" * 32)).is_of_an_account
    assert not SigningKey.from_seed(user).is_of_an_account
