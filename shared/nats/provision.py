"""The streams, buckets and consumers: made when missing, verified when there.

One that exists with other settings is never changed in silence: `python -m shared.provision` tells
what differs, `--apply` makes and changes it. With a setting that these services can live with they
start and say so, so that replicas of two versions stand side by side; any other stops the start.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
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
from shared.errors import ApiError, NatsError
from shared.nats.connection import Connection
from shared.process.settings import Retention

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

log = logging.getLogger(__name__)

INTAKE_GROUP: Final = "intake"
NO_LIMIT: Final = -1
ASK_SECONDS: Final = 2.0  # for what is only good to know
_NS: Final = 1_000_000_000
NOT_FOUND: Final = 404
# The server, the account, or no peer of the cluster has the room that a stream's limit reserves.
_NO_ROOM: Final = frozenset({10002, 10005, 10023, 10047})
# A limit below which the services would not work: a voice outlives its turn, and is taken up
# again, within an hour; the largest requests of a few conversations fit in these bytes.
_LEAST_AGE: Final = 3_600 * _NS
_LEAST_BYTES: Final = 64 * 1024 * 1024

COMMAND: Final = "python -m shared.provision --apply"


class Mismatch(Exception):
    """Something exists with other settings than these services need; `what` says which."""

    def __init__(self, label: str, lines: list[str]) -> None:
        self.what = f"{label} exists with other settings: {'; '.join(lines)}"
        super().__init__(f"{self.what} (`{COMMAND}` changes it)")


# Not needed to start: a stream of the version before keeps these dead letters under the subject
# without a conversation.
DEAD_OF_CONVERSATIONS: Final = (f"{CHAT_DEAD}.*", f"{TTS_DEAD}.*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Leases:
    """Seconds after which a worker that says nothing has lost its work to another one."""

    work: float = 6.0  # three heartbeats fit in
    intake: float = 3.0  # handing a request on takes milliseconds


LEASES: Final = Leases()


class Asset(Protocol):
    """A stream or a consumer, and how the JetStream API is asked about it: subject and body."""

    @property
    def config(self) -> Mapping[str, Any]: ...

    @property
    def label(self) -> str: ...

    @property
    def info(self) -> str: ...

    def create(self) -> tuple[str, object]: ...

    def update(self, found: Mapping[str, Any]) -> tuple[str, object]: ...

    def smaller(self) -> Asset | None:
        """The same with half the room for it; None where that would not do."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
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

    @property
    def max_bytes(self) -> int:
        """0 for no limit."""
        return max(int(self.config.get("max_bytes", 0)), 0)

    def smaller(self) -> Stream | None:
        half = self.max_bytes // 2
        if half < _LEAST_BYTES:  # nobody would start with it the next time
            return None
        return replace(self, config={**self.config, "max_bytes": half})


@dataclass(frozen=True, slots=True, eq=False)
class Consumer:
    """A durable consumer of a stream, by the configuration that JetStream is told."""

    stream: str
    config: Mapping[str, Any]

    @property
    def name(self) -> str:
        return str(self.config["durable_name"])

    @property
    def service(self) -> str:
        """Whose work it holds, in small letters, as the stream's name begins."""
        return self.stream.partition("_")[0].lower()

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

    def smaller(self) -> None:
        return None

    def _make(self, config: Mapping[str, Any], action: str) -> tuple[str, object]:
        subject = f"CONSUMER.CREATE.{self.stream}.{self.name}.{config['filter_subject']}"
        return subject, {"stream_name": self.stream, "config": config, "action": action}


def _stream(
    name: str, subjects: list[str], replicas: int, max_bytes: int, **more: object
) -> Stream:
    config = {
        "name": name,
        "subjects": subjects,
        "num_replicas": replicas,
        "storage": "file",
        "retention": "limits",
        "discard": "old",
        "max_age": 0,
        "max_bytes": max_bytes or NO_LIMIT,
    }
    return Stream(config | more)


def _bucket(name: str, replicas: int, max_bytes: int, max_age: float) -> Stream:
    """A key-value bucket, as every NATS client makes and reads it."""
    return _stream(
        f"KV_{name}",
        [f"$KV.{name}.>"],
        replicas,
        max_bytes,
        discard="new",
        max_msgs_per_subject=1,
        allow_direct=True,
        allow_rollup_hdrs=True,
        deny_delete=True,
        max_age=int(max_age * _NS),
    )


