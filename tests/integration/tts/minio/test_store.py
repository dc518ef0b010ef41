"""The store against real servers: SeaweedFS always, MinIO where there is a binary of it."""

from __future__ import annotations

import asyncio
import hashlib
import io
import os
import threading
from dataclasses import replace
from typing import TYPE_CHECKING

import av
import pytest
import urllib3
from minio import Minio

from local.object_store import kinds, object_store
from local.s3_server import S3Server
from services.tts.audio import pcm
from services.tts.audio.spool import Spool
from services.tts.minio.store import MinioStore
from services.tts.ports import Label
from shared.contract import CONTENT_TYPES, AudioFormat
from shared.errors import StorageUnavailable
from tests.integration.harness import soon
from tests.integration.tts.minio.s3 import BUCKET, answering, settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from local.s3_server import Kind

AUDIO = bytes(range(256)) * 200
CAPTIONS = "WEBVTT\n\n1\n00:00:00.000 --> 00:00:01.000\nGrüße, 世界\n"


def label(
    turn_id: str = "t1",
    *,
    form: AudioFormat = AudioFormat.WAV,
    voice: str = "af_heart",
    text: str = "Grüße, Welt",
) -> Label:
    return Label(
        conversation_id="c1",
        turn_id=turn_id,
        attempt=2,
        model="some/model",
        voice=voice,
        text=text,
        format=form,
    )


def recording(audio: bytes = AUDIO) -> Spool:
    spool = Spool()
    spool.append(audio)
    return spool


def get(url: str) -> urllib3.BaseHTTPResponse:
    return urllib3.request("GET", url, timeout=5, retries=False)


def looking(endpoint: str) -> Minio:
    return Minio(
        endpoint, S3Server.access_key, S3Server.secret_key, secure=False, region="us-east-1"
    )


@pytest.fixture(scope="module", params=kinds())
def kind(request: pytest.FixtureRequest) -> Kind:
    found: Kind = request.param
    return found


@pytest.fixture(scope="module")
def server(kind: Kind) -> Iterator[S3Server]:
    started = object_store(kind)
    with asyncio.Runner() as runner:
        runner.run(started.start())
        yield started
        runner.run(started.close())


@pytest.fixture
async def store(server: S3Server) -> AsyncIterator[MinioStore]:
    store = MinioStore(settings(server.endpoint))
    await store.ensure_bucket()
    yield store
    await store.erase("c1")


async def test_what_was_put_is_fetched_by_its_link_without_credentials(store: MinioStore) -> None:
    kept = await store.put(recording(), CAPTIONS, label())
    assert (kept.bucket, kept.key, kept.captions_key) == (
        BUCKET,
        "c1/t1/2.wav",
        "c1/t1/2.vtt",
    )
    assert kept.url is not None
    answer = await asyncio.to_thread(get, kept.url)
    assert answer.status == 200
    assert answer.data == pcm.wav_header(len(AUDIO)) + AUDIO
    assert answer.headers["Content-Type"] == kept.content_type == "audio/wav"
    assert len(answer.data) == kept.bytes
    assert hashlib.sha256(answer.data).hexdigest() == kept.sha256


async def test_captions_lie_beside_it(store: MinioStore, server: S3Server) -> None:
    kept = await store.put(recording(), CAPTIONS, label())
    answer = looking(server.endpoint).get_object(BUCKET, str(kept.captions_key))
    assert answer.data.decode() == CAPTIONS
    assert answer.headers["Content-Type"] == "text/vtt; charset=utf-8"


async def test_captions_have_a_link_of_their_own(store: MinioStore) -> None:
    kept = await store.put(recording(), CAPTIONS, label())
    assert (await asyncio.to_thread(get, str(kept.captions_url))).data.decode() == CAPTIONS


