"""What a user could take instead, in a virtual environment that the bench makes for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bench.contenders import Program
from bench.environment import installed
from local.process import ROOT

if TYPE_CHECKING:
    from collections.abc import Mapping

_PIPECAT: Final = "pipecat-ai[together]>=1.14,<2"


def pipecat(environ: Mapping[str, str]) -> Program:
    urls = (environ["TOGETHER_BASE_URL"], environ["TTS_URL"])
    program = ROOT / "bench" / "pipecat_program.py"
    return Program("Pipecat", [str(installed("rival", _PIPECAT)), str(program), *urls])
