from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from services.tts.audio import pcm
from services.tts.audio.spool import Spool
from services.tts.finish import GivenUp
from services.tts.job import Job, Rules
from services.tts.ports import (
    Label,
    Recording,
    SpokenWord,
    StoredObject,
    Unvoiced,
    VoiceDependencies,
    VoiceParams,
)
from services.tts.record import Repeated, SpeechRecord
from services.tts.script import Script
from services.tts.speak import speak
from shared.contract import (
    AudioFailed,
    AudioFormat,
    Code,
    Delta,
    Done,
    Error,
    Failed,
    Finish,
    FinishReason,
    Kind,
    Started,
    Stored,
    Text,
    Usage,
    Word,
)
from shared.errors import (
    Cancelled,
    DeadlineExceeded,
    ProviderAuth,
    ProviderBroken,
    ProviderError,
    ProviderOverloaded,
    ProviderRefused,
    ProviderStalled,
    StorageUnavailable,
    Superseded,
    Torn,
)
from shared.process.cancel import CancelToken
from tests.fakes_tts import (
    AudioStream,
    MemoryAudio,
    MemoryRecords,
    MemoryRequests,
    MemoryStore,
    NoTime,
    ScriptedText,
    ScriptedVoice,
    VoiceReported,
    audio_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

# Each line is a piece.
LINES = ["All is quiet tonight.", "Nobody says a word.", "Only the sea is heard."]
TEXT = "\n".join(LINES)
MODEL, FALLBACK = "first/model", "second/model"
A, B, C = (audio_of(line) for line in LINES)


def answer(
    *parts: str, attempt: int = 1, finish: FinishReason | None = FinishReason.STOP
) -> list[Delta]:
    started = Started(
        "c", "t", attempt, 0, model="m", metadata={}, speech=True, created_at="2026-01-01T00:00:00Z"
    )
    events: list[Delta] = [started]
    events += [Text("c", "t", attempt, 1 + n, text=part) for n, part in enumerate(parts)]
    if finish is not None:
        done = Done(
            "c",
            "t",
            attempt,
            len(events),
            finish_reason=finish,
            text="".join(parts),
            usage=Usage(1, 1),
            first_token_ms=1,
            duration_ms=1,
            metadata={},
        )
        events.append(done)
    return events


def test_the_lines_are_the_pieces() -> None:
    script = Script(max_chars=250, code_blocks="skip", max_characters=50_000)
    assert [p.text for p in [*script.say(TEXT), *script.finish()]] == LINES


@dataclass
class Worker:
    """One speech worker; those of one turn share its stream, record and store."""

    voice: ScriptedVoice = field(default_factory=ScriptedVoice)
    stream: AudioStream = field(default_factory=AudioStream)
    records: MemoryRecords = field(default_factory=MemoryRecords)
    store: MemoryStore = field(default_factory=MemoryStore)
    clock: NoTime = field(default_factory=NoTime)
    token: CancelToken = field(default_factory=CancelToken)
    fallback: tuple[str, str] | None = None
    max_tries: int = 3
    recover_after: int = 8
    name: str = "w1"
    sequence: int = 7
    is_gone: bool = False  # the request, from the queue, while the worker was frozen
    requests: MemoryRequests = field(default_factory=MemoryRequests)
    words: bool = False
    whole_text: str | None = None
    max_characters: int = 50_000
    redelivered: bool = False

    def __post_init__(self) -> None:
        self.audio = MemoryAudio(self.stream)
        self.reported = VoiceReported()

    def next(self, *plans: list[bytes | SpokenWord | Exception] | None, name: str) -> Worker:
        return Worker(
            voice=ScriptedVoice(*plans),
            stream=self.stream,
            records=self.records,
            store=self.store,
            fallback=self.fallback,
            name=name,
        )

    async def speak(self, events: Iterable[Delta | Exception]) -> Stored | AudioFailed | None:
        spool = Spool()
        try:
            return await speak(
                Job(
                    conversation_id="c",
                    turn_id="t",
                    execution=self.name,
                    sequence=self.sequence,
                    taken_at=datetime(2026, 1, 1, tzinfo=UTC),
                    params=VoiceParams(model=MODEL, voice="v", word_timestamps=self.words),
                    format=AudioFormat.WAV,
                    redelivered=self.redelivered,
                ),
                Rules(
                    max_tries=self.max_tries,
                    patience=15.0,
                    max_executions=5,
                    fallback=self.fallback,
                    recover_after=self.recover_after,
                    max_characters=self.max_characters,
                    code_blocks="skip",
                    store_again=3.0,
                    store_give_up=3600.0,
                    store_refused=60.0,
                ),
                ScriptedText(events, self.whole_text),
                VoiceDependencies(
                    records=self.records,
                    requests=self.requests,
                    publish=self.audio,
                    voice=self.voice,
                    recording=spool,
                    store=self.store,
                    clock=self.clock,
                    token=self.token,
                    confirm=self.confirm,
                    price=lambda model, n: n / 1000 if model == MODEL else None,
                    report=self.reported,
                ),
            )
        finally:
            spool.close()
            assert self.voice.open == 0  # every slot on a socket was given back

    async def confirm(self) -> None:
        if self.is_gone:
            raise Superseded

    def said(self) -> list[str]:
        return [text for _, text in self.voice.said]

    def chunks_of_done_pieces(self) -> bytes:
        return b"".join(audio for _, audio in self.stream.replay().in_order())


def whole(index: int, attempt: int = 1) -> list[tuple[str, int, object]]:
    return [
        ("piece", attempt, (index, LINES[index])),
        ("chunk", attempt, index),
        ("chunk", attempt, index),
        ("piece_done", attempt, (index, 10 * len(LINES[index]))),
    ]


async def test_a_frozen_worker_does_not_bring_an_erased_voice_back() -> None:
    worker = Worker(is_gone=True)
    with pytest.raises(Superseded):
        await worker.speak(answer(TEXT))
    assert (worker.records.kept, worker.stream.messages) == (SpeechRecord(), [])


async def test_a_voice_whose_record_finds_no_room_fails_before_it_says_anything() -> None:
    worker = Worker()
    worker.records.full = True
    end = await worker.speak(answer(TEXT))
    assert isinstance(end, AudioFailed)
    assert worker.stream.told() == [("failed", 1, "storage_unavailable")]
    assert worker.said() == []


async def test_a_voice_that_another_worker_has_begun_ends_where_the_record_has_no_room() -> None:
    first = Worker()
    with pytest.raises(Superseded):
        await first.speak([*answer(TEXT)[:1], Superseded()])
    second = first.next(name="w2")
    second.records.full = True
    assert isinstance(await second.speak(answer(TEXT)), AudioFailed)
    assert second.stream.told(Kind.FAILED) == [("failed", 2, "storage_unavailable")]

    third = first.next(name="w3")  # the ack was lost, and there is room again
    third.records.full = False
    assert await third.speak(answer(TEXT)) is None
    assert third.said() == []


async def test_a_voice_whose_record_is_gone_goes_on_above_what_listeners_know() -> None:
    first = Worker()
    with pytest.raises(Superseded):
        await first.speak([*answer(TEXT)[:-1], Superseded()])
    await first.records.erase()
    second = first.next(name="w2")
    second.redelivered = True
    end = await second.speak(answer(TEXT))

    assert isinstance(end, Stored)
    assert end.attempt == 2
    assert LINES[0] not in second.said()  # a piece that is done is never said again


async def test_a_voice_whose_record_is_gone_is_not_spoken_again_after_its_end() -> None:
    first = Worker()
    assert isinstance(await first.speak(answer(TEXT)), Stored)
    await first.records.erase()
    second = first.next(name="w2")
    second.redelivered = True
    assert await second.speak(answer(TEXT)) is None
    assert (second.said(), second.records.kept) == ([], SpeechRecord())


async def test_a_repeat_leaves_the_voice_to_the_message_that_has_it() -> None:
    first = Worker()
    with pytest.raises(Superseded):
        await first.speak([*answer(TEXT)[:1], Superseded()])
    repeat = first.next(name="w2")
    repeat.sequence, repeat.requests = 8, MemoryRequests({7, 8})
    with pytest.raises(Repeated):
        await repeat.speak(answer(TEXT))
    assert (first.records.kept.execution, first.records.kept.executions) == ("w1", 1)
    assert repeat.said() == []


async def test_a_voice_whose_message_is_gone_is_taken_over_by_a_repeat() -> None:
    first = Worker()
    with pytest.raises(Superseded):
        await first.speak([*answer(TEXT)[:1], Superseded()])
    repeat = first.next(name="w2")
    repeat.sequence, repeat.requests = 8, MemoryRequests({8})
    end = await repeat.speak(answer(TEXT))
    assert isinstance(end, Stored)
    assert (first.records.kept.execution, first.records.kept.request) == ("w2", 8)


async def test_each_piece_is_said_once_in_order_and_the_whole_is_stored() -> None:
    worker = Worker()
    end = await worker.speak(answer(TEXT[:30], TEXT[30:]))

    assert worker.stream.told() == [
        ("started", 1, MODEL),
        *whole(0),
        *whole(1),
        *whole(2),
        ("stored", 1, "complete"),
    ]
    assert worker.store.audio == {"c/t/1.wav": A + B + C}
    characters = sum(map(len, LINES))
    assert end == Stored(
        "c",
        "t",
        1,
        bucket="parley-audio",
        key="c/t/1.wav",
        url="http://store/c/t/1.wav",
        content_type="audio/wav",
        bytes=len(A + B + C),
        sha256="0" * 64,
        duration_ms=pcm.milliseconds(len(A + B + C)),
        captions_key="c/t/1.wav.vtt",
        captions_url="http://store/c/t/1.wav.vtt",
        pieces=3,
        characters=characters,
        finish=Finish.COMPLETE,
        cost_usd=round(characters / 1000, 8),
    )
    assert worker.records.kept.stored == end
    assert [label.text for label in worker.store.labels] == [TEXT]


async def test_the_turn_keeps_its_context_from_piece_to_piece() -> None:
    worker = Worker()
    await worker.speak(answer(TEXT))
    assert len(worker.voice.opened) == 1


async def test_a_piece_is_said_before_the_text_has_ended() -> None:
    worker = Worker()
    end = await worker.speak([*answer(LINES[0] + "\n", finish=None), DeadlineExceeded("quiet")])
    assert worker.stream.told() == [
        ("started", 1, MODEL),
        *whole(0),
        ("failed", 1, "deadline_exceeded"),
    ]
    assert isinstance(end, AudioFailed)


async def test_words_have_their_time_in_the_turn() -> None:
    half = pcm.seconds(len(B)) / 2
    worker = Worker(
        ScriptedVoice([A], [B, SpokenWord("Nobody", 0.0, half), SpokenWord("says", half, 9.0)]),
        words=True,
    )
    await worker.speak(answer("\n".join(LINES[:2])))
    start = pcm.milliseconds(len(A))
    middle = round(start + half * 1000)
    (_, _), (second, _) = worker.stream.replay().in_order()
    assert second.words == [
        Word("Nobody", start, middle),
        Word("says", middle, round((start / 1000 + 9.0) * 1000)),
    ]
    assert f"Nobody <00:00:00.{middle:03}>says" in worker.store.captions["c/t/1.wav"]


# ---------------------------------------------------------------- a broken voice


async def test_a_break_in_mid_piece_announces_it_again_in_the_next_attempt() -> None:
    worker = Worker(ScriptedVoice(None, [B[:100], ProviderBroken("cut")]))
    end = await worker.speak(answer(TEXT))

    assert worker.stream.told() == [
        ("started", 1, MODEL),
        *whole(0),
        ("piece", 1, (1, LINES[1])),
        ("chunk", 1, 1),
        ("started", 2, MODEL),
        *whole(1, attempt=2),
        *whole(2, attempt=2),
        ("stored", 2, "complete"),
    ]
    assert worker.store.audio == {"c/t/2.wav": A + B + C}
    assert worker.chunks_of_done_pieces() == A + B + C
    assert isinstance(end, Stored)
    assert end.characters == sum(map(len, LINES)) + len(LINES[1])  # submitted twice, paid twice
    assert len(worker.voice.opened) == 2


async def test_the_pause_that_was_asked_for_is_made() -> None:
    worker = Worker(ScriptedVoice([ProviderOverloaded("busy", wait=3.0)]))
    await worker.speak(answer(TEXT))
    assert len(worker.clock.pauses) == 1
    assert worker.clock.pauses[0] >= 3.0


async def test_after_all_tries_the_fallback_says_it() -> None:
    stalled = [ProviderStalled("nothing came")]
    worker = Worker(ScriptedVoice(stalled, stalled, stalled), fallback=(FALLBACK, "w"))
    end = await worker.speak(answer(TEXT))
    assert worker.voice.said == [
        *[(MODEL, LINES[0])] * 3,
        *[(FALLBACK, line) for line in LINES],
    ]
    assert worker.stream.told(Kind.STARTED) == [
        *[("started", n, MODEL) for n in (1, 2, 3)],
        ("started", 4, FALLBACK),
    ]
    assert worker.reported.attempts == [1, 2, 3, 4]
    assert worker.reported.retries == [Code.PROVIDER_STALLED] * 3
    asked = worker.voice.said
    assert worker.reported.submissions == [
        (len(text), len(text) / 1000 if model == MODEL else None) for model, text in asked
    ]
    assert isinstance(end, Stored)
    assert (worker.store.labels[0].model, worker.store.labels[0].voice) == (FALLBACK, "w")


async def test_the_first_model_is_tried_again_after_a_while() -> None:
    worker = Worker(
        ScriptedVoice([ProviderStalled()]), fallback=(FALLBACK, "w"), max_tries=1, recover_after=2
    )
    end = await worker.speak(answer(TEXT))
    assert [model for model, _ in worker.voice.said] == [MODEL, FALLBACK, FALLBACK, MODEL]
    assert worker.stream.told(Kind.STARTED, Kind.PIECE_DONE) == [
        ("started", 1, MODEL),
        ("started", 2, FALLBACK),
        ("piece_done", 2, (0, 10 * len(LINES[0]))),
        ("piece_done", 2, (1, 10 * len(LINES[1]))),
        ("started", 3, MODEL),  # who is heard from here on is told, and nothing is dropped
        ("piece_done", 3, (2, 10 * len(LINES[2]))),
    ]
    assert isinstance(end, Stored)
    assert worker.chunks_of_done_pieces() == A + B + C


async def test_what_comes_late_of_the_fallback_is_heard_before_the_first_model_is_back() -> None:
    worker = Worker(
        ScriptedVoice([ProviderStalled()]), fallback=(FALLBACK, "w"), max_tries=1, recover_after=2
    )
    worker.voice.late = [[b"\x01\x00" * 50]]
    await worker.speak(answer(TEXT))
    assert worker.store.audio == {"c/t/3.wav": A + B + b"\x01\x00" * 50 + C}


async def test_without_a_further_piece_nobody_goes_back_to_the_first_model() -> None:
    worker = Worker(
        ScriptedVoice([ProviderStalled()]), fallback=(FALLBACK, "w"), max_tries=1, recover_after=3
    )
    await worker.speak(answer(TEXT))
    assert worker.stream.told(Kind.STARTED)[-1] == ("started", 2, FALLBACK)


@pytest.mark.parametrize(("fallback", "tries"), [(None, 3), ((FALLBACK, "w"), 6)])
async def test_a_voice_of_which_nothing_is_heard_fails_with_the_last_reason(
    fallback: tuple[str, str] | None, tries: int
) -> None:
    worker = Worker(ScriptedVoice(*[[ProviderStalled("quiet")]] * 20), fallback=fallback)
    end = await worker.speak(answer(TEXT))
    assert isinstance(end, AudioFailed)
    assert end.error == Error(Code.PROVIDER_STALLED, "quiet", retryable=True)
    assert worker.stream.told()[-1][2] == "provider_stalled"
    # The second piece in vain is proof enough; the fallback goes on with it.
    assert worker.said() == [LINES[0]] * tries + [LINES[1]] * 3
    assert worker.records.kept.failed == end
    assert worker.store.audio == {}


@pytest.mark.parametrize("silent", [0, 1, 2])
@pytest.mark.parametrize("why", [Unvoiced("done"), ProviderStalled("quiet")])
async def test_a_piece_that_is_never_voiced_is_done_without_a_sound(
    why: ProviderError, silent: int
) -> None:
    plans: list[list[bytes | SpokenWord | Exception] | None] = [None] * silent
    worker = Worker(ScriptedVoice(*plans, [why], [why], [why]))
    end = await worker.speak(answer(TEXT))
    assert worker.stream.told(Kind.PIECE_DONE) == [
        (
            "piece_done",
            1 if index < silent else 3,
            (index, 0 if index == silent else 10 * len(line)),
        )
        for index, line in enumerate(LINES)
    ]
    voiced = b"".join(audio for index, audio in enumerate((A, B, C)) if index != silent)
    assert worker.store.audio == {"c/t/3.wav": voiced}
    assert worker.chunks_of_done_pieces() == voiced
    assert isinstance(end, Stored)
    assert (end.finish, end.pieces) == (Finish.COMPLETE, 3)
    # Given to the model three times, and paid for as often.
    assert end.characters == sum(map(len, LINES)) + 2 * len(LINES[silent])


async def test_a_voice_of_one_piece_that_is_never_voiced_fails() -> None:
    worker = Worker(ScriptedVoice(*[[Unvoiced("done")]] * 3))
    end = await worker.speak(answer(LINES[0]))
    assert isinstance(end, AudioFailed)
    assert end.error.code is Code.PROVIDER_BROKEN
    assert worker.stream.told()[-2:] == [
        ("piece_done", 3, (0, 0)),
        ("failed", 3, "provider_broken"),
    ]


async def test_a_piece_that_is_refused_after_others_were_voiced_is_passed_over() -> None:
    worker = Worker(ScriptedVoice(None, [ProviderRefused("not this")]))
    end = await worker.speak(answer(TEXT))
    assert worker.store.audio == {"c/t/1.wav": A + C}
    assert isinstance(end, Stored)


async def test_a_model_that_refuses_the_first_piece_fails_at_once() -> None:
    worker = Worker(ScriptedVoice([ProviderRefused("no such model")]))
    await worker.speak(answer(TEXT))
    assert worker.stream.told()[-1] == ("failed", 1, "provider_refused")
    assert worker.said() == LINES[:1]


# ---------------------------------------------------------------- a provider that is away


async def test_who_is_away_for_ten_seconds_costs_nothing_and_is_told_to_nobody() -> None:
    worker = Worker()
    worker.voice.away = [ProviderOverloaded("503")] * 8
    await worker.speak(answer(TEXT))
    assert sum(worker.clock.pauses) > 5.0
    assert worker.stream.told() == [
        ("started", 1, MODEL),
        *whole(0),
        *whole(1),
        *whole(2),
        ("stored", 1, "complete"),
    ]


async def test_who_goes_away_in_mid_piece_is_waited_for_and_what_was_heard_stays() -> None:
    worker = Worker(ScriptedVoice(None, [B[:100], ProviderBroken("cut")]))

    async def gone(index: int, audio: bytes) -> None:
        await MemoryAudio.chunk(worker.audio, index, audio)
        if index == 1 and worker.audio.attempt == 1:
            worker.voice.away = [ProviderBroken("refused")] * 8

    worker.audio.chunk = gone  # type: ignore[method-assign]  # it breaks down after its first part
    end = await worker.speak(answer(TEXT))
    assert worker.said() == [LINES[0], LINES[1], LINES[1], LINES[2]]
    assert worker.stream.told(Kind.STARTED) == [("started", 1, MODEL), ("started", 2, MODEL)]
    assert worker.store.audio == {"c/t/2.wav": A + B + C}
    assert isinstance(end, Stored)
    assert end.characters == sum(map(len, LINES)) + len(LINES[1])


async def test_who_stays_away_fails_the_voice() -> None:
    worker = Worker()
    worker.voice.away = [ProviderOverloaded("503")] * 100
    await worker.speak(answer(TEXT))
    assert worker.stream.told() == [("started", 1, MODEL), ("failed", 1, "provider_overloaded")]
    assert 15.0 <= sum(worker.clock.pauses) <= 18.0


# ---------------------------------------------------------------- language


async def test_a_text_is_spoken_in_the_language_in_which_it_is_written() -> None:
    worker = Worker()
    await worker.speak(answer("你好！今天天气很好。我们去公园。"))
    assert [(params.model, params.language) for params in worker.voice.opened] == [(MODEL, "zh")]


async def test_a_text_that_turns_out_to_be_chinese_goes_on_in_a_context_of_its_own() -> None:
    worker = Worker()
    await worker.speak(answer("OK.\n你好！今天天气很好，我们去公园走走吧。"))
    assert [params.language for params in worker.voice.opened] == [None, "zh"]
    assert worker.stream.told(Kind.STARTED) == [("started", 1, MODEL)]


async def test_a_language_that_the_model_does_not_speak_is_left_to_it() -> None:
    worker = Worker(ScriptedVoice([ProviderRefused("no such language")]))
    end = await worker.speak(answer("Привет, как дела?"))
    assert [params.language for params in worker.voice.opened] == ["ru", None]
    assert isinstance(end, Stored)


# ---------------------------------------------------------------- limits


async def test_a_text_that_is_too_long_is_spoken_as_far_as_it_may_and_says_so() -> None:
    worker = Worker(max_characters=len(LINES[0]))
    end = await worker.speak(answer(TEXT))
    assert worker.said() == LINES[:1]
    assert isinstance(end, Stored)
    assert end.finish is Finish.TRUNCATED


async def test_a_voice_that_takes_too_long_fails_and_keeps_what_was_heard_in_its_events() -> None:
    worker = Worker()

    def late(index: int) -> None:
        if index == 1:
            worker.token.expire(DeadlineExceeded("it took longer than 900 s"))

    worker.audio.heard = late  # its time is over in mid-piece
    end = await worker.speak(answer(TEXT))
    assert isinstance(end, AudioFailed)
    assert end.error.code is Code.DEADLINE_EXCEEDED
    assert worker.stream.told()[:5] == [("started", 1, MODEL), *whole(0)]
    assert worker.stream.told()[-1] == ("failed", 1, "deadline_exceeded")


async def test_what_no_repeating_mends_fails_at_once() -> None:
    worker = Worker(ScriptedVoice(None, [ProviderAuth("key refused")]))
    await worker.speak(answer(TEXT))
    assert worker.stream.told() == [
        ("started", 1, MODEL),
        *whole(0),
        ("piece", 1, (1, LINES[1])),
        ("failed", 1, "provider_auth"),
    ]
    assert worker.clock.pauses == []


# ---------------------------------------------------------------- another worker goes on


class Crash(Exception):
    """The process is gone."""


class DyingStore(MemoryStore):
    """The worker dies while it stores."""

    async def put(self, recording: Recording, captions: str, label: Label) -> StoredObject:
        raise Crash


async def test_what_comes_late_belongs_to_the_last_piece() -> None:
    worker = Worker()
    worker.voice.late = [[b"\x01\x00" * 50]]
    end = await worker.speak(answer(TEXT))
    assert worker.store.audio == {"c/t/1.wav": A + B + C + b"\x01\x00" * 50}
    assert worker.chunks_of_done_pieces() == A + B + C + b"\x01\x00" * 50
    assert isinstance(end, Stored)
    assert end.pieces == 3


async def test_late_audio_that_breaks_off_has_its_piece_said_again() -> None:
    worker = Worker()
    worker.voice.late = [[b"\x01\x00" * 50, ProviderBroken("cut")]]
    await worker.speak(answer(TEXT))
    assert worker.said() == [*LINES, LINES[2]]
    assert worker.store.audio == {"c/t/2.wav": A + B + C}


async def test_late_audio_that_always_breaks_off_is_not_said_again_without_end() -> None:
    worker = Worker()
    worker.voice.late = [[b"\x01\x00" * 50, ProviderBroken("cut")]] * 10
    await worker.speak(answer(TEXT))
    assert worker.said() == [*LINES, LINES[2], LINES[2]]
    assert worker.store.audio == {"c/t/3.wav": A + B + C + b"\x01\x00" * 50}


async def test_a_socket_that_breaks_when_all_was_said_costs_nothing() -> None:
    worker = Worker()
    worker.voice.late = [[ProviderBroken("gone")]]
    await worker.speak(answer(TEXT))
    assert worker.said() == LINES
    assert worker.store.audio == {"c/t/1.wav": A + B + C}


async def crash(worker: Worker, events: Iterable[Delta | Exception] = ()) -> None:
    with pytest.raises(Crash):
        await worker.speak(events or answer(TEXT))


async def test_another_worker_says_only_what_was_not_done() -> None:
    first = Worker(ScriptedVoice(None, [B[:100], Crash()]))
    await crash(first)
    second = first.next(name="w2")
    end = await second.speak(answer(TEXT))

    assert second.said() == LINES[1:]
    assert first.stream.told()[7:] == [
        ("started", 2, MODEL),
        *whole(1, attempt=2),
        *whole(2, attempt=2),
        ("stored", 2, "complete"),
    ]
    assert second.store.audio == {"c/t/2.wav": A + B + C}
    assert second.chunks_of_done_pieces() == A + B + C
    assert isinstance(end, Stored)
    assert end.pieces == 3
    submitted = sum(map(len, LINES)) + len(LINES[1])
    assert end.characters == submitted
    assert end.cost_usd == pytest.approx(submitted / 1000)


async def test_a_worker_that_died_after_the_last_piece_leaves_only_the_storing() -> None:
    first = Worker(store=DyingStore())
    await crash(first)
    second = first.next(name="w2")
    second.store = MemoryStore()
    end = await second.speak(answer(TEXT))
    assert second.said() == []
    assert second.voice.opened == []
    assert isinstance(end, Stored)
    assert end.characters == sum(map(len, LINES))
    assert second.store.audio == {"c/t/2.wav": A + B + C}


async def test_a_text_answered_anew_keeps_what_is_the_same() -> None:
    worker = Worker()
    events = [*answer("\n".join(LINES[:2]) + "\n", finish=None), *answer(TEXT, attempt=2)]
    await worker.speak(events)
    assert worker.said() == LINES
    assert worker.stream.told(Kind.STARTED) == [("started", 1, MODEL)]
    assert worker.store.audio == {"c/t/1.wav": A + B + C}


async def test_a_text_answered_anew_is_said_from_the_first_difference_on() -> None:
    worker = Worker()
    events = [
        *answer("\n".join(LINES) + "\n", finish=None),
        *answer("\n".join([LINES[0], LINES[2], LINES[1]]), attempt=2),
    ]
    end = await worker.speak(events)
    assert worker.said() == [*LINES, LINES[2], LINES[1]]
    assert worker.stream.told(Kind.STARTED, Kind.PIECE)[4:] == [
        ("started", 2, MODEL),
        ("piece", 2, (1, LINES[2])),
        ("piece", 2, (2, LINES[1])),
    ]
    assert worker.store.audio == {"c/t/2.wav": A + C + B}
    assert worker.chunks_of_done_pieces() == A + C + B
    assert isinstance(end, Stored)
    assert end.pieces == 3


async def test_a_text_answered_anew_and_shorter_loses_what_was_said_too_much() -> None:
    worker = Worker()
    events = [*answer(TEXT + "\n", finish=None), *answer(LINES[0], attempt=2)]
    end = await worker.speak(events)
    assert worker.store.audio == {"c/t/2.wav": A}
    assert isinstance(end, Stored)
    assert end.pieces == 1


async def test_a_worker_that_finds_the_end_committed_tells_it_if_nobody_did() -> None:
    first = Worker()
    end = await first.speak(answer(TEXT))
    told = first.stream.messages.pop()
    assert await first.next(name="w2").speak(answer(TEXT)) == end
    assert first.stream.messages[-1] == told
    assert await first.next(name="w3").speak(answer(TEXT)) is None
    assert len(first.stream.told(Kind.STORED)) == 1


# ---------------------------------------------------------------- the user stops it


async def test_stopped_in_mid_piece_keeps_what_was_spoken() -> None:
    worker = Worker(ScriptedVoice(None, [B[:100], Cancelled()]))
    end = await worker.speak(answer(TEXT))
    assert worker.stream.told()[5:] == [
        ("piece", 1, (1, LINES[1])),
        ("chunk", 1, 1),
        ("piece_done", 1, (1, 50)),
        ("stored", 1, "cancelled"),
    ]
    assert worker.store.audio == {"c/t/1.wav": A + B[:100]}
    assert isinstance(end, Stored)
    assert (end.finish, end.pieces) == (Finish.CANCELLED, 2)


async def test_stopped_while_a_broken_piece_waits_keeps_only_finished_pieces() -> None:
    worker = Worker(
        ScriptedVoice(None, [B[:100], ProviderBroken("cut")]), clock=NoTime(stopped=True)
    )
    await worker.speak(answer(TEXT))
    assert worker.store.audio == {"c/t/1.wav": A}
    assert worker.chunks_of_done_pieces() == A


async def test_stopped_while_the_text_is_awaited() -> None:
    worker = Worker()
    await worker.speak([*answer(LINES[0] + "\n", finish=None), Cancelled()])
    assert worker.store.audio == {"c/t/1.wav": A}
    assert worker.stream.told()[-1] == ("stored", 1, "cancelled")


async def test_stopped_before_anything_was_heard_stores_nothing() -> None:
    worker = Worker(ScriptedVoice([Cancelled()]))
    end = await worker.speak(answer(TEXT))
    assert isinstance(end, Stored)
    assert (end.key, end.url, end.captions_key, end.bytes, end.pieces) == (None, None, None, 0, 0)
    assert (end.bucket, end.finish) == ("parley-audio", Finish.CANCELLED)
    assert worker.store.audio == {}


async def test_a_text_that_was_cancelled_ends_the_voice_as_cancelled() -> None:
    worker = Worker()
    end = await worker.speak(answer(LINES[0] + "\nNobo", finish=FinishReason.CANCELLED))
    assert isinstance(end, Stored)
    assert end.finish is Finish.CANCELLED
    assert worker.said() == [LINES[0]]


async def test_a_turn_noted_as_cancelled_is_not_spoken_by_who_takes_it_up() -> None:
    worker = Worker(records=MemoryRecords(SpeechRecord(cancelled=True)))
    end = await worker.speak(answer(TEXT))
    assert worker.said() == []
    assert isinstance(end, Stored)
    assert (end.finish, end.key, end.characters) == (Finish.CANCELLED, None, 0)


async def test_what_was_said_before_a_noted_cancel_is_kept_counted_and_labelled() -> None:
    first = Worker(ScriptedVoice(None, [Superseded()]))
    with pytest.raises(Superseded):
        await first.speak(answer(TEXT))
    kept = replace(first.records.kept, cancelled=True)
    second = Worker(records=MemoryRecords(kept, 9), stream=first.stream, whole_text=TEXT)
    end = await second.speak(answer(TEXT))
    assert second.said() == []
    assert second.store.audio == {"c/t/2.wav": A}
    assert isinstance(end, Stored)
    assert (end.finish, end.pieces) == (Finish.CANCELLED, 1)
    # The second piece was submitted, too.
    assert end.characters == len(LINES[0]) + len(LINES[1])
    assert end.cost_usd == pytest.approx(end.characters / 1000)
    assert second.store.labels[0].text == TEXT


async def test_a_stop_is_noticed_while_audio_is_awaited() -> None:
    worker = Worker()

    def stopped(index: int) -> None:
        if index == 1:
            worker.token.cancel()

    worker.audio.heard = stopped  # the listener hears it and stops
    end = await worker.speak(answer(TEXT))
    assert worker.said() == LINES[:2]
    assert worker.store.audio == {"c/t/1.wav": A + B[: len(B) // 4 * 2]}
    assert isinstance(end, Stored)
    assert end.finish is Finish.CANCELLED


# ---------------------------------------------------------------- the text decides


async def test_a_failed_text_ends_the_voice_with_its_error() -> None:
    error = Error(Code.PROVIDER_OVERLOADED, "no capacity", retryable=True)
    worker = Worker()
    end = await worker.speak([*answer(LINES[0], finish=None), Failed("c", "t", 1, 2, error=error)])
    assert end == AudioFailed("c", "t", 1, error=error)
    assert worker.stream.told()[-1] == ("failed", 1, "provider_overloaded")
    assert worker.store.audio == {}


@pytest.mark.parametrize("text", ["", "\n \n", "```\ncode\n```", "---"])
async def test_a_text_without_anything_to_say_is_stored_as_nothing(text: str) -> None:
    worker = Worker()
    end = await worker.speak(answer(text))
    assert isinstance(end, Stored)
    assert (end.key, end.pieces, end.duration_ms, end.characters) == (None, 0, 0, 0)
    assert end.finish is Finish.COMPLETE
    assert worker.stream.told() == [("started", 1, MODEL), ("stored", 1, "complete")]


# ---------------------------------------------------------------- the store and the record


async def test_without_a_store_nothing_is_lost_counted_or_said_again() -> None:
    first = Worker(store=MemoryStore(down=1))
    with pytest.raises(StorageUnavailable):
        await first.speak(answer(TEXT))
    assert first.records.kept.executions == 0
    assert first.stream.told(Kind.STORED, Kind.FAILED) == []

    second = first.next(name="w2")
    end = await second.speak(answer(TEXT))
    assert second.said() == []
    assert isinstance(end, Stored)
    assert end.characters == sum(map(len, LINES))
    assert second.store.audio == {"c/t/2.wav": A + B + C}
    assert second.stream.told()[-2:] == [("started", 2, MODEL), ("stored", 2, "complete")]


async def test_a_store_that_is_long_away_never_gives_the_turn_up() -> None:
    worker = Worker(store=MemoryStore(down=20))
    for n in range(20):
        with pytest.raises(StorageUnavailable):
            await worker.next(name=f"w{n}").speak(answer(TEXT))
    assert isinstance(await worker.next(name="last").speak(answer(TEXT)), Stored)


async def test_a_store_that_was_away_for_an_hour_costs_the_voice() -> None:
    worker = Worker(store=MemoryStore(down=2))
    with pytest.raises(StorageUnavailable):
        await worker.speak(answer(TEXT))
    late = worker.next(name="w2")
    late.clock.now = "2026-01-01T01:00:10.000Z"
    with pytest.raises(GivenUp) as caught:
        await late.speak(answer(TEXT))
    assert caught.value.reason.code is Code.STORAGE_UNAVAILABLE
    assert worker.stream.told()[-1] == ("failed", 2, "storage_unavailable")
    assert worker.records.kept.failed is not None
    assert await worker.next(name="w3").speak(answer(TEXT)) is None


async def test_replaced_at_the_commit_takes_its_object_back_and_says_nothing() -> None:
    worker = Worker()

    def taken_over(saving: SpeechRecord) -> SpeechRecord | None:
        if saving.end is None:
            return None
        return replace(worker.records.kept, execution="w2", attempt=2)

    worker.records.meanwhile = taken_over
    with pytest.raises(Superseded):
        await worker.speak(answer(TEXT))
    assert worker.store.removed == ["c/t/1.wav"]
    assert worker.store.audio == {}
    assert worker.stream.told()[-1] == ("piece_done", 1, (2, 10 * len(LINES[2])))
    assert worker.records.kept.end is None


async def test_replaced_between_two_pieces_says_nothing_more() -> None:
    worker = Worker(ScriptedVoice(None, [ProviderBroken("cut")]))

    def taken_over(saving: SpeechRecord) -> SpeechRecord | None:
        return replace(saving, execution="w2") if saving.attempt == 2 else None

    worker.records.meanwhile = taken_over
    with pytest.raises(Superseded):
        await worker.speak(answer(TEXT))
    assert worker.stream.told()[-1] == ("piece", 1, (1, LINES[1]))
    assert worker.store.removed == []


async def test_a_fenced_worker_stops_at_its_next_event() -> None:
    worker = Worker()
    worker.audio.shut_after = 6
    with pytest.raises(Superseded):
        await worker.speak(answer(TEXT))
    assert worker.stream.told() == [("started", 1, MODEL), *whole(0), ("piece", 1, (1, LINES[1]))]
    assert worker.store.audio == {}


async def test_a_conflict_that_takes_nothing_away_is_overcome() -> None:
    worker = Worker()
    notes = [True, True]

    def noted(saving: SpeechRecord) -> SpeechRecord | None:
        """Somebody notes a cancel, too late for this worker to see."""
        if saving.execution != "w1" or not notes:
            return None
        notes.pop()
        return replace(worker.records.kept, version=1)

    worker.records.meanwhile = noted
    assert isinstance(await worker.speak(answer(TEXT)), Stored)
    assert notes == []
    assert worker.records.kept.executions == 1


async def test_a_voice_begun_five_times_is_given_up() -> None:
    worker = Worker(ScriptedVoice([A[:10], Crash()]))
    await crash(worker)
    for n in range(2, 6):
        await crash(worker.next([A[:10], Crash()], name=f"w{n}"))
    sixth = worker.next(name="w6")
    with pytest.raises(GivenUp) as caught:
        await sixth.speak(answer(TEXT))
    assert caught.value.reason.code is Code.INTERNAL
    assert sixth.said() == []
    assert worker.stream.told()[-1] == ("failed", 6, "internal")
    assert worker.records.kept.failed is not None
    assert await worker.next(name="w7").speak(answer(TEXT)) is None


async def test_who_is_replaced_after_its_commit_leaves_its_object() -> None:
    worker = Worker()

    async def replaced(_event: object) -> None:
        raise Superseded

    worker.audio.end = replaced  # type: ignore[assignment,method-assign]  # frozen between commit and end
    with pytest.raises(Superseded):
        await worker.speak(answer(TEXT))
    assert worker.store.removed == []
    end = await worker.next(name="w2").speak(answer(TEXT))
    assert isinstance(end, Stored)
    assert worker.store.audio == {"c/t/1.wav": A + B + C}


# ---------------------------------------------------------------- torn bursts


@pytest.mark.parametrize("torn_at", [[n] for n in range(3, 14)] + [[4, 8], [6, 9, 12]])
async def test_what_a_change_of_leader_tore_is_told_again_and_never_spoken_again(
    torn_at: list[int],
) -> None:
    worker = Worker()
    worker.audio.torn_at = list(torn_at)
    end = await worker.speak(answer(TEXT))
    assert not worker.audio.torn_at
    assert isinstance(end, Stored)
    assert (end.finish, end.pieces) == (Finish.COMPLETE, 3)
    assert end.attempt == 1 + len(torn_at)
    assert worker.said() == LINES
    assert worker.store.audio == {f"c/t/{end.attempt}.wav": A + B + C}
    assert worker.chunks_of_done_pieces() == A + B + C
    assert worker.stream.replay().intact == 3
    characters = sum(map(len, LINES))
    assert end.characters == characters


async def test_pieces_that_stand_in_order_are_not_told_again() -> None:
    worker = Worker()
    worker.audio.torn_at = [8]
    await worker.speak(answer(TEXT))
    assert [fact for _, attempt, fact in worker.stream.told(Kind.PIECE) if attempt == 2] == [
        (1, LINES[1]),
        (2, LINES[2]),
    ]


async def test_a_voice_that_is_torn_without_end_is_left_to_somebody_else() -> None:
    worker = Worker()
    worker.audio.torn_at = list(range(3, 200))
    with pytest.raises(Torn):
        await worker.speak(answer(TEXT))


async def test_what_an_earlier_worker_left_torn_is_told_again_and_not_spoken() -> None:
    first = Worker()
    first.audio.torn_at, first.audio.shut_after = [8], 8
    with pytest.raises(Superseded):
        await first.speak(answer(TEXT))
    second = first.next(name="w2")
    end = await second.speak(answer(TEXT))
    assert isinstance(end, Stored)
    assert end.finish is Finish.COMPLETE
    assert second.stream.replay().intact == 3
    assert second.chunks_of_done_pieces() == A + B + C
