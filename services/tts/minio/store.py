"""AudioStore in a MinIO bucket, or any other S3."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import IO, TYPE_CHECKING, Final

from minio.deleteobjects import DeleteObject
from minio.error import S3Error

from services.tts.audio.encode import RAW, Raw
from services.tts.audio.spool import Spool, spooled_file
from services.tts.minio.client import CONNECT_SECONDS, READ_SECONDS, THREADS, Client, Digest
from services.tts.minio.label import DURATION, audio_key, captions_key, metadata, turn_prefix
from services.tts.minio.reasons import explained
from services.tts.ports import KeptObject, Label, StoredObject
from services.tts.process.metrics import UPLOAD_SECONDS
from shared.contract import CONTENT_TYPES, SAMPLE_RATE
from shared.errors import StorageRefused, StorageUnavailable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence

    from services.tts.config import MinioSettings
    from services.tts.minio.uploads import Body
    from services.tts.ports import Recording

ERASED_AT_ONCE: Final = 1000  # what one request may name
PREPARE_SECONDS: Final = 2.0  # between two tries to have a bucket
LOOK_SECONDS: Final = 5.0  # for a store that does not answer to come back, while somebody waits
HASHED_AT_ONCE: Final = 30 * SAMPLE_RATE  # samples: done within a ms
CAPTIONS_TYPE: Final = "text/vtt; charset=utf-8"


class MinioStore:
    def __init__(
        self,
        settings: MinioSettings,
        *,
        connect_seconds: float = CONNECT_SECONDS,
        read_seconds: float = READ_SECONDS,
        threads: int = THREADS,
        erased_at_once: int = ERASED_AT_ONCE,
    ) -> None:
        self.bucket = settings.bucket
        self._client = Client(
            settings, connect_seconds=connect_seconds, read_seconds=read_seconds, threads=threads
        )
        self._erased_at_once = erased_at_once
        self._link_seconds = settings.presign
        self.refusal = ""
        self.usable = asyncio.Event()
        self._coders = ThreadPoolExecutor(os.cpu_count() or 1, "encode")

    @property
    def away(self) -> bool:
        """True while it does not do what it is asked."""
        return bool(self.refusal) or self._client.away

    async def prepare(self, pause: float = PREPARE_SECONDS) -> None:
        """Returns when the bucket is there: made, if it was missing; tries again without end.

        Meanwhile `refusal` says what is wrong, where somebody has to mend it, and `usable` is set
        as soon as that is not so: a store that is away comes back by itself.
        """
        while True:
            try:
                await self.ensure_bucket(patience=0.0)
            except StorageRefused as exc:
                self.refusal = str(exc)
            except StorageUnavailable:
                self.refusal = ""
                self.usable.set()
            else:
                self.refusal = ""
                self.usable.set()
                return
            await asyncio.sleep(pause)

    async def ensure_bucket(self, patience: float | None = None) -> None:
        """Makes the bucket if it is missing. Raises StorageUnavailable."""

        def make() -> None:
            if not self._client.blocking.bucket_exists(self.bucket):
                self._make_bucket()

        await self._client.patiently_in_thread("making the bucket", make, patience=patience)

    def _make_bucket(self) -> None:
        try:
            self._client.blocking.make_bucket(self.bucket)
        except S3Error as exc:
            # Two workers at once: the other one was faster.
            if exc.code not in {"BucketAlreadyOwnedByYou", "BucketAlreadyExists"}:
                raise

    async def put(self, recording: Recording, captions: str, label: Label) -> StoredObject:
        assert isinstance(recording, Spool)
        content_type = CONTENT_TYPES[label.format]
        async with self._encoded(recording, label) as (body, digest):
            text = io.BytesIO(captions.encode(errors="replace"))
            facts = metadata(label, recording.samples)

            async def write() -> None:
                write = self._client.write
                await _both(
                    write(captions_key(label), text, CAPTIONS_TYPE, facts, Digest.of(text)),
                    write(audio_key(label), body, content_type, facts, digest),
                )

            with UPLOAD_SECONDS.time():
                await self._client.patiently(
                    "storing the voice", lambda: self._in_bucket(write), digest.size
                )
        return StoredObject(
            bucket=self.bucket,
            key=audio_key(label),
            url=self._client.link(audio_key(label)),
            captions_key=captions_key(label),
            captions_url=self._client.link(captions_key(label)),
            content_type=content_type,
            bytes=digest.size,
            sha256=digest.sha256,
        )

    async def _in_bucket(self, write: Callable[[], Awaitable[None]]) -> None:
        """Makes the bucket where it went missing."""
        try:
            await write()
        except S3Error as exc:
            if exc.code != "NoSuchBucket":
                raise
            await self._client.in_thread(self._make_bucket)
            await write()

    @contextlib.asynccontextmanager
    async def _encoded(self, recording: Spool, label: Label) -> AsyncIterator[tuple[Body, Digest]]:
        """The object's body."""
        loop = asyncio.get_running_loop()
        if label.format in RAW:
            body = Raw(recording.open(), recording.samples, label.format)
            if recording.samples <= HASHED_AT_ONCE:
                yield body, Digest.of(body)
            else:
                yield body, await loop.run_in_executor(self._coders, Digest.of, body)
            return

        def work(target: IO[bytes]) -> Digest:
            _code(recording.open(), target, label)
            return Digest.of(target)

        with spooled_file() as target:
            yield target, await loop.run_in_executor(self._coders, work, target)

    async def remove(self, label: Label) -> None:
        def remove() -> None:
            for key in (audio_key(label), captions_key(label)):
                with _no_such_bucket():
                    self._client.blocking.remove_object(self.bucket, key)

        with contextlib.suppress(StorageUnavailable):
            await self._client.patiently_in_thread("taking back", remove)

    # ------------------------------------------------------------ links

    @property
    def link_seconds(self) -> float:
        return self._link_seconds

    def link(self, key: str) -> str:
        return self._client.link(key)

    async def kept(self, conversation_id: str, turn_id: str) -> list[KeptObject]:
        prefix = turn_prefix(conversation_id, turn_id)

        def look() -> list[KeptObject]:
            found: list[KeptObject] = []
            with _no_such_bucket():
                listed = self._client.blocking.list_objects(self.bucket, prefix=prefix)
                found += [KeptObject(str(each.object_name), each.size or 0) for each in listed]
            return found

        return await self._client.patiently_in_thread(
            "looking for a voice", look, patience=LOOK_SECONDS
        )

    async def duration_ms(self, key: str) -> int | None:
        def look() -> int | None:
            found = self._client.blocking.stat_object(self.bucket, key)
            told = str((found.metadata or {}).get(DURATION, ""))
            return int(told) if told.isdigit() else None

        return await self._client.patiently_in_thread(
            "looking at a voice", look, patience=LOOK_SECONDS
        )

    # ------------------------------------------------------------ removed

    async def erase(self, conversation_id: str) -> int:
        """Removes every object of a conversation; returns how many. Raises StorageUnavailable."""
        count, folders = 0, {f"{conversation_id}/"}
        while names := await self._client.patiently_in_thread(
            "erasing", lambda: self._erase_some(conversation_id)
        ):
            count += len(names)
            folders |= {f"{name.rpartition('/')[0]}/" for name in names}
        if count:
            # Where folders are real (SeaweedFS) they stay, and tell whose conversation there was;
            # elsewhere there is nothing by these names. The innermost first.
            inside_out = sorted(folders, reverse=True)
            await self._client.patiently_in_thread("erasing", lambda: self._remove(inside_out))
        return count

    def _erase_some(self, conversation_id: str) -> Sequence[str]:
        names: list[str] = []
        with _no_such_bucket():
            found = self._client.blocking.list_objects(
                self.bucket, prefix=f"{conversation_id}/", recursive=True
            )
            names += [str(each.object_name) for each in islice(found, self._erased_at_once)]
        self._remove(names)
        return names

    def _remove(self, names: Sequence[str]) -> None:
        objects = map(DeleteObject, names)
        for error in self._client.blocking.remove_objects(self.bucket, objects):
            raise StorageUnavailable(explained("erasing", str(error.code)))


async def _both(*writes: Awaitable[None]) -> None:
    """At once; each has ended when it returns or raises, for they read files of the caller's."""
    for outcome in await asyncio.gather(*writes, return_exceptions=True):
        if outcome is not None:
            raise outcome


def _code(audio: IO[bytes], target: IO[bytes], label: Label) -> None:
    from services.tts.audio.pyav_encode import encode as code  # noqa: PLC0415  40 MB that WAV never needs

    code(audio, target, label)


@contextlib.contextmanager
def _no_such_bucket() -> Iterator[None]:
    """Where there is no bucket there is nothing to remove."""
    try:
        yield
    except S3Error as exc:
        if exc.code != "NoSuchBucket":
            raise
