"""Log lines, metric names and trace context: one place for all names.

A log line is a fixed name plus fields; never the text of a user, never a key. Metrics carry no ids.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import time
from typing import TYPE_CHECKING, Any, Final

from prometheus_client import Counter, Gauge, Histogram

from shared.contract import TRACEPARENT

if TYPE_CHECKING:
    from collections.abc import Mapping

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
SOCKET_EVENTS = Counter("parley_speech_socket_events", "What happened on them", ["event"])

_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    return {k: v for k, v in vars(record).items() if k not in _STANDARD and v is not None}


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
            + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
            **_fields(record),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str, ensure_ascii=False)


class _Text(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        fields = " ".join(f"{k}={v}" for k, v in _fields(record).items()).replace("\n", "\\n")
        clock = time.strftime("%H:%M:%S", time.gmtime(record.created))
        line = f"{clock} {record.levelname.lower():7} {record.getMessage()} {fields}".rstrip()
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line


def configure_logging(level: str, form: str) -> None:
    """Lines on standard error, JSON or text."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json() if form == "json" else _Text())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for noisy in ("httpx", "httpcore", "websockets", "urllib3", "asyncio", "uvicorn", "together"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


# version-traceid-spanid-flags, as the W3C has it
_TRACEPARENT: Final = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")


def carried(headers: Mapping[str, str]) -> dict[str, str]:
    """The trace context of a message, to be put on what follows from it."""
    value = headers.get(TRACEPARENT, "")
    return {TRACEPARENT: value} if _TRACEPARENT.fullmatch(value) else {}
