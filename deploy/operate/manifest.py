"""What a backup holds: the names, sizes and checksums of its files, and how to put them back.

manifest.json           written last: a folder without it is no backup
streams/NAME.snapshot   a stream as the server gives it, with its settings and its consumers
objects/KEY             an object of the bucket, as it is
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Final

import msgspec

if TYPE_CHECKING:
    from pathlib import Path

FILE: Final = "manifest.json"
FORMAT: Final = 1
_BLOCK_BYTES: Final = 1 << 20


class BadBackup(Exception):
    """The folder holds no backup, or not all of it as it was made."""


class StreamFile(msgspec.Struct, frozen=True):
    """`config` and `state` are the server's own, and given back to it as they are."""

    name: str
    bytes: int
    sha256: str
    messages: int
    config: dict[str, Any]
    state: dict[str, Any]

    @property
    def path(self) -> str:
        return f"streams/{self.name}.snapshot"


class ObjectFile(msgspec.Struct, frozen=True):
    """`metadata` without the prefix that S3 has for it."""

    key: str
    bytes: int
    sha256: str
    content_type: str
    metadata: dict[str, str]

    @property
    def path(self) -> str:
        return f"objects/{self.key}"


class Manifest(msgspec.Struct, frozen=True):
    """`began` and `ended` are RFC 3339, UTC."""

    began: str
    ended: str
    server: str
    bucket: str
    streams: list[StreamFile]
    objects: list[ObjectFile]
    format: int = FORMAT

    def save(self, folder: Path) -> None:
        new = folder / f"{FILE}.new"
        new.write_bytes(msgspec.json.format(msgspec.json.encode(self)))
        new.rename(folder / FILE)

    @classmethod
    def load(cls, folder: Path) -> Manifest:
        """Every file is there as it was made. Raises BadBackup."""
        try:
            found = msgspec.json.decode((folder / FILE).read_bytes(), type=cls)
        except (OSError, msgspec.MsgspecError) as exc:
            raise BadBackup(f"{folder / FILE}: {exc}") from exc
        if found.format != FORMAT:
            raise BadBackup(f"{folder / FILE}: format {found.format}, known is {FORMAT}")
        files: list[StreamFile | ObjectFile] = [*found.streams, *found.objects]
        for file in files:
            _check(folder, file)
        return found


def inside(folder: Path, path: str) -> Path:
    """Where a file of the backup is; a key of an object is no way out of it. Raises BadBackup."""
    found = (folder / path).resolve()
    if not found.is_relative_to(folder.resolve()):
        raise BadBackup(f"{path!r} is not in the backup")
    return found


def _check(folder: Path, file: StreamFile | ObjectFile) -> None:
    try:
        size, digest = digest_of(inside(folder, file.path))
    except OSError as exc:
        raise BadBackup(f"{file.path}: {exc.strerror}") from exc
    if (size, digest) != (file.bytes, file.sha256):
        raise BadBackup(
            f"{file.path}: {size} bytes with checksum {digest[:12]}, not as it was made"
        )


def digest_of(path: Path) -> tuple[int, str]:
    """Size and SHA-256; raises OSError."""
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
            size += len(block)
    return size, digest.hexdigest()
