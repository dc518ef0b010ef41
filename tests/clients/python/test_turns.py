"""Turns of the running system, as somebody has them who uses the client."""

from __future__ import annotations

import asyncio
import io
import uuid
import wave
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import parley as p
import pytest
from parley import Parley, follow

from local.voices import spoken_texts
from tests.e2e.whole import SENTENCES, fetch, letters

if TYPE_CHECKING:
    from pathlib import Path

    from tests.system import System

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(120)]

SLOW: dict[str, Any] = {
    "chat": {"first_token_ms": 5, "tokens_per_second": 30, "replies": [SENTENCES]},
    "speech": {"realtime_factor": 10, "first_audio_ms": 5},
}


def assert_whole(events: list[p.Event], *, voice: bool = True) -> None:
    """The words without a gap; a voice that says all of them once."""
    last = max(e.attempt for e in events if p.is_text(e))
    texts = [e for e in events if isinstance(e, p.TextEvent) and e.attempt == last]
    assert [e.seq for e in texts] == list(range(len(texts)))
    assert isinstance(texts[0], p.Started)
    end = texts[-1]
    assert isinstance(end, p.Done), end
    assert "".join(e.text for e in texts if isinstance(e, p.Text)) == end.text
    if voice:
        assert isinstance([e for e in events if not p.is_text(e)][-1], p.Stored)
        assert letters("".join(spoken_texts(sound_of(events)))) == letters(end.text)


def sound_of(events: list[p.Event]) -> bytes:
    sound = p.Sound()
    for event in events:
        sound.add(event)
    return sound.pcm


async def all_of(turn: p.Turn) -> list[p.Event]:
    return [event async for event in turn]


async def ended(parley: Parley, **request: Any) -> p.Turn:
    turn = parley.ask(**{"content": "Hello!", "speech": False, **request})
    await turn.text()
    return turn


# ---------------------------------------------------------------- events


async def test_a_turn_gives_its_words_and_its_voice(parley: Parley) -> None:
    turn = parley.ask("Hello!")
    events = await all_of(turn)

    assert_whole(events)
    assert {(e.conversation_id, e.turn_id) for e in events} == {
        (turn.conversation_id, turn.turn_id)
    }


async def test_it_may_be_told_again_and_is_the_same(parley: Parley) -> None:
    turn = parley.ask("Hello!")
    first = await all_of(turn)
    again = await all_of(turn)

    assert halves(first) == halves(again)


def halves(events: list[p.Event]) -> tuple[list[p.Event], list[p.Event]]:
    """Of text and of voice: the order between the two is that in which they came."""
    return [e for e in events if p.is_text(e)], [e for e in events if not p.is_text(e)]


async def test_who_comes_late_is_told_all_of_it(running: System, parley: Parley) -> None:
    running.emulator.change(SLOW)
    turn = parley.ask("Hello!")
    events: list[p.Event] = []
    late: asyncio.Task[list[p.Event]] | None = None
    async for event in turn:
        events.append(event)
        if isinstance(event, p.Chunk) and late is None:  # in the midst of both
            other = parley.follow(turn.conversation_id, turn.turn_id)
            late = asyncio.create_task(all_of(other))
    assert late is not None

    assert_whole(events)
    assert halves(await late) == halves(events)
    assert halves(await all_of(parley.follow(turn.conversation_id, turn.turn_id))) == halves(events)


async def test_a_reader_goes_on_from_where_it_was(running: System, parley: Parley) -> None:
    running.emulator.change(SLOW)
    turn = parley.ask("Hello!")
    first: list[p.Event] = []
    async with aclosing(turn.events()) as events:
        async for event in events:
            first.append(event)
            if isinstance(event, p.Chunk) and event.seq == 3:
                break
    position = turn.position
    assert position is not None
    rest = await all_of(parley.follow(turn.conversation_id, turn.turn_id, after=position))

    assert_whole([*first, *rest])
    assert len(halves(rest)[0]) + len(halves(rest)[1]) == len(rest) > 0
    assert halves([*first, *rest]) == halves(await all_of(turn))


