"""Noun: how much may be asked for, and answered, in one conversation: what a stolen token can cost.

Each replica counts what passes through itself, so that together they let through what is allowed
times their number. Counted in the conversation's document all would agree, but whoever may delete
the conversation would delete the count with it, and each ask would cost one more write.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final

from shared.errors import Busy

MINUTE: Final = 60.0  # seconds, as all times here
DAY: Final = 86_400.0
MAX_KNOWN: Final = 20_000  # conversations; the one that was quiet for longest is forgotten


@dataclass(slots=True)
class _Used:
    """`asked`: when, within the last minute; `characters` since `day_began`."""

    day_began: float
    # A list, though it is shortened at its front: an empty deque takes half a kilobyte, and most of
    # the conversations that are remembered were never asked in by those that are counted.
    asked: list[float] = field(default_factory=list)
    characters: int = 0


class Allowance:
    """`per_minute` asks and `per_day` characters of each conversation; 0 for any number."""

    def __init__(self, per_minute: int, per_day: int, *, max_known: int = MAX_KNOWN) -> None:
        self._per_minute, self._per_day, self._max_known = per_minute, per_day, max_known
        self._known: OrderedDict[str, _Used] = OrderedDict()

    def take(self, conversation_id: str, characters: int, now: float) -> None:
        """One more ask, of so many characters; raises Busy, and then counts nothing."""
        used = self._used(conversation_id, now)
        while used.asked and now - used.asked[0] >= MINUTE:
            del used.asked[0]
        if 0 < self._per_minute <= len(used.asked):
            raise Busy(f"{self._per_minute} asks of this conversation in a minute; ask again later")
        if 0 < self._per_day < used.characters + characters:
            raise Busy(f"this conversation has used the {self._per_day} characters of its day")
        used.characters += characters
        if self._per_minute:
            used.asked.append(now)

    def spend(self, conversation_id: str, characters: int, now: float) -> None:
        """So much was answered, whoever had asked for it."""
        self._used(conversation_id, now).characters += characters

    def _used(self, conversation_id: str, now: float) -> _Used:
        used = self._known.pop(conversation_id, None) or _Used(now)
        if now - used.day_began >= DAY:
            used.day_began, used.characters = now, 0
        self._known[conversation_id] = used
        if len(self._known) > self._max_known:
            self._known.popitem(last=False)
        return used
