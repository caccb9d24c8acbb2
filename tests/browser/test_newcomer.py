"""Somebody who never saw it: from the first page to what the day cost, on one way, by what the pages say."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

import pytest_asyncio
from playwright.async_api import Page, expect

from tests.web.browser import Window
from tests.web.mailbox import PASSWORD
from tests.web.serving import Place, serving


@pytest_asyncio.fixture
async def place(database_url: str) -> AsyncIterator[Place]:
    async with serving(database_url) as made:
        yield made


async def test_a_newcomer_finds_everything_without_being_told(place: Place, window: Window) -> None:
    page = await window(place.url)
    await _signs_up(page)
    await _talks_to_marcus(page)
    await _tries_a_premium_model_to_its_end(page)
    await _sets_an_override(page)
    await page.get_by_role("link", name="Dashboard").click()
    today = page.locator("main section, main .card").filter(has_text="Today").first
    await expect(today).to_contain_text("Messages")
    await expect(today).to_contain_text(re.compile(r"Messages\s*3"))
    await expect(today).to_contain_text(re.compile(r"Cost\s*\$0\.0*[1-9]"))


async def _signs_up(page: Page) -> None:
    await page.get_by_role("link", name="Create an account").first.click()
    await page.get_by_label("E-mail", exact=True).fill("kim@example.com")
    await page.get_by_label("Name").fill("Kim Park")
    await page.get_by_label("Password", exact=True).fill(PASSWORD)
    await page.get_by_role("button", name="Create the account").click()
    await page.get_by_role("link", name="See the outbox").click()
    await page.get_by_role("article").get_by_role("link").first.click()
    await page.get_by_label("Password", exact=True).fill(PASSWORD)
    await page.keyboard.press("Enter")
    await expect(page).to_have_url(re.compile("/chat$"))
    await expect(page.get_by_role("heading", name="What is on your mind, Kim?")).to_be_visible()


async def _talks_to_marcus(page: Page) -> None:
    await page.get_by_role("link", name="Marcus Aurelius").click()
    await _ask(page, "How do I stay calm? sandbox:delay=0", answers=1)
    await expect(page.get_by_test_id("assistant-message")).to_have_attribute("data-model-id", "gpt-4o-mini")


async def _tries_a_premium_model_to_its_end(page: Page) -> None:
    selector = page.get_by_test_id("model-selector")
    await selector.click()
    option = page.locator('[role="option"][data-value="gpt-4o"]')
    await expect(option).to_contain_text("2 trial messages left")
    await option.click()
    await _ask(page, "Think longer. sandbox:delay=0", answers=2)
    await expect(page.get_by_text("1 trial message remaining")).to_be_visible()
    await _ask(page, "Once more. sandbox:delay=0", answers=3)
    await expect(page.get_by_text("Trial message", exact=True)).to_have_count(2)
    await page.get_by_test_id("message-input").fill("And again?")
    await page.get_by_test_id("send-button").click()
    refusal = page.locator(".refusal")
    await expect(refusal).to_contain_text("The trial is used up")
    await expect(refusal).to_contain_text("Unlock for $2.99")
    await expect(page.get_by_test_id("message-input")).to_have_value("And again?")
    await refusal.get_by_role("link", name="Unlock for $2.99").click()


async def _sets_an_override(page: Page) -> None:
    """Where the card led: the page of models, on which the locked one says the same."""
    await expect(page).to_have_url(re.compile(r"/settings/ai-models#gpt-4o$"))
    await expect(page.locator("#gpt-4o")).to_contain_text("$2.99")
    await page.get_by_text("Advanced: Per-Persona Model Selection").click()
    await page.get_by_test_id("override-marcus").click()
    await page.locator("#model-of-marcus").get_by_role("option", name="Claude 3.5 Haiku (Free)").click()
    await expect(page.locator("#toaster")).to_contain_text("The model for Marcus Aurelius is saved.")


async def _ask(page: Page, text: str, answers: int) -> None:
    await page.get_by_test_id("message-input").fill(text)
    await page.get_by_test_id("send-button").click()
    await expect(page.locator('[data-testid="assistant-message"][data-state="done"]')).to_have_count(answers)
