"""What docs/security.md says how to make a token, and how to connect with it, is true."""

from __future__ import annotations

import re
from typing import Any

import nats
import pytest

from local.process import ROOT
from tests.integration.access.world import SECONDS, SEED, Guarded

pytestmark = pytest.mark.asyncio(loop_scope="module")

BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "security.md").read_text(), re.DOTALL)


async def test_ten_lines_of_python_mint_a_token_that_opens_its_conversation(
    guarded: Guarded,
) -> None:
    made: dict[str, Any] = {}
    exec(BLOCKS[0], made)  # the documentation's own
    shown = made["token"](SEED, "ada", ["c"], ["ask"])
    options = {"token": shown, "error_cb": ignore, "allow_reconnect": False}

    inbox = eval(BLOCKS[1].partition("inbox_prefix=")[2].strip()[:-1], {"token": shown})
    client = await nats.connect(guarded.url, inbox_prefix=inbox, **options)

    assert (await client.request("chat.ask.c", b"Hello", timeout=SECONDS)).data
    await client.close()


async def ignore(_error: Exception) -> None: ...
