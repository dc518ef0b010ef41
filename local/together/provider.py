"""What the two endpoints of one emulator have in common; a script changes it while they run."""

from __future__ import annotations

from dataclasses import dataclass, field

from local.together.faults import Faults
from local.together.record import Record
from local.together.script import Chat, Speech


@dataclass(slots=True)
class Provider:
    """How it behaves, what goes wrong, and what it was asked."""

    chat: Chat = field(default_factory=Chat)
    speech: Speech = field(default_factory=Speech)
    faults: Faults = field(default_factory=Faults)
    record: Record = field(default_factory=Record)
    connect_ms: float = 0.0
