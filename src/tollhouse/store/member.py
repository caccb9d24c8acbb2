"""Members: who belongs to an organisation, in which role. Whoever changes them holds the organisation's lock."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from psycopg.rows import class_row

from tollhouse.core.access import Role
from tollhouse.core.membership import Kind
from tollhouse.store.db import OperatorTx, TenantTx


@dataclass(frozen=True, slots=True)
class Member:
    """`suspended_at`: an operator suspended the person, everywhere."""

    person_id: UUID
    email: str
    name: str
    role: Role
    joined_at: datetime
    suspended_at: datetime | None


@dataclass(frozen=True, slots=True)
class Membership:
    """One of the organisations that a person is in."""

    organization_id: UUID
    name: str
    kind: Kind
    role: Role
    joined_at: datetime


async def insert(tx: OperatorTx, organization_id: UUID, person_id: UUID, role: Role, now: datetime) -> None:
    await tx.execute(
        "INSERT INTO member (organization_id, person_id, role, created_at) VALUES (%s, %s, %s, %s)",
        (organization_id, person_id, role, now),
    )


async def page(tx: TenantTx | OperatorTx, organization_id: UUID, after: UUID | None, limit: int) -> list[Member]:
    """In the order in which their accounts were made, those after an id."""
    async with tx.cursor(row_factory=class_row(Member)) as cursor:
        await cursor.execute(
            """SELECT m.person_id, p.email, p.name, m.role, m.created_at AS joined_at, p.suspended_at
               FROM member m JOIN person p ON p.id = m.person_id
               WHERE m.organization_id = %(id)s AND (%(after)s::uuid IS NULL OR m.person_id > %(after)s)
               ORDER BY m.person_id LIMIT %(limit)s""",
            {"id": organization_id, "after": after, "limit": limit},
        )
        return await cursor.fetchall()


async def one(tx: TenantTx | OperatorTx, organization_id: UUID, person_id: UUID) -> Member | None:
    async with tx.cursor(row_factory=class_row(Member)) as cursor:
        await cursor.execute(
            """SELECT m.person_id, p.email, p.name, m.role, m.created_at AS joined_at, p.suspended_at
               FROM member m JOIN person p ON p.id = m.person_id
               WHERE m.organization_id = %s AND m.person_id = %s""",
            (organization_id, person_id),
        )
        return await cursor.fetchone()


async def role_of(tx: TenantTx | OperatorTx, organization_id: UUID, person_id: UUID) -> Role | None:
    """The person's role there; None for who is no member."""
    cursor = await tx.execute(
        "SELECT role FROM member WHERE organization_id = %s AND person_id = %s", (organization_id, person_id)
    )
    row = await cursor.fetchone()
    return row[0] if row else None


async def has_address(tx: OperatorTx, organization_id: UUID, email: str) -> bool:
    """Whether somebody of this e-mail address is a member."""
    cursor = await tx.execute(
        """SELECT FROM member m JOIN person p ON p.id = m.person_id
           WHERE m.organization_id = %s AND p.email = %s""",
        (organization_id, email),
    )
    return await cursor.fetchone() is not None


async def owners(tx: OperatorTx, organization_id: UUID) -> list[UUID]:
    """The owners who can sign in."""
    cursor = await tx.execute(
        """SELECT m.person_id FROM member m JOIN person p ON p.id = m.person_id
           WHERE m.organization_id = %s AND m.role = 'owner' AND p.suspended_at IS NULL AND p.erased_at IS NULL""",
        (organization_id,),
    )
    return [row[0] for row in await cursor.fetchall()]


async def owned(tx: OperatorTx, person_id: UUID) -> int:
    """How many organisations of teams the person owns."""
    cursor = await tx.execute(
        """SELECT count(*) FROM member m JOIN organization o ON o.id = m.organization_id
           WHERE m.person_id = %s AND m.role = 'owner' AND o.kind = 'team' AND o.deleted_at IS NULL""",
        (person_id,),
    )
    row = await cursor.fetchone()
    return row[0] if row else 0


async def of_person(tx: OperatorTx, person_id: UUID) -> list[Membership]:
    async with tx.cursor(row_factory=class_row(Membership)) as cursor:
        await cursor.execute(
            """SELECT o.id AS organization_id, o.name, o.kind, m.role, m.created_at AS joined_at
               FROM member m JOIN organization o ON o.id = m.organization_id
               WHERE m.person_id = %s ORDER BY o.kind, o.id""",
            (person_id,),
        )
        return await cursor.fetchall()


async def set_role(tx: OperatorTx, organization_id: UUID, person_id: UUID, role: Role) -> None:
    await tx.execute(
        "UPDATE member SET role = %s WHERE organization_id = %s AND person_id = %s", (role, organization_id, person_id)
    )


async def delete(tx: OperatorTx, organization_id: UUID, person_id: UUID) -> None:
    """Models of their own that they had there go with them, and so do the keys of these."""
    await tx.execute(
        "DELETE FROM own_model WHERE organization_id = %s AND person_id = %s", (organization_id, person_id)
    )
    await tx.execute("DELETE FROM member WHERE organization_id = %s AND person_id = %s", (organization_id, person_id))
