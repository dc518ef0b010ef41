"""A server that asks is answered with a user for what the token says, or with why there is none."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from services.access import jwt
from services.access.callout import (
    Rules,
    Unanswerable,
    Verdict,
    key_in,
    name_of,
    question,
    verdict,
)
from services.access.nkey import PublicKey, SigningKey
from services.access.token import Limits, inbox_of
from tests.unit.access.keys import ISSUER, KEY, KEYS, NOW, OTHER_KEY, SERVER, token

RULES = Rules(issuer=ISSUER, account="APPS", limits=Limits())
USER = "UDZN67M3XNW6JWXR3ODSH2W4GNOLEKKZDBSKRQZOYX4ENZXCOASEIGFS"


def asked(
    shown: str = "",
    *,
    by: str = "websocket",
    host: str = "192.0.2.1",
    server: SigningKey = SERVER,
    named: str = SERVER.public,
    aud: str = "nats-authorization-request",
    **more: Any,
) -> bytes:
    """As nats-server 2.15 asks."""
    body = {
        "aud": aud,
        "iss": server.public,
        "sub": "AD",
        "nats": {
            "server_id": {"name": "n", "host": "127.0.0.1", "id": named, "version": "2.15.1"},
            "user_nkey": USER,
            "client_info": {"host": host, "id": 10, "kind": "Client", "type": by},
            "connect_opts": {"auth_token": shown, "lang": "python3", "protocol": 1},
            "type": "authorization_request",
            "version": 2,
            **more,
        },
    }
    return jwt.signed(body, server, jwt.NATS).encode()


def judged(shown: str, rules: Rules = RULES, now: float = NOW, **about: Any) -> Verdict:
    return verdict(question(asked(shown, **about)), KEYS, now, rules)


def read(text: str, key: SigningKey = ISSUER) -> dict[str, Any]:
    parsed = jwt.Jwt.parse(text)
    assert parsed.is_signed_by(PublicKey.parse(key.public))
    assert parsed.algorithm == "ed25519-nkey"
    found: dict[str, Any] = msgspec.json.decode(parsed.claims)
    return found


def test_a_good_token_becomes_a_user_that_ends_with_it() -> None:
    shown = token()
    found = judged(shown)
    answer = read(found.answer.decode())
    user = read(answer["nats"]["jwt"])

    assert (answer["sub"], answer["aud"], answer["iss"]) == (USER, SERVER.public, ISSUER.public)
    assert answer["nats"]["type"] == "authorization_response"
    assert (user["sub"], user["aud"], user["exp"]) == (USER, "APPS", NOW + 60)
    assert user["nats"]["sub"]["allow"][0] == f"{inbox_of(shown)}.>"
    assert "chat.ask.c" in user["nats"]["pub"]["allow"]
    assert found.token is not None


def test_a_bad_token_is_answered_with_the_reason_and_no_user() -> None:
    found = judged(token(OTHER_KEY))
    answer = read(found.answer.decode())

    assert answer["nats"]["error"] == found.refused
    assert "jwt" not in answer["nats"]
    assert found.token is None


def test_nobody_comes_in_without_a_token() -> None:
    assert "neither a login nor a token" in judged("").refused


def test_a_token_is_taken_over_a_websocket_or_tls_only() -> None:
    assert judged(token(), by="websocket").token
    assert judged(token(), by="nats", client_tls={"version": "1.3"}).token
    assert "over TLS only" in judged(token(), by="nats").refused
    assert "over TLS only" in judged(token(), by="mqtt").refused


def test_plain_tcp_is_for_development_on_the_server_s_own_machine() -> None:
    rules = Rules(issuer=ISSUER, account="APPS", limits=Limits(), plain_tcp=True)

    assert judged(token(), rules, by="nats", host="127.0.0.1").token
    assert judged(token(), rules, by="nats", host="::1").token
    assert judged(token(), rules, by="nats", host="192.0.2.1").refused


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff",
        b"a.b.c",
        asked(named="NOTHER"),
        asked(server=OTHER_KEY),
        asked(aud="somebody"),
        asked(user_nkey=5),
        asked().rpartition(b".")[0] + b".AAAA",
    ],
)
def test_what_no_server_asked_is_not_answered(data: bytes) -> None:
    with pytest.raises(Unanswerable):
        question(data)


def test_a_question_does_not_show_the_token() -> None:
    shown = token()

    assert shown not in repr(question(asked(shown)))
    assert shown not in repr(judged(shown))


def test_a_user_s_name_tells_the_key_and_no_other_name_does() -> None:
    found = judged(token()).token
    assert found is not None

    assert key_in(name_of(found)) == KEY.public
    assert key_in("client") == ""
