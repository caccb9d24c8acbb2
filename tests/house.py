"""An installation that runs, and the ways into it: over HTTP as a customer or an operator, and into its books."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, LiteralString
from uuid import UUID, uuid4

import aiohttp
from psycopg import AsyncConnection

from tests.conftest import Cluster, SeededTemplate
from tests.ledger import assert_ledger_holds
from tests.server import Server, servers

CHAT = "/v1/chat/completions"
SCOPES = ("gateway", "credits", "act_as")
BARE = "bare"  # a plan that gives nothing and limits nothing but credits
# Micro-credits for a token of input and a token of output: the list prices at a hundred credits a dollar, by hand.
PRICES = {"sandbox": (50, 150), "gpt-4o-mini": (15, 60), "gpt-4o": (250, 1000), "llama-3.1-8b": (18, 18)}
# Tables in which a call leaves a trace.
_BOOKS = (
    "reservation", "request", "attempt", "usage_event", "quota_window", "credit_balance", "credit_grant",
    "credit_transaction", "end_user", "idempotency",
)  # fmt: skip


def charge(model: str, input_tokens: int, output_tokens: int) -> int:
    """What a call costs, in micro-credits."""
    price_in, price_out = PRICES[model]
    return input_tokens * price_in + output_tokens * price_out


def micros(credits: str) -> int:
    return int(Decimal(credits) * 1_000_000)


def credits(micros: int) -> str:
    return str(Decimal(micros) / 1_000_000)


def ask(text: str, model: str = "sandbox", **fields: Any) -> dict[str, Any]:
    """The body of a call with one message."""
    return {"model": model, "messages": [{"role": "user", "content": text}], **fields}


def events(raw: bytes) -> list[bytes]:
    """The data of each event of a stream of ours, which has nothing but data lines."""
    parts = raw.split(b"\n\n")
    assert parts.pop() == b"", f"the stream ends inside an event: {raw[-200:]!r}"
    assert all(part.startswith(b"data: ") for part in parts), parts
    return [part.removeprefix(b"data: ") for part in parts]


def chunks(raw: bytes) -> list[Any]:
    """The JSON of each event; `[DONE]` is left out."""
    return [json.loads(data) for data in events(raw) if data != b"[DONE]"]


def text_of(raw: bytes) -> str:
    return "".join(
        choice["delta"].get("content") or "" for chunk in chunks(raw) for choice in chunk.get("choices") or ()
    )


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    headers: Mapping[str, str]
    raw: bytes = field(repr=False)

    @property
    def body(self) -> Any:
        return json.loads(self.raw)

    @property
    def error(self) -> dict[str, Any]:
        """The error in OpenAI's shape; fails when it has another."""
        body = self.body
        assert set(body) == {"error"}, body
        error: dict[str, Any] = body["error"]
        assert {"message", "type", "param", "code"} <= set(error) <= {"message", "type", "param", "code", "metadata"}
        assert isinstance(error["message"], str) and error["message"] and isinstance(error["type"], str), error
        return error


@dataclass(frozen=True, slots=True)
class Tenant:
    """An organisation and a key of it."""

    id: UUID
    key: str

    @property
    def headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.key}"}


