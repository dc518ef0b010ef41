"""One message of the work queue, to its ack or its hand-back."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from services.tts import record
from services.tts.finish import GivenUp
from services.tts.given_text import GivenText
from services.tts.handle import Dependencies, KnownVoices, handle, hopeless, note_cancel
from services.tts.held_voices import HeldVoices
from services.tts.job import Defaults, Job, Rules
from services.tts.record import SpeechRecord
from shared.contract import (
    Alignment,
    AudioFailed,
    AudioFormat,
    CancelRequest,
    Code,
    Error,
    Finish,
    Stored,
)
from shared.errors import (
    Failure,
    Internal,
    NatsError,
    StorageUnavailable,
    Superseded,
    Unreadable,
)
from shared.process.cancel import CancelToken
from tests.fakes_tts import MemoryRecords, MemoryRequests, NoTime, Queued, ScriptedText

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from services.tts.ports import TurnText
    from shared.refuse import Message

STORED = Stored(
    "c",
    "t",
    1,
    bucket="b",
    key="c/t/1.wav",
    url=None,
    content_type="audio/wav",
    bytes=44,
    sha256="0" * 64,
    duration_ms=0,
    captions_key=None,
    pieces=1,
    characters=3,
    finish=Finish.COMPLETE,
)
TOLD = AudioFailed("c", "t", 1, error=Error(Code.PROVIDER_AUTH, "refused", retryable=False))


class Office:
    """All that a request needs, but the voice itself; keeps what happens, in order."""

    def __init__(self) -> None:
        self.happened: list[tuple[object, ...]] = []
        self.records: dict[tuple[str, str], MemoryRecords] = {}
        self.free = asyncio.Semaphore(1)
        self.running = 0
        self.away = False
        self.held = HeldVoices(CancelToken)
        self.clock = NoTime()
        self.deps = Dependencies(
            rules=Rules(
                max_tries=3,
                patience=15.0,
                max_executions=5,
                fallback=None,
                recover_after=8,
                max_characters=100,
                code_blocks="skip",
                store_again=3.0,
                store_give_up=3600.0,
                store_refused=60.0,
            ),
            defaults=Defaults(
                model="m",
                voice="v",
                language=None,
                speed=1.0,
                alignment=Alignment.NONE,
                pronunciations={},
                max_partial_length=250,
                format=AudioFormat.WAV,
            ),
            slots=self,
            held=self.held,
            turns=KnownVoices(self.records_of, self),
            dead_letters=self,
            follow=self.follow,
            new_execution=lambda: "w1",
            clock=self.clock,
            report=self,
            trace_refused=lambda *_: None,
        )

    def records_of(self, conversation_id: str, turn_id: str) -> MemoryRecords:
        key = (conversation_id, turn_id)
        return self.records.setdefault(key, MemoryRecords(away=self.away))

    def follow(self, conversation_id: str, turn_id: str, start: int) -> TurnText:
        self.happened.append(("followed", conversation_id, turn_id, start))
        return ScriptedText()

    @asynccontextmanager
    async def slot(self, message: Message) -> AsyncIterator[None]:
        async with self.free:
            self.running += 1
            yield
            self.running -= 1

    async def failed(self, message: Message, event: AudioFailed) -> None:
        self.happened.append(("failed", event.conversation_id, event.turn_id, event.error.code))

    async def add(self, message: Message, error: Failure) -> None:
        if self.away:
            raise NatsError("away")
        self.happened.append(("dead letter", message.data, error.code))

    def refused(self, error: Failure) -> None:
        self.happened.append(("refused", error.code))

    def handed_back(self, error: Failure) -> None:
        self.happened.append(("handed back", error.code))

    def ended(self, end: Stored | AudioFailed, seconds: float) -> None:
        self.happened.append(("ended", end, seconds))


@dataclass
class Speech:
    """Speaking: ends as it is told to, after so many seconds of the office's clock."""

    office: Office
    end: Stored | AudioFailed | Exception | None = None
    seconds: float = 0.0
    jobs: list[Job] = field(default_factory=list)
    texts: list[TurnText] = field(default_factory=list)
    tokens: list[CancelToken] = field(default_factory=list)

    async def __call__(
        self, job: Job, text: TurnText, token: CancelToken
    ) -> Stored | AudioFailed | None:
        assert self.office.running == 1
        self.jobs.append(job)
        self.texts.append(text)
        self.tokens.append(token)
        await self.office.clock.pause(self.seconds)
        if isinstance(self.end, Exception):
            raise self.end
        return self.end


