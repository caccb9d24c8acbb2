"""The SQL of a batch: lock, read the facts of all its operations, write all that was decided. Each is one statement for the
whole batch; rows go in as one JSON document (msgspec writes it in 0.1 us a column, and PostgreSQL reads it as fast as
arrays: 7 us a row of ten columns, both sides together)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, LiteralString
from uuid import UUID

import msgspec
from psycopg import AsyncCursor

from tollhouse.core.credit import Account, Balance, Grant, Hold
from tollhouse.core.quota import Counter, Window, Windows
from tollhouse.store.db import MoneyTx, TellerTx, WorkerTx

# How many grants are read at the head of an organisation's burn order; more only when these do not hold enough.
GRANTS_READ = 32


@dataclass(frozen=True, slots=True)
class Locked:
    """An organisation under the teller's lock."""

    id: UUID
    plan_id: str
    pending_plan_id: str | None
    period_anchor: datetime
    clock_offset_micros: int
    suspended: bool
    catalogue_version: int
    balance: Balance


@dataclass(frozen=True, slots=True)
class AskRow:
    """What is looked up for one ask."""

    n: int
    organization_id: UUID
    key_id: UUID | None
    subject_id: UUID
    model_id: str


@dataclass(frozen=True, slots=True)
class AskFacts:
    n: int
    scopes: list[str] | None
    mode: str | None
    expires_at: datetime | None
    revoked_at: datetime | None
    entitled: bool


@dataclass(frozen=True, slots=True)
class CallOpened:
    """A call that was admitted: one row each of reservation, request and attempt, all with its id."""

    organization_id: UUID
    id: UUID
    key_id: UUID | None
    subject_id: UUID
    channel: str
    endpoint: str
    stream: bool
    model_id: str
    provider_id: str
    connection_id: UUID | None
    price_version: int
    rate_version: int
    multiplier_permille: int
    charged: bool
    trial: bool
    amount_micros: int
    parts: dict[str, Any]
    created_at: datetime
    expires_at: datetime


@dataclass(slots=True)
class OpenReservation:
    """A reservation as it stands; `charged_micros` is set once, by the one settlement."""

    organization_id: UUID
    id: UUID
    key_id: UUID | None
    subject_id: UUID
    channel: str
    model_id: str | None
    price_version: int | None
    rate_version: int | None
    multiplier_permille: int
    charged: bool
    trial: bool
    amount_micros: int
    hold: Hold
    windows: tuple[tuple[UUID, str, int], ...]
    state: str
    created_at: datetime
    expires_at: datetime
    charged_micros: int | None


