"""Somebody new gets in, by keyboard and mail, adds a second factor and gets in again: in a real browser."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pyotp
import pytest_asyncio
from playwright.async_api import Page, expect

from tests.web.browser import PHONE, Window, assert_accessible
from tests.web.mailbox import PASSWORD, sign_up
from tests.web.serving import Place, serving


@pytest_asyncio.fixture
async def place(database_url: str) -> AsyncIterator[Place]:
    async with serving(database_url) as made:
        yield made


async def type_into(page: Page, label: str, text: str) -> None:
    """What somebody types who sees that the page has put them into this field."""
    await expect(page.get_by_label(label, exact=True)).to_be_focused()
    await page.keyboard.type(text)


async def test_somebody_new_signs_up_confirms_by_mail_and_signs_out_and_in(place: Place, window: Window) -> None:
    page = await window(place.url + "/settings/security")
    await expect(page.get_by_label("E-mail", exact=True)).to_be_focused()
    await page.get_by_role("link", name="Create an account").click()
    await type_into(page, "E-mail", "ada@example.com")
    await page.keyboard.press("Tab")
    await type_into(page, "Name", "Ada Lovelace")
    await page.keyboard.press("Tab")
    await type_into(page, "Password", "ada lovelace")
    await page.keyboard.press("Enter")
    await expect(page.get_by_text("This password is too easy to guess")).to_be_visible()
    await expect(page.get_by_label("E-mail")).to_have_value("ada@example.com")
    await assert_accessible(page)
    await type_into(page, "Password", PASSWORD)
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", name="Look into your mail")).to_be_visible()
    await assert_accessible(page)
    await page.get_by_role("link", name="See the outbox").click()
    await assert_accessible(page)
    await page.get_by_role("article").get_by_role("link").first.click()
    await expect(page.get_by_role("heading", name="Confirm your address")).to_be_visible()
    await type_into(page, "Password", PASSWORD)
    await page.keyboard.press("Enter")
    await expect(page).to_have_url(place.url + "/chat")
    await page.locator("#account-trigger").click()
    await page.get_by_role("menuitem", name="Sign out").click()
    await expect(page.get_by_role("heading", name="Sign in to Tollhouse")).to_be_visible()
    await page.goto(place.url + "/settings/security")
    await type_into(page, "E-mail", "ada@example.com")
    await page.get_by_label("Password", exact=True).fill("not the right one")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("alert").first).to_contain_text("The e-mail address or the password is not right")
    await expect(page.get_by_label("E-mail")).to_have_value("ada@example.com")
    await type_into(page, "Password", PASSWORD)
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", name="Sessions")).to_be_visible()


async def test_an_app_is_added_on_a_phone_and_its_recovery_code_signs_in(place: Place, window: Window) -> None:
    visitor = await sign_up(place, "ada@example.com")
    await place.change("UPDATE session SET proved_at = now() - interval '11 minutes'")
    page = await window(place.url + "/settings/security", PHONE, "dark", dict(visitor.cookies))
    await page.get_by_role("link", name="Add an app").click()
    await expect(page.get_by_role("heading", name="Confirm who you are")).to_be_visible()
    await assert_accessible(page)
    await type_into(page, "Password", PASSWORD)
    await page.keyboard.press("Enter")
    await page.get_by_role("button", name="Begin").click()
    await expect(page.get_by_role("img", name="QR code for your app")).to_be_visible()
    await assert_accessible(page)
    secret = await page.locator("#totp-secret").inner_text()
    await page.get_by_label("Code", exact=True).fill(pyotp.TOTP(secret).now())
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", name="Your recovery codes")).to_be_visible()
    await assert_accessible(page)
    codes = (await page.locator("#codes").inner_text()).split()
    assert len(codes) == 10
    await page.get_by_role("link", name="I have kept them").click()
    await expect(page.get_by_text("Recovery codes that are left: 10")).to_be_visible()
    await page.context.clear_cookies()
    await page.goto(place.url + "/sign-in?next=/settings/security")
    await type_into(page, "E-mail", "ada@example.com")
    await page.keyboard.press("Tab")
    await type_into(page, "Password", PASSWORD)
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", name="One more step")).to_be_visible()
    await assert_accessible(page)
    await type_into(page, "Code", codes[3])
    await page.keyboard.press("Enter")
    await expect(page.get_by_text("Recovery codes that are left: 9")).to_be_visible()


async def test_what_was_ordered_shows_how_far_it_has_come_by_itself(place: Place, window: Window) -> None:
    visitor = await sign_up(place, "ada@example.com")
    page = await window(place.url + "/settings/privacy", cookies=dict(visitor.cookies))
    await page.get_by_role("button", name="Have it made").click()
    await expect(page.get_by_text("Waiting", exact=True)).to_be_visible()
    await place.change("UPDATE privacy_task SET state = 'running', steps_done = 7")
    await expect(page.get_by_text("7 of 30 steps").first).to_be_visible(timeout=10_000)
    await place.change("UPDATE privacy_task SET state = 'failed', error = 'The disk is full.', finished_at = now()")
    await expect(page.get_by_text("The disk is full.")).to_be_visible(timeout=10_000)
    await assert_accessible(page)