async def test_a_slow_reader_loses_nothing(
    running: System, parley: Parley, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow, "MAX_LIVE_EVENTS", 4)
    running.emulator.change({"chat": {"tokens_per_second": 0, "replies": [SENTENCES * 4]}})
    turn = parley.ask("Hello!")
    # Nobody reads while all of it comes.
    await running.ears.whole(turn.turn_id)
    events: list[p.Event] = []
    async for event in turn:
        events.append(event)
        await asyncio.sleep(0)

    assert_whole(events)


async def test_a_reader_that_is_overrun_again_and_again_loses_nothing(
    running: System, parley: Parley, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow, "MAX_LIVE_BYTES", 10_000)
    running.emulator.change(SLOW)
    turn = parley.ask("Hello!")
    events: list[p.Event] = []
    more = running.ears.turn(turn.turn_id)
    async for event in turn:
        events.append(event)
        if isinstance(event, p.Chunk) and more.voice_end is None:  # until more has come meanwhile
            known = len(more.audio)
            await running.ears.until(lambda known=known: len(more.audio) > known + 2)  # type: ignore[misc]

    assert_whole(events)


async def test_a_conversation_is_followed_with_all_its_turns(parley: Parley) -> None:
    c = uuid.uuid4().hex
    earlier = await ended(parley, conversation=c)
    new: asyncio.Queue[p.Event] = asyncio.Queue()

    async def listen(stream: AsyncIterator[p.Event]) -> None:
        async for event in stream:
            await new.put(event)

    async def done() -> p.Done:
        while not isinstance(event := await new.get(), p.Done):
            pass
        return event

    async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
        task = tasks.create_task(listen(parley.tail(c, past=True)))
        assert (await done()).turn_id == earlier.turn_id
        later = await ended(parley, conversation=c)
        assert (await done()).turn_id == later.turn_id
        task.cancel()


async def test_a_tail_begins_with_what_comes_now(parley: Parley) -> None:
    c = uuid.uuid4().hex
    await ended(parley, conversation=c)
    later: list[p.Turn] = []

    async def ask() -> None:
        while not later:  # it may begin before somebody listens
            later.append(await ended(parley, conversation=c))

    async with asyncio.timeout(30), aclosing(parley.tail(c, idle=20)) as stream:
        first = asyncio.ensure_future(anext(stream))
        await parley.channels.of(c)
        await asyncio.wait({first}, timeout=0.5)
        assert not first.done()
        await ask()
        event = await first

    assert event.turn_id == later[0].turn_id


# ---------------------------------------------------------------- text, voice, files


async def test_the_text_is_there_before_the_voice_ends(running: System, parley: Parley) -> None:
    running.emulator.change({"chat": {"replies": [SENTENCES]}, "speech": {"realtime_factor": 2}})
    turn = parley.ask("Hello!")

    assert await turn.text() == SENTENCES
    assert running.ears.turn(turn.turn_id).voice_end is None
    await turn.cancel()


async def test_what_is_saved_is_what_is_stored(parley: Parley, tmp_path: Path) -> None:
    turn = parley.ask("Hello!")
    path = await turn.save(tmp_path / "a.wav")
    stored = await asyncio.to_thread(fetch, (await turn.link()).url)

    with wave.open(str(path)) as ours, wave.open(io.BytesIO(stored)) as theirs:
        assert ours.getparams() == theirs.getparams()
        assert ours.readframes(10**9) == theirs.readframes(10**9) == await turn.voice()


async def test_another_format_is_the_stored_object(parley: Parley, tmp_path: Path) -> None:
    turn = parley.ask("Hello!", speech={"format": "flac"})
    path = await turn.save(tmp_path / "a.flac")

    assert path.read_bytes()[:4] == b"fLaC"
    with pytest.raises(p.InvalidRequest, match="audio/flac"):
        await turn.save(tmp_path / "a.mp3")
    with pytest.raises(p.InvalidRequest, match="txt"):
        await turn.save(tmp_path / "a.txt")


async def test_a_text_is_said(parley: Parley) -> None:
    turn = parley.say("Good morning. How are you?")
    events = await all_of(turn)

    assert letters("".join(spoken_texts(sound_of(events)))) == "goodmorninghowareyou"
    assert not halves(events)[0]
    assert await turn.text() == "Good morning. How are you?"
    assert (await turn.link()).content_type == "audio/wav"


