"""Makes the bucket, the rule that removes old audio, and the user of the speech service.

    python setup.py            for MinIO and its forks; repeated, it changes key, policy and days
    python setup.py --policy   prints the policy, for any other S3
    python setup.py --retire NAME   removes an access key: what it signed, links too, opens nothing

The user may put, get and delete objects of its bucket. It may see the names in it, because who
erases a conversation has to find its objects, and nothing else: no other bucket, no administration.
Runs in the image of the speech service, which has the library.
"""

from __future__ import annotations

import json
import os
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

from minio import Minio
from minio.commonconfig import ENABLED, Filter
from minio.credentials.providers import StaticProvider
from minio.lifecycleconfig import Expiration, LifecycleConfig, Rule
from minio.minioadmin import MinioAdmin

POLICY = "parley-audio"
WAIT_SECONDS = 60


def policy(bucket: str) -> dict[str, object]:
    return {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Action": ["s3:PutObject", "s3:GetObject", "s3:DeleteObject"],
                "Resource": [f"arn:aws:s3:::{bucket}/*"],
            },
            {
                "Effect": "Allow",
                "Action": ["s3:ListBucket"],
                "Resource": [f"arn:aws:s3:::{bucket}"],
            },
        ],
    }


def setting(name: str, default: str | None = None) -> str:
    """As the services read theirs: the variable, or the file that `<NAME>_FILE` names."""
    file = os.environ.get(f"{name}_FILE")
    value = Path(file).read_text(encoding="utf-8").strip() if file else os.environ.get(name)
    value = value or default
    if value is None:
        sys.exit(f"{name}: missing, and it has no default")
    return value


def wait_for(url: str) -> None:
    until = time.monotonic() + WAIT_SECONDS
    while True:
        try:
            with urllib.request.urlopen(url, timeout=2):  # noqa: S310  http or https
                return
        except (OSError, urllib.error.URLError) as exc:
            if time.monotonic() > until:
                sys.exit(f"{url}: {exc}")
            time.sleep(0.5)


def main() -> None:
    bucket = setting("MINIO_BUCKET", "parley-audio")
    if sys.argv[1:] == ["--policy"]:
        json.dump(policy(bucket), sys.stdout, indent=2)
        return
    endpoint = setting("MINIO_ENDPOINT")
    secure = setting("MINIO_SECURE", "false").lower() == "true"
    region = setting("MINIO_REGION", "us-east-1")
    user, password = setting("MINIO_ROOT_USER"), setting("MINIO_ROOT_PASSWORD")
    days = int(setting("AUDIO_DAYS", "30"))

    wait_for(f"http{'s' if secure else ''}://{endpoint}/minio/health/live")
    admin = MinioAdmin(
        endpoint=endpoint,
        credentials=StaticProvider(user, password),
        region=region,
        secure=secure,
    )
    if sys.argv[1:2] == ["--retire"] and len(sys.argv) == 3:
        admin.user_remove(sys.argv[2])
        print(f"user {sys.argv[2]} is removed")
        return
    store = Minio(endpoint, access_key=user, secret_key=password, secure=secure, region=region)
    if not store.bucket_exists(bucket):
        store.make_bucket(bucket)
    if days:
        rule = Rule(
            ENABLED,
            rule_id="old-audio",
            rule_filter=Filter(prefix=""),
            expiration=Expiration(days=days),
        )
        store.set_bucket_lifecycle(bucket, LifecycleConfig([rule]))
    else:
        store.delete_bucket_lifecycle(bucket)
    access_key = setting("MINIO_ACCESS_KEY")
    admin.policy_add(POLICY, policy=policy(bucket))
    admin.user_add(access_key, setting("MINIO_SECRET_KEY"))
    admin.policy_set(POLICY, user=access_key)
    print(f"bucket {bucket}, user {access_key}, audio kept for {days or 'all'} days")


if __name__ == "__main__":
    main()
