"""Members of an organisation: their roles, how they go, and who owns it. Each change is one transaction under the
organisation's lock, with its audit row: of two at once, the second decides on what the first left."""

from uuid import UUID

from tollhouse.core import membership
from tollhouse.core.access import Role, check_may_give
from tollhouse.core.errors import Conflict, NotFound
from tollhouse.core.session import check_own
from tollhouse.flows.audit import record
from tollhouse.flows.order import Order
from tollhouse.flows.organization import Insider, check_may_own, enter
from tollhouse.store import invitation as invitations
from tollhouse.store import member as store
from tollhouse.store.db import Database, OperatorTx
from tollhouse.store.member import Member


async def change_role(db: Database, insider: Insider, person_id: UUID, role: Role) -> Member:
    """Forbidden for a role that the insider can neither give nor take, Conflict when no owner would be left, or the new
    owner owns too many organisations."""
    async with db.operator() as tx:
        row, own_role = await enter(tx, insider, "members.manage")
        membership.check_has_members(row.kind)
        member = await _member(tx, row.id, person_id)
        check_may_give(own_role, member.role)
        check_may_give(own_role, role)
        if role == member.role:
            return member
        if "owner" in (role, member.role):
            insider.check_proved()
        if member.role == "owner":
            membership.check_owner_remains(await store.owners(tx, row.id), person_id)
        if role == "owner":
            await _check_may_become_owner(tx, member)
        await _set_role(tx, insider.order, row.id, member, role)
        return await _member(tx, row.id, person_id)


async def remove(db: Database, insider: Insider, person_id: UUID) -> None:
    """The member is in no more, from the next call on; calls that run end. Invitations that they sent and nobody has
    answered are revoked."""
    async with db.operator() as tx:
        row, own_role = await enter(tx, insider, "members.manage")
        membership.check_has_members(row.kind)
        member = await _member(tx, row.id, person_id)
        check_may_give(own_role, member.role)
        if member.role == "owner":
            insider.check_proved()
        await _end(tx, insider.order, row.id, member, "member.removed")


async def leave(db: Database, insider: Insider) -> None:
    """Conflict for the only owner, and in a personal organisation."""
    check_own(insider.person)
    async with db.operator() as tx:
        row, _ = await enter(tx, insider, "organization.read")
        membership.check_has_members(row.kind)
        member = await _member(tx, row.id, insider.person.person_id)
        await _end(tx, insider.order, row.id, member, "member.left")


async def transfer(db: Database, insider: Insider, person_id: UUID) -> Member:
    """Makes a member the owner in the insider's place, who becomes an admin. ProofRequired as for everything that
    changes who owns it."""
    insider.check_proved()
    async with db.operator() as tx:
        row, _ = await enter(tx, insider, "organization.own")
        membership.check_has_members(row.kind)
        before = await _member(tx, row.id, insider.person.person_id)
        member = await _member(tx, row.id, person_id)
        if member.person_id == before.person_id:
            raise Conflict("You own this organisation already. Name another member.")
        if member.role != "owner":
            await _check_may_become_owner(tx, member)
            await store.set_role(tx, row.id, person_id, "owner")
        elif member.suspended_at is not None:
            raise _suspended()
        await store.set_role(tx, row.id, before.person_id, "admin")
        details = {"from": str(before.person_id), "to": str(person_id), "role_before": member.role}
        about = ("organization", str(row.id))
        await record(tx, row.id, insider.order, "ownership.transferred", about, details)
        return await _member(tx, row.id, person_id)


async def _check_may_become_owner(tx: OperatorTx, member: Member) -> None:
    if member.suspended_at is not None:
        raise _suspended()
    await check_may_own(tx, member.person_id)


def _suspended() -> Conflict:
    return Conflict("This person is suspended and could not act as an owner. Choose another member.")


async def _set_role(tx: OperatorTx, order: Order, organization_id: UUID, member: Member, role: Role) -> None:
    await store.set_role(tx, organization_id, member.person_id, role)
    details: dict[str, str | int] = {"from": member.role, "to": role}
    if role == "member":  # who may invite nobody any more has invited nobody
        sent_by = f"person:{member.person_id}"
        details["invitations_revoked"] = await invitations.revoke_from(tx, organization_id, sent_by, order.now)
    await record(tx, organization_id, order, "member.role_changed", ("person", str(member.person_id)), details)


async def _end(tx: OperatorTx, order: Order, organization_id: UUID, member: Member, action: str) -> None:
    if member.role == "owner":
        membership.check_owner_remains(await store.owners(tx, organization_id), member.person_id)
    await store.delete(tx, organization_id, member.person_id)
    revoked = await invitations.revoke_from(tx, organization_id, f"person:{member.person_id}", order.now)
    details = {"role": member.role, "invitations_revoked": revoked}
    await record(tx, organization_id, order, action, ("person", str(member.person_id)), details)


async def _member(tx: OperatorTx, organization_id: UUID, person_id: UUID) -> Member:
    """NotFound for whoever is not a member, whether or not there is such a person."""
    member = await store.one(tx, organization_id, person_id)
    if member is None:
        raise NotFound("This organisation has no such member.")
    return member
