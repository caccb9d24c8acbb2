"""What was used, call by call, kept in monthly partitions; and by day, once a day is over."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Literal, LiteralString
from uuid import UUID

from tollhouse.store.db import TenantTx, WorkerTx

Grouping = Literal["day", "model", "user"]

# Whoever recorded something on a day has committed it by then.
SETTLED_AFTER = timedelta(minutes=10)
# A day with many events takes longer than what usually is too long.
_PATIENCE = "SET LOCAL statement_timeout = '10min'"

# By what events are summed, and the text that names each sum: the empty one for what has no model or no user.
_SUMMED: dict[Grouping, tuple[LiteralString, LiteralString]] = {
    "day": ("(e.recorded_at AT TIME ZONE 'UTC')::date", "to_char(p.part, 'YYYY-MM-DD')"),
    "model": ("e.model_id", "coalesce(p.part, '')"),
    "user": (
        "e.subject_id",
        """coalesce((SELECT u.external_id FROM end_user u
                     WHERE u.organization_id = %(organization)s AND u.id = p.part),
                    nullif(p.part, %(organization)s)::text, '')""",
    ),
}


@dataclass(frozen=True, slots=True)
class Used:
    """What was used together: a day, a model, an end user or a member, or everything. `requests` are those that were
    settled; `cost_nanos` is what they cost us."""

    name: str
    requests: int
    input_tokens: int
    cached_input_tokens: int
    output_tokens: int
    reasoning_tokens: int
    charged_micros: int
    cost_nanos: int


async def used(
    tx: TenantTx,
    organization_id: UUID,
    since: datetime,
    until: datetime,
    by: Grouping,
    limit: int,
    after: str | None,
    subject_id: UUID | None = None,
) -> tuple[list[Used], Used]:
    """At most `limit` sums of what was recorded in [since, until), in the order of their names and beginning behind
    `after`; and the sum of them all, whatever the page. With a `subject_id` only of what this one used."""
    part, name = _SUMMED[by]
    cursor = await tx.execute(
        f"""WITH parts AS (
                SELECT {part} AS part, count(*) AS requests, sum(e.input_tokens) AS given,
                       sum(e.cached_input_tokens) AS cached, sum(e.output_tokens) AS made,
                       sum(e.reasoning_tokens) AS reasoning, sum(e.charged_micros) AS charged, sum(e.cost_nanos) AS cost
                FROM usage_event e
                WHERE e.organization_id = %(organization)s
                  AND e.recorded_at >= %(since)s AND e.recorded_at < %(until)s
                  AND (%(subject)s::uuid IS NULL OR e.subject_id = %(subject)s)
                GROUP BY 1),
            named AS (SELECT {name} COLLATE "C" AS name, p.* FROM parts p),
            page AS (
                SELECT name, sum(requests), sum(given), sum(cached), sum(made), sum(reasoning), sum(charged), sum(cost)
                FROM named WHERE %(after)s::text IS NULL OR name > %(after)s
                GROUP BY name ORDER BY name LIMIT %(limit)s)
            SELECT NULL AS name, sum(requests), sum(given), sum(cached), sum(made), sum(reasoning), sum(charged),
                   sum(cost) FROM parts
            UNION ALL SELECT * FROM page
            ORDER BY name NULLS FIRST""",
        {
            "organization": organization_id,
            "since": since,
            "until": until,
            "after": after,
            "limit": limit,
            "subject": subject_id,
        },
    )
    total, *rows = [
        Used(name or "", *(int(figure or 0) for figure in figures)) for name, *figures in await cursor.fetchall()
    ]
    return rows, total


async def create_partitions(tx: WorkerTx, since: datetime, until: datetime) -> None:
    """The partitions of these months, those that exist already excepted. One worker at a time."""
    await tx.execute("SELECT pg_advisory_xact_lock(hashtextextended('tollhouse partitions', 0))")
    await tx.execute("SELECT create_usage_partitions(%s, %s)", (since, until))


async def days_to_roll_up(tx: WorkerTx, now: datetime) -> list[date]:
    """The UTC days that are over and not done, from that of the first event on, and the last two that are done: what
    came late is in them by now. In their order."""
    over = (now - SETTLED_AFTER).astimezone(UTC).date() - timedelta(days=1)
    await tx.execute(_PATIENCE)
    cursor = await tx.execute(
        """SELECT day::date FROM generate_series(
               coalesce((SELECT min(day) FROM usage_day_done),
                        (SELECT min(recorded_at) AT TIME ZONE 'UTC' FROM usage_event)::date)::timestamp,
               %(over)s::date::timestamp, interval '1 day') AS day
           WHERE NOT EXISTS (SELECT FROM usage_day_done d WHERE d.day = day.day::date)
              OR day::date IN (SELECT d.day FROM usage_day_done d WHERE d.day <= %(over)s ORDER BY d.day DESC LIMIT 2)
           ORDER BY day""",
        {"over": over},
    )
    return [row[0] for row in await cursor.fetchall()]


async def roll_up(tx: WorkerTx, day: date, now: datetime) -> bool:
    """Computes the day anew from its events. False, and nothing is done, while another worker rolls up."""
    cursor = await tx.execute("SELECT pg_try_advisory_xact_lock(hashtextextended('tollhouse roll up', 0))")
    if await cursor.fetchone() != (True,):
        return False
    await tx.execute(_PATIENCE)
    starts_at = datetime.combine(day, time(), UTC)
    await tx.execute("DELETE FROM usage_day WHERE day = %s", (day,))
    await tx.execute(
        """INSERT INTO usage_day (organization_id, day, subject_id, channel, capability, model_id, requests, messages,
               trial_messages, estimated, input_tokens, cached_input_tokens, output_tokens, reasoning_tokens,
               cost_nanos, charged_micros)
           SELECT organization_id, %s, subject_id, channel, coalesce(capability, ''), coalesce(model_id, ''),
               count(*), sum(messages), coalesce(sum(messages) FILTER (WHERE trial), 0),
               count(*) FILTER (WHERE estimated), sum(input_tokens), sum(cached_input_tokens), sum(output_tokens),
               sum(reasoning_tokens), sum(cost_nanos), sum(charged_micros)
           FROM usage_event WHERE recorded_at >= %s AND recorded_at < %s
           GROUP BY 1, 3, 4, 5, 6""",
        (day, starts_at, starts_at + timedelta(days=1)),
    )
    await tx.execute(
        """INSERT INTO usage_day_done (day, done_at) VALUES (%s, %s)
           ON CONFLICT (day) DO UPDATE SET done_at = EXCLUDED.done_at""",
        (day, now),
    )
    return True
