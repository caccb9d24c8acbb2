"""Issuers whose tokens an organisation trusts. No two rows, of whatever organisation, have the same issuer and
audience."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from psycopg.rows import class_row

from tollhouse.store.db import OperatorTx, TenantTx


@dataclass(frozen=True, slots=True)
class JwtIssuer:
    """`audience`: what tokens must name as theirs. `user_claim`: which claim says whose token it is."""

    organization_id: UUID
    id: UUID
    name: str
    issuer: str
    audience: str
    jwks_url: str
    user_claim: str
    enabled: bool
    created_at: datetime
    updated_at: datetime | None


@dataclass(frozen=True, slots=True)
class IssuerFound:
    """What issuer and audience of a token lead to, and whether the organisation is suspended."""

    organization_id: UUID
    id: UUID
    issuer: str
    audience: str
    jwks_url: str
    user_claim: str
    enabled: bool
    suspended_at: datetime | None


async def find(tx: TenantTx, issuer: str, audiences: Sequence[str]) -> list[IssuerFound]:
    """Who trusts the issuer for one of the audiences: a look-up that comes before a tenant is known."""
    async with tx.cursor(row_factory=class_row(IssuerFound)) as cursor:
        await cursor.execute(
            """SELECT organization_id, id, issuer, audience, jwks_url, user_claim, enabled, suspended_at
               FROM find_jwt_issuer(%s, %s)""",
            (issuer, list(audiences)),
        )
        return await cursor.fetchall()


async def of(tx: TenantTx | OperatorTx, organization_id: UUID) -> list[JwtIssuer]:
    """The organisation's issuers, oldest first."""
    async with tx.cursor(row_factory=class_row(JwtIssuer)) as cursor:
        await cursor.execute(
            """SELECT organization_id, id, name, issuer, audience, jwks_url, user_claim, enabled, created_at, updated_at
               FROM jwt_issuer WHERE organization_id = %s ORDER BY id""",
            (organization_id,),
        )
        return await cursor.fetchall()


async def one(tx: TenantTx | OperatorTx, organization_id: UUID, issuer_id: UUID) -> JwtIssuer | None:
    async with tx.cursor(row_factory=class_row(JwtIssuer)) as cursor:
        await cursor.execute(
            """SELECT organization_id, id, name, issuer, audience, jwks_url, user_claim, enabled, created_at, updated_at
               FROM jwt_issuer WHERE organization_id = %s AND id = %s""",
            (organization_id, issuer_id),
        )
        return await cursor.fetchone()


async def insert(tx: OperatorTx, row: JwtIssuer) -> bool:
    """False when another row, of whatever organisation, has this issuer and audience."""
    cursor = await tx.execute(
        """INSERT INTO jwt_issuer (organization_id, id, name, issuer, audience, jwks_url, user_claim, enabled,
               created_at)
           VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT (issuer, audience) DO NOTHING""",
        (row.organization_id, row.id, row.name, row.issuer, row.audience, row.jwks_url, row.user_claim, row.enabled,
         row.created_at),
    )  # fmt: skip
    return cursor.rowcount == 1


async def update(tx: OperatorTx, row: JwtIssuer) -> None:
    """All that may change of an issuer becomes as in `row`."""
    await tx.execute(
        """UPDATE jwt_issuer SET name = %s, jwks_url = %s, user_claim = %s, enabled = %s, updated_at = %s
           WHERE organization_id = %s AND id = %s""",
        (row.name, row.jwks_url, row.user_claim, row.enabled, row.updated_at, row.organization_id, row.id),
    )


async def delete(tx: OperatorTx, organization_id: UUID, issuer_id: UUID) -> None:
    await tx.execute("DELETE FROM jwt_issuer WHERE organization_id = %s AND id = %s", (organization_id, issuer_id))
