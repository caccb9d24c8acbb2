"""What one process of an installation tells the others: that something of somebody's has changed."""

from collections.abc import AsyncIterator

import psycopg

from tollhouse.store.db import Connection, OperatorTx, TenantTx, WorkerTx, role_conninfo


async def notify(tx: TenantTx | WorkerTx | OperatorTx, payload: str) -> None:
    """Told to those who listen when the transaction commits, and once however often it is said in it. Commits that
    tell something wait for each other: nothing that passes with every call may."""
    await tx.execute("SELECT pg_notify('tollhouse_live', %s)", (payload,))


async def listen(url: str) -> Connection:
    """A connection of its own that hears the others from here on."""
    connection = await psycopg.AsyncConnection.connect(role_conninfo(url, "tollhouse_web"), autocommit=True)
    await connection.execute("LISTEN tollhouse_live")
    return connection


async def heard(connection: Connection, within_s: float) -> AsyncIterator[str]:
    """What is told, as it comes. An end after so long in silence; then the database is asked whether it is there."""
    async for told in connection.notifies(timeout=within_s):
        yield told.payload
    await connection.execute("SELECT 1")
