#!/usr/bin/env python3
"""Asks for one spoken turn on a stack of its own, and draws its trace: docs/trace.svg."""

from __future__ import annotations

import asyncio
import json
import secrets
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

DOCS = Path(__file__).resolve().parents[1]
ROOT = DOCS.parent
sys.path[:0] = [str(ROOT), str(ROOT / "clients" / "python")]

from docs.traces.picture import svg  # noqa: E402
from tests.collector import collector  # noqa: E402
from tests.system import System  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.collector import Spanned

REPLY: Final = (
    "A lighthouse keeps its light turning all night. Each one has a rhythm of its own, so"
    " that a sailor knows which coast it is. The oldest that still works is in Spain, and"
    " the Romans built it."
)
# At the pace of a provider that is near, and busy at the first call.
SCRIPT: Final[dict[str, Any]] = {
    "chat": {
        "first_token_ms": 120,
        "tokens_per_second": 90,
        "replies": [REPLY],
    },
    "speech": {"first_audio_ms": 90, "realtime_factor": 14},
}
BUSY: Final = {"kind": "chat.status", "status": 503, "times": 1}
TURN: Final = "lighthouse"
TITLE: Final = "One turn, asked for with a traceparent; the provider was busy at the first call"


async def spans() -> Sequence[Spanned]:
    """Of a turn that was not the first one: connections are open, and code is loaded."""
    with tempfile.TemporaryDirectory() as folder:
        async with collector() as traces, System(Path(folder), script=SCRIPT) as system:
            system.settings["OTEL_EXPORTER_OTLP_ENDPOINT"] = traces.endpoint
            system.settings["OTEL_BSP_SCHEDULE_DELAY"] = "100"
            await system.up()
            await system.ears.whole(await system.ask(content="Hello!"))
            system.emulator.change({"faults": [BUSY]})
            trace, parent = secrets.token_hex(16), secrets.token_hex(8)
            await system.client.jetstream().publish(
                "chat.request",
                json.dumps({"turn_id": TURN, "content": "What is a lighthouse?"}).encode(),
                headers={"traceparent": f"00-{trace}-{parent}-01"},
            )
            await system.ears.whole(TURN)
            return await traces.turn(trace, "chat.turn", "tts.turn")


def main() -> None:
    picture = DOCS / "trace.svg"
    picture.write_text(svg(asyncio.run(spans()), TITLE), encoding="utf-8")
    print(f"{picture.relative_to(ROOT)}: {picture.stat().st_size} bytes")  # noqa: T201  a command


if __name__ == "__main__":
    main()
