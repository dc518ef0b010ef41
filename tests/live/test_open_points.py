"""What no document says about the speech WebSocket: each question is put, the answers are a table.

A test fails only where no answer could be had. Whatever the answer is, the services survive it
(tests/e2e/test_provider.py): the table is there to choose their limits by.
"""

from __future__ import annotations

import asyncio
import os
import time
from typing import TYPE_CHECKING, Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

from tests.live.raw_session import DELTA, DONE, FAILED, MODEL, WORDS, RawSession

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.live.raw_session import Frame, Heard

    Tell = Callable[[str, str], None]

pytestmark = pytest.mark.timeout(180)

IDLE_SECONDS = float(os.environ.get("LIVE_IDLE_SECONDS") or 330)
MAX_SOCKETS = int(os.environ.get("LIVE_SOCKETS") or 20)
MODELS: dict[str, dict[str, Any]] = {
    MODEL: {},
    "canopylabs/orpheus-3b-0.1-ft": {"voice": "tara"},
}
TWO = "Hello! How are you doing today?"
LONG = (
    "The sea is calm tonight, the tide is full, the moon lies fair upon the straits, and on the "
    "coast the light gleams and is gone."
)


def why(frame: Frame) -> str:
    error = frame.body.get("error")
    if isinstance(error, dict):
        return f"{frame.type} ({error.get('code')}: {str(error.get('message'))[:80]})"
    return f"{frame.type} ({str(error)[:80]})"


@pytest.mark.parametrize("model", MODELS)
async def test_dones_of_a_commit(model: str, tell: Tell) -> None:
    lines = []
    for segment in ("never", "sentence", "immediate"):
        try:
            async with RawSession(model=model, segment=segment, **MODELS[model]) as session:
                heard = await session.say(TWO, "c")
        except InvalidHandshake as exc:
            lines.append(f"{segment}: refused, {exc}")
            continue
        lines.append(
            f"{segment}: {len(heard.of(DONE))} done, {len(heard.items)} items, "
            f"{heard.seconds():.1f} s" + "".join(f", {why(c)}" for c in heard.complaints)
        )
    tell(f"1  dones of one commit of two sentences, {model}", "\n".join(lines))


async def test_an_empty_commit(tell: Tell) -> None:
    async with RawSession() as session:
        await session.send("input_text_buffer.commit", "c")
        first = await session.listen(first=3.0)
        then = await session.say("Yes.", "c")
    got = ", ".join(dict.fromkeys(f.type for f in first.frames)) or "nothing"
    goes_on = "speaks the next text" if then.audio() else "is silent from then on"
    tell("2  an empty commit", f"answered by: {got}; the context {goes_on}")
    assert first.frames or then.frames


async def test_whether_a_context_is_echoed(tell: Tell) -> None:
    async with RawSession(alignment="word") as session:
        heard = await session.say(TWO, "echo-1")
        await session.update("echo-2", voice="no-such-voice", speed=-1)
        await session.commit(TWO, "echo-2")
        heard.frames += (await session.listen()).frames
    lines = []
    for name, kind in (("delta", DELTA), ("done", DONE), ("timestamps", WORDS), ("failed", FAILED)):
        frames = heard.of(kind)
        named = sum(frame.context is not None for frame in frames)
        lines.append(f"{name}: {f'{named} of {len(frames)}' if frames else 'never came'}")
    if heard.of("binary"):
        lines.append("audio comes in binary frames")
    tell("3  context_id is echoed in", "\n".join(lines))
    assert heard.frames


async def test_what_clear_drops(tell: Tell) -> None:
    async with RawSession() as session:
        await session.commit(LONG, "kept")
        await session.commit(TWO, "kept")
        whole = await session.listen()
        await session.commit(LONG, "cleared")
        await session.commit(TWO, "cleared")
        await session.send("input_text_buffer.clear", "cleared")
        cleared = await session.listen()
    assert whole.seconds() > 1
    share = cleared.seconds() / whole.seconds()
    verdict = "keeps it" if share > 0.93 else "drops it" if share > 0.3 else "drops all"
    tell(
        "4  clear, of committed text that has not begun",
        f"{verdict} ({cleared.seconds():.1f} of {whole.seconds():.1f} s are heard)",
    )


async def test_what_timestamps_are_relative_to(tell: Tell) -> None:
    async with RawSession(alignment="word") as session:
        first = await session.say(LONG, "c")
        second = await session.say(TWO, "c")
    words = [f.body for f in second.of(WORDS) if f.body.get("start_seconds")]
    if not words:
        answer = "no timestamps came"
    else:
        start = words[0]["start_seconds"][0]
        whose = "the context" if start > first.seconds() / 2 else "the item"
        order = [f.type.rpartition(".")[2] for f in second.of(WORDS, DONE)]
        answer = f"{whose} (the second item begins at {start:.2f} s); order: {', '.join(order)}"
    tell("5  timestamps are relative to", answer)
    assert second.audio()


