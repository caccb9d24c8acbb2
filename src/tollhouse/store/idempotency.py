"""Answers kept for those who ask again. The worker deletes them after a day; until then they stand."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from tollhouse.store.db import OperatorTx, WorkerTx
from tollhouse.store.exchange import Rows, Statement, Write


@dataclass(frozen=True, slots=True)
class Answer:
    body_hash: bytes
    status: int
    response: dict[str, Any]


@dataclass(frozen=True, slots=True)
class RecordKey:
    organization_id: UUID
    endpoint: str
    key: str


@dataclass(frozen=True, slots=True)
class Record:
    """An answer as the teller keeps it. `status` None: the call still runs, as `reservation_id`; `reservation_state`
    tells whether that is true. `body_hash` in hex."""

    organization_id: UUID
    endpoint: str
    key: str
    body_hash: str
    status: int | None
    response: dict[str, Any] | None
    created_at: datetime
    reservation_id: UUID | None
    reservation_state: str | None = None


_found = Rows(
    Record,
    """SELECT i.organization_id, i.endpoint, i.key, encode(i.body_hash, 'hex') AS body_hash, i.status, i.response,
              i.created_at, i.reservation_id, r.state AS reservation_state
       FROM json_to_recordset($1::json) AS x(organization_id uuid, endpoint text, key text)
       CROSS JOIN LATERAL (SELECT * FROM idempotency
           WHERE organization_id = x.organization_id AND endpoint = x.endpoint AND key = x.key LIMIT 1) i
       LEFT JOIN LATERAL (SELECT state FROM reservation
           WHERE organization_id = i.organization_id AND id = i.reservation_id LIMIT 1) r ON true""",
)
_keep = Write(
    """INSERT INTO idempotency (organization_id, endpoint, key, body_hash, status, response, created_at, reservation_id)
       SELECT organization_id, endpoint, key, decode(body_hash, 'hex'), status, response, created_at, reservation_id
       FROM json_to_recordset($1::json) AS x(organization_id uuid, endpoint text, key text, body_hash text,
           status smallint, response jsonb, created_at timestamptz, reservation_id uuid)
       ON CONFLICT (organization_id, endpoint, key) DO UPDATE SET body_hash = EXCLUDED.body_hash,
           status = EXCLUDED.status, response = EXCLUDED.response, created_at = EXCLUDED.created_at,
           reservation_id = EXCLUDED.reservation_id"""
)
_drop = Write(
    """DELETE FROM idempotency i USING json_to_recordset($1::json) AS x(organization_id uuid, endpoint text, key text)
       CROSS JOIN LATERAL (
           SELECT ctid FROM idempotency
           WHERE organization_id = x.organization_id AND endpoint = x.endpoint AND key = x.key LIMIT 1) AS k
       WHERE i.ctid = k.ctid"""
)


def records(wanted: Iterable[RecordKey]) -> Statement[Record]:
    """Those of these that exist."""
    return _found(list(wanted))


def keep(rows: Iterable[Record]) -> Statement[None]:
    """New answers, and answers to what was still running."""
    return _keep(list(rows))


def drop(rows: Iterable[RecordKey]) -> Statement[None]:
    """The same key may be used again."""
    return _drop(list(rows))


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
    """Drops the answers of requests that came before this moment. Who still runs keeps its key."""
    await tx.execute(
        """DELETE FROM idempotency i WHERE created_at < %s AND NOT (
               status IS NULL AND EXISTS (SELECT FROM reservation r WHERE r.organization_id = i.organization_id
                                            AND r.id = i.reservation_id AND r.state = 'pending'))""",
        (before,),
    )
