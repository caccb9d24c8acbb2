"""Invitations: of their links only a digest is stored."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from psycopg.rows import class_row

from tollhouse.core.membership import Invitation
from tollhouse.store.db import OperatorTx, TenantTx


@dataclass(frozen=True, slots=True)
class InvitationFound:
    """What a link leads to."""

    organization_name: str
    invitation: Invitation


async def insert(tx: OperatorTx, row: Invitation, digest: bytes) -> None:
    await tx.execute(
        """INSERT INTO invitation (organization_id, id, email, role, digest, invited_by, created_at, expires_at)
           VALUES (%s, %s, %s, %s, %s, %s, %s, %s)""",
        (row.organization_id, row.id, row.email, row.role, digest, row.invited_by, row.created_at, row.expires_at),
    )


async def find(tx: TenantTx, digests: Sequence[bytes]) -> InvitationFound | None:
    """The invitation whose link has one of these digests, whatever has become of it."""
    cursor = await tx.execute(
        """SELECT found.organization_name, found.organization_id, found.id, found.email, found.role, found.invited_by,
                  found.created_at, found.expires_at, found.accepted_at, found.revoked_at
           FROM unnest(%s::bytea[]) AS wanted(digest) CROSS JOIN LATERAL find_invitation(wanted.digest) AS found""",
        (list(digests),),
    )
    row = await cursor.fetchone()
    return InvitationFound(row[0], Invitation(*row[1:])) if row else None


async def one(tx: OperatorTx | TenantTx, organization_id: UUID, invitation_id: UUID) -> Invitation | None:
    async with tx.cursor(row_factory=class_row(Invitation)) as cursor:
        await cursor.execute(
            """SELECT organization_id, id, email, role, invited_by, created_at, expires_at, accepted_at, revoked_at
               FROM invitation WHERE organization_id = %s AND id = %s""",
            (organization_id, invitation_id),
        )
        return await cursor.fetchone()


async def waiting(tx: OperatorTx | TenantTx, organization_id: UUID) -> list[Invitation]:
    """Those that were neither accepted nor revoked, expired ones among them; newest first. There are never many."""
    async with tx.cursor(row_factory=class_row(Invitation)) as cursor:
        await cursor.execute(
            """SELECT organization_id, id, email, role, invited_by, created_at, expires_at, accepted_at, revoked_at
               FROM invitation WHERE organization_id = %s AND accepted_at IS NULL AND revoked_at IS NULL
               ORDER BY id DESC""",
            (organization_id,),
        )
        return await cursor.fetchall()


async def accept(tx: OperatorTx, organization_id: UUID, invitation_id: UUID, at: datetime) -> None:
    await tx.execute(
        "UPDATE invitation SET accepted_at = %s WHERE organization_id = %s AND id = %s",
        (at, organization_id, invitation_id),
    )


async def revoke(tx: OperatorTx, organization_id: UUID, invitation_ids: Sequence[UUID], at: datetime) -> None:
    await tx.execute(
        """UPDATE invitation SET revoked_at = %s
           WHERE organization_id = %s AND id = ANY (%s) AND accepted_at IS NULL AND revoked_at IS NULL""",
        (at, organization_id, list(invitation_ids)),
    )


async def revoke_from(tx: OperatorTx, organization_id: UUID, invited_by: str, at: datetime) -> int:
    """Revokes what somebody has sent and nobody has answered. How many these were."""
    cursor = await tx.execute(
        """UPDATE invitation SET revoked_at = %s
           WHERE organization_id = %s AND invited_by = %s AND accepted_at IS NULL AND revoked_at IS NULL""",
        (at, organization_id, invited_by),
    )
    return cursor.rowcount
