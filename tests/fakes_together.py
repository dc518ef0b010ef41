"""A connection that goes nowhere, and the frames that the provider sends."""

from __future__ import annotations

import base64
import collections
import json
from dataclasses import dataclass, field
from typing import Any

from services.tts.together.counts import Happened

SESSION = json.dumps({"type": "session.created", "session": {"id": "s"}})
SAMPLES = b"\1\2" * 100


class Counts(collections.Counter[Happened]):
    """Keeps what was counted."""

    def __call__(self, what: Happened) -> None:
        self[what] += 1


@dataclass
class FakeWire:
    """Implements Wire."""

    is_open: bool = True
    heard: float = 0.0
    sent: list[dict[str, Any]] = field(default_factory=list)
    closed: int = 0
    aborted: int = 0

    def send(self, *frames: bytes) -> None:
        self.sent += map(json.loads, frames)

    def close(self) -> None:
        self.closed += 1

    def abort(self) -> None:
        self.aborted += 1

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [frame for frame in self.sent if frame["type"] == kind]


def _frame(kind: str, context: str | None, **fields: Any) -> str:
    named = {} if context is None else {"context_id": context}
    return json.dumps({"type": kind, **named, **fields})


def audio(context: str | None = None, *, item: str | None = "i", data: bytes = SAMPLES) -> str:
    return _frame(
        "conversation.item.audio_output.delta",
        context,
        item_id=item,
        delta=base64.b64encode(data).decode(),
    )


def done(context: str | None = None, *, item: str | None = "i") -> str:
    return _frame("conversation.item.audio_output.done", context, item_id=item)


def words(context: str | None = None, *, item: str | None = "i", text: str = "word") -> str:
    return _frame(
        "conversation.item.word_timestamps",
        context,
        item_id=item,
        words=[text],
        start_seconds=[0.0],
        end_seconds=[0.2],
    )


def failed(context: str | None = None, *, code: str = "internal_error") -> str:
    return _frame("conversation.item.tts.failed", context, error={"message": "No.", "code": code})


def error(context: str | None = None, *, code: str = "internal_error") -> str:
    return _frame("error", context, error={"message": "No.", "code": code})


def garbled(context: str | None = None) -> str:
    return _frame("conversation.item.audio_output.delta", context, delta=5)


def cancelled(context: str | None = None) -> str:
    return _frame("context.cancelled", context)