async def test_what_is_kept_of_a_turn_is_listed_and_linked_anew(store: MinioStore) -> None:
    kept = await store.put(recording(), CAPTIONS, label())
    listed = {each.key: each.bytes for each in await store.kept("c1", "t1")}
    assert listed == {kept.key: kept.bytes, kept.captions_key: len(CAPTIONS.encode())}
    assert (await asyncio.to_thread(get, store.link(str(kept.key)))).status == 200
    assert await store.kept("c1", "t") == []


async def test_a_voice_tells_how_long_it_is_in_any_format(store: MinioStore) -> None:
    kept = await store.put(recording(), CAPTIONS, label(form=AudioFormat.OPUS))
    assert await store.duration_ms(str(kept.key)) == pcm.milliseconds(len(AUDIO))


async def test_the_object_tells_what_it_is(store: MinioStore, server: S3Server) -> None:
    kept = await store.put(recording(), CAPTIONS, label(voice=" Zoë \r\n x-evil:  1 "))
    told = looking(server.endpoint).stat_object(BUCKET, str(kept.key)).metadata
    assert told is not None
    assert {name: told[f"x-amz-meta-{name}"] for name in ("conversation", "turn", "model")} == {
        "conversation": "c1",
        "turn": "t1",
        "model": "some/model",
    }
    assert told["x-amz-meta-voice"] == "Zo_ __ x-evil: 1"
    assert told["x-amz-meta-sha256"] == hashlib.sha256("Grüße, Welt".encode()).hexdigest()


@pytest.mark.parametrize("form", [f for f in AudioFormat if f is not AudioFormat.WAV])
async def test_each_format_has_its_extension_and_type(store: MinioStore, form: AudioFormat) -> None:
    kept = await store.put(recording(), CAPTIONS, label(form=form))
    assert kept.key == f"c1/t1/2.{form.value}"
    assert kept.content_type == CONTENT_TYPES[form]
    answer = await asyncio.to_thread(get, str(kept.url))
    assert answer.headers["Content-Type"] == CONTENT_TYPES[form]
    if form is AudioFormat.PCM:
        assert answer.data == AUDIO
    else:
        with av.open(io.BytesIO(answer.data), "r") as container:
            assert next(container.decode(audio=0)).samples > 0


async def test_a_recording_larger_than_memory_is_meant_for(store: MinioStore) -> None:
    audio = AUDIO * 200  # 10 MB: the spool lies on disk by now
    kept = await store.put(recording(audio), CAPTIONS, label(form=AudioFormat.PCM))
    answer = await asyncio.to_thread(get, str(kept.url))
    assert answer.data == audio


async def test_what_a_late_worker_wrote_is_taken_back(store: MinioStore, server: S3Server) -> None:
    await store.put(recording(), CAPTIONS, label("kept"))
    await store.put(recording(), CAPTIONS, label("late"))
    await store.remove(label("late"))
    await store.remove(label("late"))  # nothing left to do
    left = looking(server.endpoint).list_objects(BUCKET, prefix="c1/", recursive=True)
    assert [found.object_name for found in left] == ["c1/kept/2.vtt", "c1/kept/2.wav"]


async def test_a_conversation_is_erased_and_no_other(store: MinioStore, server: S3Server) -> None:
    few_at_once = MinioStore(settings(server.endpoint), erased_at_once=3)
    for turn in ("t1", "t2"):
        await store.put(recording(), CAPTIONS, label(turn))
    await store.put(recording(), CAPTIONS, replace(label(), conversation_id="c10"))
    assert await few_at_once.erase("c1") == 4
    assert await few_at_once.erase("c1") == 0
    left = looking(server.endpoint).list_objects(BUCKET, recursive=True)
    assert [found.object_name for found in left] == ["c10/t1/2.vtt", "c10/t1/2.wav"]
    assert await store.erase("c10") == 2


async def test_an_erased_conversation_leaves_no_folder(store: MinioStore, server: S3Server) -> None:
    for turn in ("t1", "t2"):
        await store.put(recording(), CAPTIONS, replace(label(turn), conversation_id="forgotten"))
    assert await store.erase("forgotten") == 4
    names = [str(found.object_name) for found in looking(server.endpoint).list_objects(BUCKET)]
    assert not [name for name in names if name.startswith("forgotten")]


