"""Noun: what the holder of a token may publish and hear, subject by subject; nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from services.access.token import May
from shared.contract import (
    CHAT_ASK,
    CHAT_CANCEL,
    CHAT_DELTA,
    CHAT_REPLAY,
    HISTORY_DELETE,
    HISTORY_GET,
    TTS_AUDIO,
    TTS_LINK,
    of_conversation,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from services.access.token import Token

# Each with the conversation behind it.
_PUBLISH: Final[Mapping[May, Sequence[str]]] = {
    May.ASK: [CHAT_ASK],
    May.CANCEL: [CHAT_CANCEL],
    May.HISTORY: [HISTORY_GET],
    May.LISTEN: [CHAT_REPLAY, TTS_LINK],
    May.DELETE: [HISTORY_DELETE],
}
_SUBSCRIBE: Final[Mapping[May, Sequence[str]]] = {May.LISTEN: [CHAT_DELTA, TTS_AUDIO]}


@dataclass(frozen=True, slots=True)
class Permissions:
    """Subjects. Neither is ever empty: NATS takes an empty list for a right to everything."""

    publish: list[str]
    subscribe: list[str]


def permissions_of(token: Token) -> Permissions:
    return Permissions(
        publish=_subjects(token, _PUBLISH),
        subscribe=[f"{token.inbox}.>", *_subjects(token, _SUBSCRIBE)],
    )


def _subjects(token: Token, table: Mapping[May, Sequence[str]]) -> list[str]:
    found = [
        of_conversation(subject, conversation_id)
        for conversation_id in token.claims.conversations
        for may in token.claims.may
        for subject in table.get(may, ())
    ]
    return list(dict.fromkeys(found))  # once each, however often a claim repeats itself
