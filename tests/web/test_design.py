"""All parts of the design in a real browser: they work, by keyboard too, in both themes, on desks and phones."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio
from playwright.async_api import Page, expect

from tests.web.browser import DESK, PHONE, Window, assert_accessible
from tests.web.serving import Place, serving


@pytest_asyncio.fixture
async def place(database_url: str) -> AsyncIterator[Place]:
    async with serving(database_url) as made:
        yield made


async def is_dark(page: Page) -> bool:
    return bool(await page.evaluate("document.documentElement.classList.contains('dark')"))


async def test_the_theme_is_the_systems_and_bare_pages_are_accessible(place: Place, window: Window) -> None:
    for path in ("/design/bare", "/nowhere"):
        for scheme in ("light", "dark"):
            page = await window(place.url + path, DESK, scheme)
            assert await is_dark(page) == (scheme == "dark")
            for width, height in (DESK, PHONE):
                await page.set_viewport_size({"width": width, "height": height})
                await assert_accessible(page)


async def test_the_open_dialog_and_the_open_menus_are_accessible_and_close_by_escape(
    place: Place, window: Window
) -> None:
    page = await window(place.url + "/design")
    await page.get_by_role("button", name="Open a dialog").press("Enter")
    dialog = page.get_by_role("dialog", name="Revoke this key?")
    await expect(dialog.get_by_label("Type its name to be sure")).to_be_visible()
    await assert_accessible(page)
    await page.keyboard.press("Escape")
    await expect(dialog.get_by_label("Type its name to be sure")).to_be_hidden()
    await expect(page.get_by_role("button", name="Open a dialog")).to_be_focused()
    await page.get_by_role("button", name="More").press("Enter")
    await expect(page.get_by_role("menuitem", name="Open")).to_be_focused()
    await page.keyboard.press("ArrowDown")
    await expect(page.get_by_role("menuitem", name="Rename")).to_be_focused()
    await assert_accessible(page)
    await page.keyboard.press("Escape")
    await expect(page.get_by_role("menuitem", name="Rename")).to_be_hidden()
    await expect(page.get_by_role("button", name="More")).to_be_focused()
    await page.get_by_role("button", name="More").click()
    await expect(page.get_by_role("menuitem", name="Rename")).to_be_visible()
    await page.get_by_role("heading", name="Design").click()
    await expect(page.get_by_role("menuitem", name="Rename")).to_be_hidden()


async def test_the_theme_that_was_chosen_stays_whatever_the_system_says(place: Place, window: Window) -> None:
    page = await window(place.url + "/design/bare", scheme="light")
    await page.get_by_role("button", name="Light or dark").click()
    assert await is_dark(page)
    await page.goto(place.url + "/")
    assert await is_dark(page)
    await page.get_by_role("button", name="Light or dark").click()
    await page.reload()
    assert not await is_dark(page)


async def test_on_phones_the_menu_is_a_drawer_that_the_keyboard_opens_and_closes(place: Place, window: Window) -> None:
    page = await window(place.url + "/design", PHONE)
    entry = page.get_by_role("link", name="Members")
    await expect(entry).to_have_count(0)  # out of reach for everybody while it is closed
    button = page.get_by_role("button", name="Menu", exact=True)
    await button.press("Enter")
    await expect(entry).to_be_in_viewport()
    await assert_accessible(page)
    await page.keyboard.press("Escape")
    await expect(entry).to_have_count(0)
    await expect(button).to_be_focused()


async def test_a_combobox_is_used_by_keyboard_and_sends_what_was_chosen(place: Place, window: Window) -> None:
    page = await window(place.url + "/design")
    field = page.get_by_role("combobox", name="Default model")
    await expect(field).to_have_value("GPT-4o")
    await field.fill("lla")
    await expect(page.get_by_role("option", name="GPT-4o mini")).to_be_hidden()
    await page.keyboard.press("ArrowDown")
    await page.keyboard.press("Enter")
    assert await page.locator('input[type="hidden"][name="model"]').input_value() == "llama-3.1-8b"


async def test_a_form_is_sent_once_and_what_became_of_it_is_said_in_a_toast_that_goes(
    place: Place, window: Window
) -> None:
    page = await window(place.url + "/design")
    form = page.get_by_test_id("design-form")
    await form.get_by_label("E-mail").fill("ada@example.com")
    await form.get_by_label("Password", exact=True).fill("a long password")
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.url) if request.method == "POST" else None)
    await form.get_by_role("button", name="Save").dblclick()
    toast = page.locator("#toaster").get_by_role("status")
    await expect(toast).to_have_text("Saved for Ada Lovelace.")
    assert len(sent) == 1
    await toast.get_by_role("button", name="Close").click()
    await expect(toast).to_have_count(0)


async def test_a_refused_form_keeps_what_was_typed(place: Place, window: Window) -> None:
    page = await window(place.url + "/design")
    form = page.get_by_test_id("design-form")
    await form.evaluate("form => form.noValidate = true")
    await form.get_by_label("Name").fill("Grace Hopper")
    await form.get_by_role("button", name="Save").click()
    await expect(form.get_by_label("Name")).to_have_value("Grace Hopper")
    await expect(page.get_by_text("Fill this in.").first).to_be_visible()


async def test_a_secret_is_copied_and_a_password_can_be_looked_at(place: Place, window: Window) -> None:
    page = await window(place.url + "/design")
    await page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    await page.get_by_role("button", name="Copy").first.click()
    await expect(page.get_by_text("Copied").first).to_be_visible()
    assert await page.evaluate("navigator.clipboard.readText()") == await page.locator("#design-secret").inner_text()
    password = page.locator("#field-password")
    await page.get_by_role("button", name="Show the password").click()
    await expect(password).to_have_attribute("type", "text")
    await page.get_by_role("button", name="Show the password").click()
    await expect(password).to_have_attribute("type", "password")