async def test_a_missing_bucket_is_made_by_two_at_once(server: S3Server) -> None:
    stores = [MinioStore(settings(server.endpoint, bucket="made-twice")) for _ in range(4)]
    await asyncio.gather(*(store.ensure_bucket() for store in stores))
    assert looking(server.endpoint).bucket_exists("made-twice")


async def test_a_bucket_that_went_missing_is_made_by_the_next_voice(server: S3Server) -> None:
    store = MinioStore(settings(server.endpoint, bucket="gone"))
    assert await store.erase("c1") == 0
    await store.remove(label())
    kept = await store.put(recording(), CAPTIONS, label(form=AudioFormat.PCM))
    answer = await asyncio.to_thread(get, str(kept.url))
    assert answer.data == AUDIO


# ---------------------------------------------------------------- a store that does not work


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        ({"secret_key": "not-the-secret"}, "SignatureDoesNotMatch"),
        ({"access_key": "nobody-known"}, "InvalidAccessKeyId"),
    ],
)
async def test_a_wrong_key_is_refused_at_once(
    server: S3Server, wrong: dict[str, str], code: str
) -> None:
    store = MinioStore(settings(server.endpoint, patience=60, **wrong))
    async with asyncio.timeout(30):
        with pytest.raises(StorageUnavailable, match=f"{code}; check MINIO_ACCESS_KEY") as caught:
            await store.put(recording(), CAPTIONS, label())
        with pytest.raises(StorageUnavailable, match="AccessDenied; check MINIO_ACCESS_KEY"):
            await store.ensure_bucket()  # HEAD: an answer without a body
    assert not any(secret in str(caught.value) for secret in wrong.values())
    assert S3Server.secret_key not in str(caught.value)


async def test_a_frozen_store_holds_nobody_for_long(server: S3Server, store: MinioStore) -> None:
    hasty = MinioStore(
        settings(server.endpoint, patience=2.0), connect_seconds=1.0, read_seconds=1.5, threads=3
    )
    await hasty.put(recording(), CAPTIONS, label("before"))
    before = threading.active_count()
    server.freeze()
    try:
        async with asyncio.timeout(30):
            ends = await asyncio.gather(
                *(hasty.put(recording(), CAPTIONS, label(f"t{i}")) for i in range(20)),
                return_exceptions=True,
            )
        assert [type(end) for end in ends] == [StorageUnavailable] * 20
        assert threading.active_count() <= before + 3 + (os.cpu_count() or 1)
    finally:
        server.thaw()
    kept = await store.put(recording(), CAPTIONS, label("after"))
    assert (await asyncio.to_thread(get, str(kept.url))).status == 200


async def test_a_store_that_is_away_at_the_start_is_waited_for() -> None:
    answers = [(503, b""), (503, b""), (200, b"")]
    with answering(lambda _: answers.pop(0)) as endpoint:
        async with asyncio.timeout(30):
            await MinioStore(settings(endpoint, patience=0)).prepare(pause=0.01)
    assert answers == []


async def test_a_store_that_refuses_is_not_usable_and_says_what_to_check(
    server: S3Server,
) -> None:
    store = MinioStore(settings(server.endpoint, secret_key="wrong-secret"))
    preparing = asyncio.create_task(store.prepare(pause=0.01))
    await soon(lambda: bool(store.refusal))
    assert "check MINIO_ACCESS_KEY and MINIO_SECRET_KEY" in store.refusal
    assert not store.usable.is_set()
    assert store.away
    preparing.cancel()


async def test_a_store_that_is_away_is_usable_for_those_who_wait_for_it() -> None:
    with answering(lambda _: (200, b"")) as endpoint:
        pass
    store = MinioStore(settings(endpoint))
    preparing = asyncio.create_task(store.prepare(pause=0.01))
    async with asyncio.timeout(30):
        await store.usable.wait()
    assert store.refusal == ""
    assert store.away
    preparing.cancel()
