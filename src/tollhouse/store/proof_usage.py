"""Invariants of windows, rollups, kept answers and trials.

That no window is above its limit except by a settlement above the estimate is proved after the fact by what the
reservations say: each admission found `used + reserved + amount` within the limit, under the lock, and from then on
only a use above its reservation, or one given back that came late, adds to it. So what a window holds is at most its
limit and the sum of these excesses. For that the limit must be known. Of an organisation's own rule it is: the audit
log holds each change of it, and the largest maximum since the window's first use counts. Plans, models and offers are
changed in place as well: a window is held against their limits when these are older than its first use, and against the
most generous of all plans that the organisation has had. Windows whose limit was changed after their first use, those
of assistants' tokens, and requests per minute, of which only the last minute is kept, cannot be judged afterwards: they
are checked under the lock alone.
"""

from typing import LiteralString

from tollhouse.store.invariant import OFFSET, ORGANISATION_NOW, Invariant

_WINDOW_END: LiteralString = """CASE w.period WHEN 'minute' THEN w.starts_at + interval '1 minute'
    WHEN 'day' THEN w.starts_at + interval '24 hours' WHEN 'week' THEN w.starts_at + interval '7 days'
    WHEN 'month' THEN w.starts_at + interval '1 month' ELSE 'infinity' END"""

# What each reservation took from each window (`taken`), and what it used of it once it was charged (`used`).
_TAKEN: LiteralString = """SELECT r.organization_id, r.id, r.created_at, r.state, e.id AS event_id,
        (part ->> 0)::uuid AS window_id, (part ->> 2)::bigint AS taken,
        CASE WHEN e.id IS NULL THEN 0 WHEN part ->> 1 = 'tokens' THEN e.input_tokens + e.output_tokens
             WHEN part ->> 1 = 'credits' THEN e.charged_micros ELSE (part ->> 2)::bigint END AS used
    FROM reservation r CROSS JOIN LATERAL jsonb_array_elements(r.parts -> 'windows') AS part
    LEFT JOIN usage_event e ON e.organization_id = r.organization_id AND e.reservation_id = r.id"""

_PLATFORM: LiteralString = "'00000000-0000-0000-0000-000000000000'"

# Processes may differ by this much in their time when a rule begins or ends.
_ABOUT: LiteralString = "interval '1 minute'"

# The plans that an organisation has, will have or has had.
_PLANS: LiteralString = """SELECT o.plan_id AS id UNION SELECT o.pending_plan_id
    UNION SELECT unnest(ARRAY[a.details ->> 'from', a.details ->> 'to']) FROM audit a
          WHERE a.organization_id = o.id AND a.action = 'plan.changed'"""

