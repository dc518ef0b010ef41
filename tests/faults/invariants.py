"""What must hold after anything: checked from the streams, the objects and the emulator's record.

Nothing here asks a service how it went, but for the history, which is what users ask for.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import itertools
import json
import wave
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from minio import Minio

from local.voices import spoken_texts

if TYPE_CHECKING:
    from tests.system import System

BUCKET = "parley-audio"
CONSUMERS = {"CHAT_REQUESTS": {"chat-intake", "chat-workers"}, "TTS_REQUESTS": {"tts-workers"}}
ENDS = {"done", "failed"}
VOICE_ENDS = {"stored", "failed"}
MAX_LEFTOVERS = 2


@dataclass(slots=True)
class Asked:
    """One request as it was published and acked."""

    turn_id: str
    conversation_id: str
    content: str
    voice: bool = True


@dataclass(slots=True)
class Events:
    """All that the streams hold of one turn, in their order."""

    deltas: list[dict[str, Any]] = field(default_factory=list)
    audio: list[tuple[dict[str, str], bytes]] = field(default_factory=list)


def letters(text: str) -> str:
    return "".join(c for c in text.lower() if c.isalnum())


async def collect(system: System) -> tuple[dict[str, Events], set[str]]:
    """Events by turn, and the turns among the dead letters."""
    turns: dict[str, Events] = {}
    for message in await system.stored("CHAT_DELTAS"):
        event = json.loads(message.data)
        turns.setdefault(event["turn_id"], Events()).deltas.append(event)
    for message in await system.stored("TTS_AUDIO"):
        turn_id = message.headers["Parley-Turn"]
        turns.setdefault(turn_id, Events()).audio.append((message.headers, message.data))
    dead = {(m.headers or {}).get("Parley-Turn", "") for m in await system.stored("DEAD_LETTERS")}
    return turns, dead


async def check(system: System, asked: list[Asked]) -> None:
    """Raises AssertionError, whose text names the invariant and the turn."""
    turns, dead = await collect(system)
    histories = {c: await system.history(c) for c in {a.conversation_id for a in asked}}
    store = Minio(system.s3.endpoint, system.s3.access_key, system.s3.secret_key, secure=False)
    for request in asked:
        events = turns.get(request.turn_id, Events())
        try:
            _ends_once(request, events, dead)
            _text_is_whole(events)
            _nothing_follows(events)
            if request.voice:
                await asyncio.to_thread(_voice_is_whole, request, events, store)
            _paid_once(system, request, events)
            check_told_once(events)
        except AssertionError as exc:
            raise AssertionError(f"{request.turn_id}: {exc}\n{_story(events)}") from exc
    for conversation_id, history in histories.items():
        own = [a for a in asked if a.conversation_id == conversation_id]
        _history_is_right(own, turns, history)
        _prompts_hold_outcomes(system, own, turns)
    await _nothing_is_left(system)
    await asyncio.to_thread(_no_foreign_objects, store, turns)


def _story(events: Events) -> str:
    deltas = [f"{d['type']}@{d['attempt']}.{d['seq']}" for d in events.deltas]
    audio = [f"{h['Parley-Type']}@{h['Parley-Attempt']}" for h, _ in events.audio]
    return f"deltas: {' '.join(deltas)}\naudio: {' '.join(audio)}"


def _ends_once(request: Asked, events: Events, dead: set[str]) -> None:
    ends = [d for d in events.deltas if d["type"] in ENDS]
    assert len(ends) == 1 or (not ends and request.turn_id in dead), f"I1: {len(ends)} ends"
    if request.voice:
        voices = [h for h, _ in events.audio if h["Parley-Type"] in VOICE_ENDS]
        assert len(voices) == 1, f"I1: {len(voices)} ends of the voice"


def _text_is_whole(events: Events) -> None:
    end = next(d for d in events.deltas if d["type"] in ENDS)
    numbers: dict[int, list[int]] = {}
    for delta in events.deltas:
        numbers.setdefault(delta["attempt"], []).append(delta["seq"])
    last = max(numbers)
    for attempt, seqs in numbers.items():
        # What a change of leader tore, a higher attempt has said again.
        whole = seqs == list(range(len(seqs)))
        assert whole or attempt < last, f"I3: attempt {attempt} has seq {seqs}"
        assert len(set(seqs)) == len(seqs), f"I3: attempt {attempt} repeats {seqs}"
    assert end["attempt"] == last, f"I3: the end is of attempt {end['attempt']}, not {last}"
    if end["type"] == "done":
        texts = [d for d in events.deltas if d["type"] == "text" and d["attempt"] == last]
        text = "".join(d["text"] for d in sorted(texts, key=lambda d: d["seq"]))
        assert text == end["text"], "I3: the texts are not done.text"


def _nothing_follows(events: Events) -> None:
    """What was on its way when a worker froze may still come: one write, of a lower attempt."""
    deltas = [(d["type"], d["attempt"]) for d in events.deltas]
    voice = [(h["Parley-Type"], int(h["Parley-Attempt"])) for h, _ in events.audio]
    for kinds, ends in ((deltas, ENDS), (voice, VOICE_ENDS)):
        over = next((i for i, (kind, _) in enumerate(kinds) if kind in ends), len(kinds))
        after = kinds[over + 1 :]
        own = [kind for kind, attempt in after if attempt >= kinds[over][1]]
        assert not own, f"I4: {own} after the end"
        assert len(after) <= MAX_LEFTOVERS, f"I7: {after} of a replaced worker"


def _pieces(events: Events) -> tuple[dict[int, dict[str, Any]], bytes]:
    """The pieces that are done at the end, and their chunks joined: as a listener has them."""
    announced: dict[int, dict[str, Any]] = {}
    done: dict[int, dict[str, Any]] = {}
    chunks: dict[tuple[int, int], dict[int, bytes]] = {}
    attempt = 0
    for headers, data in events.audio:
        own = int(headers["Parley-Attempt"])
        if own < attempt:
            continue  # a leftover of a replaced worker
        attempt = own
        match headers["Parley-Type"]:
            case "piece":
                piece = json.loads(data)
                announced[piece["index"]] = piece
                for index in [i for i in done if i >= piece["index"]]:
                    del done[index]
            case "piece_done":
                event = json.loads(data)
                # Its announcement stands behind it where a change of leader tore the attempt: a
                # higher one tells the piece again, or it is missing at the end.
                if event["index"] in announced:
                    done[event["index"]] = {**announced[event["index"]], **event, "attempt": own}
            case "chunk":
                key = (int(headers["Parley-Piece"]), own)
                chunks.setdefault(key, {})[int(headers["Parley-Seq"])] = data
    voice = b""
    for index in sorted(done):
        found = chunks.get((index, done[index]["attempt"]), {})
        assert list(found) == sorted(found), f"I5: piece {index} is torn: {list(found)}"
        audio = b"".join(found.values())
        assert len(audio) == 2 * done[index]["samples"], f"I5: piece {index} is not whole"
        voice += audio
    return done, voice


def _voice_is_whole(request: Asked, events: Events, store: Minio) -> None:
    end = next(d for d in events.deltas if d["type"] in ENDS)
    headers, data = next((h, d) for h, d in events.audio if h["Parley-Type"] in VOICE_ENDS)
    if headers["Parley-Type"] == "failed":
        return
    stored = json.loads(data)
    done, voice = _pieces(events)
    assert stored["pieces"] == len(done), f"I5: {stored['pieces']} pieces, {len(done)} done"
    if stored["key"] is None:
        assert not voice, "I5: a voice without an object"
        return
    answer = store.get_object(stored["bucket"], stored["key"])
    try:
        body = answer.read()
    finally:
        answer.close()
        answer.release_conn()
    assert len(body) == stored["bytes"], "I5: the object's size"
    assert hashlib.sha256(body).hexdigest() == stored["sha256"], "I5: the object's sha256"
    with wave.open(io.BytesIO(body)) as wav:
        samples = wav.readframes(wav.getnframes())
    assert samples == voice, "I5: the object is not the chunks"
    if end["type"] == "done" and stored["finish"] == "complete":
        said = "".join(spoken_texts(samples))
        assert letters(said) == letters(end["text"]), f"I5: said {said!r} for {end['text']!r}"
    assert stored["key"].startswith(f"{request.conversation_id}/{request.turn_id}/")


def _paid_once(system: System, request: Asked, events: Events) -> None:
    """Answers are unique by their question's mark, so the record can be told apart by text."""
    attempts = max((d["attempt"] for d in events.deltas), default=1)
    calls = [
        c
        for c in system.emulator.record.chats
        if c.messages[-1]["content"] == request.content and c.status == 200 and c.tokens
    ]
    assert len(calls) <= attempts, f"I8: {len(calls)} answers paid in {attempts} attempts"
    voices = max((int(h["Parley-Attempt"]) for h, _ in events.audio), default=1)
    mark = request.content.split()[0]
    texts = Counter(c.text for c in system.emulator.record.commits if mark in c.text)
    for text, count in texts.items():
        assert count <= voices, f"I8: {text!r} was spoken {count} times in {voices} attempts"


