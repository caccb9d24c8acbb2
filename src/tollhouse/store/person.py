"""People, and the organisations that they are members of."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from psycopg.rows import class_row

from tollhouse.store.db import OperatorTx


@dataclass(frozen=True, slots=True)
class Person:
    id: UUID
    email: str
    name: str
    superadmin: bool
    created_at: datetime
    email_verified_at: datetime | None
    suspended_at: datetime | None
    erased_at: datetime | None


async def find_or_insert(tx: OperatorTx, new_id: UUID, email: str, now: datetime) -> UUID:
    """The person of this e-mail address (in lower case), made with the new id when there is none."""
    await tx.execute(
        "INSERT INTO person (id, email, created_at) VALUES (%s, %s, %s) ON CONFLICT (email) DO NOTHING",
        (new_id, email, now),
    )
    cursor = await tx.execute("SELECT id FROM person WHERE email = %s", (email,))
    row = await cursor.fetchone()
    assert row is not None
    found = row[0]
    assert isinstance(found, UUID)
    return found


async def member_of(tx: OperatorTx, organization_id: UUID, user: str) -> UUID | None:
    """The member of the organisation whose id this is."""
    cursor = await tx.execute(
        "SELECT person_id FROM member WHERE organization_id = %s AND person_id::text = %s",
        (organization_id, user.lower()),
    )
    row = await cursor.fetchone()
    return row[0] if row else None


async def with_own_organization(tx: OperatorTx, user: str) -> tuple[UUID, UUID] | None:
    """The organisation that is this person's own, and the person, by id or e-mail address."""
    cursor = await tx.execute(
        """SELECT o.id, p.id
           FROM person p JOIN member m ON m.person_id = p.id JOIN organization o ON o.id = m.organization_id
           WHERE (p.email = %(user)s OR p.id::text = %(user)s) AND m.role = 'owner' AND o.kind = 'personal'""",
        {"user": user.lower()},
    )
    row = await cursor.fetchone()
    return (row[0], row[1]) if row else None


async def find(tx: OperatorTx, person_id: UUID) -> Person | None:
    async with tx.cursor(row_factory=class_row(Person)) as cursor:
        await cursor.execute(
            """SELECT id, email, name, superadmin, created_at, email_verified_at, suspended_at, erased_at
               FROM person WHERE id = %s""",
            (person_id,),
        )
        return await cursor.fetchone()


async def lock(tx: OperatorTx, person_id: UUID) -> Person | None:
    """The same, and nobody else changes them until this transaction ends. An organisation is locked before its
    members."""
    async with tx.cursor(row_factory=class_row(Person)) as cursor:
        await cursor.execute(
            """SELECT id, email, name, superadmin, created_at, email_verified_at, suspended_at, erased_at
               FROM person WHERE id = %s FOR NO KEY UPDATE""",
            (person_id,),
        )
        return await cursor.fetchone()


async def search(tx: OperatorTx, text: str, before: UUID | None, limit: int, state: str | None = None) -> list[Person]:
    """Newest first, those before an id; with a text, those in whose e-mail address or name it stands, whatever its
    case; with a state, those who are superadmin, suspended, unverified or erased."""
    async with tx.cursor(row_factory=class_row(Person)) as cursor:
        await cursor.execute(
            """SELECT id, email, name, superadmin, created_at, email_verified_at, suspended_at, erased_at
               FROM person
               WHERE (%(before)s::uuid IS NULL OR id < %(before)s)
                 AND (strpos(email, lower(%(text)s)) > 0 OR strpos(lower(name), lower(%(text)s)) > 0)
                 AND CASE %(state)s::text WHEN 'superadmin' THEN superadmin WHEN 'erased' THEN erased_at IS NOT NULL
                     WHEN 'suspended' THEN suspended_at IS NOT NULL AND erased_at IS NULL
                     WHEN 'unverified' THEN email_verified_at IS NULL AND erased_at IS NULL ELSE true END
               ORDER BY id DESC LIMIT %(limit)s""",
            {"before": before, "text": text, "limit": limit, "state": state},
        )
        return await cursor.fetchall()


async def set_suspended(tx: OperatorTx, person_id: UUID, at: datetime | None) -> None:
    await tx.execute("UPDATE person SET suspended_at = %s WHERE id = %s", (at, person_id))


async def set_superadmin(tx: OperatorTx, person_id: UUID, superadmin: bool) -> None:
    await tx.execute("UPDATE person SET superadmin = %s WHERE id = %s", (superadmin, person_id))


async def superadmins(tx: OperatorTx) -> list[Person]:
    """All of them, also those who cannot sign in; by address."""
    async with tx.cursor(row_factory=class_row(Person)) as cursor:
        await cursor.execute(
            """SELECT id, email, name, superadmin, created_at, email_verified_at, suspended_at, erased_at
               FROM person WHERE superadmin ORDER BY email"""
        )
        return await cursor.fetchall()


async def lock_superadmins(tx: OperatorTx) -> list[UUID]:
    """The superadmins who can sign in, none of whom changes until this transaction ends."""
    cursor = await tx.execute(
        """SELECT id FROM person WHERE superadmin AND suspended_at IS NULL AND erased_at IS NULL
           ORDER BY id FOR NO KEY UPDATE"""
    )
    return [row[0] for row in await cursor.fetchall()]
