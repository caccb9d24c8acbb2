"""The operators' area in a real browser: the proof before money, acting as somebody, and the same without scripts."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio
from playwright.async_api import Browser, Page, expect

from tests.web.browser import Window, assert_accessible
from tests.web.serving import Place, Visitor, serving
from tests.web.test_operator import DEMO, superadmin, without_proof
from tollhouse.flows import hasher

PASSWORD = "seven mills on the river"


@pytest_asyncio.fixture
async def place(database_url: str) -> AsyncIterator[Place]:
    async with serving(database_url) as made:
        yield made


async def root_of(place: Place) -> Visitor:
    """A superadmin with a password, who has proved who they are too long ago."""
    root = await superadmin(place)
    await place.change(
        "INSERT INTO password (person_id, hash, changed_at) VALUES (%s, %s, now())",
        root.person_id,
        await hasher.hashed(PASSWORD),
    )
    await without_proof(place, root)
    return root


async def give_credits(page: Page, place: Place) -> None:
    """From the list of organisations to the grant, with the password in between."""
    await page.goto(f"{place.url}/operator/organizations")
    await page.get_by_role("link", name="Demo", exact=True).click()
    await page.get_by_role("link", name="Give credits").click()
    await page.get_by_label("Password", exact=True).fill(PASSWORD)
    await page.locator("main").locator('button[type="submit"]').first.click()
    await expect(page).to_have_url(f"{place.url}{DEMO}/grant")
    await page.get_by_label("Credits").fill("12.5")
    await page.get_by_label("Why").fill("For the outage")
    await page.get_by_role("button", name="Give the credits").click()
    await expect(page).to_have_url(place.url + DEMO)
    await expect(page.get_by_role("row", name="For the outage")).to_contain_text("12.5")


async def test_credits_are_given_after_the_password_was_asked_for(place: Place, window: Window) -> None:
    root = await root_of(place)
    page = await window(f"{place.url}/operator", cookies=root.cookies)
    await give_credits(page, place)
    await expect(page.get_by_text("12.5 credits were given.")).to_be_visible()


async def test_the_same_works_without_scripts(place: Place, chromium: Browser) -> None:
    root = await root_of(place)
    context = await chromium.new_context(java_script_enabled=False)
    await context.add_cookies(
        [{"name": name, "value": value, "url": place.url} for name, value in root.cookies.items()]
    )
    await give_credits(await context.new_page(), place)
    await context.close()


async def test_acting_as_somebody_shows_the_banner_until_its_button_ends_it(place: Place, window: Window) -> None:
    root, ada = await superadmin(place), await place.person("ada@example.com")
    page = await window(f"{place.url}/operator/people/{ada.person_id}", cookies=root.cookies)
    await page.get_by_role("link", name="Act as this person").click()
    await page.get_by_label("Why").fill("They asked about a bill")
    await page.get_by_role("button", name="Begin").click()
    banner = page.locator(".banner")
    for path in ("/", "/organizations", "/settings"):
        await page.goto(place.url + path)
        await expect(banner).to_contain_text("You act as ada@example.com until")
        await assert_accessible(page)
    await banner.get_by_role("button", name="End").click()
    await expect(page).to_have_url(f"{place.url}/operator/people/{ada.person_id}")
    await expect(banner).to_have_count(0)
