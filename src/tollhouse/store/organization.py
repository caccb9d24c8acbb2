"""Organisations: what they are called, their plan, and how they end."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from psycopg.rows import class_row

from tollhouse.core.access import Role
from tollhouse.core.credit import Balance
from tollhouse.core.membership import Kind
from tollhouse.store.db import MoneyTx, OperatorTx, PersonTx, TenantTx, WorkerTx


@dataclass(frozen=True, slots=True)
class Organization:
    id: UUID
    name: str
    kind: Kind
    business_type: str
    plan_id: str
    pending_plan_id: str | None
    period_anchor: datetime
    clock_offset_micros: int
    suspended_at: datetime | None
    created_at: datetime
    deleted_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class OwnOrganization:
    """An organisation as its member sees it in a list."""

    id: UUID
    name: str
    kind: Kind
    role: Role
    plan_id: str
    suspended_at: datetime | None


@dataclass(frozen=True, slots=True)
class Closed:
    """How much of what an organisation had is no more."""

    keys: int
    members: int
    invitations: int
    connections: int
    issuers: int


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
                      suspended_at, created_at, deleted_at
               FROM organization WHERE id = %s""",
            (organization_id,),
        )
        return await cursor.fetchone()


async def lock(tx: TenantTx | OperatorTx, organization_id: UUID) -> Organization | None:
    """The same, and nobody else changes it, its members or its money until this transaction ends."""
    async with tx.cursor(row_factory=class_row(Organization)) as cursor:
        await cursor.execute(
            """SELECT id, name, kind, business_type, plan_id, pending_plan_id, period_anchor, clock_offset_micros,
                      suspended_at, created_at, deleted_at
               FROM organization WHERE id = %s FOR NO KEY UPDATE""",
            (organization_id,),
        )
        return await cursor.fetchone()


async def own(tx: PersonTx) -> list[OwnOrganization]:
    """Those of the transaction's person: the personal one first, then by name."""
    async with tx.cursor(row_factory=class_row(OwnOrganization)) as cursor:
        await cursor.execute("SELECT id, name, kind, role, plan_id, suspended_at FROM own_organizations()")
        return await cursor.fetchall()


async def search(
    tx: OperatorTx, text: str, before: UUID | None, limit: int, plan_id: str | None = None, state: str | None = None
) -> list[Organization]:
    """Newest first, those before an id; with a text, those in whose name it stands, whatever its case; with a state,
    those that are open, suspended or deleted."""
    async with tx.cursor(row_factory=class_row(Organization)) as cursor:
        await cursor.execute(
            """SELECT id, name, kind, business_type, plan_id, pending_plan_id, period_anchor, clock_offset_micros,
                      suspended_at, created_at, deleted_at
               FROM organization
               WHERE (%(before)s::uuid IS NULL OR id < %(before)s) AND strpos(lower(name), lower(%(text)s)) > 0
                 AND (%(plan)s::text IS NULL OR plan_id = %(plan)s)
                 AND (%(state)s::text IS NULL OR %(state)s = CASE WHEN deleted_at IS NOT NULL THEN 'deleted'
                          WHEN suspended_at IS NOT NULL THEN 'suspended' ELSE 'open' END)
               ORDER BY id DESC LIMIT %(limit)s""",
            {"before": before, "text": text, "limit": limit, "plan": plan_id, "state": state},
        )
        return await cursor.fetchall()


async def describe(tx: OperatorTx, organization_id: UUID, name: str, business_type: str) -> None:
    await tx.execute(
        "UPDATE organization SET name = %s, business_type = %s WHERE id = %s", (name, business_type, organization_id)
    )


async def set_suspended(tx: OperatorTx, organization_id: UUID, at: datetime | None) -> None:
    await tx.execute("UPDATE organization SET suspended_at = %s WHERE id = %s", (at, organization_id))


async def running(tx: OperatorTx, organization_id: UUID) -> int:
    """How many calls have reserved something and not ended."""
    cursor = await tx.execute(
        "SELECT count(*) FROM reservation WHERE organization_id = %s AND state = 'pending'", (organization_id,)
    )
    row = await cursor.fetchone()
    return row[0] if row else 0


async def close(tx: OperatorTx, organization_id: UUID, at: datetime) -> Closed:
    """Nobody gets in any more: keys are revoked, open invitations too; members, connections with their keys, trusted
    issuers, chats, models of its own and what was kept of prompts and answers are gone. Its books stay."""
    async with tx.cursor(row_factory=class_row(Closed)) as cursor:
        await cursor.execute(
            """WITH closed AS (
                   UPDATE organization SET deleted_at = %(at)s WHERE id = %(id)s RETURNING clock_offset_micros
               ), keys AS (
                   UPDATE api_key
                   SET revoked_at = %(at)s + (SELECT clock_offset_micros FROM closed) * interval '1 microsecond'
                   WHERE organization_id = %(id)s AND revoked_at IS NULL RETURNING id
               ), members AS (
                   DELETE FROM member WHERE organization_id = %(id)s RETURNING person_id
               ), invitations AS (
                   UPDATE invitation SET revoked_at = %(at)s
                   WHERE organization_id = %(id)s AND accepted_at IS NULL AND revoked_at IS NULL RETURNING id
               ), connections AS (
                   DELETE FROM connection WHERE organization_id = %(id)s RETURNING id
               ), issuers AS (
                   DELETE FROM jwt_issuer WHERE organization_id = %(id)s RETURNING id
               ), contents AS (
                   DELETE FROM request_content WHERE organization_id = %(id)s
               ), answers AS (
                   DELETE FROM kept_answer WHERE organization_id = %(id)s
               ), chats AS (
                   DELETE FROM conversation WHERE organization_id = %(id)s
               ), models AS (
                   DELETE FROM own_model WHERE organization_id = %(id)s
               ), documents AS (
                   DELETE FROM document WHERE organization_id = %(id)s
               )
               SELECT (SELECT count(*) FROM keys) AS keys, (SELECT count(*) FROM members) AS members,
                      (SELECT count(*) FROM invitations) AS invitations,
                      (SELECT count(*) FROM connections) AS connections, (SELECT count(*) FROM issuers) AS issuers""",
            {"at": at, "id": organization_id},
        )
        found = await cursor.fetchone()
    assert found is not None
    return found


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
           WHERE b.next_due_at <= %s + o.clock_offset_micros * interval '1 microsecond' AND o.deleted_at IS NULL
           ORDER BY b.next_due_at LIMIT %s""",
        (now, limit),
    )
    return [row[0] for row in await cursor.fetchall()]