async def handled(
    office: Office,
    end: Stored | AudioFailed | Exception | None = None,
    body: object = None,
    **changes: object,
) -> tuple[Queued, Speech]:
    message, speech = Queued(**changes), Speech(office, end, seconds=2.0)  # type: ignore[arg-type]
    if body is not None:
        message.data = json.dumps(body).encode()
    await handle(message, speech, office.deps)
    return message, speech


# ---------------------------------------------------------------- what is spoken


@pytest.mark.parametrize("end", [STORED, TOLD])
async def test_a_voice_that_has_ended_is_acked_and_reported(end: Stored | AudioFailed) -> None:
    office = Office()
    message, speech = await handled(office, end)
    assert message.settled == ["ack"]
    assert office.happened == [("followed", "c", "t", 1), ("ended", end, 2.0)]
    assert [(job.turn_id, job.execution) for job in speech.jobs] == [("t", "w1")]
    assert speech.jobs[0].taken_at == message.taken_at


async def test_a_turn_is_followed_from_where_its_request_says() -> None:
    office = Office()
    await handled(office, STORED, {"turn_id": "t", "start_sequence": 41})
    assert office.happened[0] == ("followed", "c", "t", 41)


async def test_a_text_that_came_with_its_request_is_not_followed() -> None:
    office = Office()
    _, speech = await handled(office, STORED, {"turn_id": "t", "text": "Hello."})
    assert speech.texts == [GivenText("c", "t", "Hello.")]
    assert office.happened == [("ended", STORED, 2.0)]


async def test_a_voice_that_had_ended_before_is_acked_and_counted_once() -> None:
    office = Office()
    message, _ = await handled(office, None)
    assert message.settled == ["ack"]
    assert [each[0] for each in office.happened] == ["followed"]


async def test_a_voice_waits_for_a_slot_and_gives_it_back() -> None:
    office = Office()
    await office.free.acquire()
    message, speech = Queued(), Speech(office, STORED)
    waiting = asyncio.create_task(handle(message, speech, office.deps))
    await asyncio.sleep(0)
    assert speech.jobs == []
    office.free.release()
    async with asyncio.timeout(30):
        await waiting
    assert message.settled == ["ack"]
    assert not office.free.locked()


async def test_a_voice_can_be_stopped_for_as_long_as_it_is_spoken() -> None:
    office = Office()
    begun, over = asyncio.Event(), asyncio.Event()

    async def speaking(job: Job, text: TurnText, token: CancelToken) -> Stored:
        begun.set()
        await over.wait()
        assert token.cancelled
        assert token.heard_ms == 250
        return STORED

    message = Queued()
    task = asyncio.create_task(handle(message, speaking, office.deps))
    async with asyncio.timeout(30):
        await begun.wait()
        assert office.held.running == 1
        office.held.cancel(CancelRequest("c", heard_ms=250))
        over.set()
        await task
    assert message.settled == ["ack"]
    assert office.held.running == 0


# ---------------------------------------------------------------- what is not


async def test_what_cannot_be_understood_ends_as_failed_and_as_a_dead_letter() -> None:
    office = Office()
    message, speech = await handled(office, body={"turn_id": "t", "text": " "})
    assert office.happened == [
        ("failed", "c", "t", Code.INVALID_REQUEST),
        ("dead letter", message.data, Code.INVALID_REQUEST),
        ("refused", Code.INVALID_REQUEST),
    ]
    assert message.settled == ["ack"]
    assert speech.jobs == []


