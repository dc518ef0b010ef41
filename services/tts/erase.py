"""Verb: the voices of a conversation are erased: requests, objects, events, records.

Those that are held were told to stop by then, in every replica (held_voices.py).
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final

from shared.errors import Unreadable
from shared.retry import wait_until

if TYPE_CHECKING:
    from services.tts.ports import Clock, Objects, Voices

# A worker that is frozen or dead loses its requests after a lease; who gets them then ends them.
STOP_SECONDS: Final = 7.0


async def erase(conversation_id: str, *, voices: Voices, objects: Objects, clock: Clock) -> int:
    """Returns how many objects there were.

    Raises:
        StorageUnavailable, NatsError: not all of it is gone; the same again is harmless.
    """
    stopped: set[str] = set()

    async def is_silent() -> bool:
        asked = await voices.requested(conversation_id)
        for turn_id in set(asked) - stopped:
            with contextlib.suppress(Unreadable):  # nobody can speak it
                await voices.stop(conversation_id, turn_id)
            stopped.add(turn_id)
        return not asked

    await wait_until(is_silent, STOP_SECONDS, clock=clock)
    await voices.drop_requests(conversation_id)
    count = await objects.erase(conversation_id)
    await voices.drop_events(conversation_id)
    await voices.drop_records(conversation_id)
    return count
