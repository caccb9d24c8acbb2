"""The audit log: append-only, one chain of hashes per organisation."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import AsyncConnection
from psycopg.rows import class_row, dict_row
from psycopg.types.json import Jsonb

from tollhouse.core.audit import START, Entry, Row
from tollhouse.store.db import OperatorTx, TenantTx


@dataclass(frozen=True, slots=True)
class Filter:
    """What is None filters nothing. `action` is the beginning of one; times are half-open: since <= at < until."""

    actor: str | None = None
    action: str | None = None
    object_type: str | None = None
    object_id: str | None = None
    since: datetime | None = None
    until: datetime | None = None


async def end(tx: OperatorTx | TenantTx, organization_id: UUID) -> tuple[int, bytes]:
    """The last seq and hash of the organisation's chain, which stays the last until this transaction ends: the
    organisation's row is locked first, as by all who move its money. LookupError when there is no such organisation."""
    cursor = await tx.execute("SELECT FROM organization WHERE id = %s FOR NO KEY UPDATE", (organization_id,))
    if await cursor.fetchone() is None:
        raise LookupError(f"no organisation {organization_id}")
    cursor = await tx.execute(
        "SELECT seq, hash FROM audit WHERE organization_id = %s ORDER BY seq DESC LIMIT 1", (organization_id,)
    )
    last = await cursor.fetchone()
    return (last[0], last[1]) if last else (0, START)


async def insert(tx: OperatorTx | TenantTx, entry: Entry, previous_hash: bytes, hash_: bytes) -> None:
    await tx.execute(
        """INSERT INTO audit (organization_id, seq, at, actor, action, object_type, object_id, details,
               address, previous_hash, hash)
           VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)""",
        (entry.organization_id, entry.seq, entry.at, entry.actor, entry.action, entry.object_type, entry.object_id,
         Jsonb(entry.details), entry.address, previous_hash, hash_),
    )  # fmt: skip


# -------------------------------------------------------------------------------------------------------------- reading


async def newest(
    tx: OperatorTx | TenantTx, organization_id: UUID, wanted: Filter, limit: int, before: int | None
) -> list[Row]:
    """At most so many rows, newest first, of those with a seq below `before`."""
    async with tx.cursor(row_factory=class_row(Row)) as cursor:
        await cursor.execute(
            """SELECT organization_id, seq, at, actor, action, object_type, object_id, details, address,
                      previous_hash, hash
               FROM audit
               WHERE organization_id = %(organization)s
                 AND (%(before)s::bigint IS NULL OR seq < %(before)s)
                 AND (%(actor)s::text IS NULL OR actor = %(actor)s)
                 AND (%(action)s::text IS NULL OR starts_with(action, %(action)s))
                 AND (%(object_type)s::text IS NULL OR object_type = %(object_type)s)
                 AND (%(object_id)s::text IS NULL OR object_id = %(object_id)s)
                 AND (%(since)s::timestamptz IS NULL OR at >= %(since)s)
                 AND (%(until)s::timestamptz IS NULL OR at < %(until)s)
               ORDER BY seq DESC LIMIT %(limit)s""",
            {"organization": organization_id, "before": before, "actor": wanted.actor, "action": wanted.action,
             "object_type": wanted.object_type, "object_id": wanted.object_id, "since": wanted.since,
             "until": wanted.until, "limit": limit},
        )  # fmt: skip
        return await cursor.fetchall()


async def onward(
    tx: OperatorTx | TenantTx, organization_id: UUID, since: datetime, until: datetime, after: int, limit: int
) -> list[Row]:
    """At most so many rows of the time from `since` to before `until`, oldest first, of those with a seq above
    `after`."""
    async with tx.cursor(row_factory=class_row(Row)) as cursor:
        await cursor.execute(
            """SELECT organization_id, seq, at, actor, action, object_type, object_id, details, address,
                      previous_hash, hash
               FROM audit
               WHERE organization_id = %s AND at >= %s AND at < %s AND seq > %s ORDER BY seq LIMIT %s""",
            (organization_id, since, until, after, limit),
        )
        return await cursor.fetchall()


async def stored(connection: AsyncConnection[Any], organization_id: UUID | None) -> AsyncGenerator[dict[str, Any]]:
    """Every row as it is stored, of one organisation or of all, chain after chain, in order. The connection must be the
    owner's and in a transaction; few rows at a time are in memory. To be closed by who stops early."""
    async with connection.cursor(name="audit", row_factory=dict_row) as cursor:
        await cursor.execute(
            """SELECT organization_id, seq, at, actor, action, object_type, object_id, details, address,
                      previous_hash, hash
               FROM audit WHERE %(organization)s::uuid IS NULL OR organization_id = %(organization)s
               ORDER BY organization_id, seq""",
            {"organization": organization_id},
        )
        async for row in cursor:
            yield row
