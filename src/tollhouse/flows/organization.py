"""Organisations: how they begin, change and end. Whoever changes one, or its members, locks it first and decides on
what then stands there: what was known when the call came in may have changed since."""

import os
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Literal
from uuid import UUID

from tollhouse.core import fund as rules
from tollhouse.core import membership
from tollhouse.core.access import SCOPES, Permission, Role
from tollhouse.core.admission import check_suspended
from tollhouse.core.audit import Detail
from tollhouse.core.catalogue import Catalogue, Plan
from tollhouse.core.errors import BadRequest, Forbidden, NotFound
from tollhouse.core.key import ordered_id
from tollhouse.core.session import Signed, check_own, check_proved
from tollhouse.core.throttle import ORGANIZATION_PERSON
from tollhouse.core.vault import Keyring
from tollhouse.flows import fund, throttle
from tollhouse.flows.audit import record
from tollhouse.flows.order import Order
from tollhouse.store import catalogue as catalogues
from tollhouse.store import member as members
from tollhouse.store import organization as organizations
from tollhouse.store import person as people
from tollhouse.store.db import Database, OperatorTx
from tollhouse.store.organization import Closed, Organization

FIRST_PLAN = "free"  # of organisations that people make


@dataclass(frozen=True, slots=True)
class New:
    """`period_anchor` None: its periods begin now."""

    name: str
    kind: Literal["personal", "team"]
    plan_id: str = FIRST_PLAN
    business_type: str = "general"
    period_anchor: datetime | None = None


@dataclass(frozen=True, slots=True)
class Insider:
    """Who acts in an organisation, and by whose order. `signed` None: it is a key of the organisation with the scope
    `manage`, which acts as an admin."""

    organization_id: UUID
    order: Order
    signed: Signed | None

    @property
    def person(self) -> Signed:
        """Forbidden unless a person acts."""
        if self.signed is None:
            raise Forbidden("This is done by a person who is signed in, not with an API key.")
        return self.signed

    @property
    def name(self) -> str:
        """In whose name, also while an operator acts in somebody's place."""
        return self.order.actor if self.signed is None else f"person:{self.signed.person_id}"

    def check_proved(self) -> None:
        """For what changes who owns the organisation: ProofRequired unless the person has proved just now who they are,
        Forbidden for who acts in somebody's place."""
        check_proved(self.person, self.order.now)


@dataclass(frozen=True, slots=True)
class Change:
    """What is None stays as it is."""

    name: str | None = None
    business_type: str | None = None


# ------------------------------------------------------------------------------------------------------------ beginning


async def make(tx: OperatorTx, order: Order, new: New, owner_id: UUID | None) -> Organization:
    """Makes an organisation with its balance, first period, allocation and welcome bonus, and its owner: the one way
    in which one begins. BadRequest for an unknown plan."""
    plan = plan_of(await catalogues.load(tx), new.plan_id)
    now, anchor = order.now, new.period_anchor or order.now
    id_ = ordered_id(now, os.urandom(10))
    row = Organization(id_, new.name, new.kind, new.business_type, plan.id, None, anchor, 0, None, now)
    await organizations.insert(tx, row)
    await organizations.insert_balance(tx, rules.first_balance(id_, anchor, now))
    await fund.begin(tx, id_, plan, now)
    if owner_id is not None:
        await members.insert(tx, id_, owner_id, "owner", now)
    details: dict[str, Detail] = {
        "name": None if row.kind == "personal" else row.name, "kind": row.kind, "business_type": row.business_type,
        "plan": plan.id, "owner": str(owner_id) if owner_id else None,
    }  # fmt: skip
    await record(tx, id_, order, "organization.created", ("organization", str(id_)), details)
    return row


def plan_of(catalogue: Catalogue, plan_id: str) -> Plan:
    """BadRequest, naming the plans that there are, for another."""
    plan = catalogue.plans.get(plan_id)
    if plan is None:
        raise BadRequest(f"There is no plan {plan_id!r}. There are: {', '.join(catalogue.plans)}.", "plan")
    return plan


