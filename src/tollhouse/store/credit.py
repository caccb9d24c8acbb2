"""What an organisation has and what happened to it, as its owner may read it."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from psycopg.rows import class_row

from tollhouse.core.credit import Balance, Grant, Left
from tollhouse.core.cursor import cursor_of, number_in
from tollhouse.store.db import OperatorTx, TenantTx

_LAST = 2**63 - 1
# How much earlier than the row before it the time of a row may be: far longer than anybody waits for a lock.
_SLACK = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class Statement:
    """A balance with the grants it is made of, in burn order, at `now`, the organisation's own time. Micro-credits."""

    now: datetime
    balance: Balance
    grants: list[Grant]
    used_this_period_micros: int


@dataclass(frozen=True, slots=True)
class Filter:
    """Which transactions: [since, until) of their time; None does not narrow."""

    type: str | None = None
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class TransactionRow:
    """A row of the ledger with what its call was about; `user` is the host application's id, or a person's, who is
    then named by `person_id` too."""

    id: UUID
    seq: int
    type: str
    amount_micros: int
    balance_after_micros: int
    grant_id: UUID | None
    reservation_id: UUID | None
    capability: str | None
    quality: str | None
    model: str | None
    user: str | None
    estimation_variance_micros: int | None
    note: str
    created_at: datetime
    person_id: UUID | None


@dataclass(frozen=True, slots=True)
class Page:
    items: list[TransactionRow]
    next_cursor: str | None  # None: this was the last page


async def is_due(tx: TenantTx | OperatorTx, organization_id: UUID, now: datetime) -> bool:
    """Whether by the real time `now` a period has ended or a grant has begun or ended that nobody has booked yet."""
    cursor = await tx.execute(
        """SELECT b.next_due_at <= %s + o.clock_offset_micros * interval '1 microsecond'
           FROM credit_balance b JOIN organization o ON o.id = b.organization_id WHERE b.organization_id = %s""",
        (now, organization_id),
    )
    row = await cursor.fetchone()
    return row is not None and bool(row[0])


async def left(tx: TenantTx, organization_id: UUID) -> Left | None:
    """As it is booked, of one row; None when there is no such organisation."""
    cursor = await tx.execute(
        """SELECT greatest(0, remaining_micros - reserved_micros - debt_micros - overdraft_reserved_micros
                              + overdraft_limit_micros), allocated_micros
           FROM credit_balance WHERE organization_id = %s""",
        (organization_id,),
    )
    row = await cursor.fetchone()
    return None if row is None else Left(*row)


async def statement(tx: TenantTx | OperatorTx, organization_id: UUID, now: datetime) -> Statement | None:
    """The balance as it is booked, at the real time `now`; None when there is no such organisation. One statement, so
    that the parts agree while calls are running. What the period's calls have cost is summed over its own rows of the
    ledger, like get_used_this_period in SQL."""
    cursor = await tx.execute(
        """WITH head AS MATERIALIZED (
               SELECT o.id, %(now)s + o.clock_offset_micros * interval '1 microsecond' AS own_time, b.remaining_micros,
                      b.reserved_micros, b.debt_micros, b.overdraft_limit_micros, b.overdraft_reserved_micros,
                      b.allocated_micros, b.seq, b.period_start, b.period_end, b.next_due_at, b.low_armed,
                      b.depleted_armed, b.period_seq,
                      (SELECT coalesce(-sum(amount_micros), 0)::bigint FROM credit_transaction t
                       WHERE t.organization_id = b.organization_id AND t.type IN ('ai_consumption', 'late_settle')
                         AND t.seq BETWEEN b.period_seq + 1 AND b.seq) AS used
               FROM credit_balance b JOIN organization o ON o.id = b.organization_id
               WHERE b.organization_id = %(organization)s)
           SELECT head.*, g.id, g.source, g.priority, g.paid, g.amount_micros, g.remaining_micros, g.reserved_micros,
                  g.active, g.effective_at, g.expires_at, g.period_start, g.plan_id, g.created_at, g.note
           FROM head LEFT JOIN credit_grant g ON g.organization_id = head.id AND g.active AND NOT g.spent""",
        {"organization": organization_id, "now": now},
    )
    rows = await cursor.fetchall()
    if not rows:
        return None
    _, own_time, *balance, used = rows[0][:16]
    grants = [Grant(*row[16:]) for row in rows if row[16] is not None]
    return Statement(own_time, Balance(organization_id, *balance), sorted(grants, key=Grant.burn_key), used)


