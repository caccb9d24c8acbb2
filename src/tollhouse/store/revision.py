"""Which schema the database has."""

from tollhouse.store.db import TenantTx


async def current(tx: TenantTx) -> str | None:
    """The revision that the last migration left."""
    row = await (await tx.execute("SELECT version_num FROM alembic_version")).fetchone()
    return row[0] if row else None