@dataclass(frozen=True, slots=True)
class House:
    database_url: str
    operator_key: str
    servers: tuple[Server, ...]
    session: aiohttp.ClientSession

    @property
    def server(self) -> Server:
        return self.servers[0]

    # ------------------------------------------------------------------------------------------------------ over HTTP

    async def call(self, method: str, path: str, server: Server | None = None, **options: Any) -> Reply:
        """`options` are those of aiohttp."""
        async with self.session.request(method, (server or self.server).url + path, **options) as response:
            return Reply(response.status, response.headers, await response.read())

    async def chat(self, tenant: Tenant, body: Any, server: Server | None = None, **headers: str) -> Reply:
        """One call, read to its end. A body of bytes goes as it is."""
        data = io.BytesIO(body if isinstance(body, bytes) else json.dumps(body).encode())
        sent = tenant.headers | {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.call("POST", CHAT, server, data=data, headers=sent)

    @asynccontextmanager
    async def streaming(
        self, tenant: Tenant, body: Any, server: Server | None = None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """A call as its answer comes. Leaving before its end closes the socket."""
        url = (server or self.server).url + CHAT
        async with self.session.post(url, json=body | {"stream": True}, headers=tenant.headers) as response:
            yield response

    async def order(self, method: str, path: str, body: Any, **headers: str) -> Any:
        """What an operator does."""
        sent = {"authorization": f"Bearer {self.operator_key}"} | headers
        reply = await self.call(method, "/api/operator" + path, json=body, headers=sent)
        assert reply.status in (200, 201), reply.raw
        return reply.body

    async def organization(
        self, credits: str = "100", plan: str = BARE, scopes: Iterable[str] = SCOPES, **key: Any
    ) -> Tenant:
        """A new organisation with so many credits beside those of its plan."""
        made = await self.order("POST", "/organizations", {"name": "Mill", "plan": plan})
        if credits != "0":
            grant = {"source": "topup", "credits": credits, "note": "to begin with"}
            await self.order("POST", f"/organizations/{made['id']}/grants", grant, **{"idempotency-key": str(uuid4())})
        return Tenant(UUID(made["id"]), (await self.key(made["id"], scopes, **key))["key"])

    async def key(self, organization_id: UUID | str, scopes: Iterable[str] = SCOPES, **more: Any) -> Any:
        wanted = {"name": "a key", "scopes": list(scopes), "mode": "test", **more}
        return await self.order("POST", f"/organizations/{organization_id}/keys", wanted)

    async def balance(self, tenant: Tenant) -> int:
        """What is available, in micro-credits."""
        reply = await self.call("GET", "/api/credits/balance", headers=tenant.headers)
        assert reply.status == 200, reply.raw
        return micros(reply.body["available"])

    # --------------------------------------------------------------------------------------------------- in the books

    async def rows(self, query: LiteralString, *parameters: Any) -> list[tuple[Any, ...]]:
        async with await AsyncConnection.connect(self.database_url) as connection:
            return await (await connection.execute(query, parameters)).fetchall()

    async def change(self, statement: LiteralString, *parameters: Any) -> None:
        async with await AsyncConnection.connect(self.database_url) as connection:
            assert (await connection.execute(statement, parameters)).rowcount > 0

    async def books(self) -> tuple[Any, ...]:
        """How many rows there are and a digest of them all: two of these are equal when nothing was written between."""
        async with await AsyncConnection.connect(self.database_url) as connection:
            cursor = await connection.execute(_DIGESTS)
            row = await cursor.fetchone()
        assert row is not None
        return row

    async def requests(self, tenant: Tenant) -> list[tuple[str, bool]]:
        """State and client_left of each call, in order."""
        found = await self.rows(
            "SELECT state, client_left FROM request WHERE organization_id = %s ORDER BY id", tenant.id
        )
        return [(row[0], row[1]) for row in found]

    async def quiet(self, tenant: Tenant, calls: int | None = None, seconds: float = 15.0) -> list[tuple[str, bool]]:
        """The same once none runs any more and there are so many. The books are the only place that tells."""
        async with asyncio.timeout(seconds):
            while True:
                found = await self.requests(tenant)
                if all(state != "running" for state, _ in found) and calls in (None, len(found)):
                    return found
                await asyncio.sleep(0.02)

    async def usage(self, tenant: Tenant) -> list[tuple[int, int, bool, int]]:
        """Input tokens, output tokens, whether they are estimated, and micro-credits charged, of each call in order."""
        found = await self.rows(
            """SELECT input_tokens, output_tokens, estimated, charged_micros FROM usage_event
               WHERE organization_id = %s ORDER BY reservation_id""",
            tenant.id,
        )
        return [(row[0], row[1], row[2], row[3]) for row in found]

    async def assert_ledger_holds(self) -> None:
        await assert_ledger_holds(self.database_url)


_DIGESTS: LiteralString = "SELECT " + ", ".join(
    f"(SELECT (count(*), md5(coalesce(string_agg(t::text, '|' ORDER BY t::text), ''))) FROM {name} t)"
    for name in _BOOKS
)


@asynccontextmanager
async def house(url: str, template: SeededTemplate, processes: int = 1, **settings: str) -> AsyncIterator[House]:
    """So many servers on the database that the owner's `url` names. At the end they are told to stop, and must."""
    async with await AsyncConnection.connect(url) as connection:
        await connection.execute(
            """INSERT INTO plan (id, name, rank, monthly_credits_micros, max_output_tokens, charged_channels)
               VALUES ('bare', 'Bare', 1, 0, 16384, '{api}')"""
        )
    connector = aiohttp.TCPConnector(limit=0)
    async with servers(url, processes, **settings) as running, aiohttp.ClientSession(connector=connector) as session:
        yield House(url, template.operator_key, tuple(running), session)
        await assert_ledger_holds(url)
        for server in running:
            if server.process.returncode is None:
                assert await server.stop() == 0, server.said()


@asynccontextmanager
async def fresh_house(
    cluster: Cluster, template: SeededTemplate, processes: int = 1, **settings: str
) -> AsyncIterator[House]:
    """The same on a database of its own."""
    with cluster.database(template.name) as url:
        async with house(url, template, processes, **settings) as made:
            yield made
