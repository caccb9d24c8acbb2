"""What operators define of capabilities: each call is one transaction with its audit row, in the platform's chain. The
catalogue's version rises with each change, so that every process decides by it from its next batch on."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace

import msgspec

from tollhouse.core.audit import Detail
from tollhouse.core.catalogue import Capability, Catalogue, Plan
from tollhouse.core.errors import BadRequest, NotFound
from tollhouse.core.money import format_credits
from tollhouse.flows import fund, schema
from tollhouse.flows.audit import record
from tollhouse.flows.capability import NAME
from tollhouse.flows.order import Order
from tollhouse.store import capability as store
from tollhouse.store import catalogue as catalogues
from tollhouse.store.capability import OfferRow
from tollhouse.store.catalogue import PLATFORM_ID
from tollhouse.store.db import Database, OperatorTx


@dataclass(frozen=True, slots=True)
class Definition:
    """A capability and what plans say of it, lowest plan first."""

    capability: Capability
    offers: tuple[OfferRow, ...]


@dataclass(frozen=True, slots=True)
class Offered:
    """What a plan offers of a capability; `inherited_from` is the lower plan that says so, None for the plan itself.
    Not enabled, without levels: nothing."""

    row: OfferRow
    inherited_from: str | None


async def read_capabilities(db: Database, order: Order) -> list[Definition]:
    """All of them, by name."""
    async with db.operator() as tx:
        await _record(tx, order, "capability.read", "all", {})
        offers = await store.offers(tx)
        capabilities = (await catalogues.load(tx)).capabilities
        return [_definition(one, offers) for one in capabilities.values()]


async def read_capability(db: Database, order: Order, capability_id: str) -> Definition:
    async with db.operator() as tx:
        found = await _find(tx, capability_id)
        await _record(tx, order, "capability.read", capability_id, {})
        return _definition(found, await store.offers(tx))


async def set_capability(db: Database, order: Order, wanted: Capability) -> Definition:
    """Makes the capability, or makes it so. BadRequest for a name that none can have, and for schemas that cannot be
    worked with."""
    if not NAME.fullmatch(wanted.id):
        raise BadRequest(
            "The name in the path must be 1 to 64 small letters, digits and underscores, a letter first, "
            "as in 'question_generation'."
        )
    for name, one in (("input_schema", wanted.input_schema), ("answer_schema", wanted.answer_schema)):
        if one is not None:
            schema.check(one, name)
        elif wanted.instructions:
            raise BadRequest(f"Instructions need an input_schema and an answer_schema: send {name}.", name)
    async with db.operator() as tx:
        await fund.lock_one(tx, PLATFORM_ID)
        before = await store.find(tx, wanted.id)
        await store.write(tx, wanted)
        await _record(tx, order, "capability.set", wanted.id, {"new": before is None, **_written(wanted)})
        return _definition(wanted, await store.offers(tx))


async def set_offer(db: Database, order: Order, wanted: OfferRow) -> Offered:
    """What the plan says of the capability from now on. A plan that has said nothing of any yet has those of the next
    lower plan: it says the same of the others from now on, so that nothing but this one changes."""
    async with db.operator() as tx:
        await fund.lock_one(tx, PLATFORM_ID)
        catalogue = await catalogues.load(tx)
        plan = _plan(catalogue, wanted.plan_id)
        await _find(tx, wanted.capability_id)
        _check_levels(catalogue, wanted)
        before = await store.offers(tx)
        copied_from = catalogue.speaks_for(plan)
        if copied_from is not None and copied_from != plan.id:
            for row in before:
                if row.plan_id == copied_from:
                    await store.write_offer(tx, replace(row, plan_id=plan.id))
        await store.write_offer(tx, wanted)
        details = _written_offer(wanted) | {"copied_from": copied_from if copied_from != plan.id else None}
        await _record(tx, order, "offer.set", wanted.capability_id, details)
        return Offered(wanted, None)


async def delete_offer(db: Database, order: Order, plan_id: str, capability_id: str) -> Offered:
    """The plan says nothing more of the capability; when it says nothing of any, it has those of the next lower plan
    again. NotFound when it had said nothing of its own."""
    async with db.operator() as tx:
        await fund.lock_one(tx, PLATFORM_ID)
        plan = _plan(await catalogues.load(tx), plan_id)
        await _find(tx, capability_id)
        if not await store.delete_offer(tx, plan_id, capability_id):
            raise NotFound(
                f"The plan {plan_id!r} says nothing of its own about {capability_id!r}. To switch off what it has "
                "from a lower plan, PUT it with is_enabled false."
            )
        await _record(tx, order, "offer.deleted", capability_id, {"plan": plan_id})
        speaking = (await catalogues.load(tx)).speaks_for(plan)
        for row in await store.offers(tx):
            if (row.plan_id, row.capability_id) == (speaking, capability_id):
                return Offered(replace(row, plan_id=plan_id), speaking)
        return Offered(OfferRow(plan_id, capability_id, False, None, None, {}), None)


async def _find(tx: OperatorTx, capability_id: str) -> Capability:
    found = await store.find(tx, capability_id) if NAME.fullmatch(capability_id) else None
    if found is None:
        raise NotFound(f"There is no capability {capability_id[:80]!r}. PUT makes one.")
    return found


def _definition(capability: Capability, offers: Iterable[OfferRow]) -> Definition:
    return Definition(capability, tuple(row for row in offers if row.capability_id == capability.id))


def _plan(catalogue: Catalogue, plan_id: str) -> Plan:
    plan = catalogue.plans.get(plan_id)
    if plan is None:
        raise BadRequest(f"There is no plan {plan_id[:80]!r}. There are: {', '.join(catalogue.plans)}.", "plan")
    return plan


def _check_levels(catalogue: Catalogue, wanted: OfferRow) -> None:
    if wanted.is_enabled and not wanted.quality_levels:
        raise BadRequest("An offer needs at least one quality level with a model.", "quality_levels")
    for level, models in wanted.quality_levels.items():
        field = f"quality_levels.{level[:80]}"
        if level not in catalogue.qualities:
            known = ", ".join(catalogue.qualities)
            raise BadRequest(f"There is no quality level {level[:80]!r}. There are: {known}.", field)
        for number, model in enumerate(models):
            if model not in catalogue.models:
                raise BadRequest(f"There is no model {model!r} in the catalogue.", f"{field}.{number}")
            if model in models[:number]:
                raise BadRequest(f"The model {model!r} stands there twice. Take one out.", f"{field}.{number}")


def _written(capability: Capability) -> dict[str, Detail]:
    """The whole definition, schemas as JSON: a chain of hashes holds no fractions."""
    details = asdict(capability)
    del details["id"], details["estimated_micros"]
    details["estimated_credits"] = format_credits(capability.estimated_micros)
    for name in ("input_schema", "answer_schema"):
        if details[name] is not None:
            details[name] = msgspec.json.encode(details[name]).decode()
    return details


def _written_offer(row: OfferRow) -> dict[str, Detail]:
    return {
        "plan": row.plan_id,
        "is_enabled": row.is_enabled,
        "requests_per_minute": row.requests_per_minute,
        "requests_per_day": row.requests_per_day,
        "quality_levels": dict(row.quality_levels),
    }


async def _record(tx: OperatorTx, order: Order, action: str, capability_id: str, details: Mapping[str, Detail]) -> None:
    await record(tx, PLATFORM_ID, order, action, ("capability", capability_id), details)
