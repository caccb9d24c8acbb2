"""The ledger's proof: each invariant is a query that finds nothing when all is well. Numbers as in docs/invariants.md.

Runs as the owner, in one snapshot, and changes nothing. `prove-ledger`, the nightly job and the operator's API call it.
"""

from dataclasses import dataclass
from typing import Any, LiteralString

from psycopg import AsyncConnection
from psycopg.rows import dict_row

from tollhouse.core.audit import row_hash

ROWS_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Failure:
    """An invariant that does not hold, with the first rows that break it."""

    number: int
    statement: str
    rows: list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Invariant:
    number: int
    statement: str
    sql: LiteralString


_ORGANISATION_NOW: LiteralString = "now() + o.clock_offset_micros * interval '1 microsecond'"
_WINDOW_END: LiteralString = """CASE w.period WHEN 'day' THEN w.starts_at + interval '24 hours'
    WHEN 'week' THEN w.starts_at + interval '7 days' WHEN 'month' THEN w.starts_at + interval '1 month'
    ELSE 'infinity' END"""
_HELD: LiteralString = """SELECT r.organization_id, (part ->> 0)::uuid AS grant_id, sum((part ->> 1)::bigint) AS held
    FROM reservation r, jsonb_array_elements(r.parts -> 'grants') AS part
    WHERE r.state = 'pending' GROUP BY 1, 2"""

