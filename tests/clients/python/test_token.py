"""A client with a token, as a browser has one: all of its own conversation, and nothing else."""

from __future__ import annotations

import asyncio
import uuid
from typing import TYPE_CHECKING

import parley as p
import pytest
import pytest_asyncio
from parley import Parley, wire

from services.access.token import May
from tests.clients.python.test_turns import all_of, assert_whole
from tests.integration.access.world import World, token

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(180)]

MINE = uuid.uuid4().hex


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    async with World(tmp_path_factory.mktemp("world")) as running:
        await running.up()
        yield running


async def test_its_own_conversation_is_all_that_it_needs(world: World) -> None:
    async with Parley.connect(world.nats.ws_url, token=token(MINE)) as parley:
        turn = parley.ask("Hello!", conversation=MINE)
        assert_whole(await all_of(turn))
        assert_whole(await all_of(parley.follow(MINE, turn.turn_id)))
        assert (await turn.link()).bytes > 44
        assert len((await anext(parley.history(MINE))).messages) == 2
        await turn.cancel(heard_ms=0)
        await parley.delete(MINE)


async def test_another_conversation_is_refused_at_once(world: World) -> None:
    async with Parley.connect(world.nats.ws_url, token=token(MINE), timeout=60) as parley:
        async with asyncio.timeout(60):
            for refused in (
                lambda: parley.ask("Hello!", conversation="theirs").text(),
                lambda: parley.ask("Hello!").text(),
                lambda: parley.follow("theirs", "t").text(),
                lambda: anext(parley.history("theirs")),
                lambda: parley.delete("theirs"),
                lambda: parley.cancel("theirs"),
                lambda: parley.link("theirs", "t"),
                lambda: parley.say("Hello!", conversation=MINE).voice(),
            ):
                with pytest.raises(p.Unauthorized):
                    await refused()


async def test_what_a_token_does_not_allow_is_refused(world: World) -> None:
    shown = token(MINE, may=[May.ASK])
    async with Parley.connect(world.nats.ws_url, token=shown, timeout=60) as parley:
        async with asyncio.timeout(30):
            turn = parley.ask("Hello!", conversation=MINE)
            assert await turn.accepted()
            with pytest.raises(p.Unauthorized):
                await turn.text()
            with pytest.raises(p.Unauthorized):
                await parley.delete(MINE)


@pytest.mark.parametrize(
    "login",
    [{"token": "none"}, {"user": "client", "password": "wrong"}, {}],
    ids=["token", "password", "none"],
)
async def test_a_login_that_is_none_is_refused(world: World, login: dict[str, str]) -> None:
    with pytest.raises(p.Unauthorized):
        async with Parley.connect(world.nats.url, **login):  # type: ignore[arg-type]
            pass


async def test_a_trusted_client_may_have_something_said(world: World) -> None:
    login = {"user": "client", "password": "client-local"}
    async with Parley.connect(world.nats.url, **login) as parley:  # type: ignore[arg-type]
        assert await parley.say("Hello!").voice()
        assert_whole(await all_of(parley.ask("Hello!")))


async def test_a_token_that_ends_is_followed_by_the_next(world: World) -> None:
    shown: list[str] = []

    async def fresh() -> str:
        shown.append(token(MINE, seconds=3 if not shown else 3600))
        return shown[-1]

    async with Parley.connect(world.nats.ws_url, token=fresh) as parley, asyncio.timeout(60):
        while len(shown) < 2:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        assert_whole(await all_of(parley.ask("Hello!", conversation=MINE)))


async def test_a_token_that_ends_and_has_no_successor_is_told(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "REFUSED_SECONDS", 0.5)
    shown = token(MINE, seconds=3)
    async with (
        Parley.connect(world.nats.ws_url, token=shown, timeout=60) as parley,
        asyncio.timeout(60),
    ):
        with pytest.raises(p.Unauthorized):
            async for _ in parley.tail(MINE):
                pass
        with pytest.raises(p.Unauthorized):
            await parley.cancel(MINE)


async def test_a_server_that_comes_back_before_who_judges_tokens_is_waited_for(
    world: World,
) -> None:
    async with Parley.connect(world.nats.ws_url, token=token(MINE), idle=90) as parley:
        turn = parley.ask("Hello!", conversation=MINE)
        await turn.accepted()
        await world.access.kill()
        await world.nats.kill()
        await world.nats.start()
        await world.access.start()

        assert_whole(await all_of(turn))
        assert_whole(await all_of(parley.ask("And now?", conversation=MINE)))
