"""The objects of the bucket, to and from files."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import urllib3
from minio import Minio
from minio.error import S3Error

from deploy.operate.manifest import ObjectFile, digest_of, inside
from shared.process.settings import file_path

if TYPE_CHECKING:
    from pathlib import Path

    from shared.process.settings import Env

AT_ONCE: Final = 8
_SECONDS: Final = 60.0
_META: Final = "x-amz-meta-"
_BLOCK_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    """A bucket, by the settings that the speech service has for it."""

    client: Minio = field(repr=False)
    bucket: str

    @classmethod
    def from_env(cls, env: Env) -> Store:
        """Raises BadSetting."""
        pool = urllib3.PoolManager(
            timeout=_SECONDS, retries=False, maxsize=AT_ONCE, ca_certs=file_path(env, "MINIO_CA")
        )
        client = Minio(
            env.text("MINIO_ENDPOINT", "127.0.0.1:9000"),
            access_key=env.text("MINIO_ACCESS_KEY"),
            secret_key=env.text("MINIO_SECRET_KEY"),
            secure=env.flag("MINIO_SECURE", default=False),
            region=env.text("MINIO_REGION", "us-east-1"),
            http_client=pool,
        )
        return cls(client=client, bucket=env.text("MINIO_BUCKET", "parley-audio"))

    def is_empty(self) -> bool:
        """Also where there is no bucket yet. Raises S3Error, HTTPError."""
        try:
            return next(self.client.list_objects(self.bucket, recursive=True), None) is None
        except S3Error as exc:
            if exc.code == "NoSuchBucket":
                return True
            raise

    def save(self, folder: Path) -> list[ObjectFile]:
        """Every object, in the order of their keys. Raises S3Error, HTTPError, OSError."""
        keys = sorted(
            str(found.object_name)
            for found in self.client.list_objects(self.bucket, recursive=True)
        )
        with ThreadPoolExecutor(AT_ONCE) as threads:
            saved = threads.map(lambda key: self._get(key, folder), keys)
            return [file for file in saved if file is not None]

    def _get(self, key: str, folder: Path) -> ObjectFile | None:
        """None for what was removed since the keys were listed."""
        path = inside(folder, f"objects/{key}")
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            answer = self.client.get_object(self.bucket, key)
        except S3Error as exc:
            if exc.code == "NoSuchKey":
                return None
            raise
        try:
            with path.open("wb") as file:
                for block in answer.stream(_BLOCK_BYTES):
                    file.write(block)
            headers = {name.lower(): value for name, value in answer.headers.items()}
        finally:
            answer.close()
            answer.release_conn()
        size, digest = digest_of(path)
        metadata = {n.removeprefix(_META): v for n, v in headers.items() if n.startswith(_META)}
        return ObjectFile(key, size, digest, headers.get("content-type", ""), metadata)

    def load(self, objects: list[ObjectFile], folder: Path) -> None:
        """Puts them where they were, in a bucket that is made where there is none.

        Raises S3Error, HTTPError, OSError.
        """
        if not self.client.bucket_exists(self.bucket):
            self.client.make_bucket(self.bucket)
        with ThreadPoolExecutor(AT_ONCE) as threads:
            list(threads.map(lambda file: self._put(file, folder), objects))

    def _put(self, file: ObjectFile, folder: Path) -> None:
        with inside(folder, file.path).open("rb") as body:
            self.client.put_object(
                self.bucket,
                file.key,
                body,
                file.bytes,
                content_type=file.content_type,
                metadata=dict(file.metadata),
            )
