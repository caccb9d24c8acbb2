"""`make screenshots`: furnishes an installation and takes a picture of each page in its states, light and dark, on
desks and phones, into build/screenshots/. Those that the documentation shows go to docs/screenshots/ as well."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

from playwright.async_api import Browser, BrowserContext, Page, async_playwright
from psycopg import AsyncConnection

from bench.furnishing import Amounts, furnish
from tests.carriers import Carriers, carriers
from tests.conftest import SMALL, TEST_POLICY, Cluster, private_folder
from tests.server import servers
from tests.web.browser import CHROMIUM, DESK, PHONE
from tollhouse import migrations
from tollhouse.embedded import EmbeddedPostgres
from tollhouse.flows.organization import New
from tollhouse.flows.organization import make as make_organization
from tollhouse.flows.seed import SeedInput, seed
from tollhouse.flows.sign_up import make
from tollhouse.store import member

ROOT = Path(__file__).parents[2]
ALL, SHOWN = ROOT / "build" / "screenshots", ROOT / "docs" / "screenshots"


@dataclass(frozen=True, slots=True)
class Shot:
    """`who`: a stranger, a newcomer with nothing yet, or somebody who has been here for two months and owns a team.
    `until` does something on the page first. `shown`: in these schemes the documentation has it, as on a desk."""

    name: str
    who: str
    path: str
    until: Callable[[Page], Awaitable[object]] | None = None
    shown: tuple[str, ...] = ()


async def _say(page: Page) -> None:
    """Asks something, and waits for the answer or the refusal."""
    await page.get_by_test_id("message-input").fill("How do I stay calm before a hard conversation?")
    await page.get_by_test_id("send-button").click()
    await page.locator("[data-testid=assistant-message]:not([data-writing]), .refusal").first.wait_for()


async def _open_picker(page: Page) -> None:
    await page.get_by_test_id("model-selector").first.click()


async def _first_chat(page: Page) -> None:
    path = await page.locator("a[href^='/chat/']").first.get_attribute("href")  # phones have it in a drawer
    await page.goto(page.url.partition("/chat")[0] + (path or ""))
    await page.get_by_test_id("assistant-message").first.wait_for()


async def _prompt(page: Page) -> None:
    await page.locator("textarea").first.fill("In three sentences: what is a promise?")


LIGHT = ("light",)
SHOTS = (
    Shot("landing", "stranger", "/"),
    Shot("sign-in", "stranger", "/sign-in"),
    Shot("sign-up", "stranger", "/sign-up"),
    Shot("nowhere", "stranger", "/nowhere"),
    Shot("chat-new", "newcomer", "/chat"),
    Shot("models-new", "newcomer", "/settings/ai-models"),
    Shot("credits-new", "newcomer", "/settings/credits"),
    Shot("dashboard-new", "newcomer", "/dashboard"),
    Shot("assistants-new", "newcomer", "/account/ai"),
    Shot("templates-new", "newcomer", "/account/ai/templates"),
    Shot("notices-new", "newcomer", "/notices"),
    Shot("chat-first-answer", "newcomer", "/chat?assistant=marcus", _say),
    Shot("chat", "owner", "/chat", _first_chat, shown=("light", "dark")),
    Shot("chat-picker", "owner", "/chat", _open_picker, shown=LIGHT),
    Shot("chat-refused", "owner", "/chat?model=claude-3-opus", _say, shown=LIGHT),
    Shot("models", "owner", "/settings/ai-models", shown=LIGHT),
    Shot("credits", "owner", "/settings/credits", shown=LIGHT),
    Shot("dashboard", "owner", "/dashboard", shown=LIGHT),
    Shot("playground", "owner", "/playground", _prompt),
    Shot("assistants", "owner", "/account/ai"),
    Shot("templates", "owner", "/account/ai/templates"),
    Shot("assistant", "owner", "/account/ai/marcus"),
    Shot("own-model", "owner", "/account/ai/new"),
    Shot("notices", "owner", "/notices"),
    Shot("profile", "owner", "/settings"),
    Shot("notifications", "owner", "/settings/notifications"),
    Shot("security", "owner", "/settings/security"),
    Shot("privacy", "owner", "/settings/privacy"),
    Shot("organisations", "owner", "/organizations"),
    Shot("admin", "owner", "/admin"),
    Shot("admin-assistants", "owner", "/admin/ai"),
    Shot("members", "owner", "/admin/members"),
    Shot("keys", "owner", "/admin/keys"),
    Shot("audit", "owner", "/admin/audit"),
    Shot("refused", "member", "/admin/keys"),
    Shot("operator", "superadmin", "/operator"),
    Shot("design", "stranger", "/design"),
)


@dataclass(frozen=True, slots=True)
class Stage:
    """Where the pictures are taken: an address, and the cookie of each who may be named."""

    url: str
    cookies: dict[str, str]


@asynccontextmanager
async def stage() -> AsyncIterator[Stage]:
    async with AsyncExitStack() as stack:
        postgres = EmbeddedPostgres(stack.enter_context(private_folder()) / "data", SMALL)
        stack.callback(postgres.stop)
        await asyncio.to_thread(postgres.start)
        url = stack.enter_context(Cluster(postgres).database())
        await asyncio.to_thread(migrations.upgrade, url)
        await seed(url, SeedInput(TEST_POLICY, operator_key=None, vendor_connections=()), datetime.now(UTC))
        people = await stack.enter_async_context(carriers(url))
        cookies = await _cast(people)
        (server,) = await stack.enter_async_context(servers(url, 1))
        yield Stage(server.url, cookies)


async def _cast(people: Carriers) -> dict[str, str]:
    """Everybody who takes part, and what they have."""
    names = ("Kim Park", "Ada Lovelace", "Bo Lind", "Ro Ott")
    newcomer, owner, other, root = [await _person(people, name) for name in names]
    async with people.db.operator() as tx:
        mill = await make_organization(tx, people.order, New("Silk Mill", "team", plan_id="pro"), None)
        await member.insert(tx, mill.id, owner, "owner", people.order.now)
        await member.insert(tx, mill.id, other, "member", people.order.now)
    await people.change("UPDATE person SET superadmin = true WHERE id = %s", root)
    async with await AsyncConnection.connect(people.db.url) as connection:
        await furnish(connection, mill.id, owner, datetime.now(UTC), Amounts(calls=2400, people=4))
    return {
        "newcomer": await people.session(newcomer),
        "owner": await people.session(owner, mill.id),
        "member": await people.session(other, mill.id),
        "superadmin": await people.session(root),
    }


async def _person(people: Carriers, name: str) -> UUID:
    """Somebody with an organisation of their own."""
    async with people.db.operator() as tx:
        made = await make(tx, people.order, f"{name.split()[0].lower()}@example.com", name, verified=True)
    assert made is not None
    return made


async def take(at: Stage, browser: Browser, shots: list[Shot]) -> None:
    for scheme in ("light", "dark"):
        for size, device in ((DESK, "desk"), (PHONE, "phone")):
            windows: dict[str, BrowserContext] = {}
            for shot in shots:
                if shot.who not in windows:
                    windows[shot.who] = await _window(at, browser, shot.who, scheme, size)
                page = await windows[shot.who].new_page()
                try:
                    await _take(at, page, shot, f"{scheme}-{device}")
                except Exception as problem:  # the others are wanted all the same
                    print(f"{shot.name}, {scheme}, {device}: {str(problem).splitlines()[0]}")
                await page.close()
            for window in windows.values():
                await window.close()


async def _window(at: Stage, browser: Browser, who: str, scheme: str, size: tuple[int, int]) -> BrowserContext:
    window = await browser.new_context(
        viewport={"width": size[0], "height": size[1]},
        color_scheme="dark" if scheme == "dark" else "light",
        reduced_motion="reduce",
        locale="en-GB",
    )
    if who in at.cookies:
        await window.add_cookies([{"name": "tollhouse", "value": at.cookies[who], "url": at.url}])
    return window


async def _take(at: Stage, page: Page, shot: Shot, variant: str) -> None:
    page.set_default_timeout(20_000)
    await page.goto(at.url + shot.path)
    if shot.until is not None:
        await shot.until(page)
    await page.evaluate("document.fonts.ready")
    await page.screenshot(path=ALL / f"{shot.name}-{variant}.png", full_page=True)
    scheme, _, device = variant.partition("-")
    if scheme in shot.shown and device == "desk":
        await page.screenshot(path=SHOWN / f"{shot.name}-{scheme}.jpg", type="jpeg", quality=82)


async def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.web.screenshots", description=__doc__)
    parser.add_argument("names", nargs="*", help="only these (default: all)")
    names = parser.parse_args().names
    shots = [shot for shot in SHOTS if shot.name in names or not names]
    for folder in (ALL, SHOWN):
        folder.mkdir(parents=True, exist_ok=True)
    async with stage() as at, async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=["--disable-gpu"])
        await take(at, browser, shots)
        await browser.close()


if __name__ == "__main__":
    asyncio.run(main())
