"""Others' words are repeated without our key."""

from __future__ import annotations

from shared.redact import hiding


def test_a_secret_is_hidden_wherever_it_is_said() -> None:
    assert hiding("k1")("k1 is no good: Bearer k1.") == "*** is no good: Bearer ***."


def test_where_there_is_no_secret_nothing_is_hidden() -> None:
    assert hiding("")("as it was") == "as it was"
