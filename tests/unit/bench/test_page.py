"""What a run of the bench writes into a page."""

from __future__ import annotations

import pytest

from bench import page, table

FOUND = {
    "revisions": ["today"],
    "rounds": 5,
    "seconds": 300,
    "machine": {"cores": 2, "processor": "some", "python": "3.11", "load": 0.1},
    "samples": {"direct": {"first_sound_1": [500.0]}, "today": {"first_sound_1": [300.0]}},
}
FOUND["figures"] = {"today": table.figures(FOUND["samples"], "today")}  # type: ignore[arg-type]


def test_only_what_stands_between_the_marks_is_replaced() -> None:
    first = page.written(f"before\n{page.BEGIN}\nold\n{page.END}\nafter\n", FOUND)
    assert first.startswith(f"before\n{page.BEGIN}\n")
    assert first.endswith(f"{page.END}\nafter\n")
    assert "old" not in first
    assert "| first sound, one conversation / direct | 0.60 | <= 0.65 | yes |" in first
    assert page.written(first, FOUND) == first


def test_what_was_not_measured_says_why() -> None:
    assert "from six cores on: here are 2" in page.measured(FOUND)


def test_a_page_without_the_marks_is_left_alone() -> None:
    with pytest.raises(SystemExit, match="no part between"):
        page.written("nothing", FOUND)
