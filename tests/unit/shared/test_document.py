"""A document is read by whoever knows its version, or by nobody."""

from __future__ import annotations

import msgspec
import pytest

from shared.document import decoded
from shared.errors import Unreadable, WrittenByNewer


class Sheet(msgspec.Struct):
    text: str
    version: int = 1


def read(data: bytes) -> Sheet:
    decode = msgspec.json.Decoder(Sheet).decode
    return decoded(data, decode, what="a sheet", version=1)


def test_a_document_is_read() -> None:
    assert read(b'{"text":"a","later":[]}') == Sheet("a")


@pytest.mark.parametrize(
    "data",
    [
        *(b"", b"x", b"[]", b"{}", b'{"text":5}', b'{"text":"\xff"}', b'{"version":"2"}'),
        b'{"version":' + b"[" * 50_000,
    ],
)
def test_what_is_no_document_is_nobody_s(data: bytes) -> None:
    with pytest.raises(Unreadable, match="a sheet cannot be read; erase the conversation"):
        read(data)


def test_what_a_newer_version_wrote_is_left_to_it() -> None:
    with pytest.raises(WrittenByNewer, match="a sheet has version 2, and this worker knows 1"):
        read(b'{"version":2,"text":{"a":"b"}}')
