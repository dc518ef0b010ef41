"""Points at which a test can have this process die or freeze, between any two steps of a turn.

`PARLEY_FAILPOINTS="chat.committed=kill,tts.chunk:3=stop"`: the third time that `tts.chunk` is
reached the process stops itself as SIGSTOP does. Nothing is armed unless a test says so.
"""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Final

from shared.process.settings import BadSetting

if TYPE_CHECKING:
    from collections.abc import Mapping

# In the order in which a turn reaches them.
POINTS: Final = (
    "intake.taken",
    "intake.forwarded",
    "chat.begun",
    "chat.started",
    "chat.voice_asked",
    "chat.text",
    "chat.drained",
    "chat.committed",
    "chat.ended",
    "tts.begun",
    "tts.started",
    "tts.piece",
    "tts.chunk",
    "tts.piece_done",
    "tts.drained",
    "tts.put",
    "tts.committed",
    "tts.ended",
)
_SIGNALS: Final = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP}

_armed: dict[str, tuple[int, signal.Signals]] = {}


def arm(environ: Mapping[str, str]) -> None:
    """Raises BadSetting for a point or an end that there is not."""
    for entry in filter(None, environ.get("PARLEY_FAILPOINTS", "").split(",")):
        point, _, end = entry.partition("=")
        name, _, count = point.partition(":")
        if name not in POINTS or end not in _SIGNALS or not (count or "1").isdigit():
            raise BadSetting(f"PARLEY_FAILPOINTS: {entry!r} is not point[:n]=kill or =stop")
        _armed[name] = (int(count or "1"), _SIGNALS[end])


def failpoint(name: str) -> None:
    """Costs one look into an empty dictionary."""
    if name not in _armed:
        return
    left, number = _armed[name]
    if left > 1:
        _armed[name] = (left - 1, number)
        return
    del _armed[name]
    os.kill(os.getpid(), number)
