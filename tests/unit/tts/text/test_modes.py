from __future__ import annotations

from services.tts.text.markdown import MarkdownReader
from services.tts.text.modes import Mode


def test_every_mode_has_who_reads_on() -> None:
    assert set(MarkdownReader()._scanners) == set(Mode)
