"""`.env.example` names every setting that the services read, and no other."""

from __future__ import annotations

from pathlib import Path

from services.access.config import Config as AccessConfig
from services.chat.config import Config as ChatConfig
from services.tts.config import Config as TtsConfig

EXAMPLE = Path(__file__).resolve().parents[2] / ".env.example"


class Asked(dict[str, str]):
    """An environment that remembers what it was asked for."""

    def __init__(self, values: dict[str, str]) -> None:
        super().__init__(values)
        self.names: set[str] = set()

    def get(self, key: str, default: str | None = None) -> str | None:  # type: ignore[override]
        self.names.add(key)
        return super().get(key, default)


def example() -> dict[str, str]:
    lines = [line.partition("=") for line in EXAMPLE.read_text().splitlines() if "=" in line]
    return {name: value for name, _, value in lines if not name.startswith("#")}


def test_every_setting_is_in_the_example_and_no_other() -> None:
    environ = Asked(example())
    AccessConfig.from_env(environ)
    ChatConfig.from_env(environ)
    TtsConfig.from_env(environ)
    files = {"ACCESS_KEYS_FILE", "CHAT_PRICES_FILE", "TTS_PRICES_FILE"}
    read = {name for name in environ.names if not name.endswith("_FILE")} | files
    assert set(example()) == read


def test_the_example_shows_the_defaults() -> None:
    required = {k: v for k, v in example().items() if v.startswith("your-") or "ACCESS" in k}
    required_of_access = {k: example()[k] for k in ("ACCESS_KEYS_FILE", "ACCESS_ISSUER_SEED")}
    assert AccessConfig.from_env(example()) == AccessConfig.from_env(required_of_access)
    assert ChatConfig.from_env(example()) == ChatConfig.from_env(required)
    assert TtsConfig.from_env(example()) == TtsConfig.from_env(required)
