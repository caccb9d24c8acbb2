"""Choosing models, in Chromium: on the page AI models, and with the picker in a chat."""

from __future__ import annotations

from collections.abc import AsyncIterator
from uuid import uuid4

import pytest_asyncio
from playwright.async_api import Browser, expect

from tests.web.browser import DESK, PHONE, Window, assert_accessible
from tests.web.serving import Place, Visitor, serving

HERE = "/settings/ai-models"


@pytest_asyncio.fixture
async def place(database_url: str) -> AsyncIterator[Place]:
    async with serving(database_url) as made:
        yield made


@pytest_asyncio.fixture
async def ada(place: Place) -> Visitor:
    """She has unlocked Claude 3.5 Sonnet, and GPT-4o is on trial; of Gemini there is none."""
    made = await place.person("ada@example.com")
    await place.change("UPDATE model SET trial_messages = 0 WHERE id = 'gemini-pro-1.5'")
    await place.change(
        """INSERT INTO entitlement (organization_id, id, subject_id, model_id, source, starts_at)
           SELECT organization_id, %s, person_id, 'claude-3-5-sonnet', 'admin_grant', now() - interval '1 day'
           FROM session WHERE person_id = %s""",
        uuid4(), made.person_id,
    )  # fmt: skip
    return made


async def test_models_are_chosen_by_hand_and_by_keyboard_and_stay_chosen(
    place: Place, ada: Visitor, window: Window
) -> None:
    page = await window(place.url + HERE, cookies=ada.cookies)
    toaster = page.locator("#toaster")
    # in the words of the feature's own test
    await page.click('[data-testid="default-model-dropdown"]')
    await page.click("text=Claude 3.5 Haiku (Free)")
    await expect(page.locator('[data-testid="default-model-dropdown"]')).to_contain_text("Claude 3.5 Haiku")
    await expect(toaster).to_contain_text("Your default model is saved.")
    # each assistant may have its own, also by keyboard alone
    await page.get_by_text("Advanced: Per-Persona Model Selection").click()
    marcus = page.get_by_test_id("override-marcus")
    await expect(marcus).to_contain_text("Use Default (Claude 3.5 Haiku)")
    await marcus.focus()
    await page.keyboard.press("ArrowDown")
    await expect(marcus).to_have_attribute("aria-expanded", "true")
    await page.keyboard.press("c")  # the first that begins so
    await page.keyboard.press("c")  # Claude 3.5 Sonnet, which is unlocked
    await page.keyboard.press("Enter")
    await expect(toaster).to_contain_text("The model for Marcus Aurelius is saved.")
    await expect(marcus).to_contain_text("Claude 3.5 Sonnet (Premium)")
    await expect(marcus).to_be_focused()
    # what would end is explained, and nothing is chosen
    await marcus.click()
    await page.locator("#model-of-marcus").get_by_role("option", name="GPT-4o (Premium)").click()
    why = page.locator("#model-of-marcus [data-picker-why]")
    await expect(why).to_contain_text("GPT-4o has to be unlocked before it can answer every time")
    await expect(why.get_by_role("link")).to_have_attribute("href", f"{HERE}#gpt-4o")
    await assert_accessible(page)
    await page.keyboard.press("Escape")
    await expect(why).to_be_hidden()
    await page.reload()
    await expect(page.get_by_test_id("default-model-dropdown")).to_contain_text("Claude 3.5 Haiku (Free)")
    await expect(page.get_by_test_id("override-marcus")).to_contain_text("Claude 3.5 Sonnet (Premium)")
    await expect(page.get_by_test_id("override-laozi")).to_contain_text("Use Default (Claude 3.5 Haiku)")
    # side by side, without leaving the page
    await page.get_by_label("Model 1 to compare").select_option("gpt-4o")
    await expect(page.locator(".model-compared thead")).to_contain_text("GPT-4o")
    await page.get_by_label("Model 2 to compare").select_option("gemini-pro-1.5")
    await expect(page.locator(".model-compared thead")).to_contain_text("Gemini 1.5 Pro")
    await page.locator("#gpt-4o").get_by_role("link", name="Unlock $2.99: GPT-4o").click()
    await expect(page.get_by_text("Payments are not set up here")).to_be_visible()
    await assert_accessible(page)


