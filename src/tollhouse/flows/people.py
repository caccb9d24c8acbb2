"""People and organisations as operators see them: found, looked at, suspended. Looking leaves a trace as well, without
what was looked for: the audit log forgets nothing, and people may be forgotten."""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Generic, TypeVar
from uuid import UUID

from tollhouse.core import letter
from tollhouse.core.audit import Detail
from tollhouse.core.cursor import cursor_of, id_in
from tollhouse.core.errors import Conflict, NotFound
from tollhouse.core.membership import check_superadmin_remains
from tollhouse.flows import link
from tollhouse.flows.audit import record
from tollhouse.flows.order import Order
from tollhouse.flows.site import Site
from tollhouse.store import member as members
from tollhouse.store import organization as organizations
from tollhouse.store import person as store
from tollhouse.store import profile as profiles
from tollhouse.store import session as sessions
from tollhouse.store import totp as totps
from tollhouse.store.catalogue import PLATFORM_ID
from tollhouse.store.db import Database, OperatorTx
from tollhouse.store.member import Member, Membership
from tollhouse.store.organization import Organization
from tollhouse.store.person import Person

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Page(Generic[Item]):
    """`next_cursor` None: this was the last page."""

    items: list[Item]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class Search:
    """Newest first; `text` "" finds everything. `plan_id` and `state` None narrow nothing; for the states see the
    store. BadRequest for a cursor that no page gave."""

    text: str
    limit: int
    cursor: str | None
    plan_id: str | None = None
    state: str | None = None


# --------------------------------------------------------------------------------------------------------------- people


async def search(db: Database, order: Order, wanted: Search) -> Page[Person]:
    """By what stands in the e-mail address or the name."""
    before = id_in("people", wanted.cursor)
    async with db.operator() as tx:
        found = await store.search(tx, wanted.text, before, wanted.limit + 1, wanted.state)
        await record(tx, PLATFORM_ID, order, "person.searched", ("person", "all"), {"found": len(found)})
    items = found[: wanted.limit]
    return Page(items, cursor_of("people", str(items[-1].id)) if len(found) > wanted.limit else None)


async def read(db: Database, order: Order, person_id: UUID) -> tuple[Person, list[Membership]]:
    """Somebody, and the organisations that they are in."""
    async with db.operator() as tx:
        person = await store.find(tx, person_id)
        if person is None:
            raise _no_such_person()
        await record(tx, PLATFORM_ID, order, "person.read", ("person", str(person_id)), {})
        return person, await members.of_person(tx, person_id)


async def suspend(db: Database, order: Order, person_id: UUID, reason: str) -> Person:
    """Nothing works for this person any more, from the next call on, in no organisation. Safe to repeat. Conflict for
    oneself and for the last superadmin. The reason is kept for good: it names nobody."""
    async with db.operator() as tx:
        superadmins = await store.lock_superadmins(tx)
        person = await _lock(tx, person_id)
        if order.actor == f"person:{person_id}":
            raise Conflict("This is your own account. Ask another superadmin.")
        check_superadmin_remains(superadmins, person_id)
        return await _set_suspended(tx, order, person, order.now, reason)


async def unsuspend(db: Database, order: Order, person_id: UUID, reason: str) -> Person:
    async with db.operator() as tx:
        return await _set_suspended(tx, order, await _lock(tx, person_id), None, reason)


async def _set_suspended(tx: OperatorTx, order: Order, person: Person, at: datetime | None, reason: str) -> Person:
    if (person.suspended_at is None) == (at is None):
        return person
    await store.set_suspended(tx, person.id, at)
    action = "person.unsuspended" if at is None else "person.suspended"
    await record(tx, PLATFORM_ID, order, action, ("person", str(person.id)), {"reason": reason})
    after = await store.find(tx, person.id)
    assert after is not None
    return after


async def remove_second_factor(db: Database, site: Site, order: Order, person_id: UUID, reason: str) -> Person:
    """For somebody who lost their app and their recovery codes, and has proved to an operator who they are: their
    password alone lets them in again. Their sessions end, and they are told by mail. Conflict for oneself, and when
    there is no second factor."""
    async with db.operator() as tx:
        person = await _lock(tx, person_id)
        if order.actor == f"person:{person_id}":
            raise Conflict("This is your own account. Ask another superadmin.")
        if not await totps.remove_of(tx, person_id):
            raise Conflict("This person has no second factor.")
        ended = await sessions.revoke_all(tx, person_id, order.now)
        told = letter.second_factor_removed(site.name, site.url(link.FORGOTTEN_PATH))
        await link.post(tx, person.email, told, order.now)
        details: dict[str, Detail] = {"reason": reason, "sessions_ended": ended}
        await record(tx, PLATFORM_ID, order, "person.second_factor_removed", ("person", str(person_id)), details)
        return person


