"""Signatures against minio-py's own, which stores accept."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

import pytest
from minio import Minio
from minio.credentials.credentials import Credentials
from minio.signer import sign_v4_s3

from services.tts.minio.signature import Signer

KEY, SECRET, REGION = "AKIA/some+key", "a secret", "eu-central-1"
DAYS = [datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), datetime(2026, 11, 30, tzinfo=UTC)]
SHA256 = "ab" * 32


@pytest.mark.parametrize("at", [*DAYS, DAYS[0]])
def test_a_put_is_signed_as_minio_py_signs_it(at: datetime) -> None:
    signer = Signer(KEY, SECRET, REGION)
    signer.put("elsewhere", "/", {}, SHA256, DAYS[1])  # the key of another day
    headers = {"content-type": "text/vtt; charset=utf-8", "x-amz-meta-voice": "af heart"}
    url = urlsplit("https://s3.example:9000/bucket/c1/t%201/2.vtt")
    theirs = sign_v4_s3(
        method="PUT",
        url=url,
        region=REGION,
        headers={
            **headers,
            "Host": url.netloc,
            "x-amz-content-sha256": SHA256,
            "x-amz-date": at.strftime("%Y%m%dT%H%M%SZ"),
        },
        credentials=Credentials(KEY, SECRET),
        content_sha256=SHA256,
        date=at,
    )
    assert signer.put(url.netloc, url.path, headers, SHA256, at) == {
        name.lower(): value for name, value in theirs.items()
    }


@pytest.mark.parametrize("at", DAYS)
def test_a_link_is_the_one_that_minio_py_makes(at: datetime) -> None:
    minio = Minio("voices.example:8443", KEY, SECRET, region=REGION)
    theirs = minio.get_presigned_url(
        "GET", "bucket", "c1/t1/2.wav", expires=timedelta(seconds=77), request_date=at
    )
    ours = Signer(KEY, SECRET, REGION).link(
        "https", "voices.example:8443", "/bucket/c1/t1/2.wav", 77, at
    )
    assert ours == theirs


def test_the_secret_is_in_no_repr() -> None:
    signer = Signer(KEY, SECRET, REGION)
    signer.put("host", "/", {}, SHA256, DAYS[0])
    assert SECRET not in repr(signer)
    assert "_day_key" not in repr(signer)