INVARIANTS: tuple[Invariant, ...] = (
    Invariant(
        1,
        "what remains of a grant is what its transactions leave of it",
        """SELECT g.organization_id, g.id, g.amount_micros, g.remaining_micros, g.reserved_micros, t.booked
           FROM credit_grant g LEFT JOIN (
               SELECT organization_id, grant_id, sum(amount_micros) AS booked,
                      sum(amount_micros) FILTER (WHERE amount_micros > 0) AS granted
               FROM credit_transaction WHERE grant_id IS NOT NULL GROUP BY 1, 2
           ) t ON t.organization_id = g.organization_id AND t.grant_id = g.id
           WHERE (g.active
                  AND (t.booked IS DISTINCT FROM g.remaining_micros OR t.granted IS DISTINCT FROM g.amount_micros))
              OR (NOT g.active AND t.booked IS NOT NULL)
              OR g.reserved_micros NOT BETWEEN 0 AND g.remaining_micros""",
    ),
    Invariant(
        2,
        "a balance is the sum over its grants less debt, and the last transaction says so",
        """SELECT b.organization_id, b.remaining_micros, b.debt_micros, b.seq, g.remaining, t.count, t.debt,
                  l.balance_after_micros
           FROM credit_balance b
           CROSS JOIN LATERAL (SELECT coalesce(sum(remaining_micros), 0) AS remaining,
                                      coalesce(sum(reserved_micros), 0) AS reserved
                               FROM credit_grant g WHERE g.organization_id = b.organization_id AND g.active) g
           CROSS JOIN LATERAL (SELECT count(*), coalesce(max(seq), 0) AS last,
                                      coalesce(-sum(amount_micros) FILTER (WHERE grant_id IS NULL), 0) AS debt
                               FROM credit_transaction t WHERE t.organization_id = b.organization_id) t
           LEFT JOIN credit_transaction l ON l.organization_id = b.organization_id AND l.seq = b.seq
           WHERE b.remaining_micros <> g.remaining OR b.reserved_micros <> g.reserved OR b.debt_micros <> t.debt
              OR t.count <> b.seq OR t.last <> b.seq
              OR coalesce(l.balance_after_micros, 0) <> b.remaining_micros - b.debt_micros""",
    ),
    Invariant(
        2,
        "each transaction's balance follows from the one before it, and no number is missing",
        """SELECT * FROM (
               SELECT organization_id, seq, amount_micros, balance_after_micros,
                      lag(balance_after_micros, 1, 0::bigint) OVER w AS before,
                      lag(seq, 1, 0::bigint) OVER w AS seq_before
               FROM credit_transaction WINDOW w AS (PARTITION BY organization_id ORDER BY seq)) AS chain
           WHERE balance_after_micros <> before + amount_micros OR seq <> seq_before + 1""",
    ),
    Invariant(
        3,
        "what is reserved on a grant is what open reservations hold of it",
        f"""WITH held AS ({_HELD})
           SELECT coalesce(g.organization_id, h.organization_id) AS organization_id,
                  coalesce(g.id, h.grant_id) AS grant_id, g.reserved_micros, h.held
           FROM credit_grant g FULL JOIN held h ON h.organization_id = g.organization_id AND h.grant_id = g.id
           WHERE coalesce(g.reserved_micros, 0) <> coalesce(h.held, 0)""",
    ),
    Invariant(
        3,
        "what is reserved on an overdraft is what open reservations hold of it",
        """SELECT b.organization_id, b.overdraft_reserved_micros, r.held
           FROM credit_balance b LEFT JOIN (
               SELECT organization_id, sum((parts ->> 'overdraft')::bigint) AS held FROM reservation
               WHERE state = 'pending' GROUP BY 1) r USING (organization_id)
           WHERE b.overdraft_reserved_micros <> coalesce(r.held, 0)""",
    ),
    Invariant(
        3,
        "what is reserved in a window is what open reservations hold of it",
        """WITH held AS (
               SELECT r.organization_id, (part ->> 0)::uuid AS window_id, sum((part ->> 2)::bigint) AS held
               FROM reservation r, jsonb_array_elements(r.parts -> 'windows') AS part
               WHERE r.state = 'pending' GROUP BY 1, 2)
           SELECT coalesce(w.organization_id, h.organization_id) AS organization_id,
                  coalesce(w.id, h.window_id) AS window_id, w.meter, w.reserved, h.held
           FROM quota_window w FULL JOIN held h ON h.organization_id = w.organization_id AND h.window_id = w.id
           WHERE coalesce(w.reserved, 0) <> coalesce(h.held, 0)""",
    ),
    Invariant(
        4,
        "no balance is below its overdraft unless a settlement above a reservation, a refund or a dispute did it",
        """SELECT b.organization_id, b.debt_micros, b.overdraft_limit_micros FROM credit_balance b
           WHERE b.debt_micros > b.overdraft_limit_micros
             AND NOT EXISTS (SELECT FROM credit_transaction t
                 WHERE t.organization_id = b.organization_id AND t.grant_id IS NULL AND t.amount_micros < 0
                   AND t.type IN ('ai_consumption', 'late_settle', 'refund_clawback', 'dispute_clawback'))""",
    ),
    Invariant(
        5,
        "a reservation's parts sum to its amount, and its charge is what the ledger booked for it",
        """SELECT r.organization_id, r.id, r.state, r.amount_micros, r.charged_micros, t.booked, t.wrong
           FROM reservation r
           LEFT JOIN (SELECT organization_id, reservation_id, -sum(amount_micros) AS booked,
                             array_agg(DISTINCT type) AS types,
                             count(DISTINCT type) > 1 AS wrong
                      FROM credit_transaction WHERE reservation_id IS NOT NULL AND type <> 'correction'
                      GROUP BY 1, 2) t
             ON t.organization_id = r.organization_id AND t.reservation_id = r.id
           WHERE r.amount_micros <> (r.parts ->> 'overdraft')::bigint
                 + (SELECT coalesce(sum((part ->> 1)::bigint), 0)
                    FROM jsonb_array_elements(r.parts -> 'grants') AS part)
              OR coalesce(r.charged_micros, 0) <> coalesce(t.booked, 0) OR t.wrong
              OR (r.state = 'settled' AND t.types <> ARRAY['ai_consumption'])
              OR (r.state IN ('released', 'expired') AND t.types <> ARRAY['late_settle'])
              OR (r.state = 'pending' AND t.types IS NOT NULL)""",
    ),
    Invariant(
        5,
        "what was settled has one usage event, what was not has none",
        """SELECT r.organization_id, r.id, r.state, count(e.id) FROM reservation r
           LEFT JOIN usage_event e ON e.organization_id = r.organization_id AND e.reservation_id = r.id
           GROUP BY r.organization_id, r.id, r.state, r.charged_micros
           HAVING count(e.id) <> (r.charged_micros IS NOT NULL)::int""",
    ),
    Invariant(
        6,
        "no reservation stays open for more than a minute after its end",
        f"""SELECT r.organization_id, r.id, r.expires_at
           FROM reservation r JOIN organization o ON o.id = r.organization_id
           WHERE r.state = 'pending' AND r.expires_at < {_ORGANISATION_NOW} - interval '60 seconds'""",
    ),
    Invariant(
        6,
        "a request runs exactly as long as its reservation is open",
        """SELECT q.organization_id, q.id, q.state, r.state AS reservation FROM request q
           LEFT JOIN reservation r ON r.organization_id = q.organization_id AND r.id = q.id
           WHERE r.id IS NULL OR (q.state = 'running') <> (r.state = 'pending')""",
    ),
    Invariant(
        7,
        "no provider was called without an earlier reservation, nor after another had begun to answer",
        """SELECT a.organization_id, a.request_id, a.number FROM attempt a
           LEFT JOIN reservation r ON r.organization_id = a.organization_id AND r.id = a.request_id
           WHERE r.id IS NULL OR r.created_at > a.started_at
              OR EXISTS (SELECT FROM attempt b
                         WHERE b.organization_id = a.organization_id AND b.request_id = a.request_id
                           AND b.first_byte_at < a.started_at)""",
    ),
    Invariant(
        8,
        "a charge is the usage at the price it was quoted at, rounded up once",
        """SELECT * FROM (
               SELECT e.organization_id, e.id, e.charged_micros, e.cost_nanos, r.charged_micros AS of_reservation,
                      CASE WHEN r.charged
                           THEN div(x.exact * c.micros_per_usd * e.multiplier_permille + (1e18 - 1), 1e18)
                           ELSE 0 END AS due,
                      div(x.exact + (1e6 - 1), 1e6) AS cost_due  -- div is exact, the quotient of / is rounded
               FROM usage_event e
               JOIN reservation r ON r.organization_id = e.organization_id AND r.id = e.reservation_id
               JOIN model_price p ON p.model_id = e.model_id AND p.version = e.price_version
               JOIN rate_card c ON c.version = e.rate_version
               CROSS JOIN LATERAL (SELECT ((e.input_tokens - e.cached_input_tokens)::numeric * p.input_nanos_per_million
                   + e.cached_input_tokens::numeric * p.cached_input_nanos_per_million
                   + e.output_tokens::numeric * p.output_nanos_per_million + p.request_nanos::numeric * 1000000)
                   AS exact) x
           ) AS priced
           WHERE charged_micros <> due OR cost_nanos <> cost_due OR of_reservation IS DISTINCT FROM charged_micros""",
    ),
    Invariant(
        9,
        "what a window has used is the sum of its usage events",
        f"""SELECT w.organization_id, w.id, w.meter, w.period, w.starts_at, w.model_id, w.used, e.total
           FROM quota_window w
           CROSS JOIN LATERAL (
               SELECT coalesce(sum(CASE w.meter WHEN 'tokens' THEN e.input_tokens + e.output_tokens
                                   ELSE e.messages END), 0) AS total
               FROM usage_event e
               WHERE e.organization_id = w.organization_id AND e.started_at >= w.starts_at
                 AND e.started_at < {_WINDOW_END}
                 AND (w.subject_id = e.subject_id OR w.subject_id = w.organization_id AND w.meter = 'tokens')
                 AND (w.model_id = '' OR e.model_id = w.model_id)
                 AND (w.meter <> 'trial_messages' OR e.trial)) e
           WHERE w.used <> e.total""",
    ),
    Invariant(
        13,
        "monthly allocations neither overlap nor stand outside their period",
        """SELECT * FROM (
               SELECT organization_id, id, period_start, expires_at,
                      lag(expires_at) OVER (PARTITION BY organization_id ORDER BY period_start) AS earlier_end
               FROM credit_grant WHERE source = 'plan') AS allocations
           WHERE earlier_end > period_start OR expires_at IS NULL OR expires_at <= period_start""",
    ),
    Invariant(
        14,
        "trial messages exceed what the model allows only by calls that were given back and settled late",
        """SELECT w.organization_id, w.subject_id, w.model_id, w.used, w.reserved, m.trial_messages
           FROM quota_window w JOIN model m ON m.id = w.model_id
           CROSS JOIN LATERAL (
               SELECT min(r.created_at) AS since,
                      count(*) FILTER (WHERE r.state <> 'settled' AND r.charged_micros IS NOT NULL) AS late
               FROM reservation r
               WHERE r.organization_id = w.organization_id AND r.subject_id = w.subject_id AND r.model_id = w.model_id
                 AND r.trial) calls
           WHERE w.meter = 'trial_messages' AND w.used + w.reserved - calls.late > m.trial_messages
             AND (calls.since IS NULL OR m.updated_at <= calls.since)""",
    ),
    Invariant(
        15,
        "every row belongs to the organisation of what it hangs on",
        """SELECT t.organization_id, 'transaction' AS what, t.id FROM credit_transaction t
           WHERE (t.grant_id IS NOT NULL AND NOT EXISTS (SELECT FROM credit_grant g
                    WHERE g.organization_id = t.organization_id AND g.id = t.grant_id))
              OR (t.reservation_id IS NOT NULL AND NOT EXISTS (SELECT FROM reservation r
                    WHERE r.organization_id = t.organization_id AND r.id = t.reservation_id))
           UNION ALL
           SELECT e.organization_id, 'usage event', e.id FROM usage_event e WHERE NOT EXISTS (SELECT FROM reservation r
                    WHERE r.organization_id = e.organization_id AND r.id = e.reservation_id)
           UNION ALL
           SELECT a.organization_id, 'attempt', a.request_id FROM attempt a WHERE NOT EXISTS (SELECT FROM request q
                    WHERE q.organization_id = a.organization_id AND q.id = a.request_id)
           UNION ALL
           SELECT r.organization_id, 'reservation', r.id FROM reservation r
           WHERE NOT EXISTS (SELECT FROM credit_balance b
                    WHERE b.organization_id = r.organization_id)""",
    ),
    Invariant(
        17,
        "what is append-only was never updated or deleted",
        """SELECT relname AS table, n_tup_upd AS updated, n_tup_del AS deleted FROM pg_stat_user_tables
           WHERE (relname IN ('credit_transaction', 'audit') OR relname LIKE 'usage\\_event%')
             AND n_tup_upd + n_tup_del > 0""",
    ),
    Invariant(
        18,
        "every tenant table has row-level security, forced, with a policy",
        """SELECT c.relname AS table FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
           WHERE a.attname = 'organization_id' AND NOT a.attisdropped AND c.relkind IN ('r', 'p')
             AND c.relnamespace = 'public'::regnamespace
             AND (NOT c.relrowsecurity OR NOT c.relforcerowsecurity
                  OR (NOT c.relispartition AND NOT EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = c.oid)))""",
    ),
    Invariant(
        18,
        "no run-time role owns a table or bypasses row-level security; definer functions pin their search path",
        """SELECT rolname::text AS what FROM pg_roles r
           WHERE rolname IN ('tollhouse_web', 'tollhouse_teller', 'tollhouse_worker', 'tollhouse_operator')
             AND (rolsuper OR rolbypassrls OR EXISTS (SELECT FROM pg_class c WHERE c.relowner = r.oid))
           UNION ALL
           SELECT oid::regprocedure::text FROM pg_proc
           WHERE prosecdef AND pronamespace = 'public'::regnamespace
             AND coalesce(array_to_string(proconfig, ','), '') !~ 'search_path='
           UNION ALL
           SELECT oid::regclass::text FROM pg_class
           WHERE relkind = 'v' AND relnamespace = 'public'::regnamespace
             AND coalesce(array_to_string(reloptions, ','), '') !~ 'security_invoker=(on|true)'""",
    ),
    Invariant(
        19,
        "no transaction of ours is left idle",
        """SELECT pid, application_name, state FROM pg_stat_activity
           WHERE datname = current_database() AND application_name LIKE 'tollhouse\\_%'
             AND state LIKE 'idle in transaction%' AND state_change < clock_timestamp() - interval '10 seconds'""",
    ),
)


