"""A real Chromium on real pages. A test fails on whatever the browser complains of: errors, and what the content
security policy forbids. Tests that use these fixtures are left out where no Chromium is installed."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import urljoin

import pytest
import pytest_asyncio
from playwright.async_api import Browser, BrowserContext, ConsoleMessage, Page, async_playwright

CHROMIUM = os.environ.get("TOLLHOUSE_CHROMIUM") or shutil.which("chromium") or "/usr/bin/chromium"
AXE = Path(__file__).parents[2] / "assets" / "node_modules" / "axe-core" / "axe.min.js"
RULES = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice")
TWICE = """() => {
    const ids = [...document.querySelectorAll("[id]")].map((one) => one.id);
    return [...new Set(ids.filter((id, at) => ids.indexOf(id) < at))];
}"""
DESK, PHONE = (1280, 800), (390, 844)

# A refusal is a page with the status of one, which browsers tell as if something were missing.
_NO_FAULT = "Failed to load resource: the server responded with a status of 4"

Window = Callable[..., Awaitable[Page]]


@pytest.fixture(scope="session")
def chromium_address() -> Iterator[str]:
    """One Chromium for all tests of this process: it takes as long to start as many a test. A thread keeps it, with a
    loop that outlives those of the tests."""
    if not Path(CHROMIUM).exists():
        pytest.skip("no Chromium: install the package chromium, or name one in TOLLHOUSE_CHROMIUM")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    started: Future[Callable[[], object]] = Future()
    keeper = Thread(target=lambda: asyncio.run(_keep_chromium(port, started)))
    keeper.start()
    end = started.result(60)
    yield f"http://127.0.0.1:{port}"
    end()
    keeper.join()


async def _keep_chromium(port: int, started: Future[Callable[[], object]]) -> None:
    """Runs it until what `started` then holds is called."""
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    options = ["--disable-dev-shm-usage", "--disable-gpu", f"--remote-debugging-port={port}"]
    try:
        async with async_playwright() as playwright:
            browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=options)
            started.set_result(lambda: loop.call_soon_threadsafe(ended.set))
            await ended.wait()
            await browser.close()
    except Exception as problem:
        if started.done():
            raise
        started.set_exception(problem)


@pytest_asyncio.fixture
async def chromium(chromium_address: str) -> AsyncIterator[Browser]:
    """What is opened in it is closed after the test."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.connect_over_cdp(chromium_address)
        yield browser
        await browser.close()


@pytest_asyncio.fixture
async def window(chromium: Browser) -> AsyncIterator[Window]:
    """Opens a window: `await window(url, size=PHONE, scheme="dark", cookies={...})`. Each has cookies of its own."""
    complaints: list[str] = []
    contexts: list[BrowserContext] = []

    async def open_window(
        url: str, size: tuple[int, int] = DESK, scheme: str = "light", cookies: dict[str, str] | None = None
    ) -> Page:
        options: dict[str, Any] = {"color_scheme": scheme, "reduced_motion": "reduce", "locale": "en-GB"}
        context = await chromium.new_context(viewport={"width": size[0], "height": size[1]}, **options)
        contexts.append(context)
        await context.add_cookies(
            [{"name": name, "value": value, "url": urljoin(url, "/")} for name, value in (cookies or {}).items()]
        )
        page = await context.new_page()
        page.set_default_timeout(15_000)
        hear_complaints(page, complaints)
        await page.goto(url)
        return page

    yield open_window
    for context in contexts:
        await context.close()
    assert complaints == []


def hear_complaints(page: Page, complaints: list[str]) -> None:
    """Notes what goes wrong in its scripts, and what the policy forbids."""
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda message: complaints.extend(_complaint(message)))


def _complaint(message: ConsoleMessage) -> list[str]:
    if message.type not in ("error", "warning") or message.text.startswith(_NO_FAULT):
        return []
    return [f"{message.type}: {message.text}"]


async def assert_accessible(page: Page) -> None:
    assert await faults(page) == []


async def faults(page: Page) -> list[str]:
    """What axe finds against the rules of WCAG 2.2, ids that stand twice, and what hangs over the side."""
    if not AXE.exists():
        pytest.skip("axe-core is not installed: run make assets")
    if not await page.evaluate("'axe' in window"):
        await page.evaluate(AXE.read_text())  # a script tag would be against the policy
    options = {"runOnly": list(RULES), "resultTypes": ["violations"]}
    violations = (await page.evaluate("options => axe.run(document, options)", options))["violations"]
    found = [f"{one['id']}: {[node['target'] for node in one['nodes']]}" for one in violations]
    found += [f"the id {one} stands twice" for one in await page.evaluate(TWICE)]
    wide = await page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    return found if wide[0] <= wide[1] else [*found, f"it is {wide[0]} pixels wide in a window of {wide[1]}"]
