"""The first page: what this installation is and asks for, as its catalogue has it."""

from __future__ import annotations

from tests.web.browser import PHONE, Window, assert_accessible
from tests.web.serving import serving
from tests.web.team import seen


async def test_prices_are_those_of_the_catalogue(database_url: str) -> None:
    async with serving(database_url) as place:
        page = await place.visitor().get("/")
        words = seen(page)
        for part in ("Starter $9.00 a month 50 credits a month and 15 to begin with 500 messages a day",
                     "Enterprise On request", "Messages without a limit", "GPT-4o OpenAI", "$2.99 once",
                     "500 credits For regular use. $39.99", "Free on every plan: GPT-4o Mini,"):  # fmt: skip
            assert part in words
        assert f"curl {place.url}/v1/usage" in words
        await place.change("UPDATE plan SET price_cents = 1234, daily_messages = NULL WHERE id = 'starter'")
        await place.change("UPDATE model SET price_cents = 777, trial_messages = 1 WHERE id = 'gpt-4o'")
        await place.change("UPDATE model SET enabled = false WHERE id = 'claude-3-opus'")
        await place.change("UPDATE topup_package SET is_active = false")
        words = seen(await place.visitor().get("/"))
        assert "Starter $12.34 a month 50 credits a month and 15 to begin with Messages without a limit" in words
        assert "$7.77 once 1 message to try it" in words
        assert "Opus" not in words
        assert "More credits" not in words


async def test_a_catalogue_without_prices_leaves_the_rest(database_url: str) -> None:
    async with serving(database_url) as place:
        await place.change("UPDATE model SET enabled = false")
        page = await place.visitor().get("/")
        assert page.status == 200
        assert "How it works" in seen(page)
        assert page.soup.find(id="landing-models") is None


async def test_it_can_be_read_by_everybody_on_every_window(database_url: str, window: Window) -> None:
    async with serving(database_url) as place:
        for size, scheme in ((PHONE, "light"), ((1280, 800), "dark")):
            page = await window(place.url + "/", size, scheme)
            await assert_accessible(page)
            await page.get_by_role("button", name="Copy").first.click()