async def set_superadmin(db: Database, order: Order, person_id: UUID, wanted: bool) -> Person:
    """Makes somebody a superadmin, or takes that from them. Their sessions end: what they may do from here on begins
    with signing in. Safe to repeat. Conflict for oneself, for the last superadmin, and for somebody who cannot sign
    in."""
    async with db.operator() as tx:
        superadmins = await store.lock_superadmins(tx)
        person = await _lock(tx, person_id)
        if order.actor == f"person:{person_id}":
            raise Conflict("This is your own account. Ask another superadmin.")
        if person.superadmin == wanted:
            return person
        if wanted:
            _check_may_be_superadmin(person)
        else:
            check_superadmin_remains(superadmins, person_id)
        await store.set_superadmin(tx, person_id, wanted)
        ended = await sessions.revoke_all(tx, person_id, order.now)
        details: dict[str, Detail] = {"from": person.superadmin, "to": wanted, "sessions_ended": ended}
        await record(tx, PLATFORM_ID, order, "person.superadmin_set", ("person", str(person_id)), details)
        return replace(person, superadmin=wanted)


def _check_may_be_superadmin(person: Person) -> None:
    if person.erased_at is not None or person.suspended_at is not None:
        raise Conflict("This person cannot sign in: the account is suspended or erased. Let them in first.")
    if person.email_verified_at is None:
        raise Conflict("Nobody has verified this e-mail address yet. The link to do so is in the mail that it got.")


async def superadmins(db: Database) -> list[Person]:
    async with db.operator() as tx:
        return await store.superadmins(tx)


async def find_by_address(db: Database, email: str) -> UUID:
    """Whose e-mail address it is, in its normal form. NotFound, with the remedy."""
    async with db.operator() as tx:
        found = await profiles.find(tx, email)
    if found is None:
        raise NotFound(f"Nobody here has the address {email}. They sign up first.")
    return found.id


async def sign_out(db: Database, order: Order, person_id: UUID, reason: str) -> int:
    """Ends all of the person's sessions, and says how many there were."""
    async with db.operator() as tx:
        await _lock(tx, person_id)
        ended = await sessions.revoke_all(tx, person_id, order.now)
        details: dict[str, Detail] = {"sessions": ended, "reason": reason}
        await record(tx, PLATFORM_ID, order, "sessions.revoked", ("person", str(person_id)), details)
        return ended


async def _lock(tx: OperatorTx, person_id: UUID) -> Person:
    person = await store.lock(tx, person_id)
    if person is None:
        raise _no_such_person()
    return person


def _no_such_person() -> NotFound:
    return NotFound("There is no such person.")


# -------------------------------------------------------------------------------------------------------- organisations


async def search_organizations(db: Database, order: Order, wanted: Search) -> Page[Organization]:
    """By what stands in the name; those that were deleted among them."""
    before = id_in("organizations", wanted.cursor)
    async with db.operator() as tx:
        found = await organizations.search(tx, wanted.text, before, wanted.limit + 1, wanted.plan_id, wanted.state)
        about = ("organization", "all")
        await record(tx, PLATFORM_ID, order, "organization.searched", about, {"found": len(found)})
    items = found[: wanted.limit]
    return Page(items, cursor_of("organizations", str(items[-1].id)) if len(found) > wanted.limit else None)


async def read_members(
    db: Database, order: Order, organization_id: UUID, cursor: str | None, limit: int
) -> Page[Member]:
    """Who belongs to an organisation, in the order in which their accounts were made."""
    after = id_in("members", cursor)
    async with db.operator() as tx:
        await _lock_organization(tx, organization_id)
        about = ("organization", str(organization_id))
        await record(tx, organization_id, order, "member.read", about, {})
        found = await members.page(tx, organization_id, after, limit + 1)
    items = found[:limit]
    return Page(items, cursor_of("members", str(items[-1].person_id)) if len(found) > limit else None)


async def suspend_organization(db: Database, order: Order, organization_id: UUID, reason: str) -> Organization:
    """Nobody uses the organisation any more, from the next call on. Safe to repeat. Conflict for the platform, which
    would lock out who could undo it."""
    async with db.operator() as tx:
        row = await _lock_organization(tx, organization_id)
        if row.kind == "platform":
            raise Conflict("The platform cannot be suspended: nobody could undo it. Suspend what is in it instead.")
        return await _set_organization_suspended(tx, order, row, order.now, reason)


async def unsuspend_organization(db: Database, order: Order, organization_id: UUID, reason: str) -> Organization:
    async with db.operator() as tx:
        row = await _lock_organization(tx, organization_id)
        return await _set_organization_suspended(tx, order, row, None, reason)


async def _set_organization_suspended(
    tx: OperatorTx, order: Order, row: Organization, at: datetime | None, reason: str
) -> Organization:
    if (row.suspended_at is None) == (at is None):
        return row
    await organizations.set_suspended(tx, row.id, at)
    details: dict[str, Detail] = {"reason": reason}
    action = "organization.unsuspended" if at is None else "organization.suspended"
    await record(tx, row.id, order, action, ("organization", str(row.id)), details)
    after = await organizations.find(tx, row.id)
    assert after is not None
    return after


async def _lock_organization(tx: OperatorTx, organization_id: UUID) -> Organization:
    row = await organizations.lock(tx, organization_id)
    if row is None:
        raise NotFound("There is no such organisation.")
    return row
