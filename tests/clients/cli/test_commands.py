"""Every command against the real stack, as a process: what it prints, and its exit status."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import uuid
import wave
from typing import TYPE_CHECKING

import pytest

from tests.clients.cli.conftest import ENVIRON, World, parley

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(300)]


def new() -> str:
    return uuid.uuid4().hex


async def test_ask_says_the_words_and_nothing_else(world: World) -> None:
    ran = await world.run("ask", "What is NATS?")
    assert ran.status == 0
    assert ran.out.startswith("NATS is a small, fast messaging system.")
    assert ran.err == ""


async def test_options_stand_before_and_behind_the_command(world: World) -> None:
    login = (
        "--user",
        "client",
        "--password",
        world.stack.accounts.login("client")["NATS_PASSWORD"],
    )
    for words in (
        ("--url", world.url, *login, "--json", "ask", "Hi", "--no-voice"),
        ("ask", "Hi", "--no-voice", "--json", "--url", world.url, *login),
    ):
        ran = await parley(*words, environ={"NATS_URL": "nats://127.0.0.1:1"})
        assert ran.status == 0, ran
        assert [value["type"] for value in ran.values][-1] == "done"


async def test_ask_with_json_tells_each_event_of_text_and_voice(world: World) -> None:
    conversation = new()
    ran = await world.run("ask", "Hi", "-c", conversation, "--json")
    assert ran.status == 0, ran
    kinds = {(value["of"], value["type"]) for value in ran.values}
    assert {("text", "started"), ("text", "text"), ("text", "done"), ("voice", "stored")} <= kinds
    assert {value["conversation_id"] for value in ran.values} == {conversation}
    done = next(value for value in ran.values if value["type"] == "done")
    words = [value["text"] for value in ran.values if value["type"] == "text"]
    assert "".join(words) == done["text"]


async def test_ask_saves_the_voice_as_the_suffix_says(world: World, tmp_path: Path) -> None:
    ran = await world.run("ask", "Hi", "--save", str(tmp_path / "a.wav"))
    assert ran.status == 0, ran
    assert "s of speech" in ran.err
    with wave.open(str(tmp_path / "a.wav")) as file:
        assert (file.getframerate(), file.getnchannels()) == (24_000, 1)
        assert file.getnframes() > 24_000
    ran = await world.run("ask", "Hi", "--save", str(tmp_path / "a.mp3"), "--json")
    assert ran.status == 0, ran
    assert ran.values[-1]["files"] == [str(tmp_path / "a.mp3")]
    assert (tmp_path / "a.mp3").read_bytes()[:3] == b"ID3"


async def test_ask_reads_standard_input(world: World) -> None:
    ran = await world.run("ask", "--stdin", stdin="What is NATS?")
    assert "messaging system" in ran.out
    ran = await world.run("ask", "Read this:", "--stdin", stdin="a letter")
    assert "Read this:" in ran.out
    assert "a letter" in ran.out


async def test_say_makes_a_sound_file_with_captions_beside_it(world: World, tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("Good morning. It is seven o'clock.")
    sound = tmp_path / "said.wav"
    ran = await world.run("say", "--file", str(text), "--save", str(sound), user="operator")
    assert ran.status == 0, ran
    with wave.open(str(sound)) as file:
        assert file.getnframes() > 24_000
    captions = sound.with_suffix(".vtt").read_text().splitlines()
    assert captions[0] == "WEBVTT"
    assert captions[3].startswith("00:00:00.000 --> 00:00:0")
    assert "Good morning." in captions
    ran = await world.run("say", "Hello.", "--save", str(tmp_path / "b.wav"), "--no-captions")
    assert ran.status == 0, ran
    assert not (tmp_path / "b.vtt").exists()


async def test_history_tells_what_was_said_and_delete_erases_it(world: World) -> None:
    conversation = new()
    said = "My name is Ada.\nWhat is my name?\n"
    assert (await world.run("chat", "-c", conversation, stdin=said)).status == 0
    ran, limited, everything, asked = await asyncio.gather(
        world.run("history", conversation),
        world.run("history", conversation, "--json", "--limit", "3"),
        world.run("history", conversation, "--json", "--all"),
        world.run("delete", conversation),
    )
    assert ran.status == 0
    assert "Your name is Ada." in ran.out
    assert [value["role"] for value in limited.values] == ["assistant", "user", "assistant"]
    assert everything.values[0]["content"] == "My name is Ada."
    assert asked.status == 2  # nobody is there to say yes
    ran = await world.run("delete", conversation, "--yes", "--json")
    assert ran.status == 0, ran
    assert ran.values == [{"type": "deleted", "conversation_id": conversation, "deleted": True}]
    ran = await world.run("history", conversation, "--json")
    assert (ran.status, ran.out) == (0, "")


async def test_tail_tells_everything_and_filters(world: World) -> None:
    conversation = new()
    await world.run("ask", "Hi", "-c", conversation, "--voice", "--json")
    ran = await world.run("tail", conversation, "--past", "--for", "3", "--kind", "done,stored")
    assert ran.status == 0, ran
    assert "text.done" in ran.out
    assert "voice.stored" in ran.out
    ran = await world.run("tail", "-c", conversation, "--past", "-n", "2", "--of", "text", "--json")
    assert [value["type"] for value in ran.values] == ["started", "text"]
    live = asyncio.create_task(world.run("tail", "--kind", "done", "-n", "1", "--json"))
    while not live.done():
        assert (await world.run("ask", "Hi")).status == 0
    ran = await live
    assert ran.values[0]["text"].startswith("Hello")


async def test_dead_letters_are_listed_shown_tried_again_and_dropped(world: World) -> None:
    conversation, letter = new(), {"content": "Hi", "temperature": "hot"}
    jetstream = await _publish(world, f"chat.request.{conversation}", json.dumps(letter).encode())
    assert jetstream
    ran = await world.run("dead", "list", "-c", conversation, "--json", user="operator")
    assert ran.status == 0, ran
    (told,) = ran.values
    assert told["code"] == "invalid_request"
    assert told["subject"] == f"chat.request.{conversation}"
    number = str(told["number"])
    assert "temperature" in (await world.run("dead", "list", user="operator")).out
    ran = await world.run("dead", "show", number, user="operator")
    assert '"temperature":"hot"' in ran.out.replace(" ", "")
    # It is wrong still, so that what is tried again comes back under another number.
    ran = await world.run("--json", "dead", "retry", number, user="operator")
    assert ran.status == 0, ran
    assert ran.values[0]["type"] == "retried"
    again = await _until_dead(world, conversation)
    assert again != number
    assert (await world.run("dead", "drop", again, user="operator")).status == 0
    assert (await world.run("dead", "show", again, user="operator")).status == 5
    assert (await world.run("dead", "list", user="client")).status == 4


async def _publish(world: World, subject: str, data: bytes) -> bool:
    """Returns once it is a dead letter."""
    import nats  # noqa: PLC0415  what a user without the command line has

    client = await nats.connect(world.url)
    await client.jetstream().publish(subject, data)
    await client.close()
    return bool(await _until_dead(world, subject.rpartition(".")[2]))


async def _until_dead(world: World, conversation: str) -> str:
    async with asyncio.timeout(60):
        while True:
            ran = await world.run("dead", "list", "-c", conversation, "--json", user="operator")
            if ran.values:
                return str(ran.values[0]["number"])


async def test_a_token_opens_its_own_conversation_and_no_other(world: World) -> None:
    mine = new()
    made = await parley(
        "token", "-c", mine, "--sub", "ada", environ={"ACCESS_KEYS_FILE": world.seeds}
    )
    assert made.status == 0, made
    token = made.out.strip()
    assert (await world.run_by_token(token, "ask", "Hi", "-c", mine)).status == 0
    assert (await world.run_by_token(token, "history", mine)).status == 0
    for words in (
        ("ask", "Hi", "-c", "another", "--json"),
        ("history", "another", "--json"),
        ("tail", "another", "--json"),
        ("delete", mine, "--yes", "--json"),  # not among its rights
        ("dead", "list", "--json"),
    ):
        ran = await world.run_by_token(token, *words)
        assert ran.status == 4, ran
        assert ran.values[-1]["error"]["code"] == "unauthorized"
    ran = await world.run_by_token(token, "doctor")
    assert ran.status == 0, ran
    assert f"{mine}: ask, cancel, history, listen" in ran.out


async def test_a_token_is_minted_as_the_access_service_reads_it(world: World) -> None:
    ran = await parley(
        *("token", "-c", "a", "-c", "b", "--may", "listen", "--ttl", "60"),
        *("--seed-file", world.seeds, "--json"),
    )
    assert ran.status == 0, ran
    claims = ran.values[0]["claims"]
    assert claims["conversations"] == ["a", "b"]
    assert claims["may"] == ["listen"]
    ran = await parley("token", "-c", "a", "--may", "fly", "--seed-file", world.seeds)
    assert ran.status == 2


async def test_doctor_is_green_for_every_login_as_far_as_it_sees(world: World) -> None:
    ran = await world.run("doctor", "--json", user="operator")
    assert ran.status == 0, ran
    found = {value["part"]: value["state"] for value in ran.values}
    for part in ("login", "account", "stream TTS_AUDIO", "consumer tts-workers", "service chat"):
        assert found[part] == "ok", found
    for part in ("provider, model", "provider, voice", "store", "delete"):
        assert found[part] == "ok", found
    ran = await world.run("doctor", "--no-turn")
    assert ran.status == 0, ran
    assert "✔ service tts" in ran.out
    assert "- streams, consumers" in ran.out


async def test_bench_tells_percentiles(world: World) -> None:
    ran = await world.run("bench", "-n", "3", "-j", "2", "--json")
    assert ran.status == 0, ran
    (value,) = ran.values
    assert value["failed"] == {}
    for name in ("first_word_ms", "first_sound_ms", "whole_turn_ms"):
        assert 0 < value[name]["p50"] <= value[name]["p99"]


async def test_chat_takes_questions_from_a_pipe(world: World) -> None:
    conversation = new()
    said = "My name is Ada.\n/system Be brief.\nWhat is my name?\n/nothing\n/quit\nnot asked\n"
    ran = await world.run("chat", "-c", conversation, stdin=said)
    assert ran.status == 0, ran
    assert ran.out.splitlines()[-1].startswith("Your name is Ada.")
    assert "There is no /nothing" in ran.err
    ran = await world.run("chat", "-c", conversation, "--json", "--no-voice", stdin="Hi")
    assert ran.values[-1]["type"] == "done"


# ---------------------------------------------------------------- what goes wrong


async def test_a_server_that_is_away_is_said_so_by_every_command() -> None:
    away = {"NATS_URL": "nats://127.0.0.1:1"}
    commands = (
        ("ask", "Hi"),
        ("chat",),
        ("say", "Hi", "--json"),
        ("history", "c"),
        ("delete", "c", "--yes"),
        ("tail",),
        ("dead", "list"),
        ("bench",),
    )
    rans = await asyncio.gather(
        *(parley(*words, "--timeout", "1", environ=away) for words in commands)
    )
    for words, ran in zip(commands, rans, strict=True):
        assert ran.status == 3, (words, ran)
        assert "cannot be reached" in ran.err
    ran = await parley("doctor", environ=away)
    assert ran.status == 1
    assert "✘ reach 127.0.0.1:1" in ran.out
    assert "→ Start NATS" in ran.out


async def test_a_wrong_password_is_refused_and_said_so(world: World) -> None:
    wrong = {"NATS_PASSWORD": "wrong"}
    ran = await world.run("ask", "Hi", "--json", environ=wrong)
    assert ran.status == 4
    assert ran.values[-1]["error"]["code"] == "unauthorized"
    assert "NATS_PASSWORD" in ran.err
    assert (await world.run("doctor", environ=wrong)).status == 1


async def test_what_is_asked_wrongly_is_said_before_anything_is_asked(tmp_path: Path) -> None:
    away = {"NATS_URL": "nats://127.0.0.1:1"}
    for words in (
        ("ask",),
        ("ask", "Hi", "--save", "a.doc"),
        ("ask", "Hi", "--save", str(tmp_path / "none" / "a.wav")),
        ("ask", "Hi", "--no-voice", "--save", "a.wav"),
        ("say", "Hi"),  # nobody would hear it
        ("say", "--file", str(tmp_path / "none")),
        ("tail", "--kind", "nonsense"),
        ("dead", "retry"),
        ("nonsense",),
        ("ask", "Hi", "--nonsense"),
        ("ask", "Hi", "--ca", str(tmp_path / "none")),
    ):
        ran = await parley(*words, environ=away, cwd=tmp_path)
        assert ran.status == 2, (words, ran)
        assert ran.err


async def test_an_id_that_is_none_is_refused(world: World) -> None:
    ran = await world.run("ask", "Hi", "-c", "not an id")
    assert ran.status == 2
    assert "'not an id' is no id" in ran.err
    assert (await world.run("dead", "show", "999999", user="operator")).status == 5


async def test_ctrl_c_ends_it_with_130(world: World) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "parley", "--url", world.url, "tail"),
        env=ENVIRON,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr is not None
    async with asyncio.timeout(60):
        assert b"Listening" in await process.stderr.readline()
        process.send_signal(signal.SIGINT)
        rest = await process.stderr.read()
        assert await process.wait() == 130
    assert b"Traceback" not in rest


async def test_nobody_reading_the_output_is_no_error_to_be_seen(world: World) -> None:
    conversation = new()
    await world.run("ask", "Hi", "-c", conversation)
    reading, writing = os.pipe()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "parley", "tail", conversation, "--past"),
        env={**ENVIRON, "NATS_URL": world.url},
        stdout=writing,
        stderr=asyncio.subprocess.PIPE,
    )
    os.close(writing)
    with os.fdopen(reading, "rb") as out:
        async with asyncio.timeout(60):
            assert b"text.started" in await asyncio.to_thread(out.readline)
    ended = asyncio.create_task(process.communicate())
    while not ended.done():  # there is more to be written, and it notices
        assert (await world.run("ask", "Hi", "-c", conversation, "--no-voice")).status == 0
        await asyncio.wait({ended}, timeout=0.2)
    _, err = await ended
    assert b"Traceback" not in err
    assert b"Broken" not in err
    assert process.returncode == 141


async def test_help_has_the_exit_statuses_and_every_command() -> None:
    ran = await parley("--help")
    assert ran.status == 0
    for name in ("ask", "chat", "say", "history", "delete", "tail", "dead", "token", "doctor"):
        assert f" {name} " in ran.out
    assert "Exit status" in ran.out
    assert "130 Ctrl-C" in " ".join(ran.out.split())
    ran = await parley("--show-completion", environ={"SHELL": "/bin/bash"})
    assert "Traceback" not in ran.out
