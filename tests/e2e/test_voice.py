"""All that a user may ask of the voice, and what they get when the provider breaks off."""

from __future__ import annotations

import asyncio
import hashlib
import html
import io
import json
import re
import signal
import urllib.request
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import pytest
import pytest_asyncio
from minio import Minio

from local.voices import spoken_texts
from tests.e2e.whole import SENTENCES, assert_whole, letters
from tests.system import WAIT, System

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from local.service import Service
    from tests.system import Turn

pytestmark = pytest.mark.asyncio(loop_scope="module")

VOICE, FALLBACK = "hexgrad/Kokoro-82M", "canopylabs/orpheus-3b-0.1-ft"
TEXT, SECOND_TEXT = "meta-llama/Llama-3.3-70B-Instruct-Turbo", "openai/gpt-oss-20b"
CHAR_MS = 50  # of the emulator's voice
SETTINGS = {
    "CHAT_FALLBACK_MODEL": SECOND_TEXT,
    "CHAT_TRIES": "2",
    "TTS_FALLBACK_MODEL": FALLBACK,
    "TTS_FALLBACK_VOICE": "tara",
    "TTS_TRIES": "2",
    "TTS_FIRST_AUDIO_TIMEOUT": "1.5",
    "TTS_AUDIO_TIMEOUT": "0.7",
    "SHUTDOWN_GRACE": "0.1",
}
CONTENT_TYPES = {
    "wav": "audio/wav",
    "flac": "audio/flac",
    "mp3": "audio/mpeg",
    "opus": "audio/ogg",
    "aac": "audio/aac",
    "pcm": "audio/pcm",
}


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[System]:
    async with System(tmp_path_factory.mktemp("system"), settings=SETTINGS) as system:
        await system.up()
        yield system


@pytest.fixture
def system(running: System) -> System:
    running.emulator.reset()
    running.emulator.change(
        {
            "chat": {"first_token_ms": 5, "tokens_per_second": 0, "replies": [SENTENCES]},
            "speech": {"realtime_factor": 200, "first_audio_ms": 10},
        }
    )
    return running


async def say(
    system: System, text: str, *, turn_id: str = "", seconds: float = WAIT, **speech: Any
) -> Turn:
    """Speech alone, to its end."""
    turn_id = turn_id or uuid.uuid4().hex
    body = {"turn_id": turn_id, "text": text, "speech": speech}
    await system.client.jetstream().publish("tts.request.alone", json.dumps(body).encode())
    turn = system.ears.turn(turn_id)
    await system.ears.until(lambda: turn.voice_end is not None, seconds)
    return turn


def stored(turn: Turn) -> dict[str, Any]:
    end = turn.voice_end
    assert end is not None
    assert end["type"] == "stored", end
    return end


def events(turn: Turn, kind: str) -> list[dict[str, Any]]:
    return [json.loads(data) for headers, data in turn.audio if headers["Parley-Type"] == kind]


def pieces(turn: Turn) -> list[dict[str, Any]]:
    """As they were last announced, each with what its `piece_done` says."""
    announced = {e["index"]: e for e in events(turn, "piece")}
    done = {e["index"]: e for e in events(turn, "piece_done")}
    assert sorted(done) == sorted(announced) == list(range(len(done)))
    return [announced[i] | done[i] for i in sorted(done)]


def captions(system: System, turn: Turn) -> list[tuple[int, int, str]]:
    """(start ms, end ms, text with its marks) of each cue of the object in the store."""
    store = Minio(system.s3.endpoint, system.s3.access_key, system.s3.secret_key, secure=False)
    end = stored(turn)
    with store.get_object(end["bucket"], end["captions_key"]) as answer:
        assert answer.headers["Content-Type"].startswith("text/vtt")
        head, *cues = answer.read().decode().strip().split("\n\n")
    assert head == "WEBVTT"
    found = []
    for cue in cues:
        _, times, text = cue.split("\n")
        start, end_time = times.split(" --> ")
        found.append((_ms(start), _ms(end_time), text))
    return found


