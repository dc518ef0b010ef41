"""Verb: a request waits until its conversation has come to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.contract import OnBusy
from shared.errors import Busy

if TYPE_CHECKING:
    from services.chat.ports import Line


class Repeated(Exception):
    """The same turn stands in the queue already: that request answers for both."""


async def wait_in_line(line: Line, turn_id: str, on_busy: OnBusy, max_waiting: int) -> None:
    """Returns when the request is the oldest one left of its conversation.

    Raises:
        Repeated: an older request is of the same turn.
        Busy: it does not want to wait, or too many wait already.
        Cancelled: it was stopped while it waited.
        Superseded: its message is gone from the queue, so somebody else has dealt with it.
    """
    while True:
        # One is under way, the others wait; this one must be among the first `max_waiting`.
        older = await line.older(max_waiting + 1)
        if not older:
            return
        if any(request.turn_id == turn_id for request in older):
            raise Repeated
        if on_busy is OnBusy.REJECT:
            raise Busy("a turn of this conversation is under way")
        if len(older) > max_waiting:
            raise Busy(f"{max_waiting} requests of this conversation wait already")
        if on_busy is OnBusy.INTERRUPT:
            # Each time: nobody may have heard it, and whoever has stopped does not mind.
            await line.interrupt(older[0].turn_id)
        await line.changed()
