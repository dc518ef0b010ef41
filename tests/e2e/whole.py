"""What a user may rely on for one finished turn."""

from __future__ import annotations

import contextlib
import io
import json
import urllib.request
import wave
from typing import TYPE_CHECKING, Any

from local.voices import spoken_texts

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.system import System, Turn

SENTENCES = (
    "Well, the weather is fine today, and it will stay like that. Dr. Smith paid 3.14 dollars "
    "at 5 p.m. for it! Is there anything else? No."
)
FAST: dict[str, Any] = {
    "chat": {"first_token_ms": 20, "tokens_per_second": 200},
    "speech": {"realtime_factor": 100, "first_audio_ms": 20},
}


def letters(text: str) -> str:
    """What is left when spacing and marks do not count."""
    return "".join(c for c in text.lower() if c.isalnum())


async def api(system: System, subject: str, body: object = None) -> dict[str, Any]:
    """What the JetStream API answers, as an operator asks it."""
    data = b"" if body is None else json.dumps(body).encode()
    answer = json.loads((await system.client.request(f"$JS.API.{subject}", data, timeout=10)).data)
    assert "error" not in answer, answer
    return dict(answer)


@contextlib.asynccontextmanager
async def limited(system: System, stream: str, max_bytes: int | None = None) -> AsyncIterator[None]:
    """The stream has room for so many bytes; for what it holds, and no more, without."""
    found = await api(system, f"STREAM.INFO.{stream}")
    room = found["state"]["bytes"] if max_bytes is None else max_bytes
    await api(system, f"STREAM.UPDATE.{stream}", {**found["config"], "max_bytes": room})
    try:
        yield
    finally:
        await api(system, f"STREAM.UPDATE.{stream}", found["config"])


def fetch(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return bytes(answer.read())


def assert_whole(turn: Turn, system: System) -> None:
    """The words without a gap; a voice that says all of them once; an object that holds it."""
    assert turn.end is not None
    assert turn.end["type"] == "done", turn.end
    last = max(d["attempt"] for d in turn.deltas)
    deltas = [d for d in turn.deltas if d["attempt"] == last]
    assert [d["seq"] for d in deltas] == list(range(len(deltas)))
    assert deltas[0]["type"] == "started"
    assert "".join(d["text"] for d in deltas if d["type"] == "text") == turn.end["text"]

    stored = turn.voice_end
    assert stored is not None
    assert stored["type"] == "stored", stored
    voice = turn.voice()
    said = "".join(spoken_texts(voice))
    announced = {
        p["index"]: p["text"]
        for p in (json.loads(d) for h, d in turn.audio if h["Parley-Type"] == "piece")
    }
    pieces = "".join(announced[i] for i in range(stored["pieces"]))
    assert letters(said) == letters(pieces) == letters(turn.end["text"])

    body = fetch(stored["url"])
    with wave.open(io.BytesIO(body)) as wav:
        assert (wav.getframerate(), wav.getnchannels(), wav.getsampwidth()) == (24000, 1, 2)
        assert wav.readframes(wav.getnframes()) == voice
    assert len(body) == stored["bytes"]
    committed = {c.text for c in system.emulator.record.commits}
    assert set(announced.values()) <= committed