def _ms(time: str) -> int:
    hours, minutes, seconds = time.split(":")
    return round((int(hours) * 3600 + int(minutes) * 60 + float(seconds)) * 1000)


def fetch(url: str) -> tuple[str, bytes]:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return answer.headers["Content-Type"], answer.read()


def forget_peak(service: Service) -> None:
    """VmHWM counts from here on."""
    Path(f"/proc/{service.pid}/clear_refs").write_text("5")


def memory_kb(service: Service, what: str) -> int:
    status = Path(f"/proc/{service.pid}/status").read_text()
    found = re.search(rf"{what}:\s+(\d+) kB", status)
    assert found
    return int(found.group(1))


# ---------------------------------------------------------------- the object


@pytest.mark.parametrize("form", CONTENT_TYPES)
async def test_every_format_is_what_it_says_and_holds_the_voice(system: System, form: str) -> None:
    turn = await system.answered(content="How is it?", speech={"format": form})
    end = stored(turn)
    content_type, body = fetch(end["url"])
    assert content_type == end["content_type"] == CONTENT_TYPES[form]
    assert end["key"].endswith(f"/1.{form}")
    assert (len(body), hashlib.sha256(body).hexdigest()) == (end["bytes"], end["sha256"])
    voice = turn.voice()
    assert end["duration_ms"] == round(len(voice) / 48)
    if form == "pcm":
        assert body == voice
        return
    with av.open(io.BytesIO(body), "r") as container:
        tags = {
            k.lower(): v for k, v in {**container.metadata, **container.streams[0].metadata}.items()
        }
        frames = list(container.decode(audio=0))
        samples = sum(frame.samples for frame in frames) * 24000 / frames[0].sample_rate
        container.seek(round(end["duration_ms"] * 500), backward=True)
        after = next(container.decode(audio=0))
    assert samples / 24 == pytest.approx(end["duration_ms"], abs=100)
    assert after.time == pytest.approx(end["duration_ms"] / 2000, abs=1.2)
    if form not in {"wav", "aac"}:
        assert SENTENCES.startswith(tags["title"].rstrip("…"))
        assert SENTENCES in {tags.get("comment"), tags.get("description")}


async def test_captions_are_the_pieces_with_their_times(system: System) -> None:
    turn = await system.answered(content="How is it?")
    at = 0
    cues = captions(system, turn)
    assert len(cues) == len(pieces(turn)) > 2
    for (start, end, text), piece in zip(cues, pieces(turn), strict=True):
        assert (start, end) == (round(at / 24), round((at + piece["samples"]) / 24))
        assert html.unescape(text) == piece["text"]
        at += piece["samples"]


@pytest.mark.parametrize("relative_to", ["item", "context"])
async def test_words_have_their_time_in_the_turn(system: System, relative_to: str) -> None:
    system.emulator.change({"speech": {"timestamps": relative_to}})
    turn = await system.answered(content="How is it?", speech={"alignment": "word"})
    before = 0.0
    for piece, (_, _, cue) in zip(pieces(turn), captions(system, turn), strict=True):
        expected: list[dict[str, Any]] = [
            {
                "text": word.group(),
                "start_ms": round(before + word.start() * CHAR_MS),
                "end_ms": round(before + word.end() * CHAR_MS),
            }
            for word in re.finditer(r"\S+", piece["text"])
        ]
        assert piece["words"] == expected
        marks = [_ms(mark) for mark in re.findall(r"<([\d:.]+)>", cue)]
        assert marks == [word["start_ms"] for word in expected if word["start_ms"] > before]
        assert html.unescape(re.sub(r"<[\d:.]+>", "", cue)) == piece["text"]
        before += piece["samples"] / 24


async def test_what_is_highlighted_is_what_is_shown(system: System) -> None:
    reply = "Look: **this** is [a link](https://example.org/x) and `code`.\n\nThen more 🙂 of it."
    system.emulator.change({"chat": {"replies": [reply]}})
    turn = await system.answered(content="How is it?")
    for piece in pieces(turn):
        start, end = piece["chars"]
        shown = re.sub(r"\(https\S+\)", "", reply[start:end])
        assert letters(shown) == letters(piece["text"])


