"""AudioStore in a MinIO bucket, or any other S3. The library is synchronous: threads."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import io
import logging
import time
from datetime import timedelta
from typing import IO, TYPE_CHECKING, Final

import urllib3
from minio import Minio
from minio.error import MinioException, S3Error

from services.tts.encode import encoded
from services.tts.ports import Label, Stowed
from services.tts.spool import Spool
from shared.contract import CONTENT_TYPES
from shared.errors import StorageUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    from services.tts.config import MinioSettings
    from services.tts.ports import Recording

    T = TypeVar("T")

log = logging.getLogger(__name__)

CONNECT_SECONDS: Final = 3.0
READ_SECONDS: Final = 10.0
CAPTIONS_TYPE: Final = "text/vtt; charset=utf-8"
_LASTING: Final = {"InvalidAccessKeyId", "SignatureDoesNotMatch", "AccessDenied"}


def key_of(label: Label) -> str:
    """The object of one attempt, without its extension."""
    return f"{label.conversation_id}/{label.turn_id}/{label.attempt}"


def _client(settings: MinioSettings, endpoint: str) -> Minio:
    return Minio(
        endpoint,
        access_key=settings.access_key,
        secret_key=settings.secret_key,
        secure=settings.secure,
        # With the region given, signing a link asks nobody.
        region=settings.region,
        http_client=urllib3.PoolManager(
            timeout=urllib3.Timeout(connect=CONNECT_SECONDS, read=READ_SECONDS),
            maxsize=32,
            retries=False,  # put() repeats, with a limit and in sight of the turn
        ),
    )


class MinioStore:
    def __init__(self, settings: MinioSettings) -> None:
        self.bucket = settings.bucket
        self._client = _client(settings, settings.endpoint)
        self._signer = _client(settings, settings.public_endpoint or settings.endpoint)
        self._presign = timedelta(seconds=settings.presign)
        self._patience = settings.patience

    async def _patiently(self, what: str, work: Callable[[], T]) -> T:
        """Tries until it works or patience ends. Raises StorageUnavailable."""
        until = time.monotonic() + self._patience
        pause = 0.1
        while True:
            try:
                # A frozen server must not hold the turn for longer than its patience: the
                # thread itself ends by its socket's timeout.
                async with asyncio.timeout(CONNECT_SECONDS + READ_SECONDS):
                    return await asyncio.to_thread(work)
            except (MinioException, urllib3.exceptions.HTTPError, OSError, TimeoutError) as exc:
                reason = exc.code if isinstance(exc, S3Error) else type(exc).__name__
                if time.monotonic() + pause > until or reason in _LASTING:
                    raise StorageUnavailable(f"{what}: {reason}") from exc
                log.warning("store.retried", extra={"what": what, "reason": reason})
                await asyncio.sleep(pause)
                pause = min(pause * 2, 2.0)

    async def ensure_bucket(self) -> None:
        """Makes the bucket if it is missing. Raises StorageUnavailable."""

        def make() -> None:
            if not self._client.bucket_exists(self.bucket):
                try:
                    self._client.make_bucket(self.bucket)
                except S3Error as exc:
                    if exc.code not in {"BucketAlreadyOwnedByYou", "BucketAlreadyExists"}:
                        raise

        await self._patiently("making the bucket", make)

    async def put(self, recording: Recording, captions: str, label: Label) -> Stowed:
        assert isinstance(recording, Spool)
        key = key_of(label)
        audio_key, captions_key = f"{key}.{label.format.value}", f"{key}.vtt"
        content_type = CONTENT_TYPES[label.format]
        with await asyncio.to_thread(encoded, recording.open(), recording.samples, label) as body:
            size, digest = await asyncio.to_thread(_measure, body)

            def write() -> None:
                text = captions.encode()
                self._write(captions_key, io.BytesIO(text), len(text), CAPTIONS_TYPE, label)
                body.seek(0)
                self._write(audio_key, body, size, content_type, label)

            await self._patiently("storing the voice", write)
        url = self._signer.presigned_get_object(self.bucket, audio_key, expires=self._presign)
        return Stowed(
            bucket=self.bucket,
            key=audio_key,
            url=url,
            captions_key=captions_key,
            content_type=content_type,
            bytes=size,
            sha256=digest,
        )

    def _write(self, key: str, body: IO[bytes], size: int, content_type: str, label: Label) -> None:
        self._client.put_object(
            self.bucket,
            key,
            body,  # type: ignore[arg-type]  # any binary file does, the stubs ask for BinaryIO
            size,
            content_type=content_type,
            metadata={
                "conversation": label.conversation_id,
                "turn": label.turn_id,
                "model": _header(label.model),
                "voice": _header(label.voice),
                "sha256": hashlib.sha256(label.text.encode()).hexdigest(),
            },
            # Whole in one request up to 5 GiB: nothing half uploaded is ever left behind.
            part_size=max(size, 5 * 1024 * 1024),
        )

    async def remove(self, label: Label) -> None:
        key = key_of(label)

        def remove() -> None:
            for each in (f"{key}.{label.format.value}", f"{key}.vtt"):
                self._client.remove_object(self.bucket, each)

        with contextlib.suppress(StorageUnavailable):
            await self._patiently("taking back", remove)

    async def erase(self, conversation_id: str) -> int:
        """Removes every object of a conversation; returns how many. Raises StorageUnavailable."""

        def erase() -> int:
            count = 0
            prefix = f"{conversation_id}/"
            for found in self._client.list_objects(self.bucket, prefix=prefix, recursive=True):
                self._client.remove_object(self.bucket, str(found.object_name))
                count += 1
            return count

        return await self._patiently("erasing", erase)


def _header(text: str) -> str:
    """User metadata travels in HTTP headers: printable ASCII only."""
    return "".join(c if " " <= c <= "~" else "_" for c in text)


def _measure(body: IO[bytes]) -> tuple[int, str]:
    digest, size = hashlib.sha256(), 0
    body.seek(0)
    while block := body.read(1 << 20):
        digest.update(block)
        size += len(block)
    return size, digest.hexdigest()
