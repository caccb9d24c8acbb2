"""People, and the organisations that they are members of."""

from datetime import datetime
from uuid import UUID

from tollhouse.store.db import OperatorTx


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
