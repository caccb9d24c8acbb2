"""Another secret for the installation: the providers' keys that were sealed under an earlier one are sealed anew."""

import os
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from tollhouse.core.routing import PLATFORM_ID
from tollhouse.core.vault import NONCE_BYTES, Keyring, SealBroken, association
from tollhouse.flows.audit import record
from tollhouse.flows.order import Order
from tollhouse.store import connection as store
from tollhouse.store.connection import Resealed, Sealed
from tollhouse.store.db import Database

TOGETHER = 100


@dataclass(frozen=True, slots=True)
class Rotated:
    """How many keys were sealed anew, how many were under the current secret already, and which cannot be opened."""

    renewed: int
    current: int
    broken: tuple[Sealed, ...]


async def rotate(db: Database, keyring: Keyring, now: datetime, together: int = TOGETHER) -> Rotated:
    """Seals anew whatever is not sealed under the current secret, so many at once, each batch a transaction. Cut short
    it is run again, and goes on with what is left; calls go on meanwhile. What cannot be opened stays as it is."""
    renewed, current = 0, 0
    broken: list[Sealed] = []
    last: tuple[UUID, UUID] | None = None
    while True:
        async with db.operator() as tx:
            found = await store.sealed_after(tx, last, together)
            wanted = []
            for row in found:
                try:
                    fresh = _renewed(keyring, row)
                except SealBroken:
                    broken.append(row)
                    continue
                if fresh is not None:
                    wanted.append(fresh)
                else:
                    current += 1
            if wanted:
                renewed += await store.reseal(tx, wanted)
        if len(found) < together:
            break
        last = (found[-1].organization_id, found[-1].id)
    async with db.operator() as tx:
        details = {"renewed": renewed, "current": current, "broken": len(broken)}
        await record(tx, PLATFORM_ID, Order("system", now), "keys.rotated", ("connection", "all"), details)
    return Rotated(renewed, current, tuple(broken))


def _renewed(keyring: Keyring, row: Sealed) -> Resealed | None:
    associated = association(row.organization_id, row.provider_id)
    after = keyring.renewed(row.key_ciphertext, associated, os.urandom(NONCE_BYTES))
    return None if after is None else Resealed(row.organization_id, row.id, row.key_ciphertext, after)