async def test_a_text_beyond_the_limit_is_spoken_as_far_as_it_goes() -> None:
    office = Office()
    message, speech = await handled(office, body={"turn_id": "t", "text": "x" * 101})
    assert [job.turn_id for job in speech.jobs] == ["t"]
    assert message.settled == ["ack"]


async def test_the_job_knows_what_may_be_misspelled_and_whether_it_came_before() -> None:
    office = Office()
    _, speech = await handled(office, body={"turn_id": "t", "text": "Hi", "sppech": {}})
    assert speech.jobs[0].warnings == [
        "`sppech` is not known and was ignored; did you mean `speech`?"
    ]
    assert not speech.jobs[0].redelivered


async def test_a_bad_copy_of_a_good_request_does_not_end_its_voice() -> None:
    office = Office()
    await office.records_of("c", "t").amend(
        lambda r: record.begin(r, execution="w", since="", request=7)
    )
    message, _ = await handled(office, body={"turn_id": "t", "speech": {"speed": 99}})
    assert [each[0] for each in office.happened] == ["dead letter", "refused"]
    assert message.settled == ["ack"]


async def test_where_the_conversation_is_unknown_there_is_nobody_to_tell() -> None:
    office = Office()
    message, _ = await handled(office, subject="tts.request.a b")
    assert [each[0] for each in office.happened] == ["dead letter", "refused"]
    assert message.settled == ["ack"]


async def test_a_refusal_takes_no_slot() -> None:
    office = Office()
    await office.free.acquire()
    message, _ = await handled(office, data=b"{")
    assert message.settled == ["ack"]


@pytest.mark.parametrize("reason", [Internal("begun too often"), StorageUnavailable("away")])
async def test_a_voice_that_is_given_up_becomes_a_dead_letter(reason: Failure) -> None:
    office = Office()
    message, _ = await handled(office, GivenUp(reason, TOLD))
    assert office.happened[1:] == [
        ("dead letter", message.data, reason.code),
        ("ended", TOLD, 2.0),
    ]
    assert message.settled == ["ack"]


async def test_while_the_store_is_away_the_message_is_handed_back_for_later() -> None:
    office = Office()
    message, _ = await handled(office, StorageUnavailable("HTTP 503"))
    assert message.settled == ["nak 3"]
    assert office.happened[1:] == [("handed back", Code.STORAGE_UNAVAILABLE)]


@pytest.mark.parametrize(("deliveries", "pause"), [(1, "3"), (2, "6"), (3, "12"), (9, "15")])
async def test_the_longer_the_store_is_away_the_longer_are_the_pauses(
    deliveries: int, pause: str
) -> None:
    message, _ = await handled(Office(), StorageUnavailable("away"), deliveries=deliveries)
    assert message.settled == [f"nak {pause}"]


async def test_what_fails_however_often_it_is_delivered_is_told_and_kept_among_the_dead() -> None:
    office, message = Office(), Queued()
    await hopeless(message, Internal("failed, and was delivered 25 times"), office.deps)
    *told, (ended, end, seconds) = office.happened
    assert told == [
        ("failed", "c", "t", Code.INTERNAL),
        ("dead letter", message.data, Code.INTERNAL),
    ]
    assert (ended, seconds) == ("ended", 0.0)
    assert isinstance(end, AudioFailed)
    assert (end.turn_id, end.error.code) == ("t", Code.INTERNAL)
    assert message.settled == ["ack"]


