"""Prices and rate cards: a version is added, in one transaction with its audit row in the platform's chain, and none is
ever changed: what was charged can be computed again. Each process decides by the new version from its next batch on.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from functools import partial

from tollhouse.core.audit import Detail
from tollhouse.core.errors import BadRequest, Conflict, NotFound
from tollhouse.core.price import Price, RateCard
from tollhouse.core.pricebook import Change
from tollhouse.flows import fund
from tollhouse.flows.audit import record
from tollhouse.flows.once import Done, Once, do_once
from tollhouse.flows.order import Order
from tollhouse.store import price as store
from tollhouse.store.catalogue import PLATFORM_ID
from tollhouse.store.db import Database, OperatorTx
from tollhouse.store.price import ListedModel, PriceVersion, RateVersion


@dataclass(frozen=True, slots=True)
class NewPrice:
    """Nano-dollars per million tokens, and per request. `effective_from` None: from now on. Cached input None: as other
    input."""

    effective_from: datetime | None
    free: bool
    input_nanos_per_million: int
    cached_input_nanos_per_million: int | None
    output_nanos_per_million: int
    request_nanos: int
    reasoning_nanos_per_million: int | None
    cache_write_nanos_per_million: int | None
    note: str


@dataclass(frozen=True, slots=True)
class NewRateCard:
    """`effective_from` None: from now on. The rest is that of core.price.RateCard."""

    effective_from: datetime | None
    micros_per_usd: int
    markup_permille: int
    own_key_permille: int
    cache_hit_permille: int
    multipliers: dict[str, int] = field(default_factory=dict)
    note: str = ""


async def read_prices(db: Database, order: Order, model_id: str) -> list[PriceVersion]:
    """All versions, the one that is effective last first. NotFound for an unknown model."""
    async with db.operator() as tx:
        await _known(tx, model_id)
        await _record(tx, order, "price.read", ("model", model_id), {})
        return await store.prices(tx, model_id)


async def add_price(
    db: Database, order: Order, model_id: str, wanted: NewPrice, once: Once | None = None
) -> Done[PriceVersion]:
    """NotFound for an unknown model; BadRequest for a price of nothing that is not said to be free, and for one that
    shall have begun already; Conflict when another begins at the same instant."""
    async with db.operator() as tx:
        await fund.lock_one(tx, PLATFORM_ID)
        await _known(tx, model_id)
        return await do_once(
            tx, PLATFORM_ID, once, order.now, PriceVersion, partial(_add_price, tx, order, model_id, wanted)
        )


async def _add_price(tx: OperatorTx, order: Order, model_id: str, wanted: NewPrice) -> PriceVersion:
    _check_free(wanted)
    known = [one.price for one in await store.prices(tx, model_id)]
    cached = wanted.cached_input_nanos_per_million
    price = Price(
        model_id=model_id,
        version=1 + max((one.version for one in known), default=0),
        effective_from=_start(order, wanted.effective_from, [one.effective_from for one in known]),
        free=wanted.free,
        input_nanos_per_million=wanted.input_nanos_per_million,
        cached_input_nanos_per_million=wanted.input_nanos_per_million if cached is None else cached,
        output_nanos_per_million=wanted.output_nanos_per_million,
        request_nanos=wanted.request_nanos,
        reasoning_nanos_per_million=wanted.reasoning_nanos_per_million,
        cache_write_nanos_per_million=wanted.cache_write_nanos_per_million,
    )
    return await _write_price(tx, order, PriceVersion(price, wanted.note, "operator"))


def _check_free(wanted: NewPrice) -> None:
    """A zero may be a slip, and then nobody pays: that a model costs nothing is said."""
    asked = (
        wanted.input_nanos_per_million,
        wanted.cached_input_nanos_per_million or 0,
        wanted.output_nanos_per_million,
        wanted.request_nanos,
    )
    apart = (wanted.reasoning_nanos_per_million or 0, wanted.cache_write_nanos_per_million or 0)
    if wanted.free and any((*asked, *apart)):
        raise BadRequest("A free model has no prices above 0. Leave 'free' out, or the prices.", "free")
    if not wanted.free and not any(asked):
        raise BadRequest('All prices are 0. If the model costs nothing, say so with "free": true.', "free")


async def read_rate_cards(db: Database, order: Order) -> list[RateVersion]:
    """All versions, the one that is effective last first."""
    async with db.operator() as tx:
        await _record(tx, order, "rate_card.read", ("rate_card", "all"), {})
        return await store.rate_cards(tx)


async def add_rate_card(db: Database, order: Order, wanted: NewRateCard, once: Once | None = None) -> Done[RateVersion]:
    """BadRequest for an unknown quality level, and for a rate card that shall have begun already; Conflict when another
    begins at the same instant."""
    async with db.operator() as tx:
        await fund.lock_one(tx, PLATFORM_ID)
        return await do_once(tx, PLATFORM_ID, once, order.now, RateVersion, partial(_add_rate_card, tx, order, wanted))


async def _add_rate_card(tx: OperatorTx, order: Order, wanted: NewRateCard) -> RateVersion:
    unknown = sorted(wanted.multipliers.keys() - await store.qualities(tx))
    if unknown:
        raise BadRequest(f"There is no quality level {unknown[0]!r}. Check its name.", "multipliers")
    known = [one.card for one in await store.rate_cards(tx)]
    card = RateCard(
        version=1 + max((one.version for one in known), default=0),
        effective_from=_start(order, wanted.effective_from, [one.effective_from for one in known]),
        micros_per_usd=wanted.micros_per_usd,
        markup_permille=wanted.markup_permille,
        own_key_permille=wanted.own_key_permille,
        cache_hit_permille=wanted.cache_hit_permille,
        multipliers=wanted.multipliers,
    )
    row = RateVersion(card, wanted.note)
    await store.insert_rate_card(tx, row)
    await _record(tx, order, "rate_card.added", ("rate_card", str(card.version)), _told(asdict(card), row.note))
    return row


async def read_listed(db: Database, now: datetime) -> list[ListedModel]:
    """What an import compares: the models that providers sell, with the price in force."""
    async with db.operator() as tx:
        return await store.listed_models(tx, now)


async def import_prices(db: Database, order: Order, changes: Sequence[Change], origin: str) -> None:
    """All of them from now on, or none. `origin` says where they come from. Conflict when a price is not the one any
    more that they were compared with, and when another begins at the same instant."""
    async with db.operator() as tx:
        await fund.lock_one(tx, PLATFORM_ID)
        in_force = {one.model_id: one.price for one in await store.listed_models(tx, order.now)}
        for change in changes:
            compared = in_force.get(change.model_id)
            if (None if compared is None else compared.version) != change.known_version:
                raise Conflict(f"The price of {change.model_id!r} was changed meanwhile. Import again to compare anew.")
            await _import(tx, order, change, origin)


async def _import(tx: OperatorTx, order: Order, change: Change, origin: str) -> None:
    known = [one.price for one in await store.prices(tx, change.model_id)]
    figures = change.figures
    price = Price(
        model_id=change.model_id,
        version=1 + max((one.version for one in known), default=0),
        effective_from=_start(order, None, [one.effective_from for one in known]),
        free=False,
        input_nanos_per_million=figures.input,
        cached_input_nanos_per_million=figures.cached_input,
        output_nanos_per_million=figures.output,
        request_nanos=figures.request,
        reasoning_nanos_per_million=None if figures.reasoning == figures.output else figures.reasoning,
        cache_write_nanos_per_million=None if figures.cache_write == figures.input else figures.cache_write,
    )
    await _write_price(tx, order, PriceVersion(price, "; ".join((origin, *change.remarks)), "import"))


async def _write_price(tx: OperatorTx, order: Order, row: PriceVersion) -> PriceVersion:
    await store.insert_price(tx, row)
    said = asdict(row.price)
    about = ("model", said.pop("model_id"))
    await _record(tx, order, "price.added", about, _told(said, row.note) | {"source": row.source})
    return row


def _told(said: dict[str, Detail | datetime], note: str) -> dict[str, Detail]:
    """The audit row's details: all that was added, in the units it is stored in."""
    plain = {name: value.isoformat() if isinstance(value, datetime) else value for name, value in said.items()}
    return {**plain, "note": note}


def _start(order: Order, wanted: datetime | None, known: Sequence[datetime]) -> datetime:
    """When a version begins. What is past was charged by what was known then, and stays."""
    start = order.now if wanted is None else wanted
    if start < order.now:
        raise BadRequest(
            "A version begins now or later: what is past is history. Leave 'effective_from' out, or name a later time.",
            "effective_from",
        )
    if start in known:
        raise Conflict("There is a version that begins at the same instant. Choose another time.")
    return start


async def _known(tx: OperatorTx, model_id: str) -> None:
    if not await store.is_model(tx, model_id):
        raise NotFound(f"There is no model {model_id[:80]!r} in the catalogue.")


async def _record(
    tx: OperatorTx, order: Order, action: str, about: tuple[str, str], details: dict[str, Detail]
) -> None:
    await record(tx, PLATFORM_ID, order, action, about, details)
