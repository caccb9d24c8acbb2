"""Assistants in Chromium: an admin switches one on and writes another, a member finds both."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio
from playwright.async_api import expect

from tests.web.browser import PHONE, Window, assert_accessible
from tests.web.team import Team, team


@pytest_asyncio.fixture
async def mill(database_url: str) -> AsyncIterator[Team]:
    async with team(database_url) as made:
        yield made


async def test_an_admin_switches_one_on_and_writes_another_and_a_member_finds_both(mill: Team, window: Window) -> None:
    grace = await mill.join("grace@example.com", "member")
    admin = await window(mill.place.url + "/admin/ai", cookies=mill.owner.cookies)
    await admin.get_by_role("button", name="Switch on Meeting Notes").press("Enter")
    await expect(admin.locator("#toaster")).to_contain_text("is switched on for all members", timeout=15_000)
    await assert_accessible(admin)
    await admin.get_by_role("link", name="New assistant").click()
    await admin.get_by_label("Name").fill("Offer writer")
    await admin.get_by_label("System message").fill("You write offers.")
    await admin.get_by_label("Tasks").fill("Draft an offer: Draft an offer from:")
    await assert_accessible(admin)
    await admin.get_by_role("button", name="Make the assistant").click()
    await admin.locator('input[type="file"]').set_input_files(
        {"name": "Price list.md", "mimeType": "text/markdown", "buffer": b"# Prices\n\nAn hour is 90 euros."}
    )
    await expect(admin.get_by_label("Title")).to_have_value("Price list")
    await expect(admin.get_by_label("Text")).to_have_value("# Prices\n\nAn hour is 90 euros.")
    await admin.get_by_role("button", name="Add document").click()
    await expect(admin.get_by_text("1 passage", exact=True)).to_be_visible()
    await assert_accessible(admin)
    page = await window(mill.place.url + "/account/ai", PHONE, "dark", grace.cookies)
    await assert_accessible(page)
    await page.get_by_role("link", name="Templates", exact=True).click()
    await expect(page.get_by_role("link", name="Use model: Marcus Aurelius")).to_be_visible()
    await assert_accessible(page)
    await page.get_by_role("link", name="Details of Offer writer").click()
    await expect(page.get_by_text("Draft an offer from:")).to_be_visible()
    await assert_accessible(page)
    await page.get_by_role("link", name="Use model").click()
    await expect(page.get_by_role("button", name="Draft an offer")).to_be_visible()
    await admin.goto(mill.place.url + "/admin/ai")
    await admin.get_by_role("button", name="Switch off Meeting Notes").click()
    dialog = admin.get_by_role("dialog", name="Switch off Meeting Notes?")
    await expect(dialog.get_by_text("Conversations stay")).to_be_visible()
    await assert_accessible(admin)
    await dialog.get_by_role("button", name="Switch off").click()
    await expect(admin.locator("#toaster")).to_contain_text("Meeting Notes is switched off", timeout=15_000)