@pytest.mark.parametrize("error", [Superseded(), NatsError("away"), ValueError("a bug")])
async def test_what_else_goes_wrong_leaves_the_message_to_be_delivered_again(
    error: Exception,
) -> None:
    office = Office()
    message = Queued()
    with pytest.raises(type(error)):
        await handle(message, Speech(office, error), office.deps)
    assert message.settled == []
    assert office.held.running == 0
    assert not office.free.locked()
    assert office.happened == [("followed", "c", "t", 1)]


@pytest.mark.parametrize(
    "message", [Queued(data=b"{"), Queued(data=b"{", subject="tts.request.a b")]
)
async def test_while_nats_is_away_nothing_is_refused_for_good(message: Queued) -> None:
    office = Office()
    office.away = True
    with pytest.raises(NatsError):
        await handle(message, Speech(office), office.deps)
    assert message.settled == []


async def test_while_nats_is_away_nothing_is_given_up_for_good() -> None:
    office = Office()
    office.away = True
    message = Queued()
    with pytest.raises(NatsError):
        await handle(message, Speech(office, GivenUp(Internal("x"), TOLD)), office.deps)
    assert message.settled == []


# ---------------------------------------------------------------- a cancel that nobody heard


async def cancelled(office: Office, turn_id: str | None = None, *, queued: int = 7) -> None:
    requests = MemoryRequests({queued} - {0})
    await note_cancel(CancelRequest("c", turn_id), office.records_of, lambda *_: requests)


async def test_a_cancel_is_noted_for_whoever_takes_the_voice_up_next() -> None:
    office = Office()
    records = office.records_of("c", "t")
    await records.amend(lambda r: record.begin(r, execution="w", since="", request=7))
    await cancelled(office, "t")
    assert records.kept.cancelled


async def test_a_cancel_is_noted_of_a_voice_that_nobody_has_taken_up() -> None:
    office = Office()
    await cancelled(office, "t")
    assert office.records_of("c", "t").kept == SpeechRecord(cancelled=True)


async def test_a_cancel_is_noted_although_somebody_else_is_faster() -> None:
    office = Office()
    records = office.records_of("c", "t")
    await records.amend(lambda r: record.begin(r, execution="w", since="", request=7))
    others = [record.next_attempt(records.kept, "w")]
    records.meanwhile = lambda _: others.pop() if others else None
    await cancelled(office, "t")
    assert (records.kept.attempt, records.kept.cancelled) == (2, True)


async def test_a_cancel_without_a_turn_or_of_one_that_nobody_asked_for_notes_nothing() -> None:
    office = Office()
    await cancelled(office)
    await cancelled(office, "t", queued=0)
    assert [each.kept for each in office.records.values()] == []


async def test_a_voice_that_waits_for_a_slot_is_stopped_without_one() -> None:
    office = Office()
    await office.free.acquire()
    stopped: list[bool] = []

    async def speaking(job: Job, text: TurnText, token: CancelToken) -> Stored:
        assert (job.turn_id, text) == ("t", GivenText("c", "t", "Hi."))
        stopped.append(token.cancelled)
        return STORED

    message = Queued(data=b'{"turn_id": "t", "text": "Hi."}')
    task = asyncio.create_task(handle(message, speaking, office.deps))
    await asyncio.sleep(0)
    office.held.cancel(CancelRequest("c", "t"))
    async with asyncio.timeout(30):
        await task
    assert stopped == [True]
    assert message.settled == ["ack"]


async def test_a_repeat_is_acked_and_ends_nothing() -> None:
    office = Office()
    message, _ = await handled(office, record.Repeated(6))
    assert message.settled == ["ack"]
    assert [each[0] for each in office.happened] == ["followed"]


async def test_a_voice_whose_record_cannot_be_read_fails_and_is_a_dead_letter() -> None:
    office = Office()
    message, _ = await handled(office, Unreadable("a speech record"))
    assert message.settled == ["ack"]
    assert [each[0] for each in office.happened] == [
        *("followed", "failed", "dead letter", "refused")
    ]
    assert office.happened[1] == ("failed", "c", "t", Code.INTERNAL)
