"""An organisation's own limits. The teller reads those in force with the organisation's lock (store/account.py)."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from psycopg.rows import class_row

from tollhouse.core.period import Kind
from tollhouse.core.quota import OwnMeter, Scope
from tollhouse.store.db import OperatorTx


@dataclass(frozen=True, slots=True)
class LimitRow:
    """`subject` is how the subject is called: a member's id, the host application's id of an end user, or a key's id;
    None: all together (scope organization), each person, or each key. A key stands for those that replaced it too.
    `maximum` of credits is in micro-credits. Times are the organisation's."""

    id: UUID
    scope: Scope
    subject_id: UUID | None
    subject: str | None
    model_id: str | None
    meter: OwnMeter
    period: Kind
    maximum: int
    created_at: datetime
    ended_at: datetime | None


async def insert(tx: OperatorTx, organization_id: UUID, row: LimitRow) -> None:
    await tx.execute(
        """INSERT INTO usage_limit (organization_id, id, scope, subject_id, model_id, meter, period, maximum,
               created_at, ended_at)
           VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)""",
        (organization_id, row.id, row.scope, row.subject_id, row.model_id, row.meter, row.period, row.maximum,
         row.created_at, row.ended_at),
    )  # fmt: skip


async def in_force(tx: OperatorTx, organization_id: UUID) -> list[LimitRow]:
    """Oldest first."""
    async with tx.cursor(row_factory=class_row(LimitRow)) as cursor:
        await cursor.execute(
            """SELECT l.id, l.scope, l.subject_id, coalesce(u.external_id, l.subject_id::text) AS subject, l.model_id,
                      l.meter, l.period, l.maximum, l.created_at, l.ended_at
               FROM usage_limit l
               LEFT JOIN end_user u ON u.organization_id = l.organization_id AND u.id = l.subject_id
               WHERE l.organization_id = %s AND l.ended_at IS NULL ORDER BY l.id""",
            (organization_id,),
        )
        return await cursor.fetchall()


async def one(tx: OperatorTx, organization_id: UUID, limit_id: UUID) -> LimitRow | None:
    """The organisation's limit of this id, whether it is in force or not."""
    async with tx.cursor(row_factory=class_row(LimitRow)) as cursor:
        await cursor.execute(
            """SELECT l.id, l.scope, l.subject_id, coalesce(u.external_id, l.subject_id::text) AS subject, l.model_id,
                      l.meter, l.period, l.maximum, l.created_at, l.ended_at
               FROM usage_limit l
               LEFT JOIN end_user u ON u.organization_id = l.organization_id AND u.id = l.subject_id
               WHERE l.organization_id = %s AND l.id = %s""",
            (organization_id, limit_id),
        )
        return await cursor.fetchone()


async def set_maximum(tx: OperatorTx, organization_id: UUID, limit_id: UUID, maximum: int) -> None:
    await tx.execute(
        "UPDATE usage_limit SET maximum = %s WHERE organization_id = %s AND id = %s",
        (maximum, organization_id, limit_id),
    )


async def end(tx: OperatorTx, organization_id: UUID, limit_id: UUID, at: datetime) -> None:
    """It binds no more; its counters stay."""
    await tx.execute(
        "UPDATE usage_limit SET ended_at = %s WHERE organization_id = %s AND id = %s", (at, organization_id, limit_id)
    )


async def of_ended_keys(tx: OperatorTx, organization_id: UUID, now: datetime) -> list[UUID]:
    """Limits in force of one key each, of which neither this key nor one that replaced it works at `now`, the
    organisation's time."""
    cursor = await tx.execute(
        """SELECT l.id FROM usage_limit l
           WHERE l.organization_id = %(organization)s AND l.ended_at IS NULL AND l.scope = 'key'
             AND l.subject_id IS NOT NULL AND NOT EXISTS (
                 SELECT FROM api_key k
                 WHERE k.organization_id = l.organization_id AND coalesce(k.counts_as, k.id) = l.subject_id
                   AND k.revoked_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > %(now)s))
           ORDER BY l.id""",
        {"organization": organization_id, "now": now},
    )
    return [row[0] for row in await cursor.fetchall()]
