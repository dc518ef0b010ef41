"""The contract's page in a real browser: it comes alive, and asks nobody for anything."""

from __future__ import annotations

import pytest

from local.page import CONTRACT
from tests.e2e.test_page import Browser, chromium

pytestmark = [pytest.mark.page, pytest.mark.timeout(120)]

OPENED = "document.querySelector('#root').innerText.includes('Collapse all')"
ALIVE = """
(() => {
  const first = document.querySelector('#root > *');
  return first && Object.keys(first).some((key) => key.startsWith('__react'));
})()
"""
EXPAND = "[...document.querySelectorAll('button')].find((b) => b.innerText.trim() === 'Expand all')"


async def test_the_page_of_the_contract_is_read_and_opened_up() -> None:
    async with Browser(chromium()) as browser:
        tab = await browser.empty_tab()
        await tab.send("Page.navigate", url=CONTRACT.as_uri())
        await tab.until(f"{ALIVE.strip()} && !{OPENED}")
        text = await tab.evaluate("document.querySelector('#root').textContent")
        await tab.evaluate(f"{EXPAND}.click()")
        await tab.until(OPENED)

        assert "chat.ask.{conversation_id}" in text
        assert "Parley-Type" in text
        assert tab.complaints == []
        assert [url for url in tab.requests if not url.startswith(("file:", "data:"))] == []
