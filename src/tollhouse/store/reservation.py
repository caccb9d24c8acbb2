"""A reservation as its organisation reads it."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg.rows import class_row

from tollhouse.store.db import TenantTx


@dataclass(frozen=True, slots=True)
class ReservationRow:
    """`parts` are [grant, micro-credits]; `now` is the organisation's own time, at which it was read; `user` the host
    application's id, or a person's."""

    id: UUID
    subject_id: UUID
    state: str
    amount_micros: int
    model_id: str | None
    capability: str | None
    quality: str | None
    user: str | None
    metadata: dict[str, Any] | None
    parts: list[tuple[UUID, int]]
    overdraft_micros: int
    created_at: datetime
    expires_at: datetime
    charged_micros: int | None
    closed_at: datetime | None
    reason: str | None
    available_micros: int
    now: datetime


async def find(tx: TenantTx, organization_id: UUID, id_: UUID, now: datetime) -> ReservationRow | None:
    """As it stands; `now` is real time."""
    async with tx.cursor(row_factory=class_row(ReservationRow)) as cursor:
        await cursor.execute(
            """SELECT r.id, r.subject_id, r.state, r.amount_micros, r.model_id, r.capability, r.quality,
                      coalesce(u.external_id, nullif(r.subject_id, r.organization_id)::text) AS user, r.metadata,
                      r.parts -> 'grants' AS parts, (r.parts ->> 'overdraft')::bigint AS overdraft_micros, r.created_at,
                      r.expires_at, r.charged_micros, r.closed_at, r.reason,
                      b.remaining_micros - b.reserved_micros - b.debt_micros - b.overdraft_reserved_micros
                          AS available_micros,
                      %(now)s + o.clock_offset_micros * interval '1 microsecond' AS now
               FROM reservation r
               JOIN organization o ON o.id = r.organization_id
               JOIN credit_balance b ON b.organization_id = r.organization_id
               LEFT JOIN end_user u ON u.organization_id = r.organization_id AND u.id = r.subject_id
               WHERE r.organization_id = %(organization)s AND r.id = %(id)s""",
            {"organization": organization_id, "id": id_, "now": now},
        )
        return await cursor.fetchone()
