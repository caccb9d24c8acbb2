"""People as they sign in: found by their address, then themselves, and their organisations."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from psycopg.rows import class_row

from tollhouse.store.db import OperatorTx, PersonTx, TenantTx


@dataclass(frozen=True, slots=True)
class Profile:
    """`email_verified_at` None: nobody has shown yet that the mailbox is theirs."""

    id: UUID
    email: str
    name: str
    superadmin: bool
    email_verified_at: datetime | None
    suspended_at: datetime | None


async def find(tx: TenantTx | PersonTx | OperatorTx, email: str) -> Profile | None:
    """The person of an e-mail address in its normal form."""
    async with tx.cursor(row_factory=class_row(Profile)) as cursor:
        await cursor.execute("SELECT * FROM find_person(%s)", (email,))
        return await cursor.fetchone()


async def read(tx: PersonTx) -> Profile | None:
    """The person of the transaction; None when their account is erased."""
    async with tx.cursor(row_factory=class_row(Profile)) as cursor:
        await cursor.execute(
            """SELECT id, email, name, superadmin, email_verified_at, suspended_at FROM person
               WHERE id = (SELECT app_person()) AND erased_at IS NULL"""
        )
        return await cursor.fetchone()


async def insert(tx: OperatorTx, id_: UUID, email: str, name: str, verified_at: datetime | None, now: datetime) -> bool:
    """A new person. False when the address is somebody's."""
    cursor = await tx.execute(
        """INSERT INTO person (id, email, name, email_verified_at, created_at) VALUES (%s, %s, %s, %s, %s)
           ON CONFLICT (email) DO NOTHING""",
        (id_, email, name, verified_at, now),
    )
    return cursor.rowcount == 1


async def set_email(tx: PersonTx, email: str, now: datetime) -> None:
    """An address that is verified from now on. psycopg's UniqueViolation when it is somebody's."""
    await tx.execute(
        "UPDATE person SET email = %s, email_verified_at = %s WHERE id = (SELECT app_person())", (email, now)
    )


async def set_name(tx: PersonTx, name: str) -> None:
    await tx.execute("UPDATE person SET name = %s WHERE id = (SELECT app_person())", (name,))


async def set_language(tx: PersonTx, code: str | None) -> None:
    """The language of pages, two letters; None: as the browser asks."""
    await tx.execute("UPDATE person SET language = %s WHERE id = (SELECT app_person())", (code,))


async def set_verified(tx: PersonTx, email: str, now: datetime) -> bool:
    """The mailbox is theirs. False when that was known before, or the address is another one by now."""
    cursor = await tx.execute(
        """UPDATE person SET email_verified_at = %s
           WHERE id = (SELECT app_person()) AND email = %s AND email_verified_at IS NULL""",
        (now, email),
    )
    return cursor.rowcount == 1


async def own_organization(tx: PersonTx) -> UUID | None:
    """The personal organisation of the person of the transaction."""
    cursor = await tx.execute("SELECT id FROM own_organizations() WHERE kind = 'personal' ORDER BY id LIMIT 1")
    row = await cursor.fetchone()
    return row[0] if row else None


async def belongs_to(tx: PersonTx, organization_id: UUID) -> bool:
    """Whether the person of the transaction is a member of an organisation that there still is."""
    cursor = await tx.execute("SELECT FROM own_organizations() WHERE id = %s", (organization_id,))
    return await cursor.fetchone() is not None


async def personal_organization(tx: OperatorTx, person_id: UUID) -> UUID | None:
    """Anybody's personal organisation."""
    cursor = await tx.execute(
        """SELECT o.id FROM member m JOIN organization o ON o.id = m.organization_id
           WHERE m.person_id = %s AND o.kind = 'personal' AND o.deleted_at IS NULL ORDER BY o.id LIMIT 1""",
        (person_id,),
    )
    row = await cursor.fetchone()
    return row[0] if row else None
