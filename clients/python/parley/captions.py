"""WebVTT of a voice, made of the events that tell it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from parley.contract import SAMPLE_RATE, AudioStarted, Piece, PieceDone

if TYPE_CHECKING:
    from parley.events import Event


@dataclass(slots=True)
class Captions:
    """Fed the events of one turn in order, holds a cue for each piece that is heard."""

    _texts: dict[int, str] = field(default_factory=dict[int, str])
    _samples: dict[int, int] = field(default_factory=dict[int, int])

    def add(self, event: Event) -> None:
        match event:
            case AudioStarted():
                for index in [index for index in self._texts if index not in self._samples]:
                    del self._texts[index]
            case Piece(index=index, text=text):
                for known in [known for known in self._texts if known >= index]:
                    self._texts.pop(known)
                    self._samples.pop(known, None)
                self._texts[index] = text
            case PieceDone(index=index, samples=samples):
                self._samples[index] = samples
            case _:
                return

    @property
    def webvtt(self) -> str:
        """All of them; times count from the beginning of the voice."""
        lines, at = ["WEBVTT", ""], 0
        for index in sorted(self._samples):
            start, at = at, at + self._samples[index]
            text = _escaped(" ".join(self._texts.get(index, "").split()))
            if at > start and text:
                lines += [str(index + 1), f"{_time(start)} --> {_time(at)}", text, ""]
        return "\n".join(lines)


def _time(samples: int) -> str:
    seconds, thousandths = divmod(round(samples * 1000 / SAMPLE_RATE), 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{seconds:02}.{thousandths:03}"


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
