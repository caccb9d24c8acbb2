"""Writing to the audit log: in the transaction of what it tells about."""

from collections.abc import Mapping
from uuid import UUID

from tollhouse.core.audit import Detail, Entry, hash_of
from tollhouse.flows.order import Order
from tollhouse.store import audit as audits
from tollhouse.store.db import OperatorTx, TenantTx


async def record(
    tx: OperatorTx | TenantTx,
    organization_id: UUID,
    order: Order,
    action: str,
    about: tuple[str, str],
    details: Mapping[str, Detail],
) -> None:
    """Appends to the organisation's chain and locks the organisation until the end of the transaction; what belongs to
    no organisation goes to the platform's. `about` is the type and the id of what was changed."""
    seq, previous = await audits.end(tx, organization_id)
    entry = Entry(organization_id, seq + 1, order.now, order.actor, action, *about, details, order.address)
    await audits.insert(tx, entry, previous, hash_of(previous, entry))
