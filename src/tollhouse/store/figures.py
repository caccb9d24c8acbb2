"""What somebody used themselves: their own calls, by day and model, by assistant, and one by one.

Days that are over are read from usage_day, the others from the events. Calls with an API key are nobody's own
(`key_id IS NULL`), so that the index of those that are stays small."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from uuid import UUID

from psycopg.rows import class_row

from tollhouse.core.figures import Part, Sum
from tollhouse.store.db import TenantTx

# How many of the last calls are looked at for how quick and how whole the answers of a model are.
SAMPLE = 1_000


@dataclass(frozen=True, slots=True)
class OfAssistant:
    """What was used with an assistant. `assistant_id` None: with none; then `in_chat` tells a bare model in a
    conversation from what came in another way. `name` None: there is no such assistant any more."""

    assistant_id: UUID | None
    in_chat: bool
    name: str | None
    sum: Sum


@dataclass(frozen=True, slots=True)
class Answers:
    """How a model answered, of the sample. Times in milliseconds, None where none was measured; `incomplete`: broken
    off, or stopped."""

    model_id: str
    calls: int
    incomplete: int
    first_token_median_ms: float | None
    first_token_p95_ms: float | None
    duration_median_ms: float | None
    duration_p95_ms: float | None


@dataclass(frozen=True, slots=True)
class Rated:
    """How the answers of a model were rated."""

    model_id: str
    up: int
    down: int


@dataclass(frozen=True, slots=True)
class Call:
    """A settled call. `id` is the event's, `request_id` the one that answers carry; `state` None: the call was not made
    here."""

    id: UUID
    request_id: UUID
    recorded_at: datetime
    model_id: str | None
    capability: str | None
    channel: str
    assistant: str | None
    state: str | None
    trial: bool
    estimated: bool
    input_tokens: int
    output_tokens: int
    charged_micros: int
    cost_nanos: int
    first_token_ms: int | None
    duration_ms: int | None


async def parts(tx: TenantTx, organization_id: UUID, subject_id: UUID, since: date, today: date) -> list[Part]:
    """By UTC day and model, of the days from `since` to `today`, in their order."""
    cursor = await tx.execute(
        """WITH days AS MATERIALIZED (
               SELECT d.day::date AS day,
                      d.day < %(today)s AND EXISTS (SELECT FROM usage_day_done x WHERE x.day = d.day::date) AS done
               FROM generate_series(%(since)s::date::timestamp, %(today)s::date::timestamp, interval '1 day')
                        AS d(day)),
           sums AS (
               SELECT u.day, u.model_id, u.requests, u.messages, u.input_tokens, u.output_tokens, u.charged_micros,
                      u.cost_nanos
               FROM days d CROSS JOIN LATERAL (
                   SELECT * FROM usage_day
                   WHERE organization_id = %(organization)s AND day = d.day AND subject_id = %(subject)s) AS u
               WHERE d.done
               UNION ALL
               SELECT d.day, coalesce(e.model_id, ''), 1, e.messages, e.input_tokens, e.output_tokens, e.charged_micros,
                      e.cost_nanos
               FROM usage_event e JOIN days d ON d.day = (e.recorded_at AT TIME ZONE 'UTC')::date AND NOT d.done
               WHERE e.organization_id = %(organization)s AND e.subject_id = %(subject)s AND e.key_id IS NULL
                 AND e.recorded_at >= (SELECT min(day)::timestamp AT TIME ZONE 'UTC' FROM days WHERE NOT done))
           SELECT day, model_id, sum(requests), sum(messages), sum(input_tokens), sum(output_tokens),
                  sum(charged_micros), sum(cost_nanos)
           FROM sums GROUP BY day, model_id ORDER BY day, model_id""",
        {"organization": organization_id, "subject": subject_id, "since": since, "today": today},
    )
    return [Part(day, model_id, Sum(*map(int, sums))) for day, model_id, *sums in await cursor.fetchall()]


async def of_assistants(tx: TenantTx, organization_id: UUID, subject_id: UUID, since: date) -> list[OfAssistant]:
    """By assistant, from this UTC day on; what was used most comes first."""
    cursor = await tx.execute(
        """WITH sums AS (
               SELECT u.assistant_id, u.request_id IS NOT NULL AS in_chat, count(*) AS requests,
                      sum(e.messages), sum(e.input_tokens), sum(e.output_tokens), sum(e.charged_micros),
                      sum(e.cost_nanos)
               FROM usage_event e
               LEFT JOIN assistant_use u ON u.organization_id = e.organization_id AND u.request_id = e.reservation_id
                   AND u.subject_id = e.subject_id
               WHERE e.organization_id = %(organization)s AND e.subject_id = %(subject)s AND e.key_id IS NULL
                 AND e.recorded_at >= %(since)s
               GROUP BY 1, 2)
           SELECT s.assistant_id, s.in_chat, (SELECT a.name FROM assistant a WHERE a.id = s.assistant_id), s.*
           FROM sums s ORDER BY s.requests DESC, s.assistant_id, s.in_chat""",
        {"organization": organization_id, "subject": subject_id, "since": _start(since)},
    )
    return [
        OfAssistant(assistant_id, in_chat, name, Sum(*map(int, sums)))
        for assistant_id, in_chat, name, _, _, *sums in await cursor.fetchall()
    ]


async def answers(tx: TenantTx, organization_id: UUID, subject_id: UUID, since: date) -> list[Answers]:
    """By model, of their last calls from this UTC day on, `SAMPLE` at most."""
    async with tx.cursor(row_factory=class_row(Answers)) as cursor:
        await cursor.execute(
            """WITH sample AS MATERIALIZED (
                   SELECT e.reservation_id, e.model_id, e.first_token_ms, e.duration_ms FROM usage_event e
                   WHERE e.organization_id = %(organization)s AND e.subject_id = %(subject)s AND e.key_id IS NULL
                     AND e.recorded_at >= %(since)s
                   ORDER BY e.recorded_at DESC LIMIT %(sample)s)
               SELECT s.model_id, count(*) AS calls, count(*) FILTER (WHERE q.state = 'incomplete') AS incomplete,
                      percentile_cont(0.5) WITHIN GROUP (ORDER BY s.first_token_ms) AS first_token_median_ms,
                      percentile_cont(0.95) WITHIN GROUP (ORDER BY s.first_token_ms) AS first_token_p95_ms,
                      percentile_cont(0.5) WITHIN GROUP (ORDER BY s.duration_ms) AS duration_median_ms,
                      percentile_cont(0.95) WITHIN GROUP (ORDER BY s.duration_ms) AS duration_p95_ms
               FROM sample s CROSS JOIN LATERAL (
                   SELECT state FROM request WHERE organization_id = %(organization)s AND id = s.reservation_id
                   LIMIT 1) AS q
               WHERE s.model_id IS NOT NULL GROUP BY s.model_id ORDER BY calls DESC, s.model_id""",
            {"organization": organization_id, "subject": subject_id, "since": _start(since), "sample": SAMPLE},
        )
        return await cursor.fetchall()


async def ratings(tx: TenantTx, organization_id: UUID, subject_id: UUID, since: date) -> dict[str, Rated]:
    """By model: how they rated its answers that they got from this UTC day on."""
    async with tx.cursor(row_factory=class_row(Rated)) as cursor:
        await cursor.execute(
            """SELECT model_id, count(*) FILTER (WHERE rating = 1) AS up, count(*) FILTER (WHERE rating = -1) AS down
               FROM assistant_use
               WHERE organization_id = %s AND subject_id = %s AND created_at >= %s AND rating IS NOT NULL
               GROUP BY model_id""",
            (organization_id, subject_id, _start(since)),
        )
        return {row.model_id: row for row in await cursor.fetchall()}


async def calls(
    tx: TenantTx, organization_id: UUID, subject_id: UUID, limit: int, before: tuple[datetime, UUID] | None
) -> list[Call]:
    """At most so many calls, newest first, of those recorded before the moment (and below the id) at which the page
    before ended."""
    async with tx.cursor(row_factory=class_row(Call)) as cursor:
        await cursor.execute(
            """WITH page AS MATERIALIZED (
                   SELECT * FROM usage_event e
                   WHERE e.organization_id = %(organization)s AND e.subject_id = %(subject)s AND e.key_id IS NULL
                     AND (%(at)s::timestamptz IS NULL OR (e.recorded_at, e.id) < (%(at)s, %(id)s))
                   ORDER BY e.recorded_at DESC, e.id DESC LIMIT %(limit)s)
               SELECT p.id, p.reservation_id AS request_id, p.recorded_at, p.model_id, p.capability, p.channel,
                      (SELECT a.name FROM assistant_use u JOIN assistant a ON a.id = u.assistant_id
                       WHERE u.organization_id = %(organization)s AND u.request_id = p.reservation_id LIMIT 1)
                          AS assistant,
                      (SELECT q.state FROM request q
                       WHERE q.organization_id = %(organization)s AND q.id = p.reservation_id) AS state,
                      p.trial, p.estimated, p.input_tokens, p.output_tokens, p.charged_micros, p.cost_nanos,
                      p.first_token_ms, p.duration_ms
               FROM page p ORDER BY p.recorded_at DESC, p.id DESC""",
            {"organization": organization_id, "subject": subject_id, "limit": limit,
             "at": before[0] if before else None, "id": before[1] if before else None},
        )  # fmt: skip
        return await cursor.fetchall()


async def model_names(tx: TenantTx, organization_id: UUID) -> dict[str, str]:
    """What the models are called, by their ids: those of the catalogue, and the organisation's own."""
    cursor = await tx.execute(
        """SELECT id, display_name FROM model
           UNION ALL SELECT 'own/' || id, name FROM own_model WHERE organization_id = %s""",
        (organization_id,),
    )
    return {row[0]: row[1] for row in await cursor.fetchall()}


def _start(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)
