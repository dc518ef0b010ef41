"""The speech worker's settings, read once."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import msgspec

from services.tts.default_voices import default_voice
from services.tts.job import CodeBlocks
from shared.contract import (
    MAX_PARTIAL_LENGTH,
    MIN_PARTIAL_LENGTH,
    Alignment,
    AudioFormat,
    Pronunciations,
)
from shared.explain import explain
from shared.prices import Prices
from shared.process.settings import (
    BadSetting,
    Env,
    NatsSettings,
    ProcessSettings,
    Retention,
    file_path,
    prices_from_env,
)

_pronunciations_decoder: msgspec.json.Decoder[dict[str, str]] = msgspec.json.Decoder(Pronunciations)


@dataclass(frozen=True, slots=True, kw_only=True)
class MinioSettings:
    """Any S3 will do. In seconds: `presign` is how long a link lives, `patience` how long one
    request is repeated, `give_up` how long the store may be away until a voice is lost by it.
    """

    endpoint: str
    public_endpoint: str | None
    access_key: str = field(repr=False)
    secret_key: str = field(repr=False)
    bucket: str
    secure: bool
    public_secure: bool
    region: str
    presign: float
    patience: float
    give_up: float
    ca: str | None = None  # a file: an authority that only this store's certificate is from


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    nats: NatsSettings
    process: ProcessSettings
    retention: Retention
    minio: MinioSettings
    api_key: str = field(repr=False)
    url: str
    model: str
    voice: str
    fallback: tuple[str, str] | None
    language: str | None
    speed: float
    alignment: Alignment
    pronunciations: Mapping[str, str]
    max_partial_length: int
    format: AudioFormat
    segment: str | None
    sample_rate: str | None
    max_turns: int
    sockets: int
    connect_timeout: float
    first_audio_timeout: float
    audio_timeout: float
    text_timeout: float
    turn_timeout: float
    place_timeout: float
    max_characters: int
    tries: int
    code_blocks: CodeBlocks
    prices: Prices

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Config:
        """Raises BadSetting, which names the variable."""
        env = Env(environ)
        model = env.text("TTS_MODEL", "hexgrad/Kokoro-82M")
        return cls(
            nats=NatsSettings.from_env(env),
            process=ProcessSettings.from_env(env),
            retention=Retention.from_env(env),
            minio=_minio(env),
            api_key=env.text("TOGETHER_API_KEY"),
            url=env.url(
                "TTS_URL", "wss://api.together.ai/v1/audio/speech/websocket", ("ws", "wss")
            ),
            model=model,
            voice=env.optional("TTS_VOICE") or default_voice(model),
            fallback=_fallback(env),
            language=env.optional("TTS_LANGUAGE"),
            speed=env.number("TTS_SPEED", 1.0, minimum=0.25, maximum=4),
            alignment=Alignment(env.choice("TTS_ALIGNMENT", "none", tuple(Alignment))),
            pronunciations=_pronunciations(env),
            max_partial_length=env.integer(
                "TTS_MAX_PARTIAL_LENGTH",
                250,
                minimum=MIN_PARTIAL_LENGTH,
                maximum=MAX_PARTIAL_LENGTH,
            ),
            format=AudioFormat(env.choice("TTS_FORMAT", "wav", tuple(AudioFormat))),
            segment=_segment(env),
            sample_rate=_sample_rate(env),
            max_turns=env.integer("TTS_MAX_TURNS", 64, minimum=1),
            sockets=env.integer("TTS_SOCKETS", 4, minimum=1, maximum=1000),
            connect_timeout=env.seconds("TTS_CONNECT_TIMEOUT", 5),
            first_audio_timeout=env.seconds("TTS_FIRST_AUDIO_TIMEOUT", 10),
            audio_timeout=env.seconds("TTS_AUDIO_TIMEOUT", 5),
            text_timeout=env.seconds("TTS_TEXT_TIMEOUT", 120),
            turn_timeout=env.seconds("TTS_TURN_TIMEOUT", 900),
            place_timeout=env.seconds("TTS_PLACE_TIMEOUT", 300),
            max_characters=env.integer("TTS_MAX_CHARACTERS", 50_000, minimum=1),
            tries=env.integer("TTS_TRIES", 4, minimum=1, maximum=20),
            code_blocks=_code_blocks(env),
            prices=prices_from_env(env, "TTS_PRICES_FILE"),
        )


def _fallback(env: Env) -> tuple[str, str] | None:
    """Model and voice."""
    model, voice = env.optional("TTS_FALLBACK_MODEL"), env.optional("TTS_FALLBACK_VOICE")
    if model is None:
        if voice is not None:
            raise BadSetting("TTS_FALLBACK_VOICE: set TTS_FALLBACK_MODEL, too")
        return None
    return model, voice or default_voice(model)


def _segment(env: Env) -> str | None:
    """`never` is ours: we cut the text, and a commit ends each piece. None: not sent."""
    value = env.parameter("TTS_SEGMENT", "never")
    if value not in {None, "never", "sentence", "immediate"}:
        raise BadSetting(f"TTS_SEGMENT: {value!r} is not one of never, sentence, immediate")
    return value


def _sample_rate(env: Env) -> str | None:
    """As the endpoint writes our 24 kHz; None: not sent."""
    value = env.parameter("TTS_SAMPLE_RATE_PARAMETER", "24000")
    if value is not None and not _PARAMETER.fullmatch(value):
        raise BadSetting(f"TTS_SAMPLE_RATE_PARAMETER: {value!r} is not a number or a word")
    return value


def _code_blocks(env: Env) -> CodeBlocks:
    chosen = env.choice("TTS_CODE_BLOCKS", "skip", ("skip", "announce"))
    return "announce" if chosen == "announce" else "skip"


_PARAMETER = re.compile(r"[A-Za-z0-9._-]{1,32}")
_HOST_AND_PORT = re.compile(r"[A-Za-z0-9._\[\]:-]+")
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_REGION = re.compile(r"[A-Za-z0-9_-]+")


def _matching(env: Env, name: str, default: str, form: re.Pattern[str], what: str) -> str:
    value = env.text(name, default)
    if not form.fullmatch(value):
        raise BadSetting(f"{name}: {value!r} is not {what}")
    return value


def _host_and_port(env: Env, name: str, default: str) -> str:
    value = _matching(env, name, default, _HOST_AND_PORT, "host:port, without a scheme or a path")
    try:
        port = urlsplit(f"//{value}").port
    except ValueError:
        port = 0
    if port == 0:
        raise BadSetting(f"{name}: {value!r} has no port between 1 and 65535")
    return value


def _minio(env: Env) -> MinioSettings:
    secure = env.flag("MINIO_SECURE", default=False)
    public = env.optional("MINIO_PUBLIC_ENDPOINT")
    give_up = env.seconds("MINIO_GIVE_UP", 3600)
    return MinioSettings(
        endpoint=_host_and_port(env, "MINIO_ENDPOINT", "127.0.0.1:9000"),
        public_endpoint=_host_and_port(env, "MINIO_PUBLIC_ENDPOINT", "") if public else None,
        public_secure=env.flag("MINIO_PUBLIC_SECURE", default=secure),
        access_key=env.text("MINIO_ACCESS_KEY"),
        secret_key=env.text("MINIO_SECRET_KEY"),
        bucket=_matching(env, "MINIO_BUCKET", "parley-audio", _BUCKET, "the name of a bucket"),
        secure=secure,
        region=_matching(env, "MINIO_REGION", "us-east-1", _REGION, "the name of a region"),
        presign=env.number("MINIO_PRESIGN_SECONDS", 3_600, minimum=1, maximum=604_800),
        patience=min(env.seconds("MINIO_PATIENCE", 20), give_up),
        give_up=give_up,
        ca=file_path(env, "MINIO_CA"),
    )


def _pronunciations(env: Env) -> Mapping[str, str]:
    """From JSON, as requests have them: written to spoken."""
    try:
        return _pronunciations_decoder.decode(env.long_text("TTS_PRONUNCIATIONS", "{}"))
    except msgspec.MsgspecError as exc:
        why = explain(exc, env.long_text("TTS_PRONUNCIATIONS", "{}").encode(), Pronunciations)
        raise BadSetting(f"TTS_PRONUNCIATIONS: {why}") from None
