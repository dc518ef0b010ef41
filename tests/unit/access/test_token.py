"""A token is believed when a key in use signed exactly what it says, and while it lasts."""

from __future__ import annotations

import base64
import json
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.access import jwt
from services.access.nkey import BadKey
from services.access.token import BadToken, Keys, Limits, May, inbox_of, verify
from tests.unit.access.keys import (
    ISSUER,
    KEY,
    KEYS,
    NOW,
    OTHER_KEY,
    OTHER_SEED,
    SEED,
    claims,
    of,
    token,
)

LIMITS = Limits(conversations=3, seconds=600)
BODY = {"sub": "ada", "exp": NOW + 60, "conversations": ["c"], "may": ["ask"]}


def refused(text: str, keys: Keys = KEYS, now: float = NOW) -> str:
    with pytest.raises(BadToken) as why:
        verify(text, keys, now, LIMITS)
    assert not text or text not in str(why.value)
    return str(why.value)


def test_a_token_says_who_until_when_where_and_what() -> None:
    found = verify(token(conversations=["c", "d"], may=[May.ASK]), KEYS, NOW, LIMITS)

    assert found.claims == claims(conversations=["c", "d"], may=[May.ASK])
    assert found.key == KEY.public


def test_claims_that_are_not_known_are_ignored() -> None:
    assert verify(of({**BODY, "iat": 1, "name": "x"}), KEYS, NOW, LIMITS).claims.sub == "ada"


def test_an_expired_token_is_refused_from_its_very_second() -> None:
    assert "ended" in refused(token(exp=NOW))
    assert "ended 5 seconds ago" in refused(token(exp=NOW - 5))
    assert verify(token(exp=NOW + 1), KEYS, NOW + 0.9, LIMITS)


def test_one_that_would_last_too_long_is_refused() -> None:
    assert verify(token(exp=NOW + 600), KEYS, NOW, LIMITS)
    assert "longer than 600 seconds" in refused(token(exp=NOW + 601))


def test_a_foreign_key_is_refused_and_one_that_is_not_in_use_any_more() -> None:
    assert "signed with a key that is not" in refused(token(OTHER_KEY))
    assert "signed with a key that is not" in refused(token(), Keys.parse(OTHER_SEED))


def test_a_token_that_claims_another_s_key_is_refused() -> None:
    head = jwt.signed({}, KEY).partition(".")[0]
    _, _, rest = token(OTHER_KEY).partition(".")

    assert "it was changed" in refused(f"{head}.{rest}")


def test_a_changed_claim_is_found() -> None:
    head, _, signature = token().split(".")
    changed = base64.urlsafe_b64encode(json.dumps({**BODY, "conversations": ["d"]}).encode())

    assert "it was changed" in refused(f"{head}.{changed.rstrip(b'=').decode()}.{signature}")


@given(st.integers(0, 10_000), st.sampled_from(string.ascii_letters + string.digits + "-_."))
def test_no_character_can_be_changed_and_the_claims_with_it(at: int, to: str) -> None:
    good = token()
    at %= len(good)
    changed = good[:at] + to + good[at + 1 :]

    try:
        found = verify(changed, KEYS, NOW, LIMITS)
    except BadToken:
        return
    assert found.claims == claims()  # the spare bits at a part's end


@pytest.mark.parametrize(
    "text", ["", "x", "a.b", "a.b.c", "....", "é.é.é", "a" * 9_000, "e30.e30."]
)
def test_what_is_no_token_is_refused_in_words(text: str) -> None:
    assert refused(text)


@pytest.mark.parametrize(
    "text",
    [
        of(BODY, algorithm=jwt.NATS),  # as the token of a NATS user is signed
        of(BODY, ISSUER, algorithm=jwt.NATS),
        of(BODY, algorithm="none"),
        of(BODY, algorithm="HS256"),
    ],
)
def test_a_token_of_another_type_is_refused(text: str) -> None:
    assert "of another type" in refused(text)


@pytest.mark.parametrize(
    "change",
    [
        {"sub": ""},
        {"sub": "a b"},
        {"sub": "a\nb"},
        {"sub": 5},
        {"exp": "soon"},
        {"exp": None},
        {"conversations": []},
        {"conversations": "c"},
        {"conversations": ["*"]},
        {"conversations": [">"]},
        {"conversations": ["c.d"]},
        {"conversations": ["c\n"]},
        {"conversations": [""]},
        {"conversations": ["c" * 65]},
        {"may": []},
        {"may": ["everything"]},
        {"may": "ask"},
    ],
)
def test_claims_of_another_form_are_refused(change: dict[str, object]) -> None:
    assert "its claims are not those of a conversation token" in refused(of({**BODY, **change}))


@pytest.mark.parametrize("name", ["sub", "exp", "conversations", "may"])
def test_every_claim_is_required(name: str) -> None:
    body = {key: value for key, value in BODY.items() if key != name}

    assert f"`{name}`" in refused(of(body))


def test_a_token_names_no_more_conversations_than_the_limit() -> None:
    assert verify(token(conversations=["a", "b", "c"]), KEYS, NOW, LIMITS)
    assert "more than 3 conversations" in refused(token(conversations=["a", "b", "c", "d"]))


def test_each_token_has_inboxes_of_its_own_that_are_one_token_of_a_subject() -> None:
    first, second = token(), token(exp=NOW + 61)

    assert inbox_of(first) != inbox_of(second)
    assert inbox_of(first).startswith("_INBOX_")
    assert len(inbox_of(first)) == len("_INBOX_") + 22
    assert not set(inbox_of(first)) - set(string.ascii_letters + string.digits + "-_")
    assert verify(first, KEYS, NOW, LIMITS).inbox == inbox_of(first)


def test_keys_are_seeds_or_public_keys_one_a_line_and_the_first_seed_signs() -> None:
    keys = Keys.parse(f"# of the shop\n{OTHER_KEY.public}\n\n{SEED}  # of the site\n")

    assert set(keys.public) == {KEY.public, OTHER_KEY.public}
    assert keys.signing == KEY
    assert verify(token(OTHER_KEY), keys, NOW, LIMITS)
    assert Keys.parse(OTHER_KEY.public).signing is None


@pytest.mark.parametrize("text", [SEED[:-1], f"{SEED}\nnonsense", f"{SEED} {SEED}"])
def test_a_line_that_is_no_key_is_named_by_its_number_and_not_shown(text: str) -> None:
    with pytest.raises(BadKey, match=r"line \d") as refused:
        Keys.parse(text)

    assert SEED[:20] not in str(refused.value)