# ---------------------------------------------------------------- how it is spoken


async def test_each_turn_has_its_own_voice_on_a_socket_that_stays_open(system: System) -> None:
    await say(system, "One. Two.")
    await say(system, "One. Two.")
    system.emulator.record.clear()
    ways: list[dict[str, Any]] = [
        {"voice": "af_bella(2)+af_heart(1)", "speed": 2.0, "language": "de"},
        {"pronunciations": {"SQL": "sequel"}, "speed": 0.5},
        {},
    ]
    for way in ways:
        turn = await say(system, "We like SQL a lot.", **way)
        (commit,) = list(system.emulator.record.commits)[-1:]
        assert commit.voice == way.get("voice", "af_heart")
        assert commit.speed == way.get("speed", 1.0)
        assert commit.language == way.get("language", "en")
        said = "We like sequel a lot." if "pronunciations" in way else "We like SQL a lot."
        assert commit.spoken == said
        assert spoken_texts(turn.voice()) == [said]
        assert stored(turn)["duration_ms"] == round(len(said) * CHAR_MS / commit.speed)
        assert events(turn, "started")[0]["voice"] == commit.voice
    assert not system.emulator.record.sockets
    assert system.emulator.record.totals.unknown_messages == 0


async def test_turns_at_once_keep_their_voices_apart(system: System) -> None:
    names = ["af_bella", "af_nova", "am_adam", "am_puck", "bf_emma", "bm_george"]
    await asyncio.gather(*(say(system, SENTENCES, voice=name) for name in names))
    by_context: dict[str, set[str]] = {}
    for commit in system.emulator.record.commits:
        by_context.setdefault(commit.context, set()).add(commit.voice)
    assert sorted(by_context.values(), key=min) == [{name} for name in names]


async def test_a_shorter_limit_gives_shorter_pieces(system: System) -> None:
    turn = await say(system, "word " * 60, max_partial_length=30)
    assert max(len(piece["text"]) for piece in pieces(turn)) <= 30


async def test_without_a_voice_there_is_none(system: System) -> None:
    turn = await system.answered(content="How is it?", speech=False)
    await say(system, "Meanwhile.")
    assert turn.audio == []
    assert turn.deltas[0]["speech"] is False


# ---------------------------------------------------------------- speech alone


async def test_a_text_is_spoken_once_however_often_it_is_asked_for(system: System) -> None:
    turn = await say(system, SENTENCES, turn_id="only-once")
    body = {"turn_id": "only-once", "text": SENTENCES}
    js = system.client.jetstream()
    for n in range(2):  # once more with its id, and with another
        headers = {"Nats-Msg-Id": f"repeat-{n}"}
        await js.publish("tts.request.alone", json.dumps(body).encode(), headers=headers)
    await system.until_empty("TTS_REQUESTS")
    assert letters("".join(spoken_texts(turn.voice()))) == letters(SENTENCES)
    assert len(events(turn, "stored")) == 1
    texts = [commit.text for commit in system.emulator.record.commits]
    assert len(texts) == len(set(texts)) == stored(turn)["pieces"]


async def test_an_article_is_spoken_in_bounded_memory_by_one_worker_or_two(
    system: System,
) -> None:
    system.emulator.change({"speech": {"realtime_factor": 0, "char_samples": 800}})
    first = next(service for service in system.services if service.name == "tts")
    await say(system, SENTENCES)
    forget_peak(first)
    before = memory_kb(first, "VmRSS")
    sentence = "The sea is calm tonight, the tide is full, the moon lies fair upon the straits. "
    article = (sentence * 300)[:20_000]
    speaking = asyncio.create_task(say(system, article, turn_id="article"))
    turn = system.ears.turn("article")
    await system.ears.until(lambda: len(events(turn, "piece_done")) > 150)
    grown = memory_kb(first, "VmHWM") - before
    first.signal(signal.SIGTERM)  # it hands the rest over
    second = system.add("tts")
    await second.ready()
    before = memory_kb(second, "VmRSS")
    await speaking
    assert letters("".join(spoken_texts(turn.voice()))) == letters(article)
    assert stored(turn)["bytes"] > 31_000_000
    assert events(turn, "started")[-1]["attempt"] == 2
    # kB; the audio has 32,000, two thirds of which the second worker recalls.
    assert grown < 16_000
    assert memory_kb(second, "VmHWM") - before < 28_000
    system.services.remove(first)


