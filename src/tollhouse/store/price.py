"""Prices of models and rate cards, as they are added: nothing of them is ever changed or taken away."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from psycopg import AsyncConnection

from tollhouse.core.price import Price, RateCard
from tollhouse.store.db import OperatorTx

Source = Literal["seed", "operator", "import"]


@dataclass(frozen=True, slots=True)
class PriceVersion:
    price: Price
    note: str
    source: Source


@dataclass(frozen=True, slots=True)
class RateVersion:
    card: RateCard
    note: str


@dataclass(frozen=True, slots=True)
class ListedModel:
    """A model that a provider sells, and where; `price` is the one in force."""

    model_id: str
    provider_id: str
    base_url: str | None
    provider_model_id: str
    price: Price | None


async def is_model(tx: AsyncConnection[Any], model_id: str) -> bool:
    return await (await tx.execute("SELECT FROM model WHERE id = %s", (model_id,))).fetchone() is not None


async def qualities(tx: AsyncConnection[Any]) -> set[str]:
    """The ids of the quality levels, also of those that are switched off."""
    return {row[0] for row in await (await tx.execute("SELECT id FROM quality_level")).fetchall()}


async def prices(tx: AsyncConnection[Any], model_id: str) -> list[PriceVersion]:
    """All versions, the one that is effective last first: the first that has begun is in force."""
    cursor = await tx.execute(
        """SELECT model_id, version, effective_from, free, input_nanos_per_million, cached_input_nanos_per_million,
                  output_nanos_per_million, request_nanos, reasoning_nanos_per_million, cache_write_nanos_per_million,
                  note, source
           FROM model_price WHERE model_id = %s ORDER BY effective_from DESC, version DESC""",
        (model_id,),
    )
    return [PriceVersion(Price(*row[:-2]), *row[-2:]) for row in await cursor.fetchall()]


async def insert_price(tx: OperatorTx, row: PriceVersion) -> None:
    price = row.price
    await tx.execute(
        """INSERT INTO model_price (model_id, version, effective_from, free, input_nanos_per_million,
               cached_input_nanos_per_million, output_nanos_per_million, request_nanos, reasoning_nanos_per_million,
               cache_write_nanos_per_million, note, source)
           VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)""",
        (price.model_id, price.version, price.effective_from, price.free, price.input_nanos_per_million,
         price.cached_input_nanos_per_million, price.output_nanos_per_million, price.request_nanos,
         price.reasoning_nanos_per_million, price.cache_write_nanos_per_million, row.note, row.source),
    )  # fmt: skip


async def listed_models(tx: AsyncConnection[Any], now: datetime) -> list[ListedModel]:
    """The models of all providers but the sandbox, in the order in which they are shown, also those that are switched
    off."""
    cursor = await tx.execute(
        """SELECT m.id, m.provider_id, p.base_url, m.provider_model_id, c.model_id, c.version, c.effective_from, c.free,
                  c.input_nanos_per_million, c.cached_input_nanos_per_million, c.output_nanos_per_million,
                  c.request_nanos, c.reasoning_nanos_per_million, c.cache_write_nanos_per_million
           FROM model m JOIN provider p ON p.id = m.provider_id
           LEFT JOIN LATERAL (SELECT * FROM model_price WHERE model_id = m.id AND effective_from <= %s
                              ORDER BY effective_from DESC, version DESC LIMIT 1) c ON true
           WHERE p.protocol <> 'sandbox' ORDER BY m.sort_order, m.id""",
        (now,),
    )
    return [ListedModel(*(*row[:4], None if row[4] is None else Price(*row[4:]))) for row in await cursor.fetchall()]


async def rate_cards(tx: AsyncConnection[Any]) -> list[RateVersion]:
    """All versions, the one that is effective last first: the first that has begun is in force."""
    cursor = await tx.execute(
        """SELECT version, effective_from, micros_per_usd, markup_permille, own_key_permille, cache_hit_permille,
                  coalesce((SELECT json_object_agg(quality_id, multiplier_permille ORDER BY quality_id)
                            FROM rate_card_multiplier WHERE rate_version = version), '{}'), note
           FROM rate_card ORDER BY effective_from DESC, version DESC"""
    )
    return [RateVersion(RateCard(*row[:-1]), row[-1]) for row in await cursor.fetchall()]


async def insert_rate_card(tx: OperatorTx, row: RateVersion) -> None:
    card = row.card
    await tx.execute(
        """INSERT INTO rate_card (version, effective_from, micros_per_usd, markup_permille, own_key_permille,
               cache_hit_permille, note)
           VALUES (%s, %s, %s, %s, %s, %s, %s)""",
        (card.version, card.effective_from, card.micros_per_usd, card.markup_permille, card.own_key_permille,
         card.cache_hit_permille, row.note),
    )  # fmt: skip
    if card.multipliers:
        await tx.execute(
            """INSERT INTO rate_card_multiplier (rate_version, quality_id, multiplier_permille)
               SELECT %s, * FROM unnest(%s::text[], %s::int[])""",
            (card.version, list(card.multipliers), list(card.multipliers.values())),
        )
