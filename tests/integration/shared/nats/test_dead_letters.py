"""A dead letter on a real server: as it came, with its reason, obeying nobody."""

from __future__ import annotations

import os

import pytest

from shared.contract import CHAT_DEAD, MSG_ID, TTS_DEAD
from shared.errors import InvalidRequest, TooLarge
from shared.nats.connection import Connection
from shared.nats.dead_letters import dead_letter
from tests.integration.harness import held

pytestmark = pytest.mark.timeout(120)


async def dead_lettered(
    connection: Connection, data: bytes, headers: dict[str, str], unique: str | None = None
) -> None:
    await dead_letter(
        connection,
        CHAT_DEAD,
        subject="chat.request.c",
        data=data,
        headers=headers,
        error=InvalidRequest("that was wrong"),
        deliveries=3,
        unique=unique,
    )


@pytest.mark.parametrize("data", [b"", b"\x00\xff not text \r\n", b'{"a":1}', os.urandom(100_000)])
async def test_it_is_kept_byte_for_byte_with_its_reason(
    connection: Connection, data: bytes
) -> None:
    await dead_lettered(connection, data, {"traceparent": "x", MSG_ID: "mine", "Parley-Turn": "t"})
    (letter,) = await held(connection, "DEAD_LETTERS")
    assert letter.subject == "chat.dead.c"
    assert letter.data == data
    headers = dict(letter.headers)
    assert headers.pop(MSG_ID) != "mine"
    assert headers.pop("Parley-Failed-At").endswith("Z")
    assert headers == {
        "traceparent": "x",
        "Parley-Turn": "t",
        "Parley-Original-Nats-Msg-Id": "mine",
        "Parley-Error-Code": "invalid_request",
        "Parley-Error": "that was wrong",
        "Parley-Subject": "chat.request.c",
        "Parley-Deliveries": "3",
    }


@pytest.mark.parametrize(
    "hostile",
    [
        {"Nats-Rollup": "all"},
        {"Nats-Expected-Stream": "OTHER"},
        {"nats-expected-last-sequence": "99"},
        {"Nats-TTL": "1s"},
        {"A": "x\r\nNats-Rollup: all"},
        {f"H{n}": "x" * 1_000 for n in range(100)},
    ],
)
async def test_no_header_of_the_original_is_obeyed(
    connection: Connection, hostile: dict[str, str]
) -> None:
    await dead_lettered(connection, b"one", {})
    await dead_lettered(connection, b"two", hostile)
    assert [letter.data for letter in await held(connection, "DEAD_LETTERS")] == [b"one", b"two"]


async def test_a_huge_body_is_cut_and_its_size_is_told(connection: Connection) -> None:
    data = os.urandom(connection.client.max_payload)
    await dead_letter(
        connection,
        TTS_DEAD,
        subject="tts.request.c",
        data=data,
        headers={f"H{n}": "x" * 100 for n in range(1_000)},
        error=TooLarge("too large " * 1_000),
    )
    (letter,) = await held(connection, "DEAD_LETTERS")
    assert letter.subject == "tts.dead.c"
    assert letter.headers["Parley-Original-Bytes"] == str(len(data))
    assert len(letter.data) > 1_000_000
    assert data.startswith(letter.data)


async def test_the_same_letter_is_kept_once_and_another_of_the_same_words_too(
    connection: Connection,
) -> None:
    for unique in ("1", "1", "2"):
        await dead_lettered(connection, b"one", {}, unique)
    assert len(await held(connection, "DEAD_LETTERS")) == 2


@pytest.mark.parametrize(
    ("subject", "data", "to"),
    [
        ("chat.request.c", b"[", "chat.dead.c"),
        ("chat.request", b'{"conversation_id":"c","content":5}', "chat.dead.c"),
        ("chat.request", b'{"conversation_id":"a b"}', "chat.dead"),
        ("chat.request", b'{"conversation_id":5}', "chat.dead"),
        ("chat.request", b'{"conv', "chat.dead"),
        ("chat.request", b"Hello.", "chat.dead"),
        ("chat.request.a b", b"", "chat.dead"),
    ],
)
async def test_a_letter_says_whose_it_is_where_that_is_known(
    connection: Connection, subject: str, data: bytes, to: str
) -> None:
    error = InvalidRequest("wrong")
    await dead_letter(connection, CHAT_DEAD, subject=subject, data=data, headers={}, error=error)
    (letter,) = await held(connection, "DEAD_LETTERS")
    assert letter.subject == to


async def test_a_stream_of_the_version_before_keeps_it_without_its_conversation(
    connection: Connection,
) -> None:
    config = (await connection.api("STREAM.INFO.DEAD_LETTERS"))["config"]
    before = [subject for subject in config["subjects"] if not subject.endswith(".dead.*")]
    await connection.api("STREAM.UPDATE.DEAD_LETTERS", {**config, "subjects": before})
    await dead_lettered(connection, b"x", {})
    (letter,) = await held(connection, "DEAD_LETTERS")
    assert (letter.subject, letter.data) == ("chat.dead", b"x")
