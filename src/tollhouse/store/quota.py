"""The counters of limits, for those who look at them; the teller writes them (store/teller.py)."""

from uuid import UUID

from tollhouse.core.quota import Counter, Window
from tollhouse.store.db import OperatorTx, TenantTx


async def windows(tx: TenantTx | OperatorTx, organization_id: UUID, ids: list[UUID]) -> dict[UUID, Window]:
    """The windows of these ids that exist; one that does not is at zero."""
    cursor = await tx.execute(
        """SELECT id, subject_id, meter, period, starts_at, model_id, used, reserved FROM quota_window
           WHERE organization_id = %s AND id = ANY(%s)""",
        (organization_id, ids),
    )
    return {row[0]: Window(Counter(*row[1:6]), row[6], row[7]) for row in await cursor.fetchall()}