# ---------------------------------------------------------------- when it breaks


@pytest.mark.parametrize(
    ("kind", "after"),
    [
        ("no_audio", 0),
        ("no_done", 0),
        ("close", 2),
        *((k, n) for k in ("failed", "stall", "abort", "dead", "garbage") for n in (0, 2)),
    ],
)
async def test_a_piece_that_breaks_is_said_again(system: System, kind: str, after: int) -> None:
    fault = {"kind": f"speech.{kind}", "match": "Smith", "after": after, "times": 1}
    await say(system, "One. Two.")  # a provider that is known
    system.emulator.change({"faults": [fault]})
    turn = await system.answered(content="How is it?")
    assert_whole(turn, system)
    first, *again = [c for c in system.emulator.record.commits if "Smith" in c.text]
    assert again
    assert (again[-1].socket, again[-1].context) != (first.socket, first.context)
    if kind in {"failed", "no_audio", "stall"}:
        assert again[-1].socket != first.socket
    if kind == "dead":
        assert again[0].at - first.at < 5.0
    said = {c.text for c in system.emulator.record.commits} - {first.text, "One. Two."}
    for text in said:  # what was done is not said again
        assert sum(c.text == text for c in system.emulator.record.commits) == 1


async def test_the_fallback_speaks_until_the_first_model_is_back(system: System) -> None:
    text = " ".join(f"This is the sentence number {n} of them all." for n in range(30))
    system.emulator.change({"faults": [{"kind": "speech.failed", "match": "sent", "times": 2}]})
    turn = await say(system, text)
    speakers = [(e["attempt"], e["model"], e["voice"]) for e in events(turn, "started")]
    assert [model for _, model, _ in speakers] == [VOICE, VOICE, FALLBACK, VOICE]
    assert [attempt for attempt, _, _ in speakers] == [1, 2, 3, 4]
    assert speakers[2][2] == "tara"
    assert letters("".join(spoken_texts(turn.voice()))) == letters(text)
    spoken_by = [c.model for c in system.emulator.record.commits if not c.faults]
    assert spoken_by.count(FALLBACK) == 8
    submitted = dict.fromkeys((VOICE, FALLBACK), 0)
    for commit in system.emulator.record.commits:
        submitted[commit.model] += len(commit.text)
    end = stored(turn)
    assert end["characters"] == sum(submitted.values())
    assert end["cost_usd"] == pytest.approx((submitted[VOICE] * 4 + submitted[FALLBACK] * 15) / 1e6)


async def test_where_no_model_speaks_the_voice_fails_by_name(system: System) -> None:
    system.emulator.change({"faults": [{"kind": "speech.failed"}]})
    turn = await system.answered(content="How is it?")
    assert turn.end is not None
    assert turn.end["type"] == "done"
    assert turn.voice_end is not None
    assert turn.voice_end["type"] == "failed"
    assert turn.voice_end["error"]["code"] == "provider_broken"
    models = [c.model for c in system.emulator.record.commits]
    # The second piece in vain is proof enough that nobody speaks.
    assert models == [VOICE, VOICE, FALLBACK, FALLBACK, FALLBACK, FALLBACK]


@pytest.mark.parametrize(
    ("fault", "asked"),
    [
        ({"kind": "chat.status", "status": 503, "times": 2}, 2),
        ({"kind": "chat.cut", "after": 3, "times": 2}, 2),
        ({"kind": "chat.status", "status": 404, "times": 1}, 1),
    ],
    ids=["overloaded", "cut", "no such model"],
)
async def test_another_model_answers_where_the_first_one_does_not(
    system: System, fault: dict[str, Any], asked: int
) -> None:
    system.emulator.change({"faults": [fault]})
    turn = await system.answered(content="How is it?")
    assert_whole(turn, system)
    models = [c.params["model"] for c in system.emulator.record.chats]
    assert models == [TEXT] * asked + [SECOND_TEXT]
    assert turn.deltas[-1]["cost_usd"] > 0
    starts = [d["model"] for d in turn.deltas if d["type"] == "started"]
    assert starts[-1] == SECOND_TEXT


