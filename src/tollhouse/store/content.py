"""Prompts and answers of organisations that have chosen to store them."""

import re
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from tollhouse.store.db import TenantTx, WorkerTx

# The escape of a NUL, after any number of escaped backslashes.
_NUL = re.compile(rb"(?<!\\)((?:\\\\)*)\\u0000")


@dataclass(frozen=True, slots=True)
class Content:
    """`prompt` is the request as its caller sent it, `answer` what the caller got; None when there was none."""

    request_id: UUID
    prompt: Any = field(repr=False)
    answer: Any = field(repr=False)
    created_at: datetime


async def keep(
    tx: TenantTx, organization_id: UUID, request_id: UUID, prompt: object, answer: object, now: datetime
) -> None:
    """Stores what was said in one request, as JSON. Kept again for the same request, its later answer counts. A NUL
    in a text, which no database takes, is stored as U+FFFD."""
    await tx.execute(
        """INSERT INTO request_content (organization_id, request_id, prompt, answer, created_at)
           VALUES (%s, %s, %s, %s, %s)
           ON CONFLICT (organization_id, request_id) DO UPDATE SET answer = EXCLUDED.answer""",
        (organization_id, request_id, _document(prompt), None if answer is None else _document(answer), now),
    )


async def find(tx: TenantTx, organization_id: UUID, request_id: UUID) -> Content | None:
    async with tx.cursor(row_factory=class_row(Content)) as cursor:
        await cursor.execute(
            """SELECT request_id, prompt, answer, created_at FROM request_content
               WHERE organization_id = %s AND request_id = %s""",
            (organization_id, request_id),
        )
        return await cursor.fetchone()


async def forget(tx: TenantTx, organization_id: UUID) -> int:
    """Deletes all that is stored of the organisation. Of how many requests that was."""
    return (await tx.execute("DELETE FROM request_content WHERE organization_id = %s", (organization_id,))).rowcount


async def forget_outlived(tx: WorkerTx, now: datetime) -> int:
    """What was stored for as many days as its organisation keeps it. Of how many requests that was."""
    cursor = await tx.execute(
        """DELETE FROM request_content c USING organization o
           WHERE o.id = c.organization_id AND c.created_at <= %(now)s - o.retention_days * interval '1 day'
             AND c.created_at <= %(now)s - interval '1 day'""",  # the shortest time there is: for the index
        {"now": now},
    )
    return cursor.rowcount


def _document(value: object) -> Jsonb:
    return Jsonb(value, dumps=lambda document: _NUL.sub(rb"\1\\ufffd", msgspec.json.encode(document)))