@dataclass(slots=True)
class _Told:
    """What listeners hold of a voice: pieces that are done, and which of them were torn."""

    done: dict[int, str] = field(default_factory=dict)  # index -> text
    torn: set[int] = field(default_factory=set)
    attempt: int = 0
    # Of this attempt:
    texts: dict[int, str] = field(default_factory=dict)  # announced
    sizes: Counter[int] = field(default_factory=Counter)  # bytes of each piece
    ended: set[int] = field(default_factory=set)
    highest: int = -1  # Parley-Seq

    def reach(self, attempt: int) -> None:
        if attempt > self.attempt:
            self.attempt, self.highest = attempt, -1
            self.texts, self.sizes, self.ended = {}, Counter(), set()

    def piece(self, index: int, text: str) -> None:
        assert index not in self.texts, f"I8: piece {index} was announced twice in one attempt"
        heard = {*self.texts, *self.sizes, *self.ended}
        if any(n >= index for n in heard):
            self.torn.add(index)
        else:
            again = self.done.get(index) == text
            allowed = any(n <= index for n in self.torn)
            assert allowed or not again, f"I8: piece {index} was done and is told again"
            self.done = {n: done for n, done in self.done.items() if n < index}
            self.torn = {n for n in self.torn if n < index}
        self.texts[index] = text

    def chunk(self, index: int, seq: int, size: int) -> None:
        if seq < self.highest or index in self.ended:
            self.torn.add(index)
        self.highest = max(seq, self.highest)
        self.sizes[index] += size

    def piece_done(self, index: int, samples: int) -> None:
        if self.sizes[index] != 2 * samples:
            self.torn.add(index)
        self.ended.add(index)
        self.done[index] = self.texts.get(index, "")


