"""What of an exception a span says: its code, and never its words."""

from __future__ import annotations

import asyncio

import pytest

from services.tts.finish import GivenUp
from services.tts.record import Repeated
from shared.contract import AudioFailed
from shared.errors import (
    Cancelled,
    NatsError,
    ProviderAuth,
    StorageUnavailable,
    Superseded,
    Torn,
)
from shared.spans import outcome_of


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (ProviderAuth("the words of a user"), ("failed", "provider_auth")),
        (NatsError("no answer"), ("failed", "NatsError")),
        (Torn(), ("failed", "Torn")),
        (KeyError("the words of a user"), ("failed", "KeyError")),
        (Cancelled(), ("cancelled", "")),
        (Superseded(), ("superseded", "")),
        (Repeated(7), ("repeated", "")),
        (asyncio.CancelledError(), ("interrupted", "")),
        (GeneratorExit(), ("interrupted", "")),
    ],
)
def test_a_failure_is_named_by_its_code_and_a_stop_is_none(
    error: BaseException, outcome: tuple[str, str]
) -> None:
    assert outcome_of(error) == outcome


def test_who_gave_up_failed_for_the_reason_of_it() -> None:
    away = StorageUnavailable("away")
    error = GivenUp(away, AudioFailed("c", "t", 1, error=away.as_error()))
    error.__cause__ = away

    assert outcome_of(error) == ("failed", "storage_unavailable")
