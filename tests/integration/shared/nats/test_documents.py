"""Documents in a bucket on a real nats-server: changed by who has read them last."""

from __future__ import annotations

import asyncio

import nats
import pytest

from local.nats_server import NatsServer
from shared.errors import Conflict, NatsError
from shared.nats.connection import Connection
from shared.nats.documents import Bucket, Held, amend
from tests.integration.harness import Wire, connected, held, soon

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def bucket(connection: Connection) -> Bucket:
    return Bucket(connection, "conversations")


async def test_a_document_that_is_not_there(bucket: Bucket) -> None:
    assert await bucket.get("c") == Held(None, 0)


async def test_a_document_is_changed_by_who_has_read_it_last(bucket: Bucket) -> None:
    first = await bucket.put("c", b"one", 0)
    second = await bucket.put("c", b"two", first)
    assert await bucket.get("c") == Held(b"two", second)
    for stale in (0, first):
        with pytest.raises(Conflict):
            await bucket.put("c", b"three", stale)
    assert (await bucket.get("c")).value == b"two"


async def test_of_two_that_write_at_once_one_wins(server: NatsServer, bucket: Bucket) -> None:
    async with connected(server.url) as other:
        theirs = Bucket(other, "conversations")
        for n in range(30):
            before = await bucket.get("c")
            outcomes = await asyncio.gather(
                bucket.put("c", b"ours %d" % n, before.revision),
                theirs.put("c", b"theirs %d" % n, before.revision),
                return_exceptions=True,
            )
            lost = [o for o in outcomes if isinstance(o, Conflict)]
            assert len(lost) == 1
            words = b"theirs" if lost[0] is outcomes[0] else b"ours"
            assert (await bucket.get("c")).value == b"%s %d" % (words, n)


async def test_a_value_that_another_client_deleted_is_gone(
    server: NatsServer, bucket: Bucket
) -> None:
    await bucket.put("c", b"one", 0)
    client = await nats.connect(server.url)
    try:
        await (await client.jetstream().key_value("conversations")).delete("c")
    finally:
        await client.close()
    gone = await bucket.get("c")
    assert gone.value is None
    assert [key async for key, _ in bucket.entries(">")] == []
    await bucket.put("c", b"two", gone.revision)
    assert (await bucket.get("c")).value == b"two"


async def test_entries_are_those_that_match(bucket: Bucket) -> None:
    for key in ("a", "a.1", "a.2", "ab.1", "b.1"):
        await bucket.put(key, key.encode(), 0)
    assert [entry async for entry in bucket.entries("a.*")] == [("a.1", b"a.1"), ("a.2", b"a.2")]
    assert [entry async for entry in bucket.entries("c.*")] == []


async def test_erasing_leaves_no_marker_and_nothing_else_is_touched(
    bucket: Bucket,
) -> None:
    for key in ("a", "a.1", "a.2", "ab.1", "b.1"):
        await bucket.put(key, key.encode(), 0)
    await bucket.erase("a.*")
    left = await held(bucket.connection, "KV_conversations")
    assert [m.subject.removeprefix("$KV.conversations.") for m in left] == ["a", "ab.1", "b.1"]
    await bucket.erase("a.*")
    await bucket.put("a.1", b"new", 0)


async def test_two_who_amend_at_once_both_get_through(server: NatsServer, bucket: Bucket) -> None:
    async with connected(server.url) as other:
        theirs = Bucket(other, "conversations")

        async def add(bucket: Bucket, word: bytes) -> None:
            await amend(
                lambda: bucket.get("c"),
                lambda value: (value or b"") + word,
                lambda value, revision: bucket.put("c", value or b"", revision),
            )

        for _ in range(20):
            await asyncio.gather(add(bucket, b"a"), add(theirs, b"b"))
    assert sorted((await bucket.get("c")).value or b"") == sorted(b"ab" * 20)


async def test_a_write_whose_ack_was_lost_is_our_own(server: NatsServer, bucket: Bucket) -> None:
    """It is repeated, and its own first copy is what it then conflicts with."""
    async with Wire(server.url) as wire, connected(wire.url, ack_seconds=0.15) as far:
        wire.delay = 0.25
        put = asyncio.create_task(Bucket(far, "conversations").put("c", b"one", 0))
        await soon(lambda: wire.said.count(b"HPUB $KV") == 2)
        wire.delay = 0
        revision = await asyncio.wait_for(put, 5)
    assert await bucket.get("c") == Held(b"one", revision)


async def test_a_bucket_that_is_not_there_is_no_empty_one(connection: Connection) -> None:
    """Else a conversation whose bucket is missing would look like a new one."""
    nowhere = Bucket(connection, "nowhere")
    connection.publish_seconds = 0.1
    with pytest.raises(NatsError):
        await nowhere.get("c")
    with pytest.raises(NatsError):
        await nowhere.put("c", b"one", 0)
