"""Noun: a document as it is kept: read by whoever knows its version, or nobody's any more."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import msgspec

from shared.contract import UNREADABLE
from shared.errors import Unreadable, WrittenByNewer

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


class _Version(msgspec.Struct):
    version: int


_decode_version = msgspec.json.Decoder(_Version).decode


def decoded(data: bytes, decode: Callable[[bytes], T], *, what: str, version: int) -> T:
    """What `decode` makes of it; `version` is the newest that it knows.

    Raises:
        WrittenByNewer: a newer version wrote it in a form that this one does not know.
        Unreadable: it is of no version.
    """
    try:
        return decode(data)
    except UNREADABLE as exc:
        found = _version(data)
        if found > version:
            raise WrittenByNewer(what, found, version) from exc
        raise Unreadable(what) from exc


def _version(data: bytes) -> int:
    """0 where none can be found."""
    try:
        return _decode_version(data).version
    except UNREADABLE:
        return 0
