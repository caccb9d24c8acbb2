"""Tries that were taken: for each subject of a rule, when all of its tries will have come back."""

from datetime import datetime, timedelta

from tollhouse.store.db import TenantTx, WorkerTx


async def take(tx: TenantTx, id: bytes, now: datetime, interval: timedelta, slack: timedelta) -> datetime | None:
    """Takes a try, which comes back after `interval`. Where none is left, the moment at which all will have come back,
    which is further ahead than `slack`; else None. The same statement looks and takes: of many at once, no more pass
    than there are tries."""
    cursor = await tx.execute(
        """INSERT INTO throttle (id, ready_at) VALUES (%(id)s, %(now)s + %(interval)s)
           ON CONFLICT (id) DO UPDATE SET ready_at = greatest(throttle.ready_at, %(now)s) + %(interval)s
           WHERE throttle.ready_at <= %(now)s + %(slack)s""",
        {"id": id, "now": now, "interval": interval, "slack": slack},
    )
    if cursor.rowcount == 1:
        return None
    cursor = await tx.execute("SELECT ready_at FROM throttle WHERE id = %s", (id,))
    row = await cursor.fetchone()
    return row[0] if row else now + slack  # given back between the two statements: the next try will do


async def give_back(tx: TenantTx, id: bytes) -> None:
    await tx.execute("DELETE FROM throttle WHERE id = %s", (id,))


async def forget_whole(tx: WorkerTx, now: datetime) -> None:
    """Drops what says nothing any more: the tries have all come back."""
    await tx.execute("DELETE FROM throttle WHERE ready_at <= %s", (now,))
