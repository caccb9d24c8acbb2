"""An owner's way through the pages of an organisation, in Chromium."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio
from playwright.async_api import Browser, Page, expect

from tests.web.browser import Window, assert_accessible
from tests.web.team import Team, team


@pytest_asyncio.fixture
async def mill(database_url: str) -> AsyncIterator[Team]:
    async with team(database_url) as made:
        yield made


async def test_a_key_is_made_copied_and_revoked_after_a_word_of_warning(mill: Team, window: Window) -> None:
    page = await window(mill.place.url + "/admin/keys", cookies=mill.owner.cookies)
    await page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    await page.get_by_role("link", name="Make the first key").click()
    await page.get_by_label("Name").fill("Website")
    await page.get_by_label("GPT-4o Mini").check()
    await page.get_by_role("button", name="Make the key").click()
    await expect(page.get_by_text("Copy it now")).to_be_visible()
    await assert_accessible(page)
    await page.get_by_role("button", name="Copy the key").click()
    assert (await page.evaluate("navigator.clipboard.readText()")).startswith("th_test_")
    await page.get_by_role("link", name="I have copied it").click()
    await page.get_by_role("link", name="Open Website").click()
    await page.get_by_role("button", name="Revoke").click()
    dialog = page.get_by_role("dialog", name="Revoke this key?")
    await expect(dialog.get_by_text("This cannot be undone.")).to_be_visible()
    await assert_accessible(page)
    await dialog.get_by_role("button", name="Cancel").click()
    await expect(dialog.get_by_text("This cannot be undone.")).to_be_hidden()
    await page.get_by_role("button", name="Revoke").click()
    await dialog.get_by_role("button", name="Revoke").click()
    await expect(page.locator("#toaster")).to_contain_text("Website is revoked")


async def test_a_list_of_what_runs_renews_itself(mill: Team, window: Window) -> None:
    member = await mill.join("member@example.com", "member")
    page = await window(mill.place.url + "/admin/privacy/export", cookies=mill.owner.cookies)
    await page.get_by_label("A member").select_option(str(member.person_id))
    await page.get_by_role("button", name="Make the export").click()
    await expect(page.get_by_text("Waiting")).to_be_visible()
    await mill.place.change("UPDATE privacy_task SET state = 'done', steps_done = steps, finished_at = now()")
    await expect(page.get_by_text("Done", exact=True)).to_be_visible(timeout=15_000)
    await expect(page.locator("#tasks[hx-get]")).to_have_count(0)


async def test_without_scripts_everything_is_done_as_well(mill: Team, chromium: Browser) -> None:
    context = await chromium.new_context(java_script_enabled=False)
    await context.add_cookies(
        [{"name": name, "value": value, "url": mill.place.url} for name, value in mill.owner.cookies.items()]
    )
    page = await context.new_page()
    await page.goto(mill.place.url + "/admin/members")
    await invite(page, "grace@example.com")
    await page.get_by_role("button", name="Revoke the invitation to grace@example.com").click()
    await page.get_by_role("dialog").get_by_role("button", name="Revoke").click()
    await expect(page.locator("#toaster")).to_contain_text("The invitation is revoked")
    await page.get_by_role("link", name="Settings").click()
    await page.get_by_label("Name").fill("Silk Mill")
    await page.get_by_role("button", name="Save").first.click()
    await expect(page.get_by_label("Name")).to_have_value("Silk Mill")
    await context.close()


async def invite(page: Page, email: str) -> None:
    await page.get_by_role("link", name="Invite").click()
    await page.get_by_label("E-mail").fill(email)
    await page.get_by_role("button", name="Send the invitation").click()
    await expect(page.get_by_text(email, exact=True)).to_be_visible()
