"""The page as the demonstration serves it, and the ports that it likes best."""

from __future__ import annotations

from typing import TYPE_CHECKING

import aiohttp

from local.page import Page

if TYPE_CHECKING:
    from pathlib import Path


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
    await page.close()
    empty = Page(tmp_path / "nothing", "")
    await empty.start()
    assert not empty.url
