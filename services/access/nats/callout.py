"""The server's questions, taken and answered.

With plain nats-py: it is one subject, and its answers are no JSON; FastStream would add nothing.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

import nats.errors

from services.access.callout import Unanswerable, question
from shared.nats.connection import settle

if TYPE_CHECKING:
    from collections.abc import Callable

    from nats.aio.client import Client
    from nats.aio.msg import Msg
    from nats.aio.subscription import Subscription

    from services.access.callout import Question, Verdict

log = logging.getLogger(__name__)

SUBJECT: Final = "$SYS.REQ.USER.AUTH"
QUEUE: Final = "access"  # one replica answers


class NatsCallout:
    """`judge` gives a verdict, which is sent to the server that asked."""

    def __init__(self, client: Client, judge: Callable[[Question], Verdict]) -> None:
        self._client, self._judge = client, judge
        self._subscription: Subscription | None = None

    async def start(self) -> None:
        """Returns when the server knows that it may ask. Raises NatsError."""
        self._subscription = await self._client.subscribe(
            SUBJECT, queue=QUEUE, cb=self._on_question
        )
        await settle(self._client)

    async def stop(self) -> None:
        """Takes no more, and answers what has come."""
        if self._subscription is not None and not self._client.is_closed:
            await self._subscription.drain()  # type: ignore[no-untyped-call]  # it has no types

    async def _on_question(self, msg: Msg) -> None:
        try:
            asked = question(msg.data)
        except Unanswerable as exc:
            log.warning("access.not_a_question", extra={"reason": str(exc)})
            return
        try:
            await self._client.publish(msg.reply, self._judge(asked).answer)
        except nats.errors.Error as exc:  # the server refuses who waits, and the client tries again
            log.warning("access.not_answered", extra={"reason": str(exc)})
