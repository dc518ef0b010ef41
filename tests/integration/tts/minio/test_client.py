"""Requests to an S3 that answers as it is told. Real ones: test_store.py."""

from __future__ import annotations

import hashlib
import io
import ssl
import threading
from typing import TYPE_CHECKING

import pytest

from local.s3_server import S3Server
from services.tts.minio.client import Client, Digest
from shared.errors import StorageRefused, StorageUnavailable
from tests.authority import Authority
from tests.integration.tts.minio.s3 import BUCKET, answering, settings

if TYPE_CHECKING:
    from pathlib import Path

AUDIO = bytes(range(256)) * 200


def client(endpoint: str, *, connect_seconds: float = 1.0, **changes: object) -> Client:
    return Client(
        settings(endpoint, **changes), connect_seconds=connect_seconds, read_seconds=5, threads=2
    )


async def put(to: Client, audio: bytes = AUDIO) -> None:
    async def write() -> None:
        body = io.BytesIO(audio)
        facts = {"x-amz-meta-turn": "t1"}
        await to.write("c1/t1/2.pcm", body, "audio/pcm", facts, Digest.of(body))

    await to.patiently("storing", write, len(audio))


def refusal(code: str) -> bytes:
    return f"<Error><Code>{code}</Code><Message>AKIA-secret</Message></Error>".encode()


def test_a_digest_is_of_the_whole_body_wherever_it_stands() -> None:
    body = io.BytesIO(AUDIO)
    body.seek(77)
    assert Digest.of(body) == Digest(len(AUDIO), hashlib.sha256(AUDIO).hexdigest())


async def test_a_body_is_put_under_its_key() -> None:
    paths: list[str] = []

    def answer(path: str) -> tuple[int, bytes]:
        paths.append(path)
        return 200, b""

    with answering(answer) as endpoint:
        await put(client(endpoint))
    assert paths == [f"/{BUCKET}/c1/t1/2.pcm"]


async def test_a_link_points_to_the_public_address_and_needs_no_network() -> None:
    to = client("127.0.0.1:1", public_endpoint="voices.example:8443")
    assert to.link("c1/t1/2.wav").startswith(
        f"http://voices.example:8443/{BUCKET}/c1/t1/2.wav?X-Amz-"
    )


async def test_nobody_listening_is_named() -> None:
    with answering(lambda _: (200, b"")) as endpoint:
        pass
    with pytest.raises(StorageUnavailable, match="NewConnectionError; is there a store at MINIO"):
        await put(client(endpoint, patience=0.3))


@pytest.mark.parametrize("code", ["InvalidAccessKeyId", "SignatureDoesNotMatch", "AccessDenied"])
async def test_a_refused_key_is_reported_at_once_without_being_shown(code: str) -> None:
    answers = [(403, refusal(code))]
    with (
        answering(lambda _: answers.pop(0)) as endpoint,
        pytest.raises(StorageUnavailable) as caught,
    ):
        await put(client(endpoint, patience=60))
    text = str(caught.value)
    assert text.startswith(f"storing: {code}; check MINIO_ACCESS_KEY")
    assert "secret" not in text
    assert S3Server.access_key not in text


@pytest.mark.parametrize(
    "failing",
    [(503, refusal("SlowDown")), (502, b"<html>"), (500, b""), (409, refusal("Operation"))],
)
async def test_what_passes_is_tried_again(failing: tuple[int, bytes]) -> None:
    answers = [failing, failing, (200, b"")]
    with answering(lambda _: answers.pop(0)) as endpoint:
        await put(client(endpoint))
    assert answers == []


@pytest.mark.parametrize("body", [b"<Code>", b"<Code>\xff</Code>", b"no XML at all"])
async def test_a_stranger_at_the_address_is_a_store_that_is_not_there(body: bytes) -> None:
    with answering(lambda _: (400, body)) as endpoint:
        to = client(endpoint, patience=0.05)
        with pytest.raises(StorageUnavailable):
            await put(to)
        with pytest.raises(StorageUnavailable):
            await to.patiently_in_thread("listing", lambda: list(to.blocking.list_objects(BUCKET)))


async def test_an_upload_may_take_longer_than_a_connect() -> None:
    with answering(lambda _: (200, b""), bytes_per_second=15_000_000) as endpoint:
        await put(client(endpoint, connect_seconds=0.2), bytes(10_000_000))


async def test_a_store_that_trickles_is_waited_for_no_longer_than_its_size_allows() -> None:
    tries, over = [], threading.Event()

    def trickle() -> None:
        tries.append(1)
        over.wait(10)

    hasty = Client(settings("127.0.0.1:1"), connect_seconds=0.1, read_seconds=0.1, threads=2)
    try:
        with pytest.raises(StorageUnavailable, match="storing: not done within"):
            await hasty.patiently("storing", lambda: hasty.in_thread(trickle), size=100_000)
    finally:
        over.set()
    assert tries == [1]  # the first may still be reading the same file


async def test_an_impossible_bucket_is_no_crash() -> None:
    to = client("127.0.0.1:1", bucket="A")
    with pytest.raises(StorageUnavailable, match="check MINIO_BUCKET"):
        await to.patiently_in_thread("looking", lambda: to.blocking.bucket_exists("A"))


async def test_a_store_that_refuses_is_told_from_one_that_is_away() -> None:
    with (
        answering(lambda _: (403, refusal("InvalidAccessKeyId"))) as endpoint,
        pytest.raises(StorageRefused),
    ):
        await put(client(endpoint))
    with pytest.raises(StorageUnavailable) as caught:
        await put(client(endpoint, patience=0))
    assert not isinstance(caught.value, StorageRefused)


async def test_an_outage_is_told_once_when_it_begins_and_counted_when_it_ends(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    answers = [(503, refusal("SlowDown"))] * 4 + [(200, b"")] * 2
    with answering(lambda _: answers.pop(0)) as endpoint:
        to = client(endpoint)
        await put(to)
        await put(to)
    records = [record for record in caplog.records if str(record.msg).startswith("store.")]
    told = [(record.levelname, record.msg) for record in records]
    assert told == [("WARNING", "store.away"), ("INFO", "store.back")]
    assert records[1].__dict__["failures"] == 4


async def test_a_single_failure_is_nothing_to_tell(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    answers = [(503, refusal("SlowDown")), (200, b"")]
    with answering(lambda _: answers.pop(0)) as endpoint:
        await put(client(endpoint))
    assert not [record for record in caplog.records if str(record.msg).startswith("store.")]


async def test_while_a_store_is_known_to_be_away_nobody_waits_for_it() -> None:
    tries = []

    def answer(path: str) -> tuple[int, bytes]:
        tries.append(path)
        return 503, refusal("SlowDown")

    with answering(answer) as endpoint:
        to = client(endpoint, patience=1.0)
        with pytest.raises(StorageUnavailable):
            await put(to)
        assert len(tries) > 1
        tries.clear()
        with pytest.raises(StorageUnavailable):
            await put(to)
        assert len(tries) == 1


async def test_a_store_is_trusted_by_the_authority_that_a_setting_names(tmp_path: Path) -> None:
    authority = Authority.make(tmp_path)
    own = authority.sign("store")
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    assert own.cert is not None
    tls.load_cert_chain(own.cert, own.key)
    with answering(lambda _path: (200, b""), tls=tls) as endpoint:
        await put(client(endpoint, secure=True, ca=str(authority.ca)))
        with pytest.raises((StorageRefused, StorageUnavailable)):
            await put(client(endpoint, secure=True, patience=0.0))
