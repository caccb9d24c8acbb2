"""What operators do: each call is one transaction with its audit row.

Whatever moves money locks the organisation first, brings it to its own time and then books; whoever waits for the lock
decides on what the other left.
"""

import os
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from uuid import UUID

from psycopg import AsyncConnection, OperationalError

from tollhouse.core import fund as rules
from tollhouse.core.audit import Detail
from tollhouse.core.catalogue import Catalogue
from tollhouse.core.credit import Account
from tollhouse.core.errors import BadRequest, Conflict, Forbidden, NotFound, Overloaded
from tollhouse.core.key import Mode, end_user_id, ordered_id
from tollhouse.core.money import format_credits
from tollhouse.flows import fund
from tollhouse.flows.audit import record
from tollhouse.flows.once import Done, Once, do_once
from tollhouse.flows.order import (
    Given,
    Moved,
    NewEntitlement,
    NewGrant,
    NewOrganization,
    Order,
    Overview,
)
from tollhouse.flows.organization import New, make, plan_of
from tollhouse.store import account as accounts
from tollhouse.store import catalogue as catalogues
from tollhouse.store import credit, entitlement, person
from tollhouse.store import organization as organizations
from tollhouse.store.account import Locked
from tollhouse.store.catalogue import PLATFORM_ID
from tollhouse.store.db import Database, OperatorTx
from tollhouse.store.entitlement import Entitlement
from tollhouse.store.proof import Failure, prove


@dataclass(frozen=True, slots=True)
class Opened:
    """A locked organisation, brought to `now`, its own time."""

    locked: Locked
    account: Account
    catalogue: Catalogue
    now: datetime


async def create_organization(
    db: Database, order: Order, wanted: NewOrganization, once: Once | None = None
) -> Done[Overview]:
    """Makes the organisation with its balance, first period, allocation and welcome bonus, and its owner. BadRequest
    for an unknown plan. Its idempotency record is the platform's."""
    async with db.operator() as tx:
        if once is not None:
            await fund.lock_one(tx, PLATFORM_ID)
        return await do_once(tx, PLATFORM_ID, once, order.now, Overview, partial(_create, tx, order, wanted))


async def _create(tx: OperatorTx, order: Order, wanted: NewOrganization) -> Overview:
    owner_id = None
    if wanted.owner_email is not None:
        new_id = ordered_id(order.now, os.urandom(10))
        owner_id = await person.find_or_insert(tx, new_id, wanted.owner_email, order.now)
    new = New(wanted.name, "team", wanted.plan_id, wanted.business_type, wanted.period_anchor)
    row = await make(tx, order, new, owner_id)
    return await _overview(tx, await open_organization(tx, row.id, order.now))


async def read_organization(db: Database, order: Order, organization_id: UUID) -> Overview:
    """An operator's look at a tenant leaves a trace too."""
    async with db.operator() as tx:
        opened = await open_organization(tx, organization_id, order.now)
        about = ("organization", str(organization_id))
        await record(tx, organization_id, order, "organization.read", about, {})
        return await _overview(tx, opened)


async def give_grant(
    db: Database, order: Order, organization_id: UUID, wanted: NewGrant, once: Once | None = None
) -> Done[Given]:
    """Books a grant, or writes it down when it begins later. BadRequest when it could never be spent, Conflict when the
    organisation would hold more than one amount may be."""
    async with db.operator() as tx:
        opened = await open_organization(tx, organization_id, order.now)
        return await do_once(tx, organization_id, once, order.now, Given, partial(_give, tx, order, opened, wanted))


async def _give(tx: OperatorTx, order: Order, opened: Opened, wanted: NewGrant) -> Given:
    account, now = opened.account, opened.now
    new = rules.new_grant(
        fund.ids_at(now)(), wanted.source, wanted.amount_micros, now, priority=wanted.priority, paid=wanted.paid,
        effective_at=wanted.effective_at, expires_at=wanted.expires_at, note=wanted.note,
    )  # fmt: skip
    grant = rules.accepted(new, account.balance, opened.locked.period_anchor, now)
    rules.give(account, grant, now, order.actor)
    await fund.write(tx, account, [grant])
    details = {"source": wanted.source, "credits": format_credits(wanted.amount_micros), "note": wanted.note,
               "effective_at": _written(grant.effective_at), "expires_at": _written(grant.expires_at)}  # fmt: skip
    organization_id = opened.locked.id
    await record(tx, organization_id, order, "grant.given", ("grant", str(grant.id)), details)
    return Given(grant, account.balance.available_micros, account.balance.spendable_micros)


async def change_plan(db: Database, order: Order, organization_id: UUID, plan_id: str) -> Overview:
    """Upwards at once: what the new plan gives above the highest allocation of this period, until the period ends, and
    its welcome bonus. Downwards at the period's end. To the plan in force: a change that waits is cancelled."""
    async with db.operator() as tx:
        opened = await open_organization(tx, organization_id, order.now)
        before, wanted = opened.catalogue.plans[opened.locked.plan_id], plan_of(opened.catalogue, plan_id)
        welcomed = await accounts.welcome_given(tx, organization_id, wanted.id)
        change = rules.change_plan(
            opened.account, before, wanted, welcomed, opened.now, fund.ids_at(opened.now), order.actor
        )
        await organizations.set_plan(tx, organization_id, change.standing.plan_id, change.standing.pending_plan_id)
        await fund.write(tx, opened.account, change.made)
        details: dict[str, Detail] = {"from": before.id, "to": wanted.id, "at_once": change.at_once}
        details["credits"] = format_credits(change.given_micros)
        about = ("organization", str(organization_id))
        await record(tx, organization_id, order, "plan.changed", about, details)
        return await _overview(tx, opened)


