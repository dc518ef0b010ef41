"""AudioStore in a MinIO bucket, or any other S3. The library is synchronous: threads."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import io
import logging
import os
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import IO, TYPE_CHECKING, Final
from urllib.parse import urlsplit
from xml.etree.ElementTree import ParseError

import urllib3
from minio import Minio
from minio.credentials.credentials import Credentials
from minio.deleteobjects import DeleteObject
from minio.error import MinioException, S3Error, ServerError
from minio.signer import sign_v4_s3
from minio.time import to_amz_date

from services.tts.audio.encode import encoded
from services.tts.audio.spool import Spool
from services.tts.ports import Label, Stowed
from shared.contract import CONTENT_TYPES
from shared.errors import StorageUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import TypeVar

    from services.tts.config import MinioSettings
    from services.tts.ports import Recording

    T = TypeVar("T")

log = logging.getLogger(__name__)

CONNECT_SECONDS: Final = 3.0
READ_SECONDS: Final = 10.0
SLOWEST: Final = 1_000_000  # bytes a second; below that a store counts as gone
# At once, of all turns. A frozen store holds these and no more, and none of the event loop's own
# threads, by which names are looked up.
THREADS: Final = 8
ERASED_AT_ONCE: Final = 1000  # what one request may name
CAPTIONS_TYPE: Final = "text/vtt; charset=utf-8"

_WRONG_KEY: Final = "check MINIO_ACCESS_KEY and MINIO_SECRET_KEY"
_CLOCKS: Final = "set this machine's clock or the store's"
# What no repeating mends, and who can mend it.
_LASTING: Final = {
    "InvalidAccessKeyId": _WRONG_KEY,
    "SignatureDoesNotMatch": _WRONG_KEY,
    # Also what a wrong key looks like where the answer has no body.
    "AccessDenied": f"{_WRONG_KEY}, and that they may read and write in MINIO_BUCKET",
    "AuthorizationHeaderMalformed": "check MINIO_REGION",
    "InvalidBucketName": "check MINIO_BUCKET",
    "PermanentRedirect": "check MINIO_REGION and MINIO_ENDPOINT",
    "RequestTimeTooSkewed": _CLOCKS,
    "ValueError": "check MINIO_BUCKET and MINIO_ENDPOINT",
}
_HINTS: Final = {
    "NameResolutionError": "check MINIO_ENDPOINT",
    "NewConnectionError": "is there a store at MINIO_ENDPOINT?",
    "SSLError": "check MINIO_SECURE and the store's certificate",
    "InvalidResponseError": "check MINIO_ENDPOINT and MINIO_SECURE",
}
# An answer that is not what S3 answers; what minio-py makes of it is not a MinioException.
_GARBLED: Final = (ParseError, ValueError)


def key_of(label: Label) -> str:
    """The object of one attempt, without its extension."""
    return f"{label.conversation_id}/{label.turn_id}/{label.attempt}"


class MinioStore:
    def __init__(self, settings: MinioSettings) -> None:
        self.bucket = settings.bucket
        self._region = settings.region
        self._credentials = Credentials(settings.access_key, settings.secret_key)
        self._pool = urllib3.PoolManager(
            timeout=urllib3.Timeout(connect=CONNECT_SECONDS, read=READ_SECONDS),
            maxsize=THREADS,
            retries=False,  # put() repeats, with a limit and in sight of the turn
        )
        self._client = self._connect(settings, settings.endpoint, secure=settings.secure)
        self._signer = self._client
        if settings.public_endpoint:  # what links name, where users reach the store elsewhere
            self._signer = self._connect(
                settings, settings.public_endpoint, secure=settings.public_secure
            )
        self._presign = timedelta(seconds=settings.presign)
        self._patience = settings.patience
        self._threads = ThreadPoolExecutor(THREADS, "store")
        self._coders = ThreadPoolExecutor(os.cpu_count() or 1, "encode")

    def _connect(self, settings: MinioSettings, endpoint: str, *, secure: bool) -> Minio:
        return Minio(
            endpoint,
            access_key=settings.access_key,
            secret_key=settings.secret_key,
            secure=secure,
            region=settings.region,  # given, so that signing a link asks nobody
            http_client=self._pool,
        )

    async def _patiently(self, what: str, work: Callable[[], T], size: int = 0) -> T:
        """Tries until it works or patience ends. Raises StorageUnavailable."""
        until = time.monotonic() + self._patience
        most = CONNECT_SECONDS + READ_SECONDS + size / SLOWEST
        pause = 0.1
        while True:
            try:
                return await self._in_thread(what, work, most)
            except (MinioException, urllib3.exceptions.HTTPError, OSError, *_GARBLED) as exc:
                reason = _reason(exc)
                if reason in _LASTING or time.monotonic() + pause > until:
                    raise StorageUnavailable(_explained(what, reason)) from exc
                log.warning("store.retried", extra={"what": what, "reason": reason})
                await asyncio.sleep(pause)
                pause = min(pause * 2, 2.0)

    async def _in_thread(self, what: str, work: Callable[[], T], most: float) -> T:
        future = asyncio.get_running_loop().run_in_executor(self._threads, work)
        try:
            async with asyncio.timeout(most) as deadline:
                return await future
        except TimeoutError as exc:
            if not deadline.expired():
                raise
            # All threads are held up, or this one is by a server that trickles. No second try: the
            # first may still be reading the same file.
            raise StorageUnavailable(f"{what}: not done within {most:.0f} s") from exc

    async def ensure_bucket(self) -> None:
        """Makes the bucket if it is missing. Raises StorageUnavailable."""

        def make() -> None:
            if not self._client.bucket_exists(self.bucket):
                self._make_bucket()

        await self._patiently("making the bucket", make)

    def _make_bucket(self) -> None:
        try:
            self._client.make_bucket(self.bucket)
        except S3Error as exc:
            # Two workers at once: the other one was faster.
            if exc.code not in {"BucketAlreadyOwnedByYou", "BucketAlreadyExists"}:
                raise

    async def put(self, recording: Recording, captions: str, label: Label) -> Stowed:
        assert isinstance(recording, Spool)
        key = key_of(label)
        audio_key, captions_key = f"{key}.{label.format.value}", f"{key}.vtt"
        content_type = CONTENT_TYPES[label.format]
        with await self._encoded(recording, label) as body:
            size, digest = await asyncio.get_running_loop().run_in_executor(
                self._coders, _measured, body
            )
            text = io.BytesIO(captions.encode(errors="replace"))
            facts = _facts(label)

            def write() -> None:
                self._write(captions_key, text, CAPTIONS_TYPE, facts, *_measured(text))
                self._write(audio_key, body, content_type, facts, size, digest)

            def write_or_make_the_bucket() -> None:
                try:
                    write()
                except S3Error as exc:
                    if exc.code != "NoSuchBucket":
                        raise
                    self._make_bucket()
                    write()

            await self._patiently("storing the voice", write_or_make_the_bucket, size)
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

    async def _encoded(self, recording: Spool, label: Label) -> IO[bytes]:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(
            self._coders, encoded, recording.open(), recording.samples, label
        )

    def _write(
        self,
        key: str,
        body: IO[bytes],
        content_type: str,
        facts: dict[str, str],
        size: int,
        digest: str,
    ) -> None:
        """One PUT, whole or not at all, sent as it is read.

        Minio.put_object() copies the body into memory first (58 MB for 20 minutes) and sends the
        copy at one stroke, for which the socket gives it no longer than for a connect.
        """
        address = self._client.get_presigned_url("PUT", self.bucket, key)
        url = urlsplit(address)._replace(query="")
        now = datetime.now(UTC)
        headers = sign_v4_s3(
            method="PUT",
            url=url,
            region=self._region,
            headers={
                "Host": url.netloc,
                "Content-Type": content_type,
                "Content-Length": str(size),
                "x-amz-content-sha256": digest,  # the store compares: what arrives is what we sent
                "x-amz-date": to_amz_date(now),
                **facts,
            },
            credentials=self._credentials,
            content_sha256=digest,
            date=now,
        )
        body.seek(0)
        response = self._pool.urlopen("PUT", url.geturl(), body=body, headers=headers)
        if response.status != 200:
            raise _refused(response)

    async def remove(self, label: Label) -> None:
        key = key_of(label)

        def remove() -> None:
            for each in (f"{key}.{label.format.value}", f"{key}.vtt"):
                with _no_such_bucket():
                    self._client.remove_object(self.bucket, each)

        with contextlib.suppress(StorageUnavailable):
            await self._patiently("taking back", remove)

    async def erase(self, conversation_id: str) -> int:
        """Removes every object of a conversation; returns how many. Raises StorageUnavailable."""
        count = 0
        while some := await self._patiently("erasing", lambda: self._erase_some(conversation_id)):
            count += some
        return count

    def _erase_some(self, conversation_id: str) -> int:
        names: list[str] = []
        with _no_such_bucket():
            found = self._client.list_objects(
                self.bucket, prefix=f"{conversation_id}/", recursive=True
            )
            names += [str(each.object_name) for each in islice(found, ERASED_AT_ONCE)]
        if names:
            for error in self._client.remove_objects(self.bucket, map(DeleteObject, names)):
                raise StorageUnavailable(_explained("erasing", str(error.code)))
        return len(names)


@contextlib.contextmanager
def _no_such_bucket() -> Iterator[None]:
    """Where there is no bucket there is nothing to remove."""
    try:
        yield
    except S3Error as exc:
        if exc.code != "NoSuchBucket":
            raise


def _refused(response: urllib3.BaseHTTPResponse) -> MinioException:
    """What the store answered instead of 200, in minio-py's words."""
    if b"<Code>" in response.data:
        return S3Error.fromxml(response)
    return ServerError(f"HTTP {response.status}", response.status)


