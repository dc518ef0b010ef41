"""Verb: the voices of a conversation are erased: requests, objects, events, and the records last.

Those under way were told to stop by then (services/tts/stops.py, in every replica). Whoever asked
sees by the records that it is done.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from shared.retry import wait_until

if TYPE_CHECKING:
    from services.tts.ports import Clock, Objects, Voices

STOP_SECONDS: Final = 5.0  # for voices under way to end


async def erase(conversation_id: str, *, voices: Voices, objects: Objects, clock: Clock) -> int:
    """Returns how many objects there were.

    Raises:
        StorageUnavailable, NatsError: the records are left; it can be asked again.
    """

    async def silent() -> bool:
        return all(found.end is not None for found in await voices.records(conversation_id))

    await voices.drop_requests(conversation_id)
    await wait_until(silent, STOP_SECONDS, clock=clock)
    count = await objects.erase(conversation_id)
    await voices.drop_events(conversation_id)
    await voices.drop_records(conversation_id)
    return count