async def test_the_picker_is_searched_by_keyboard_and_says_what_is_in_the_way(
    place: Place, ada: Visitor, window: Window
) -> None:
    page = await window(place.url + "/chat", cookies=ada.cookies)
    selector, field = page.get_by_test_id("model-selector"), page.locator("[data-picker-value]")
    panel = page.get_by_role("dialog", name="Choose a model")
    await expect(selector).to_contain_text("GPT-4o Mini")
    await selector.click()
    await expect(panel).to_contain_text("Chooses by the question")
    await expect(panel.locator(".picker-option", has_text="GPT-4o, 2 trial messages left")).to_be_visible()
    await expect(panel.locator(".picker-option", has_text="Claude 3.5 Sonnet, 0/50 today")).to_be_visible()
    await assert_accessible(page)
    await page.keyboard.type("google")
    await expect(panel.get_by_role("option")).to_have_count(1)
    await page.keyboard.press("Enter")
    await expect(panel).to_contain_text("Gemini 1.5 Pro is locked. Unlock it once for $2.99 and keep it.")
    await expect(panel.get_by_role("link", name="Unlock for $2.99")).to_be_visible()
    await assert_accessible(page)
    await page.keyboard.press("Escape")
    await expect(panel).to_be_hidden()
    await expect(selector).to_be_focused()
    await page.keyboard.press("Enter")
    await page.keyboard.type("gpt")
    await expect(panel.get_by_role("option", name="Llama")).to_be_hidden()
    await page.keyboard.press("ArrowUp")  # from the first to the last
    await page.keyboard.press("Enter")
    await expect(selector).to_contain_text("GPT-4o")
    await expect(selector).to_contain_text("2 trial messages left")
    await expect(field).to_have_value("gpt-4o")
    await selector.click()
    await panel.locator(".picker-option[data-value=auto]").click()
    await expect(field).to_have_value("auto")
    await selector.click()
    await selector.click()
    await expect(panel).to_be_hidden()


async def test_every_page_of_models_is_accessible_on_desks_and_phones_in_both_themes(
    place: Place, ada: Visitor, window: Window
) -> None:
    for size, scheme in ((DESK, "dark"), (PHONE, "light"), (PHONE, "dark")):
        page = await window(place.url + f"{HERE}?compare=gpt-4o&compare=claude-3-opus", size, scheme, ada.cookies)
        await page.get_by_text("Advanced: Per-Persona Model Selection").click()
        await assert_accessible(page)
        await page.get_by_test_id("default-model-dropdown").click()
        await assert_accessible(page)
    page = await window(place.url + "/chat", PHONE, "dark", ada.cookies)
    await page.get_by_test_id("model-selector").click()
    panel = page.get_by_role("dialog", name="Choose a model")
    await expect(panel).to_be_visible()
    box = await panel.bounding_box()
    assert box is not None and (box["x"], box["width"]) == (0, PHONE[0]), "a sheet from side to side"
    assert round(box["y"] + box["height"]) == PHONE[1], "that stands at the bottom"
    await panel.get_by_role("option", name="Gemini 1.5 Pro").click()
    await assert_accessible(page)
    await panel.get_by_role("button", name="Close").click()
    await expect(panel).to_be_hidden()


async def test_without_scripts_models_are_chosen_in_plain_lists(place: Place, ada: Visitor, chromium: Browser) -> None:
    context = await chromium.new_context(java_script_enabled=False)
    await context.add_cookies([{"name": name, "value": value, "url": place.url} for name, value in ada.cookies.items()])
    page = await context.new_page()
    await page.goto(place.url + HERE)
    form = page.locator("#default-choice")
    await form.get_by_role("combobox").select_option("llama-3.1-8b")
    await form.get_by_role("button", name="Save").click()
    await expect(page.locator("#toaster")).to_contain_text("Your default model is saved.")
    await expect(page.locator("#default-choice select")).to_have_value("llama-3.1-8b")
    await context.close()


async def test_what_could_not_be_sent_is_not_shown_as_chosen(place: Place, ada: Visitor, chromium: Browser) -> None:
    context = await chromium.new_context()
    await context.add_cookies([{"name": name, "value": value, "url": place.url} for name, value in ada.cookies.items()])
    page = await context.new_page()
    await page.goto(place.url + HERE)
    await context.set_offline(True)
    await page.get_by_test_id("default-model-dropdown").click()
    await page.locator("#default-model").get_by_role("option", name="Claude 3.5 Haiku (Free)").click()
    await expect(page.locator("#toaster")).to_contain_text("the server could not be reached")
    await expect(page.get_by_test_id("default-model-dropdown")).to_contain_text("Recommended: GPT-4o Mini")
    await context.close()