async def test_where_there_is_a_wav_header(tell: Tell) -> None:
    lines = []
    for asked in (None, "pcm", "wav"):
        async with RawSession(response_format=asked) as session:
            one, two = await session.say("Yes.", "c"), await session.say("No.", "c")
        heads = ["header" if h.audio()[:4] == b"RIFF" else "none" for h in (one, two)]
        odd = any(len(f.audio) % 2 for h in (one, two) for f in h.of(DELTA, "binary"))
        lines.append(
            f"{asked or 'not given'}: {', '.join(heads)}{'; deltas of half samples' * odd}"
        )
    tell("6  a WAV header, by response_format", "\n".join(lines))


@pytest.mark.timeout(IDLE_SECONDS + 60)
async def test_how_long_an_idle_socket_lives(tell: Tell) -> None:
    async def life(*, pings: bool) -> str:
        async with RawSession(pings=pings) as session:
            began = time.monotonic()
            try:
                async with asyncio.timeout(IDLE_SECONDS):
                    while True:
                        await session.socket.recv()
            except TimeoutError:
                return f"open after {IDLE_SECONDS:.0f} s"
            except ConnectionClosed:
                code, reason = session.socket.close_code, session.socket.close_reason
                return f"closed after {time.monotonic() - began:.0f} s with {code} {reason!r}"

    silent, pinged = await asyncio.gather(life(pings=False), life(pings=True))
    tell("7  an idle socket", f"without pings: {silent}\nwith pings: {pinged}")


async def test_a_socket_after_a_failure(tell: Tell) -> None:
    ways: dict[str, dict[str, Any]] = {
        "unknown voice": {"voice": "no-such-voice"},
        "bad speed": {"speed": -1},
    }
    lines = []
    for name, session_fields in ways.items():
        async with RawSession() as session:
            await session.update("bad", **session_fields)
            await session.commit(TWO, "bad")
            heard = await session.listen(first=5.0)
            try:
                good = await session.say("Yes.", "good")
                state = "speaks on" if good.audio() else "open, and silent"
            except ConnectionClosed:
                state = f"closed with {session.socket.close_code}"
        said = ", ".join(why(c) for c in heard.complaints) or f"no error, {heard.seconds():.1f} s"
        lines.append(f"{name}: {said}; another context {state}")
    tell("8  the socket after tts.failed", "\n".join(lines))


async def test_how_many_sockets_a_key_may_have(tell: Tell) -> None:
    sessions: list[RawSession] = []
    answer = f"{MAX_SOCKETS} and more"
    try:
        for _ in range(MAX_SOCKETS):
            session = RawSession()
            await session.__aenter__()
            sessions.append(session)
    except InvalidStatus as exc:
        answer = f"{len(sessions)}, then HTTP {exc.response.status_code}"
    except (OSError, TimeoutError, InvalidHandshake, ConnectionClosed) as exc:
        answer = f"{len(sessions)}, then {type(exc).__name__}"
    finally:
        await asyncio.gather(*(session.__aexit__(None, None, None) for session in sessions))
    tell("9  sockets of one key", answer)
    assert sessions


async def test_whether_contexts_are_spoken_in_parallel(tell: Tell) -> None:
    async with RawSession() as session:
        await session.commit(LONG, "one")
        await session.commit(LONG, "two")
        heard = await session.listen()
    one, two = ([f for f in heard.of(DELTA) if f.context == name] for name in ("one", "two"))
    if not one or not two:
        answer = "cannot be told: audio does not name its context"
    else:
        parallel = two[0].at < one[-1].at and one[0].at < two[-1].at
        answer = f"{'yes' if parallel else 'no, one after the other'}"
        speed = heard.seconds() / max(heard.frames[-1].at - heard.frames[0].at, 1e-3)
        answer += f" ({speed:.0f} s of audio in a second)"
    tell("10 contexts of one socket in parallel", answer)


@pytest.mark.parametrize(
    ("name", "change"), [("speed", {"speed": 2.0}), ("voice", {"voice": "am_adam"})]
)
async def test_whether_a_change_reaches_queued_text(
    name: str, change: dict[str, Any], tell: Tell
) -> None:
    async def queued(context: str, **session_fields: Any) -> Heard:
        await session.commit(LONG, context)
        await session.commit(TWO, context)
        if session_fields:
            await session.update(context, **session_fields)
        return await session.listen()

    async with RawSession() as session:
        before = await queued("before")
        again = await queued("again")
        changed = await queued("changed", **change)
        after = await session.say(TWO, "changed")
        plain = await session.say(TWO, "before")
    if before.audio() != again.audio() and abs(before.seconds() - again.seconds()) > 0.2:
        answer = "cannot be told: the same text is never the same audio"
    elif abs(changed.seconds() - before.seconds()) > 0.2:
        answer = f"yes ({before.seconds():.1f} s become {changed.seconds():.1f} s)"
    elif before.audio() == again.audio() != changed.audio():
        answer = "yes (other samples)"
    else:
        answer = "no"
    later = after.audio() != plain.audio()
    tell(f"11 a change of {name} reaches queued text", f"{answer}; later text: {later}")
    assert changed.audio()