def check_told_once(events: Events) -> None:
    """A piece that is done is not told again, but where it, or one before it, was torn.

    Torn is a piece of which the stream does not hold in order what was heard: its announcement
    stands behind something of its own or of a later piece, or a chunk behind its end or behind one
    of a higher `seq` of the attempt, or a chunk is missing at its end. From such a piece on a
    higher attempt may tell everything again. An end that comes late tears nothing: what was heard
    stands in its order. An answer that was given anew has other pieces, and those are told.
    """
    told = _Told()
    for headers, data in events.audio:
        attempt = int(headers["Parley-Attempt"])
        if attempt < told.attempt:
            continue  # a leftover of a replaced worker
        told.reach(attempt)
        match headers["Parley-Type"]:
            case "piece":
                piece = json.loads(data)
                told.piece(piece["index"], piece["text"])
            case "chunk":
                told.chunk(int(headers["Parley-Piece"]), int(headers["Parley-Seq"]), len(data))
            case "piece_done":
                event = json.loads(data)
                told.piece_done(event["index"], event["samples"])


def _outcome(events: Events) -> str | None:
    end = next((d for d in events.deltas if d["type"] in ENDS), None)
    return end["text"] if end is not None and end["type"] == "done" and end["text"] else None


def _history_is_right(
    asked: list[Asked], turns: dict[str, Events], history: dict[str, Any]
) -> None:
    ids = [a.turn_id for a in asked]
    messages = [m for m in history["messages"] if m["turn_id"] in ids]
    order = list(dict.fromkeys(m["turn_id"] for m in messages))
    assert order == [i for i in ids if i in order], f"I2: the history's order is {order}"
    for request in asked:
        own = [m for m in messages if m["turn_id"] == request.turn_id]
        users = [m["content"] for m in own if m["role"] == "user"]
        said = [m["content"] for m in own if m["role"] == "assistant"]
        outcome = _outcome(turns.get(request.turn_id, Events()))
        if outcome is not None:
            assert users == [request.content], f"I2: user messages {users}"
            assert said == [outcome], f"I3: the history says {said}"
        else:
            assert not said, f"I2: an answer {said} for a turn that failed"
    assert history["turn"] is None, f"I9: turn {history['turn']} is still under way"


def _prompts_hold_outcomes(system: System, asked: list[Asked], turns: dict[str, Events]) -> None:
    for earlier, later in itertools.pairwise(asked):
        outcome = _outcome(turns.get(earlier.turn_id, Events()))
        if outcome is None:
            continue
        for call in system.emulator.record.chats:
            if call.messages[-1]["content"] == later.content:
                contents = [m["content"] for m in call.messages]
                assert outcome in contents, f"I6: {later.turn_id} was asked without {outcome!r}"


async def _nothing_is_left(system: System) -> None:
    js = system.client.jetstream()
    for stream, names in CONSUMERS.items():
        info = await js.stream_info(stream)
        assert info.state.messages == 0, f"I9: {info.state.messages} left in {stream}"
        consumers = await js.consumers_info(stream)
        assert {c.name for c in consumers} == names, f"I9: consumers of {stream}"
        for consumer in consumers:
            assert not consumer.num_ack_pending, f"I9: un-acked in {consumer.name}"
    for stream in ("CHAT_DELTAS", "TTS_AUDIO", "DEAD_LETTERS"):
        assert not await js.consumers_info(stream), f"I9: a consumer is left on {stream}"


def _no_foreign_objects(store: Minio, turns: dict[str, Events]) -> None:
    announced: set[str] = set()
    for events in turns.values():
        for headers, data in events.audio:
            if headers["Parley-Type"] == "stored":
                stored = json.loads(data)
                announced |= {stored["key"], stored["captions_key"]}
    found = {o.object_name for o in store.list_objects(BUCKET, recursive=True)}
    assert found == announced - {None}, f"I9: objects {found ^ (announced - {None})}"
