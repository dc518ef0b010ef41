"""The page as the demonstration serves it, and the ports that it likes best."""

from __future__ import annotations

from typing import TYPE_CHECKING

import aiohttp

from local.page import Page

if TYPE_CHECKING:
    from pathlib import Path

LONG = "0123456789abcdef0123456789abcdef"


async def test_the_page_is_served_with_the_address_of_nats(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("<p>Hello</p>")
    (tmp_path / "main.js").write_text("1;")
    page = Page(tmp_path, "ws://127.0.0.1:1")
    await page.start()
    async with aiohttp.ClientSession() as http:
        async with http.get(page.url) as answer:
            assert await answer.text() == "<p>Hello</p>"
        async with http.get(f"{page.url}config.json") as answer:
            assert await answer.json() == {"nats_url": "ws://127.0.0.1:1"}
        async with http.get(f"{page.url}main.js") as answer:
            assert await answer.text() == "1;"
        async with http.get(f"{page.url}asyncapi.html") as answer:
            assert "AsyncAPI" in await answer.text()
    await page.close()
    empty = Page(tmp_path / "nothing", "")
    await empty.start()
    assert not empty.url


async def test_the_page_is_handed_a_token_for_a_conversation_that_nobody_guesses(
    tmp_path: Path,
) -> None:
    (tmp_path / "index.html").write_text("")
    page = Page(
        tmp_path, "ws://127.0.0.1:1", token=lambda conversation_id: f"for {conversation_id}"
    )
    await page.start()

    async def asked(body: object, **headers: str) -> tuple[int, str]:
        async with http.post(f"{page.url}token", json=body, headers=headers) as answer:
            return answer.status, await answer.text()

    async with aiohttp.ClientSession() as http:
        async with http.get(f"{page.url}config.json") as answer:
            assert (await answer.json())["token_url"] == "token"
        assert await asked({"conversation_id": LONG}) == (200, f'{{"token": "for {LONG}"}}')
        refused: list[object] = [
            {"conversation_id": "short"},
            {"conversation_id": 5},
            {},
            [],
            f"{LONG}.>",
        ]
        for body in refused:
            assert (await asked(body))[0] == 400
        # A name of somebody else's that leads here: a page of that name could read the answer.
        assert (await asked({"conversation_id": LONG}, Host="evil.example"))[0] == 404
    await page.close()