@dataclass(frozen=True, slots=True)
class CallClosed:
    """A call that has ended: its reservation gets its final state, request and attempt their outcome. With a charge (0 is
    one) it also leaves a usage event, of which `usage_id` is the id and the token counts are the content."""

    organization_id: UUID
    id: UUID
    state: str
    charged_micros: int | None
    closed_at: datetime
    reason: str | None
    request_state: str
    client_left: bool
    error: str | None
    attempt: int
    outcome: str
    status: int | None
    first_token_ms: int | None
    duration_ms: int
    usage_id: UUID | None = None
    recorded_at: datetime | None = None
    provider_id: str | None = None
    input_tokens: int | None = None
    cached_input_tokens: int | None = None
    output_tokens: int | None = None
    reasoning_tokens: int | None = None
    estimated: bool | None = None
    cost_nanos: int | None = None


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A call still runs: its lease goes on, and what it used so far is written down."""

    organization_id: UUID
    id: UUID
    expires_at: datetime
    input_tokens: int
    output_tokens: int


@dataclass(frozen=True, slots=True)
class EndUserRow:
    organization_id: UUID
    id: UUID
    external_id: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class CheckpointFound:
    """The last attempt of a call that nobody finished."""

    organization_id: UUID
    request_id: UUID
    number: int
    provider_id: str
    started_at: datetime
    input_tokens: int | None
    output_tokens: int | None


def encode(rows: Iterable[object]) -> str:
    return msgspec.json.encode(list(rows)).decode()


def _keys(wanted: Iterable[tuple[UUID, UUID]]) -> str:
    """(organisation, id) pairs as rows. psycopg dumps arrays element by element in Python, which costs three times this."""
    return encode({"o": organization_id, "id": id_} for organization_id, id_ in wanted)


# -------------------------------------------------------------------------------------------------------------- lock, read


async def lock(tx: MoneyTx, organizations: Sequence[UUID]) -> AsyncCursor[Any]:
    """Locks the organisations and their balances, in id order, which is the one lock order of all who move money."""
    return await tx.execute(
        """SELECT o.id, o.plan_id, o.pending_plan_id, o.period_anchor, o.clock_offset_micros, o.suspended_at IS NOT NULL,
                  (SELECT version FROM catalogue_version),
                  b.remaining_micros, b.reserved_micros, b.debt_micros, b.overdraft_limit_micros, b.overdraft_reserved_micros,
                  b.allocated_micros, b.seq, b.period_start, b.period_end, b.next_due_at
           FROM organization o JOIN credit_balance b ON b.organization_id = o.id
           WHERE o.id = ANY(%s) ORDER BY o.id FOR NO KEY UPDATE OF o, b""",
        (list(organizations),),
    )


async def locked(cursor: AsyncCursor[Any]) -> dict[UUID, Locked]:
    return {row[0]: Locked(*(*row[:7], Balance(row[0], *row[7:]))) for row in await cursor.fetchall()}


async def ask_facts(tx: TellerTx, asks: list[AskRow], now: datetime) -> AsyncCursor[Any]:
    """The key as it is at this moment, and whether the subject or its whole organisation holds the model."""
    return await tx.execute(
        """SELECT a.n, k.scopes, k.mode, k.expires_at, k.revoked_at, EXISTS (
                  SELECT FROM entitlement e JOIN organization o ON o.id = e.organization_id
                  WHERE e.organization_id = a.organization_id AND e.model_id = a.model_id
                    AND (e.subject_id IS NULL OR e.subject_id = a.subject_id) AND e.revoked_at IS NULL
                    AND e.starts_at <= %(now)s + o.clock_offset_micros * interval '1 microsecond'
                    AND (e.expires_at IS NULL OR e.expires_at > %(now)s + o.clock_offset_micros * interval '1 microsecond'))
           FROM json_to_recordset(%(asks)s::json) AS a(n int, organization_id uuid, key_id uuid, subject_id uuid, model_id text)
           LEFT JOIN api_key k ON k.organization_id = a.organization_id AND k.id = a.key_id""",
        {"asks": encode(asks), "now": now},
    )


async def reservations(tx: MoneyTx, wanted: list[tuple[UUID, UUID]]) -> AsyncCursor[Any]:
    return await tx.execute(
        """SELECT organization_id, id, key_id, subject_id, channel, model_id, price_version, rate_version,
                  multiplier_permille, charged, trial, amount_micros, parts, state, created_at, expires_at, charged_micros
           FROM reservation
           WHERE (organization_id, id) IN (SELECT o, id FROM json_to_recordset(%s::json) AS x(o uuid, id uuid))""",
        (_keys(wanted),),
    )


async def open_reservations(cursor: AsyncCursor[Any]) -> dict[tuple[UUID, UUID], OpenReservation]:
    found = {}
    for row in await cursor.fetchall():
        parts = row[12]
        hold = Hold(tuple((UUID(grant), micros) for grant, micros in parts["grants"]), parts["overdraft"])
        windows = tuple((UUID(window), meter, amount) for window, meter, amount in parts["windows"])
        found[row[0], row[1]] = OpenReservation(*(*row[:12], hold, windows, *row[13:]))
    return found


async def checkpoints(tx: TellerTx, wanted: list[tuple[UUID, UUID]]) -> AsyncCursor[Any]:
    return await tx.execute(
        """SELECT DISTINCT ON (organization_id, request_id)
                  organization_id, request_id, number, provider_id, started_at, input_tokens, output_tokens
           FROM attempt
           WHERE (organization_id, request_id) IN (SELECT o, id FROM json_to_recordset(%s::json) AS x(o uuid, id uuid))
           ORDER BY organization_id, request_id, number DESC""",
        (_keys(wanted),),
    )


async def windows(tx: TellerTx, wanted: list[tuple[UUID, UUID]]) -> AsyncCursor[Any]:
    return await tx.execute(
        """SELECT organization_id, id, subject_id, meter, period, starts_at, model_id, used, reserved
           FROM quota_window
           WHERE (organization_id, id) IN (SELECT o, id FROM json_to_recordset(%s::json) AS x(o uuid, id uuid))""",
        (_keys(wanted),),
    )


async def found_windows(cursor: AsyncCursor[Any]) -> Windows:
    rows = await cursor.fetchall()
    return Windows({(row[0], row[1]): Window(Counter(*row[2:7]), row[7], row[8]) for row in rows})


_GRANT_COLUMNS: LiteralString = """organization_id, id, source, priority, paid, amount_micros, remaining_micros, reserved_micros,
    active, effective_at, expires_at, period_start, plan_id, created_at, note"""


async def head_grants(tx: MoneyTx, organizations: Sequence[UUID], limit: int | None) -> AsyncCursor[Any]:
    """Grants with something in them, at most `limit` per organisation from the head of the burn order; None: all."""
    return await tx.execute(
        f"""SELECT g.* FROM unnest(%s::uuid[]) AS wanted(organization_id)
            CROSS JOIN LATERAL (
                SELECT {_GRANT_COLUMNS} FROM credit_grant
                WHERE organization_id = wanted.organization_id AND active AND remaining_micros > 0
                  AND remaining_micros > reserved_micros
                ORDER BY priority, expires_at, paid, effective_at, created_at, id LIMIT %s) AS g""",
        (list(organizations), limit),
    )


async def grants(tx: MoneyTx, wanted: list[tuple[UUID, UUID]]) -> AsyncCursor[Any]:
    return await tx.execute(
        f"""SELECT {_GRANT_COLUMNS} FROM credit_grant
            WHERE (organization_id, id) IN (SELECT o, id FROM json_to_recordset(%s::json) AS x(o uuid, id uuid))""",
        (_keys(wanted),),
    )


async def due_grants(tx: MoneyTx, organization_id: UUID, now: datetime) -> AsyncCursor[Any]:
    """Grants that have ended with something left, and grants that have begun without counting yet."""
    return await tx.execute(
        f"""SELECT {_GRANT_COLUMNS} FROM credit_grant
            WHERE organization_id = %(organization)s
              AND ((active AND remaining_micros > 0 AND remaining_micros > reserved_micros AND expires_at <= %(now)s)
                   OR (NOT active AND effective_at <= %(now)s))
            ORDER BY expires_at, id""",
        {"organization": organization_id, "now": now},
    )


async def found_grants(cursor: AsyncCursor[Any]) -> list[tuple[UUID, Grant]]:
    return [(row[0], Grant(*row[1:])) for row in await cursor.fetchall()]


async def next_grant_event(tx: MoneyTx, organization_id: UUID, now: datetime) -> datetime | None:
    """The next moment at which a grant ends or begins."""
    cursor = await tx.execute(
        """SELECT least((SELECT min(expires_at) FROM credit_grant WHERE organization_id = %(organization)s AND active
                           AND remaining_micros > 0 AND expires_at > %(now)s),
                        (SELECT min(effective_at) FROM credit_grant WHERE organization_id = %(organization)s AND NOT active))""",
        {"organization": organization_id, "now": now},
    )
    row = await cursor.fetchone()
    return row[0] if row else None


async def welcome_given(tx: MoneyTx, organization_id: UUID, plan_id: str) -> bool:
    cursor = await tx.execute(
        "SELECT FROM credit_grant WHERE organization_id = %s AND source = 'welcome' AND plan_id = %s",
        (organization_id, plan_id),
    )
    return await cursor.fetchone() is not None


# ------------------------------------------------------------------------------------------------------------------ write


async def write_accounts(tx: MoneyTx, accounts: Iterable[Account]) -> None:
    """Balances, changed grants and new transactions of the accounts, in one statement."""
    touched = [account for account in accounts if account.touched or account.changed]
    if not touched:
        return
    changed = [
        (account.balance.organization_id, account.grants[grant_id])
        for account in touched
        for grant_id in account.changed
    ]
    grants = (
        {"o": o, "id": g.id, "remaining": g.remaining_micros, "reserved": g.reserved_micros, "active": g.active}
        for o, g in changed
    )
    entries = (entry for account in touched for entry in account.entries)
    await tx.execute(
        """WITH balance AS (
               UPDATE credit_balance b
               SET remaining_micros = x.remaining_micros, reserved_micros = x.reserved_micros,
                   debt_micros = x.debt_micros, overdraft_limit_micros = x.overdraft_limit_micros,
                   overdraft_reserved_micros = x.overdraft_reserved_micros, allocated_micros = x.allocated_micros,
                   seq = x.seq, period_start = x.period_start, period_end = x.period_end, next_due_at = x.next_due_at
               FROM json_to_recordset(%s::json) AS x(organization_id uuid, remaining_micros bigint,
                   reserved_micros bigint, debt_micros bigint, overdraft_limit_micros bigint,
                   overdraft_reserved_micros bigint, allocated_micros bigint, seq bigint, period_start timestamptz,
                   period_end timestamptz, next_due_at timestamptz)
               WHERE b.organization_id = x.organization_id),
           changed AS (
               UPDATE credit_grant g SET remaining_micros = x.remaining, reserved_micros = x.reserved, active = x.active
               FROM json_to_recordset(%s::json) AS x(o uuid, id uuid, remaining bigint, reserved bigint, active boolean)
               WHERE g.organization_id = x.o AND g.id = x.id)
           INSERT INTO credit_transaction (organization_id, seq, id, type, amount_micros, balance_after_micros, grant_id,
               reservation_id, estimation_variance_micros, note, actor, created_at)
           SELECT organization_id, seq, gen_random_uuid(), type, amount_micros, balance_after_micros, grant_id,
               reservation_id, estimation_variance_micros, note, actor, created_at
           FROM json_to_recordset(%s::json) AS x(organization_id uuid, seq bigint, type text, amount_micros bigint,
               balance_after_micros bigint, grant_id uuid, reservation_id uuid, estimation_variance_micros bigint,
               note text, actor text, created_at timestamptz)""",
        (encode(account.balance for account in touched), encode(grants), encode(entries)),
    )


async def insert_grant(tx: MoneyTx, organization_id: UUID, grant: Grant) -> None:
    """A new grant, as it was made; its account's `write_accounts` brings it up to date."""
    await tx.execute(
        """INSERT INTO credit_grant (organization_id, id, source, priority, paid, amount_micros, remaining_micros,
               reserved_micros, active, effective_at, expires_at, period_start, plan_id, created_at, note)
           VALUES (%s, %s, %s, %s, %s, %s, %s, 0, %s, %s, %s, %s, %s, %s, %s)""",
        (
            organization_id,
            grant.id,
            grant.source,
            grant.priority,
            grant.paid,
            grant.amount_micros,
            grant.remaining_micros,
            grant.active,
            grant.effective_at,
            grant.expires_at,
            grant.period_start,
            grant.plan_id,
            grant.created_at,
            grant.note,
        ),
    )


