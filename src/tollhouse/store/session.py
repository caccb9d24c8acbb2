"""Sessions of people: what is kept of a cookie is its digest."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID

from psycopg.rows import class_row

from tollhouse.core.access import Role
from tollhouse.store.db import OperatorTx, PersonTx, TenantTx

Method = Literal["password", "link", "oidc", "impersonation"]


@dataclass(frozen=True, slots=True)
class Found:
    """A session, its person and the organisation that is chosen for it. `role` None: the person is no member of it any
    more. `impersonator_stands`: the superadmin behind an impersonation still is one, and still signed in.
    `language`: the code of the one that the person chose for pages; None: as their browser asks."""

    id: UUID
    person_id: UUID
    organization_id: UUID
    method: Method
    created_at: datetime
    seen_at: datetime
    expires_at: datetime
    proved_at: datetime
    second_factor: bool
    revoked_at: datetime | None
    impersonator_id: UUID | None
    impersonator_session_id: UUID | None
    impersonation_reason: str | None
    impersonator_email: str | None
    impersonator_stands: bool
    email: str
    name: str
    superadmin: bool
    email_verified_at: datetime | None
    person_suspended_at: datetime | None
    has_totp: bool
    role: Role | None
    organization_name: str
    organization_kind: str
    organization_suspended_at: datetime | None
    organization_deleted_at: datetime | None
    clock_offset_micros: int
    language: str | None


@dataclass(frozen=True, slots=True)
class New:
    """A session that begins. The last three fields are those of an impersonation."""

    person_id: UUID
    id: UUID
    digest: bytes
    organization_id: UUID
    method: Method
    created_at: datetime
    expires_at: datetime
    second_factor: bool
    address: str | None
    user_agent: str
    impersonator_id: UUID | None = None
    impersonator_session_id: UUID | None = None
    impersonation_reason: str | None = None


@dataclass(frozen=True, slots=True)
class Listed:
    """A session as its person sees it."""

    id: UUID
    method: Method
    created_at: datetime
    seen_at: datetime
    address: str | None
    user_agent: str
    second_factor: bool


async def find(tx: TenantTx, digests: Sequence[bytes]) -> Found | None:
    """The session under one of these digests, whatever its state."""
    async with tx.cursor(row_factory=class_row(Found)) as cursor:
        for digest in digests:
            await cursor.execute("SELECT * FROM find_session(%s)", (digest,))
            found = await cursor.fetchone()
            if found is not None:
                return found
    return None


async def insert(tx: PersonTx | OperatorTx, row: New) -> None:
    await tx.execute(
        """INSERT INTO session (person_id, id, digest, organization_id, method, created_at, seen_at, expires_at,
               proved_at, second_factor, address, user_agent, impersonator_id, impersonator_session_id,
               impersonation_reason)
           VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)""",
        (row.person_id, row.id, row.digest, row.organization_id, row.method, row.created_at, row.created_at,
         row.expires_at, row.created_at, row.second_factor, row.address, row.user_agent, row.impersonator_id,
         row.impersonator_session_id, row.impersonation_reason),
    )  # fmt: skip


async def touch(tx: PersonTx, id_: UUID, now: datetime, before: datetime) -> None:
    """Seen now, unless it was seen after `before` already."""
    await tx.execute("UPDATE session SET seen_at = %s WHERE id = %s AND seen_at <= %s", (now, id_, before))


async def choose(tx: PersonTx, id_: UUID, organization_id: UUID) -> None:
    await tx.execute("UPDATE session SET organization_id = %s WHERE id = %s", (organization_id, id_))


async def rotate(tx: PersonTx, id_: UUID, before: Sequence[bytes], after: bytes, now: datetime) -> bool:
    """Another cookie for the session. False when it has another one already, or has ended."""
    cursor = await tx.execute(
        """UPDATE session SET digest = %s, seen_at = %s
           WHERE id = %s AND digest = ANY (%s) AND revoked_at IS NULL AND expires_at > %s""",
        (after, now, id_, list(before), now),
    )
    return cursor.rowcount == 1


async def resume(tx: OperatorTx, person_id: UUID, id_: UUID, after: bytes, now: datetime) -> bool:
    """The same without the former cookie, for the session to which an impersonation goes back."""
    cursor = await tx.execute(
        """UPDATE session SET digest = %s, seen_at = %s
           WHERE person_id = %s AND id = %s AND revoked_at IS NULL AND expires_at > %s""",
        (after, now, person_id, id_, now),
    )
    return cursor.rowcount == 1


async def prove(tx: PersonTx, id_: UUID, now: datetime) -> None:
    await tx.execute("UPDATE session SET proved_at = %s WHERE id = %s", (now, id_))


async def complete(tx: PersonTx, id_: UUID, now: datetime, expires_at: datetime) -> None:
    """The second factor was given."""
    await tx.execute(
        "UPDATE session SET second_factor = true, proved_at = %s, expires_at = %s WHERE id = %s",
        (now, expires_at, id_),
    )


async def revoke(tx: PersonTx | OperatorTx, person_id: UUID, id_: UUID, now: datetime) -> bool:
    """False when there is no such session of the person, or it was revoked before."""
    cursor = await tx.execute(
        "UPDATE session SET revoked_at = %s WHERE person_id = %s AND id = %s AND revoked_at IS NULL",
        (now, person_id, id_),
    )
    return cursor.rowcount == 1


async def revoke_all(tx: PersonTx | OperatorTx, person_id: UUID, now: datetime, but: UUID | None = None) -> int:
    """How many there were."""
    cursor = await tx.execute(
        """UPDATE session SET revoked_at = %s
           WHERE person_id = %s AND revoked_at IS NULL AND id IS DISTINCT FROM %s""",
        (now, person_id, but),
    )
    return cursor.rowcount


async def listed(tx: PersonTx, now: datetime, seen_after: datetime) -> list[Listed]:
    """The person's sessions that go on, the one that was seen last first."""
    async with tx.cursor(row_factory=class_row(Listed)) as cursor:
        await cursor.execute(
            """SELECT id, method, created_at, seen_at, address, user_agent, second_factor FROM session
               WHERE revoked_at IS NULL AND expires_at > %s AND seen_at > %s ORDER BY seen_at DESC, id""",
            (now, seen_after),
        )
        return await cursor.fetchall()


async def last_organization(tx: PersonTx) -> UUID | None:
    """Where the person was when last seen."""
    cursor = await tx.execute(
        "SELECT organization_id FROM session WHERE impersonator_id IS NULL ORDER BY seen_at DESC LIMIT 1"
    )
    row = await cursor.fetchone()
    return row[0] if row else None
