"""Requests to an S3, repeated with a limit: PUTs in the event loop, all others in threads, since
minio-py is synchronous."""

from __future__ import annotations

import asyncio
import hashlib
import io
import ssl
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Final
from urllib.parse import SplitResult, quote, urlsplit

import urllib3
from minio import Minio
from minio.credentials.credentials import Credentials
from minio.signer import sign_v4_s3

from services.tts.minio.outage import Outage
from services.tts.minio.reasons import FAILURES, explained, lasts, reason_of, refused
from services.tts.minio.uploads import Uploads
from shared.errors import StorageRefused, StorageUnavailable
from shared.retry import Backoff

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import TypeVar

    from services.tts.config import MinioSettings
    from services.tts.minio.uploads import Body

    T = TypeVar("T")

CONNECT_SECONDS: Final = 3.0
READ_SECONDS: Final = 10.0
MIN_BYTES_PER_SECOND: Final = 1_000_000  # below that a store counts as gone
# At once, of all turns: uploads, and threads for the rest. A frozen store holds these and no more,
# and none of the event loop's own threads, by which names are looked up.
CONNECTIONS: Final = 16
THREADS: Final = 8
_AGAIN: Final = Backoff(first=0.1, longest=2.0)


@dataclass(frozen=True, slots=True)
class Digest:
    """Of a body: its size in bytes, its SHA-256."""

    size: int
    sha256: str

    @classmethod
    def of(cls, body: Body) -> Digest:
        digest, size = hashlib.sha256(), 0
        body.seek(0)
        while block := body.read(1 << 20):
            digest.update(block)
            size += len(block)
        return cls(size, digest.hexdigest())


class Client:
    """One bucket of an S3. `blocking` is minio-py's own client, for use in threads only."""

    def __init__(
        self, settings: MinioSettings, *, connect_seconds: float, read_seconds: float, threads: int
    ) -> None:
        self.bucket = settings.bucket
        self._settings = settings
        self._http = urllib3.PoolManager(
            timeout=urllib3.Timeout(connect=connect_seconds, read=read_seconds),
            maxsize=threads,
            retries=False,  # patiently() repeats, with a limit and in sight of the turn
            ca_certs=settings.ca,
        )
        self.blocking = self._connect(settings.endpoint, secure=settings.secure)
        self._credentials = Credentials(settings.access_key, settings.secret_key)
        self._presign = timedelta(seconds=settings.presign)
        self._patience = settings.patience
        self._outage = Outage()
        self._connect_seconds, self._read_seconds = connect_seconds, read_seconds
        self._threads = ThreadPoolExecutor(threads, "store")

    def _connect(self, endpoint: str, *, secure: bool) -> Minio:
        return Minio(
            endpoint,
            access_key=self._settings.access_key,
            secret_key=self._settings.secret_key,
            secure=secure,
            region=self._settings.region,  # given, so that nobody is asked for it
            http_client=self._http,
        )

    # ------------------------------------------------------------ with patience

    @property
    def away(self) -> bool:
        """More than one request in a row has come to nothing."""
        return self._outage.is_on

    async def patiently(
        self,
        what: str,
        work: Callable[[], Awaitable[T]],
        size: int = 0,
        *,
        patience: float | None = None,
    ) -> T:
        """Does it until it works or patience ends; `size` is what has to be sent.

        While the store is known to be away it is tried once: whoever comes has work to hold up.

        Raises:
            StorageRefused: no repeating mends it.
            StorageUnavailable: it was not done within the patience.
        """
        patience = self._patience if patience is None else patience
        until = time.monotonic() + (0.0 if self._outage.standing else patience)
        for pause in _AGAIN.pauses():
            try:
                done = await self._in_time(what, work, size)
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

    async def patiently_in_thread(
        self, what: str, work: Callable[[], T], *, patience: float | None = None
    ) -> T:
        """The same for what blocks."""
        return await self.patiently(what, lambda: self.in_thread(work), patience=patience)

    async def in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    async def _in_time(self, what: str, work: Callable[[], Awaitable[T]], size: int) -> T:
        seconds = self._connect_seconds + self._read_seconds + size / MIN_BYTES_PER_SECOND
        try:
            async with asyncio.timeout(seconds) as deadline:
                return await work()
        except TimeoutError as exc:
            if not deadline.expired():
                raise
            # All threads are held up, or the server trickles. No second try: a thread may still be
            # at the first.
            raise StorageUnavailable(f"{what}: not done within {seconds:.0f} s") from exc

    # ------------------------------------------------------------ objects

    async def write(
        self, key: str, body: Body, content_type: str, facts: dict[str, str], digest: Digest
    ) -> None:
        """One PUT, whole or not at all, sent as it is read."""
        url = self._place._replace(path=f"{self._place.path}{quote(key)}")
        at = datetime.now(UTC)
        signed = sign_v4_s3(
            method="PUT",
            url=url,
            region=self._settings.region,
            headers={
                **facts,
                "Host": url.netloc,
                "Content-Type": content_type,
                "Content-Length": str(digest.size),
                # The store compares: what arrives is what we sent.
                "x-amz-content-sha256": digest.sha256,
                "x-amz-date": at.strftime("%Y%m%dT%H%M%SZ"),
            },
            credentials=self._credentials,
            content_sha256=digest.sha256,
            date=at,
        )
        headers = {name: str(value) for name, value in signed.items()}
        answer = await self._uploads.put(url.path, headers, body)
        if answer.status != 200:
            said = io.BytesIO(answer.data)
            raise refused(urllib3.HTTPResponse(said, answer.headers, answer.status))

    def link(self, key: str) -> str:
        """A GET that anybody may do for a while; asks nobody."""
        return self._public.presigned_get_object(self.bucket, key, expires=self._presign)

    @cached_property
    def _uploads(self) -> Uploads:
        place, settings = self._place, self._settings
        secure = place.scheme == "https"
        return Uploads(
            str(place.hostname),
            place.port or (443 if secure else 80),
            ssl.create_default_context(cafile=settings.ca) if secure else None,
            connect_seconds=self._connect_seconds,
            read_seconds=self._read_seconds,
            connections=CONNECTIONS,
        )

    @cached_property
    def _place(self) -> SplitResult:
        """Where objects are: their keys are appended. Raises ValueError for no name of a bucket."""
        # Some have the bucket in their host's name, others in the path: minio-py knows.
        address = urlsplit(self.blocking.get_presigned_url("PUT", self.bucket, "x"))
        return address._replace(query="", path=address.path.removesuffix("x"))

    @cached_property
    def _public(self) -> Minio:
        """The store where those who have links reach it."""
        settings = self._settings
        if not settings.public_endpoint:
            return self.blocking
        return self._connect(settings.public_endpoint, secure=settings.public_secure)
