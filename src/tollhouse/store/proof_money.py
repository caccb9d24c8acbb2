"""Invariants of grants, balances, reservations, charges and periods."""

from typing import LiteralString

from tollhouse.store.invariant import ORGANISATION_NOW, Invariant

_HELD: LiteralString = """SELECT r.organization_id, (part ->> 0)::uuid AS grant_id, sum((part ->> 1)::bigint) AS held
    FROM reservation r, jsonb_array_elements(r.parts -> 'grants') AS part
    WHERE r.state = 'pending' GROUP BY 1, 2"""

MONEY: tuple[Invariant, ...] = (
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
           WHERE r.state = 'pending' AND r.expires_at < {ORGANISATION_NOW} - interval '60 seconds'""",
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
        "a charge is the usage at the price it was quoted at, rounded up once; or what was stated in credits",
        """SELECT * FROM (
               SELECT e.organization_id, e.id, e.charged_micros, e.cost_nanos, r.charged_micros AS of_reservation,
                      CASE WHEN NOT r.charged OR (e.model_id LIKE 'own/%' AND e.origin = 'own_key') THEN 0
                           WHEN e.price_version IS NULL THEN e.charged_micros
                           ELSE div(x.exact * c.micros_per_usd * c.markup_permille * e.multiplier_permille * x.share
                                    + (1e24 - 1), 1e24) END AS due,
                      CASE WHEN e.price_version IS NULL OR e.origin <> 'provider' THEN 0
                           ELSE div(x.exact + (1e6 - 1), 1e6) END AS cost_due  -- div is exact, the quotient of / is not
               FROM usage_event e
               JOIN reservation r ON r.organization_id = e.organization_id AND r.id = e.reservation_id
               LEFT JOIN model_price p ON p.model_id = e.model_id AND p.version = e.price_version
               LEFT JOIN rate_card c ON c.version = e.rate_version
               CROSS JOIN LATERAL (
                   SELECT (e.input_tokens - e.cached_input_tokens - e.cache_write_tokens)::numeric
                              * p.input_nanos_per_million
                          + e.cached_input_tokens::numeric * p.cached_input_nanos_per_million
                          + e.cache_write_tokens::numeric
                              * coalesce(p.cache_write_nanos_per_million, p.input_nanos_per_million)
                          + (e.output_tokens - e.reasoning_tokens)::numeric * p.output_nanos_per_million
                          + e.reasoning_tokens::numeric
                              * coalesce(p.reasoning_nanos_per_million, p.output_nanos_per_million)
                          + p.request_nanos::numeric * 1000000 AS exact,
                          CASE e.origin WHEN 'own_key' THEN c.own_key_permille
                                        WHEN 'cache' THEN c.cache_hit_permille ELSE 1000 END AS share) x
           ) AS priced  -- a price that is not there makes `due` NULL
           WHERE charged_micros IS DISTINCT FROM due OR cost_nanos IS DISTINCT FROM cost_due
              OR of_reservation IS DISTINCT FROM charged_micros""",
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
        13,
        "a balance's period is that of its last allocation, and begins in the ledger where it says",
        """SELECT b.organization_id, b.period_start, b.period_seq, g.id, g.period_start AS allocated_for, t.seq
           FROM credit_balance b
           JOIN credit_grant g ON g.organization_id = b.organization_id AND g.source = 'plan'
                AND g.period_start IS NOT NULL
           JOIN credit_transaction t ON t.organization_id = g.organization_id AND t.grant_id = g.id
                AND t.type = 'plan_allocation'
           WHERE g.period_start > b.period_start OR (g.period_start = b.period_start) <> (t.seq > b.period_seq)
              OR (g.period_start = b.period_start AND g.expires_at <> b.period_end)""",
    ),
)
