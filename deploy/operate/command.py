"""What the commands of an operator have in common: a login, one line for each step, an exit status.

Settings are those of the services, with the operator's login: NATS_URL, NATS_USER=operator,
NATS_PASSWORD_FILE, and of the store MINIO_ENDPOINT, MINIO_ACCESS_KEY_FILE, MINIO_SECRET_KEY_FILE,
MINIO_BUCKET. No secret is an argument, and none is printed.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import nats
import nats.errors
from minio.error import MinioException
from urllib3.exceptions import HTTPError

from deploy.operate.manifest import BadBackup
from shared.errors import NatsError
from shared.nats.connection import Connection, connect_options, login_options
from shared.process.settings import BadSetting, Env, NatsSettings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

OK: Final = 0
FAILED: Final = 1
BAD_SETTING: Final = 2


class Refused(Exception):
    """It would do harm; its text says what to do."""


@contextlib.asynccontextmanager
async def connected(env: Env) -> AsyncIterator[Connection]:
    """As the operator. Raises BadSetting, NatsError."""
    settings = NatsSettings.from_env(env)
    once = {"allow_reconnect": False, "max_reconnect_attempts": 1, "error_cb": _ignore}
    options = connect_options(settings, "parley-operator") | once | login_options(settings)
    try:
        client = await nats.connect(**options)
    except (OSError, nats.errors.Error) as exc:
        raise NatsError(f"NATS_URL: cannot connect: {exc}") from exc
    try:
        connection = Connection(client)
        await connection.start()
        yield connection
    finally:
        await client.close()


async def _ignore(_error: Exception) -> None:
    """One line says why it cannot connect."""


def main(
    name: str,
    description: str | None,
    work: Callable[[Path, Env], Awaitable[None]],
    arguments: list[str],
) -> int:
    """Does it with the folder that is given; returns the exit status, and says why in one line."""
    parser = argparse.ArgumentParser(
        prog=f"python -m deploy.operate.{name}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args(arguments).folder
    try:
        asyncio.run(_awaited(work(folder, Env(os.environ))))
    except BadSetting as exc:
        return _said(exc, BAD_SETTING)
    except (Refused, BadBackup, NatsError, MinioException, HTTPError, OSError) as exc:
        return _said(exc, FAILED)
    return OK


async def _awaited(work: Awaitable[None]) -> None:
    await work


def _said(why: object, status: int) -> int:
    print(why, file=sys.stderr)
    return status
