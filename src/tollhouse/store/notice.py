"""What an organisation was told about its credits. The teller writes it in the commit that took them; each person puts
it away for themself; owners and admins get it as a mail, once."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from uuid import UUID

from psycopg.rows import class_row

from tollhouse.core.notice import Kind, Notice
from tollhouse.store.db import OperatorTx, TenantTx, WorkerTx
from tollhouse.store.exchange import Statement, Write

# Open pages are told in the same breath (flows/live.py); of a charge that calls for no notice nobody is.
_insert = Write(
    """WITH told AS (
           INSERT INTO notice (organization_id, kind, day, available_micros, threshold_micros, created_at)
           SELECT organization_id, kind, day, available_micros, threshold_micros, created_at
           FROM json_to_recordset($1::json) AS x(organization_id uuid, kind text, day date, available_micros bigint,
               threshold_micros bigint, created_at timestamptz)
           ON CONFLICT DO NOTHING
           RETURNING organization_id)
       SELECT pg_notify('tollhouse_live', organization_id || ' * notice') FROM told"""
)


@dataclass(frozen=True, slots=True)
class Shown:
    """A notice as one person sees it; `read_at`: when they put it away."""

    kind: Kind
    day: date
    available_micros: int
    threshold_micros: int
    created_at: datetime
    read_at: datetime | None


@dataclass(frozen=True, slots=True)
class Addressed:
    """A notice, and the address of one of those who are to have it as a mail."""

    organization_id: UUID
    organization_name: str
    kind: Kind
    available_micros: int
    email: str


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


# What one person has put away, nobody but they can see: the transactions below are those of `db.member`.


async def shown(tx: TenantTx, organization_id: UUID, since: datetime, limit: int) -> list[Shown]:
    """Those from `since` on as the person sees them, at most `limit`, newest first."""
    async with tx.cursor(row_factory=class_row(Shown)) as cursor:
        await cursor.execute(
            """SELECT n.kind, n.day, n.available_micros, n.threshold_micros, n.created_at, r.read_at
               FROM notice n LEFT JOIN notice_read r USING (organization_id, kind, day)
               WHERE n.organization_id = %s AND n.created_at >= %s ORDER BY n.created_at DESC, n.kind LIMIT %s""",
            (organization_id, since, limit),
        )
        return await cursor.fetchall()


async def count_unread(tx: TenantTx, organization_id: UUID, since: datetime) -> int:
    """How many there are from `since` on that the person has not put away."""
    cursor = await tx.execute(
        """SELECT count(*) FROM notice n WHERE n.organization_id = %s AND n.created_at >= %s
           AND NOT EXISTS (SELECT FROM notice_read r WHERE (r.organization_id, r.kind, r.day)
                           = (n.organization_id, n.kind, n.day))""",
        (organization_id, since),
    )
    row = await cursor.fetchone()
    assert row is not None
    return int(row[0])


async def put_away(
    tx: TenantTx, organization_id: UUID, person_id: UUID, now: datetime, one: tuple[str, date] | None
) -> None:
    """One notice, by kind and day, or all that there are. What is put away already stays as it is."""
    kind, day = one or (None, None)
    await tx.execute(
        """INSERT INTO notice_read (organization_id, person_id, kind, day, read_at)
           SELECT organization_id, %(person)s, kind, day, %(now)s FROM notice
           WHERE organization_id = %(organization)s
             AND (%(kind)s::text IS NULL OR (kind = %(kind)s AND day = %(day)s))
           ON CONFLICT DO NOTHING""",
        {"organization": organization_id, "person": person_id, "now": now, "kind": kind, "day": day},
    )


async def take_unmailed(tx: WorkerTx, now: datetime, since: datetime, limit: int) -> tuple[int, list[Addressed]]:
    """How many notices are taken to be mailed by this transaction, and to whom: the owners and admins who did not turn
    it off, at addresses that they have confirmed. What is older than `since` is taken too, and mailed to nobody."""
    async with tx.cursor(row_factory=class_row(_Taken)) as cursor:
        await cursor.execute(
            """UPDATE notice SET mailed_at = %s WHERE (organization_id, kind, day) IN (
                   SELECT organization_id, kind, day FROM notice WHERE mailed_at IS NULL ORDER BY created_at LIMIT %s
                   FOR UPDATE SKIP LOCKED)
               RETURNING organization_id, kind, available_micros, created_at""",
            (now, limit),
        )
        taken = await cursor.fetchall()
    fresh = [one for one in taken if one.created_at >= since]
    return len(taken), await _addressed(tx, fresh) if fresh else []


@dataclass(frozen=True, slots=True)
class _Taken:
    """A notice that is about to be mailed."""

    organization_id: UUID
    kind: Kind
    available_micros: int
    created_at: datetime


async def _addressed(tx: WorkerTx, notices: Sequence[_Taken]) -> list[Addressed]:
    async with tx.cursor(row_factory=class_row(Addressed)) as cursor:
        await cursor.execute(
            """SELECT n.organization_id, o.name AS organization_name, n.kind, n.available_micros, p.email
               FROM unnest(%s::uuid[], %s::text[], %s::bigint[]) AS n(organization_id, kind, available_micros)
               JOIN organization o ON o.id = n.organization_id AND o.deleted_at IS NULL
               JOIN member m ON m.organization_id = o.id AND m.role IN ('owner', 'admin')
               JOIN person p ON p.id = m.person_id AND p.email_verified_at IS NOT NULL AND p.suspended_at IS NULL
                   AND p.erased_at IS NULL
               LEFT JOIN preference w ON w.organization_id = o.id AND w.subject_id = p.id
               WHERE coalesce(w.mail_notices, true) ORDER BY n.organization_id, n.kind, p.email""",
            (
                [one.organization_id for one in notices],
                [one.kind for one in notices],
                [one.available_micros for one in notices],
            ),
        )
        return await cursor.fetchall()