async def write_windows(tx: TellerTx, found: Windows) -> None:
    if not found.changed:
        return
    rows = []
    for organization_id, window_id in found.changed:
        window = found.by_id[organization_id, window_id]
        about = window.counter
        rows.append(
            {
                "o": organization_id,
                "id": window_id,
                "subject": about.subject_id,
                "meter": about.meter,
                "model": about.model_id,
                "period": about.period,
                "starts_at": about.starts_at,
                "used": window.used,
                "reserved": window.reserved,
            }
        )
    await tx.execute(
        """INSERT INTO quota_window AS w (organization_id, id, subject_id, meter, model_id, period, starts_at, used, reserved)
           SELECT o, id, subject, meter, model, period, starts_at, used, reserved
           FROM json_to_recordset(%s::json) AS x(o uuid, id uuid, subject uuid, meter text, model text, period text,
               starts_at timestamptz, used bigint, reserved bigint)
           ON CONFLICT (organization_id, id) DO UPDATE SET used = EXCLUDED.used, reserved = EXCLUDED.reserved""",
        (encode(rows),),
    )


async def open_calls(tx: TellerTx, rows: list[CallOpened]) -> None:
    """Reservation, request and first attempt of each call, in one statement: durable before its provider is called."""
    await tx.execute(
        """WITH x AS MATERIALIZED (
               SELECT * FROM json_to_recordset(%s::json) AS x(organization_id uuid, id uuid, key_id uuid, subject_id uuid,
                   channel text, endpoint text, stream boolean, model_id text, provider_id text, connection_id uuid,
                   price_version int, rate_version int, multiplier_permille int, charged boolean, trial boolean,
                   amount_micros bigint, parts jsonb, created_at timestamptz, expires_at timestamptz)),
           reserved AS (
               INSERT INTO reservation (organization_id, id, key_id, subject_id, channel, model_id, price_version,
                   rate_version, multiplier_permille, charged, trial, amount_micros, parts, state, created_at, expires_at)
               SELECT organization_id, id, key_id, subject_id, channel, model_id, price_version, rate_version,
                   multiplier_permille, charged, trial, amount_micros, parts, 'pending', created_at, expires_at FROM x),
           requested AS (
               INSERT INTO request (organization_id, id, key_id, subject_id, endpoint, channel, model_id, stream, state,
                   created_at)
               SELECT organization_id, id, key_id, subject_id, endpoint, channel, model_id, stream, 'running', created_at
               FROM x)
           INSERT INTO attempt (organization_id, request_id, number, model_id, provider_id, connection_id, started_at)
           SELECT organization_id, id, 1, model_id, provider_id, connection_id, created_at FROM x""",
        (encode(rows),),
    )


