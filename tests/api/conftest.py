"""The API as it is served: uvicorn on a free port, a teller and a database of the test's own."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
import psycopg
import pytest
import uvicorn

from tests.conftest import TEST_SECRET, SeededTemplate
from tollhouse import api
from tollhouse.api.state import State
from tollhouse.core.key import Mode
from tollhouse.core.vault import Keyring
from tollhouse.flows.auth import Authentication
from tollhouse.flows.connection import Policy
from tollhouse.flows.jwks import KeySets
from tollhouse.flows.jwt import Tokens
from tollhouse.flows.site import Site
from tollhouse.flows.spend import Teller
from tollhouse.gateway.completion import Completions
from tollhouse.gateway.keeper import Keeper
from tollhouse.gateway.providers import Providers
from tollhouse.gateway.pump import Pumps
from tollhouse.outside.fetch import Fetcher
from tollhouse.store.db import Database
from tollhouse.store.proof import prove

ORIGIN = "https://ai.example.com"  # where people reach the installation, whatever its port here


class Clock:
    """Real time, which a test may put forward."""

    def __init__(self) -> None:
        self.ahead = timedelta()

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.ahead


class Server(uvicorn.Server):
    """Tells when it listens."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listens = asyncio.Event()

    async def startup(self, sockets: list[Any] | None = None) -> None:
        await super().startup(sockets)
        self.listens.set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.servers[0].sockets[0].getsockname()[1]}"


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    headers: Mapping[str, str]
    text: str = field(repr=False)
    body: Any


@dataclass
class Api:
    """A client of a running server. `key` None calls without one."""

    url: str
    database_url: str
    clock: Clock
    teller: Teller
    pumps: Pumps
    session: aiohttp.ClientSession
    operator_key: str

    async def call(
        self, method: str, path: str, body: object = None, *, key: str | None = None, **headers: str
    ) -> Reply:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if key is not None:
            sent["authorization"] = f"Bearer {key}"
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        if data is not None:
            sent.setdefault("content-type", "application/json")
        async with self.session.request(method, self.url + path, data=data, headers=sent) as response:
            text = await response.text()
            return Reply(response.status, response.headers, text, json.loads(text) if text else None)

    async def order(self, method: str, path: str, body: object = None, **headers: str) -> Reply:
        """A call of the operator."""
        return await self.call(method, "/api/operator" + path, body, key=self.operator_key, **headers)

    async def organization(self, plan: str = "free", **more: str) -> str:
        made = await self.order("POST", "/organizations", {"name": "Mill", "plan": plan, **more})
        assert made.status == 201, made.text
        return str(made.body["id"])

    async def key(self, organization_id: str, *scopes: str) -> str:
        wanted = {"name": "a key", "scopes": scopes or ("credits",), "mode": "test"}
        made = await self.order("POST", f"/organizations/{organization_id}/keys", wanted)
        assert made.status == 201, made.text
        return str(made.body["key"])

    async def grant(self, organization_id: str, credits: str, idempotency_key: str, **more: object) -> Reply:
        body = {"source": "promo", "credits": credits, "note": "for the fair", **more}
        return await self.order(
            "POST", f"/organizations/{organization_id}/grants", body, Idempotency_Key=idempotency_key
        )

    async def balance(self, key: str) -> Any:
        reply = await self.call("GET", "/api/credits/balance", key=key)
        assert reply.status == 200, reply.text
        return reply.body

    async def unproven(self) -> list[object]:
        async with await psycopg.AsyncConnection.connect(self.database_url, autocommit=True) as connection:
            return list(await prove(connection))


async def serve(database_url: str, operator_key: str, mode: Mode, secret: bytes = TEST_SECRET) -> AsyncIterator[Api]:
    clock = Clock()
    db, teller = Database(database_url), Teller(database_url, mode, clock)
    policy = Policy(Keyring(secret), mode)
    providers = Providers(policy)
    pumps = Pumps(teller, providers, Keeper(db, clock))
    complete = Completions(pumps, clock).complete
    fetcher = Fetcher()
    tokens = Tokens(db, KeySets(fetcher), policy, clock)
    site = Site(ORIGIN, mode, policy.keyring)
    app = api.build(State(db, teller, Authentication(db, site, tokens), policy, clock, complete, tokens, site))
    server = Server(uvicorn.Config(app, host="127.0.0.1", port=0, lifespan="off", log_level="warning"))
    await db.open()
    await teller.open()
    serving = asyncio.create_task(server.serve())
    await server.listens.wait()
    async with aiohttp.ClientSession() as session:
        yield Api(server.url, database_url, clock, teller, pumps, session, operator_key)
    server.should_exit = True
    await serving
    await pumps.close(5)
    await providers.close()
    await fetcher.close()
    await teller.close()
    await db.close()


@pytest.fixture
async def client(database_url: str, seeded_template: SeededTemplate) -> AsyncIterator[Api]:
    """An installation in test mode; when the test is over, its ledger and its audit log must prove."""
    async for running in serve(database_url, seeded_template.operator_key, "test"):
        yield running
        assert await running.unproven() == []


@pytest.fixture
async def live_client(database_url: str, seeded_template: SeededTemplate) -> AsyncIterator[Api]:
    """The same database, served in live mode."""
    async for running in serve(database_url, seeded_template.operator_key, "live"):
        yield running


@pytest.fixture
async def broken_client(database_url: str, seeded_template: SeededTemplate) -> AsyncIterator[Api]:
    """A server that was built wrong: its secret is no bytes."""
    async for running in serve(database_url, seeded_template.operator_key, "test", secret=None):  # type: ignore[arg-type]
        yield running
