"""The ledger's proof: each invariant is a query that finds nothing when all is well. Numbers as in docs/invariants.md.

Runs as the owner, in one snapshot, and changes nothing. `prove-ledger`, the nightly job and the operator's API call it.
"""

from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from psycopg import AsyncConnection
from psycopg.rows import dict_row

from tollhouse.core.audit import Chain
from tollhouse.store import audit
from tollhouse.store.invariant import Invariant
from tollhouse.store.proof_money import MONEY
from tollhouse.store.proof_usage import USAGE

ROWS_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Failure:
    """An invariant that does not hold, with the first rows that break it."""

    number: int
    statement: str
    rows: list[dict[str, Any]]


BOOKS: tuple[Invariant, ...] = (
    Invariant(
        15,
        "every row belongs to the organisation of what it hangs on",
        """SELECT t.organization_id, 'transaction' AS what, t.id FROM credit_transaction t
           WHERE (t.grant_id IS NOT NULL AND NOT EXISTS (SELECT FROM credit_grant g
                    WHERE g.organization_id = t.organization_id AND g.id = t.grant_id))
              OR (t.reservation_id IS NOT NULL AND NOT EXISTS (SELECT FROM reservation r
                    WHERE r.organization_id = t.organization_id AND r.id = t.reservation_id))
           UNION ALL
           SELECT e.organization_id, 'usage event', e.id FROM usage_event e WHERE NOT EXISTS (SELECT FROM reservation r
                    WHERE r.organization_id = e.organization_id AND r.id = e.reservation_id)
           UNION ALL
           SELECT a.organization_id, 'attempt', a.request_id FROM attempt a WHERE NOT EXISTS (SELECT FROM request q
                    WHERE q.organization_id = a.organization_id AND q.id = a.request_id)
           UNION ALL
           SELECT r.organization_id, 'reservation', r.id FROM reservation r
           WHERE NOT EXISTS (SELECT FROM credit_balance b
                    WHERE b.organization_id = r.organization_id)
           UNION ALL
           SELECT x.organization_id, x.what, NULL FROM (
               SELECT organization_id, 'notice' AS what FROM notice
               UNION ALL SELECT DISTINCT organization_id, 'rollup' FROM usage_day
               UNION ALL SELECT DISTINCT organization_id, 'window' FROM quota_window
               UNION ALL SELECT organization_id, 'rate' FROM request_rate
               UNION ALL SELECT organization_id, 'idempotency' FROM idempotency) x
           WHERE NOT EXISTS (SELECT FROM organization o WHERE o.id = x.organization_id)""",
    ),
    Invariant(
        17,
        "what is append-only was never updated or deleted",
        """SELECT relname AS table, n_tup_upd AS updated, n_tup_del AS deleted FROM pg_stat_user_tables
           WHERE (relname IN ('credit_transaction', 'audit') OR relname LIKE 'usage\\_event%')
             AND n_tup_upd + n_tup_del > 0""",
    ),
    Invariant(
        18,
        "every tenant table has row-level security, forced, with a policy",
        """SELECT c.relname AS table FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
           WHERE a.attname = 'organization_id' AND NOT a.attisdropped AND c.relkind IN ('r', 'p')
             AND c.relnamespace = 'public'::regnamespace
             AND (NOT c.relrowsecurity OR NOT c.relforcerowsecurity
                  OR (NOT c.relispartition AND NOT EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = c.oid)))""",
    ),
    Invariant(
        18,
        "no run-time role owns a table or bypasses row-level security; definer functions pin their search path",
        """SELECT rolname::text AS what FROM pg_roles r
           WHERE rolname IN ('tollhouse_web', 'tollhouse_teller', 'tollhouse_worker', 'tollhouse_operator')
             AND (rolsuper OR rolbypassrls OR EXISTS (SELECT FROM pg_class c WHERE c.relowner = r.oid))
           UNION ALL
           SELECT oid::regprocedure::text FROM pg_proc
           WHERE prosecdef AND pronamespace = 'public'::regnamespace
             AND coalesce(array_to_string(proconfig, ','), '') !~ 'search_path='
           UNION ALL
           SELECT oid::regclass::text FROM pg_class
           WHERE relkind = 'v' AND relnamespace = 'public'::regnamespace
             AND coalesce(array_to_string(reloptions, ','), '') !~ 'security_invoker=(on|true)'""",
    ),
    Invariant(
        19,
        "no transaction of ours is left idle",
        """SELECT pid, application_name, state FROM pg_stat_activity
           WHERE datname = current_database() AND application_name LIKE 'tollhouse\\_%'
             AND state LIKE 'idle in transaction%' AND state_change < clock_timestamp() - interval '10 seconds'""",
    ),
)
INVARIANTS = tuple(sorted((*MONEY, *USAGE, *BOOKS), key=lambda one: one.number))


async def prove(connection: AsyncConnection[Any]) -> list[Failure]:
    """Every invariant that does not hold, with rows. The connection must be the owner's and outside a transaction."""
    async with connection.transaction():
        await connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        await connection.execute("SET LOCAL timezone = 'UTC'")
        return await examine(connection)


async def examine(connection: AsyncConnection[Any]) -> list[Failure]:
    """The same in the transaction at hand, which sees what it has changed itself."""
    failures = []
    async with connection.cursor(row_factory=dict_row) as cursor:
        for invariant in INVARIANTS:
            await cursor.execute(invariant.sql)
            if rows := await cursor.fetchmany(ROWS_SHOWN):
                failures.append(Failure(invariant.number, invariant.statement, rows))
    if broken := await _broken_audit(connection):
        statement = "the audit chain of each organisation is gapless and its hashes hold"
        failures.append(Failure(16, statement, broken[:ROWS_SHOWN]))
    return failures


async def _broken_audit(connection: AsyncConnection[Any]) -> list[dict[str, Any]]:
    """Rows of the audit log whose number, link or hash is wrong, first of each organisation."""
    broken: list[dict[str, Any]] = []
    chain: Chain | None = None
    async with aclosing(audit.stored(connection, None)) as stored:
        async for row in stored:
            if chain is None or chain.organization_id != row["organization_id"]:
                chain = Chain(row["organization_id"])
            sound = chain.fault is None
            chain.add(row)
            if sound and chain.fault is not None:
                broken.append({"organization_id": chain.organization_id, "seq": chain.fault.seq})
    return broken
