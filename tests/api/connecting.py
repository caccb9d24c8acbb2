"""A server whose connections may lead where the test says, the providers that it may be connected to, and its books."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, LiteralString

import aiohttp
import psycopg
import uvicorn

from tests.api.conftest import ORIGIN, Api, Clock, Server
from tollhouse import api
from tollhouse.api.state import State
from tollhouse.flows.auth import Authentication
from tollhouse.flows.capability import Completed, Task
from tollhouse.flows.connection import Policy
from tollhouse.flows.jwks import KeySets
from tollhouse.flows.jwt import Tokens
from tollhouse.flows.site import Site
from tollhouse.flows.spend import Teller
from tollhouse.outside.fetch import Fetcher
from tollhouse.store.db import Database

NO_PUMPS: Any = None  # no model is called here
MODELS = json.dumps({"object": "list", "data": []}).encode()


def http(status: int, body: bytes = MODELS, *headers: str, content_type: str = "application/json") -> bytes:
    """An answer as it goes over the socket."""
    lines = [f"HTTP/1.1 {status} Scripted", f"Content-Type: {content_type}", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


async def _runs_nothing(task: Task) -> Completed:
    raise AssertionError(f"no model was to be called: {task}")


@asynccontextmanager
async def serving(database_url: str, operator_key: str, policy: Policy) -> AsyncIterator[Api]:
    """In the policy's mode, with its secrets. When it is over the ledger and the audit log must prove."""
    clock = Clock()
    db, teller = Database(database_url), Teller(database_url, policy.mode, clock)
    fetcher = Fetcher()
    tokens = Tokens(db, KeySets(fetcher), policy, clock)
    site = Site(ORIGIN, policy.mode, policy.keyring)
    state = State(db, teller, Authentication(db, site, tokens), policy, clock, _runs_nothing, tokens, site)
    app = api.build(state)
    server = Server(uvicorn.Config(app, host="127.0.0.1", port=0, lifespan="off", log_level="warning"))
    await db.open()
    await teller.open()
    task = asyncio.create_task(server.serve())
    await server.listens.wait()
    async with aiohttp.ClientSession() as session:
        running = Api(server.url, database_url, clock, teller, NO_PUMPS, session, operator_key)
        yield running
    server.should_exit = True
    await task
    await fetcher.close()
    await teller.close()
    await db.close()
    assert await running.unproven() == []


async def rows(client: Api, query: LiteralString, *parameters: Any) -> list[tuple[Any, ...]]:
    async with await psycopg.AsyncConnection.connect(client.database_url) as connection:
        return await (await connection.execute(query, parameters)).fetchall()


async def audited(client: Api, organization_id: str) -> list[tuple[str, str, str, dict[str, Any]]]:
    """Who did what to what, with details, of all but the making of organisations and keys."""
    return [
        (row[0], row[1], row[2], row[3])
        for row in await rows(
            client,
            """SELECT actor, action, object_id, details FROM audit
               WHERE organization_id = %s AND action !~ '^(organization|key)\\.' ORDER BY seq""",
            organization_id,
        )
    ]
