"""Organisations and their plan."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from psycopg.rows import class_row

from tollhouse.core.credit import Balance
from tollhouse.store.db import MoneyTx, OperatorTx, TenantTx, WorkerTx


@dataclass(frozen=True, slots=True)
class Organization:
    id: UUID
    name: str
    kind: str
    business_type: str
    plan_id: str
    pending_plan_id: str | None
    period_anchor: datetime
    clock_offset_micros: int
    suspended_at: datetime | None
    created_at: datetime


async def insert(tx: OperatorTx, row: Organization) -> None:
    await tx.execute(
        """INSERT INTO organization (id, name, kind, business_type, plan_id, period_anchor, created_at)
           VALUES (%s, %s, %s, %s, %s, %s, %s)""",
        (row.id, row.name, row.kind, row.business_type, row.plan_id, row.period_anchor, row.created_at),
    )


async def insert_balance(tx: OperatorTx, balance: Balance) -> None:
    """The empty balance of a new organisation."""
    await tx.execute(
        """INSERT INTO credit_balance (organization_id, period_start, period_end, next_due_at)
           VALUES (%s, %s, %s, %s)""",
        (balance.organization_id, balance.period_start, balance.period_end, balance.next_due_at),
    )


async def find(tx: TenantTx | OperatorTx, organization_id: UUID) -> Organization | None:
    async with tx.cursor(row_factory=class_row(Organization)) as cursor:
        await cursor.execute(
            """SELECT id, name, kind, business_type, plan_id, pending_plan_id, period_anchor, clock_offset_micros,
                      suspended_at, created_at
               FROM organization WHERE id = %s""",
            (organization_id,),
        )
        return await cursor.fetchone()


async def apply_pending_plan(tx: MoneyTx, organization_id: UUID) -> None:
    await tx.execute(
        "UPDATE organization SET plan_id = pending_plan_id, pending_plan_id = NULL WHERE id = %s", (organization_id,)
    )


async def set_plan(tx: OperatorTx, organization_id: UUID, plan_id: str, pending_plan_id: str | None) -> None:
    await tx.execute(
        "UPDATE organization SET plan_id = %s, pending_plan_id = %s WHERE id = %s",
        (plan_id, pending_plan_id, organization_id),
    )


async def move_clock(tx: OperatorTx, organization_id: UUID, offset_micros: int) -> None:
    await tx.execute("UPDATE organization SET clock_offset_micros = %s WHERE id = %s", (offset_micros, organization_id))


async def due(tx: WorkerTx, now: datetime, limit: int) -> list[UUID]:
    """Organisations whose period or one of whose grants has ended or begun, longest due first."""
    cursor = await tx.execute(
        """SELECT b.organization_id FROM credit_balance b JOIN organization o ON o.id = b.organization_id
           WHERE b.next_due_at <= %s + o.clock_offset_micros * interval '1 microsecond'
           ORDER BY b.next_due_at LIMIT %s""",
        (now, limit),
    )
    return [row[0] for row in await cursor.fetchall()]
