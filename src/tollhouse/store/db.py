"""Connections and transactions. Whoever holds a transaction holds its role: the type says what it may touch."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import LiteralString, NewType
from uuid import UUID

from psycopg import AsyncConnection, InterfaceError, OperationalError
from psycopg.conninfo import make_conninfo
from psycopg.errors import IdleInTransactionSessionTimeout, ReadOnlySqlTransaction
from psycopg.rows import TupleRow
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from tollhouse.core.errors import Overloaded

Connection = AsyncConnection[TupleRow]
# The database cannot be reached, went away, or takes no writes since another server is the primary now.
UNAVAILABLE = (OperationalError, InterfaceError, ReadOnlySqlTransaction, OSError)
# One tenant's rows, by row-level security; reads and plain writes of people and pages.
TenantTx = NewType("TenantTx", Connection)
# One person's own rows, whatever the organisation.
PersonTx = NewType("PersonTx", Connection)
# The money tables across tenants, and nothing else.
TellerTx = NewType("TellerTx", Connection)
# The platform's operators: every tenant, audited.
OperatorTx = NewType("OperatorTx", Connection)
# Background jobs: finds what is due across tenants, changes nothing but what has run out.
WorkerTx = NewType("WorkerTx", Connection)
# Those that may move money.
MoneyTx = TellerTx | OperatorTx

_LIMITS = "-c statement_timeout=30s -c idle_in_transaction_session_timeout=60s -c lock_timeout=10s"


def role_conninfo(url: str, role: LiteralString, settings: LiteralString = "") -> str:
    """The same database, as one of the run-time roles: none of them owns a table or bypasses row-level security."""
    return make_conninfo(url, options=f"-c role={role} -c timezone=UTC {_LIMITS} {settings}", application_name=role)


class Database:
    """The pools of one process. Opens lazily: a database that is away is `Overloaded` for the caller, not a crash."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._web = self._pool("tollhouse_web", 8)
        self._operator = self._pool("tollhouse_operator", 2)
        self._worker = self._pool("tollhouse_worker", 2)

    def _pool(self, role: LiteralString, size: int) -> AsyncConnectionPool[Connection]:
        conninfo = role_conninfo(self.url, role)
        return AsyncConnectionPool(
            conninfo, min_size=0, max_size=size, open=False, timeout=5, max_waiting=200, name=role,
            check=AsyncConnectionPool.check_connection,  # PostgreSQL may have been started anew since
        )  # fmt: skip

    async def open(self) -> None:
        for pool in (self._web, self._operator, self._worker):
            await pool.open()

    async def close(self) -> None:
        for pool in (self._web, self._operator, self._worker):
            await pool.close()

    @asynccontextmanager
    async def tenant(self, organization_id: UUID) -> AsyncIterator[TenantTx]:
        """A transaction that sees one organisation. The context ends with it, also when it is cancelled."""
        async with _transaction(self._web) as connection:
            await connection.execute(
                "SELECT set_config('tollhouse.organization_id', %s, true)", (str(organization_id),)
            )
            yield TenantTx(connection)

    @asynccontextmanager
    async def person(self, person_id: UUID) -> AsyncIterator[PersonTx]:
        """A transaction that sees what is one person's own: how they sign in, their sessions and organisations."""
        async with _transaction(self._web) as connection:
            await connection.execute("SELECT set_config('tollhouse.person_id', %s, true)", (str(person_id),))
            yield PersonTx(connection)

    @asynccontextmanager
    async def member(self, organization_id: UUID, person_id: UUID) -> AsyncIterator[TenantTx]:
        """A transaction that sees one organisation, and in it what is this person's alone, such as conversations."""
        async with _transaction(self._web) as connection:
            await connection.execute(
                """SELECT set_config('tollhouse.organization_id', %s, true),
                          set_config('tollhouse.person_id', %s, true)""",
                (str(organization_id), str(person_id)),
            )
            yield TenantTx(connection)

    @asynccontextmanager
    async def nobody(self) -> AsyncIterator[TenantTx]:
        """A transaction without a tenant: the catalogue, and the look-ups that come before one is known."""
        async with _transaction(self._web) as connection:
            yield TenantTx(connection)

    @asynccontextmanager
    async def operator(self) -> AsyncIterator[OperatorTx]:
        async with _transaction(self._operator) as connection:
            yield OperatorTx(connection)

    @asynccontextmanager
    async def worker(self) -> AsyncIterator[WorkerTx]:
        async with _transaction(self._worker) as connection:
            yield WorkerTx(connection)


async def enter(tx: PersonTx, organization_id: UUID) -> TenantTx:
    """The same transaction, which from here on sees this organisation as well."""
    await tx.execute("SELECT set_config('tollhouse.organization_id', %s, true)", (str(organization_id),))
    return TenantTx(tx)


@asynccontextmanager
async def _transaction(pool: AsyncConnectionPool[Connection]) -> AsyncIterator[Connection]:
    """Commits at the end, rolls back on an error; a database that cannot be reached is Overloaded."""
    try:
        async with pool.connection() as connection:
            yield connection
    except (PoolTimeout, OperationalError, IdleInTransactionSessionTimeout, ReadOnlySqlTransaction) as error:
        raise Overloaded(
            "The database does not answer at the moment. Try again shortly; what changes something, with the same "
            "Idempotency-Key: whether this request did is not known."
        ) from error
