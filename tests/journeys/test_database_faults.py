"""A database that answers, and will not do what it is asked: it has become read-only, or takes no more connections.
Whoever asks is refused before anybody is called; whose call runs waits, and is charged what it really used."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, LiteralString

import pytest
import pytest_asyncio
from psycopg import AsyncConnection, sql

from tests.conftest import Cluster, SeededTemplate
from tests.fake_provider import FakeProvider
from tests.gateway.connected import connected_house
from tests.house import House, Tenant, ask, charge

pytestmark = pytest.mark.asyncio(loop_scope="module")

MODEL = "gpt-4o-mini"
CALLS = 6


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def provider() -> AsyncIterator[FakeProvider]:
    async with FakeProvider() as made:
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(cluster: Cluster, seeded_template: SeededTemplate, provider: FakeProvider) -> AsyncIterator[House]:
    connected = {"OPENAI_BASE_URL": provider.url, "OPENAI_API_KEY": "sk-test-0123456789"}
    async with connected_house(cluster, seeded_template, connected) as made:
        yield made


@asynccontextmanager
async def changed(house: House, cluster: Cluster, on: LiteralString, off: LiteralString) -> AsyncIterator[None]:
    """`on` holds of the database for all connections, for those that are open are ended; then `off`."""
    async with await AsyncConnection.connect(house.database_url) as connection:
        row = await (await connection.execute("SELECT current_database()")).fetchone()
    assert row is not None
    name = sql.Identifier(row[0])

    async def turn(statement: LiteralString) -> None:
        url = cluster.postgres.url("postgres", "postgres")
        async with await AsyncConnection.connect(url, autocommit=True) as connection:
            await connection.execute(sql.SQL(statement).format(name))
            await connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", row)

    await turn(on)
    try:
        yield
    finally:
        await turn(off)


async def call(house: House, tenant: Tenant, text: str, stream: bool = False) -> Any:
    return await house.chat(tenant, ask(text, MODEL, stream=stream, max_tokens=50))


@pytest.mark.parametrize(
    ("on", "off"),
    [
        ("ALTER DATABASE {} SET default_transaction_read_only = on", "ALTER DATABASE {} RESET ALL"),
        ("ALTER DATABASE {} CONNECTION LIMIT 0", "ALTER DATABASE {} CONNECTION LIMIT -1"),
    ],
    ids=["read-only", "no-connections"],
)
async def test_calls_outlive_it_and_new_ones_are_refused_until_it_is_over(
    house: House, cluster: Cluster, provider: FakeProvider, on: LiteralString, off: LiteralString
) -> None:
    tenant, first = await house.organization(), provider.calls
    before = await house.balance(tenant)
    text = "sandbox:tokens=6 sandbox:delay=0 sandbox:first=700"
    waiting = [asyncio.create_task(call(house, tenant, text, stream)) for stream in (False, True) * (CALLS // 2)]
    await provider.call(first + CALLS - 1)
    async with changed(house, cluster, on, off):
        for received in provider.log[first:]:
            await received.ended.wait()
        for _ in range(3):
            refused = await call(house, tenant, "sandbox:tokens=1")
            assert refused.status == 503 and int(refused.headers["retry-after"]) > 0, refused.raw
        assert provider.calls - first == CALLS
        assert not any(one.done() for one in waiting)
    replies = await asyncio.gather(*waiting)
    assert [reply.status for reply in replies] == [200] * CALLS
    assert await house.requests(tenant) == [("done", False)] * CALLS
    usage = await house.usage(tenant)
    assert all(row[1:3] == (6, False) and row[3] == charge(MODEL, row[0], 6) for row in usage)
    assert before - await house.balance(tenant) == sum(row[3] for row in usage)
    assert (await call(house, tenant, "sandbox:tokens=1")).status == 200
    await house.assert_ledger_holds()
