"""Assistants, what an organisation's admins say of them, and what they know. The platform's are everybody's to read."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, LiteralString
from uuid import UUID

from psycopg.types.json import Jsonb

from tollhouse.core.assistant import Assistant, Setting, Task
from tollhouse.core.routing import PLATFORM_ID
from tollhouse.store.db import OperatorTx, TenantTx

_COLUMNS: LiteralString = """organization_id, id, person_id, slug, kind, name, description, role, system_message, tasks,
    icon, model_id, max_output_tokens, business_types, required_plan_id, token_limit, token_period, trial_days, tags,
    is_free, is_featured, is_active, sort_order, created_at, updated_at"""
_FIELDS = tuple(name.strip() for name in _COLUMNS.split(","))
# The platform's that are switched on, the organisation's, and the person's own.
_VISIBLE: LiteralString = """deleted_at IS NULL AND is_active AND (
    organization_id = %(platform)s
    OR (organization_id = %(organization)s AND (person_id IS NULL OR person_id = %(person)s)))"""


@dataclass(frozen=True, slots=True)
class Document:
    """A document as it is listed. `passages`: how many it was cut into."""

    id: UUID
    title: str
    source: str
    passages: int
    created_at: datetime


async def visible(tx: TenantTx | OperatorTx, organization_id: UUID, person_id: UUID) -> list[Assistant]:
    """All that a person may be offered, in the order in which they are shown: featured ones first."""
    cursor = await tx.execute(
        f"""SELECT {_COLUMNS} FROM assistant WHERE {_VISIBLE}
            ORDER BY is_featured DESC, sort_order, name, id""",
        {"platform": PLATFORM_ID, "organization": organization_id, "person": person_id},
    )
    return [_assistant(row) for row in await cursor.fetchall()]


async def find(tx: TenantTx | OperatorTx, organization_id: UUID, assistant_id: UUID) -> Assistant | None:
    """The organisation's or the platform's, also one that is switched off; None for one that was deleted."""
    cursor = await tx.execute(
        f"""SELECT {_COLUMNS} FROM assistant
            WHERE id = %s AND organization_id IN (%s, %s) AND deleted_at IS NULL""",
        (assistant_id, organization_id, PLATFORM_ID),
    )
    row = await cursor.fetchone()
    return None if row is None else _assistant(row)


async def by_slug(
    tx: TenantTx | OperatorTx, organization_id: UUID, person_id: UUID, slug: str
) -> Assistant | None:  # fmt: skip
    """Of those that `visible` gives; where the platform has taken the same slug since, the organisation's own."""
    cursor = await tx.execute(
        f"""SELECT {_COLUMNS} FROM assistant WHERE {_VISIBLE} AND slug = %(slug)s
            ORDER BY organization_id = %(platform)s LIMIT 1""",
        {"platform": PLATFORM_ID, "organization": organization_id, "person": person_id, "slug": slug},
    )
    row = await cursor.fetchone()
    return None if row is None else _assistant(row)


def _assistant(row: tuple[Any, ...]) -> Assistant:
    fields = dict(zip(_FIELDS, row, strict=True))
    fields["tasks"] = tuple([Task(**one) for one in fields["tasks"]])
    return Assistant(**fields | {name: tuple(fields[name]) for name in ("business_types", "tags")})


async def insert(tx: OperatorTx | TenantTx, one: Assistant) -> None:
    tasks = Jsonb([{"name": task.name, "prompt": task.prompt} for task in one.tasks])
    await tx.execute(
        f"""INSERT INTO assistant ({_COLUMNS})
            VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s,
                    %s)""",
        (one.organization_id, one.id, one.person_id, one.slug, one.kind, one.name, one.description, one.role,
         one.system_message, tasks, one.icon, one.model_id, one.max_output_tokens, list(one.business_types),
         one.required_plan_id, one.token_limit, one.token_period, one.trial_days, list(one.tags), one.is_free,
         one.is_featured, one.is_active, one.sort_order, one.created_at, one.updated_at),
    )  # fmt: skip


async def update(tx: OperatorTx | TenantTx, one: Assistant) -> None:
    """All that may be changed of it; whose it is, its kind and its slug stay."""
    tasks = Jsonb([{"name": task.name, "prompt": task.prompt} for task in one.tasks])
    await tx.execute(
        """UPDATE assistant SET name = %s, description = %s, role = %s, system_message = %s, tasks = %s, icon = %s,
               model_id = %s, token_limit = %s, token_period = %s, updated_at = %s
           WHERE organization_id = %s AND id = %s""",
        (one.name, one.description, one.role, one.system_message, tasks, one.icon, one.model_id, one.token_limit,
         one.token_period, one.updated_at, one.organization_id, one.id),
    )  # fmt: skip


