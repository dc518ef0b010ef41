"""What the speech worker alone counts."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

from shared.process.metrics import SECONDS

FIRST_SOUND = Histogram(
    "parley_first_sound_seconds", "From the stream to the first sound", buckets=SECONDS
)
PIECE_GAP = Histogram(
    "parley_piece_gap_seconds",
    "Silence before a piece, for who plays as it comes",
    buckets=(0, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1, 1.5, 2, 3, 5, 10, 30),
)
UPLOAD_SECONDS = Histogram("parley_upload_seconds", "A voice into the store", buckets=SECONDS)
CHARACTERS = Counter("parley_characters", "Characters given to the speech model")
AUDIO_SECONDS = Counter("parley_audio_seconds", "Seconds of voice published")
LATE_AUDIO = Counter("parley_late_audio", "Chunks that came when their turn was over")
SOCKETS = Gauge("parley_speech_sockets", "Open speech sockets")
SOCKETS_LIMIT = Gauge("parley_speech_sockets_limit", "Speech sockets that may be open at once")
WAITING_FOR_SLOT = Gauge("parley_speech_turns_waiting", "Turns that wait for a slot on a socket")
SOCKET_EVENTS = Counter("parley_speech_socket_events", "What happened on them", ["event"])
STORE_AWAY = Gauge("parley_store_away", "Whether the object store does not do what it is asked")
