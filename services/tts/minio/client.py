"""Requests to an S3, in threads since the library is synchronous, repeated with a limit."""

from __future__ import annotations

import asyncio
import hashlib
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import IO, TYPE_CHECKING, Final
from urllib.parse import urlsplit

import urllib3
from minio import Minio
from minio.credentials.credentials import Credentials
from minio.signer import sign_v4_s3
from minio.time import to_amz_date

from services.tts.minio.outage import Outage
from services.tts.minio.reasons import FAILURES, explained, lasts, reason_of, refused
from shared.errors import StorageRefused, StorageUnavailable
from shared.retry import Backoff

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    from services.tts.config import MinioSettings

    T = TypeVar("T")

CONNECT_SECONDS: Final = 3.0
READ_SECONDS: Final = 10.0
MIN_BYTES_PER_SECOND: Final = 1_000_000  # below that a store counts as gone
# At once, of all turns. A frozen store holds these and no more, and none of the event loop's own
# threads, by which names are looked up.
THREADS: Final = 8
_AGAIN: Final = Backoff(first=0.1, longest=2.0)


@dataclass(frozen=True, slots=True)
class Digest:
    """Of a body: its size in bytes, its SHA-256."""

    size: int
    sha256: str

    @classmethod
    def of(cls, body: IO[bytes]) -> Digest:
        digest, size = hashlib.sha256(), 0
        body.seek(0)
        while block := body.read(1 << 20):
            digest.update(block)
            size += len(block)
        return cls(size, digest.hexdigest())


class Client:
    """One bucket of an S3. `blocking` is minio-py's own client, for use in `patiently` only."""

    def __init__(
        self, settings: MinioSettings, *, connect_seconds: float, read_seconds: float, threads: int
    ) -> None:
        self.bucket = settings.bucket
        self._region = settings.region
        self._credentials = Credentials(settings.access_key, settings.secret_key)
        self._http = urllib3.PoolManager(
            timeout=urllib3.Timeout(connect=connect_seconds, read=read_seconds),
            maxsize=threads,
            retries=False,  # patiently() repeats, with a limit and in sight of the turn
            ca_certs=settings.ca,
        )
        self.blocking = self._connect(settings, settings.endpoint, secure=settings.secure)
        self._signer = self.blocking
        if settings.public_endpoint:  # what links name, where users reach the store elsewhere
            self._signer = self._connect(
                settings, settings.public_endpoint, secure=settings.public_secure
            )
        self._presign = timedelta(seconds=settings.presign)
        self._patience = settings.patience
        self._outage = Outage()
        self._answer_seconds = connect_seconds + read_seconds
        self._threads = ThreadPoolExecutor(threads, "store")

    def _connect(self, settings: MinioSettings, endpoint: str, *, secure: bool) -> Minio:
        return Minio(
            endpoint,
            access_key=settings.access_key,
            secret_key=settings.secret_key,
            secure=secure,
            region=settings.region,  # given, so that signing a link asks nobody
            http_client=self._http,
        )

    async def patiently(
        self, what: str, work: Callable[[], T], size: int = 0, *, patience: float | None = None
    ) -> T:
        """Does it in a thread until it works or patience ends; `size` is what has to be sent.

        While the store is known to be away it is tried once: whoever comes has work to hold up.

        Raises:
            StorageRefused: no repeating mends it.
            StorageUnavailable: it was not done within the patience.
        """
        patience = self._patience if patience is None else patience
        until = time.monotonic() + (0.0 if self._outage.standing else patience)
        for pause in _AGAIN.pauses():
            try:
                done = await self._in_thread(what, work, size)
            except FAILURES as exc:
                reason = reason_of(exc)
                self._outage.failed(what, reason)
                if lasts(reason) or time.monotonic() + pause > until:
                    self._outage.gave_up(what, reason)
                    kind = StorageRefused if lasts(reason) else StorageUnavailable
                    raise kind(explained(what, reason)) from exc
                await asyncio.sleep(pause)
            except StorageUnavailable as exc:
                self._outage.failed(what, "Timeout")
                self._outage.gave_up(what, str(exc))
                raise
            else:
                self._outage.over()
                return done
        raise AssertionError("pauses never end")

    async def _in_thread(self, what: str, work: Callable[[], T], size: int) -> T:
        seconds = self._answer_seconds + size / MIN_BYTES_PER_SECOND
        future = asyncio.get_running_loop().run_in_executor(self._threads, work)
        try:
            async with asyncio.timeout(seconds) as deadline:
                return await future
        except TimeoutError as exc:
            if not deadline.expired():
                raise
            # All threads are held up, or this one is by a server that trickles. No second try: the
            # first may still be reading the same file.
            raise StorageUnavailable(f"{what}: not done within {seconds:.0f} s") from exc

    def write(
        self, key: str, body: IO[bytes], content_type: str, facts: dict[str, str], digest: Digest
    ) -> None:
        """One PUT, whole or not at all, sent as it is read; blocks.

        Minio.put_object() copies the body into memory first (58 MB for 20 minutes) and sends the
        copy at one stroke, for which the socket gives it no longer than for a connect.
        """
        address = self.blocking.get_presigned_url("PUT", self.bucket, key)
        url = urlsplit(address)._replace(query="")
        now = datetime.now(UTC)
        headers = sign_v4_s3(
            method="PUT",
            url=url,
            region=self._region,
            headers={
                "Host": url.netloc,
                "Content-Type": content_type,
                "Content-Length": str(digest.size),
                # The store compares: what arrives is what we sent.
                "x-amz-content-sha256": digest.sha256,
                "x-amz-date": to_amz_date(now),
                **facts,
            },
            credentials=self._credentials,
            content_sha256=digest.sha256,
            date=now,
        )
        body.seek(0)
        response = self._http.urlopen("PUT", url.geturl(), body=body, headers=headers)
        if response.status != 200:
            raise refused(response)

    def link(self, key: str) -> str:
        """A GET that anybody may do for a while; asks nobody."""
        return self._signer.presigned_get_object(self.bucket, key, expires=self._presign)
