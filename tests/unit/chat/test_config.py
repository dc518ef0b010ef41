"""The chat service's settings: defaults, wrong values by name, secrets never shown."""

from __future__ import annotations

import pytest

from services.chat.config import SYSTEM_PROMPT, Config
from shared.process.settings import BadSetting

KEY = "tgp_v1_secret"
LEAST = {"TOGETHER_API_KEY": KEY}


def reason(**environ: str) -> str:
    with pytest.raises(BadSetting) as caught:
        Config.from_env(LEAST | environ)
    return str(caught.value)


def test_only_the_key_is_required() -> None:
    with pytest.raises(BadSetting) as caught:
        Config.from_env({})

    assert str(caught.value) == "TOGETHER_API_KEY: missing, and it has no default"


def test_the_defaults_are_those_of_the_contract() -> None:
    config = Config.from_env(LEAST)

    assert config.base_url == "https://api.together.ai/v1"
    assert config.nats.servers == ("nats://127.0.0.1:4222",)
    assert (config.max_turns, config.max_queued) == (64, 20)
    assert (config.first_token_timeout, config.token_timeout, config.turn_timeout) == (15, 10, 90)
    assert config.process.http_port == 8080
    assert config.system_prompt == SYSTEM_PROMPT
    assert config.fallback_model is None
    assert config.speech


def test_the_key_is_never_shown() -> None:
    config = Config.from_env(LEAST | {"NATS_USER": "me", "NATS_PASSWORD": KEY})

    assert config.api_key == KEY
    assert KEY not in repr(config)


def test_every_setting_is_read() -> None:
    config = Config.from_env(
        LEAST
        | {
            "TOGETHER_BASE_URL": "http://127.0.0.1:9999/v1",
            "CHAT_MODEL": "a/model",
            "CHAT_FALLBACK_MODEL": "b/model",
            "CHAT_SYSTEM_PROMPT": "Be brief.\nBe kind.",
            "CHAT_CONTEXT_TOKENS": "1000",
            "CHAT_MAX_OUTPUT_TOKENS": "50",
            "CHAT_MAX_TURNS": "2",
            "CHAT_MAX_QUEUED": "0",
            "CHAT_MAX_REQUEST_BYTES": "2048",
            "CHAT_FIRST_TOKEN_TIMEOUT": "0.5",
            "CHAT_TOKEN_TIMEOUT": "0.25",
            "CHAT_TURN_TIMEOUT": "5",
            "CHAT_TRIES": "1",
            "CHAT_SPEECH": "off",
            "RETENTION_DELTAS": "600",
            "STREAM_REPLICAS": "3",
        }
    )

    assert config.base_url == "http://127.0.0.1:9999/v1"
    assert (config.model, config.fallback_model) == ("a/model", "b/model")
    assert config.system_prompt == "Be brief.\nBe kind."
    assert (config.context_tokens, config.max_output_tokens) == (1000, 50)
    assert (config.max_turns, config.max_queued, config.max_request_bytes) == (2, 0, 2048)
    assert (config.first_token_timeout, config.token_timeout, config.turn_timeout) == (0.5, 0.25, 5)
    assert config.tries == 1
    assert not config.speech
    assert config.retention.deltas == 600
    assert config.nats.replicas == 3


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("TOGETHER_API_KEY", "two\nlines"),
        ("TOGETHER_BASE_URL", "api.together.ai"),
        ("TOGETHER_BASE_URL", "wss://api.together.ai/v1"),
        ("TOGETHER_BASE_URL", f"https://api.together.ai/v1?api_key={KEY}"),
        ("CHAT_MODEL", "two\nlines"),
        ("CHAT_CONTEXT_TOKENS", "99"),
        ("CHAT_CONTEXT_TOKENS", "many"),
        ("CHAT_MAX_OUTPUT_TOKENS", "0"),
        ("CHAT_MAX_TURNS", "0"),
        ("CHAT_MAX_TURNS", "1.5"),
        ("CHAT_MAX_QUEUED", "-1"),
        ("CHAT_MAX_REQUEST_BYTES", "1"),
        ("CHAT_MAX_REQUEST_BYTES", "1000000"),
        ("CHAT_FIRST_TOKEN_TIMEOUT", "0"),
        ("CHAT_TOKEN_TIMEOUT", "-1"),
        ("CHAT_TURN_TIMEOUT", "nan"),
        ("CHAT_TRIES", "0"),
        ("CHAT_TRIES", "21"),
        ("CHAT_SPEECH", "perhaps"),
        ("NATS_URL", "http://127.0.0.1"),
        ("STREAM_REPLICAS", "2"),
        ("HTTP_PORT", "99999"),
        ("LOG_LEVEL", "loud"),
        ("RETENTION_AUDIO", "-1"),
    ],
)
def test_a_wrong_setting_is_named_in_one_line_without_a_secret(name: str, wrong: str) -> None:
    text = reason(**{name: wrong})

    assert text.startswith(f"{name}: ")
    assert "\n" not in text
    assert KEY not in text
