"""Password hashes: seen by their person alone."""

from datetime import datetime
from uuid import UUID

from tollhouse.store.db import OperatorTx, PersonTx


async def read(tx: PersonTx) -> str | None:
    """The hash of the person of the transaction; None: they sign in without a password."""
    cursor = await tx.execute("SELECT hash FROM password")
    row = await cursor.fetchone()
    return row[0] if row else None


async def hold(tx: PersonTx) -> str | None:
    """The same, and it stays until this transaction ends."""
    cursor = await tx.execute("SELECT hash FROM password FOR SHARE")
    row = await cursor.fetchone()
    return row[0] if row else None


async def insert(tx: OperatorTx, person_id: UUID, hash_: str, now: datetime) -> None:
    """The first password of a new person."""
    await tx.execute("INSERT INTO password (person_id, hash, changed_at) VALUES (%s, %s, %s)", (person_id, hash_, now))


async def put(tx: PersonTx, person_id: UUID, hash_: str, now: datetime) -> None:
    """In place of the one that there was, if any."""
    await tx.execute(
        """INSERT INTO password (person_id, hash, changed_at) VALUES (%s, %s, %s)
           ON CONFLICT (person_id) DO UPDATE SET hash = excluded.hash, changed_at = excluded.changed_at""",
        (person_id, hash_, now),
    )


async def rehash(tx: PersonTx, before: str, after: str) -> bool:
    """The same password under other parameters. False when another was chosen meanwhile."""
    cursor = await tx.execute("UPDATE password SET hash = %s WHERE hash = %s", (after, before))
    return cursor.rowcount == 1


async def delete(tx: PersonTx) -> bool:
    """False when there was none."""
    return (await tx.execute("DELETE FROM password")).rowcount == 1
