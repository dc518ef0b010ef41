"""Speaks what is queued in the contexts of one socket, at its pace and with what goes wrong."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from local.together.context import Item, Job, SpeechContext
from local.together.faults import Fault, FaultKind
from local.together.http import error_body, for_ever
from local.together.record import Commit
from local.together.session import delta_bytes, sentences, wav_header

if TYPE_CHECKING:
    from local.together.provider import Provider
    from local.together.script import Speech
    from local.together.synthesis import Synthesis
    from local.together.wire import Wire

_YIELD_EVERY = 8  # deltas, where none is waited for, so that other contexts get their turn


class Speaker:
    """One for each socket."""

    def __init__(self, provider: Provider, synthesis: Synthesis, wire: Wire) -> None:
        self._provider = provider
        self._synthesis = synthesis
        self._wire = wire
        self._items = 0
        self._one_at_a_time = asyncio.Lock()
        self._clock = asyncio.get_running_loop().time

    @property
    def _settings(self) -> Speech:
        return self._provider.speech

    # ------------------------------------------------------------ what is to be said

    def queue(self, context: SpeechContext, text: str, because: str) -> None:
        """Spoken when what was queued before it in the same context is out."""
        session, faults = context.session, self._provider.faults.take("speech", text)
        commit = Commit(
            id=self._provider.record.number(),
            socket=self._wire.call.id,
            context=context.name,
            at=time.monotonic(),
            because=because,
            text=text,
            spoken=session.pronounced(text),
            model=session.model,
            voice=session.voice,
            language=session.language,
            speed=session.speed,
            faults=[str(kind) for kind in faults],
        )
        self._count(context, commit)
        ready_at = self._clock() + self._settings.first_audio_ms / 1000
        context.queue.append(Job(text, session, commit, faults, ready_at))
        if context.task is None or context.task.done():
            context.task = asyncio.create_task(self._speak(context))

    def _count(self, context: SpeechContext, commit: Commit) -> None:
        record = self._provider.record
        record.commits.append(commit)
        record.totals.commits += 1
        record.totals.characters_committed += len(commit.text)
        context.record.characters_committed += len(commit.text)

    async def nothing(self, context: SpeechContext) -> None:
        """An item without a word."""
        await self._wire.done(context, self._new_item())

    async def late(self, context: SpeechContext, job: Job | None) -> None:
        """Audio that a cancelled context has no right to send any more."""
        fault = job.faults.get(FaultKind.SPEECH_LATE_AUDIO) if job else None
        count = max(self._settings.late_deltas, fault.count if fault else 0)
        if not count:
            return
        item = (job.item if job else None) or Item("", 0.0, 0, deque(), self._new_item())
        silence = bytes(self._delta_bytes(context))
        for _ in range(count):
            raw = item.frames.popleft() if item.frames else silence
            await self._wire.delta(context, item, raw)
        await self._wire.done(context, item.id)

    def _delta_bytes(self, of: SpeechContext | Job) -> int:
        return delta_bytes(of.session, self._settings.delta_ms, odd=self._settings.odd_splits)

    # ------------------------------------------------------------ saying it

    async def _speak(self, context: SpeechContext) -> None:
        with contextlib.suppress(ConnectionError):
            while context.queue:
                context.job = context.queue.popleft()
                try:
                    async with contextlib.AsyncExitStack() as stack:
                        if not self._settings.parallel:
                            await stack.enter_async_context(self._one_at_a_time)
                        await self._say(context, context.job)
                finally:
                    self._spoken(context, context.job)
                    context.job = None

    def _spoken(self, context: SpeechContext, job: Job) -> None:
        """Counts what went out, whatever became of the rest."""
        job.commit.samples = sum(item.samples for item in job.items)
        context.record.samples += job.commit.samples
        self._provider.record.totals.seconds_of_audio += job.commit.samples / job.session.rate

    async def _say(self, context: SpeechContext, job: Job) -> None:
        if self._settings.late_settings:
            job.session = context.session
            job.commit.voice, job.commit.speed = job.session.voice, job.session.speed
            job.commit.spoken = job.session.pronounced(job.text)
        job.items = [await self._item(job, text) for text in self._parts(job)]
        total, index = sum(len(item.frames) for item in job.items), 0
        # What is queued behind other audio begins when that is out; nobody catches up.
        context.free_at = max(context.free_at, job.ready_at, self._clock())
        if not total:
            await asyncio.sleep(max(context.free_at - self._clock(), 0))
        for item in job.items:
            job.item, item.id = item, self._item_id(context)
            while item.frames:
                if not await self._goes_on(context, job, index, total):
                    return
                await self._paced(context, job, item, index)
                await self._send(context, job, item, index)
                job.commit.first_audio = job.commit.first_audio or time.monotonic()
                index += 1
            last = item is job.items[-1]
            if last and not await self._goes_on(context, job, total, total):
                return
            await self._item_ended(context, job, item, last=last)
        job.settle("complete")

    async def _send(self, context: SpeechContext, job: Job, item: Item, index: int) -> None:
        frame = item.frames.popleft()
        if self._settings.wire_times:
            job.commit.wire.append((time.monotonic(), len(frame)))
        await self._wire.delta(context, item, frame, _padding(job, index))

    async def _item(self, job: Job, text: str) -> Item:
        """What is to be sent for a text, with a WAV header in front where there is one."""
        session, settings = job.session, self._settings
        if not text or FaultKind.SPEECH_NO_AUDIO in job.faults:
            return Item(text, 0.0, 0, deque())
        pcm = await self._synthesis.pcm(text, session, settings)
        header, asked = b"", session.response_format in {None, "wav"}
        if settings.wav_header == "always" or (settings.wav_header == "auto" and asked):
            header = wav_header(session.rate)
        sound, size = header + pcm, self._delta_bytes(job)
        frames = deque(sound[at : at + size] for at in range(0, len(sound), size))
        return Item(text, len(pcm) / (2 * session.rate), len(header), frames)

    def _parts(self, job: Job) -> list[str]:
        """The texts of the items that a commit becomes."""
        text = job.commit.spoken
        if self._settings.done == "item":
            return sentences(text)
        if self._settings.done == "two_items":
            middle = text.find(" ", len(text) // 2) + 1 or len(text) // 2
            return [text[:middle], text[middle:]]
        return [text]

    def _new_item(self) -> str:
        self._items += 1
        return f"tts_{self._items}"

    def _item_id(self, context: SpeechContext) -> str:
        if self._settings.done not in {"context", "context_once"}:
            return self._new_item()
        context.item = context.item or self._new_item()
        return context.item

    async def _paced(self, context: SpeechContext, job: Job, item: Item, index: int) -> None:
        """Waits until this delta is due; a delta that is late moves none that follow."""
        factor, slow = self._settings.realtime_factor, job.faults.get(FaultKind.SPEECH_SLOW)
        if slow:
            context.free_at = max(context.free_at, self._clock()) + slow.seconds
        wait = context.free_at - self._clock()
        if wait > 0:
            await asyncio.sleep(wait)
        elif index % _YIELD_EVERY == 0:
            await asyncio.sleep(0)
        if factor and not slow:
            context.free_at += len(item.frames[0]) / (2 * job.session.rate) / factor

    # ------------------------------------------------------------ what goes wrong with it

    async def _goes_on(self, context: SpeechContext, job: Job, index: int, total: int) -> bool:
        """Lets go wrong what has to before delta `index`; false where the commit is over."""
        due = {kind: f for kind, f in job.faults.items() if min(f.after, total) == index}
        await self._odd_events(context, job, due)
        if fault := due.get(FaultKind.SPEECH_FAILED):
            await self._fail(context, job, fault)
            return False
        if FaultKind.SPEECH_ABORT in due:
            self._wire.ended("aborted")
            job.settle("lost")
            self._wire.reset()
            return False
        if fault := due.get(FaultKind.SPEECH_CLOSE):
            job.settle("lost")
            await self._wire.close(fault.close_code, "closed")
            return False
        if FaultKind.SPEECH_DEAD in due:
            self._wire.die()
            await for_ever()
        if FaultKind.SPEECH_STALL in due:
            await for_ever()
        return True

    async def _odd_events(
        self, context: SpeechContext, job: Job, due: dict[FaultKind, Fault]
    ) -> None:
        """What a client has to read over: the voice goes on."""
        if FaultKind.SPEECH_UNKNOWN in job.faults:
            await self._wire.unknown(context)
        if FaultKind.SPEECH_GARBAGE in due:
            await self._wire.text('{"type":"conversation.item.audio_output.delta","delta":"AAA')
        if fault := due.get(FaultKind.SPEECH_ERROR):
            said = fault.message or "Something went wrong, and the voice goes on."
            await self._wire.complain(said, fault.code or "internal_error", context)

    async def _fail(self, context: SpeechContext, job: Job, fault: Fault) -> None:
        job.settle("failed")
        code, said = fault.code or "internal_error", fault.message or "The voice failed."
        error = error_body(fault.status, code, said)["error"]
        await self._wire.fail({"type": "conversation.item.tts.failed", "error": error}, context)
        if fault.close:
            await self._wire.close(fault.close_code, "failed")

    # ------------------------------------------------------------ the end of an item

    async def _item_ended(
        self, context: SpeechContext, job: Job, item: Item, *, last: bool
    ) -> None:
        if job.session.alignment == "word":
            await self._timestamps(context, item)
        context.seconds += item.seconds
        if not self._done_is_due(context, last=last):
            return
        if self._settings.done == "context":
            context.item = ""  # what comes next is another one
        if FaultKind.SPEECH_NO_DONE in job.faults:
            return
        context.done_given = True
        times = 1 + self._settings.extra_dones
        for _ in range(times * (2 if FaultKind.SPEECH_TWO_DONES in job.faults else 1)):
            job.commit.dones += 1
            await self._wire.done(context, item.id)

    def _done_is_due(self, context: SpeechContext, *, last: bool) -> bool:
        mode = self._settings.done
        if mode not in {"context", "context_once"}:
            return mode != "none"
        nothing_left = last and not context.queue
        return nothing_left and not (mode == "context_once" and context.done_given)

    async def _timestamps(self, context: SpeechContext, item: Item) -> None:
        """Words get the share of the item's time that their characters are of its text."""
        base = context.seconds if self._settings.timestamps == "context" else 0.0
        found = list(re.finditer(r"\S+", item.text))
        share = item.seconds / max(len(item.text), 1)
        event: dict[str, Any] = {
            "type": "conversation.item.word_timestamps",
            "item_id": item.id,
            "words": [word.group() for word in found],
            "start_seconds": [round(base + word.start() * share, 4) for word in found],
            "end_seconds": [round(base + word.end() * share, 4) for word in found],
        }
        await self._wire.send(event, context)


def _padding(job: Job, index: int) -> int:
    """Bytes that make the frame of this delta a big one."""
    fault = job.faults.get(FaultKind.SPEECH_BIG_FRAME)
    return fault.bytes if fault and fault.after == index else 0
