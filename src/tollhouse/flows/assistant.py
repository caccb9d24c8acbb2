"""Assistants: who is offered which, and what is left of their limits."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from tollhouse.core import assistant as rules
from tollhouse.core.assistant import Allowance, Offer, Standing, check_open, rule_of
from tollhouse.core.errors import NotFound
from tollhouse.core.session import Signed
from tollhouse.store import assistant as store
from tollhouse.store import catalogue, quota
from tollhouse.store import organization as organizations
from tollhouse.store.assistant import DayOfUse, Document
from tollhouse.store.db import Database, TenantTx

__all__ = ["Card", "Preview", "cards", "offers", "offers_in", "open_to", "preview", "rule_of"]
HISTORY = timedelta(days=29)  # and today


@dataclass(frozen=True, slots=True)
class Card:
    """An assistant as somebody is shown it; `allowance` None: it has no limit of its own."""

    offer: Offer
    allowance: Allowance | None


@dataclass(frozen=True, slots=True)
class Preview:
    """All about an assistant. `days`: the last thirty, by what the person used on each."""

    card: Card
    documents: list[Document]
    days: list[DayOfUse]


async def offers(db: Database, signed: Signed, now: datetime) -> list[Offer]:
    """What the person is offered in the organisation that is chosen; `now` is the real time."""
    async with db.tenant(signed.organization_id) as tx:
        return await offers_in(tx, signed, now)


async def open_to(db: Database, signed: Signed, assistant_id: UUID, now: datetime) -> Offer:
    """The assistant, for use. NotFound for one that the person is not offered at all, PlanRequired, NotEnabled."""
    for offer in await offers(db, signed, now):
        if offer.assistant.id == assistant_id:
            check_open(offer)
            return offer
    raise NotFound("There is no such assistant here. Choose one on the page Models.")


async def offers_in(tx: TenantTx, signed: Signed, now: datetime) -> list[Offer]:
    """The same, in a transaction that sees the organisation."""
    return await offers_to(tx, signed.organization_id, signed.person_id, now)


async def offers_to(tx: TenantTx, organization_id: UUID, person_id: UUID, now: datetime) -> list[Offer]:
    organization = await organizations.find(tx, organization_id)
    assert organization is not None, "somebody is signed in there"
    plans = {plan.id: plan for plan in await catalogue.plans(tx)}
    found = await store.visible(tx, organization_id, person_id)
    on_trial = [one.id for one in found if one.trial_days is not None]
    return rules.offers(
        found,
        await store.settings(tx, organization_id),
        plans,
        await store.first_used(tx, organization_id, on_trial),
        Standing(
            person_id,
            organization.kind,
            organization.business_type,
            plans[organization.plan_id],
            now + timedelta(microseconds=organization.clock_offset_micros),
        ),
    )


# --------------------------------------------------------------------------------------------------- what is left of it


async def cards(db: Database, signed: Signed, now: datetime) -> list[Card]:
    """What the person is offered, with what is left of each. In a team, what is not switched on is left out."""
    async with db.tenant(signed.organization_id) as tx:
        found = [one for one in await offers_in(tx, signed, now) if one.state != "not_enabled"]
        return await _cards(tx, signed, found, now)


async def preview(db: Database, signed: Signed, slug: str, now: datetime) -> Preview:
    """NotFound for one that the person is not offered."""
    async with db.tenant(signed.organization_id) as tx:
        found = [one for one in await offers_in(tx, signed, now) if one.assistant.slug == slug]
        if not found or found[0].state == "not_enabled":
            raise NotFound("There is no such assistant here. Choose one on the page Models.")
        [card] = await _cards(tx, signed, found[:1], now)
        one = card.offer.assistant
        since = (now - HISTORY).replace(hour=0, minute=0, second=0, microsecond=0)
        used = await store.use_by_day(tx, signed.organization_id, signed.person_id, one.id, since)
        return Preview(card, await store.documents(tx, one), _every_day(used, since))


def _every_day(used: list[DayOfUse], since: datetime) -> list[DayOfUse]:
    by_day = {one.day: one for one in used}
    days = [since + timedelta(days=n) for n in range(HISTORY.days + 1)]
    return [by_day.get(day, DayOfUse(day, 0, 0)) for day in days]


async def _cards(tx: TenantTx, signed: Signed, found: list[Offer], now: datetime) -> list[Card]:
    own_time = now + timedelta(microseconds=signed.clock_offset_micros)
    limits = [rule_of(offer) for offer in found]
    counted = [None if rule is None else rules.counter_of(rule, signed.person_id, own_time) for rule in limits]
    windows = await quota.read(tx, signed.organization_id, [one.window_id for one in counted if one is not None])
    made = []
    for offer, rule, about in zip(found, limits, counted, strict=True):
        left = None
        if rule is not None and about is not None:
            window = windows.get(about.window_id)
            left = rules.allowance(rule, about, window.used if window is not None else 0)
        made.append(Card(offer, left))
    return made
