"""The audit log: append-only, one chain of hashes per organisation."""

from uuid import UUID

from psycopg.types.json import Jsonb

from tollhouse.core.audit import START, Entry
from tollhouse.store.db import OperatorTx, TenantTx


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
