"""Answers kept for those who ask again. The worker deletes them after a day; until then they stand."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from tollhouse.store.db import OperatorTx, WorkerTx


@dataclass(frozen=True, slots=True)
class Answer:
    body_hash: bytes
    status: int
    response: dict[str, Any]


async def find(tx: OperatorTx, organization_id: UUID, endpoint: str, key: str) -> Answer | None:
    async with tx.cursor(row_factory=class_row(Answer)) as cursor:
        await cursor.execute(
            """SELECT body_hash, status, response FROM idempotency
               WHERE organization_id = %s AND endpoint = %s AND key = %s""",
            (organization_id, endpoint, key),
        )
        return await cursor.fetchone()


async def insert(
    tx: OperatorTx, organization_id: UUID, endpoint: str, key: str, answer: Answer, created_at: datetime
) -> None:
    """`created_at` is real time: a test clock does not age answers."""
    await tx.execute(
        """INSERT INTO idempotency (organization_id, endpoint, key, body_hash, status, response, created_at)
           VALUES (%s, %s, %s, %s, %s, %s, %s)""",
        (organization_id, endpoint, key, answer.body_hash, answer.status, Jsonb(answer.response), created_at),
    )


async def forget(tx: WorkerTx, before: datetime) -> None:
    """Drops the answers that were given before this moment."""
    await tx.execute("DELETE FROM idempotency WHERE created_at < %s", (before,))
