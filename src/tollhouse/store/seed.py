"""Writing the seed data: what is missing is added, what is there stays as it is.

Any statement on a catalogue table raises the catalogue's version, even one that inserts nothing: so what is there is
looked up first, and nothing is written when nothing is missing."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import LiteralString, Protocol, TypeVar
from uuid import UUID

import msgspec
from psycopg.rows import class_row

from tollhouse.seed.assistants import AssistantRow, DocumentRow
from tollhouse.seed.capabilities import CapabilityRow, PlanCapabilityRow, PlanModelRow, PlanQualityRow, QualityLevelRow
from tollhouse.seed.models import ModelRow, PriceRow, ProviderRow
from tollhouse.seed.plans import PlanRow, RateCardRow, TopupPackageRow
from tollhouse.store.catalogue import PLATFORM_ID
from tollhouse.store.db import OperatorTx


@dataclass(frozen=True, slots=True)
class ConnectionRow:
    """A connection that the environment brought."""

    id: UUID
    provider_id: str
    base_url: str
    key_ciphertext: bytes | None
    key_hint: str | None
    enabled: bool


class _Named(Protocol):
    @property
    def id(self) -> str: ...


_Row = TypeVar("_Row", bound=_Named)


async def begin(tx: OperatorTx) -> None:
    """One seeding at a time, to the end of the transaction, which reads times in UTC."""
    await tx.execute("SET LOCAL timezone = 'UTC'")
    await tx.execute("SELECT pg_advisory_xact_lock(hashtextextended('tollhouse seed', 0))")


# ------------------------------------------------------------------------------------------------------------ catalogue


async def insert_plans(tx: OperatorTx, rows: Sequence[PlanRow]) -> set[str]:
    """Each of the inserts gives the ids that were not there before."""
    return await _insert_named(
        tx,
        "SELECT id FROM plan",
        """INSERT INTO plan (id, name, rank, monthly_credits_micros, welcome_bonus_micros, monthly_tokens,
               daily_messages, max_output_tokens, charged_channels, price_cents, own_models_max)
           SELECT * FROM json_to_recordset(%s::json) AS x(id text, name text, rank smallint,
               monthly_credits_micros bigint, welcome_bonus_micros bigint, monthly_tokens bigint, daily_messages int,
               max_output_tokens int, charged_channels text[], price_cents int, own_models_max int)
           ON CONFLICT DO NOTHING RETURNING id""",
        rows,
    )


async def insert_topup_packages(tx: OperatorTx, rows: Sequence[TopupPackageRow]) -> set[str]:
    return await _insert_named(
        tx,
        "SELECT id FROM topup_package",
        """INSERT INTO topup_package (id, name, description, credits_micros, price_cents, display_order)
           SELECT * FROM json_to_recordset(%s::json) AS x(id text, name text, description text, credits_micros bigint,
               price_cents int, display_order smallint)
           ON CONFLICT DO NOTHING RETURNING id""",
        rows,
    )


async def insert_providers(tx: OperatorTx, rows: Sequence[ProviderRow]) -> set[str]:
    return await _insert_named(
        tx,
        "SELECT id FROM provider",
        """INSERT INTO provider (id, name, protocol, base_url)
           SELECT * FROM json_to_recordset(%s::json) AS x(id text, name text, protocol text, base_url text)
           ON CONFLICT DO NOTHING RETURNING id""",
        rows,
    )


async def insert_models(tx: OperatorTx, rows: Sequence[ModelRow]) -> set[str]:
    """A system default that an operator has chosen stays it."""
    return await _insert_named(
        tx,
        "SELECT id FROM model",
        """INSERT INTO model (id, provider_id, provider_model_id, display_name, description, context_window,
               max_output_tokens, sort_order, metadata, selectable, tier, price_cents, daily_messages, trial_messages,
               quality_tier, is_default, kind)
           SELECT id, provider_id, provider_model_id, display_name, description, context_window, max_output_tokens,
               sort_order, metadata, selectable, tier, price_cents, daily_messages, trial_messages, quality_tier,
               is_default AND NOT EXISTS (SELECT FROM model WHERE is_default), kind
           FROM json_to_recordset(%s::json) AS x(id text, provider_id text, provider_model_id text,
               display_name text, description text, context_window int, max_output_tokens int, sort_order int,
               metadata jsonb, selectable boolean, tier text, price_cents int, daily_messages int, trial_messages int,
               quality_tier text, is_default boolean, kind text)
           ON CONFLICT DO NOTHING RETURNING id""",
        rows,
    )


async def insert_quality_levels(tx: OperatorTx, rows: Sequence[QualityLevelRow]) -> set[str]:
    return await _insert_named(
        tx,
        "SELECT id FROM quality_level",
        """INSERT INTO quality_level (id, name, description, display_order, multiplier_permille)
           SELECT * FROM json_to_recordset(%s::json) AS x(id text, name text, description text, display_order smallint,
               multiplier_permille int)
           ON CONFLICT DO NOTHING RETURNING id""",
        rows,
    )


async def insert_capabilities(tx: OperatorTx, rows: Sequence[CapabilityRow]) -> set[str]:
    return await _insert_named(
        tx,
        "SELECT id FROM capability",
        """INSERT INTO capability (id, name, description, category, icon, estimated_micros, instructions, input_schema,
               answer_schema, max_output_tokens)
           SELECT * FROM json_to_recordset(%s::json) AS x(id text, name text, description text, category text,
               icon text, estimated_micros bigint, instructions text, input_schema jsonb, answer_schema jsonb,
               max_output_tokens int)
           ON CONFLICT DO NOTHING RETURNING id""",
        rows,
    )


async def fill_capabilities(tx: OperatorTx, rows: Sequence[CapabilityRow]) -> bool:
    """Gives instructions and schemas to those that were seeded before there were any. An operator who defined one left
    an audit row: what is empty there is meant to be. Whether there were such."""
    cursor = await tx.execute(
        """SELECT id FROM capability c
           WHERE id = ANY(%s) AND instructions = '' AND NOT EXISTS (
               SELECT FROM audit WHERE organization_id = %s AND action = 'capability.set' AND object_id = c.id)""",
        ([row.id for row in rows], PLATFORM_ID),
    )
    empty = {row[0] for row in await cursor.fetchall()}
    if not empty:
        return False
    await tx.execute(
        """UPDATE capability c
           SET instructions = x.instructions, input_schema = x.input_schema, answer_schema = x.answer_schema,
               max_output_tokens = x.max_output_tokens
           FROM json_to_recordset(%s::json) AS x(id text, instructions text, input_schema jsonb, answer_schema jsonb,
               max_output_tokens int)
           WHERE c.id = x.id""",
        (_document(row for row in rows if row.id in empty),),
    )
    return True


async def insert_rate_cards(tx: OperatorTx, rows: Sequence[RateCardRow]) -> bool:
    """Only into an installation that has no rate card. Whether it did."""
    if await (await tx.execute("SELECT FROM rate_card LIMIT 1")).fetchone() is not None:
        return False
    await tx.execute(
        """INSERT INTO rate_card (version, effective_from, micros_per_usd)
           SELECT * FROM json_to_recordset(%s::json) AS x(version int, effective_from timestamptz,
               micros_per_usd bigint)""",
        (_document(rows),),
    )
    return True


async def insert_prices(tx: OperatorTx, rows: Sequence[PriceRow]) -> None:
    if rows:
        await tx.execute(
            """INSERT INTO model_price (model_id, version, effective_from, input_nanos_per_million,
                   cached_input_nanos_per_million, output_nanos_per_million, cache_write_nanos_per_million, note,
                   source)
               SELECT * FROM json_to_recordset(%s::json) AS x(model_id text, version int, effective_from timestamptz,
                   input_nanos_per_million bigint, cached_input_nanos_per_million bigint,
                   output_nanos_per_million bigint, cache_write_nanos_per_million bigint, note text, source text)
               ON CONFLICT DO NOTHING""",
            (_document(rows),),
        )


async def insert_plan_capabilities(tx: OperatorTx, rows: Sequence[PlanCapabilityRow]) -> None:
    if rows:
        await tx.execute(
            """INSERT INTO plan_capability (plan_id, capability_id, requests_per_minute, requests_per_day)
               SELECT * FROM json_to_recordset(%s::json) AS x(plan_id text, capability_id text, requests_per_minute int,
                   requests_per_day int)
               ON CONFLICT DO NOTHING""",
            (_document(rows),),
        )


async def insert_plan_qualities(tx: OperatorTx, rows: Sequence[PlanQualityRow]) -> None:
    """Where the plan still has the capability."""
    if rows:
        await tx.execute(
            """INSERT INTO plan_capability_quality (plan_id, capability_id, quality_id)
               SELECT plan_id, capability_id, quality_id
               FROM json_to_recordset(%s::json) AS x(plan_id text, capability_id text, quality_id text)
               JOIN plan_capability USING (plan_id, capability_id)
               ON CONFLICT DO NOTHING""",
            (_document(rows),),
        )


async def insert_plan_models(tx: OperatorTx, rows: Sequence[PlanModelRow]) -> None:
    """Where the plan still has the capability at that level."""
    if rows:
        await tx.execute(
            """INSERT INTO plan_capability_model (plan_id, capability_id, quality_id, model_id, is_default, priority)
               SELECT plan_id, capability_id, quality_id, model_id, is_default, priority
               FROM json_to_recordset(%s::json) AS x(plan_id text, capability_id text, quality_id text, model_id text,
                   is_default boolean, priority smallint)
               JOIN plan_capability_quality USING (plan_id, capability_id, quality_id)
               ON CONFLICT DO NOTHING""",
            (_document(rows),),
        )


async def missing_assistants(tx: OperatorTx, rows: Sequence[AssistantRow]) -> list[AssistantRow]:
    """Those that were never there: one that an operator deleted keeps its row."""
    cursor = await tx.execute("SELECT id, slug FROM assistant WHERE organization_id = %s", (PLATFORM_ID,))
    there = await cursor.fetchall()
    ids, slugs = {row[0] for row in there}, {row[1] for row in there}
    return [row for row in rows if row.id not in ids and row.slug not in slugs]


async def insert_assistants(tx: OperatorTx, rows: Sequence[AssistantRow], now: datetime) -> None:
    """One whose plan an operator has taken away is there for every plan that is left, and switched off."""
    await tx.execute(
        """INSERT INTO assistant (organization_id, id, slug, kind, name, description, role, icon, system_message, tasks,
               tags, sort_order, business_types, required_plan_id, token_limit, token_period, trial_days, is_featured,
               is_active, created_at, updated_at)
           SELECT %(platform)s, x.id, slug, kind, x.name, description, role, icon, system_message, tasks, tags,
               sort_order, business_types, p.id, token_limit, token_period, trial_days, is_featured,
               required_plan_id IS NULL OR p.id IS NOT NULL, %(now)s, %(now)s
           FROM json_to_recordset(%(rows)s::json) AS x(id uuid, slug text, kind text, name text, description text,
               role text, icon text, system_message text, tasks jsonb, tags text[], sort_order int,
               business_types text[], required_plan_id text, token_limit bigint, token_period text, trial_days int,
               is_featured boolean)
           LEFT JOIN plan p ON p.id = required_plan_id""",
        {"platform": PLATFORM_ID, "rows": _document(rows), "now": now},
    )


async def insert_knowledge(tx: OperatorTx, assistant_id: UUID, rows: Sequence[DocumentRow], now: datetime) -> None:
    """What an assistant of the platform's knows: documents with their passages, in their order."""
    about = {"platform": PLATFORM_ID, "assistant": assistant_id, "rows": _document(rows), "now": now}
    await tx.execute(
        """INSERT INTO document (organization_id, id, assistant_id, title, source, created_at)
           SELECT %(platform)s, id, %(assistant)s, title, source, %(now)s
           FROM json_to_recordset(%(rows)s::json) AS x(id uuid, title text, source text)""",
        about,
    )
    await tx.execute(
        """INSERT INTO passage (organization_id, document_id, position, assistant_id, heading, content)
           SELECT %(platform)s, x.id, p.position, %(assistant)s, p.passage ->> 0, p.passage ->> 1
           FROM json_to_recordset(%(rows)s::json) AS x(id uuid, passages json)
           CROSS JOIN LATERAL json_array_elements(x.passages) WITH ORDINALITY AS p(passage, position)""",
        about,
    )


