"""Tells what differs from the streams, buckets and consumers that the services need."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from typing import TYPE_CHECKING, Final

import nats
import nats.errors

from shared.errors import NatsError
from shared.nats.connection import Connection, connect_options, login_options
from shared.nats.provision import Mismatch, apply, verify
from shared.process.settings import BadSetting, Env, NatsSettings, Retention

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nats.aio.client import Client

OK: Final = 0
FAILED: Final = 1
BAD_SETTING: Final = 2


async def main(arguments: list[str], environ: Mapping[str, str]) -> int:
    """One line for each change, or one that says why not; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m shared.provision", description=__doc__)
    parser.add_argument("--apply", action="store_true", help="make and change what differs")
    change = parser.parse_args(arguments).apply
    try:
        env = Env(environ)
        settings, retention = NatsSettings.from_env(env), Retention.from_env(env)
    except BadSetting as exc:
        return _said(exc, BAD_SETTING)
    try:
        client = await _connect(settings)
    except (OSError, nats.errors.Error) as exc:
        return _said(f"NATS_URL: cannot connect: {exc}", FAILED)
    try:
        lines = await _provision(Connection(client), settings.replicas, retention, change=change)
    except (Mismatch, NatsError) as exc:
        return _said(exc, FAILED)
    finally:
        await client.close()
    print("\n".join([*lines, "everything is as it should be"]))  # noqa: T201  a command line
    return OK


def _said(why: object, status: int) -> int:
    print(why, file=sys.stderr)  # noqa: T201  a command line
    return status


async def _connect(settings: NatsSettings) -> Client:
    # A command ends; without a limit nats-py would try for ever.
    once = {"allow_reconnect": False, "max_reconnect_attempts": 1, "error_cb": _ignore}
    options = connect_options(settings, "parley-operator")
    return await nats.connect(**options | once, **login_options(settings))


async def _ignore(_error: Exception) -> None:
    """One line says why it cannot connect; nats-py would log each try."""


async def _provision(
    connection: Connection, replicas: int, retention: Retention, *, change: bool
) -> list[str]:
    await connection.start()
    if change:
        return await apply(connection, replicas, retention)
    await verify(connection, replicas, retention)
    return []


if __name__ == "__main__":
    sys.exit(asyncio.run(main(sys.argv[1:], os.environ)))
