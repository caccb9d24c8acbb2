"""Mail that goes out, or is kept for who looks into the outbox."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from psycopg.rows import class_row

from tollhouse.store.db import OperatorTx, PersonTx, TenantTx, WorkerTx


@dataclass(frozen=True, slots=True)
class Mail:
    """`body` is plain text, with lines ended by a line feed; it may hold a link that signs somebody in."""

    id: UUID
    recipient: str
    kind: str
    subject: str
    body: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Posted(Mail):
    """What has become of it."""

    attempts: int
    sent_at: datetime | None
    given_up: bool
    error: str | None


async def insert(tx: OperatorTx | TenantTx | PersonTx | WorkerTx, mail: Mail) -> None:
    await tx.execute(
        """INSERT INTO mail (id, recipient, kind, subject, body, created_at, due_at)
           VALUES (%s, %s, %s, %s, %s, %s, %s)""",
        (mail.id, mail.recipient, mail.kind, mail.subject, mail.body, mail.created_at, mail.created_at),
    )


async def claim(tx: WorkerTx, now: datetime, until: datetime) -> Posted | None:
    """The mail that has been due longest, for whoever calls this alone: nobody else gets it before `until`. With the
    attempt counted that now begins."""
    async with tx.cursor(row_factory=class_row(Posted)) as cursor:
        await cursor.execute(
            """UPDATE mail SET attempts = attempts + 1, due_at = %s
               WHERE id = (SELECT id FROM mail WHERE sent_at IS NULL AND NOT given_up AND due_at <= %s
                           ORDER BY due_at LIMIT 1 FOR UPDATE SKIP LOCKED)
               RETURNING id, recipient, kind, subject, body, created_at, attempts, sent_at, given_up, error""",
            (until, now),
        )
        return await cursor.fetchone()


async def write_sent(tx: WorkerTx, id: UUID, now: datetime) -> None:
    await tx.execute("UPDATE mail SET sent_at = %s, error = NULL WHERE id = %s", (now, id))


async def write_failed(tx: WorkerTx, id: UUID, error: str, due_at: datetime | None) -> None:
    """`due_at` None: it is not tried again."""
    await tx.execute(
        "UPDATE mail SET error = %s, due_at = coalesce(%s, due_at), given_up = %s WHERE id = %s",
        (error, due_at, due_at is None, id),
    )


async def give_up(tx: WorkerTx, now: datetime, attempts: int, created_before: datetime) -> int:
    """Those that were tried so often that whoever tried last never came back, and those that waited too long for a
    server: their links have run out. How many."""
    cursor = await tx.execute(
        """UPDATE mail SET given_up = true, error = coalesce(error, 'it was not sent in time')
           WHERE sent_at IS NULL AND NOT given_up AND due_at <= %s AND (attempts >= %s OR created_at < %s)""",
        (now, attempts, created_before),
    )
    return cursor.rowcount


async def blank(tx: WorkerTx, before: datetime) -> None:
    """Takes the text from mail that is done with since then; it may hold links and codes."""
    await tx.execute(
        """UPDATE mail SET body = ''
           WHERE (sent_at < %(before)s OR (given_up AND due_at < %(before)s)) AND body <> ''""",
        {"before": before},
    )


async def forget(tx: WorkerTx, before: datetime) -> None:
    await tx.execute("DELETE FROM mail WHERE created_at < %s", (before,))


async def latest(tx: OperatorTx, limit: int) -> list[Posted]:
    """Newest first."""
    async with tx.cursor(row_factory=class_row(Posted)) as cursor:
        await cursor.execute(
            """SELECT id, recipient, kind, subject, body, created_at, attempts, sent_at, given_up, error
               FROM mail ORDER BY id DESC LIMIT %s""",
            (limit,),
        )
        return await cursor.fetchall()