async def prove(connection: AsyncConnection[Any]) -> list[Failure]:
    """Every invariant that does not hold, with rows. The connection must be the owner's and outside a transaction."""
    failures = []
    async with connection.transaction(), connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        await cursor.execute("SET LOCAL timezone = 'UTC'")
        for invariant in INVARIANTS:
            await cursor.execute(invariant.sql)
            if rows := await cursor.fetchmany(ROWS_SHOWN):
                failures.append(Failure(invariant.number, invariant.statement, rows))
        if broken := await _broken_audit(connection):
            statement = "the audit chain of each organisation is gapless and its hashes hold"
            failures.append(Failure(16, statement, broken[:ROWS_SHOWN]))
    return failures


async def _broken_audit(connection: AsyncConnection[Any]) -> list[dict[str, Any]]:
    """Rows of the audit log whose number, link or hash is wrong, first of each organisation."""
    broken: list[dict[str, Any]] = []
    async with connection.cursor(name="audit", row_factory=dict_row) as cursor:
        await cursor.execute(
            """SELECT organization_id, seq, at, actor, action, object_type, object_id, details, previous_hash, hash
               FROM audit ORDER BY organization_id, seq"""
        )
        before: dict[str, Any] | None = None
        async for row in cursor:
            first = before is None or before["organization_id"] != row["organization_id"]
            expected_seq = 1 if first or before is None else before["seq"] + 1
            expected_previous = b"" if first or before is None else before["hash"]
            if row["seq"] != expected_seq or row["previous_hash"] != expected_previous or row["hash"] != row_hash(row):
                broken.append({"organization_id": row["organization_id"], "seq": row["seq"]})
            before = row
    return broken
