"""A token opens the subjects of its conversations, by what it may, and its own inbox."""

from __future__ import annotations

import pytest

from services.access.permissions import permissions_of
from services.access.token import May, Token
from tests.unit.access.keys import claims

ALWAYS = "_INBOX_x.>"


def token(may: list[May], conversations: list[str] | None = None) -> Token:
    return Token(claims(may=may, conversations=conversations or ["c"]), "A", "_INBOX_x")


@pytest.mark.parametrize(
    ("may", "publish", "subscribe"),
    [
        (May.ASK, ["chat.ask.c"], []),
        (May.CANCEL, ["chat.cancel.c"], []),
        (May.HISTORY, ["chat.history.get.c"], []),
        (May.DELETE, ["chat.history.delete.c"], []),
        (May.LISTEN, ["chat.replay.c", "tts.link.c"], ["chat.delta.c", "tts.audio.c"]),
    ],
)
def test_each_right_opens_its_own_subjects(
    may: May, publish: list[str], subscribe: list[str]
) -> None:
    found = permissions_of(token([may]))

    assert found.publish == publish
    assert found.subscribe == [ALWAYS, *subscribe]


def test_all_rights_hold_in_every_conversation_that_is_named() -> None:
    found = permissions_of(token([*May], ["c", "d"]))

    assert len(found.publish) == 12
    assert {subject.rpartition(".")[2] for subject in found.publish} == {"c", "d"}
    assert "chat.delta.d" in found.subscribe


def test_what_is_said_twice_is_opened_once() -> None:
    found = permissions_of(token([May.ASK, May.ASK], ["c", "c"]))

    assert found.publish == ["chat.ask.c"]
