"""Connections to providers, and what their last check found. Any change of a connection is one of the catalogue; what a
check found is not."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import LiteralString
from uuid import UUID

from psycopg.rows import class_row

from tollhouse.core.connection import Health, Origin, Protocol
from tollhouse.store.db import OperatorTx, TenantTx, WorkerTx


@dataclass(frozen=True, slots=True)
class ProviderRow:
    """A vendor; `base_url` is where its own API lives, None when every installation has another."""

    id: str
    protocol: Protocol
    base_url: str | None


@dataclass(frozen=True, slots=True)
class ConnectionRow:
    """A connection as it is managed. `key_ciphertext` None: its server wants no key. `key_hint` None: nothing is shown
    of the key."""

    organization_id: UUID
    id: UUID
    provider_id: str
    protocol: Protocol
    name: str
    base_url: str
    key_ciphertext: bytes | None = field(repr=False)
    key_hint: str | None
    origin: Origin
    enabled: bool
    priority: int
    created_at: datetime
    updated_at: datetime | None
    checked_at: datetime | None = None
    error: str | None = None
    failures: int = 0

    @property
    def health(self) -> Health | None:
        """None before the first check has ended."""
        if self.checked_at is None or (self.error is not None and self.failures == 0):
            return None
        return Health(self.checked_at, self.error, self.failures)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """What is needed to reach a provider."""

    organization_id: UUID
    id: UUID
    provider_id: str
    protocol: Protocol
    base_url: str
    key_ciphertext: bytes | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class Checked:
    """What a check found: `error` None, it answers."""

    organization_id: UUID
    id: UUID
    checked_at: datetime
    error: str | None
    duration_ms: int


@dataclass(frozen=True, slots=True)
class Sealed:
    organization_id: UUID
    id: UUID
    provider_id: str
    key_ciphertext: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Resealed:
    """`before` is what stood there when it was read: a key that was entered meanwhile is left as it is."""

    organization_id: UUID
    id: UUID
    before: bytes = field(repr=False)
    after: bytes = field(repr=False)


_COLUMNS: LiteralString = """c.organization_id, c.id, c.provider_id, p.protocol, c.name, c.base_url, c.key_ciphertext,
    c.key_hint, c.origin, c.enabled, c.priority, c.created_at, c.updated_at, h.checked_at, h.error,
    coalesce(h.failures, 0) AS failures
    FROM connection c JOIN provider p ON p.id = c.provider_id
    LEFT JOIN connection_health h ON h.organization_id = c.organization_id AND h.connection_id = c.id"""


async def providers(tx: TenantTx | OperatorTx) -> dict[str, ProviderRow]:
    """The vendors that one can connect to, by id."""
    async with tx.cursor(row_factory=class_row(ProviderRow)) as cursor:
        await cursor.execute("SELECT id, protocol, base_url FROM provider WHERE protocol <> 'sandbox' ORDER BY id")
        return {row.id: row for row in await cursor.fetchall()}


async def of(tx: TenantTx | OperatorTx, organization_id: UUID) -> list[ConnectionRow]:
    """The organisation's connections, those of a provider in the order in which they are asked."""
    async with tx.cursor(row_factory=class_row(ConnectionRow)) as cursor:
        await cursor.execute(
            f"""SELECT {_COLUMNS} WHERE c.organization_id = %s
               ORDER BY c.provider_id, c.priority, c.origin DESC, c.created_at DESC, c.id""",
            (organization_id,),
        )
        return await cursor.fetchall()


async def one(tx: TenantTx | OperatorTx, organization_id: UUID, connection_id: UUID) -> ConnectionRow | None:
    async with tx.cursor(row_factory=class_row(ConnectionRow)) as cursor:
        await cursor.execute(
            f"SELECT {_COLUMNS} WHERE c.organization_id = %s AND c.id = %s", (organization_id, connection_id)
        )
        return await cursor.fetchone()


async def insert(tx: OperatorTx, row: ConnectionRow) -> None:
    await tx.execute(
        """INSERT INTO connection (organization_id, id, provider_id, name, base_url, key_ciphertext, key_hint, origin,
               enabled, priority, created_at)
           VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)""",
        (row.organization_id, row.id, row.provider_id, row.name, row.base_url, row.key_ciphertext, row.key_hint,
         row.origin, row.enabled, row.priority, row.created_at),
    )  # fmt: skip


async def update(tx: OperatorTx, row: ConnectionRow) -> None:
    """All that may change of a connection becomes as in `row`."""
    await tx.execute(
        """UPDATE connection SET name = %s, base_url = %s, key_ciphertext = %s, key_hint = %s, enabled = %s,
               priority = %s, updated_at = %s
           WHERE organization_id = %s AND id = %s""",
        (row.name, row.base_url, row.key_ciphertext, row.key_hint, row.enabled, row.priority, row.updated_at,
         row.organization_id, row.id),
    )  # fmt: skip


