"""The names of all metrics. They carry no ids: a series for each conversation would be too many."""

from __future__ import annotations

from typing import Final

from prometheus_client import Counter, Gauge, Histogram

_SECONDS: Final = (0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2, 3, 5, 10, 20, 40, 90)

TURNS = Counter("parley_turns", "Turns ended, by how", ["service", "outcome"])
TURNS_UNDER_WAY = Gauge("parley_turns_under_way", "Turns in hand now", ["service"])
WAITING = Gauge("parley_requests_waiting", "Requests held that wait for their turn")
FIRST_TOKEN = Histogram("parley_first_token_seconds", "Request to first text", buckets=_SECONDS)
TURN_SECONDS = Histogram("parley_turn_seconds", "Whole turns", ["service"], buckets=_SECONDS)
TOKENS = Counter("parley_tokens", "Tokens as the provider counts them", ["kind"])
CHARACTERS = Counter("parley_characters", "Characters given to the speech model")
AUDIO_SECONDS = Counter("parley_audio_seconds", "Seconds of voice published")
REFUSED = Counter("parley_refused", "Messages that were not understood", ["subject", "code"])
SOCKETS = Gauge("parley_speech_sockets", "Open speech sockets")
WAITING_FOR_SLOT = Gauge("parley_speech_turns_waiting", "Turns that wait for a slot on a socket")
SOCKET_EVENTS = Counter("parley_speech_socket_events", "What happened on them", ["event"])
TOKENS_SHOWN = Counter("parley_tokens_shown", "Connections that asked to come in", ["verdict"])
