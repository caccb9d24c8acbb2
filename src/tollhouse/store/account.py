"""An organisation's money under its lock: read whole or by its head, written as it was changed. The statements serve a
batch of any number of organisations; rows go in and out as JSON documents."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from tollhouse.core.credit import Account, Balance, Grant
from tollhouse.core.quota import Rule
from tollhouse.store.db import MoneyTx
from tollhouse.store.exchange import Rows, Statement, Write, keys, run
from tollhouse.store.quota import NewWindowRow, WindowRow

# How many grants are read at the head of an organisation's burn order; more only when these do not hold enough.
GRANTS_READ: tuple[int | None, ...] = (32, 2_048, None)


@dataclass(frozen=True, slots=True)
class Locked:
    """An organisation under the lock of this transaction."""

    id: UUID
    plan_id: str
    pending_plan_id: str | None
    period_anchor: datetime
    clock_offset_micros: int
    suspended: bool
    catalogue_version: int
    balance: Balance
    rules: tuple[Rule, ...]
    cache_ttl_s: int | None = None
    stores_content: bool = False


@dataclass(frozen=True, slots=True)
class GrantRow:
    organization_id: UUID
    grant: Grant


@dataclass(frozen=True, slots=True)
class _Moment:
    at: datetime | None


# Locks in id order, which is the one lock order of all who move money. What is theirs is read by the next statements,
# whose snapshots see what the one before left.
_lock = Write(
    """SELECT count(*) FROM (
           SELECT FROM organization WHERE id = ANY (ARRAY(SELECT id FROM json_to_recordset($1::json) AS x(id uuid)))
           ORDER BY id FOR NO KEY UPDATE) AS locked"""
)
_locked = Rows(
    Locked,
    """SELECT o.id, o.plan_id, o.pending_plan_id, o.period_anchor, o.clock_offset_micros,
              o.suspended_at IS NOT NULL AS suspended, (SELECT version FROM catalogue_version) AS catalogue_version,
              row_to_json(b) AS balance, o.cache_ttl_s, o.stores_content,
              (SELECT coalesce(json_agg(l), '[]') FROM (
                   SELECT id, scope, subject_id, model_id, meter, period, maximum FROM usage_limit
                   WHERE organization_id = o.id AND ended_at IS NULL ORDER BY id) l) AS rules
       FROM json_to_recordset($1::json) AS x(id uuid)
       CROSS JOIN LATERAL (SELECT * FROM organization WHERE id = x.id LIMIT 1) AS o
       CROSS JOIN LATERAL (SELECT * FROM credit_balance WHERE organization_id = x.id LIMIT 1) AS b""",
)
_heads = Rows(
    GrantRow,
    """SELECT g.organization_id, row_to_json(g) AS "grant"
       FROM json_to_recordset($1::json) AS wanted(id uuid)
       CROSS JOIN LATERAL (
           SELECT * FROM credit_grant
           WHERE organization_id = wanted.id AND active AND NOT spent AND remaining_micros > reserved_micros
           ORDER BY priority, expires_at, paid, effective_at, created_at, id LIMIT $2::int) AS g""",
)
_drawn = Rows(
    GrantRow,
    """SELECT g.organization_id, row_to_json(g) AS "grant" FROM json_to_recordset($1::json) AS x(o uuid, id uuid)
       CROSS JOIN LATERAL (SELECT parts FROM reservation WHERE organization_id = x.o AND id = x.id LIMIT 1) r
       CROSS JOIN LATERAL jsonb_array_elements(r.parts -> 'grants') AS part
       CROSS JOIN LATERAL (SELECT * FROM credit_grant
           WHERE organization_id = x.o AND id = (part ->> 0)::uuid LIMIT 1) g""",
)
_due = Rows(
    GrantRow,
    """SELECT g.organization_id, row_to_json(g) AS "grant" FROM credit_grant g
       WHERE organization_id = $1::uuid
         AND ((active AND NOT spent AND remaining_micros > reserved_micros AND expires_at <= $2::timestamptz)
              OR (NOT active AND effective_at <= $2::timestamptz))
       ORDER BY expires_at, created_at, source, id""",
)
_next_event = Rows(
    _Moment,
    """SELECT least((SELECT min(expires_at) FROM credit_grant WHERE organization_id = $1::uuid AND active
                       AND NOT spent AND expires_at > $2::timestamptz),
                    (SELECT min(effective_at) FROM credit_grant WHERE organization_id = $1::uuid AND NOT active)
       ) AS at""",
)
# Rows that are changed are found by their key in a LATERAL query with a limit, and changed at their place (ctid), where
# the organisation's lock keeps them. A join on the key may become a scan of the whole index: see `exchange.keys`.
_write = Write(
    """WITH spent AS (
           UPDATE credit_balance b
           SET remaining_micros = x.remaining, reserved_micros = x.reserved, debt_micros = x.debt,
               overdraft_reserved_micros = x.overdraft, seq = x.seq
           FROM json_to_recordset($1::json) AS x(o uuid, remaining bigint, reserved bigint, debt bigint,
               overdraft bigint, seq bigint)
           CROSS JOIN LATERAL (SELECT ctid FROM credit_balance WHERE organization_id = x.o LIMIT 1) AS k
           WHERE b.ctid = k.ctid),
       arranged AS (
           UPDATE credit_balance b
           SET remaining_micros = x.remaining_micros, reserved_micros = x.reserved_micros, debt_micros = x.debt_micros,
               overdraft_limit_micros = x.overdraft_limit_micros,
               overdraft_reserved_micros = x.overdraft_reserved_micros, allocated_micros = x.allocated_micros,
               seq = x.seq, period_start = x.period_start, period_end = x.period_end, next_due_at = x.next_due_at,
               low_armed = x.low_armed, depleted_armed = x.depleted_armed, period_seq = x.period_seq
           FROM json_to_recordset($6::json) AS x(organization_id uuid, remaining_micros bigint, reserved_micros bigint,
               debt_micros bigint, overdraft_limit_micros bigint, overdraft_reserved_micros bigint,
               allocated_micros bigint, seq bigint, period_start timestamptz, period_end timestamptz,
               next_due_at timestamptz, low_armed boolean, depleted_armed boolean, period_seq bigint)
           CROSS JOIN LATERAL (
               SELECT ctid FROM credit_balance WHERE organization_id = x.organization_id LIMIT 1) AS k
           WHERE b.ctid = k.ctid),
       changed AS (
           UPDATE credit_grant g SET remaining_micros = x.remaining, reserved_micros = x.reserved, active = x.active
           FROM json_to_recordset($2::json) AS x(o uuid, id uuid, remaining bigint, reserved bigint, active boolean)
           CROSS JOIN LATERAL (
               SELECT ctid FROM credit_grant WHERE organization_id = x.o AND id = x.id LIMIT 1) AS k
           WHERE g.ctid = k.ctid),
       counted AS (
           UPDATE quota_window w SET used = x.used, reserved = x.reserved
           FROM json_to_recordset($4::json) AS x(organization_id uuid, id uuid, used bigint, reserved bigint)
           CROSS JOIN LATERAL (
               SELECT ctid FROM quota_window WHERE organization_id = x.organization_id AND id = x.id LIMIT 1) AS k
           WHERE w.ctid = k.ctid),
       windows AS (
           INSERT INTO quota_window (organization_id, id, subject_id, meter, model_id, period, starts_at, used,
               reserved, capability, limit_id)
           SELECT organization_id, id, subject_id, meter, model_id, period, starts_at, used, reserved, capability,
               limit_id
           FROM json_to_recordset($5::json) AS x(organization_id uuid, id uuid, subject_id uuid, meter text,
               model_id text, period text, starts_at timestamptz, used bigint, reserved bigint, capability text,
               limit_id uuid)
           ON CONFLICT (organization_id, id) DO UPDATE SET used = EXCLUDED.used, reserved = EXCLUDED.reserved)
       INSERT INTO credit_transaction (organization_id, seq, id, type, amount_micros, balance_after_micros, grant_id,
           reservation_id, estimation_variance_micros, note, actor, created_at)
       SELECT organization_id, seq, gen_random_uuid(), type, amount_micros, balance_after_micros, grant_id,
           reservation_id, estimation_variance_micros, note, actor, created_at
       FROM json_to_recordset($3::json) AS x(organization_id uuid, seq bigint, type text, amount_micros bigint,
           balance_after_micros bigint, grant_id uuid, reservation_id uuid, estimation_variance_micros bigint,
           note text, actor text, created_at timestamptz)"""
)
_insert_grant = Write(
    """INSERT INTO credit_grant (organization_id, id, source, priority, paid, amount_micros, remaining_micros,
           reserved_micros, active, effective_at, expires_at, period_start, plan_id, created_at, note)
       SELECT $1::uuid, id, source, priority, paid, amount_micros, remaining_micros, reserved_micros, active,
           effective_at, expires_at, period_start, plan_id, created_at, note
       FROM json_to_recordset($2::json) AS x(id uuid, source text, priority smallint, paid boolean,
           amount_micros bigint, remaining_micros bigint, reserved_micros bigint, active boolean,
           effective_at timestamptz, expires_at timestamptz, period_start timestamptz,
           plan_id text, created_at timestamptz, note text)"""
)


def lock(organizations: Iterable[UUID]) -> Statement[None]:
    """Locks the organisations until the end of the transaction; whoever changes what is theirs does that first."""
    return _lock([{"id": id_} for id_ in organizations])


def locked(organizations: Iterable[UUID]) -> Statement[Locked]:
    """The locked organisations and their balances, those that exist. In a statement after the lock."""
    return _locked([{"id": id_} for id_ in organizations])


def heads(organizations: Iterable[UUID], limit: int | None) -> Statement[GrantRow]:
    """Grants with something free, at most `limit` per organisation from the head of the burn order; None: all."""
    return _heads([{"id": id_} for id_ in organizations], limit)


def drawn(reservations: Iterable[tuple[UUID, UUID]]) -> Statement[GrantRow]:
    """The grants that these reservations, by organisation and id, drew from."""
    return _drawn(keys(reservations))


def writes(accounts: Iterable[Account], windows: tuple[list[WindowRow], list[NewWindowRow]]) -> Statement[None]:
    """The accounts' balances, changed grants and new transactions, and the windows that were changed, known and new:
    one statement. A call changes few columns of a balance, so most are written as those alone."""
    touched = [account for account in accounts if account.touched or account.changed]
    spent = [
        {"o": balance.organization_id, "remaining": balance.remaining_micros, "reserved": balance.reserved_micros,
         "debt": balance.debt_micros, "overdraft": balance.overdraft_reserved_micros, "seq": balance.seq}
        for balance in (account.balance for account in touched if not account.arranged)
    ]  # fmt: skip
    arranged = [account.balance for account in touched if account.arranged]
    changed = [
        {"o": account.balance.organization_id, "id": grant.id, "remaining": grant.remaining_micros,
         "reserved": grant.reserved_micros, "active": grant.active}
        for account in touched
        for grant in map(account.grants.__getitem__, account.changed)
    ]  # fmt: skip
    entries = [entry for account in touched for entry in account.entries]
    return _write(spent, changed, entries, *windows, arranged)


async def write(tx: MoneyTx, account: Account) -> None:
    """Writes one account, whatever of it was changed."""
    account.touched = account.arranged = True
    await run(tx, writes([account], ([], [])))


async def insert_grant(tx: MoneyTx, organization_id: UUID, grant: Grant) -> None:
    """A new grant, as it was made; its account's `write` brings it up to date."""
    await run(tx, _insert_grant(organization_id, [grant]))


async def due_grants(tx: MoneyTx, organization_id: UUID, now: datetime) -> list[Grant]:
    """Grants that have ended with something free, and grants that have begun without counting yet."""
    (found,) = await run(tx, _due(organization_id, now))
    return [row.grant for row in found]


async def next_grant_event(tx: MoneyTx, organization_id: UUID, now: datetime) -> datetime | None:
    """The next moment at which a grant ends or begins."""
    ((found,),) = await run(tx, _next_event(organization_id, now))
    at: datetime | None = found.at
    return at


async def welcome_given(tx: MoneyTx, organization_id: UUID, plan_id: str) -> bool:
    cursor = await tx.execute(
        "SELECT FROM credit_grant WHERE organization_id = %s AND source = 'welcome' AND plan_id = %s",
        (organization_id, plan_id),
    )
    return await cursor.fetchone() is not None
