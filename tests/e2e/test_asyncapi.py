"""Everything that a run puts on the wire is as docs/asyncapi.yaml says, and nothing more."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio

from tests.asyncapi import Document, document
from tests.system import System

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from nats.aio.msg import Msg

pytestmark = pytest.mark.timeout(120)

SCRIPT = {
    "chat": {
        "replies": ["The sea breathes. The moon pulls at it, and it comes back."],
        "reasoning": "They ask about tides.",
        "first_token_ms": 5,
        "tokens_per_second": 40,
    },
    "speech": {"realtime_factor": 4},
}
NOT_UNDERSTOOD = b'{"text": 1, "content": 1, "what": 1}'
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


class Heard:
    """Whatever is published on the contract's subjects, and each answer, by kind."""

    def __init__(self, system: System, said: Document) -> None:
        self.system, self.document = system, said
        self.kinds: dict[str, int] = {}
        self.undescribed: list[str] = []

    async def listen(self) -> None:
        for subject in ("chat.>", "tts.>"):
            await self.system.client.subscribe(subject, cb=self._on_message)
        await self.system.client.flush()
        await self.system.client.flush()

    async def _on_message(self, msg: Msg) -> None:
        own = msg.data == NOT_UNDERSTOOD and ".dead" not in msg.subject
        if own or msg.subject.startswith("tts.erase"):  # between the services
            return
        try:
            self.take(self.document.channel_of(msg.subject), msg)
        except AssertionError as exc:
            self.undescribed.append(str(exc))

    def take(self, channel: str, msg: Msg) -> str:
        kind = self.document.kind_of(channel, msg.headers or {}, msg.data)
        self.kinds[kind] = self.kinds.get(kind, 0) + 1
        return kind

    async def asked(
        self, subject: str, body: bytes | dict[str, Any], until: Callable[[str], bool]
    ) -> list[str]:
        """The kinds of the answers that come to one inbox, up to the one that is waited for."""
        client, answers = self.system.client, asyncio.Queue[Any]()
        inbox = client.new_inbox()
        subscription = await client.subscribe(inbox, cb=answers.put)
        await client.flush()
        await client.flush()
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        await client.publish(subject, data, reply=inbox)
        operation = self._operation(subject)
        reply = operation["reply"]["channel"]["$ref"].rpartition("/")[2]
        found: list[str] = []
        async with asyncio.timeout(20):
            while not found or not until(found[-1]):
                found.append(self.take(reply, await answers.get()))
        await subscription.unsubscribe()
        return found

    def _operation(self, subject: str) -> dict[str, Any]:
        wanted = f"#/channels/{self.document.channel_of(subject)}"
        operations: dict[str, Any] = self.document.whole["operations"]
        return next(o for o in operations.values() if o["channel"]["$ref"] == wanted)


@pytest_asyncio.fixture
async def heard(tmp_path: Path) -> AsyncIterator[Heard]:
    async with System(tmp_path, script=SCRIPT) as system:
        await system.up()
        everything = Heard(system, document())
        await everything.listen()
        yield everything


def once(_kind: str) -> bool:
    return True


async def test_every_message_of_a_run_is_one_that_the_document_describes(heard: Heard) -> None:
    system, js = heard.system, heard.system.client.jetstream()

    # A turn with a voice, by the literal subject: misspelled, traced, with times of words.
    request = {
        "conversation_id": "c1",
        "turn_id": "t1",
        "content": "What is a tide?",
        "metadata": {"page": "7"},
        "speech": {"alignment": "word"},
        "speach": 1,
    }
    headers = {"traceparent": TRACE, "Nats-Msg-Id": "t1"}
    await js.publish("chat.request", json.dumps(request).encode(), headers=headers)
    await system.ears.whole("t1")

    # Asked for, and stopped in its midst.
    body = {"turn_id": "t2", "content": "Go on."}
    assert await heard.asked("chat.ask.c1", body, once) == ["Asked"]
    await system.ears.until(lambda: bool(system.ears.turn("t2").first_chunk))
    stop = {"conversation_id": "c1", "heard_ms": 100}
    assert await heard.asked("chat.cancel", stop, once) == ["Cancelled"]
    await system.ears.whole("t2")

    # What was said of it, in each form.
    assert await heard.asked("chat.history.get", {"conversation_id": "c1"}, once) == ["History"]
    assert await heard.asked("chat.history.get.c1", {"limit": 1}, once) == ["History"]
    for what in ("delta", "audio"):
        told = await heard.asked("chat.replay.c1", {"what": what}, "ReplayEnd".__eq__)
        assert len(told) > 5
    assert await heard.asked("tts.link.c1", {"turn_id": "t1"}, once) == ["Link"]
    assert await heard.asked("tts.link.c1", {"turn_id": "none"}, once) == ["Refusal"]

    # Plain text, asked and spoken; a turn that fails; a voice that fails.
    assert await heard.asked("chat.request", b"Hello.", once) == ["PubAck"]
    assert await heard.asked("tts.request.c2", b"Mind the gap.", once) == ["PubAck"]
    failing = {"turn_id": "t3", "content": "Hello.", "model": "no/such-model"}
    await heard.asked("chat.request.c2", failing, once)
    unspoken = {"turn_id": "t4", "content": "Hello.", "speech": {"voice": "nobody"}}
    await heard.asked("chat.request.c2", unspoken, once)
    await system.ears.whole("t3", "t4")

    # What nobody understands is acked by the stream, kept, and refused.
    for subject in ("chat.request", "chat.request.c3", "tts.request.c3"):
        assert await heard.asked(subject, NOT_UNDERSTOOD, "Refusal".__eq__) == [
            *("PubAck", "Refusal")
        ]
    assert await heard.asked("chat.replay.c1", NOT_UNDERSTOOD, once) == ["Refusal"]

    assert await heard.asked("chat.history.delete.c1", {}, once) == ["Deleted"]
    everything = set(heard.document.messages) - {"MaxDeliveries", "PubRefused"}

    assert not heard.undescribed
    assert set(heard.kinds) == everything
