"""The page as the demonstration serves it: it shows a token, and no other page gets in."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from local.page import PAGE, Page, listen, origins
from local.service import Service
from local.stack import Stack
from tests.e2e.test_page import PACE, STORY, Browser, chromium

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.page, pytest.mark.timeout(240)]

SCRIPT: dict[str, Any] = {**PACE, "chat": {**PACE["chat"], "replies": [STORY]}}
# What a page of somebody else's does that knows where NATS is.
FOREIGN = """
new Promise((tell) => {
  const socket = new WebSocket("%s");
  socket.onopen = () => tell("opened");
  socket.onerror = () => tell("refused");
})
"""


async def test_the_page_talks_by_a_token_and_a_foreign_page_is_not_let_in(tmp_path: Path) -> None:
    listening = listen()
    async with (
        Stack(
            data=tmp_path / "data", script=SCRIPT, origins=origins(listening.getsockname()[1])
        ) as stack,
        Service("access", stack.process_environment("access", HTTP_PORT="0")),
        Service("chat", stack.process_environment("chat", HTTP_PORT="0")),
        Service("tts", stack.process_environment("tts", HTTP_PORT="0")),
        Browser(chromium()) as browser,
    ):
        ours = Page(PAGE, stack.nats.ws_url, token=stack.accounts.token, listening=listening)
        foreign = Page(PAGE, stack.nats.ws_url)
        await asyncio.gather(ours.start(), foreign.start())
        try:
            tab = await browser.tab(ours.url)
            turn_id = await tab.ask("How is the weather?")
            await tab.until_state(turn_id, "complete", 60)
            assert (await tab.turn(turn_id))["text"] == STORY
            await tab.until("window.parley.state.heard > 0", 60)
            await tab.reload()  # the history, and by replay what it heard
            await tab.until_state(turn_id, "complete", 60)
            assert tab.complaints == []

            assert await tab.evaluate(FOREIGN % stack.nats.ws_url) == "opened"
            await tab.send("Page.navigate", url=foreign.url)
            await tab.until(f"location.href.startsWith({foreign.url!r})")
            assert await tab.evaluate(FOREIGN % stack.nats.ws_url) == "refused"
            async with aiohttp.ClientSession() as http:
                asked = {"conversation_id": "guess"}
                async with http.post(f"{ours.url}token", json=asked) as answer:
                    assert answer.status == 400
        finally:
            await ours.close()
            await foreign.close()
