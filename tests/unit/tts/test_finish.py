"""How a voice ends, whoever owns it by then. What comes before: test_speak.py."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from services.tts import record
from services.tts.audio.spool import Spool
from services.tts.finish import GivenUp, fail, give_up, store, tell_committed
from services.tts.job import Job, Rules
from services.tts.ports import Label, VoiceDependencies, VoiceParams
from services.tts.progress import Progress
from services.tts.record import SpeechRecord
from services.tts.text.segments import Piece
from shared.contract import AudioFailed, AudioFormat, Code, Finish, Kind, Stored
from shared.errors import Internal, StorageUnavailable, Superseded
from shared.nats.documents import Held
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
    from collections.abc import Iterator

SHOWN = "**Hello.** And more."
HELLO = audio_of("Hello.")
JOB = Job(
    conversation_id="c",
    turn_id="t",
    execution="w1",
    sequence=7,
    taken_at=datetime(2026, 1, 1, tzinfo=UTC),
    params=VoiceParams(model="m", voice="v"),
    format=AudioFormat.OPUS,
)
RULES = Rules(
    max_tries=3,
    patience=15.0,
    max_executions=5,
    fallback=None,
    recover_after=8,
    max_characters=50_000,
    code_blocks="skip",
    store_again=3.0,
    store_give_up=3600.0,
    store_refused=60.0,
)
# Taken up for the third time, by w1.
OWNED = SpeechRecord(attempt=3, executions=2, execution="w1", since="now")


@dataclass
class Ending:
    """A voice whose pieces are said."""

    stream: AudioStream = field(default_factory=AudioStream)
    records: MemoryRecords = field(default_factory=lambda: MemoryRecords(OWNED, 1))
    objects: MemoryStore = field(default_factory=MemoryStore)
    clock: NoTime = field(default_factory=NoTime)

    owned: SpeechRecord = OWNED

    def __post_init__(self) -> None:
        self.audio, self.spool = MemoryAudio(self.stream), Spool()
        self.progress = Progress(lambda _model, characters: characters / 1000)
        self.deps = VoiceDependencies(
            records=self.records,
            requests=MemoryRequests(),
            publish=self.audio,
            voice=ScriptedVoice(),
            recording=self.spool,
            store=self.objects,
            clock=self.clock,
            token=CancelToken(),
            confirm=self._confirm,
            price=lambda _model, _characters: None,
            report=VoiceReported(),
        )

    async def _confirm(self) -> None: ...

    def say_hello(self) -> None:
        said = self.progress.begin(Piece(0, "Hello.", 0, 10))
        self.progress.count("m", 6)
        said.add(HELLO)
        self.spool.append(HELLO)
        self.progress.held = said
        self.progress.release()

    async def store(self, finish: Finish = Finish.COMPLETE, whole: str | None = None) -> Stored:
        end = await self.end(finish, whole)
        assert isinstance(end, Stored)
        return end

    async def end(
        self, finish: Finish = Finish.COMPLETE, whole: str | None = None
    ) -> Stored | AudioFailed:
        label = Label(
            conversation_id="c",
            turn_id="t",
            attempt=3,
            model="m",
            voice="v",
            text=SHOWN[:10],
            format=AudioFormat.OPUS,
        )
        held = Held(self.owned, 1)
        text = ScriptedText((), whole)
        return await store(
            JOB, RULES, label, self.progress, finish, held, text=text, deps=self.deps
        )


@pytest.fixture
def ending() -> Iterator[Ending]:
    found = Ending()
    found.say_hello()
    yield found
    found.spool.close()


async def test_what_was_said_is_stored_committed_and_told(ending: Ending) -> None:
    end = await ending.store()
    assert ending.objects.audio == {"c/t/3.opus": HELLO}
    assert "Hello." in ending.objects.captions["c/t/3.opus"]
    assert (end.key, end.finish, end.pieces, end.characters) == (
        "c/t/3.opus",
        Finish.COMPLETE,
        1,
        6,
    )
    assert end.cost_usd == pytest.approx(0.006)
    assert ending.records.kept.stored == end
    assert ending.stream.told() == [("stored", 3, "complete")]


async def test_objects_of_workers_that_died_before_their_commit_are_taken_back(
    ending: Ending,
) -> None:
    await ending.store()
    assert ending.objects.removed == ["c/t/1.opus", "c/t/2.opus"]


async def test_where_nothing_was_said_nothing_is_stored() -> None:
    silent = Ending()
    end = await silent.store()
    assert (end.key, end.url, end.bytes, end.content_type) == (None, None, 0, "audio/ogg")
    assert silent.objects.audio == {}
    assert silent.stream.told() == [("stored", 3, "complete")]


@pytest.mark.parametrize(
    ("finish", "whole", "text"),
    [
        (Finish.COMPLETE, SHOWN, SHOWN[:10]),
        (Finish.CANCELLED, SHOWN, SHOWN),
        (Finish.CANCELLED, None, SHOWN[:10]),
    ],
)
async def test_a_stopped_voice_is_labelled_with_all_of_the_text_that_was_shown(
    ending: Ending, finish: Finish, whole: str | None, text: str
) -> None:
    assert (await ending.store(finish, whole)).finish is finish
    assert ending.objects.labels[0].text == text


async def test_while_the_store_is_away_the_execution_does_not_count(ending: Ending) -> None:
    ending.objects.down = 1
    with pytest.raises(StorageUnavailable):
        await ending.store()
    assert ending.records.kept == replace(OWNED, executions=1, away_since=ending.clock.now)
    assert ending.stream.told() == []


@pytest.mark.parametrize(
    ("refuses", "now", "lost"),
    [
        (False, "2026-01-01T00:59:59Z", False),
        (False, "2026-01-01T01:00:00Z", True),
        (True, "2026-01-01T00:00:59Z", False),
        (True, "2026-01-01T00:01:00Z", True),
    ],
)
async def test_a_store_costs_the_voice_when_it_is_away_for_an_hour_or_refuses_for_a_minute(
    ending: Ending, *, refuses: bool, now: str, lost: bool
) -> None:
    since = "2026-01-01T00:00:00Z"
    ending.owned = replace(OWNED, away_since=since, refused_since=since if refuses else "")
    ending.records.kept = ending.owned
    ending.objects.down, ending.objects.refuses = 1, refuses
    ending.clock.now = now
    with pytest.raises(GivenUp if lost else StorageUnavailable) as caught:
        await ending.store()
    assert ending.stream.told() == ([("failed", 3, "storage_unavailable")] if lost else [])
    if lost:
        assert isinstance(caught.value, GivenUp)
        assert caught.value.reason.code is Code.STORAGE_UNAVAILABLE


async def test_a_store_that_refuses_after_it_was_away_is_given_its_minute(ending: Ending) -> None:
    ending.owned = replace(OWNED, away_since="2026-01-01T00:00:00Z")
    ending.records.kept = ending.owned
    ending.objects.down, ending.objects.refuses = 1, True
    ending.clock.now = "2026-01-01T00:50:00Z"
    with pytest.raises(StorageUnavailable):
        await ending.store()
    assert ending.records.kept.refused_since == ending.clock.now


async def test_a_cancel_that_is_noted_meanwhile_does_not_leave_the_voice_open(
    ending: Ending,
) -> None:
    noted = [record.cancelled(OWNED)]
    ending.records.meanwhile = lambda _: noted.pop() if noted else None
    end = await ending.store()
    assert ending.records.kept == replace(OWNED, cancelled=True, stored=end)


async def test_where_the_record_has_no_room_the_voice_fails_and_leaves_no_object(
    ending: Ending,
) -> None:
    ending.records.full = True
    end = await ending.end()
    assert isinstance(end, AudioFailed)
    assert (end.error.code, end.error.retryable) == (Code.STORAGE_UNAVAILABLE, True)
    assert ending.stream.told() == [("failed", 3, "storage_unavailable")]
    assert ending.objects.audio == {}


async def test_a_store_that_is_away_while_the_record_has_no_room_costs_the_voice(
    ending: Ending,
) -> None:
    ending.objects.down, ending.records.full = 1, True
    with pytest.raises(GivenUp):
        await ending.store()
    assert ending.stream.told() == [("failed", 3, "storage_unavailable")]


async def test_who_is_replaced_before_its_commit_takes_its_object_back(ending: Ending) -> None:
    ending.records.meanwhile = lambda _: replace(OWNED, execution="w2")
    with pytest.raises(Superseded):
        await ending.store()
    assert ending.objects.audio == {}
    assert ending.stream.told() == []


async def test_who_is_replaced_after_its_commit_leaves_its_object(ending: Ending) -> None:
    ending.audio.shut_after = 0

    async def drained() -> None:
        """The fence closes only after this."""

    ending.audio.drained = drained  # type: ignore[method-assign]
    with pytest.raises(Superseded):
        await ending.store()
    assert ending.objects.audio == {"c/t/3.opus": HELLO}
    assert ending.records.kept.stored is not None


async def test_a_voice_fails_in_the_attempt_that_it_was_in(ending: Ending) -> None:
    error = Internal("a bug").as_error()
    end = await fail(JOB, error, Held(OWNED, 1), ending.deps)
    assert end == AudioFailed("c", "t", 3, error=error)
    assert ending.records.kept.failed == end
    assert ending.stream.told() == [("failed", 3, "internal")]


async def test_what_is_given_up_has_been_told_first(ending: Ending) -> None:
    reason = Internal("begun too often")
    with pytest.raises(GivenUp) as caught:
        await give_up(JOB, reason, Held(OWNED, 1), ending.deps)
    assert caught.value.reason is reason
    assert (caught.value.end.attempt, caught.value.end.turn_id) == (3, "t")
    assert ending.stream.told(Kind.FAILED) == [("failed", 3, "internal")]


async def test_an_end_that_nobody_told_is_told_once(ending: Ending) -> None:
    end = await ending.store()
    ending.stream.messages.clear()
    kept = ending.records.kept
    assert await tell_committed(kept, ending.audio) == end
    assert await tell_committed(kept, ending.audio) is None
    assert ending.stream.told() == [("stored", 3, "complete")]


async def test_where_there_is_no_end_there_is_nothing_to_tell(ending: Ending) -> None:
    assert await tell_committed(OWNED, ending.audio) is None
    assert ending.stream.told() == []
