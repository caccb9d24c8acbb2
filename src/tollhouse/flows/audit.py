"""Writing to the audit log: in the transaction of what it tells about."""

from collections.abc import Mapping
from datetime import datetime
from uuid import UUID

from tollhouse.core.audit import Detail, Entry, hash_of
from tollhouse.store import audit as audits
from tollhouse.store.db import OperatorTx


async def record(
    tx: OperatorTx,
    organization_id: UUID,
    now: datetime,
    actor: str,
    action: str,
    about: tuple[str, str],
    details: Mapping[str, Detail],
) -> None:
    """Appends to the organisation's chain and locks the organisation until the end of the transaction; what belongs to
    no organisation goes to the platform's. `about` is the type and the id of what was changed; `now` is real time."""
    seq, previous = await audits.end(tx, organization_id)
    entry = Entry(organization_id, seq + 1, now, actor, action, *about, details)
    await audits.insert(tx, entry, previous, hash_of(previous, entry))
