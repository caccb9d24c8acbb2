"""Who may use which premium model."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID

from tollhouse.store.db import OperatorTx

Source = Literal["purchase", "admin_grant", "trial"]


@dataclass(frozen=True, slots=True)
class Entitlement:
    """`subject_id` None: everybody in the organisation. Begin inclusive, expiry exclusive, in the organisation's
    time."""

    organization_id: UUID
    id: UUID
    subject_id: UUID | None
    model_id: str
    source: Source
    note: str
    starts_at: datetime
    expires_at: datetime | None


async def insert(tx: OperatorTx, row: Entitlement) -> None:
    await tx.execute(
        """INSERT INTO entitlement (organization_id, id, subject_id, model_id, source, note, starts_at, expires_at)
           VALUES (%s, %s, %s, %s, %s, %s, %s, %s)""",
        (
            row.organization_id,
            row.id,
            row.subject_id,
            row.model_id,
            row.source,
            row.note,
            row.starts_at,
            row.expires_at,
        ),
    )