USAGE: tuple[Invariant, ...] = (
    Invariant(
        9,
        "what a window has used is what the calls that took from it have used",
        f"""WITH taken AS ({_TAKEN}),
           total AS (SELECT organization_id, window_id, sum(used) AS used FROM taken GROUP BY 1, 2)
           SELECT coalesce(w.organization_id, t.organization_id) AS organization_id,
                  coalesce(w.id, t.window_id) AS window_id, w.meter, w.period, w.starts_at, w.used, t.used AS total
           FROM quota_window w FULL JOIN total t ON t.organization_id = w.organization_id AND t.window_id = w.id
           WHERE coalesce(w.used, 0) <> coalesce(t.used, 0)""",
    ),
    Invariant(
        9,
        "what a window has used is the sum of the usage events of its subject and period",
        """WITH counted AS (
               SELECT e.organization_id, c.subject_id, c.meter, c.model_id, c.capability, c.period,
                      CASE c.period WHEN 'lifetime' THEN 'epoch' ELSE date_trunc(c.period, e.started_at, 'UTC') END
                      AS starts_at, sum(c.amount) AS total
               FROM usage_event e CROSS JOIN LATERAL (VALUES
                   ('messages', 'day', e.subject_id, '', '', e.messages::bigint),
                   ('messages', 'day', e.subject_id, e.model_id, '', e.messages),
                   ('trial_messages', 'lifetime', e.subject_id, e.model_id, '', e.messages * e.trial::int),
                   ('tokens', 'month', e.organization_id, '', '', e.input_tokens + e.output_tokens),
                   ('requests', 'day', e.organization_id, '', e.capability, (e.capability IS NOT NULL)::int)
               ) c (meter, period, subject_id, model_id, capability, amount)
               WHERE c.amount > 0 GROUP BY 1, 2, 3, 4, 5, 6, 7)
           SELECT organization_id, w.id, subject_id, meter, period, starts_at, model_id, capability, w.used, c.total
           FROM (SELECT * FROM quota_window WHERE limit_id IS NULL) w
           FULL JOIN counted c USING (organization_id, subject_id, meter, model_id, capability, period, starts_at)
           WHERE coalesce(w.used, 0) <> coalesce(c.total, 0)""",
    ),
    Invariant(
        9,
        "the window of an organisation's own rule counts what the rule binds",
        f"""WITH taken AS ({_TAKEN})
           SELECT w.organization_id, w.id, w.limit_id, t.event_id, e.started_at
           FROM quota_window w
           LEFT JOIN usage_limit l ON l.organization_id = w.organization_id AND l.id = w.limit_id
           LEFT JOIN assistant a ON a.organization_id IN (w.organization_id, {_PLATFORM}) AND a.id = w.limit_id
           LEFT JOIN taken t ON t.organization_id = w.organization_id AND t.window_id = w.id AND t.event_id IS NOT NULL
           LEFT JOIN usage_event e ON e.organization_id = t.organization_id AND e.id = t.event_id
           LEFT JOIN api_key k ON k.organization_id = e.organization_id AND k.id = e.key_id
           WHERE w.limit_id IS NOT NULL AND a.id IS NULL AND (
               l.id IS NULL OR (l.meter, l.period, coalesce(l.model_id, '')) <> (w.meter, w.period, w.model_id)
               OR (l.scope <> 'organization' AND l.subject_id <> w.subject_id)
               OR (e.id IS NOT NULL AND (
                   w.subject_id IS DISTINCT FROM
                       CASE l.scope WHEN 'organization' THEN e.organization_id WHEN 'person' THEN e.subject_id
                                    ELSE coalesce(k.counts_as, e.key_id) END
                   OR (w.model_id <> '' AND (e.model_id IS DISTINCT FROM w.model_id OR e.capability IS NOT NULL))
                   OR e.started_at < w.starts_at OR e.started_at >= {_WINDOW_END}
                   OR e.started_at < l.created_at - {_ABOUT} OR e.started_at > l.ended_at + {_ABOUT})))""",
    ),
    Invariant(
        9,
        "the window of an assistant's tokens counts what its person used with this assistant",
        f"""WITH taken AS ({_TAKEN})
           SELECT w.organization_id, w.id, w.limit_id, t.event_id, e.started_at
           FROM quota_window w
           JOIN assistant a ON a.organization_id IN (w.organization_id, {_PLATFORM}) AND a.id = w.limit_id
           LEFT JOIN taken t ON t.organization_id = w.organization_id AND t.window_id = w.id AND t.event_id IS NOT NULL
           LEFT JOIN usage_event e ON e.organization_id = t.organization_id AND e.id = t.event_id
           LEFT JOIN assistant_use u ON u.organization_id = e.organization_id AND u.request_id = e.reservation_id
           WHERE w.meter <> 'tokens' OR w.model_id <> ''
              OR (e.id IS NOT NULL AND (
                  e.channel <> 'chat' OR e.subject_id <> w.subject_id OR u.assistant_id <> a.id
                  OR e.started_at < w.starts_at OR e.started_at >= {_WINDOW_END}))""",
    ),
    Invariant(
        9,
        "no use escaped a rule of its organisation",
        f"""WITH taken AS ({_TAKEN}),
           counted AS (
               SELECT t.organization_id, t.event_id, w.limit_id FROM taken t
               JOIN quota_window w ON w.organization_id = t.organization_id AND w.id = t.window_id
               WHERE w.limit_id IS NOT NULL AND t.event_id IS NOT NULL)
           SELECT e.organization_id, e.id, e.started_at, l.id AS limit_id
           FROM usage_limit l
           JOIN usage_event e ON e.organization_id = l.organization_id
                AND e.started_at > l.created_at + {_ABOUT}
                AND e.started_at < coalesce(l.ended_at - {_ABOUT}, 'infinity')
           LEFT JOIN api_key k ON k.organization_id = e.organization_id AND k.id = e.key_id
           CROSS JOIN LATERAL (SELECT CASE l.scope WHEN 'organization' THEN e.organization_id
                                                   WHEN 'person' THEN nullif(e.subject_id, e.organization_id)
                                                   ELSE coalesce(k.counts_as, e.key_id) END AS id) whose
           LEFT JOIN counted c ON c.organization_id = e.organization_id AND c.event_id = e.id AND c.limit_id = l.id
           WHERE whose.id IS NOT NULL AND (l.scope = 'organization' OR coalesce(l.subject_id, whose.id) = whose.id)
             AND (l.model_id IS NULL OR (e.model_id = l.model_id AND e.capability IS NULL))
             AND CASE l.meter WHEN 'messages' THEN e.messages > 0 AND l.period <> 'minute'
                              WHEN 'tokens' THEN e.model_id IS NOT NULL ELSE true END
             AND c.limit_id IS NULL""",
    ),
    Invariant(
        9,
        "no window is above its limit except by settlements above their reservation",
        f"""WITH taken AS ({_TAKEN}),
           excess AS (
               SELECT organization_id, window_id, min(created_at) AS since,
                      sum(greatest(0, used - CASE state WHEN 'settled' THEN taken ELSE 0 END)) AS amount
               FROM taken GROUP BY 1, 2),
           former AS MATERIALIZED (
               SELECT organization_id, object_id, at, (details ->> 'from')::bigint AS maximum
               FROM audit WHERE action = 'limit.changed')
           SELECT w.organization_id, w.id, w.meter, w.period, w.starts_at, w.used, w.reserved, x.amount AS excess,
                  l.maximum
           FROM quota_window w
           JOIN excess x ON x.organization_id = w.organization_id AND x.window_id = w.id
           JOIN organization o ON o.id = w.organization_id
           CROSS JOIN LATERAL (
               SELECT greatest(rule.maximum, (
                   SELECT max(f.maximum) FROM former f
                   WHERE f.organization_id = rule.organization_id AND f.object_id = rule.id::text
                     AND f.at + {OFFSET} >= x.since)) AS maximum
               FROM usage_limit rule WHERE rule.organization_id = w.organization_id AND rule.id = w.limit_id
               UNION ALL
               SELECT daily_messages FROM model
               WHERE w.limit_id IS NULL AND w.meter = 'messages' AND id = w.model_id
                 AND updated_at + {OFFSET} <= x.since
               UNION ALL
               SELECT max(CASE w.meter WHEN 'messages' THEN p.daily_messages WHEN 'tokens' THEN p.monthly_tokens
                               ELSE c.requests_per_day END)
               FROM ({_PLANS}) had JOIN plan p ON p.id = had.id
               LEFT JOIN plan_capability c ON c.plan_id = p.id AND c.capability_id = w.capability
               WHERE w.limit_id IS NULL AND w.model_id = '' AND w.meter IN ('messages', 'tokens', 'requests')
               HAVING bool_and(CASE w.meter
                   WHEN 'messages' THEN p.daily_messages IS NOT NULL AND p.updated_at + {OFFSET} <= x.since
                   WHEN 'tokens' THEN p.monthly_tokens IS NOT NULL AND p.updated_at + {OFFSET} <= x.since
                   ELSE coalesce(c.requests_per_day IS NOT NULL AND c.updated_at + {OFFSET} <= x.since, false) END)) l
           WHERE w.used + w.reserved - x.amount > l.maximum""",
    ),
    Invariant(
        10,
        "the rollup of a day that is done is the sum of its usage events, and no other day has one",
        """WITH events AS (
               SELECT organization_id, (recorded_at AT TIME ZONE 'UTC')::date AS day, subject_id, channel,
                      coalesce(capability, '') AS capability, coalesce(model_id, '') AS model_id,
                      count(*) AS requests, sum(messages) AS messages,
                      coalesce(sum(messages) FILTER (WHERE trial), 0) AS trial_messages,
                      count(*) FILTER (WHERE estimated) AS estimated, sum(input_tokens) AS input_tokens,
                      sum(cached_input_tokens) AS cached_input_tokens, sum(output_tokens) AS output_tokens,
                      sum(reasoning_tokens) AS reasoning_tokens, sum(cost_nanos) AS cost_nanos,
                      sum(charged_micros) AS charged_micros
               FROM usage_event WHERE (recorded_at AT TIME ZONE 'UTC')::date IN (SELECT day FROM usage_day_done)
               GROUP BY 1, 2, 3, 4, 5, 6)
           SELECT organization_id, day, subject_id, channel, capability, model_id, d.requests, e.requests AS of_events,
                  d.charged_micros, e.charged_micros AS charged_of_events
           FROM usage_day d FULL JOIN events e
                USING (organization_id, day, subject_id, channel, capability, model_id)
           WHERE (d.requests, d.messages, d.trial_messages, d.estimated, d.input_tokens, d.cached_input_tokens,
                  d.output_tokens, d.reasoning_tokens, d.cost_nanos, d.charged_micros) IS DISTINCT FROM
                 (e.requests, e.messages, e.trial_messages, e.estimated, e.input_tokens, e.cached_input_tokens,
                  e.output_tokens, e.reasoning_tokens, e.cost_nanos, e.charged_micros)""",
    ),
    Invariant(
        11,
        "a request that still runs for its idempotency key has an open reservation, or its process was lost",
        f"""SELECT i.organization_id, i.endpoint, i.key, i.reservation_id, r.state, r.closed_at
           FROM idempotency i JOIN organization o ON o.id = i.organization_id
           LEFT JOIN reservation r ON r.organization_id = i.organization_id AND r.id = i.reservation_id
           LEFT JOIN request q ON q.organization_id = i.organization_id AND q.id = i.reservation_id
           WHERE i.status IS NULL
             AND (r.id IS NULL OR r.closed_at < {ORGANISATION_NOW} - interval '60 seconds')
             AND q.error IS DISTINCT FROM 'process lost'""",
    ),
    Invariant(
        14,
        "trial messages exceed what the model allows only by calls that were given back and settled late",
        f"""SELECT w.organization_id, w.subject_id, w.model_id, w.used, w.reserved, m.trial_messages
           FROM quota_window w JOIN model m ON m.id = w.model_id
           JOIN organization o ON o.id = w.organization_id
           CROSS JOIN LATERAL (
               SELECT min(r.created_at) AS since,
                      count(*) FILTER (WHERE r.state <> 'settled' AND r.charged_micros IS NOT NULL) AS late
               FROM reservation r
               WHERE r.organization_id = w.organization_id AND r.subject_id = w.subject_id AND r.model_id = w.model_id
                 AND r.trial) calls
           WHERE w.meter = 'trial_messages' AND w.used + w.reserved - calls.late > m.trial_messages
             AND (calls.since IS NULL OR m.updated_at + {OFFSET} <= calls.since)""",
    ),
)
