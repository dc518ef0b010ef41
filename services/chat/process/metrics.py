"""What the chat service alone counts."""

from __future__ import annotations

from prometheus_client import Counter, Histogram

from shared.process.metrics import SECONDS

FIRST_TOKEN = Histogram(
    "parley_first_token_seconds", "From the stream to the first text", buckets=SECONDS
)
TOKENS = Counter("parley_tokens", "Tokens as the provider counts them", ["kind"])
