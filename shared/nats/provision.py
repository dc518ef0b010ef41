"""The streams, buckets and consumers: made when missing, verified when there.

One that exists with other settings stops the start, with both settings named; it is never changed
in silence. `python -m shared.nats.provision` tells what differs, `--apply` makes and changes it.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import nats

from shared.contract import (
    CHAT_DEAD,
    CHAT_DELTA,
    CHAT_DELTAS_STREAM,
    CHAT_INTAKE,
    CHAT_REQUEST,
    CHAT_REQUESTS_STREAM,
    CHAT_WORKERS,
    CONVERSATIONS_BUCKET,
    DEAD_LETTERS_STREAM,
    SPEECH_BUCKET,
    TTS_AUDIO,
    TTS_AUDIO_STREAM,
    TTS_DEAD,
    TTS_REQUEST,
    TTS_REQUESTS_STREAM,
    TTS_WORKERS,
)
from shared.errors import ApiError, NatsError
from shared.nats.connection import Connection, connect_options, login_options
from shared.process.settings import BadSetting, Env, NatsSettings

if TYPE_CHECKING:
    from collections.abc import Mapping

# A worker that says nothing for so long has lost its work to another one. Three heartbeats fit in.
LEASE_SECONDS: Final = 6.0
# Handing a request on takes milliseconds; a replica that holds it for longer is gone.
INTAKE_LEASE_SECONDS: Final = 3.0
INTAKE_GROUP: Final = "intake"
NO_LIMIT: Final = -1
LEAST_RETENTION: Final = 120.0  # seconds: repetitions are known by their id for so long
_NS: Final = 1_000_000_000


class Mismatch(Exception):
    """Something exists with other settings than these services need."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """How long the past can be read back, in seconds; 0 for ever."""

    deltas: float = 86_400
    audio: float = 86_400
    dead_letters: float = 14 * 86_400
    conversations: float = 0
    speech: float = 7 * 86_400

    @classmethod
    def from_env(cls, env: Env) -> Retention:
        default = cls()

        def seconds(name: str, value: float) -> float:
            # JetStream counts nanoseconds in 63 bits.
            kept = env.number(f"RETENTION_{name}", value, maximum=9e9)
            if 0 < kept < LEAST_RETENTION:
                raise BadSetting(
                    f"RETENTION_{name}: {kept:g} is neither 0 nor at least {LEAST_RETENTION:g}"
                )
            return kept

        return cls(
            deltas=seconds("DELTAS", default.deltas),
            audio=seconds("AUDIO", default.audio),
            dead_letters=seconds("DEAD_LETTERS", default.dead_letters),
            conversations=seconds("CONVERSATIONS", default.conversations),
            speech=seconds("SPEECH", default.speech),
        )


def _stream(name: str, subjects: list[str], replicas: int, **more: object) -> dict[str, Any]:
    return {
        "name": name,
        "subjects": subjects,
        "num_replicas": replicas,
        "storage": "file",
        "retention": "limits",
        "discard": "old",
        "max_age": 0,
        **more,
    }


def _bucket(name: str, replicas: int, max_age: float) -> dict[str, Any]:
    """A key-value bucket, as every NATS client makes and reads it."""
    return _stream(
        f"KV_{name}",
        [f"$KV.{name}.>"],
        replicas,
        discard="new",
        max_msgs_per_subject=1,
        allow_direct=True,
        allow_rollup_hdrs=True,
        deny_delete=True,
        max_age=int(max_age * _NS),
    )


def streams(replicas: int, retention: Retention) -> list[dict[str, Any]]:
    """Every stream of the contract, with the settings that the services rely on."""
    advisory = "$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES"
    return [
        _stream(
            CHAT_REQUESTS_STREAM,
            [CHAT_REQUEST, f"{CHAT_REQUEST}.*"],
            replicas,
            retention="workqueue",
            allow_direct=True,
        ),
        _stream(
            CHAT_DELTAS_STREAM,
            [f"{CHAT_DELTA}.*"],
            replicas,
            max_age=int(retention.deltas * _NS),
            allow_direct=True,
            republish={"src": f"{CHAT_DELTA}.*", "dest": CHAT_DELTA},
        ),
        _stream(
            TTS_REQUESTS_STREAM,
            [f"{TTS_REQUEST}.*"],
            replicas,
            retention="workqueue",
            allow_direct=True,
        ),
        _stream(
            TTS_AUDIO_STREAM,
            [f"{TTS_AUDIO}.*"],
            replicas,
            max_age=int(retention.audio * _NS),
            allow_direct=True,
            republish={"src": f"{TTS_AUDIO}.*", "dest": TTS_AUDIO},
        ),
        _stream(
            DEAD_LETTERS_STREAM,
            [
                CHAT_DEAD,
                TTS_DEAD,
                f"{advisory}.{CHAT_REQUESTS_STREAM}.*",
                f"{advisory}.{TTS_REQUESTS_STREAM}.*",
            ],
            replicas,
            max_age=int(retention.dead_letters * _NS),
        ),
        _bucket(CONVERSATIONS_BUCKET, replicas, retention.conversations),
        _bucket(SPEECH_BUCKET, replicas, retention.speech),
    ]


def consumers(*, intake_lease: float = INTAKE_LEASE_SECONDS) -> list[tuple[str, dict[str, Any]]]:
    """The durable consumers: (stream, configuration)."""

    def workers(name: str, subject: str) -> dict[str, Any]:
        return {
            "durable_name": name,
            "deliver_policy": "all",
            "ack_policy": "explicit",
            "ack_wait": int(LEASE_SECONDS * _NS),
            # Redelivery counts up with every nak; executions are counted in the documents.
            "max_deliver": NO_LIMIT,
            # Waiting requests are held un-acked; the server's default of 1,000 would stop all.
            "max_ack_pending": 20_000,
            "max_waiting": 512,
            "filter_subject": subject,
            "replay_policy": "instant",
        }

    intake = workers(CHAT_INTAKE, CHAT_REQUEST) | {
        "ack_wait": int(intake_lease * _NS),
        # One replica at a time: the order of one sender is the order of its conversation.
        "priority_policy": "pinned_client",
        "priority_groups": [INTAKE_GROUP],
        "priority_timeout": int(intake_lease * _NS),
    }
    return [
        (CHAT_REQUESTS_STREAM, intake),
        (CHAT_REQUESTS_STREAM, workers(CHAT_WORKERS, f"{CHAT_REQUEST}.*")),
        (TTS_REQUESTS_STREAM, workers(TTS_WORKERS, f"{TTS_REQUEST}.*")),
    ]


def differences(wanted: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    """Each setting that is not as wanted, as "name is 1, must be 2"."""
    lines = []
    for name, value in wanted.items():
        # The server leaves out what is at its zero value.
        there = found.get(name, type(value)())
        if isinstance(value, dict):
            there = {key: there.get(key) for key in value} if there else there
        if there != value:
            lines.append(f"{name} is {there!r}, must be {value!r}")
    return lines


async def _ensure(
    connection: Connection,
    kind: str,
    info: str,
    create: str,
    body: object,
    config: Mapping[str, Any],
) -> None:
    try:
        found = (await connection.api(info))["config"]
    except ApiError as exc:
        if exc.code != 404:
            raise
        found = (await connection.api(create, body))["config"]
    lines = differences(config, found)
    if lines:
        raise Mismatch(
            f"{kind} exists with other settings: {'; '.join(lines)} "
            "(`python -m shared.nats.provision --apply` changes it)"
        )


async def ensure_stream(connection: Connection, config: Mapping[str, Any]) -> None:
    """Raises Mismatch, NatsError."""
    name = config["name"]
    await _ensure(
        connection, f"stream {name}", f"STREAM.INFO.{name}", f"STREAM.CREATE.{name}", config, config
    )


async def ensure_consumer(connection: Connection, stream: str, config: Mapping[str, Any]) -> None:
    """Raises Mismatch, NatsError."""
    name = config["durable_name"]
    await _ensure(
        connection,
        f"consumer {name} of {stream}",
        f"CONSUMER.INFO.{stream}.{name}",
        f"CONSUMER.CREATE.{stream}.{name}.{config['filter_subject']}",
        {"stream_name": stream, "config": config, "action": "create"},
        config,
    )


# What a service has nothing to do with, and need not be allowed to look at.
_NOT_OF: Final[dict[str, frozenset[str]]] = {
    "chat": frozenset({f"KV_{SPEECH_BUCKET}"}),
    "tts": frozenset({CHAT_REQUESTS_STREAM, f"KV_{CONVERSATIONS_BUCKET}"}),
}
_CONSUMERS_OF: Final = {"chat": CHAT_REQUESTS_STREAM, "tts": TTS_REQUESTS_STREAM}


async def provision(
    connection: Connection, replicas: int, retention: Retention, service: str
) -> None:
    """Makes what a service needs and is missing, verifies what is there.

    Raises Mismatch, NatsError.
    """
    for config in streams(replicas, retention):
        if config["name"] not in _NOT_OF[service]:
            await ensure_stream(connection, config)
    for stream, config in consumers():
        if stream == _CONSUMERS_OF[service]:
            await ensure_consumer(connection, stream, config)


async def verify(connection: Connection, replicas: int, retention: Retention) -> None:
    """The same for everything there is."""
    for service in _NOT_OF:
        await provision(connection, replicas, retention, service)


async def apply(connection: Connection, replicas: int, retention: Retention) -> list[str]:
    """Makes what is missing and changes what differs; returns a line for each change."""
    done = []
    for config in streams(replicas, retention):
        name = config["name"]
        try:
            await ensure_stream(connection, config)
        except Mismatch as exc:
            found = (await connection.api(f"STREAM.INFO.{name}"))["config"]
            await connection.api(f"STREAM.UPDATE.{name}", found | config)
            done.append(f"changed {exc}")
    for stream, config in consumers():
        try:
            await ensure_consumer(connection, stream, config)
        except Mismatch as exc:
            name = config["durable_name"]
            found = (await connection.api(f"CONSUMER.INFO.{stream}.{name}"))["config"]
            await connection.api(
                f"CONSUMER.CREATE.{stream}.{name}.{config['filter_subject']}",
                {"stream_name": stream, "config": found | config, "action": "update"},
            )
            done.append(f"changed {exc}")
    return [
        line.replace(" (`python -m shared.nats.provision --apply` changes it)", "") for line in done
    ]


async def _said_below(_error: Exception) -> None:
    """One line says why it cannot connect; nats-py would log each try."""


async def _main(arguments: list[str], environ: Mapping[str, str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m shared.nats.provision", description=__doc__)
    parser.add_argument("--apply", action="store_true", help="make and change what differs")
    change = parser.parse_args(arguments).apply
    try:
        env = Env(environ)
        settings, retention = NatsSettings.from_env(env), Retention.from_env(env)
    except BadSetting as exc:
        print(exc, file=sys.stderr)  # noqa: T201  a command line
        return 2
    try:
        client = await nats.connect(
            **connect_options(settings, "parley-provision")
            # A command ends; without a limit nats-py would try for ever.
            | {"allow_reconnect": False, "max_reconnect_attempts": 1, "error_cb": _said_below},
            **login_options(settings),
        )
    except (OSError, nats.errors.Error) as exc:
        print(f"NATS_URL: cannot connect: {exc}", file=sys.stderr)  # noqa: T201
        return 1
    connection = Connection(client)
    try:
        await connection.start()
        if change:
            lines = await apply(connection, settings.replicas, retention)
        else:
            await verify(connection, settings.replicas, retention)
            lines = []
    except (Mismatch, NatsError) as exc:
        print(exc, file=sys.stderr)  # noqa: T201
        return 1
    finally:
        await client.close()
    print("\n".join([*lines, "everything is as it should be"]))  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(_main(sys.argv[1:], os.environ)))
