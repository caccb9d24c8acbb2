"""API keys: only their digest is stored."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from psycopg.rows import class_row

from tollhouse.core.key import Mode, Scope
from tollhouse.store.db import OperatorTx, TenantTx


@dataclass(frozen=True, slots=True)
class KeyFound:
    """What a digest leads to: the key, and what of its organisation decides whether it may be used."""

    organization_id: UUID
    id: UUID
    scopes: list[Scope]
    mode: Mode
    expires_at: datetime | None
    revoked_at: datetime | None
    clock_offset_micros: int
    suspended_at: datetime | None


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key as its owner may see it; `start` is enough to recognise it by."""

    organization_id: UUID
    id: UUID
    name: str
    start: str
    scopes: list[Scope]
    mode: Mode
    expires_at: datetime | None
    revoked_at: datetime | None
    created_at: datetime


async def find(tx: TenantTx | OperatorTx, digests: Sequence[bytes]) -> KeyFound | None:
    """Whose key has one of these digests, the first that is known: the one look-up that comes before a tenant is
    known."""
    async with tx.cursor(row_factory=class_row(KeyFound)) as cursor:
        await cursor.execute(
            """SELECT organization_id, id, scopes, mode, expires_at, revoked_at, clock_offset_micros, suspended_at
               FROM unnest(%s::bytea[]) WITH ORDINALITY AS wanted (digest, place), find_api_key(wanted.digest)
               ORDER BY place LIMIT 1""",
            (list(digests),),
        )
        return await cursor.fetchone()


async def insert(tx: OperatorTx, row: ApiKey, digest: bytes) -> None:
    await tx.execute(
        """INSERT INTO api_key (organization_id, id, name, digest, start, scopes, mode, expires_at, revoked_at,
               created_at)
           VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)""",
        (row.organization_id, row.id, row.name, digest, row.start, row.scopes, row.mode, row.expires_at, row.revoked_at,
         row.created_at),
    )  # fmt: skip


async def revoke(tx: OperatorTx, organization_id: UUID, key_id: UUID, at: datetime) -> ApiKey | None:
    """The key, revoked now or before: the first revocation counts. None when the organisation has no such key."""
    async with tx.cursor(row_factory=class_row(ApiKey)) as cursor:
        await cursor.execute(
            """UPDATE api_key SET revoked_at = coalesce(revoked_at, %s) WHERE organization_id = %s AND id = %s
               RETURNING organization_id, id, name, start, scopes, mode, expires_at, revoked_at, created_at""",
            (at, organization_id, key_id),
        )
        return await cursor.fetchone()


async def live(tx: TenantTx | OperatorTx, organization_id: UUID, now: datetime) -> list[ApiKey]:
    """The organisation's keys that work at `now`, its own time; newest first."""
    async with tx.cursor(row_factory=class_row(ApiKey)) as cursor:
        await cursor.execute(
            """SELECT organization_id, id, name, start, scopes, mode, expires_at, revoked_at, created_at
               FROM api_key
               WHERE organization_id = %s AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > %s)
               ORDER BY id DESC""",
            (organization_id, now),
        )
        return await cursor.fetchall()


async def one(tx: TenantTx | OperatorTx, organization_id: UUID, key_id: UUID) -> ApiKey | None:
    """The organisation's key of this id, whatever has become of it."""
    async with tx.cursor(row_factory=class_row(ApiKey)) as cursor:
        await cursor.execute(
            """SELECT organization_id, id, name, start, scopes, mode, expires_at, revoked_at, created_at
               FROM api_key WHERE organization_id = %s AND id = %s""",
            (organization_id, key_id),
        )
        return await cursor.fetchone()