async def _insert_named(tx: OperatorTx, known: LiteralString, insert: LiteralString, rows: Sequence[_Row]) -> set[str]:
    there = {row[0] for row in await (await tx.execute(known)).fetchall()}
    missing = [row for row in rows if row.id not in there]
    if not missing:
        return set()
    return {row[0] for row in await (await tx.execute(insert, (_document(missing),))).fetchall()}


# ---------------------------------------------------------------------------------------------------------- connections


async def base_urls(tx: OperatorTx) -> dict[str, str | None]:
    """Every provider with the address of its own API, None where it has none."""
    return dict(await (await tx.execute("SELECT id, base_url FROM provider ORDER BY id")).fetchall())


async def environment_connections(tx: OperatorTx, organization_id: UUID) -> list[ConnectionRow]:
    async with tx.cursor(row_factory=class_row(ConnectionRow)) as cursor:
        await cursor.execute(
            """SELECT id, provider_id, base_url, key_ciphertext, key_hint, enabled FROM connection
               WHERE organization_id = %s AND origin = 'environment' ORDER BY provider_id""",
            (organization_id,),
        )
        return await cursor.fetchall()


async def write_environment_connection(
    tx: OperatorTx, organization_id: UUID, row: ConnectionRow, now: datetime
) -> None:
    """Makes the provider's connection of the environment, or changes it in place: its id stays."""
    await tx.execute(
        """INSERT INTO connection AS c (organization_id, id, provider_id, base_url, key_ciphertext, key_hint, origin,
               enabled, created_at)
           VALUES (%s, %s, %s, %s, %s, %s, 'environment', %s, %s)
           ON CONFLICT (organization_id, provider_id) WHERE origin = 'environment' DO UPDATE
           SET base_url = EXCLUDED.base_url, key_ciphertext = EXCLUDED.key_ciphertext, key_hint = EXCLUDED.key_hint,
               enabled = EXCLUDED.enabled""",
        (organization_id, row.id, row.provider_id, row.base_url, row.key_ciphertext, row.key_hint, row.enabled, now),
    )


async def disable_connections(tx: OperatorTx, organization_id: UUID, ids: Iterable[UUID]) -> None:
    await tx.execute(
        "UPDATE connection SET enabled = false WHERE organization_id = %s AND id = ANY(%s)",
        (organization_id, list(ids)),
    )


# ------------------------------------------------------------------------------------------------------------------ end


async def create_usage_partitions(tx: OperatorTx, since: datetime, until: datetime) -> None:
    await tx.execute("SELECT create_usage_partitions(%s, %s)", (since, until))


async def analyze(tx: OperatorTx) -> None:
    """Statistics of what the seed fills: without them a plan made now and kept would read whole tables."""
    await tx.execute(
        """ANALYZE plan, provider, model, model_price, rate_card, quality_level, capability, plan_capability,
               plan_capability_quality, plan_capability_model, topup_package, organization, api_key, connection,
               credit_balance, credit_grant, credit_transaction, assistant, document, passage"""
    )


def _document(rows: Iterable[object]) -> str:
    """Rows as a JSON document."""
    return str(msgspec.json.encode(list(rows)), "utf-8")
