from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from services.tts.config import Config
from shared.prices import Prices
from shared.process.settings import BadSetting

if TYPE_CHECKING:
    from pathlib import Path

SECRETS = {
    "TOGETHER_API_KEY": "together-secret",
    "MINIO_ACCESS_KEY": "minio-access",
    "MINIO_SECRET_KEY": "minio-secret",
}


def config(**more: str) -> Config:
    return Config.from_env(SECRETS | more)


def reason(**more: str) -> str:
    with pytest.raises(BadSetting) as caught:
        config(**more)
    return str(caught.value)


def test_three_secrets_are_enough() -> None:
    found = config()
    assert found.url == "wss://api.together.ai/v1/audio/speech/websocket"
    assert (found.max_turns, found.sockets) == (64, 4)
    assert (found.first_audio_timeout, found.audio_timeout) == (10, 5)
    assert found.fallback is None
    assert found.prices == Prices.default()
    assert (found.alignment, found.format, found.segment) == ("none", "wav", "never")
    assert (found.pronunciations, found.max_partial_length) == ({}, 250)
    minio = found.minio
    assert (minio.endpoint, minio.bucket, minio.region) == (
        "127.0.0.1:9000",
        "parley-audio",
        "us-east-1",
    )
    assert minio.secure is False


def test_everything_about_the_speech_has_a_default_of_its_own() -> None:
    found = config(
        TTS_LANGUAGE="de",
        TTS_SPEED="1.25",
        TTS_ALIGNMENT="word",
        TTS_PRONUNCIATIONS='{"SQL": "sequel"}',
        TTS_MAX_PARTIAL_LENGTH="90",
        TTS_FORMAT="opus",
        TTS_SEGMENT="sentence",
    )
    assert (found.language, found.speed, found.alignment) == ("de", 1.25, "word")
    assert found.pronunciations == {"SQL": "sequel"}
    assert (found.max_partial_length, found.format, found.segment) == (90, "opus", "sentence")


def test_a_parameter_that_is_set_to_nothing_is_not_sent() -> None:
    found = config()
    assert (found.segment, found.sample_rate) == ("never", "24000")
    found = config(TTS_SEGMENT="", TTS_SAMPLE_RATE_PARAMETER="")
    assert (found.segment, found.sample_rate) == (None, None)


@pytest.mark.parametrize("name", SECRETS)
def test_without_a_secret_it_does_not_start(name: str) -> None:
    with pytest.raises(BadSetting, match=name):
        Config.from_env({k: v for k, v in SECRETS.items() if k != name})


def test_no_secret_is_shown() -> None:
    shown = repr(config())
    assert not any(secret in shown for secret in SECRETS.values())


def test_secrets_are_read_from_files(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("from-a-file\n")
    environ = {k: v for k, v in SECRETS.items() if k != "MINIO_SECRET_KEY"}
    found = Config.from_env(environ | {"MINIO_SECRET_KEY_FILE": str(file)})
    assert found.minio.secret_key == "from-a-file"


def test_everything_can_be_set() -> None:
    found = config(
        TTS_URL="ws://127.0.0.1:1/speech",
        TTS_MODEL="some/model",
        TTS_VOICE="somebody",
        TTS_FALLBACK_MODEL="other/model",
        TTS_FALLBACK_VOICE="else",
        TTS_LANGUAGE="de",
        TTS_SPEED="1.25",
        TTS_CODE_BLOCKS="announce",
        MINIO_SECURE="true",
        MINIO_PUBLIC_ENDPOINT="voices.example",
    )
    assert found.fallback == ("other/model", "else")
    assert (found.language, found.speed, found.code_blocks) == ("de", 1.25, "announce")
    assert (found.minio.secure, found.minio.public_endpoint) == (True, "voices.example")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TTS_URL", "https://api.together.ai"),
        ("TTS_URL", "wss://user:password@host"),
        ("TTS_URL", "wss://host?api_key=secret"),
        ("TTS_SPEED", "5"),
        ("TTS_MAX_TURNS", "0"),
        ("TTS_SOCKETS", "many"),
        ("TTS_FIRST_AUDIO_TIMEOUT", "0"),
        ("TTS_TRIES", "0"),
        ("TTS_CODE_BLOCKS", "sing"),
        ("MINIO_ENDPOINT", "http://host:9000"),
        ("MINIO_ENDPOINT", "user@host"),
        ("MINIO_SECURE", "perhaps"),
        ("MINIO_PRESIGN_SECONDS", "0"),
        ("TTS_PRICES_FILE", "/nowhere/prices.json"),
        ("TTS_ALIGNMENT", "letter"),
        ("TTS_PRONUNCIATIONS", "SQL=sequel"),
        ("TTS_PRONUNCIATIONS", '{"SQL": 5}'),
        ("TTS_MAX_PARTIAL_LENGTH", "0"),
        ("TTS_FORMAT", "wma"),
        ("TTS_SEGMENT", "word"),
        ("TTS_SAMPLE_RATE_PARAMETER", "24 kHz"),
    ],
)
def test_a_wrong_value_is_named(name: str, value: str) -> None:
    assert name in reason(**{name: value})


def test_a_voice_to_fall_back_to_needs_its_model() -> None:
    assert "set TTS_FALLBACK_MODEL, too" in reason(TTS_FALLBACK_VOICE="x")


def test_a_model_without_a_voice_gets_its_own_and_never_another_model_s() -> None:
    found = config(TTS_MODEL="canopylabs/orpheus-3b-0.1-ft", TTS_FALLBACK_MODEL="cartesia/sonic-2")
    assert (found.voice, found.fallback) == ("tara", ("cartesia/sonic-2", ""))
    assert config().voice == "af_heart"
    assert config(TTS_VOICE="am_adam").voice == "am_adam"


def test_a_store_is_not_waited_for_longer_in_a_request_than_altogether() -> None:
    found = config(MINIO_GIVE_UP="7", MINIO_PATIENCE="20").minio
    assert (found.give_up, found.patience) == (7, 7)
    assert (config().minio.give_up, config().minio.patience) == (3600, 20)


@pytest.mark.parametrize("text", ["", "{", '{"m": "dear"}', '{"m": -1}'])
def test_a_list_of_prices_that_makes_no_sense_stops_the_start(tmp_path: Path, text: str) -> None:
    file = tmp_path / "prices.json"
    file.write_text(text)
    assert "TTS_PRICES_FILE" in reason(TTS_PRICES_FILE=str(file))