class Device:
    """A speaker that hears at once, until it is stopped."""

    def __init__(self) -> None:
        self.pcm = bytearray()
        self.stopped = False

    @property
    def heard_ms(self) -> int:
        return len(self.pcm) // 48

    async def write(self, pcm: bytes) -> None:
        if not self.stopped:
            self.pcm += pcm

    async def drain(self) -> None: ...

    def stop(self) -> None:
        self.stopped = True


async def test_a_voice_is_played_as_it_comes(parley: Parley) -> None:
    device, turn = Device(), parley.ask("Hello!")
    heard = await turn.play(device)

    assert bytes(device.pcm) == await turn.voice()
    assert heard == turn.heard_ms == len(device.pcm) // 48 > 0


async def test_the_history_keeps_what_was_heard(running: System, parley: Parley) -> None:
    running.emulator.change(SLOW)
    device, turn = Device(), parley.ask("Hello!")
    playing = asyncio.create_task(turn.play(device))
    async with asyncio.timeout(30):
        while len(device.pcm) < 48_000 * 2:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    await turn.cancel()
    await playing
    heard = turn.heard_ms
    assert heard is not None
    page = await anext(parley.history(turn.conversation_id))
    answer = page.messages[-1]

    assert device.stopped
    assert (answer.role, answer.status) == (p.Role.ASSISTANT, p.Status.INTERRUPTED)
    assert 0 < len(answer.content) < len(SENTENCES)
    assert SENTENCES.startswith(answer.content.rstrip(" …"))
    events = [event async for event in turn.events()]
    assert isinstance(halves(events)[1][-1], p.Stored)
    assert next(e for e in events if isinstance(e, p.Stored)).finish is p.Finish.CANCELLED


async def test_what_was_heard_is_said_with_the_cancel(running: System, parley: Parley) -> None:
    running.emulator.change(SLOW)
    turn = parley.ask("Hello!")
    async for event in turn:
        if isinstance(event, p.PieceDone):
            await turn.cancel(heard_ms=0)
    page = await anext(parley.history(turn.conversation_id))

    assert [m.status for m in page.messages if m.role is p.Role.ASSISTANT] in (
        [],
        [p.Status.INTERRUPTED],
    )
    assert "".join(m.content for m in page.messages if m.role is p.Role.ASSISTANT) == ""


# ---------------------------------------------------------------- requests


async def test_the_same_turn_is_answered_once(parley: Parley) -> None:
    c = uuid.uuid4().hex
    turn = parley.ask("Hello!", conversation=c, turn_id="once", speech=False)
    text = await turn.text()
    again = parley.ask("Hello!", conversation=c, turn_id="once", speech=False)

    asked = await again.accepted()
    assert asked is not None
    assert asked.state is p.AskState.ENDED
    assert await again.text() == text
    assert len((await anext(parley.history(c))).messages) == 2


async def test_what_is_asked_for_is_what_is_sent(running: System, parley: Parley) -> None:
    await ended(
        parley,
        messages=[p.PromptMessage(p.Role.USER, "One"), {"role": "user", "content": "Two"}],
        content=None,
        system="Be brief.",
        temperature=0.5,
        max_tokens=9,
        stop=["END"],
    )
    sent = running.emulator.record.chats[-1]

    assert [m["content"] for m in sent.messages] == ["Be brief.", "One", "Two"]
    assert {"temperature": 0.5, "max_tokens": 9, "stop": ["END"]}.items() <= sent.params.items()


@pytest.mark.parametrize(
    "wrong",
    [
        {"conversation": "a b"},
        {"turn_id": "x" * 65},
        {"temperature": 3},
        {"speech": {"format": "midi"}},
        {"on_busy": "wait"},
        {"heard_ms": -1},
    ],
)
async def test_what_is_no_request_is_refused_before_it_is_sent(
    parley: Parley, wrong: dict[str, Any]
) -> None:
    with pytest.raises(p.InvalidRequest):
        parley.ask("Hello!", **wrong)


async def test_a_request_that_says_nothing_is_refused(parley: Parley) -> None:
    with pytest.raises(p.InvalidRequest):
        await parley.ask()
    with pytest.raises(p.InvalidRequest):
        await parley.say(" ").voice()


