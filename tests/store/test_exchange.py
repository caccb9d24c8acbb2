"""Several statements in one exchange, on a real connection."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

import pytest
from psycopg import AsyncConnection, OperationalError, errors, pq

from tollhouse.store.db import Connection, TellerTx
from tollhouse.store.exchange import Rows, Write, connect_teller, disconnect_teller, run


@dataclass(frozen=True, slots=True)
class Found:
    number: int
    id: UUID | None = None
    at: datetime | None = None


NOON = datetime(2026, 3, 10, 12, 0, 0, 123_456, tzinfo=UTC)
numbers = Rows(Found, "SELECT x.* FROM json_to_recordset($1::json) AS x(number bigint, id uuid, at timestamptz)")
allowed = Rows(Found, "SELECT count(*) AS number FROM credit_balance WHERE overdraft_limit_micros = $1::bigint")
allow = Write("UPDATE credit_balance SET overdraft_limit_micros = $1::bigint")


@pytest.fixture(params=["teller", "pooled"])
async def connection(request: pytest.FixtureRequest, database_url: str) -> AsyncIterator[Connection]:
    """The teller's, which prepares at first use, and one as pools share them."""
    teller = request.param == "teller"
    made = await (connect_teller(database_url) if teller else AsyncConnection.connect(database_url))
    yield made
    await (disconnect_teller(TellerTx(made)) if teller else made.close())


async def test_rows_come_back_as_they_went_in(connection: Connection) -> None:
    rows = [Found(2**62, UUID(int=7), NOON), Found(-1)]
    assert await run(connection, numbers(rows), numbers([])) == [rows, []]


async def test_what_is_committed_is_there_and_what_is_not_is_not(connection: Connection) -> None:
    assert await run(connection, allow(7), allowed(7), commit=True) == [[], [Found(2)]]
    assert connection.pgconn.transaction_status == pq.TransactionStatus.IDLE
    await run(connection, allow(8))
    assert connection.pgconn.transaction_status == pq.TransactionStatus.INTRANS
    await connection.rollback()
    assert await run(connection, allowed(7), allowed(8)) == [[Found(2)], [Found(0)]]


async def test_after_a_statement_fails_nothing_is_written(connection: Connection) -> None:
    with pytest.raises(errors.CheckViolation, match="overdraft_limit_micros"):
        await run(connection, allow(7), allow(-1), allow(9), commit=True)
    assert connection.pgconn.transaction_status == pq.TransactionStatus.INERROR
    await connection.rollback()
    assert await run(connection, allowed(7), allowed(9)) == [[Found(0)], [Found(0)]]


async def test_a_shared_connection_works_on_after_an_error_and_a_rollback(database_url: str) -> None:
    async with await AsyncConnection.connect(database_url) as connection:
        for _ in range(6):  # by now psycopg has prepared a statement of its own
            await connection.execute("SELECT %s::int", (1,))
        for _ in range(3):
            await run(connection, allowed(7))
            with pytest.raises(errors.CheckViolation):
                await run(connection, allowed(7), allow(-1))
            await connection.rollback()


async def test_a_connection_that_was_lost_says_so(connection: Connection, database_url: str) -> None:
    async with await AsyncConnection.connect(database_url, autocommit=True) as other:
        await run(connection, allowed(7))
        await other.execute("SELECT pg_terminate_backend(%s)", (connection.info.backend_pid,))
    with pytest.raises(OperationalError):
        await run(connection, allowed(7))


async def test_more_than_a_socket_takes_goes_both_ways_at_once(connection: Connection) -> None:
    rows = [Found(number) for number in range(30_000)]
    async with asyncio.timeout(20):
        assert await run(connection, *(numbers(rows) for _ in range(4))) == [rows] * 4
