"""Settings are read once, from a mapping, and a wrong one is named in one line.

`<NAME>_FILE` reads a value from a file, which is how secrets are mounted.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from shared.prices import Prices

if TYPE_CHECKING:
    from collections.abc import Mapping


_MIN_RETENTION = 120.0  # seconds: repetitions are known by their id for so long
_MIB = 1024 * 1024
_MIN_BYTES = _MIB  # less holds hardly a request of the largest size
_NATS_SCHEMES = ("nats", "tls", "ws", "wss")


class BadSetting(Exception):
    """A setting is missing or wrong; its text names the variable and never shows a secret."""


@dataclass(frozen=True, slots=True)
class Env:
    """Typed look-ups in an environment; an empty value counts as absent."""

    environ: Mapping[str, str] = field(repr=False)

    def _raw(self, name: str) -> str | None:
        value, file = self.environ.get(name), self.environ.get(f"{name}_FILE")
        if value and file:
            raise BadSetting(f"{name}: set it or {name}_FILE, not both")
        if not file:
            return value or None
        try:
            return Path(file).read_text(encoding="utf-8").strip() or None
        except (OSError, UnicodeDecodeError) as exc:
            raise BadSetting(f"{name}_FILE: cannot be read: {type(exc).__name__}") from exc

    def text(self, name: str, default: str | None = None) -> str:
        value = self._raw(name)
        if value is None:
            value = default
        if value is None:
            raise BadSetting(f"{name}: missing, and it has no default")
        if any(c in value for c in "\r\n\0"):
            # Never the value itself: this is also how secrets are read.
            raise BadSetting(f"{name}: must be a single line")
        return value

    def optional(self, name: str) -> str | None:
        return self.text(name) if self._raw(name) is not None else None

    def parameter(self, name: str, default: str) -> str | None:
        """None where it is set to nothing: here, and only here, an empty value is one."""
        value = self.optional(name)
        is_set = name in self.environ or f"{name}_FILE" in self.environ
        return value if value is not None or is_set else default

    def long_text(self, name: str, default: str) -> str:
        """May span lines, as a prompt does."""
        return self._raw(name) or default

    def number(
        self, name: str, default: float, *, minimum: float = 0, maximum: float = 1e9
    ) -> float:
        raw = self._raw(name)
        try:
            value = default if raw is None else float(raw)
        except ValueError:
            raise BadSetting(f"{name}: {raw!r} is not a number") from None
        if not minimum <= value <= maximum:
            raise BadSetting(f"{name}: {value:g} is not between {minimum:g} and {maximum:g}")
        return value

    def integer(self, name: str, default: int, *, minimum: int = 0, maximum: int = 10**9) -> int:
        raw = self._raw(name)
        try:
            value = default if raw is None else int(raw)
        except ValueError:
            raise BadSetting(f"{name}: {raw!r} is not a whole number") from None
        if not minimum <= value <= maximum:
            raise BadSetting(f"{name}: {value} is not between {minimum} and {maximum}")
        return value

    def seconds(self, name: str, default: float, *, minimum: float = 0.05) -> float:
        return self.number(name, default, minimum=minimum, maximum=86_400)

    def flag(self, name: str, *, default: bool) -> bool:
        raw = self._raw(name)
        if raw is None:
            return default
        word = raw.lower()
        if word not in {"true", "false", "1", "0", "yes", "no", "on", "off"}:
            raise BadSetting(f"{name}: {raw!r} is neither true nor false")
        return word in {"true", "1", "yes", "on"}

    def choice(self, name: str, default: str, choices: tuple[str, ...]) -> str:
        value = self.text(name, default).lower()
        if value not in choices:
            raise BadSetting(f"{name}: {value!r} is not one of {', '.join(choices)}")
        return value

    def url(self, name: str, default: str, schemes: tuple[str, ...], *, login: bool = False) -> str:
        """One URL, without user and password in it unless `login`: URLs end up in logs."""
        value = self.text(name, default)
        try:
            parts = urlsplit(value)
            _ = parts.port
        except ValueError:
            raise BadSetting(f"{name}: is not a URL") from None
        if parts.scheme not in schemes or not parts.hostname:
            raise BadSetting(f"{name}: must begin with {' or '.join(s + '://' for s in schemes)}")
        if not login and (parts.username or parts.password or "api_key" in parts.query):
            raise BadSetting(f"{name}: must not hold a user, a password or a key")
        return value


def prices_from_env(env: Env, name: str) -> Prices:
    """From the file that the setting names, else the table that we know; raises BadSetting."""
    path = env.optional(name)
    if path is None:
        return Prices.default()
    try:
        return Prices.from_json(Path(path).read_bytes())
    except (OSError, ValueError) as exc:
        raise BadSetting(f"{name}: {type(exc).__name__}: {exc}") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class NatsSettings:
    """How to reach NATS; `servers` are tried in any order."""

    servers: tuple[str, ...] = field(repr=False)  # may hold a login
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    creds: str | None = None
    nkey_seed: str | None = field(default=None, repr=False)
    ca: str | None = None
    # Of a server that wants to see one: paths, both or neither.
    cert: str | None = None
    key: str | None = None
    replicas: int = 1

    @classmethod
    def from_env(cls, env: Env) -> NatsSettings:
        servers = tuple(s.strip() for s in env.text("NATS_URL", "nats://127.0.0.1:4222").split(","))
        for server in servers:
            Env({"NATS_URL": server}).url("NATS_URL", "", _NATS_SCHEMES, login=True)
        user, password = env.optional("NATS_USER"), env.optional("NATS_PASSWORD")
        if (user is None) != (password is None):
            raise BadSetting("NATS_USER and NATS_PASSWORD: set both or neither")
        cert, key = file_path(env, "NATS_CERT"), file_path(env, "NATS_KEY")
        if (cert is None) != (key is None):
            raise BadSetting("NATS_CERT and NATS_KEY: set both or neither")
        replicas = env.integer("STREAM_REPLICAS", 1, minimum=1, maximum=5)
        if replicas not in {1, 3, 5}:
            raise BadSetting(f"STREAM_REPLICAS: {replicas} is not one of 1, 3, 5")
        return cls(
            servers=servers,
            user=user,
            password=password,
            creds=file_path(env, "NATS_CREDS"),
            nkey_seed=env.optional("NATS_NKEY_SEED"),
            ca=file_path(env, "NATS_CA"),
            cert=cert,
            key=key,
            replicas=replicas,
        )


def file_path(env: Env, name: str) -> str | None:
    """The path of a file that is there, None where none is named; raises BadSetting."""
    path = env.optional(name)
    if path is not None and not Path(path).is_file():
        raise BadSetting(f"{name}: there is no such file")
    return path


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessSettings:
    """What every service needs beside its work."""

    http_host: str
    http_port: int
    log_level: str
    log_format: str
    shutdown_grace: float
    otlp_endpoint: str | None

    @classmethod
    def from_env(cls, env: Env) -> ProcessSettings:
        return cls(
            # Containers set 0.0.0.0; on a laptop nobody else needs to reach the probes.
            http_host=env.text("HTTP_HOST", "127.0.0.1"),
            http_port=env.integer("HTTP_PORT", 8080, minimum=0, maximum=65_535),
            log_level=env.choice("LOG_LEVEL", "info", ("debug", "info", "warning", "error")),
            log_format=env.choice("LOG_FORMAT", "json", ("json", "text")),
            shutdown_grace=env.seconds("SHUTDOWN_GRACE", 100.0, minimum=0),
            otlp_endpoint=env.optional("OTEL_EXPORTER_OTLP_ENDPOINT"),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """How long the past can be read back, in seconds, 0 for ever; and how many bytes a stream may
    keep of it, 0 for no limit."""

    deltas: float = 86_400
    audio: float = 86_400
    dead_letters: float = 14 * 86_400
    conversations: float = 0
    speech: float = 7 * 86_400

    requests_bytes: int = 512 * _MIB  # of each of the two work queues
    deltas_bytes: int = 1_024 * _MIB
    audio_bytes: int = 4_096 * _MIB
    dead_letters_bytes: int = 256 * _MIB
    conversations_bytes: int = 1_024 * _MIB
    speech_bytes: int = 256 * _MIB

    @classmethod
    def from_env(cls, env: Env) -> Retention:
        default = cls()

        def seconds(name: str, value: float) -> float:
            # JetStream counts nanoseconds in 63 bits.
            kept = env.number(f"RETENTION_{name}", value, maximum=9e9)
            if 0 < kept < _MIN_RETENTION:
                raise BadSetting(
                    f"RETENTION_{name}: {kept:g} is neither 0 nor at least {_MIN_RETENTION:g}"
                )
            return kept

        def size(name: str, value: int) -> int:
            kept = env.integer(f"RETENTION_{name}_BYTES", value, maximum=2**62)
            if 0 < kept < _MIN_BYTES:
                raise BadSetting(
                    f"RETENTION_{name}_BYTES: {kept} is neither 0 nor at least {_MIN_BYTES}"
                )
            return kept

        return cls(
            deltas=seconds("DELTAS", default.deltas),
            audio=seconds("AUDIO", default.audio),
            dead_letters=seconds("DEAD_LETTERS", default.dead_letters),
            conversations=seconds("CONVERSATIONS", default.conversations),
            speech=seconds("SPEECH", default.speech),
            requests_bytes=size("REQUESTS", default.requests_bytes),
            deltas_bytes=size("DELTAS", default.deltas_bytes),
            audio_bytes=size("AUDIO", default.audio_bytes),
            dead_letters_bytes=size("DEAD_LETTERS", default.dead_letters_bytes),
            conversations_bytes=size("CONVERSATIONS", default.conversations_bytes),
            speech_bytes=size("SPEECH", default.speech_bytes),
        )