async def test_a_failure_is_an_event_and_then_an_exception(parley: Parley) -> None:
    turn = parley.ask("Hello!", model="no/such-model", speech=False)
    events = [event async for event in turn.events()]
    with pytest.raises(p.ProviderRefused, match="no/such-model") as caught:
        await all_of(turn)

    assert isinstance(events[-1], p.Failed)
    assert not caught.value.retryable
    with pytest.raises(p.ProviderRefused):
        await turn.text()


async def test_a_voice_that_fails_leaves_the_text(parley: Parley) -> None:
    turn = parley.ask("Hello!", speech={"voice": "nobody"})

    assert await turn.text()
    with pytest.raises(p.ProviderRefused, match="nobody"):
        await turn.voice()


async def test_who_will_not_wait_is_told_that_it_is_busy(running: System, parley: Parley) -> None:
    running.emulator.change(SLOW)
    first = parley.ask("Hello!", speech=False)
    await first.accepted()
    with pytest.raises(p.Busy):
        await parley.ask(
            "Me!", conversation=first.conversation_id, speech=False, on_busy="reject"
        ).text()
    other = parley.ask(
        "Stop!", conversation=first.conversation_id, speech=False, on_busy="interrupt"
    )
    assert await other.text()
    end = [event async for event in first][-1]
    assert isinstance(end, p.Done)
    assert end.finish_reason is p.FinishReason.CANCELLED


async def test_a_client_that_is_closed_tells_who_still_listens(running: System) -> None:
    async with Parley.connect(running.nats.url) as parley:
        waiting = asyncio.ensure_future(parley.follow("nobody", "nothing").text())
        await parley.history("nobody").__anext__()
    async with asyncio.timeout(30):
        with pytest.raises(p.Unreachable, match="closed"):
            await waiting
    with pytest.raises(p.Unreachable, match="closed"):
        await parley.ask("Hello!")


async def test_nobody_listens_when_nobody_reads(
    running: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow, "MAX_CHANNELS", 2)
    async with Parley.connect(running.nats.url) as parley:
        turns = [parley.ask("Hello!", speech=False) for _ in range(6)]
        await asyncio.gather(*(turn.text() for turn in turns))
        again = [await ended(parley) for _ in range(3)]

        assert len(parley.wire._heard) <= 2 * 2
        assert await again[0].text() == await again[2].text()
        await all_of(parley.follow(turns[0].conversation_id, turns[0].turn_id))


async def test_a_turn_that_nobody_asked_for_is_not_waited_for_for_ever(running: System) -> None:
    async with Parley.connect(running.nats.url, idle=0.5) as parley:
        with pytest.raises(p.DeadlineExceeded):
            await parley.follow("nobody", "nothing").text()


# ---------------------------------------------------------------- conversations


async def test_a_long_history_comes_in_pages(parley: Parley) -> None:
    c = uuid.uuid4().hex
    said = [f"message {n}" for n in range(1_500)]
    for at in range(0, 1_500, 250):
        messages = [{"role": "user", "content": text} for text in said[at : at + 250]]
        await ended(parley, conversation=c, content=None, messages=messages)
    pages = [page async for page in parley.history(c, limit=400)]
    messages_found = [m.content for page in reversed(pages) for m in page.messages]

    assert len(pages) >= 4
    assert max(len(page.messages) for page in pages) <= 400
    assert [text for text in messages_found if text.startswith("message ")] == said


async def test_an_unknown_conversation_has_one_empty_page(parley: Parley) -> None:
    assert [page.messages async for page in parley.history("nobody")] == [[]]


async def test_the_first_page_tells_what_is_under_way(running: System, parley: Parley) -> None:
    running.emulator.change(SLOW)
    turn = parley.ask("Hello!", speech=False)
    async for event in turn:
        if isinstance(event, p.Text):
            break
    page = await anext(parley.history(turn.conversation_id))

    assert page.turn is not None
    assert page.turn.turn_id == turn.turn_id
    await turn.cancel()


async def test_a_conversation_is_erased(parley: Parley) -> None:
    turn = parley.ask("Hello!")
    await turn.voice()
    await parley.delete(turn.conversation_id)
    await parley.delete(turn.conversation_id)

    assert (await anext(parley.history(turn.conversation_id))).messages == []
    with pytest.raises(p.NotFound):
        await turn.link()


async def test_a_cancel_of_nothing_is_harmless(parley: Parley) -> None:
    await parley.cancel("nobody")
    await parley.cancel("nobody", "nothing", heard_ms=100)
