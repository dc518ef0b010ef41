"""Who is next: conversations take turns, so that a flood in one holds up no other."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

T = TypeVar("T")


def in_turns(items: Iterable[T], conversation: Callable[[T], str], count: int) -> list[T]:
    """At most `count` of them: the first of each conversation, then the second of each, ...

    The order within a conversation is the order in which they are given.
    """
    lines: dict[str, list[T]] = {}
    for item in items:
        lines.setdefault(conversation(item), []).append(item)
    chosen: list[T] = []
    for number in range(count):
        found = [line[number] for line in lines.values() if number < len(line)]
        chosen += found
        if not found or len(chosen) >= count:
            break
    return chosen[:count]
