"""Every page that there is, with something on it: accessible, by keyboard, without a complaint of the browser, in both
themes, on desks and phones. Pages come by themselves, with the examples of tests/security/pages.py."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from uuid import UUID

import aiohttp
import pytest_asyncio
from playwright.async_api import Browser, BrowserContext, Page
from psycopg import AsyncConnection

from bench.furnishing import Amounts, crowd, furnish
from tests.carriers import carriers
from tests.conftest import Cluster, SeededTemplate
from tests.house import House
from tests.security.example import at, filled
from tests.security.pages import PAGES
from tests.security.walker import Route
from tests.security.world import World, make_world
from tests.server import servers
from tests.test_policies import PAGES as POLICIES
from tests.web.browser import DESK, PHONE, faults, hear_complaints
from tests.web.keyboard import lost

ROUTES = [Route(f"GET {name[4:]}", POLICIES[name], PAGES[name]) for name in PAGES if name.startswith("GET ")]


@pytest_asyncio.fixture
async def world(cluster: Cluster, seeded_template: SeededTemplate) -> AsyncIterator[World]:
    """Its owner has left behind whatever people leave behind. No ledger is proven of what was put there as rows."""
    async with AsyncExitStack() as stack:
        url = stack.enter_context(cluster.database(seeded_template.name))
        running = await stack.enter_async_context(servers(url, 1, TOLLHOUSE_ALLOW_PRIVATE_PROVIDERS="true"))
        session = await stack.enter_async_context(aiohttp.ClientSession())
        people = await stack.enter_async_context(carriers(url))
        house = House(url, seeded_template.operator_key, tuple(running), session)
        made = await make_world(house, people, stack)
        ((owner_id,),) = await made.rows("SELECT id FROM person WHERE email = %s", made.emails["owner"])
        await _furnish(url, made.id, owner_id)
        yield made


async def _furnish(url: str, organization_id: UUID, person_id: UUID) -> None:
    async with await AsyncConnection.connect(url) as connection:
        await furnish(connection, organization_id, person_id, datetime.now(UTC), Amounts())
        await crowd(connection, organization_id, person_id, datetime.now(UTC), 3)


async def test_every_page_is_accessible_to_everybody_and_by_keyboard(world: World, chromium: Browser) -> None:
    tour = Tour(world, chromium)
    for scheme in ("light", "dark"):
        await tour.walk(scheme, (PHONE, DESK))
    assert not tour.wrong, "\n" + "\n".join(tour.wrong)
    assert tour.seen > 100


class Tour:
    """Goes to each page as somebody who may see it, and notes what is wrong there."""

    def __init__(self, world: World, chromium: Browser) -> None:
        self.world = world
        self.wrong: list[str] = []
        self.seen = 0
        self._chromium = chromium

    async def walk(self, scheme: str, sizes: tuple[tuple[int, int], ...]) -> None:
        """Each page is loaded at the first size, and then brought to the others."""
        async with AsyncExitStack() as stack:
            windows: dict[str, Page] = {}
            complaints: list[str] = []
            for route in ROUTES:
                who = _who_sees(route)
                path = await self._path(route)
                if not await self._is_page(path, who):
                    continue
                if who not in windows:
                    windows[who] = await self._window(stack, who, scheme, sizes[0])
                    hear_complaints(windows[who], complaints)
                complaints.clear()
                await self._look(windows[who], path, scheme, sizes)
                self.wrong += [f"{route.path}, {scheme}: {one}" for one in complaints]
                self.seen += 1

    async def _look(self, page: Page, path: str, scheme: str, sizes: tuple[tuple[int, int], ...]) -> None:
        await page.set_viewport_size({"width": sizes[0][0], "height": sizes[0][1]})
        await page.goto(self.world.house.server.url + path)
        for size in sizes:
            await page.set_viewport_size({"width": size[0], "height": size[1]})
            self.wrong += [f"{path}, {scheme}, {size[0]} px: {one}" for one in await faults(page)]
        if scheme == "light":  # what Tab reaches, and how it shows, hangs on the width alone
            for size in reversed(sizes):  # last: it leaves the page scrolled
                await page.set_viewport_size({"width": size[0], "height": size[1]})
                self.wrong += [f"{path}, {size[0]} px: {one}" for one in await lost(page)]

    async def _path(self, route: Route) -> str:
        example = route.example
        found = {place: await self.world.object(kind) for place, kind in example.kinds(route.path).items()}
        query = filled(example.query, found, "text")
        return at(route.path, found) + (f"?{query}" if query else "")

    async def _is_page(self, path: str, who: str) -> bool:
        """Not so are what leads on to another page, parts of pages, files and streams of events."""
        headers = (await self.world.caller(who)).headers
        url = self.world.house.server.url + path
        async with self.world.house.session.get(url, headers=headers, allow_redirects=False) as response:
            if response.status >= 500:
                self.wrong.append(f"{path} answers {response.status}")
            if response.status == 303 or response.content_type != "text/html":
                return False
            return (await response.text()).startswith("<!doctype html>")

    async def _window(self, stack: AsyncExitStack, who: str, scheme: str, size: tuple[int, int]) -> Page:
        context: BrowserContext = await self._chromium.new_context(
            viewport={"width": size[0], "height": size[1]},
            color_scheme="dark" if scheme == "dark" else "light",
            reduced_motion="reduce",
            locale="en-GB",
        )
        stack.push_async_callback(context.close)
        cookie = (await self.world.caller(who)).headers.get("cookie", "")
        if cookie:
            name, _, value = cookie.partition("=")
            await context.add_cookies([{"name": name, "value": value, "url": self.world.house.server.url}])
        return await context.new_page()


def _who_sees(route: Route) -> str:
    if route.policy == "platform":
        return "superadmin"
    if route.policy == "held":
        return "half signed admin"
    return "nobody" if route.example.differs.get("nobody") == 200 else "owner"
