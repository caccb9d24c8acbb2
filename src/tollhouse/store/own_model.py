"""Models of an organisation's or a person's own."""

from typing import LiteralString
from uuid import UUID

from psycopg.rows import class_row

from tollhouse.core.own_model import OwnModel
from tollhouse.store.connection import Resealed
from tollhouse.store.db import OperatorTx, TenantTx

_COLUMNS: LiteralString = """organization_id, id, person_id, name, protocol, base_url, provider_model_id,
    key_ciphertext, key_hint, system_message, context_window, max_output_tokens, created_at, updated_at"""


async def usable(tx: TenantTx, organization_id: UUID, person_id: UUID) -> list[OwnModel]:
    """The person's own and those of the organisation, by name."""
    async with tx.cursor(row_factory=class_row(OwnModel)) as cursor:
        await cursor.execute(
            f"""SELECT {_COLUMNS} FROM own_model
                WHERE organization_id = %s AND (person_id = %s OR person_id IS NULL) ORDER BY lower(name), id""",
            (organization_id, person_id),
        )
        return await cursor.fetchall()


async def of_organization(tx: TenantTx, organization_id: UUID) -> list[OwnModel]:
    """Those that are for everybody there, by name."""
    async with tx.cursor(row_factory=class_row(OwnModel)) as cursor:
        await cursor.execute(
            f"""SELECT {_COLUMNS} FROM own_model
                WHERE organization_id = %s AND person_id IS NULL ORDER BY lower(name), id""",
            (organization_id,),
        )
        return await cursor.fetchall()


async def find(tx: TenantTx, organization_id: UUID, own_model_id: UUID) -> OwnModel | None:
    async with tx.cursor(row_factory=class_row(OwnModel)) as cursor:
        await cursor.execute(
            f"SELECT {_COLUMNS} FROM own_model WHERE organization_id = %s AND id = %s",
            (organization_id, own_model_id),
        )
        return await cursor.fetchone()


async def count(tx: TenantTx, organization_id: UUID) -> int:
    """All that there are in the organisation, everybody's together."""
    cursor = await tx.execute("SELECT count(*) FROM own_model WHERE organization_id = %s", (organization_id,))
    row = await cursor.fetchone()
    return row[0] if row else 0


async def most(tx: TenantTx, organization_id: UUID) -> int | None:
    """How many the organisation's plan allows; None: any number."""
    cursor = await tx.execute(
        "SELECT p.own_models_max FROM organization o JOIN plan p ON p.id = o.plan_id WHERE o.id = %s",
        (organization_id,),
    )
    row = await cursor.fetchone()
    return row[0] if row else 0


async def insert(tx: TenantTx, row: OwnModel) -> None:
    await tx.execute(
        f"""INSERT INTO own_model ({_COLUMNS})
            VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)""",
        (row.organization_id, row.id, row.person_id, row.name, row.protocol, row.base_url, row.provider_model_id,
         row.key_ciphertext, row.key_hint, row.system_message, row.context_window, row.max_output_tokens,
         row.created_at, row.updated_at),
    )  # fmt: skip


async def update(tx: TenantTx, row: OwnModel) -> None:
    await tx.execute(
        """UPDATE own_model SET name = %s, protocol = %s, base_url = %s, provider_model_id = %s, key_ciphertext = %s,
               key_hint = %s, system_message = %s, context_window = %s, max_output_tokens = %s, updated_at = %s
           WHERE organization_id = %s AND id = %s""",
        (row.name, row.protocol, row.base_url, row.provider_model_id, row.key_ciphertext, row.key_hint,
         row.system_message, row.context_window, row.max_output_tokens, row.updated_at, row.organization_id, row.id),
    )  # fmt: skip


async def delete(tx: TenantTx, organization_id: UUID, own_model_id: UUID) -> None:
    await tx.execute("DELETE FROM own_model WHERE organization_id = %s AND id = %s", (organization_id, own_model_id))


# ------------------------------------------------------------------------------------------------------ another secret


async def sealed_after(tx: OperatorTx, last: tuple[UUID, UUID] | None, limit: int) -> list[OwnModel]:
    """Those of any organisation that hold a key, in the order of their ids, behind (organisation, id)."""
    async with tx.cursor(row_factory=class_row(OwnModel)) as cursor:
        await cursor.execute(
            f"""SELECT {_COLUMNS} FROM own_model
                WHERE key_ciphertext IS NOT NULL
                  AND (%(organization)s::uuid IS NULL OR (organization_id, id) > (%(organization)s, %(id)s))
                ORDER BY organization_id, id LIMIT %(limit)s""",
            {"organization": last and last[0], "id": last and last[1], "limit": limit},
        )
        return await cursor.fetchall()


async def reseal(tx: OperatorTx, row: Resealed) -> int:
    """How many were sealed anew: none when its key was changed meanwhile."""
    cursor = await tx.execute(
        "UPDATE own_model SET key_ciphertext = %s WHERE organization_id = %s AND id = %s AND key_ciphertext = %s",
        (row.after, row.organization_id, row.id, row.before),
    )
    return cursor.rowcount