async def delete(tx: OperatorTx, organization_id: UUID, connection_id: UUID) -> None:
    """What is known of its health goes with it."""
    await tx.execute("DELETE FROM connection WHERE organization_id = %s AND id = %s", (organization_id, connection_id))


# --------------------------------------------------------------------------------------------------------------- checks


async def claim(tx: WorkerTx, now: datetime, since: datetime, limit: int) -> list[Endpoint]:
    """Takes on the check of enabled connections that nobody has checked since then, longest unchecked first: no two who
    ask at once get the same. What was known of them stays known until the check has ended; a first check that never
    ends leaves an error and no failure."""
    async with tx.cursor(row_factory=class_row(Endpoint)) as cursor:
        await cursor.execute(
            """WITH due AS (
                   SELECT c.organization_id, c.id FROM connection c
                   LEFT JOIN connection_health h ON h.organization_id = c.organization_id AND h.connection_id = c.id
                   WHERE c.enabled AND (h.checked_at IS NULL OR h.checked_at < %(since)s)
                   ORDER BY h.checked_at NULLS FIRST, c.organization_id, c.id LIMIT %(limit)s
               ), claimed AS (
                   INSERT INTO connection_health AS h (organization_id, connection_id, checked_at, error, duration_ms)
                   SELECT organization_id, id, %(now)s, 'is being checked for the first time', 0 FROM due
                   ORDER BY organization_id, id
                   ON CONFLICT (organization_id, connection_id) DO UPDATE SET checked_at = EXCLUDED.checked_at
                   WHERE h.checked_at < %(since)s
                   RETURNING h.organization_id, h.connection_id
               )
               SELECT c.organization_id, c.id, c.provider_id, p.protocol, c.base_url, c.key_ciphertext
               FROM claimed JOIN connection c
                   ON c.organization_id = claimed.organization_id AND c.id = claimed.connection_id
               JOIN provider p ON p.id = c.provider_id ORDER BY c.organization_id, c.id""",
            {"now": now, "since": since, "limit": limit},
        )
        return await cursor.fetchall()


async def write_checked(tx: WorkerTx, found: Sequence[Checked]) -> None:
    """Writes what checks found and counts failures in a row. A connection that was deleted meanwhile has nothing left
    to write to."""
    await tx.execute(
        """UPDATE connection_health h
           SET checked_at = x.checked_at, error = x.error, duration_ms = x.duration_ms,
               failures = CASE WHEN x.error IS NULL THEN 0 ELSE h.failures + 1 END
           FROM unnest(%s::uuid[], %s::uuid[], %s::timestamptz[], %s::text[], %s::int[])
               AS x(organization_id, id, checked_at, error, duration_ms)
           WHERE h.organization_id = x.organization_id AND h.connection_id = x.id""",
        (
            [one.organization_id for one in found],
            [one.id for one in found],
            [one.checked_at for one in found],
            [one.error for one in found],
            [one.duration_ms for one in found],
        ),
    )


# ------------------------------------------------------------------------------------------------------------- rotation


async def sealed_after(tx: OperatorTx, after: tuple[UUID, UUID] | None, limit: int) -> list[Sealed]:
    """Connections with a key, of every organisation, in the order of organisation and id; those that come after one."""
    async with tx.cursor(row_factory=class_row(Sealed)) as cursor:
        await cursor.execute(
            """SELECT organization_id, id, provider_id, key_ciphertext FROM connection
               WHERE key_ciphertext IS NOT NULL AND (%(first)s OR (organization_id, id) > (%(owner)s, %(id)s))
               ORDER BY organization_id, id LIMIT %(limit)s""",
            {
                "first": after is None,
                "owner": after[0] if after else None,
                "id": after[1] if after else None,
                "limit": limit,
            },
        )
        return await cursor.fetchall()


async def reseal(tx: OperatorTx, rows: Sequence[Resealed]) -> int:
    """Replaces sealed keys by the same ones sealed anew. How many were still as they were read."""
    cursor = await tx.execute(
        """UPDATE connection c SET key_ciphertext = x.after
           FROM unnest(%s::uuid[], %s::uuid[], %s::bytea[], %s::bytea[]) AS x(organization_id, id, before, after)
           WHERE c.organization_id = x.organization_id AND c.id = x.id AND c.key_ciphertext = x.before""",
        (
            [row.organization_id for row in rows],
            [row.id for row in rows],
            [row.before for row in rows],
            [row.after for row in rows],
        ),
    )
    return cursor.rowcount
