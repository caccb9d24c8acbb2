"""The catalogue, read whole: plans, models, prices, rate cards, connections of the platform, capabilities."""

from collections import defaultdict
from typing import Any
from uuid import UUID

from psycopg import AsyncConnection

from tollhouse.core.catalogue import Capability, Catalogue, Offer, Plan, Quality
from tollhouse.core.price import Price, RateCard
from tollhouse.core.routing import Connection, Model

PLATFORM_ID = UUID(int=0)


async def load(tx: AsyncConnection[Any]) -> Catalogue:
    """Everything that is the same for every tenant. The version comes first: a later change shows at the next look."""
    version = await (await tx.execute("SELECT version FROM catalogue_version")).fetchone()
    assert version is not None
    prices: dict[str, list[Price]] = defaultdict(list)
    for row in await (
        await tx.execute(
            """SELECT model_id, version, effective_from, free, input_nanos_per_million, cached_input_nanos_per_million,
                      output_nanos_per_million, request_nanos
               FROM model_price ORDER BY model_id, effective_from DESC, version DESC"""
        )
    ).fetchall():
        prices[row[0]].append(Price(*row))
    rates = await (
        await tx.execute(
            "SELECT version, effective_from, micros_per_usd FROM rate_card ORDER BY effective_from DESC, version DESC"
        )
    ).fetchall()
    return Catalogue(
        version=version[0],
        plans={plan.id: plan for plan in await plans(tx)},
        models={model.id: model for model in await models(tx)},
        prices={model_id: tuple(found) for model_id, found in prices.items()},
        rates=tuple(RateCard(*row) for row in rates),
        connections={connection.provider_id: connection for connection in await _connections(tx)},
        qualities={quality.id: quality for quality in await _qualities(tx)},
        capabilities={capability.id: capability for capability in await _capabilities(tx)},
        offers=await _offers(tx),
    )


async def plans(tx: AsyncConnection[Any]) -> list[Plan]:
    """All plans, lowest rank first."""
    cursor = await tx.execute(
        """SELECT id, name, rank, monthly_credits_micros, welcome_bonus_micros, monthly_tokens, daily_messages,
                  max_output_tokens, charged_channels, price_cents
           FROM plan ORDER BY rank"""
    )
    return [Plan(*(*row[:-2], frozenset(row[-2]), row[-1])) for row in await cursor.fetchall()]


async def models(tx: AsyncConnection[Any]) -> list[Model]:
    """All models in the order in which they are shown, also those that are switched off."""
    cursor = await tx.execute(
        """SELECT id, provider_id, provider_model_id, display_name, enabled, selectable, tier, price_cents,
                  daily_messages, trial_messages, max_output_tokens, created_at
           FROM model ORDER BY sort_order, id"""
    )
    return [Model(*row) for row in await cursor.fetchall()]


async def _connections(tx: AsyncConnection[Any]) -> list[Connection]:
    """One per provider: what an operator made before what the environment brought."""
    cursor = await tx.execute(
        """SELECT DISTINCT ON (c.provider_id) c.id, c.provider_id, p.protocol, c.base_url, c.key_ciphertext
           FROM connection c JOIN provider p ON p.id = c.provider_id
           WHERE c.organization_id = %s AND c.enabled
           ORDER BY c.provider_id, c.origin DESC, c.created_at DESC""",
        (PLATFORM_ID,),
    )
    return [Connection(*row) for row in await cursor.fetchall()]


async def _qualities(tx: AsyncConnection[Any]) -> list[Quality]:
    cursor = await tx.execute(
        """SELECT id, name, display_order, multiplier_permille FROM quality_level
           WHERE is_active ORDER BY display_order, id"""
    )
    return [Quality(*row) for row in await cursor.fetchall()]


async def _capabilities(tx: AsyncConnection[Any]) -> list[Capability]:
    cursor = await tx.execute(
        """SELECT id, name, description, estimated_micros, is_active, instructions, input_schema, answer_schema,
                  max_output_tokens
           FROM capability ORDER BY id"""
    )
    return [Capability(*row) for row in await cursor.fetchall()]


async def _offers(tx: AsyncConnection[Any]) -> dict[str, dict[str, Offer]]:
    """By plan and capability. A plan all of whose capabilities are switched off is there, with none."""
    cursor = await tx.execute(
        """SELECT p.plan_id, p.capability_id, p.is_enabled, p.requests_per_minute, p.requests_per_day,
                  coalesce((SELECT json_object_agg(q.quality_id, (
                                SELECT coalesce(json_agg(m.model_id ORDER BY m.is_default DESC, m.priority), '[]')
                                FROM plan_capability_model m
                                WHERE (m.plan_id, m.capability_id, m.quality_id)
                                      = (q.plan_id, q.capability_id, q.quality_id)))
                            FROM plan_capability_quality q JOIN quality_level l ON l.id = q.quality_id AND l.is_active
                            WHERE (q.plan_id, q.capability_id) = (p.plan_id, p.capability_id)), '{}')
           FROM plan_capability p ORDER BY p.plan_id, p.capability_id"""
    )
    found: dict[str, dict[str, Offer]] = defaultdict(dict)
    for plan_id, capability_id, is_enabled, a_minute, a_day, levels in await cursor.fetchall():
        of_plan = found[plan_id]
        if is_enabled:
            models = {quality_id: tuple(ids) for quality_id, ids in levels.items()}
            of_plan[capability_id] = Offer(capability_id, a_minute, a_day, models)
    return dict(found)
