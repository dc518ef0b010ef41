"""Tells every replica that a turn is to stop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared.contract import CHAT_CANCEL, encode

if TYPE_CHECKING:
    from shared.contract import CancelRequest
    from shared.nats.connection import Connection


@dataclass(frozen=True, slots=True)
class NatsCancels:
    """Implements Cancels; raises NatsError while offline."""

    connection: Connection

    async def send(self, request: CancelRequest) -> None:
        await self.connection.send(CHAT_CANCEL, encode(request))
