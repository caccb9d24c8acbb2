"""Which assistant each call of a chat was for, and how its answer was rated: for the figures, without what was said."""

from datetime import datetime
from uuid import UUID

from tollhouse.store.db import TenantTx


async def insert(
    tx: TenantTx,
    organization_id: UUID,
    request_id: UUID,
    subject_id: UUID,
    assistant_id: UUID | None,
    model_id: str,
    at: datetime,
) -> None:
    """`at` is the organisation's time."""
    await tx.execute(
        """INSERT INTO assistant_use (organization_id, request_id, subject_id, assistant_id, model_id, created_at)
           VALUES (%s, %s, %s, %s, %s, %s)""",
        (organization_id, request_id, subject_id, assistant_id, model_id, at),
    )


async def rate(tx: TenantTx, organization_id: UUID, request_id: UUID, rating: int | None) -> None:
    await tx.execute(
        "UPDATE assistant_use SET rating = %s WHERE organization_id = %s AND request_id = %s",
        (rating, organization_id, request_id),
    )
