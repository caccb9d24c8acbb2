"""What an organisation was told about its credits. The teller writes it in the commit that took them."""

from collections.abc import Iterable
from uuid import UUID

from psycopg.rows import class_row

from tollhouse.core.notice import Notice
from tollhouse.store.db import OperatorTx, TenantTx
from tollhouse.store.exchange import Statement, Write

_insert = Write(
    """INSERT INTO notice (organization_id, kind, day, available_micros, threshold_micros, created_at)
       SELECT organization_id, kind, day, available_micros, threshold_micros, created_at
       FROM json_to_recordset($1::json) AS x(organization_id uuid, kind text, day date, available_micros bigint,
           threshold_micros bigint, created_at timestamptz)
       ON CONFLICT DO NOTHING"""
)


def insert(notices: Iterable[Notice]) -> Statement[None]:
    """The notices, those excepted whose kind the organisation was told that day already."""
    return _insert(list(notices))


async def of(tx: TenantTx | OperatorTx, organization_id: UUID, limit: int) -> list[Notice]:
    """The organisation's notices, at most `limit`, newest first."""
    async with tx.cursor(row_factory=class_row(Notice)) as cursor:
        await cursor.execute(
            """SELECT organization_id, kind, day, available_micros, threshold_micros, created_at FROM notice
               WHERE organization_id = %s ORDER BY created_at DESC, kind LIMIT %s""",
            (organization_id, limit),
        )
        return await cursor.fetchall()
