"""What the access service counts."""

from __future__ import annotations

from prometheus_client import Counter

TOKENS_SHOWN = Counter("parley_tokens_shown", "Connections that asked to come in", ["verdict"])