async def set_overdraft(db: Database, order: Order, organization_id: UUID, limit_micros: int) -> Overview:
    """How far the organisation may spend below zero. Conflict below what is in use already."""
    async with db.operator() as tx:
        opened = await open_organization(tx, organization_id, order.now)
        before = opened.account.balance.overdraft_limit_micros
        rules.set_overdraft(opened.account, limit_micros)
        details = {"from": format_credits(before), "to": format_credits(limit_micros)}
        await accounts.write(tx, opened.account)
        about = ("organization", str(organization_id))
        await record(tx, organization_id, order, "overdraft.set", about, details)
        return await _overview(tx, opened)


async def grant_entitlement(
    db: Database, order: Order, wanted: NewEntitlement, once: Once | None = None
) -> Done[Entitlement]:
    """The right to a premium model. NotFound for an unknown organisation or person, BadRequest for an unknown model
    and for an expiry that has passed."""
    async with db.operator() as tx:
        organization_id, subject_id = await _subject(tx, wanted)
        opened = await open_organization(tx, organization_id, order.now)
        act = partial(_entitle, tx, order, opened, subject_id, wanted)
        return await do_once(tx, organization_id, once, order.now, Entitlement, act)


async def _entitle(
    tx: OperatorTx, order: Order, opened: Opened, subject_id: UUID | None, wanted: NewEntitlement
) -> Entitlement:
    if wanted.model_id not in opened.catalogue.models:
        raise BadRequest(f"There is no model {wanted.model_id!r} in the catalogue.", "model_id")
    if wanted.expires_at is not None and wanted.expires_at <= opened.now:
        raise BadRequest(f"It is {_written(opened.now)} for this organisation: send a later time.", "expires_at")
    organization_id = opened.locked.id
    id_ = ordered_id(opened.now, os.urandom(10))
    row = Entitlement(
        organization_id, id_, subject_id, wanted.model_id, wanted.source, wanted.note, opened.now, wanted.expires_at
    )
    await entitlement.insert(tx, row)
    details = {"model": row.model_id, "subject": str(subject_id) if subject_id else None, "source": row.source,
               "expires_at": _written(row.expires_at), "note": row.note}  # fmt: skip
    about = ("entitlement", str(row.id))
    await record(tx, organization_id, order, "entitlement.granted", about, details)
    return row


async def _subject(tx: OperatorTx, wanted: NewEntitlement) -> tuple[UUID, UUID | None]:
    """The organisation, and who in it; None for everybody."""
    if wanted.user is None:
        if wanted.organization_id is None:
            raise BadRequest("Name an organization_id, a user, or both.", "organization_id")
        return wanted.organization_id, None
    if wanted.organization_id is None:
        own = await person.with_own_organization(tx, wanted.user)
        if own is None:
            raise NotFound(
                "There is no such person with an organisation of their own. Name the organization_id as well."
            )
        return own
    member_id = await person.member_of(tx, wanted.organization_id, wanted.user)
    return wanted.organization_id, member_id or end_user_id(wanted.organization_id, wanted.user)


async def move_clock(db: Database, order: Order, mode: Mode, organization_id: UUID, to: datetime) -> Moved:
    """Moves the organisation's own time forward and books what is due by then. Forbidden unless the installation is in
    test mode, Conflict for a time that has passed."""
    if mode != "test":
        raise Forbidden("Test clocks are for test mode only: start the installation with TOLLHOUSE_MODE=test.")
    async with db.operator() as tx:
        before = (await open_organization(tx, organization_id, order.now)).now
        if to < before:
            raise Conflict(
                f"The clock of this organisation is at {_written(before)} and moves only forward. Send a later time."
            )
        await organizations.move_clock(tx, organization_id, (to - order.now) // timedelta(microseconds=1))
        opened = await open_organization(tx, organization_id, order.now)
        details = {"from": _written(before), "to": _written(to)}
        about = ("organization", str(organization_id))
        await record(tx, organization_id, order, "clock.moved", about, details)
        outlived = await credit.outlived(tx, organization_id, opened.now)
        return Moved(await _overview(tx, opened), tuple(outlived))


async def prove_ledger(db: Database, order: Order) -> list[Failure]:
    """Runs the invariants as the owner, who sees every row, and writes down in the platform's chain that they were
    run."""
    try:
        async with await AsyncConnection.connect(db.url, autocommit=True) as connection:
            failures = await prove(connection)
    except OperationalError as error:
        raise Overloaded("The database does not answer at the moment. Try again shortly.") from error
    async with db.operator() as tx:
        details = {"failures": len(failures)}
        await record(tx, PLATFORM_ID, order, "ledger.proved", ("ledger", "all"), details)
    return failures


async def open_organization(tx: OperatorTx, organization_id: UUID, now: datetime) -> Opened:
    """The organisation under its lock, with everything booked that is due by its own time."""
    catalogue = await catalogues.load(tx)
    locked = await fund.lock_one(tx, organization_id)
    if locked is None:
        raise NotFound("There is no such organisation.")
    own_time = now + timedelta(microseconds=locked.clock_offset_micros)
    if locked.balance.next_due_at <= own_time:
        await fund.catch_up(tx, locked, catalogue, own_time)
        locked = await fund.lock_one(tx, organization_id)
        assert locked is not None
    return Opened(locked, await fund.load_account(tx, locked), catalogue, own_time)


async def _overview(tx: OperatorTx, opened: Opened) -> Overview:
    organization = await organizations.find(tx, opened.locked.id)
    assert organization is not None
    return Overview(organization, opened.account.balance, opened.now)


def _written(moment: datetime | None) -> str | None:
    return moment.isoformat().replace("+00:00", "Z") if moment else None