async def transactions(
    tx: TenantTx | OperatorTx, organization_id: UUID, wanted: Filter, limit: int, cursor: str | None,
    subject_id: UUID | None = None,
) -> Page:  # fmt: skip
    """At most `limit` transactions, newest first, from where the cursor of the page before points to; with a
    `subject_id` only those of this one's calls. BadRequest for a cursor that no page gave."""
    before = number_in("seq", cursor)
    first, last = await _around(tx, organization_id, wanted)
    async with tx.cursor(row_factory=class_row(TransactionRow)) as rows:
        await rows.execute(
            """SELECT t.id, t.seq, t.type, t.amount_micros, t.balance_after_micros, t.grant_id, t.reservation_id,
                      r.capability, r.quality, r.model_id AS model,
                      coalesce(u.external_id, nullif(r.subject_id, t.organization_id)::text) AS user,
                      t.estimation_variance_micros, t.note, t.created_at,
                      CASE WHEN u.id IS NULL THEN nullif(r.subject_id, t.organization_id) END AS person_id
               FROM credit_transaction t
               LEFT JOIN reservation r ON r.organization_id = t.organization_id AND r.id = t.reservation_id
               LEFT JOIN end_user u ON u.organization_id = r.organization_id AND u.id = r.subject_id
               WHERE t.organization_id = %(organization)s
                 AND t.seq BETWEEN %(first)s AND %(last)s AND (%(before)s::bigint IS NULL OR t.seq < %(before)s)
                 AND (%(type)s::text IS NULL OR t.type = %(type)s)
                 AND (%(since)s::timestamptz IS NULL OR t.created_at >= %(since)s)
                 AND (%(until)s::timestamptz IS NULL OR t.created_at < %(until)s)
                 AND (%(subject)s::uuid IS NULL OR r.subject_id = %(subject)s)
               ORDER BY t.seq DESC LIMIT %(limit)s""",
            {"organization": organization_id, "before": before, "type": wanted.type, "since": wanted.since,
             "until": wanted.until, "limit": limit + 1, "subject": subject_id, "first": first, "last": last},
        )  # fmt: skip
        found = await rows.fetchall()
    items = found[:limit]
    return Page(items, cursor_of("seq", str(items[-1].seq)) if len(found) > limit else None)


async def _around(tx: TenantTx | OperatorTx, organization_id: UUID, wanted: Filter) -> tuple[int, int]:
    """Between which rows those of that time lie, and some around them: times grow with the number of the row, but for
    what waited for the lock. Found by halving, since an index on times would cost every call."""
    if wanted.since is None and wanted.until is None:
        return 0, _LAST
    cursor = await tx.execute(
        """WITH RECURSIVE halved AS (
               SELECT edge.name, edge.at, 0::bigint AS low, b.seq + 1 AS high
               FROM (VALUES ('since', %(since)s::timestamptz - %(slack)s),
                            ('until', %(until)s::timestamptz + %(slack)s)) AS edge(name, at)
               CROSS JOIN credit_balance b
               WHERE b.organization_id = %(organization)s AND edge.at IS NOT NULL
               UNION ALL
               SELECT h.name, h.at, CASE WHEN t.created_at < h.at THEN (h.low + h.high) / 2 ELSE h.low END,
                      CASE WHEN t.created_at < h.at THEN h.high ELSE (h.low + h.high) / 2 END
               FROM halved h LEFT JOIN LATERAL (
                   SELECT created_at FROM credit_transaction
                   WHERE organization_id = %(organization)s AND seq = (h.low + h.high) / 2 LIMIT 1) AS t ON true
               WHERE h.high - h.low > 1)
           SELECT name, high FROM halved WHERE high - low <= 1""",
        {"organization": organization_id, "since": wanted.since, "until": wanted.until, "slack": _SLACK},
    )
    found = dict[str, int](await cursor.fetchall())
    return found.get("since", 0), found.get("until", _LAST)


async def outlived(tx: OperatorTx, organization_id: UUID, now: datetime) -> list[UUID]:
    """Reservations whose lease has run out at `now`, the organisation's own time, and that nobody has closed."""
    cursor = await tx.execute(
        """SELECT id FROM reservation
           WHERE organization_id = %s AND state = 'pending' AND expires_at <= %s ORDER BY expires_at, id""",
        (organization_id, now),
    )
    return [row[0] for row in await cursor.fetchall()]
