"""A message that cannot be done: its turn is ended, it is kept, no other is hurt."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from shared.errors import Failure, InvalidRequest, NatsError
from shared.refuse import Message, Refused, refuse

if TYPE_CHECKING:
    from collections.abc import Mapping

ERROR = InvalidRequest("that was wrong")


@dataclass
class Letter:
    """A Message that keeps what became of it."""

    data: bytes = b"{"
    subject: str = "chat.request.c1"
    headers: Mapping[str, str] = field(default_factory=dict)
    sequence: int = 7
    deliveries: int = 1
    unique: str = "7.1"
    taken_at: datetime = datetime(2026, 1, 2, tzinfo=UTC)
    acked: bool = False

    async def ack(self) -> None:
        self.acked = True

    async def nak(self, delay: float = 0.0) -> None:
        raise AssertionError(delay)


class Office:
    """Turns and DeadLetters: keeps what is done, in order; `away` are steps that fail."""

    def __init__(self, *known: tuple[str, str], away: str = "") -> None:
        self.done: list[tuple[object, ...]] = []
        self._known, self._away = known, away

    async def knows(self, conversation_id: str, turn_id: str) -> bool:
        self._step("knows")
        return (conversation_id, turn_id) in self._known

    async def fail(
        self, message: Message, conversation_id: str, turn_id: str, error: Failure
    ) -> None:
        self._step("fail")
        self.done.append(("failed", message.unique, conversation_id, turn_id, error))

    async def add(self, message: Message, error: Failure) -> None:
        self._step("add")
        self.done.append(("dead letter", message.data, error))

    def count(self, error: Failure) -> None:
        self.done.append(("counted", error))

    def _step(self, name: str) -> None:
        if name == self._away:
            raise NatsError("away")


async def refused(
    office: Office, conversation_id: str | None, letter: Letter | None = None
) -> None:
    await refuse(
        letter or Letter(),
        Refused(ERROR, conversation_id, "t1"),
        turns=office,
        dead_letters=office,
        count=office.count,
    )


async def test_who_follows_the_turn_is_told_before_the_message_is_put_away() -> None:
    office = Office()
    await refused(office, "c1")

    assert office.done == [
        ("failed", "7.1", "c1", "t1", ERROR),
        ("dead letter", b"{", ERROR),
        ("counted", ERROR),
    ]


async def test_where_no_conversation_is_known_there_is_nobody_to_tell() -> None:
    office = Office()
    await refused(office, None)

    assert office.done == [("dead letter", b"{", ERROR), ("counted", ERROR)]


async def test_a_bad_copy_of_a_good_request_does_not_end_its_turn() -> None:
    office = Office(("c1", "t1"))
    await refused(office, "c1")

    assert office.done == [("dead letter", b"{", ERROR), ("counted", ERROR)]


async def test_another_turn_of_the_conversation_that_is_known_does_not_matter() -> None:
    office = Office(("c1", "t0"), ("c2", "t1"))
    await refused(office, "c1")

    assert ("failed", "7.1", "c1", "t1", ERROR) in office.done


@pytest.mark.parametrize("away", ["knows", "fail", "add"])
async def test_while_nats_is_away_it_fails_and_the_message_is_not_acked(away: str) -> None:
    letter = Letter()
    with pytest.raises(NatsError):
        await refused(Office(away=away), "c1", letter)

    assert not letter.acked


@pytest.mark.parametrize("away", ["knows", "fail"])
async def test_nothing_is_a_dead_letter_whose_turn_stays_open(away: str) -> None:
    office = Office(away=away)
    with pytest.raises(NatsError):
        await refused(office, "c1")

    assert "dead letter" not in [each[0] for each in office.done]


async def test_the_caller_acks() -> None:
    letter = Letter()
    await refused(Office(), "c1", letter)

    assert not letter.acked