async def close_calls(tx: TellerTx, rows: Iterable[CallClosed]) -> None:
    """The final state of each call and, where it was charged, its usage event, in one statement. A settlement that comes
    late keeps the reservation's state and reason and sets its charge."""
    await tx.execute(
        """WITH x AS MATERIALIZED (
               SELECT * FROM json_to_recordset(%s::json) AS x(organization_id uuid, id uuid, state text,
                   charged_micros bigint, closed_at timestamptz, reason text, request_state text, client_left boolean,
                   error text, attempt smallint, outcome text, status smallint, first_token_ms int, duration_ms int,
                   usage_id uuid, recorded_at timestamptz, provider_id text, input_tokens bigint,
                   cached_input_tokens bigint, output_tokens bigint, reasoning_tokens bigint, estimated boolean,
                   cost_nanos bigint)),
           closed AS (
               UPDATE reservation r SET state = x.state, charged_micros = x.charged_micros, closed_at = x.closed_at,
                   reason = coalesce(x.reason, r.reason)
               FROM x WHERE r.organization_id = x.organization_id AND r.id = x.id),
           finished AS (
               UPDATE request q SET state = x.request_state, client_left = x.client_left, error = x.error,
                   finished_at = x.closed_at
               FROM x WHERE q.organization_id = x.organization_id AND q.id = x.id),
           ended AS (
               UPDATE attempt a SET first_byte_at = a.started_at + x.first_token_ms * interval '1 millisecond',
                   finished_at = x.closed_at, outcome = x.outcome, status = x.status,
                   input_tokens = coalesce(x.input_tokens, a.input_tokens),
                   output_tokens = coalesce(x.output_tokens, a.output_tokens), cost_nanos = x.cost_nanos, error = x.error
               FROM x WHERE a.organization_id = x.organization_id AND a.request_id = x.id AND a.number = x.attempt)
           INSERT INTO usage_event (organization_id, id, recorded_at, started_at, reservation_id, subject_id, key_id,
               channel, capability, quality, model_id, provider_id, price_version, rate_version, multiplier_permille,
               messages, input_tokens, cached_input_tokens, output_tokens, reasoning_tokens, trial, estimated, cost_nanos,
               charged_micros, duration_ms, first_token_ms)
           SELECT r.organization_id, x.usage_id, x.recorded_at, r.created_at, r.id, r.subject_id, r.key_id, r.channel,
               r.capability, r.quality, r.model_id, x.provider_id, r.price_version, r.rate_version, r.multiplier_permille,
               1, x.input_tokens, x.cached_input_tokens, x.output_tokens, x.reasoning_tokens, r.trial, x.estimated,
               x.cost_nanos, x.charged_micros, x.duration_ms, x.first_token_ms
           FROM x JOIN reservation r ON r.organization_id = x.organization_id AND r.id = x.id
           WHERE x.charged_micros IS NOT NULL""",
        (encode(rows),),
    )


