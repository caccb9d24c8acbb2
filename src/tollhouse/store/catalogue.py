"""The catalogue, read whole: plans, models, prices, rate cards, connections, capabilities, experiments."""

from collections import defaultdict
from typing import Any
from uuid import UUID

from psycopg import AsyncConnection

from tollhouse.core.catalogue import Capability, Catalogue, Offer, Plan, Quality
from tollhouse.core.experiment import Arm, Experiment
from tollhouse.core.price import Price, RateCard
from tollhouse.core.routing import PLATFORM_ID as PLATFORM_ID
from tollhouse.core.routing import Connection, Connections, Model


async def load(tx: AsyncConnection[Any]) -> Catalogue:
    """Everything that is the same for every tenant, and the connections of all of them. The version comes first: a
    later change shows at the next look."""
    version = await (await tx.execute("SELECT version FROM catalogue_version")).fetchone()
    assert version is not None
    connections = await _connections(tx)
    return Catalogue(
        version=version[0],
        plans={plan.id: plan for plan in await plans(tx)},
        models={model.id: model for model in await models(tx)},
        prices=await _prices(tx),
        rates=await _rates(tx),
        connections=connections.pop(PLATFORM_ID, {}),
        qualities={quality.id: quality for quality in await _qualities(tx)},
        capabilities={capability.id: capability for capability in await _capabilities(tx)},
        offers=await _offers(tx),
        own_connections=connections,
        experiments=await _experiments(tx),
    )


async def _prices(tx: AsyncConnection[Any]) -> dict[str, tuple[Price, ...]]:
    """By model, newest first."""
    cursor = await tx.execute(
        """SELECT model_id, version, effective_from, free, input_nanos_per_million, cached_input_nanos_per_million,
                  output_nanos_per_million, request_nanos, reasoning_nanos_per_million, cache_write_nanos_per_million
           FROM model_price ORDER BY model_id, effective_from DESC, version DESC"""
    )
    found: dict[str, list[Price]] = defaultdict(list)
    for row in await cursor.fetchall():
        found[row[0]].append(Price(*row))
    return {model_id: tuple(prices) for model_id, prices in found.items()}


async def _rates(tx: AsyncConnection[Any]) -> tuple[RateCard, ...]:
    """Newest first, each with the multipliers of quality levels that it names."""
    cursor = await tx.execute(
        """SELECT r.version, r.effective_from, r.micros_per_usd, r.markup_permille, r.own_key_permille,
                  r.cache_hit_permille,
                  coalesce((SELECT json_object_agg(m.quality_id, m.multiplier_permille) FROM rate_card_multiplier m
                            WHERE m.rate_version = r.version), '{}')
           FROM rate_card r ORDER BY r.effective_from DESC, r.version DESC"""
    )
    return tuple([RateCard(*row) for row in await cursor.fetchall()])


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
                  daily_messages, trial_messages, max_output_tokens, created_at, kind, quality_tier, is_default,
                  deprecated_at, replacement_model_id
           FROM model ORDER BY sort_order, id"""
    )
    return [Model(*row) for row in await cursor.fetchall()]


async def _connections(tx: AsyncConnection[Any]) -> dict[UUID, Connections]:
    """Those that are switched on, by organisation and provider, each in the order in which they are asked: by priority,
    then what somebody made before what the environment brought, then the newest first."""
    cursor = await tx.execute(
        """SELECT c.organization_id, c.id, c.provider_id, p.protocol, c.base_url, c.key_ciphertext, c.priority
           FROM connection c JOIN provider p ON p.id = c.provider_id
           WHERE c.enabled
           ORDER BY c.organization_id, c.provider_id, c.priority, c.origin = 'environment', c.created_at DESC, c.id"""
    )
    found: dict[UUID, dict[str, tuple[Connection, ...]]] = defaultdict(dict)
    for row in await cursor.fetchall():
        one, of_organization = Connection(*row), found[row[0]]
        of_organization[one.provider_id] = (*of_organization.get(one.provider_id, ()), one)
    return dict(found)


async def _experiments(tx: AsyncConnection[Any]) -> tuple[Experiment, ...]:
    """Those that have not ended, earliest first: the clocks of organisations are never behind."""
    cursor = await tx.execute(
        """SELECT e.id, e.name, e.model_id, e.capability_id, e.quality_id, e.starts_at, e.ends_at,
                  json_agg(json_build_array(a.model_id, a.weight) ORDER BY a.model_id)
           FROM experiment e JOIN experiment_arm a ON a.experiment_id = e.id
           WHERE e.ends_at IS NULL OR e.ends_at > now()
           GROUP BY e.id ORDER BY e.starts_at, e.id"""
    )
    return tuple([
        Experiment(id_, name, model_id, capability, quality, starts_at, ends_at, tuple([Arm(*arm) for arm in arms]))
        for id_, name, model_id, capability, quality, starts_at, ends_at, arms in await cursor.fetchall()
    ])  # fmt: skip


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
