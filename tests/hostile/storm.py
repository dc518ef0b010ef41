"""Sends hostile messages to a running system, and keeps account of what becomes of each."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from shared.contract import conversation_of, is_id
from tests.hostile.messages import ERASED, EVENTS, Hostile
from tests.raw_nats import RawClient, RawMessage, block, raw_client

if TYPE_CHECKING:
    from collections.abc import Iterable

    from local.service import Service
    from tests.system import System

# No voice unless one is asked for; a text that never comes is not waited for.
SETTINGS: Final = {"CHAT_SPEECH": "false", "TTS_TEXT_TIMEOUT": "1", "CHAT_FIRST_TOKEN_TIMEOUT": "5"}
SCRIPT: Final[dict[str, Any]] = {
    "chat": {"first_token_ms": 0, "tokens_per_second": 0, "replies": ["So it is."]},
    "speech": {"realtime_factor": 1000, "first_audio_ms": 0},
}
# Answers to whoever asks; what has no answer to give is kept as a dead letter, or is an event.
ASKED: Final = frozenset(
    {
        *("chat.ask", "chat.cancel", "chat.history.get", "chat.history.delete", "chat.replay"),
        *("tts.link", "tts.erase"),
    }
)
IN_FLIGHT: Final = 200
# Without the end of any message; an erasure alone may wait for twenty.
PATIENCE_SECONDS: Final = 60.0
ERASING_SECONDS: Final = 3.0  # the same for what may have been dropped
INBOX: Final = "_INBOX.hostile"
# What a log line of ours is called that only a bug writes.
BUGS: Final = ("work.failed", "reply.failed", "process.failed")


@dataclass(slots=True)
class Account:
    """What is owed to each message, by its number, and what came."""

    numbered: int = 0
    open: dict[int, Hostile] = field(default_factory=dict)
    how: Counter[str] = field(default_factory=Counter)
    heard: float = field(default_factory=time.monotonic)
    _by_turn: dict[tuple[str, str, str], set[int]] = field(default_factory=dict)
    _by_body: dict[tuple[str, bytes], set[int]] = field(default_factory=dict)
    _ended: set[tuple[str, str, str]] = field(default_factory=set)
    _by_place: dict[tuple[str, str], set[int]] = field(default_factory=dict)
    _ended_places: set[tuple[str, str]] = field(default_factory=set)

    def owe(self, number: int, message: Hostile) -> None:
        self.numbered = number
        if message.literal in EVENTS or not (message.reply or _is_kept(message)):
            return  # nobody is told
        turn = _turn_of(message)
        if turn in self._ended:
            self.how["turn"] += 1  # answered before, and never twice
            return
        self.open[number] = message
        self._by_body.setdefault(_body_key(message), set()).add(number)
        if turn is not None:
            self._by_turn.setdefault(turn, set()).add(number)
            if not turn[1]:
                self._by_place.setdefault((turn[0], turn[2]), set()).add(number)

    def settle(self, number: int, how: str) -> None:
        self.heard = time.monotonic()
        if self.open.pop(number, None) is not None:
            self.how[how] += 1

    @property
    def only_erased(self) -> bool:
        """Whether all that is open may have been dropped."""
        return all(map(_may_be_dropped, self.open.values()))

    def forgive(self) -> None:
        """What waits in a conversation that is erased is dropped."""
        for number, message in tuple(self.open.items()):
            if _may_be_dropped(message):
                self.settle(number, "erased")

    # ------------------------------------------------------------ what comes

    def on_reply(self, message: RawMessage) -> None:
        number = int(message.subject.rpartition(".")[2])
        asked = self.open.get(number)
        if asked is None:
            return
        if asked.literal in ASKED or message.headers.get("Status") == "503":
            self.settle(number, "reply")
            return
        # Where a stream keeps the request its ack comes first: then the request has an end, too.
        with contextlib.suppress(ValueError):
            told = json.loads(message.data)
            if told.get("error"):
                self.settle(number, "refusal")
            elif told.get("duplicate"):
                self.settle(number, "duplicate")
            elif "seq" in told:
                self._expect(number, asked, told["seq"])

    def _expect(self, number: int, asked: Hostile, sequence: int) -> None:
        """Headers that are none have no trace: the turn is called by its place in the stream."""
        service = asked.literal.partition(".")[0]
        turn = (service, f"{'v' if service == 'tts' else 't'}{sequence}")
        self._by_place.setdefault(turn, set()).add(number)
        if turn in self._ended_places:
            self.settle(number, "event")

    def on_dead_letter(self, message: RawMessage) -> None:
        with contextlib.suppress(KeyError, ValueError):
            self.settle(int(message.headers["X-Number"]), "dead letter")
            return
        subject = message.headers.get("Parley-Subject", "")
        for number in tuple(self._by_body.get((subject, message.data[:1_000]), ())):
            self.settle(number, "dead letter")

    def on_event(self, message: RawMessage) -> None:
        ours, _, trace = message.headers.get("traceparent", "").partition("-")
        literal = "tts" if message.subject.startswith("tts.") else "chat"
        if not _is_end(literal, message) or message.headers.get("X-Number"):
            return  # a stranger's
        if ours:
            with contextlib.suppress(ValueError):
                self.settle(int(trace[:32]), "event")
        turn = (literal, conversation_of(message.subject), message.headers.get("Parley-Turn", ""))
        self._ended.add(turn)
        self._ended_places.add((literal, turn[2]))
        for number in tuple(self._by_place.get((literal, turn[2]), ())):
            self.settle(number, "event")
        for number in tuple(self._by_turn.get(turn, ())):
            self.settle(number, "turn")


def _may_be_dropped(message: Hostile) -> bool:
    """A request that waits in a conversation that is erased."""
    named = conversation_of(message.subject.decode(errors="replace"))
    with contextlib.suppress(ValueError, TypeError, RecursionError, AttributeError):
        named = named or json.loads(message.body).get("conversation_id")
    return message.literal not in ASKED and named in ERASED


def _is_kept(message: Hostile) -> bool:
    """By a stream, or as a dead letter: then its sender need not ask."""
    tokens = message.subject.removeprefix(message.literal.encode()).split(b".")[1:]
    return message.literal not in ASKED and len(tokens) <= 1 and all(tokens)


def _is_end(literal: str, message: RawMessage) -> bool:
    if literal == "tts":
        return message.headers.get("Parley-Type") in {"stored", "failed"}
    return message.data.startswith((b'{"type":"done"', b'{"type":"failed"'))


def _body_key(message: Hostile) -> tuple[str, bytes]:
    return message.subject.decode(errors="replace"), message.body[:1_000]


def _turn_of(message: Hostile) -> tuple[str, str, str] | None:
    """Service, conversation and turn, where the message names them."""
    headers = {} if isinstance(message.headers, bytes) else message.headers
    body: Any = {}
    with contextlib.suppress(ValueError, RecursionError):
        # As the services do, who pass over a field that is no UTF-8.
        body = json.loads(message.body.decode(errors="replace"))
    body = body if isinstance(body, dict) else {}
    named = conversation_of(message.subject.decode(errors="replace"))
    conversation_id = named or body.get("conversation_id")
    turns = (body.get("turn_id"), headers.get("Parley-Turn"), headers.get("Nats-Msg-Id"))
    turn_id = next((turn for turn in turns if isinstance(turn, str) and is_id(turn)), None)
    if turn_id is None:
        return None
    conversation_id = conversation_id if isinstance(conversation_id, str) else ""  # made up
    return message.literal.partition(".")[0], conversation_id, turn_id


# ---------------------------------------------------------------- the storm


def resident(service: Service) -> int:
    """Bytes of memory that the process has now."""
    lines = Path(f"/proc/{service.pid}/status").read_text().splitlines()
    line = next(line for line in lines if line.startswith("VmRSS"))
    return int(line.split()[1]) * 1024


async def storm(
    system: System, messages: Iterable[Hostile], account: Account | None = None
) -> Account:
    """Sends them; returns when each has what is owed to it, or has waited in vain: then it is still
    open. `account` is that of an earlier storm, to be gone on with."""
    account = account or Account()
    account.heard, first = time.monotonic(), account.numbered + 1
    async with raw_client(system.nats.url) as client:
        await client.subscribe(f"{INBOX}.*", account.on_reply)
        for literal in ("chat.dead", "chat.dead.*", "tts.dead", "tts.dead.*"):
            await client.subscribe(literal, account.on_dead_letter)
        for literal in ("chat.delta.*", "tts.audio.*"):
            await client.subscribe(literal, account.on_event)
        for number, message in enumerate(messages, first):
            account.owe(number, message)
            await _send(client, number, message)
            await _until_at_most(IN_FLIGHT, account)
        await client.flush()
        await _until_at_most(0, account)
    account.forgive()
    return account


async def _until_at_most(count: int, account: Account) -> None:
    while len(account.open) > count:
        patience = ERASING_SECONDS if account.only_erased else PATIENCE_SECONDS
        if time.monotonic() - account.heard > patience:
            return
        await asyncio.sleep(0.01)


async def _send(client: RawClient, number: int, message: Hostile) -> None:
    headers = message.headers
    if not isinstance(headers, bytes):
        marks = {"X-Number": str(number)}
        if message.literal not in EVENTS:
            marks["traceparent"] = f"00-{number:032}-{number:016}-01"
        headers = block(marks | headers)
    reply = f"{INBOX}.{number}" if message.reply else ""
    await client.publish(message.subject, message.body, headers=headers, reply=reply)


def complaints(services: Iterable[Service]) -> list[str]:
    """Log lines that only a bug writes."""
    return [
        line
        for service in services
        for line in service.said().splitlines()
        if any(f'"event": "{name}"' in line for name in BUGS)
    ]
