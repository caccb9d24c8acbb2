"""Answers that an organisation has kept, to be given again to equal requests."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from tollhouse.core.text import holds_nul
from tollhouse.store.db import TenantTx, WorkerTx


@dataclass(frozen=True, slots=True)
class Kept:
    """An answer as JSON and the model that gave it; it may be given again before `expires_at`."""

    model_id: str
    answer: Any = field(repr=False)
    created_at: datetime
    expires_at: datetime


async def find(tx: TenantTx, organization_id: UUID, key: bytes, now: datetime) -> Kept | None:
    """The answer kept under this key, if there is one and it has not expired. `key` is 32 bytes, SHA-256 of the request
    without what cannot change the answer."""
    async with tx.cursor(row_factory=class_row(Kept)) as cursor:
        await cursor.execute(
            """SELECT model_id, answer, created_at, expires_at FROM kept_answer
               WHERE organization_id = %s AND key = %s AND expires_at > %s""",
            (organization_id, key, now),
        )
        return await cursor.fetchone()


async def keep(
    tx: TenantTx,
    organization_id: UUID,
    key: bytes,
    model_id: str,
    answer: object,
    now: datetime,
    ttl_s: int,
    request_id: UUID | None = None,
) -> bool:
    """Keeps the answer to a request for so many seconds, in place of any that is there. False, and nothing is kept, for
    one with a NUL in a text: the database would give back another."""
    if holds_nul(answer):
        return False
    await tx.execute(
        """INSERT INTO kept_answer (organization_id, key, model_id, answer, created_at, expires_at, request_id)
           VALUES (%s, %s, %s, %s, %s, %s, %s)
           ON CONFLICT (organization_id, key) DO UPDATE
           SET model_id = EXCLUDED.model_id, answer = EXCLUDED.answer, created_at = EXCLUDED.created_at,
               expires_at = EXCLUDED.expires_at, request_id = EXCLUDED.request_id""",
        (organization_id, key, model_id, Jsonb(answer, dumps=msgspec.json.encode), now, now + timedelta(seconds=ttl_s),
         request_id),
    )  # fmt: skip
    return True


async def forget(tx: TenantTx, organization_id: UUID) -> int:
    """Deletes all that the organisation has kept. How many there were."""
    return (await tx.execute("DELETE FROM kept_answer WHERE organization_id = %s", (organization_id,))).rowcount


async def forget_expired(tx: WorkerTx, now: datetime) -> None:
    """Of every organisation, what is never given again."""
    await tx.execute("DELETE FROM kept_answer WHERE expires_at <= %s", (now,))