async def write_checkpoints(tx: TellerTx, rows: Iterable[Checkpoint]) -> None:
    await tx.execute(
        """WITH x AS MATERIALIZED (SELECT * FROM json_to_recordset(%s::json) AS x(organization_id uuid, id uuid,
               expires_at timestamptz, input_tokens bigint, output_tokens bigint)),
           lease AS (UPDATE reservation r SET expires_at = x.expires_at FROM x
               WHERE r.organization_id = x.organization_id AND r.id = x.id AND r.state = 'pending')
           UPDATE attempt a SET input_tokens = x.input_tokens, output_tokens = x.output_tokens FROM x
           WHERE a.organization_id = x.organization_id AND a.request_id = x.id AND a.finished_at IS NULL""",
        (encode(rows),),
    )


async def insert_end_users(tx: TellerTx, rows: list[EndUserRow]) -> None:
    await tx.execute(
        """INSERT INTO end_user (organization_id, id, external_id, created_at)
           SELECT * FROM json_to_recordset(%s::json) AS x(organization_id uuid, id uuid, external_id text,
               created_at timestamptz)
           ON CONFLICT DO NOTHING""",
        (encode(rows),),
    )


async def overdue(tx: WorkerTx, now: datetime, limit: int) -> list[tuple[UUID, UUID]]:
    """Open reservations whose lease has run out by their organisation's own time, longest ago first."""
    cursor = await tx.execute(
        """SELECT r.organization_id, r.id FROM reservation r JOIN organization o ON o.id = r.organization_id
           WHERE r.state = 'pending' AND r.expires_at <= %s + o.clock_offset_micros * interval '1 microsecond'
           ORDER BY r.expires_at LIMIT %s""",
        (now, limit),
    )
    return [(row[0], row[1]) for row in await cursor.fetchall()]
