"""Capabilities, and which plan offers them: what operators define. What is in force is read with the catalogue."""

from collections.abc import Mapping
from dataclasses import dataclass

from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from tollhouse.core.catalogue import Capability
from tollhouse.store.db import OperatorTx, TenantTx


@dataclass(frozen=True, slots=True)
class OfferRow:
    """What a plan says of a capability; `quality_levels` by level, each with its models in the order in which they are
    asked. Requests None: unlimited."""

    plan_id: str
    capability_id: str
    is_enabled: bool
    requests_per_minute: int | None
    requests_per_day: int | None
    quality_levels: Mapping[str, list[str]]


async def find(tx: OperatorTx | TenantTx, capability_id: str) -> Capability | None:
    async with tx.cursor(row_factory=class_row(Capability)) as cursor:
        await cursor.execute(
            """SELECT id, name, description, estimated_micros, is_active, instructions, input_schema, answer_schema,
                      max_output_tokens
               FROM capability WHERE id = %s""",
            (capability_id,),
        )
        return await cursor.fetchone()


async def write(tx: OperatorTx, row: Capability) -> None:
    """Makes the capability, or makes it so."""
    await tx.execute(
        """INSERT INTO capability (id, name, description, estimated_micros, is_active, instructions, input_schema,
               answer_schema, max_output_tokens)
           VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)
           ON CONFLICT (id) DO UPDATE
           SET name = EXCLUDED.name, description = EXCLUDED.description, estimated_micros = EXCLUDED.estimated_micros,
               is_active = EXCLUDED.is_active, instructions = EXCLUDED.instructions,
               input_schema = EXCLUDED.input_schema, answer_schema = EXCLUDED.answer_schema,
               max_output_tokens = EXCLUDED.max_output_tokens""",
        (row.id, row.name, row.description, row.estimated_micros, row.is_active, row.instructions,
         None if row.input_schema is None else Jsonb(row.input_schema),
         None if row.answer_schema is None else Jsonb(row.answer_schema), row.max_output_tokens),
    )  # fmt: skip


async def offers(tx: OperatorTx) -> list[OfferRow]:
    """What plans say of their own, switched off or not, lowest plan first."""
    async with tx.cursor(row_factory=class_row(OfferRow)) as cursor:
        await cursor.execute(
            """SELECT o.plan_id, o.capability_id, o.is_enabled, o.requests_per_minute, o.requests_per_day,
                      coalesce((SELECT json_object_agg(q.quality_id, array(
                                    SELECT m.model_id FROM plan_capability_model m
                                    WHERE (m.plan_id, m.capability_id, m.quality_id)
                                          = (q.plan_id, q.capability_id, q.quality_id)
                                    ORDER BY m.is_default DESC, m.priority) ORDER BY l.display_order, l.id)
                                FROM plan_capability_quality q JOIN quality_level l ON l.id = q.quality_id
                                WHERE (q.plan_id, q.capability_id) = (o.plan_id, o.capability_id)),
                               '{}') AS quality_levels
               FROM plan_capability o JOIN plan p ON p.id = o.plan_id
               ORDER BY p.rank, o.capability_id"""
        )
        return await cursor.fetchall()


async def write_offer(tx: OperatorTx, row: OfferRow) -> None:
    """The plan says this of the capability, and nothing else. The first model of a level is its default."""
    await tx.execute(
        """INSERT INTO plan_capability (plan_id, capability_id, is_enabled, requests_per_minute, requests_per_day)
           VALUES (%s, %s, %s, %s, %s)
           ON CONFLICT (plan_id, capability_id) DO UPDATE
           SET is_enabled = EXCLUDED.is_enabled, requests_per_minute = EXCLUDED.requests_per_minute,
               requests_per_day = EXCLUDED.requests_per_day""",
        (row.plan_id, row.capability_id, row.is_enabled, row.requests_per_minute, row.requests_per_day),
    )
    await tx.execute(
        "DELETE FROM plan_capability_quality WHERE plan_id = %s AND capability_id = %s",
        (row.plan_id, row.capability_id),
    )
    await tx.execute(
        """INSERT INTO plan_capability_quality (plan_id, capability_id, quality_id)
           SELECT %s, %s, unnest(%s::text[])""",
        (row.plan_id, row.capability_id, list(row.quality_levels)),
    )
    models = [(level, model) for level, ids in row.quality_levels.items() for model in ids]
    await tx.execute(
        """INSERT INTO plan_capability_model (plan_id, capability_id, quality_id, model_id, is_default, priority)
           SELECT %s, %s, quality_id, model_id, priority = 1, priority
           FROM (SELECT quality_id, model_id, row_number() OVER (PARTITION BY quality_id ORDER BY n) AS priority
                 FROM unnest(%s::text[], %s::text[]) WITH ORDINALITY AS x(quality_id, model_id, n)) AS of_level""",
        (row.plan_id, row.capability_id, [level for level, _ in models], [model for _, model in models]),
    )


async def delete_offer(tx: OperatorTx, plan_id: str, capability_id: str) -> bool:
    """Whether the plan had said something of the capability."""
    cursor = await tx.execute(
        "DELETE FROM plan_capability WHERE plan_id = %s AND capability_id = %s", (plan_id, capability_id)
    )
    return cursor.rowcount == 1
