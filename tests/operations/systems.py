"""Whole systems for what an operator does: by deploy/nats, each part with a login of its own."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from parley import Stored

from deploy.runs.turns import check
from local.process import ROOT
from tests.e2e.whole import fetch
from tests.integration.deploy.test_nats_permissions import Guarded, replayed
from tests.system import Turn

if TYPE_CHECKING:
    from pathlib import Path

COMMAND_SECONDS = 60.0


class Operated(Guarded):
    """As `Guarded`; the operator's commands are run against it, its turns are looked at whole."""

    def operator(self) -> dict[str, str]:
        return {"NATS_USER": "operator", "NATS_PASSWORD": "operator-local"}

    async def run(self, *words: str | Path) -> subprocess.CompletedProcess[str]:
        """`python -m` with the operator's login."""
        return await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-m", *words],
            env={**os.environ, **self.environment(), **self.operator()},
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
            check=False,
        )

    async def down(self) -> None:
        """Every service is told to end, and does: what is in hand is finished or handed back."""
        for service in self.services:
            service.signal(signal.SIGTERM)
        assert {await service.ended() for service in self.services} == {0}
        self.services.clear()

    async def told(self, subject: str, **body: Any) -> dict[str, Any]:
        answer = await self.client.request(subject, json.dumps(body).encode(), timeout=10)
        return dict(json.loads(answer.data))

    async def replay(self, conversation_id: str, turn_id: str) -> Turn:
        """What the streams hold of a turn, as somebody is told who listens later."""
        turn = Turn()
        for event in await replayed(self.client, conversation_id, "delta"):
            if (found := json.loads(event.data))["turn_id"] == turn_id:
                turn.deltas.append(found)
        for event in await replayed(self.client, conversation_id, "audio"):
            if event.headers["Parley-Turn"] == turn_id:
                turn.audio.append((dict(event.headers), event.data))
        return turn

    async def assert_whole(self, conversation_id: str, turn_id: str, turn: Turn) -> None:
        """`turn`: all that anybody was ever told of it. Its words, its voice once, its object."""
        link = await self.told(f"tts.link.{conversation_id}", turn_id=turn_id)
        body = await asyncio.to_thread(fetch, link["url"])
        events = turn.events()
        stored = next(event for event in events if isinstance(event, Stored))
        check(f"turn {turn_id}", events, stored, body)
