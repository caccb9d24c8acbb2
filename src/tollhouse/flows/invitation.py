"""Invitations by mail: a link that works once, for seven days, for the address that it was sent to."""

import os
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from tollhouse.core import membership
from tollhouse.core.access import Role, check_may_give
from tollhouse.core.admission import check_suspended
from tollhouse.core.errors import Conflict, Forbidden, NotFound
from tollhouse.core.key import ordered_id
from tollhouse.core.link import RANDOM_BYTES, looks_like_a_token, new_token, token_digest, token_digests
from tollhouse.core.mailbox import normalised
from tollhouse.core.membership import INVITATION_LASTS, Invitation
from tollhouse.core.session import Signed, check_own
from tollhouse.core.throttle import INVITATION_ORGANIZATION
from tollhouse.core.vault import Keyring
from tollhouse.flows import mail, throttle
from tollhouse.flows.audit import record
from tollhouse.flows.order import Order
from tollhouse.flows.organization import Insider, enter
from tollhouse.flows.site import Site
from tollhouse.store import invitation as store
from tollhouse.store import member as members
from tollhouse.store import organization as organizations
from tollhouse.store import person as people
from tollhouse.store.db import Database, OperatorTx
from tollhouse.store.invitation import InvitationFound
from tollhouse.store.organization import Organization
from tollhouse.store.person import Person


@dataclass(frozen=True, slots=True)
class Wanted:
    """Whom to invite, as what; nobody is invited as an owner."""

    email: str
    role: Role


async def invite(db: Database, site: Site, insider: Insider, wanted: Wanted) -> Invitation:
    """Writes the mail and the invitation that it leads to. An invitation that the address has here already is replaced:
    its link works no more. Conflict for an address that is a member's, TooManyTries for an organisation that invites
    too many."""
    email = normalised(wanted.email)
    await throttle.check(db, site.keyring, INVITATION_ORGANIZATION, str(insider.organization_id), now=insider.order.now)
    token = new_token(os.urandom(RANDOM_BYTES))
    async with db.operator() as tx:
        row, role = await enter(tx, insider, "members.manage")
        membership.check_has_members(row.kind)
        check_may_give(role, wanted.role)
        host = await _host(tx, insider)
        if await members.has_address(tx, row.id, email):
            raise Conflict("Somebody with this address is a member here already.")
        now = insider.order.now
        waiting = await store.waiting(tx, row.id)
        replaced = [one.id for one in waiting if one.email == email or one.expires_at <= now]
        membership.check_room_for_invitation(len(waiting) - len(replaced))
        await store.revoke(tx, row.id, replaced, now)
        invitation = Invitation(
            row.id, ordered_id(now, os.urandom(10)), email, wanted.role, insider.name, now, now + INVITATION_LASTS,
            None, None,
        )  # fmt: skip
        await store.insert(tx, invitation, token_digest(site.keyring, token))
        subject, body = _mail(site, row.name, host, invitation, token)
        await mail.write(tx, email, "invitation", subject, body, now)
        details = {"role": wanted.role, "replaced": [str(one.id) for one in waiting if one.email == email]}
        about = ("invitation", str(invitation.id))
        await record(tx, row.id, insider.order, "invitation.sent", about, details)
        return invitation


async def _host(tx: OperatorTx, insider: Insider) -> Person | None:
    """Who invites, when it is a person: one who has proved their own address writes to others."""
    if insider.signed is None:
        return None
    host = await people.find(tx, insider.signed.person_id)
    if host is None or host.email_verified_at is None:
        raise Forbidden("Confirm your own e-mail address first: open the link in the mail that was sent to you.")
    return host


def _mail(site: Site, organization: str, host: Person | None, invitation: Invitation, token: str) -> tuple[str, str]:
    who = host.email if host else "An administrator"
    article = "an" if invitation.role == "admin" else "a"
    organization = " ".join(organization.split())  # a name adds no lines of its own
    body = f"""{who} invites you to the organisation "{organization}" at {site.name}, as {article} {invitation.role}.

To accept, open this link and sign in with the address {invitation.email}, or sign up with it:

{site.url("/invitations/" + token)}

The link works once, until {invitation.expires_at:%Y-%m-%d %H:%M} UTC.
If you did not expect this, do nothing: then nothing happens."""
    return f'Invitation to "{organization}" at {site.name}', body


async def revoke(db: Database, insider: Insider, invitation_id: UUID) -> None:
    """Its link works no more. Safe to repeat; NotFound when the organisation has no such invitation, Conflict when it
    was accepted."""
    async with db.operator() as tx:
        row, _ = await enter(tx, insider, "members.manage")
        invitation = await store.one(tx, row.id, invitation_id)
        if invitation is None:
            raise NotFound("This organisation has no such invitation.")
        if invitation.accepted_at is not None:
            raise Conflict("This invitation was accepted. Remove the member instead.")
        if invitation.revoked_at is None:
            await store.revoke(tx, row.id, [invitation_id], insider.order.now)
            about = ("invitation", str(invitation_id))
            await record(tx, row.id, insider.order, "invitation.revoked", about, {"role": invitation.role})


async def look(db: Database, keyring: Keyring, token: str, now: datetime) -> InvitationFound:
    """What a link leads to, for whoever holds it. NotFound when it is none of ours, Conflict when it leads nowhere any
    more."""
    async with db.nobody() as tx:
        found = await store.find(tx, token_digests(keyring, token)) if looks_like_a_token(token) else None
    if found is None:
        raise NotFound("There is no such invitation. Open the link of the mail again, whole, or ask for another one.")
    membership.check_open(found.invitation, now)
    return found


async def accept(db: Database, keyring: Keyring, order: Order, signed: Signed, token: str) -> tuple[Organization, Role]:
    """Makes the person who is signed in a member: of what, and in which role they are there now. Forbidden for another
    address than the one it was sent to, and for one that was not proved yet; NotFound and Conflict for a link that
    leads nowhere."""
    check_own(signed)
    person_id = signed.person_id
    found = await look(db, keyring, token, order.now)
    async with db.operator() as tx:
        row = await organizations.lock(tx, found.invitation.organization_id)
        person = await people.lock(tx, person_id)
        invitation = await store.one(tx, found.invitation.organization_id, found.invitation.id)
        if row is None or row.deleted_at is not None or person is None or invitation is None:
            raise NotFound("There is no such invitation any more. Ask for another one.")
        membership.check_open(invitation, order.now)
        check_suspended(row.suspended_at is not None)
        membership.check_invited(invitation, person.email, verified=person.email_verified_at is not None)
        await store.accept(tx, row.id, invitation.id, order.now)
        role = await members.role_of(tx, row.id, person_id)
        if role is None:
            await members.insert(tx, row.id, person_id, invitation.role, order.now)
            details = {"role": invitation.role, "invitation": str(invitation.id), "invited_by": invitation.invited_by}
            await record(tx, row.id, order, "member.joined", ("person", str(person_id)), details)
        return row, role or invitation.role
