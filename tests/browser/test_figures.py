"""Credits and figures in Chromium: charts, parts that renew themselves, filters that do not reload the page."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio
from playwright.async_api import Page, expect

from tests.store.test_figures import Call, record
from tests.web.browser import DESK, PHONE, Window, assert_accessible
from tests.web.serving import clock
from tests.web.team import Team, team


@pytest_asyncio.fixture
async def mill(database_url: str) -> AsyncIterator[Team]:
    async with team(database_url) as made:
        yield made


async def used(mill: Team, count: int, model: str = "gpt-4o-mini") -> None:
    assert mill.owner.person_id is not None
    calls = [Call(clock(), mill.owner.person_id, model, organization=mill.id, rating=1) for _ in range(count)]
    await record(mill.place.database_url, calls)


async def colours(page: Page) -> list[str]:
    """Those in which the chart has drawn its bars."""
    script = "() => document.querySelector('canvas').chart.data.datasets.map(one => one.backgroundColor)"
    found: list[str] = await page.evaluate(script)
    return found


async def test_the_dashboard_draws_its_chart_renews_itself_and_is_read_without_it(mill: Team, window: Window) -> None:
    await used(mill, 3)
    await used(mill, 1, "gpt-4o")
    page = await window(mill.place.url + "/dashboard", cookies=mill.owner.cookies)
    await expect(page.locator(".chart-legend li")).to_have_text(["GPT-4o Mini", "GPT-4o"])
    await assert_accessible(page)
    light = await colours(page)
    await page.evaluate("document.documentElement.classList.add('dark')")
    await page.wait_for_function(
        "before => document.querySelector('canvas').chart?.data.datasets[0].backgroundColor !== before", arg=light[0]
    )
    await page.get_by_text("As a table").click()
    await expect(page.get_by_test_id("days").locator("tbody tr").first).to_contain_text("440")
    today = page.get_by_test_id("today").locator(".stat", has_text="Messages")
    await expect(today).to_contain_text("4")
    await used(mill, 2)
    await mill.place.change(
        "UPDATE credit_balance SET remaining_micros = 1500000 WHERE organization_id = %s", mill.id
    )  # fmt: skip
    await page.evaluate("document.body.dispatchEvent(new CustomEvent('live:usage', {bubbles: true}))")
    await expect(today).to_contain_text("6")
    await expect(page.get_by_test_id("credit-balance")).to_contain_text("1.5 credits")
    await page.get_by_role("link", name="Tokens").click()
    await expect(page.get_by_role("link", name="Tokens")).to_have_attribute("aria-current", "true")
    await page.get_by_role("link", name="90 days").click()
    await expect(page).to_have_url(mill.place.url + "/dashboard?days=90&show=tokens")


async def test_the_statement_is_filtered_in_its_place_and_the_way_back_leads_back(mill: Team, window: Window) -> None:
    page = await window(mill.place.url + "/settings/credits", cookies=mill.owner.cookies)
    await expect(page.get_by_test_id("transaction-row")).to_have_count(2)
    await assert_accessible(page)
    await page.evaluate("window.stayed = true")
    await page.get_by_label("Type").select_option("welcome_bonus")
    await page.get_by_role("button", name="Show").click()
    await expect(page.get_by_test_id("transaction-row")).to_have_count(1)
    await expect(page).to_have_url(mill.place.url + "/settings/credits?type=welcome_bonus&since=&until=")
    assert await page.evaluate("window.stayed")
    await assert_accessible(page)
    await page.go_back()
    await expect(page.get_by_test_id("transaction-row")).to_have_count(2)
    async with page.expect_download() as download:
        await page.get_by_role("link", name="Export as CSV").click()
    assert (await download.value).suggested_filename.startswith("credits-")


async def test_phones_in_the_dark_show_the_same(mill: Team, window: Window) -> None:
    page = await window(mill.place.url + "/dashboard", PHONE, "dark", mill.owner.cookies)
    await expect(page.get_by_text("Nothing used yet")).to_be_visible()
    await assert_accessible(page)
    await used(mill, 2)
    await page.goto(mill.place.url + "/dashboard?days=7")
    await expect(page.locator("canvas[data-chart-initialized]")).to_be_visible()
    await assert_accessible(page)
    await page.goto(mill.place.url + "/settings/credits")
    await assert_accessible(page)
    member = await mill.join("member@example.com", "member")
    page = await window(mill.place.url + "/settings/credits", DESK, "dark", member.cookies)
    await expect(page.get_by_test_id("own-use")).to_be_visible()
    await assert_accessible(page)
