"""Identity providers that people may sign in with, and what of a sign-in there may happen only once."""

from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from psycopg.rows import class_row

from tollhouse.store.db import OperatorTx, TenantTx


@dataclass(frozen=True, slots=True)
class IdentityProvider:
    """`secret_ciphertext` None: Tollhouse is a public client there."""

    id: UUID
    name: str
    issuer: str
    client_id: str
    secret_ciphertext: bytes | None = field(repr=False)
    enabled: bool
    created_at: datetime
    updated_at: datetime | None


@dataclass(frozen=True, slots=True)
class Sealed:
    id: UUID
    issuer: str
    secret_ciphertext: bytes = field(repr=False)


async def every(tx: TenantTx | OperatorTx) -> list[IdentityProvider]:
    """Oldest first."""
    async with tx.cursor(row_factory=class_row(IdentityProvider)) as cursor:
        await cursor.execute(
            """SELECT id, name, issuer, client_id, secret_ciphertext, enabled, created_at, updated_at
               FROM identity_provider ORDER BY id"""
        )
        return await cursor.fetchall()


async def one(tx: TenantTx | OperatorTx, provider_id: UUID) -> IdentityProvider | None:
    async with tx.cursor(row_factory=class_row(IdentityProvider)) as cursor:
        await cursor.execute(
            """SELECT id, name, issuer, client_id, secret_ciphertext, enabled, created_at, updated_at
               FROM identity_provider WHERE id = %s""",
            (provider_id,),
        )
        return await cursor.fetchone()


async def insert(tx: OperatorTx, row: IdentityProvider) -> bool:
    """False when there is one of this issuer already."""
    cursor = await tx.execute(
        """INSERT INTO identity_provider (id, name, issuer, client_id, secret_ciphertext, enabled, created_at)
           VALUES (%s, %s, %s, %s, %s, %s, %s) ON CONFLICT (issuer) DO NOTHING""",
        (row.id, row.name, row.issuer, row.client_id, row.secret_ciphertext, row.enabled, row.created_at),
    )
    return cursor.rowcount == 1


async def update(tx: OperatorTx, row: IdentityProvider) -> None:
    """All that may change of a provider becomes as in `row`."""
    await tx.execute(
        """UPDATE identity_provider SET name = %s, client_id = %s, secret_ciphertext = %s, enabled = %s, updated_at = %s
           WHERE id = %s""",
        (row.name, row.client_id, row.secret_ciphertext, row.enabled, row.updated_at, row.id),
    )


async def delete(tx: OperatorTx, provider_id: UUID) -> int:
    """The identities that people have linked with it go with it: how many."""
    cursor = await tx.execute("SELECT count(*) FROM linked_identity WHERE provider_id = %s", (provider_id,))
    counted = await cursor.fetchone()
    await tx.execute("DELETE FROM identity_provider WHERE id = %s", (provider_id,))
    return int(counted[0]) if counted else 0


async def use_once(tx: TenantTx, digest: bytes, until: datetime) -> bool:
    """False when this was used before; it is remembered until then."""
    cursor = await tx.execute(
        "INSERT INTO throttle (id, ready_at) VALUES (%s, %s) ON CONFLICT (id) DO NOTHING", (digest, until)
    )
    return cursor.rowcount == 1


# ------------------------------------------------------------------------------------------------------------- rotation


async def sealed(tx: OperatorTx) -> list[Sealed]:
    """The providers with a secret."""
    async with tx.cursor(row_factory=class_row(Sealed)) as cursor:
        await cursor.execute(
            """SELECT id, issuer, secret_ciphertext FROM identity_provider
               WHERE secret_ciphertext IS NOT NULL ORDER BY id"""
        )
        return await cursor.fetchall()


async def renew(tx: OperatorTx, provider_id: UUID, before: bytes, after: bytes) -> bool:
    """Replaces a sealed secret by the same one sealed anew; False when another was entered meanwhile."""
    cursor = await tx.execute(
        "UPDATE identity_provider SET secret_ciphertext = %s WHERE id = %s AND secret_ciphertext = %s",
        (after, provider_id, before),
    )
    return cursor.rowcount == 1
