"""Accounts at identity providers by which people sign in."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from psycopg.rows import class_row

from tollhouse.store.db import OperatorTx, PersonTx, TenantTx


@dataclass(frozen=True, slots=True)
class Linked:
    """`email` is what the provider said when it was linked, for the person to recognise it."""

    provider_id: UUID
    provider_name: str
    subject: str
    email: str | None
    linked_at: datetime


async def find(tx: TenantTx | PersonTx, provider_id: UUID, subject: str) -> UUID | None:
    """The person whose account this is."""
    cursor = await tx.execute("SELECT person_id FROM find_linked_identity(%s, %s)", (provider_id, subject))
    row = await cursor.fetchone()
    return row[0] if row else None


async def insert(
    tx: PersonTx | OperatorTx, person_id: UUID, provider_id: UUID, subject: str, email: str | None, now: datetime
) -> bool:
    """False when the account is linked already, to whomever."""
    cursor = await tx.execute(
        """INSERT INTO linked_identity (person_id, provider_id, subject, email, linked_at) VALUES (%s, %s, %s, %s, %s)
           ON CONFLICT (provider_id, subject) DO NOTHING""",
        (person_id, provider_id, subject, email, now),
    )
    return cursor.rowcount == 1


async def listed(tx: PersonTx) -> list[Linked]:
    async with tx.cursor(row_factory=class_row(Linked)) as cursor:
        await cursor.execute(
            """SELECT l.provider_id, p.name AS provider_name, l.subject, l.email, l.linked_at
               FROM linked_identity l JOIN identity_provider p ON p.id = l.provider_id ORDER BY p.name, l.linked_at"""
        )
        return await cursor.fetchall()


async def delete(tx: PersonTx, provider_id: UUID, subject: str) -> bool:
    """False when it was not linked to the person of the transaction."""
    cursor = await tx.execute(
        "DELETE FROM linked_identity WHERE provider_id = %s AND subject = %s", (provider_id, subject)
    )
    return cursor.rowcount == 1
