"""The playground and the bell, as somebody with a browser meets them."""

from __future__ import annotations

from playwright.async_api import expect

from tests.web.browser import PHONE, Window, assert_accessible
from tests.web.serving import clock, serving
from tests.web.team import signed_in
from tollhouse.flows.live import Live


async def test_three_models_answer_side_by_side_one_is_stopped_and_one_is_locked(
    database_url: str, window: Window
) -> None:
    async with serving(database_url) as place:
        ada = await place.person("ada@example.com")
        page = await window(place.url + "/playground", cookies=ada.cookies)
        await expect(page.locator("[data-column]:visible")).to_have_count(2)
        await page.get_by_role("button", name="Add a model").click()
        await expect(page.get_by_role("button", name="Add a model")).to_be_hidden()
        await assert_accessible(page)
        await page.get_by_test_id("playground-prompt").fill("Hello, you three")
        await page.keyboard.press("Control+Enter")
        await expect(page.get_by_test_id("playground-figures")).to_have_count(3)
        first, second, third = (page.locator(f"#column-{n}") for n in (1, 2, 3))
        await expect(first.locator("dl")).to_contain_text("First words")
        await assert_accessible(page)
        await page.get_by_test_id("playground-prompt").fill("sandbox:tokens=3000 sandbox:delay=5")
        await first.get_by_role("button", name="Run again").click()
        await expect(first.locator(".playground-text")).to_be_visible()
        await first.get_by_role("button", name="Stop").click()
        await expect(first).to_contain_text("You stopped it")
        await third.get_by_role("button", name="Take this model away").click()
        await expect(page.locator("[data-column]:visible")).to_have_count(2)

        await place.change("UPDATE model SET enabled = false WHERE id = 'gpt-4o-mini'")
        await page.get_by_test_id("playground-prompt").fill("And now?")
        await first.get_by_role("button", name="Run again").click()
        await expect(first.get_by_test_id("playground-refusal")).to_be_visible()
        await expect(second.get_by_test_id("playground-figures")).to_be_visible()
        await assert_accessible(page)
        await second.get_by_role("button", name="Continue in chat").click()
        await expect(page.get_by_test_id("message-input")).to_have_value("And now?")


async def test_on_a_phone_answers_are_tabs_and_an_ended_session_keeps_what_was_typed(
    database_url: str, window: Window
) -> None:
    async with serving(database_url) as place:
        ada = await place.person("ada@example.com")
        page = await window(place.url + "/playground", PHONE, "dark", ada.cookies)
        await page.get_by_test_id("playground-prompt").fill("Hello")
        await page.get_by_test_id("playground-run").click()
        await expect(page.get_by_test_id("playground-figures")).to_have_count(2)
        tabs = page.get_by_role("navigation", name="Answers").get_by_role("button")
        await expect(tabs.first).to_have_attribute("aria-current", "true")
        await tabs.nth(1).click()
        await expect(tabs.nth(1)).to_have_attribute("aria-current", "true")
        await expect(page.locator("#column-2 dl")).to_be_in_viewport()
        await assert_accessible(page)
        await place.change("UPDATE session SET revoked_at = now()")
        await page.get_by_test_id("playground-prompt").fill("What I typed")
        await page.get_by_test_id("playground-run").click()
        await expect(page).to_have_url(place.url + "/sign-in?next=/playground")
        assert "What I typed" in await page.evaluate("sessionStorage.getItem('playground')")


async def test_the_bell_counts_what_comes_while_the_page_is_open_and_what_is_put_away(
    database_url: str, window: Window
) -> None:
    async with serving(database_url) as place:
        ada = await place.person("ada@example.com")
        page = await window(place.url + "/notices", cookies=ada.cookies)
        bell = page.locator(".topbar").get_by_role("link", name="Notices")
        await expect(page.get_by_text("Nothing to tell")).to_be_visible()
        signed, now = await signed_in(place, ada), clock()
        await place.change(
            "INSERT INTO notice VALUES (%s, 'low_balance', %s, 1500000, 2000000, %s)",
            signed.organization_id, now.date(), now,
        )  # fmt: skip
        async with place.db.tenant(signed.organization_id) as tx:
            await Live.tell(tx, signed.organization_id, None, "notice")
        await expect(bell).to_contain_text("1 new")
        await bell.click()
        await assert_accessible(page)
        await page.get_by_role("button", name="Put away").click()
        await expect(page.locator("[data-read]")).to_have_count(1)
        await expect(bell).not_to_contain_text("new")
        await page.goto(place.url + "/settings/notifications")
        await assert_accessible(page)
