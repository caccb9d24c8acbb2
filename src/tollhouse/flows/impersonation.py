"""A superadmin acts as somebody else: with a reason, for an hour, on the record of that person's organisations."""

import os
from uuid import UUID

from tollhouse.core.audit import Detail
from tollhouse.core.errors import BadRequest, Forbidden, NotFound, Unauthenticated
from tollhouse.core.key import ordered_id
from tollhouse.core.link import RANDOM_BYTES, new_token, token_digest
from tollhouse.core.routing import PLATFORM_ID
from tollhouse.core.session import IMPERSONATION, REASON_MAX, REASON_MIN, Signed, check_proved
from tollhouse.flows.audit import record
from tollhouse.flows.order import Order
from tollhouse.flows.person import ensure_own_organization
from tollhouse.flows.session import plain
from tollhouse.flows.site import Site
from tollhouse.store import member as members
from tollhouse.store import person as people
from tollhouse.store import profile as profiles
from tollhouse.store import session as store
from tollhouse.store.db import Database, OperatorTx


async def begin(
    db: Database, site: Site, order: Order, signed: Signed, person_id: UUID, reason: str, user_agent: str,
    organization_id: UUID | None = None,
) -> str:  # fmt: skip
    """Acts as the person for an hour, in this organisation of theirs or in their personal one. The superadmin's own
    session waits. Forbidden for who is no superadmin, and to act as another superadmin or as somebody suspended;
    BadRequest without a reason. Returns the cookie."""
    if "platform" not in signed.permissions:
        raise Forbidden("Only superadmins may act as somebody else.")
    check_proved(signed, order.now)
    why = " ".join(reason.split())
    if not REASON_MIN <= len(why) <= REASON_MAX:
        raise BadRequest(f"Say why, in {REASON_MIN} to {REASON_MAX} characters: the person can read it.", "reason")
    async with db.operator() as tx:
        await _check_may_be_acted_as(tx, signed, person_id)
    own_id = await ensure_own_organization(db, Order("system", order.now), person_id)
    now, token = order.now, new_token(os.urandom(RANDOM_BYTES))
    async with db.operator() as tx:
        chosen = organization_id or own_id
        if await members.role_of(tx, chosen, person_id) is None:
            raise NotFound("The person is not a member of such an organisation.")
        row = store.New(
            person_id, ordered_id(now, os.urandom(10)), token_digest(site.keyring, token), chosen, "impersonation",
            now, now + IMPERSONATION, True, order.address, plain(user_agent), signed.person_id, signed.id, why,
        )  # fmt: skip
        await store.insert(tx, row)
        details = {"person": str(person_id), "reason": why, "organization": str(chosen)}
        await _record(tx, order, {own_id, chosen}, "impersonation.begun", row.id, details)
    return token


async def end(db: Database, site: Site, order: Order, signed: Signed) -> str:
    """Back in the superadmin's own session, of which this is the new cookie. Unauthenticated when that has ended."""
    behind = signed.impersonator
    if behind is None:
        raise Forbidden("You act as yourself already.")
    token = new_token(os.urandom(RANDOM_BYTES))
    async with db.operator() as tx:
        own_id = await profiles.personal_organization(tx, signed.person_id)
        concerned = {signed.organization_id, own_id or signed.organization_id}
        if await store.revoke(tx, signed.person_id, signed.id, order.now):
            details = {"person": str(signed.person_id)}
            await _record(tx, order, concerned, "impersonation.ended", signed.id, details)
        resumed = await store.resume(tx, behind.id, behind.session_id, token_digest(site.keyring, token), order.now)
    if not resumed:
        raise Unauthenticated("Your own session has ended meanwhile. Sign in again.")
    return token


async def _check_may_be_acted_as(tx: OperatorTx, signed: Signed, person_id: UUID) -> None:
    person = await people.find(tx, person_id)
    if person is None or person.erased_at is not None:
        raise NotFound("There is no such person.")
    if person.superadmin or person.id == signed.person_id:
        raise Forbidden("Nobody acts as a superadmin: that would take over what only they may do.")
    if person.suspended_at is not None:
        raise Forbidden("This person is suspended: they may do nothing at the moment, and so may who acts as them.")


async def _record(
    tx: OperatorTx, order: Order, concerned: set[UUID], action: str, session_id: UUID, details: dict[str, str]
) -> None:
    """In each organisation that is concerned, and in the platform's chain; in the order of their locks."""
    told: dict[str, Detail] = dict(details)
    for organization_id in sorted(concerned | {PLATFORM_ID}):
        await record(tx, organization_id, order, action, ("session", str(session_id)), told)