async def create(
    db: Database, keyring: Keyring, order: Order, signed: Signed, name: str, business_type: str
) -> Organization:
    """A team's organisation, owned by who makes it. Conflict when they own too many, TooManyTries when they make them
    too fast."""
    check_own(signed)
    membership.check_name(name)
    membership.check_business_type(business_type)
    await throttle.check(db, keyring, ORGANIZATION_PERSON, str(signed.person_id), now=order.now)
    async with db.operator() as tx:
        await check_may_own(tx, signed.person_id)
        return await make(tx, order, New(name, "team", business_type=business_type), signed.person_id)


async def check_may_own(tx: OperatorTx, person_id: UUID) -> None:
    """Conflict when the person owns as many organisations as one may. Of two at once the second waits for the first."""
    await people.lock(tx, person_id)
    membership.check_may_own_more(await members.owned(tx, person_id))


# ------------------------------------------------------------------------------------------------------------ changing


async def enter(tx: OperatorTx, insider: Insider, needs: Permission) -> tuple[Organization, Role]:
    """The organisation under its lock, and the role in which the insider acts there: a key acts as an admin.
    NotFound when there is none (any more), Forbidden when it is suspended or the role may not do what is needed."""
    row = await organizations.lock(tx, insider.organization_id)
    if row is None or row.deleted_at is not None:
        raise NotFound("There is no such organisation.")
    check_suspended(row.suspended_at is not None)
    if insider.signed is None and needs in SCOPES["manage"]:
        return row, "admin"
    role = await members.role_of(tx, row.id, insider.person.person_id)
    membership.check_role_may(role, needs)
    assert role is not None
    return row, role


async def change(db: Database, insider: Insider, wanted: Change) -> Organization:
    """BadRequest for a name or a business type that cannot be. What does not change anything leaves no trace."""
    async with db.operator() as tx:
        row, _ = await enter(tx, insider, "organization.manage")
        details: dict[str, Detail] = {}
        after = row
        if wanted.name is not None and wanted.name != row.name:
            membership.check_name(wanted.name)
            after = replace(after, name=wanted.name)
            # what a personal organisation is called may be its person's name, and the audit log forgets nothing
            details["name"] = "changed" if row.kind == "personal" else {"from": row.name, "to": after.name}
        if wanted.business_type is not None and wanted.business_type != row.business_type:
            membership.check_business_type(wanted.business_type, row.business_type)
            after = replace(after, business_type=wanted.business_type)
            details["business_type"] = {"from": row.business_type, "to": after.business_type}
        if after != row:
            await organizations.describe(tx, row.id, after.name, after.business_type)
            about = ("organization", str(row.id))
            await record(tx, row.id, insider.order, "organization.changed", about, details)
        return after


# --------------------------------------------------------------------------------------------------------------- ending


async def delete(db: Database, insider: Insider, typed_name: str) -> None:
    """Ends the organisation by one of its owners, who has proved just now who they are and types its name. Conflict
    while calls are running, and for one that lasts: a personal one, the platform."""
    insider.check_proved()
    async with db.operator() as tx:
        row, _ = await enter(tx, insider, "organization.own")
        running = await organizations.running(tx, row.id)
        membership.check_may_delete(row.kind, row.name, typed_name, running)
        await close(tx, insider.order, row)


async def close(tx: OperatorTx, order: Order, row: Organization) -> Closed:
    """Lets nobody into a locked organisation any more: its keys are revoked, members, open invitations, connections
    with their secrets, trusted issuers, chats, models of its own, kept prompts and answers are gone. Its books stay."""
    closed = await organizations.close(tx, row.id, order.now)
    details: dict[str, Detail] = {"name": None if row.kind == "personal" else row.name, **asdict(closed)}
    await record(tx, row.id, order, "organization.deleted", ("organization", str(row.id)), details)
    return closed