async def slugs(tx: TenantTx | OperatorTx, organization_id: UUID) -> set[str]:
    """All that are taken in the organisation, deleted assistants' too, and the platform's."""
    cursor = await tx.execute(
        "SELECT slug FROM assistant WHERE organization_id IN (%s, %s)", (organization_id, PLATFORM_ID)
    )
    return {row[0] for row in await cursor.fetchall()}


async def delete(tx: TenantTx | OperatorTx, organization_id: UUID, assistant_id: UUID, at: datetime) -> bool:
    """It is shown and used no more; conversations with it stay. False when there is none."""
    cursor = await tx.execute(
        """UPDATE assistant SET deleted_at = %s, updated_at = %s
           WHERE organization_id = %s AND id = %s AND deleted_at IS NULL""",
        (at, at, organization_id, assistant_id),
    )
    return cursor.rowcount == 1


# ------------------------------------------------------------------------------------------------------------- settings


async def settings(tx: TenantTx | OperatorTx, organization_id: UUID) -> dict[UUID, Setting]:
    """What the organisation's admins have said, by assistant."""
    cursor = await tx.execute(
        "SELECT assistant_id, enabled, token_limit FROM assistant_setting WHERE organization_id = %s",
        (organization_id,),
    )
    return {row[0]: Setting(*row) for row in await cursor.fetchall()}


async def put_setting(tx: TenantTx | OperatorTx, organization_id: UUID, setting: Setting, now: datetime) -> None:
    await tx.execute(
        """INSERT INTO assistant_setting (organization_id, assistant_id, enabled, token_limit, updated_at)
           VALUES (%s, %s, %s, %s, %s)
           ON CONFLICT (organization_id, assistant_id) DO UPDATE
           SET enabled = EXCLUDED.enabled, token_limit = EXCLUDED.token_limit, updated_at = EXCLUDED.updated_at""",
        (organization_id, setting.assistant_id, setting.enabled, setting.token_limit, now),
    )


async def first_used(tx: TenantTx | OperatorTx, organization_id: UUID, ids: list[UUID]) -> dict[UUID, datetime]:
    """When the organisation first used each of these that it used at all."""
    cursor = await tx.execute(
        """SELECT x.id, u.created_at FROM unnest(%s::uuid[]) AS x(id)
           CROSS JOIN LATERAL (
               SELECT created_at FROM assistant_use
               WHERE organization_id = %s AND assistant_id = x.id ORDER BY created_at LIMIT 1) u""",
        (ids, organization_id),
    )
    return dict(await cursor.fetchall())


# ------------------------------------------------------------------------------------------------------------ documents


async def documents(tx: TenantTx | OperatorTx, assistant: Assistant) -> list[Document]:
    cursor = await tx.execute(
        """SELECT d.id, d.title, d.source,
                  (SELECT count(*) FROM passage p
                   WHERE (p.organization_id, p.document_id) = (d.organization_id, d.id)), d.created_at
           FROM document d WHERE d.organization_id = %s AND d.assistant_id = %s ORDER BY d.created_at, d.id""",
        (assistant.organization_id, assistant.id),
    )
    return [Document(*row) for row in await cursor.fetchall()]


# ------------------------------------------------------------------------------------------------------------------ use


@dataclass(frozen=True, slots=True)
class DayOfUse:
    """What somebody used of an assistant on the day (UTC) that begins then."""

    day: datetime
    requests: int
    tokens: int


async def use_by_day(
    tx: TenantTx, organization_id: UUID, person_id: UUID, assistant_id: UUID, since: datetime
) -> list[DayOfUse]:
    """The days since then on which the person used it, earliest first; by real time."""
    cursor = await tx.execute(
        """SELECT date_trunc('day', e.recorded_at, 'UTC'), count(*), sum(e.input_tokens + e.output_tokens)
           FROM usage_event e
           JOIN assistant_use u ON u.organization_id = e.organization_id AND u.request_id = e.reservation_id
           WHERE e.organization_id = %s AND e.subject_id = %s AND e.key_id IS NULL AND e.recorded_at >= %s
             AND u.assistant_id = %s
           GROUP BY 1 ORDER BY 1""",
        (organization_id, person_id, since, assistant_id),
    )
    return [DayOfUse(day, requests, int(tokens)) for day, requests, tokens in await cursor.fetchall()]
