"""What a run of the bench writes into a page."""

from __future__ import annotations

from typing import Any

import pytest

from bench import page, table

FOUND: dict[str, Any] = {
    "revisions": ["today"],
    "rounds": 5,
    "seconds": 300,
    "machine": {"cores": 2, "processor": "some", "python": "3.11", "load": 0.1},
    "samples": {"direct": {"first_sound_1": [500.0]}, "today": {"first_sound_1": [300.0]}},
}
FOUND["figures"] = {"today": table.figures(FOUND["samples"], "today")}


def test_only_what_stands_between_the_marks_is_replaced() -> None:
    before = f"before\n{page.begin('a')}\nold\n{page.end('a')}\nafter {page.begin('b')}\n"
    after = page.replaced(before, "a", "new")
    assert after == before.replace("\nold\n", "\n\nnew\n\n")
    assert page.replaced(after, "a", "new") == after


def test_the_table_says_what_was_measured_where() -> None:
    text = page.measured(FOUND)
    assert "| first sound, one conversation / direct | 0.60 | <= 0.65 | yes |" in text
    assert "5 rounds in 300 s. 2 cores (some), Python 3.11." in text


def test_other_work_on_the_machine_is_told() -> None:
    assert page.told({**FOUND["machine"], "load": 7.0}).endswith(
        "its load was 7.0 as the run began."
    )


def test_what_was_not_measured_says_why() -> None:
    assert "from six cores on: here are 2" in page.measured(FOUND)


def test_a_page_without_the_marks_is_left_alone() -> None:
    with pytest.raises(SystemExit, match="no part between"):
        page.replaced("nothing", "a", "new")
