"""Who shows a token is let in for what it says, while it lasts; everybody else is told off."""

from __future__ import annotations

import asyncio
import re
import signal
import time
import urllib.request

import nats
import nats.errors
import pytest

from services.access import jwt
from services.access.nkey import SigningKey, account_seed
from services.access.token import May
from tests.integration.access.world import (
    OTHER_KEY,
    OTHER_SEED,
    SECONDS,
    SEED,
    Guarded,
    browser,
    guard,
    token,
)
from tests.integration.harness import soon

pytestmark = pytest.mark.asyncio(loop_scope="module")

STRANGER = SigningKey.from_seed(account_seed(b"9" * 32))


async def test_a_token_opens_its_conversation_over_a_websocket(guarded: Guarded) -> None:
    async with browser(guarded.url, token("c")) as page:
        assert await page.ask("chat.ask.c", content="Hello") == {"subject": "chat.ask.c"}
        await page.client.publish("chat.ask.d", b"Hello")
        await page.settle()
        assert "permissions violation" in page.refused[0]


@pytest.mark.parametrize(
    ("shown", "reason"),
    [
        ("", "neither a login nor a token"),
        ("guess", "not a token"),
        (token("c", seconds=-1), "ended"),
        (token("c", seconds=90_000), "would last for longer"),
        (token("c", key=STRANGER), "signed with a key that is not"),
        (token("c")[:-6] + "AAAAAA", "it was changed"),
        (token(*(f"c{n}" for n in range(17))), "more than 16 conversations"),
        (jwt.signed({"sub": "a"}, OTHER_KEY), "not those of a conversation token"),
        (jwt.signed({"sub": "a"}, OTHER_KEY, jwt.NATS), "of another type"),
    ],
)
async def test_a_bad_token_is_refused_in_words(guarded: Guarded, shown: str, reason: str) -> None:
    assert reason in await guarded.refuses(shown)
    assert not shown or shown not in guarded.service.said()
    assert not shown or shown not in guarded.nats.said()


async def test_a_token_on_a_plain_tcp_connection_is_refused(guarded: Guarded) -> None:
    said = await guarded.refuses(token("c"), url=guarded.nats.url)
    assert "over TLS only" in said


async def test_a_login_is_not_made_better_by_a_guess(guarded: Guarded) -> None:
    for login in ({"user": "chat", "password": "guess"}, {"user": "root", "password": ""}):
        with pytest.raises(nats.errors.Error, match=r"(?i)authorization violation"):
            await nats.connect(guarded.url, allow_reconnect=False, **login)


async def test_the_connection_ends_with_the_token(guarded: Guarded) -> None:
    shown = token("c", seconds=3)
    async with browser(guarded.url, shown) as page:
        await page.ask("chat.ask.c")
        await page.gone()
    assert "ended" in await guarded.refuses(shown)


async def test_who_holds_a_removed_key_s_token_is_put_out_at_once_and_nobody_else(
    own: Guarded,
) -> None:
    theirs, ours = token("c"), token("d", key=OTHER_KEY)
    async with browser(own.url, theirs) as gone, browser(own.url, ours) as stays:
        await gone.ask("chat.ask.c")
        own.keys.write_text(f"{OTHER_SEED}\n")
        began = time.monotonic()
        await gone.gone()
        assert time.monotonic() - began < SECONDS
        assert await stays.ask("chat.ask.d")
        assert "signed with a key that is not" in await own.refuses(theirs)


async def test_a_key_file_that_cannot_be_read_changes_nothing(own: Guarded) -> None:
    async with browser(own.url, token("c")) as page:
        own.keys.write_text(f"{SEED[:30]}\n")
        await said(own, "access.keys_not_read")
        assert await page.ask("chat.ask.c")
    async with browser(own.url, token("c")) as again:
        assert await again.ask("chat.ask.c")
    assert SEED[:30] not in own.service.said()


async def test_connections_of_a_key_that_went_while_nobody_looked_are_found_at_the_start(
    own: Guarded,
) -> None:
    async with browser(own.url, token("c")) as page:
        await page.ask("chat.ask.c")
        await own.service.kill()
        own.keys.write_text(f"{OTHER_SEED}\n")
        await own.service.start()
        await page.gone()


async def said(guarded: Guarded, event: str) -> None:
    await soon(lambda: event in [line["event"] for line in guarded.said()], SECONDS)


async def test_any_replica_answers_and_one_that_stops_hands_over(own: Guarded) -> None:
    async with guard(own.nats, own.keys):
        own.service.signal(signal.SIGTERM)
        assert await own.service.ended() == 0
        for _ in range(5):
            async with browser(own.url, token("c")) as page:
                assert await page.ask("chat.ask.c")


async def test_it_is_ready_while_it_is_connected_and_tells_its_metrics(own: Guarded) -> None:
    async with browser(own.url, token("c", may=[May.HISTORY])):
        pass
    assert own.service.is_ready()

    def metrics() -> str:
        with urllib.request.urlopen(own.service.url("/metrics"), timeout=5) as answer:
            return str(answer.read().decode())

    told = await asyncio.to_thread(metrics)
    assert 'parley_tokens_shown_total{verdict="granted"} 1.0' in told
    assert re.findall(r"^# TYPE (parley_\w+)", told, re.MULTILINE) == ["parley_tokens_shown_total"]
    await own.nats.stop()
    assert not await asyncio.to_thread(own.service.is_ready)
    await own.nats.start()
    await own.service.ready()
