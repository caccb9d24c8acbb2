"""Pages served by this process on a socket, and people with a browser's cookies who ask for them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, LiteralString
from uuid import UUID

import aiohttp
import uvicorn
from bs4 import BeautifulSoup
from psycopg import AsyncConnection
from yarl import URL

from tests.conftest import TEST_SECRET
from tollhouse import web
from tollhouse.core.access import Role
from tollhouse.core.vault import Keyring
from tollhouse.flows import session
from tollhouse.flows.chat import Parts
from tollhouse.flows.connection import Policy
from tollhouse.flows.jwks import KeySets
from tollhouse.flows.live import Live
from tollhouse.flows.oidc import OpenId
from tollhouse.flows.order import Order
from tollhouse.flows.organization import New
from tollhouse.flows.organization import make as make_organization
from tollhouse.flows.sign_up import make
from tollhouse.flows.site import Site
from tollhouse.flows.spend import Teller
from tollhouse.flows.writing import Writers
from tollhouse.gateway.keeper import Keeper
from tollhouse.gateway.providers import Providers
from tollhouse.gateway.pump import Pumps
from tollhouse.gateway.talk import Talks
from tollhouse.listener import listen
from tollhouse.outside.fetch import Fetcher
from tollhouse.store import member as members
from tollhouse.store.db import Database
from tollhouse.web.route import Page
from tollhouse.web.state import State

BROWSER = {"accept": "text/html,application/xhtml+xml", "sec-fetch-site": "same-origin"}


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: Any
    text: str
    cookies: list[str]

    @property
    def soup(self) -> BeautifulSoup:
        return BeautifulSoup(self.text, "html.parser")

    @property
    def token(self) -> str:
        """What the page's form brings back."""
        found = self.soup.select_one('input[name="csrf"]')
        assert found is not None, self.text
        return str(found["value"])


@dataclass(slots=True)
class Visitor:
    """A browser: it keeps cookies, and does not follow where it is sent."""

    url: str
    client: aiohttp.ClientSession
    cookies: dict[str, str] = field(default_factory=dict)
    person_id: UUID | None = None

    async def ask(self, method: str, path: str, headers: dict[str, str] | None = None, **options: Any) -> Answer:
        sent = {**BROWSER, **(headers or {})}
        if self.cookies:
            sent["cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        async with self.client.request(
            method,
            URL(self.url + path, encoded=True),
            headers={k: v for k, v in sent.items() if v},
            allow_redirects=False,
            **options,
        ) as response:
            for name, morsel in response.cookies.items():
                self.cookies[name] = morsel.value
            return Answer(
                response.status, response.headers, await response.text(), response.headers.getall("set-cookie", [])
            )

    async def get(self, path: str, **headers: str) -> Answer:
        return await self.ask("GET", path, {name.replace("_", "-"): value for name, value in headers.items()})

    async def post(self, path: str, data: Any, headers: dict[str, str] | None = None) -> Answer:
        return await self.ask("POST", path, headers, data=data)


@dataclass(frozen=True, slots=True)
class Place:
    """Served pages."""

    url: str
    database_url: str
    site: Site
    db: Database
    client: aiohttp.ClientSession

    def visitor(self) -> Visitor:
        return Visitor(self.url, self.client)

    async def change(self, statement: LiteralString, *parameters: Any) -> None:
        async with await AsyncConnection.connect(self.database_url) as connection:
            assert (await connection.execute(statement, parameters)).rowcount > 0

    async def person(self, email: str) -> Visitor:
        """Somebody new who is signed in, in their own organisation."""
        order = Order("system", clock())
        async with self.db.operator() as tx:
            person_id = await make(tx, order, email, "Ada Lovelace", verified=True)
        assert person_id is not None
        begun = await session.begin(self.db, self.site, order, person_id, "password", session.Browser("a browser"))
        return Visitor(self.url, self.client, {self.site.cookie: begun.cookie}, person_id)

    async def in_a_team(self, email: str, role: Role) -> Visitor:
        """Somebody new who is signed in, in an organisation in which they have this role."""
        visitor, order = await self.person(email), Order("system", clock())
        assert visitor.person_id is not None
        async with self.db.operator() as tx:
            team = await make_organization(tx, order, New("Mill", "team"), None)
            await members.insert(tx, team.id, visitor.person_id, role, order.now)
        await self.change("UPDATE session SET organization_id = %s WHERE person_id = %s", team.id, visitor.person_id)
        return visitor


@asynccontextmanager
async def serving(
    database_url: str, table: Iterable[Page] | None = None, *, allow_private: bool = False, **of_the_site: Any
) -> AsyncIterator[Place]:
    """The pages of the table, else all of ours."""
    listener = listen("127.0.0.1", 0)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    site = replace(Site(url, "test", Keyring(TEST_SECRET)), **of_the_site)
    db = Database(database_url)
    await db.open()
    fetcher = Fetcher()
    policy, key_sets = Policy(site.keyring, site.mode, allow_private), KeySets(fetcher)
    live = Live(database_url)
    teller = Teller(database_url, "test", clock)
    await teller.open()
    providers = Providers(policy)
    pumps = Pumps(teller, providers, Keeper(db, clock))
    talk, writers = Talks(pumps, db, clock, "test"), Writers(db, clock, live.tell)
    state = State(
        db,
        teller,
        site,
        clock,
        policy,
        key_sets,
        OpenId(db, site, policy, key_sets, clock),
        live,
        talk,
        Parts(db, talk, clock, writers),
    )
    app = web.build(state) if table is None else web.application(state, table)
    server = uvicorn.Server(uvicorn.Config(app, lifespan="off", log_config=None))
    task = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as client:
            yield Place(url, database_url, site, db, client)
    finally:
        live.drain()
        server.should_exit = True
        await task
        await live.close()
        await writers.close()
        await pumps.close(0)
        await providers.close()
        await teller.close()
        listener.close()  # uvicorn leaves it open when it ends before it has begun
        await fetcher.close()
        await db.close()


def clock() -> datetime:
    return datetime.now(UTC)
