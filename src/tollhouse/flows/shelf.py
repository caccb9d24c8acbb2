"""The models that somebody may choose among, as they stand for them at this moment."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from uuid import UUID

from tollhouse.core.ask import AUTO, Ask, CallWant, Channel, Credential, Facts, Size
from tollhouse.core.assistant import Offer
from tollhouse.core.complexity import Level
from tollhouse.core.credit import Account
from tollhouse.core.errors import NotFound, Overloaded
from tollhouse.core.key import Scope
from tollhouse.core.quota import Window, Windows
from tollhouse.core.rate import Rate, Rates
from tollhouse.core.selection import select
from tollhouse.core.session import Signed
from tollhouse.core.shelf import (
    SHAPES,
    Question,
    Shelf,
    auto_of,
    model_states,
    models_of,
    questions,
    rates_of,
    windows_of,
)
from tollhouse.flows.assistant import offers_in, rule_of
from tollhouse.flows.batch import key_facts
from tollhouse.flows.operation import CatchUp
from tollhouse.flows.spend import Teller
from tollhouse.store import account as accounts
from tollhouse.store import call as calls
from tollhouse.store import model as models
from tollhouse.store import own_model as own_models
from tollhouse.store import preference as preferences
from tollhouse.store import quota
from tollhouse.store.db import Database, TenantTx
from tollhouse.store.exchange import run

# A short question. What a longer one may cost is decided when it is sent.
INPUT_TOKENS = 500
# The catalogue may change between two looks at it, though hardly twice.
LOOKS = 3


@dataclass(frozen=True, slots=True)
class Viewer:
    """For whom it is decided. `subject_id`: whose limits, unlocked models and preferences these are; `needs`: what the
    credential must allow; `signed`: the person, at the pages."""

    organization_id: UUID
    credential: Credential
    subject_id: UUID
    channel: Channel
    needs: frozenset[Scope] = frozenset({"gateway"})
    signed: Signed | None = None


@dataclass(frozen=True, slots=True)
class _Seen:
    facts: Facts
    account: Account


def person(signed: Signed) -> Viewer:
    """Somebody at the pages."""
    credential = Credential("person", signed.person_id)
    return Viewer(signed.organization_id, credential, signed.person_id, "chat", signed=signed)


async def shelf(
    db: Database, teller: Teller, signed: Signed, now: datetime, assistant_id: UUID | None = None
) -> Shelf:  # fmt: skip
    """That of a person, at the pages; of a chat with this assistant when one is named."""
    return await shelf_of(db, teller, person(signed), now, assistant_id)


async def shelf_of(
    db: Database, teller: Teller, viewer: Viewer, now: datetime, assistant_id: UUID | None = None
) -> Shelf:  # fmt: skip
    """Every model that may be chosen, and what answers when nothing is; `now` is real time. As many queries for many
    models as for few. NotFound when the organisation is gone."""
    for _ in range(LOOKS):
        async with db.tenant(viewer.organization_id) as tx:
            seen = await _see(tx, teller, viewer, now)
            if seen is not None:
                return await _arranged(tx, seen, viewer, await _offer(tx, viewer, assistant_id, now))
        # the teller's catalogue is of another time, or something is due: it looks, and books it
        await teller.do(CatchUp(viewer.organization_id))
    raise Overloaded("The catalogue is being changed at this moment. Try again in a second.")


async def _see(tx: TenantTx, teller: Teller, viewer: Viewer, now: datetime) -> _Seen | None:
    """The facts; None when the catalogue that the teller remembers is not the one that is in force, or when something
    of the organisation's is due."""
    catalogue, organization_id = teller.catalogue, viewer.organization_id
    models = () if catalogue is None else tuple(one.id for one in catalogue.models.values() if one.tier == "premium")
    row = calls.AskRow(0, organization_id, viewer.credential.id, viewer.subject_id, models)
    locked, found = await run(tx, accounts.locked([organization_id]), calls.ask_facts([row], now))
    if not locked:
        raise NotFound("The organisation is gone.")
    (organization,), (asking,) = locked, found
    own_time = now + timedelta(microseconds=organization.clock_offset_micros)
    if catalogue is None or catalogue.version != organization.catalogue_version:
        return None
    if organization.balance.next_due_at <= own_time:
        return None
    plan = catalogue.plans[organization.plan_id]
    facts = Facts(
        own_time, plan, organization.suspended, key_facts(asking), asking.entitled, catalogue, teller.mode,
        organization.rules,
    )  # fmt: skip
    return _Seen(facts, Account(organization.balance, {}))


async def _offer(tx: TenantTx, viewer: Viewer, assistant_id: UUID | None, now: datetime) -> Offer | None:
    """The assistant as the person is offered it; None when none is named, or it is not for them."""
    if assistant_id is None or viewer.signed is None:
        return None
    return next((one for one in await offers_in(tx, viewer.signed, now) if one.assistant.id == assistant_id), None)


async def _arranged(tx: TenantTx, seen: _Seen, viewer: Viewer, offer: Offer | None) -> Shelf:
    facts, account, organization_id = seen.facts, seen.account, viewer.organization_id
    asked, by_level = _asked(viewer, facts, offer)
    everything = [*asked.values(), *by_level.values()]
    found, minutes = await run(
        tx,
        quota.windows((organization_id, id_) for id_ in windows_of(everything, facts)),
        quota.rates((organization_id, id_) for id_ in rates_of(everything)),
    )
    windows = Windows({row.id: Window(None, row.used, row.reserved) for row in found})
    rates = Rates({row.id: Rate(row.subject_id, row.seconds) for row in minutes})
    chosen = await preferences.read(tx, organization_id, viewer.subject_id)
    auto, limits = auto_of(by_level, facts, account, windows, rates)
    default = facts.catalogue.default
    system_default = default.id if default is not None and default.id in asked else None
    override, assistants_model = None, None
    if offer is not None:
        override, assistants_model = chosen.overrides.get(offer.assistant.id), offer.assistant.model_id
    return Shelf(
        now=facts.now,
        plan=facts.plan,
        models=model_states(asked, facts, await models.metadata(tx), account, windows, rates),
        own=tuple(await own_models.usable(tx, organization_id, viewer.subject_id)) if viewer.signed else (),
        auto=auto,
        limits=limits,
        preferences=chosen,
        selected=select(
            None, override, chosen.default_model_id, assistants_model, facts.catalogue.models, system_default
        ),
        system_default=system_default,
    )


def _asked(
    viewer: Viewer, facts: Facts, offer: Offer | None
) -> tuple[dict[str, Question], dict[Level, Question]]:  # fmt: skip
    """What is decided: a short question to every model, by its id, and to `auto` one of each level."""
    want = CallWant(AUTO, Size(INPUT_TOKENS, offer.assistant.max_output_tokens if offer else None))
    rule = rule_of(offer) if offer else None
    ask = Ask(
        viewer.organization_id, viewer.credential, viewer.subject_id, viewer.channel, want, viewer.needs,
        rules=(rule,) if rule else (), free=offer is not None and offer.assistant.is_free,
    )  # fmt: skip
    of_models = {one.id: replace(ask, want=replace(want, model_id=one.id)) for one in models_of(facts)}
    of_levels = {level: replace(ask, want=replace(want, shape=shape)) for level, shape in SHAPES.items()}
    return questions(of_models, facts), questions(of_levels, facts)
