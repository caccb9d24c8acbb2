"""End users of host applications: known by the id that the application calls them by."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from tollhouse.store.db import TenantTx


@dataclass(frozen=True, slots=True)
class Sum:
    """What was used together; `requests` are those that were settled."""

    requests: int
    input_tokens: int
    output_tokens: int
    charged_micros: int


@dataclass(frozen=True, slots=True)
class EndUser:
    """`created_at`: when they were first seen. The sums are of the day and the month until the moment of asking."""

    external_id: str
    created_at: datetime
    day: Sum
    month: Sum


async def page(
    tx: TenantTx, organization_id: UUID, day: datetime, month: datetime, limit: int, after: str | None
) -> list[EndUser]:
    """At most `limit` of the organisation's end users in the order of their names and behind `after`, with what was
    recorded for them since the beginnings of the day and of the month, in real time."""
    cursor = await tx.execute(
        """WITH page AS (
               SELECT id, external_id AS name, created_at FROM end_user
               WHERE organization_id = %(organization)s AND (%(after)s::text IS NULL OR external_id > %(after)s)
               ORDER BY external_id LIMIT %(limit)s),
           used AS (
               SELECT subject_id,
                      count(*) FILTER (WHERE recorded_at >= %(day)s) AS requests_today,
                      sum(input_tokens) FILTER (WHERE recorded_at >= %(day)s) AS given_today,
                      sum(output_tokens) FILTER (WHERE recorded_at >= %(day)s) AS made_today,
                      sum(charged_micros) FILTER (WHERE recorded_at >= %(day)s) AS charged_today,
                      count(*) AS requests, sum(input_tokens) AS given, sum(output_tokens) AS made,
                      sum(charged_micros) AS charged
               FROM usage_event
               WHERE organization_id = %(organization)s AND recorded_at >= %(month)s
                 AND subject_id IN (SELECT id FROM page)
               GROUP BY subject_id)
           SELECT p.name, p.created_at, u.requests_today, u.given_today, u.made_today, u.charged_today, u.requests,
                  u.given, u.made, u.charged
           FROM page p LEFT JOIN used u ON u.subject_id = p.id ORDER BY p.name""",
        {"organization": organization_id, "after": after, "day": day, "month": month, "limit": limit},
    )
    return [
        EndUser(name, created_at, Sum(*(int(one or 0) for one in sums[:4])), Sum(*(int(one or 0) for one in sums[4:])))
        for name, created_at, *sums in await cursor.fetchall()
    ]
