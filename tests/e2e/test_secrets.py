"""No secret is in a log, a metric, a trace, an event or a dead letter, whatever goes wrong."""

from __future__ import annotations

import json
import re
import signal
from typing import TYPE_CHECKING, Any

import pytest

from local.nats_server import NatsServer
from local.together.faults import FaultKind
from services.chat.config import Config as ChatConfig
from services.tts.config import Config as TtsConfig
from tests.collector import collector
from tests.e2e.whole import FAST, fetch
from tests.system import API_KEY, System

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.timeout(180)

PASSWORD = "password-that-must-not-leak"
LOGINS = f"""authorization {{ users: [
  {{ user: parley, password: "{PASSWORD}" }}, {{ user: test, password: test }}
] }}
no_auth_user: test"""
# What waits for a deadline is as short as it may be.
SETTINGS = {
    "LOG_LEVEL": "debug",
    "CHAT_TRIES": "1",
    "CHAT_FIRST_TOKEN_TIMEOUT": "0.5",
    "CHAT_TOKEN_TIMEOUT": "0.5",
    "CHAT_CONNECT_TIMEOUT": "1",
    "TTS_TRIES": "1",
    "TTS_FIRST_AUDIO_TIMEOUT": "0.5",
    "TTS_AUDIO_TIMEOUT": "0.5",
    "TTS_CONNECT_TIMEOUT": "1",
}
WORDS = f"The key {API_KEY} is not good: Bearer {API_KEY}"


def faults() -> list[dict[str, Any]]:
    """Every one that the emulator knows, with words that quote our key where it has any."""
    told: list[dict[str, Any]] = [
        {"kind": kind.value, "message": WORDS, "after": 1, "seconds": 0.01, "times": 1}
        for kind in FaultKind
    ]
    statuses = [
        {"kind": kind.value, "message": WORDS, "status": status, "times": 1}
        for kind in (FaultKind.CHAT_STATUS, FaultKind.SOCKET_REFUSE)
        for status in (400, 401, 402, 403, 404, 408, 422, 429, 500, 503)
    ]
    return [*told, *statuses]


async def test_no_secret_is_anywhere_after_every_error_of_the_provider(tmp_path: Path) -> None:
    system = System(tmp_path, settings=SETTINGS)
    system.nats = NatsServer(tmp_path / "nats", websocket=False, config=LOGINS)
    async with collector() as traces, system:
        system.settings["OTEL_EXPORTER_OTLP_ENDPOINT"] = traces.endpoint
        system.emulator.change(FAST)
        where = system.nats.url.removeprefix("nats://")
        # One has its password in the address, the other in a variable.
        in_url = {"NATS_URL": f"nats://parley:{PASSWORD}@{where}"}
        apart = {"NATS_USER": "parley", "NATS_PASSWORD": PASSWORD}
        await system.up(chat=0, tts=0)
        for name, login in (("chat", in_url), ("tts", apart)):
            await system.add(name, **login).ready()
        await system.answered(content="Hello!")
        turns = []
        for number, fault in enumerate(faults()):
            system.emulator.change({"faults": [fault]})
            if fault["kind"].startswith("socket."):
                system.emulator.break_sockets()
            turns.append(await system.ask(turn_id=f"t{number}", content="Hello!"))
            await system.ears.whole(turns[-1], seconds=60)
        metrics = [fetch(service.url("/metrics")) for service in system.services]
        await system.nats.restart()  # what is said of a lost connection
        await system.answered(content="Hello again!", seconds=60)
        for service in system.services:
            service.signal(signal.SIGTERM)
            assert await service.ended() == 0
        found = {
            "logs": [service.log.read_bytes() for service in system.services],
            "metrics": metrics,
            "traces": traces.bodies,
            **{stream: await kept(system, stream) for stream in STREAMS},
        }
        secrets = [API_KEY, PASSWORD, system.s3.secret_key]
        totals = system.emulator.record.totals

    assert (totals.keys_in_urls, totals.requests_without_key) == (0, 0)
    assert all(found[name] for name in ("logs", "metrics", "traces", "CHAT_DELTAS", "TTS_AUDIO"))
    leaks = [
        (name, secret, excerpt(each, secret))
        for name, texts in found.items()
        for each in texts
        for secret in secrets
        if secret.encode() in each
    ]
    assert leaks == []
    # A link is a secret, too: in `stored`, which gives it, and in what is kept of that.
    signed = {
        name for name, texts in found.items() if any(b"X-Amz-Signature=" in each for each in texts)
    }
    assert signed == {"TTS_AUDIO", "KV_speech"}
    failures = [json.loads(each) for each in found["CHAT_DELTAS"] if b'"type":"failed"' in each]
    assert any("***" in failure["error"]["message"] for failure in failures)


STREAMS = ("CHAT_DELTAS", "TTS_AUDIO", "DEAD_LETTERS", "KV_conversations", "KV_speech")


async def kept(system: System, stream: str) -> list[bytes]:
    return [
        b"\n".join([str(message.headers).encode(), message.data or b""])
        if stream == "DEAD_LETTERS"
        else message.data or b""
        for message in await system.stored(stream)
    ]


def excerpt(text: bytes, secret: str) -> bytes:
    at = text.index(secret.encode())
    return re.sub(rb"\s+", b" ", text[max(0, at - 120) : at + 40])


def test_no_setting_that_is_secret_is_shown() -> None:
    environ = {
        "TOGETHER_API_KEY": API_KEY,
        "NATS_USER": "parley",
        "NATS_PASSWORD": PASSWORD,
        "MINIO_ACCESS_KEY": "access",
        "MINIO_SECRET_KEY": PASSWORD,
    }
    for config in (ChatConfig.from_env(environ), TtsConfig.from_env(environ)):
        assert API_KEY not in repr(config)
        assert PASSWORD not in repr(config)
        assert PASSWORD not in str(config)
