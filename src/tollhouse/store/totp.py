"""Second factors: the sealed secret of the person's app, and their recovery codes as digests."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from psycopg.rows import class_row

from tollhouse.store.db import OperatorTx, PersonTx


@dataclass(frozen=True, slots=True)
class Totp:
    """`confirmed_at` None: the person has not shown yet that their app has the secret. `last_step`: that of the last
    code that was taken, in periods of 30 s."""

    secret: bytes = field(repr=False)
    created_at: datetime
    confirmed_at: datetime | None
    last_step: int


async def is_confirmed(tx: PersonTx) -> bool:
    """Whether the person of the transaction is asked for a second factor."""
    cursor = await tx.execute("SELECT FROM totp WHERE confirmed_at IS NOT NULL")
    return await cursor.fetchone() is not None


async def read(tx: PersonTx) -> Totp | None:
    async with tx.cursor(row_factory=class_row(Totp)) as cursor:
        await cursor.execute("SELECT secret, created_at, confirmed_at, last_step FROM totp")
        return await cursor.fetchone()


async def put(tx: PersonTx, person_id: UUID, secret: bytes, now: datetime) -> bool:
    """A new secret that is yet to be confirmed. False when one is confirmed already, which stays."""
    cursor = await tx.execute(
        """INSERT INTO totp (person_id, secret, created_at) VALUES (%s, %s, %s)
           ON CONFLICT (person_id) DO UPDATE SET secret = excluded.secret, created_at = excluded.created_at
           WHERE totp.confirmed_at IS NULL""",
        (person_id, secret, now),
    )
    return cursor.rowcount == 1


async def confirm(tx: PersonTx, secret: bytes, step: int, now: datetime) -> bool:
    """False when another secret was put meanwhile, or it is confirmed already."""
    cursor = await tx.execute(
        "UPDATE totp SET confirmed_at = %s, last_step = %s WHERE secret = %s AND confirmed_at IS NULL",
        (now, step, secret),
    )
    return cursor.rowcount == 1


async def take_step(tx: PersonTx, step: int) -> bool:
    """False when a code of this step, or of a later one, was taken before."""
    cursor = await tx.execute(
        "UPDATE totp SET last_step = %s WHERE confirmed_at IS NOT NULL AND last_step < %s", (step, step)
    )
    return cursor.rowcount == 1


async def remove(tx: PersonTx) -> bool:
    """The app and the recovery codes. False when there was no app that was confirmed."""
    cursor = await tx.execute("DELETE FROM totp RETURNING confirmed_at")
    row = await cursor.fetchone()
    await tx.execute("DELETE FROM recovery_code")
    return row is not None and row[0] is not None


async def remove_of(tx: OperatorTx, person_id: UUID) -> bool:
    """Like `remove`, of this person."""
    cursor = await tx.execute("DELETE FROM totp WHERE person_id = %s RETURNING confirmed_at", (person_id,))
    row = await cursor.fetchone()
    await tx.execute("DELETE FROM recovery_code WHERE person_id = %s", (person_id,))
    return row is not None and row[0] is not None


async def put_recovery_codes(tx: PersonTx, person_id: UUID, digests: Sequence[bytes]) -> None:
    """These, in place of those that there were."""
    await tx.execute("DELETE FROM recovery_code")
    await tx.execute(
        "INSERT INTO recovery_code (person_id, digest) SELECT %s, unnest(%s::bytea[])", (person_id, list(digests))
    )


async def take_recovery_code(tx: PersonTx, digests: Sequence[bytes], now: datetime) -> bool:
    """False when there is no such code, or it was used before."""
    cursor = await tx.execute(
        "UPDATE recovery_code SET used_at = %s WHERE digest = ANY (%s) AND used_at IS NULL", (now, list(digests))
    )
    return cursor.rowcount == 1


async def recovery_codes_left(tx: PersonTx) -> int:
    cursor = await tx.execute("SELECT count(*) FROM recovery_code WHERE used_at IS NULL")
    row = await cursor.fetchone()
    assert row is not None
    return int(row[0])


async def people_after(tx: OperatorTx, last: UUID | None, limit: int) -> list[UUID]:
    """People who have a secret, in the order of their ids, after this one."""
    cursor = await tx.execute(
        """SELECT person_id FROM totp WHERE %(last)s::uuid IS NULL OR person_id > %(last)s::uuid
           ORDER BY person_id LIMIT %(limit)s""",
        {"last": last, "limit": limit},
    )
    return [row[0] for row in await cursor.fetchall()]


async def reseal(tx: PersonTx, before: bytes, after: bytes) -> bool:
    """The same secret under another seal. False when it was put anew meanwhile."""
    cursor = await tx.execute("UPDATE totp SET secret = %s WHERE secret = %s", (after, before))
    return cursor.rowcount == 1
