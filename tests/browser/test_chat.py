"""People's ways through chats, in Chromium."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

import pytest_asyncio
from playwright.async_api import FilePayload, Locator, Page, expect

from tests.web.browser import DESK, PHONE, Window, assert_accessible
from tests.web.serving import Place, serving

QUICK = "sandbox:delay=0 sandbox:tokens=30"
ENDLESS = "sandbox:delay=30 sandbox:tokens=3000"


@pytest_asyncio.fixture
async def place(database_url: str) -> AsyncIterator[Place]:
    async with serving(database_url) as made:
        yield made


def composer(page: Page) -> Locator:
    return page.get_by_test_id("message-input")


def answers(page: Page, state: str = "done") -> Locator:
    return page.locator(f'[data-testid="assistant-message"][data-state="{state}"]')


async def say(page: Page, text: str) -> None:
    """Once nothing is being answered any more: until then nothing is sent."""
    await expect(answers(page, "writing")).to_have_count(0)
    await composer(page).fill(text)
    await composer(page).press("Enter")


async def test_somebody_talks_to_a_persona_and_looks_after_the_chat(place: Place, window: Window) -> None:
    ada = await place.person("ada@example.com")
    page = await window(place.url + "/chat", DESK, "light", ada.cookies)
    await page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    await assert_accessible(page)
    await page.get_by_role("link", name="Marcus Aurelius").click()
    await expect(page.get_by_role("heading", name="Marcus Aurelius")).to_be_visible()
    await page.get_by_label("What to ask").get_by_role("button").first.click()
    await expect(answers(page)).to_have_count(1)
    await expect(page).to_have_url(re.compile(r"/chat/[0-9a-f-]{36}$"))
    answer = answers(page).first
    await expect(answer).to_have_attribute("data-model-id", "gpt-4o-mini")
    await expect(page.locator("#chat-said")).to_contain_text("Marcus Aurelius: [sandbox]")
    await answer.get_by_text("Details").click()
    await expect(answer.get_by_text("written")).to_be_visible()
    await answer.get_by_role("button", name="Good answer").click()
    await page.get_by_label("Why?").fill("It was short")
    await page.get_by_label("Why?").press("Enter")
    await expect(answer.get_by_text("Thank you for the note.")).to_be_visible()
    await assert_accessible(page)
    await answer.get_by_role("button", name="Copy").click()
    assert (await page.evaluate("navigator.clipboard.readText()")).startswith("[sandbox]")

    await page.locator(".said").hover()
    await page.locator(".said").get_by_text("Edit").click()
    await page.get_by_label("What you said").fill(f"Something else {QUICK}")
    await page.get_by_role("button", name="Send again").click()
    await expect(page.locator(".said")).to_have_count(1)
    await expect(page.locator(".said-text")).to_contain_text("Something else")
    await expect(answers(page)).to_contain_text("Something else")
    await page.get_by_role("button", name="Another model").click()
    await page.get_by_role("dialog").get_by_label("Model").select_option("sandbox")
    await page.get_by_role("dialog").get_by_role("button", name="Answer again").click()
    await expect(answers(page)).to_have_attribute("data-model-id", "sandbox")
    await _look_after(page)


async def _look_after(page: Page) -> None:
    """Renamed, found, pinned and deleted in the list."""
    row = page.locator(".chat-row")
    await row.get_by_role("button", name="What to do with").click()
    await page.get_by_role("menuitem", name="Rename").click()
    await expect(row.get_by_label("Title")).to_be_focused()
    await row.get_by_label("Title").fill("About rivers")
    await row.get_by_label("Title").press("Enter")
    await expect(row.get_by_role("link")).to_have_text("About rivers")
    await page.keyboard.press("Control+k")
    await expect(page.get_by_label("Search your chats")).to_be_focused()
    await page.keyboard.type("zebra")
    await expect(page.get_by_text("No chat has these words.")).to_be_visible()
    await page.get_by_label("Search your chats").fill("riv")
    await expect(row.get_by_role("link")).to_have_text("About rivers")
    await page.get_by_label("Search your chats").fill("")
    await expect(page.get_by_role("heading", name="Recent")).to_be_visible()
    await row.get_by_role("button", name="What to do with").click()
    await page.get_by_role("menuitem", name="Pin").click()
    await expect(page.get_by_role("heading", name="Pinned")).to_be_visible()
    await row.get_by_role("button", name="What to do with").click()
    await page.get_by_role("menuitem", name="Delete").click()
    await assert_accessible(page)
    await row.get_by_role("button", name="Keep").click()
    await page.get_by_role("button", name="What to do with this chat").click()
    await page.get_by_role("menuitem", name="Delete").click()
    await page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    await expect(page.locator("#toaster")).to_contain_text("The chat is deleted.")
    await expect(page.get_by_text("Your chats stand here")).to_be_visible()


async def test_a_trial_is_counted_and_ends_with_a_card_that_says_what_helps(place: Place, window: Window) -> None:
    ada = await place.person("ada@example.com")
    page = await window(place.url + "/chat", PHONE, "dark", ada.cookies)
    await page.get_by_test_id("model-selector").click()
    await assert_accessible(page)
    option = page.locator('[role="option"][data-value="gpt-4o"]')
    await expect(option).to_contain_text("2 trial messages left")
    await option.click()
    await composer(page).fill(f"Test message {QUICK}")
    await page.get_by_test_id("send-button").click()
    await expect(page.get_by_text("Trial message", exact=True)).to_be_visible()
    await expect(page.get_by_text("1 trial message remaining")).to_be_visible()
    await expect(page.get_by_test_id("model-selector")).to_contain_text("1 trial message left")
    await say(page, f"Once more {QUICK}")
    await expect(page.get_by_text("0 trial messages remaining")).to_be_visible()
    await say(page, f"And again {QUICK}")
    card = page.locator('.refusal[data-code="trial_expired"]')
    await expect(card.get_by_role("link", name="Unlock for $2.99")).to_have_attribute(
        "href", "/settings/ai-models#gpt-4o"
    )
    await expect(composer(page)).to_have_value(f"And again {QUICK}")
    await assert_accessible(page)
    await page.get_by_test_id("model-selector").click()
    await page.locator('[role="option"][data-value="gpt-4o-mini"]').click()
    await composer(page).press("Enter")
    await expect(answers(page)).to_have_count(3)
    await expect(card).to_have_count(0)
    await page.get_by_role("button", name="Chats").click()
    await expect(page.get_by_role("link", name="Test message")).to_be_visible()
    await assert_accessible(page)
    await page.keyboard.press("Escape")
    await expect(page.get_by_role("link", name="Test message")).to_be_hidden()


async def test_a_limit_that_is_hit_in_mid_conversation_says_when_there_is_more(place: Place, window: Window) -> None:
    ada = await place.person("ada@example.com")
    await place.change("UPDATE plan SET daily_messages = 2 WHERE id = 'free'")
    page = await window(place.url + "/chat", PHONE, "light", ada.cookies)
    for number, text in enumerate(("One", "Two"), 1):
        await say(page, f"{text} {QUICK}")
        await expect(answers(page)).to_have_count(number)
    await say(page, f"Three {QUICK}")
    card = page.locator('.refusal[data-code="rate_limit_exceeded"]')
    await expect(card).to_contain_text("A limit is reached")
    await expect(card).to_contain_text("Today’s 2 messages are used. A higher plan has more of them.")
    await expect(card).to_contain_text("0 of 2 left")
    await expect(card).to_contain_text(re.compile(r"There is more from \d+ \w+ \d{4}, 00:00 UTC\."))
    await expect(composer(page)).to_have_value(f"Three {QUICK}")
    await assert_accessible(page)
    await page.reload()
    await expect(answers(page)).to_have_count(2)
    await expect(page.locator(".said")).to_have_count(2)
    await place.change("UPDATE plan SET daily_messages = 3 WHERE id = 'free'")
    await say(page, f"Three {QUICK}")
    await expect(answers(page)).to_have_count(3)


async def test_an_answer_goes_on_through_reloads_and_tabs_until_it_is_stopped(place: Place, window: Window) -> None:
    ada = await place.person("ada@example.com")
    page = await window(place.url + "/chat", DESK, "dark", ada.cookies)
    await expect(composer(page)).to_be_focused()
    await page.keyboard.type(f"Slowly {ENDLESS}")
    await page.keyboard.press("Enter")
    growing = page.locator("[data-writing] [data-body]")
    await expect(growing).to_contain_text("[sandbox]")
    await page.reload()
    await expect(growing).to_contain_text("[sandbox]")
    before = len(await growing.text_content() or "")
    tab = await page.context.new_page()
    await tab.goto(page.url)
    await expect(tab.locator("[data-writing] [data-body]")).to_contain_text("[sandbox]")
    refused = await tab.evaluate(
        """() => fetch(location.pathname, {method: "POST", headers: {Accept: "text/event-stream", "X-CSRF-Token":
           document.querySelector('meta[name="csrf-token"]').content}, body: new URLSearchParams({text: "Now"})})
           .then(async (response) => [response.status, await response.text()])"""
    )
    assert refused[0] == 409 and "One answer at a time" in refused[1]
    assert len(await growing.text_content() or "") > before
    await tab.keyboard.press("Escape")
    for one in (page, tab):
        await expect(one.get_by_text("Stopped. What came until then is charged.")).to_be_visible()
    told = [await one.locator(".answer [data-body]").text_content() for one in (page, tab)]
    assert told[0] == told[1]
    await tab.close()
    await say(page, "Break sandbox:delay=0 sandbox:fault=error:9")
    card = page.locator('.answer .refusal[data-code="provider_broke"]')
    await expect(card.get_by_role("button", name="Try again")).to_be_visible()
    await assert_accessible(page)


async def test_what_was_typed_outlives_the_session_and_files_are_attached(place: Place, window: Window) -> None:
    ada = await place.person("ada@example.com")
    page = await window(place.url + "/chat", DESK, "light", ada.cookies)
    files: list[FilePayload] = [
        {"name": "notes.txt", "mimeType": "text/plain", "buffer": b"Rivers and stones"},
        {"name": "cat.png", "mimeType": "image/png", "buffer": b"\x89PNG\0"},
    ]
    await page.get_by_label("Attach text files").set_input_files(files)
    await expect(page.get_by_text("cat.png: This is no text file. Attach text.")).to_be_visible()
    await say(page, f"Read this {QUICK}")
    await expect(answers(page)).to_have_count(1)
    await page.locator(".said summary", has_text="notes.txt").click()
    await expect(page.locator(".said pre")).to_have_text("Rivers and stones")
    await assert_accessible(page)

    await page.context.clear_cookies()
    await say(page, "A long thought")
    card = page.locator('.refusal[data-code="session_over"]')
    await expect(card.get_by_role("link", name="Sign in")).to_have_attribute(
        "href", re.compile("/sign-in\\?next=/chat")
    )
    await expect(composer(page)).to_have_value("A long thought")
    await page.context.add_cookies(
        [{"name": name, "value": value, "url": place.url} for name, value in ada.cookies.items()]
    )
    await page.goto(page.url)
    await expect(composer(page)).to_have_value("A long thought")
    await composer(page).press("Enter")
    await expect(answers(page)).to_have_count(2)
    await expect(composer(page)).to_have_value("")


async def test_without_scripts_a_chat_is_had_as_well(place: Place, window: Window) -> None:
    ada = await place.person("ada@example.com")
    opened = await window(place.url + "/chat", DESK, "light", ada.cookies)
    browser = opened.context.browser
    assert browser is not None
    context = await browser.new_context(java_script_enabled=False)
    await context.add_cookies([{"name": name, "value": value, "url": place.url} for name, value in ada.cookies.items()])
    page = await context.new_page()
    await page.goto(place.url + "/chat?assistant=laozi")
    await expect(page.locator("select[name=model]")).to_be_visible()
    await expect(page.get_by_test_id("model-selector")).to_be_hidden()
    await composer(page).fill("Hello sandbox:tokens=40 sandbox:delay=200")
    await page.get_by_test_id("send-button").click()
    await expect(answers(page, "writing")).to_have_count(1)
    await expect(answers(page)).to_contain_text("[sandbox]", timeout=30_000)  # the page looks again by itself
    await composer(page).fill("And more sandbox:tokens=900 sandbox:delay=0")
    await page.get_by_test_id("send-button").click()
    await expect(answers(page)).to_have_count(2, timeout=30_000)
    await expect(page.locator(".said")).to_have_count(2)
    await expect(answers(page).last).to_be_in_viewport()
    menu = page.get_by_role("button", name="What to do with this chat")
    await menu.click()
    await page.locator("#chat-rename").click()
    await page.get_by_label("Title").fill("What Laozi said")
    await page.get_by_role("dialog").get_by_role("button", name="Rename").click()
    await expect(page.locator("h1")).to_have_text("What Laozi said")
    await menu.click()
    await page.locator("#chat-pin").click()
    await menu.click()
    await expect(page.locator("#chat-pin")).to_have_text("Unpin")
    async with page.expect_download() as download:
        await page.locator("#chat-markdown").click()
    assert (await download.value).suggested_filename == "what-laozi-said.md"
    await page.goto(page.url)
    await menu.click()
    await page.locator("#chat-delete").click()
    await page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    await expect(page.get_by_text("The chat is deleted.")).to_be_visible()
    await context.close()