# ---------------------------------------------------------------- what it costs


async def test_characters_and_tokens_have_their_price(system: System) -> None:
    turn = await system.answered(content="How is it?")
    end = stored(turn)
    submitted = sum(len(c.text) for c in system.emulator.record.commits)
    assert end["characters"] == submitted
    assert end["cost_usd"] == pytest.approx(submitted * 4 / 1e6)
    done = turn.end
    assert done is not None
    tokens = sum(done["usage"].values())
    assert tokens > 20
    assert done["cost_usd"] == pytest.approx(tokens * 0.88 / 1e6)


async def test_prices_are_those_of_the_file(system: System, tmp_path: Path) -> None:
    file = tmp_path / "prices.json"
    file.write_text(json.dumps({VOICE: 100, TEXT: {"prompt": 1000, "completion": 3000}}))
    before = list(system.services)
    for service in before:
        await service.kill()
    new = [
        system.add(service.name, CHAT_PRICES_FILE=str(file), TTS_PRICES_FILE=str(file))
        for service in before
    ]
    await asyncio.gather(*(service.ready() for service in new))
    turn = await system.answered(content="How is it?")
    end, done = stored(turn), turn.end
    assert done is not None
    assert end["cost_usd"] == pytest.approx(end["characters"] * 100 / 1e6)
    given, made = done["usage"]["prompt_tokens"], done["usage"]["completion_tokens"]
    assert done["cost_usd"] == pytest.approx((given * 1000 + made * 3000) / 1e6)
    system.services[:] = new


# ---------------------------------------------------------------- other workers


async def test_the_service_has_defaults_of_its_own(system: System) -> None:
    for service in system.services:
        await service.kill()
    own = system.add(
        "tts",
        TTS_VOICE="bf_emma",
        TTS_SPEED="2",
        TTS_LANGUAGE="fr",
        TTS_ALIGNMENT="word",
        TTS_PRONUNCIATIONS='{"SQL": "sequel", "km": "kilometres"}',
        TTS_FORMAT="flac",
        TTS_MAX_PARTIAL_LENGTH="40",
    )
    await own.ready()
    turn = await say(system, "Five km of SQL. " + "word " * 20, pronunciations={"SQL": "S Q L"})
    commits = list(system.emulator.record.commits)
    assert {(c.voice, c.speed, c.language) for c in commits} == {("bf_emma", 2.0, "fr")}
    assert commits[0].spoken == "Five kilometres of S Q L."
    assert all(piece["words"] and len(piece["text"]) <= 40 for piece in pieces(turn))
    assert stored(turn)["key"].endswith(".flac")
    plain = await say(system, "Yes.", alignment="none", speed=1.0, format="pcm")
    assert not pieces(plain)[0]["words"]
    assert stored(plain)["key"].endswith(".pcm")
    await own.kill()


async def test_eight_long_turns_have_a_socket_each_where_nobody_is_named(system: System) -> None:
    """On a worker of its own: one remembers what it has learned of the provider."""
    for service in system.services:
        await service.kill()
    await system.add("tts").ready()
    system.emulator.change({"speech": {"binary": True, "realtime_factor": 30}})
    text = " ".join(f"This is the sentence number {n} of a long story." for n in range(7))
    began = [uuid.uuid4().hex for _ in range(8)]
    turns = await asyncio.gather(*(say(system, text, turn_id=turn_id) for turn_id in began))
    for turn in turns:
        assert letters("".join(spoken_texts(turn.voice()))) == letters(text)
        assert stored(turn)["finish"] == "complete"
    # Nobody waits until another turn has ended.
    first = [turn.first_chunk for turn in turns]
    last = [turn.last_chunk for turn in turns]
    assert max(t for t in first if t) < min(t for t in last if t)
    assert len({c.socket for c in system.emulator.record.commits}) >= len(turns)
