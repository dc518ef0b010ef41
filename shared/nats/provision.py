"""The streams, buckets and consumers: made when missing, verified when there.

One that exists with other settings stops the start, with both settings named; it is never changed
in silence: `python -m shared.provision` tells what differs, `--apply` makes and changes it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

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
from shared.errors import ApiError
from shared.nats.connection import Connection
from shared.process.settings import Retention

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

INTAKE_GROUP: Final = "intake"
NO_LIMIT: Final = -1
_NS: Final = 1_000_000_000
_NOT_FOUND: Final = 404


COMMAND: Final = "python -m shared.provision --apply"


class Mismatch(Exception):
    """Something exists with other settings than these services need; `what` says which."""

    def __init__(self, label: str, lines: list[str]) -> None:
        self.what = f"{label} exists with other settings: {'; '.join(lines)}"
        super().__init__(f"{self.what} (`{COMMAND}` changes it)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Leases:
    """Seconds after which a worker that says nothing has lost its work to another one."""

    work: float = 6.0  # three heartbeats fit in
    intake: float = 3.0  # handing a request on takes milliseconds


LEASES: Final = Leases()


class _Asset(Protocol):
    """A stream or a consumer, and how the JetStream API is asked about it: subject and body."""

    @property
    def config(self) -> Mapping[str, Any]: ...

    @property
    def label(self) -> str: ...

    @property
    def info(self) -> str: ...

    def create(self) -> tuple[str, object]: ...

    def update(self, found: Mapping[str, Any]) -> tuple[str, object]: ...


@dataclass(frozen=True, slots=True)
class Stream:
    """A stream, by the configuration that JetStream is told."""

    config: Mapping[str, Any]

    @property
    def name(self) -> str:
        return str(self.config["name"])

    @property
    def label(self) -> str:
        return f"stream {self.name}"

    @property
    def info(self) -> str:
        return f"STREAM.INFO.{self.name}"

    def create(self) -> tuple[str, object]:
        return f"STREAM.CREATE.{self.name}", self.config

    def update(self, found: Mapping[str, Any]) -> tuple[str, object]:
        return f"STREAM.UPDATE.{self.name}", {**found, **self.config}


@dataclass(frozen=True, slots=True)
class Consumer:
    """A durable consumer of a stream, by the configuration that JetStream is told."""

    stream: str
    config: Mapping[str, Any]

    @property
    def name(self) -> str:
        return str(self.config["durable_name"])

    @property
    def lease(self) -> float:
        """Seconds after which a message that nobody keeps is given to another worker."""
        return float(self.config["ack_wait"]) / _NS

    @property
    def group(self) -> str | None:
        """Of a pinned consumer: one client of the group at a time gets everything, in order."""
        groups = self.config.get("priority_groups")
        return str(groups[0]) if groups else None

    @property
    def label(self) -> str:
        return f"consumer {self.name} of {self.stream}"

    @property
    def info(self) -> str:
        return f"CONSUMER.INFO.{self.stream}.{self.name}"

    def create(self) -> tuple[str, object]:
        return self._make(self.config, "create")

    def update(self, found: Mapping[str, Any]) -> tuple[str, object]:
        return self._make({**found, **self.config}, "update")

    def _make(self, config: Mapping[str, Any], action: str) -> tuple[str, object]:
        subject = f"CONSUMER.CREATE.{self.stream}.{self.name}.{config['filter_subject']}"
        return subject, {"stream_name": self.stream, "config": config, "action": action}


def _stream(name: str, subjects: list[str], replicas: int, **more: object) -> Stream:
    config = {
        "name": name,
        "subjects": subjects,
        "num_replicas": replicas,
        "storage": "file",
        "retention": "limits",
        "discard": "old",
        "max_age": 0,
    }
    return Stream(config | more)


def _bucket(name: str, replicas: int, max_age: float) -> Stream:
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


def streams(replicas: int, retention: Retention) -> list[Stream]:
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


def _workers(stream: str, name: str, subject: str, lease: float, **more: object) -> Consumer:
    config = {
        "durable_name": name,
        "deliver_policy": "all",
        "ack_policy": "explicit",
        "ack_wait": int(lease * _NS),
        # Redelivery counts up with every nak; executions are counted in the documents.
        "max_deliver": NO_LIMIT,
        # Waiting requests are held un-acked; the server's default of 1,000 would stop all.
        "max_ack_pending": 20_000,
        "max_waiting": 512,
        "filter_subject": subject,
        "replay_policy": "instant",
    }
    return Consumer(stream, config | more)


def consumers(leases: Leases = LEASES) -> list[Consumer]:
    """Every durable consumer of the contract."""
    return [
        _workers(
            CHAT_REQUESTS_STREAM,
            CHAT_INTAKE,
            CHAT_REQUEST,
            leases.intake,
            # One replica at a time: the order of one sender is the order of its conversation.
            priority_policy="pinned_client",
            priority_groups=[INTAKE_GROUP],
            priority_timeout=int(leases.intake * _NS),
        ),
        _workers(CHAT_REQUESTS_STREAM, CHAT_WORKERS, f"{CHAT_REQUEST}.*", leases.work),
        _workers(TTS_REQUESTS_STREAM, TTS_WORKERS, f"{TTS_REQUEST}.*", leases.work),
    ]


def consumer(name: str, leases: Leases = LEASES) -> Consumer:
    """The consumer of that name."""
    return next(each for each in consumers(leases) if each.name == name)


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


async def _found(connection: Connection, asset: _Asset) -> Mapping[str, Any]:
    """The configuration of what is there, made where it was missing."""
    try:
        info = await connection.api(asset.info)
    except ApiError as exc:
        if exc.code != _NOT_FOUND:
            raise
        info = await connection.api(*asset.create())
    config: Mapping[str, Any] = info["config"]
    return config


async def ensure(connection: Connection, asset: _Asset) -> None:
    """Makes what is missing; raises Mismatch, NatsError."""
    lines = differences(asset.config, await _found(connection, asset))
    if lines:
        raise Mismatch(asset.label, lines)


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
    for stream in streams(replicas, retention):
        if stream.name not in _NOT_OF[service]:
            await ensure(connection, stream)
    for each in consumers():
        if each.stream == _CONSUMERS_OF[service]:
            await ensure(connection, each)


def _assets(replicas: int, retention: Retention, leases: Leases) -> Iterator[_Asset]:
    yield from streams(replicas, retention)
    yield from consumers(leases)


async def verify(
    connection: Connection, replicas: int, retention: Retention, leases: Leases = LEASES
) -> None:
    """The same for everything there is."""
    for asset in _assets(replicas, retention, leases):
        await ensure(connection, asset)


async def apply(connection: Connection, replicas: int, retention: Retention) -> list[str]:
    """Makes what is missing and changes what differs; returns a line for each change."""
    done = []
    for asset in _assets(replicas, retention, LEASES):
        found = await _found(connection, asset)
        if lines := differences(asset.config, found):
            await connection.api(*asset.update(found))
            done.append(f"changed {Mismatch(asset.label, lines).what}")
    return done
