"""The chat service's settings, read once."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from shared.prices import Prices
from shared.process.settings import Env, NatsSettings, ProcessSettings, Retention, prices_from_env

if TYPE_CHECKING:
    from collections.abc import Mapping

# Written to be heard: what is spoken has no headings, and short sentences sound first.
SYSTEM_PROMPT = (
    "You are a helpful assistant whose answers are spoken aloud. "
    "Answer in short, natural sentences, without markdown, lists or emoji."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    nats: NatsSettings
    process: ProcessSettings
    retention: Retention
    api_key: str = field(repr=False)
    base_url: str
    model: str
    fallback_model: str | None
    system_prompt: str
    context_tokens: int
    context_messages: int
    turns_per_minute: int
    asks_per_minute: int
    characters_per_day: int
    max_output_tokens: int
    max_turns: int
    max_queued: int
    max_request_bytes: int
    connect_timeout: float
    first_token_timeout: float
    token_timeout: float
    turn_timeout: float
    tries: int
    speech: bool
    prices: Prices

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Config:
        """Raises BadSetting, which names the variable."""
        env = Env(environ)
        return cls(
            nats=NatsSettings.from_env(env),
            process=ProcessSettings.from_env(env),
            retention=Retention.from_env(env),
            api_key=env.text("TOGETHER_API_KEY"),
            base_url=env.url("TOGETHER_BASE_URL", "https://api.together.ai/v1", ("http", "https")),
            model=env.text("CHAT_MODEL", "meta-llama/Llama-3.3-70B-Instruct-Turbo"),
            fallback_model=env.optional("CHAT_FALLBACK_MODEL"),
            system_prompt=env.long_text("CHAT_SYSTEM_PROMPT", SYSTEM_PROMPT),
            context_tokens=env.integer("CHAT_CONTEXT_TOKENS", 16_000, minimum=100),
            context_messages=env.integer("CHAT_CONTEXT_MESSAGES", 200, minimum=1),
            # A person needs ten; more than this is a loop that costs money.
            turns_per_minute=env.integer("CHAT_REQUESTS_PER_MINUTE", 120),
            # By those who need not be trusted, and by each replica (services/chat/allowance.py).
            asks_per_minute=env.integer("CHAT_ASKS_PER_MINUTE", 60),
            characters_per_day=env.integer("CHAT_CHARACTERS_PER_DAY", 1_000_000),
            max_output_tokens=env.integer("CHAT_MAX_OUTPUT_TOKENS", 4_096, minimum=1),
            max_turns=env.integer("CHAT_MAX_TURNS", 64, minimum=1),
            max_queued=env.integer("CHAT_MAX_QUEUED", 20),
            max_request_bytes=env.integer(
                "CHAT_MAX_REQUEST_BYTES", 262_144, minimum=1_024, maximum=262_144
            ),
            connect_timeout=env.seconds("CHAT_CONNECT_TIMEOUT", 5),
            first_token_timeout=env.seconds("CHAT_FIRST_TOKEN_TIMEOUT", 15),
            token_timeout=env.seconds("CHAT_TOKEN_TIMEOUT", 10),
            turn_timeout=env.seconds("CHAT_TURN_TIMEOUT", 90),
            tries=env.integer("CHAT_TRIES", 4, minimum=1, maximum=20),
            speech=env.flag("CHAT_SPEECH", default=True),
            prices=prices_from_env(env, "CHAT_PRICES_FILE"),
        )