def streams(replicas: int, retention: Retention) -> list[Stream]:
    """Every stream of the contract, with the settings that the services rely on.

    A full one refuses what is new where that must not be lost: requests and documents.
    """
    advisory = "$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES"
    return [
        _stream(
            CHAT_REQUESTS_STREAM,
            [CHAT_REQUEST, f"{CHAT_REQUEST}.*"],
            replicas,
            retention.requests_bytes,
            discard="new",
            retention="workqueue",
            allow_direct=True,
        ),
        _stream(
            CHAT_DELTAS_STREAM,
            [f"{CHAT_DELTA}.*"],
            replicas,
            retention.deltas_bytes,
            max_age=int(retention.deltas * _NS),
            allow_direct=True,
            republish={"src": f"{CHAT_DELTA}.*", "dest": CHAT_DELTA},
        ),
        _stream(
            TTS_REQUESTS_STREAM,
            [f"{TTS_REQUEST}.*"],
            replicas,
            retention.requests_bytes,
            discard="new",
            retention="workqueue",
            allow_direct=True,
        ),
        _stream(
            TTS_AUDIO_STREAM,
            [f"{TTS_AUDIO}.*"],
            replicas,
            retention.audio_bytes,
            max_age=int(retention.audio * _NS),
            allow_direct=True,
            republish={"src": f"{TTS_AUDIO}.*", "dest": TTS_AUDIO},
        ),
        _stream(
            DEAD_LETTERS_STREAM,
            [
                CHAT_DEAD,
                TTS_DEAD,
                *DEAD_OF_CONVERSATIONS,
                f"{advisory}.{CHAT_REQUESTS_STREAM}.*",
                f"{advisory}.{TTS_REQUESTS_STREAM}.*",
            ],
            replicas,
            retention.dead_letters_bytes,
            max_age=int(retention.dead_letters * _NS),
        ),
        _bucket(
            CONVERSATIONS_BUCKET,
            replicas,
            retention.conversations_bytes,
            retention.conversations,
        ),
        _bucket(SPEECH_BUCKET, replicas, retention.speech_bytes, retention.speech),
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


@dataclass(frozen=True, slots=True)
class Difference:
    """A setting that is not as wanted."""

    name: str
    found: Any
    wanted: Any
    compatible: bool  # the services work with what is there

    def __str__(self) -> str:
        return f"{self.name} is {self.found!r}, must be {self.wanted!r}"


def differences(wanted: Mapping[str, Any], found: Mapping[str, Any]) -> list[Difference]:
    """Each setting that is not as wanted."""
    differ = []
    for name, value in wanted.items():
        # The server leaves out what is at its zero value.
        there = found.get(name, type(value)())
        if isinstance(value, dict):
            there = {key: there.get(key) for key in value} if there else there
        if there != value and not (name == "max_bytes" and _endless(there) and _endless(value)):
            differ.append(Difference(name, there, value, _compatible(name, value, there, found)))
    return differ


def _endless(limit: int) -> bool:
    return limit in {0, NO_LIMIT}


def _compatible(name: str, wanted: Any, there: Any, found: Mapping[str, Any]) -> bool:
    match name:
        # A larger limit and a longer age keep what was asked for, and more. A smaller or shorter
        # one keeps less, and is a warning all the same: a release that asks for more would
        # otherwise not start beside the one that made the stream, nor would that one start again
        # once a release that asks for less has been applied; and where the server has less room it
        # is we who made the stream smaller. Only a limit that is too small to work with stops the
        # start, unless it was asked for.
        case "max_age":
            return _endless(there) or bool(there >= min(wanted or _LEAST_AGE, _LEAST_AGE))
        case "max_bytes":
            asked = _LEAST_BYTES if _endless(wanted) else wanted
            return _endless(there) or bool(there >= min(asked, _LEAST_BYTES))
        case "subjects":
            return set(there) >= set(wanted) - set(DEAD_OF_CONVERSATIONS)
        case "discard":  # says what a full stream does; one without a limit is never full
            return _endless(found.get("max_bytes", 0))
        case "num_replicas" | "max_ack_pending" | "max_waiting" | "ack_wait":
            return bool(there >= wanted)
    return False


async def _found(connection: Connection, asset: Asset) -> Mapping[str, Any]:
    """The configuration of what is there, made where it was missing."""
    try:
        info = await connection.api(asset.info)
    except ApiError as exc:
        if exc.code != NOT_FOUND:
            raise
        info = await _create(connection, asset)
    config: Mapping[str, Any] = info["config"]
    return config


async def _create(connection: Connection, asset: Asset) -> dict[str, Any]:
    """A stream's limit is reserved: where there is less room, it is made with a smaller one."""
    while True:
        try:
            return await connection.api(*asset.create())
        except ApiError as exc:
            smaller = asset.smaller() if exc.err_code in _NO_ROOM else None
            if smaller is None:
                raise
            extra = {"what": asset.label, "reason": str(exc)}
            log.warning("provision.server_has_less", extra=extra)
            asset = smaller


async def ensure(connection: Connection, asset: Asset, *, strict: bool = False) -> None:
    """Makes what is missing; says what differs and does no harm, which `strict` refuses as well.

    Raises:
        Mismatch, NatsError.
    """
    differ = differences(asset.config, await _found(connection, asset))
    lines = [str(each) for each in differ]
    if lines and (strict or not all(each.compatible for each in differ)):
        raise Mismatch(asset.label, lines)
    if lines:
        log.warning("provision.differs", extra={"what": asset.label, "settings": lines})


# What a service has nothing to do with, and need not be allowed to look at.
_NOT_OF: Final[dict[str, frozenset[str]]] = {
    "chat": frozenset({f"KV_{SPEECH_BUCKET}"}),
    "tts": frozenset({CHAT_REQUESTS_STREAM, f"KV_{CONVERSATIONS_BUCKET}"}),
}
_CONSUMERS_OF: Final = {"chat": CHAT_REQUESTS_STREAM, "tts": TTS_REQUESTS_STREAM}


def assets_of(service: str, replicas: int, retention: Retention) -> list[Asset]:
    """What a service needs, in the order in which it can be made."""
    needed = [each for each in streams(replicas, retention) if each.name not in _NOT_OF[service]]
    stream = _CONSUMERS_OF[service]
    return [*_small_first(needed), *(each for each in consumers() if each.stream == stream)]


def _small_first(found: Iterable[Stream]) -> list[Stream]:
    """So that the largest, the audio, gets what room is left."""
    return sorted(found, key=lambda each: each.max_bytes or 2**63)


async def provision(connection: Connection, assets: Iterable[Asset]) -> None:
    """Makes what is missing, verifies what is there; raises Mismatch, NatsError."""
    for asset in assets:
        await ensure(connection, asset)


async def say_storage(connection: Connection, replicas: int, retention: Retention) -> None:
    """Logs what all limits add up to; warns when this account may have less."""
    limits = [stream.max_bytes for stream in streams(replicas, retention)]
    extra: dict[str, object] = {"bytes": sum(limits) * replicas, "unlimited": limits.count(0)}
    log.info("provision.storage", extra=extra)
    try:
        account = await connection.api("INFO", seconds=ASK_SECONDS)
    except NatsError as exc:
        log.info("provision.storage_unknown", extra={"reason": str(exc)})
        return
    room = int(account.get("limits", {}).get("max_storage", NO_LIMIT))
    if 0 <= room < sum(limits) * replicas:
        log.warning("provision.server_has_less", extra={**extra, "account_bytes": room})


def _assets(replicas: int, retention: Retention, leases: Leases) -> Iterator[Asset]:
    yield from _small_first(streams(replicas, retention))
    yield from consumers(leases)


async def verify(
    connection: Connection, replicas: int, retention: Retention, leases: Leases = LEASES
) -> None:
    """Makes what is missing of everything there is; raises Mismatch for whatever differs."""
    for asset in _assets(replicas, retention, leases):
        await ensure(connection, asset, strict=True)


async def apply(connection: Connection, replicas: int, retention: Retention) -> list[str]:
    """Makes what is missing and changes what differs; returns a line for each change."""
    done = []
    for asset in _assets(replicas, retention, LEASES):
        found = await _found(connection, asset)
        if differ := differences(asset.config, found):
            await connection.api(*asset.update(found))
            done.append(f"changed {Mismatch(asset.label, [str(each) for each in differ]).what}")
    return done
