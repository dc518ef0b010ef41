"""What a caller is told by the running system: refusals, warnings, states, links, the past."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio

from tests.system import System

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(120)]

PACE = {"chat": {"first_token_ms": 5, "tokens_per_second": 0}, "speech": {"realtime_factor": 200}}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def system(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[System]:
    async with System(tmp_path_factory.mktemp("system"), script=PACE) as running:
        await running.up()
        yield running


async def told(system: System, subject: str, body: bytes | dict[str, Any]) -> dict[str, Any]:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = await system.client.request(subject, data, timeout=15)
    return dict(json.loads(answer.data))


@pytest.mark.parametrize(
    ("request_", "what"),
    [
        ({"model": "no/such-model", "speech": False}, "text"),
        ({"speech": {"voice": "nobody"}}, "voice"),
        ({"speech": {"model": "no/such-model"}}, "voice"),
    ],
)
async def test_a_model_or_voice_that_nobody_knows_fails_with_its_name(
    system: System, request_: dict[str, Any], what: str
) -> None:
    turn = await system.answered(content="Hello.", **request_)
    end = turn.end if what == "text" else turn.voice_end

    assert end is not None
    assert (end["type"], end["error"]["code"]) == ("failed", "provider_refused")
    assert "no" in end["error"]["message"]


@pytest.mark.parametrize("subject", ["chat.request", "chat.request.warned", "chat.ask.warned"])
async def test_a_misspelled_field_is_named_when_the_turn_starts(
    system: System, subject: str
) -> None:
    turn_id = f"warned-{subject.replace('.', '-')}"
    body = {"content": "Hello.", "turn_id": turn_id, "speach": False, "speech": {"voce": "x"}}
    await told(system, subject, body)
    await system.ears.whole(turn_id)
    warnings = system.ears.turn(turn_id).deltas[0]["warnings"]

    assert [warning.split("`")[1::2] for warning in warnings] == [
        ["speach", "speech"],
        ["speech.voce", "voice"],
    ]


async def test_plain_text_is_spoken(system: System) -> None:
    headers = {"Nats-Msg-Id": "plain"}
    await system.client.jetstream().publish("tts.request.plain", b"Hello.", headers=headers)
    await system.ears.until(lambda: system.ears.turn("plain").voice_end is not None)
    end = system.ears.turn("plain").voice_end

    assert end is not None
    assert (end["type"], end["characters"]) == ("stored", 6)
    assert end["captions_url"].startswith("http")


async def test_a_client_that_crashed_asks_again_and_reads_what_it_missed(system: System) -> None:
    body = {"content": "Hello.", "turn_id": "crashed", "speech": False}
    assert (await told(system, "chat.ask.crash", body))["state"] == "queued"
    await system.ears.whole("crashed", voice=False)

    assert (await told(system, "chat.ask.crash", body))["state"] == "ended"
    messages = (await told(system, "chat.history.get.crash", b""))["messages"]
    assert [message["turn_id"] for message in messages] == ["crashed", "crashed"]


async def test_a_bad_request_is_told_what_is_allowed(system: System) -> None:
    answer = await told(system, "chat.ask.bad", {"content": "x", "speech": {"format": "midi"}})

    assert answer["error"]["code"] == "invalid_request"
    assert "wav, flac, mp3, opus, aac, pcm" in answer["error"]["message"]


async def test_the_link_of_a_voice_outlives_its_record(system: System) -> None:
    await system.answered(conversation_id="linked", content="Hello.", turn_id="linked")
    first = await told(system, "tts.link.linked", {"turn_id": "linked"})
    stream = system.client.jetstream()
    await stream.purge_stream("KV_speech", subject="$KV.speech.linked.linked")
    again = await told(system, "tts.link.linked", {"turn_id": "linked"})

    assert first["duration_ms"] == again["duration_ms"] > 0
    assert again["url"].partition("?")[0] == first["url"].partition("?")[0]
    gone = await told(system, "tts.link.linked", {"turn_id": "other"})
    assert gone["error"]["code"] == "not_found"