def _reason(exc: Exception) -> str:
    """A fixed word: an exception's own text may hold addresses and what a stranger answered."""
    if isinstance(exc, S3Error):
        return str(exc.code)
    if isinstance(exc, ServerError):
        return f"HTTP {exc.status_code}"
    return type(exc).__name__


def _explained(what: str, reason: str) -> str:
    hint = _LASTING.get(reason) or _HINTS.get(reason)
    return f"{what}: {reason}; {hint}" if hint else f"{what}: {reason}"


def _facts(label: Label) -> dict[str, str]:
    """User metadata."""
    text = label.text.encode(errors="replace")
    facts = {
        "conversation": label.conversation_id,
        "turn": label.turn_id,
        "model": _header(label.model),
        "voice": _header(label.voice),
        "sha256": hashlib.sha256(text).hexdigest(),
    }
    return {f"x-amz-meta-{name}": value for name, value in facts.items()}


def _header(text: str) -> str:
    """User metadata travels in HTTP headers: printable ASCII only, one space at most."""
    return " ".join("".join(c if " " <= c <= "~" else "_" for c in text).split())


def _measured(body: IO[bytes]) -> tuple[int, str]:
    """Its size and sha256."""
    digest, size = hashlib.sha256(), 0
    body.seek(0)
    while block := body.read(1 << 20):
        digest.update(block)
        size += len(block)
    return size, digest.hexdigest()
