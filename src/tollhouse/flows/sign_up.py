"""Signing up: a person, their personal organisation, and a mail that shows whose address it is."""

import os
from dataclasses import dataclass, field
from uuid import UUID

from tollhouse.core import letter
from tollhouse.core.audit import Detail
from tollhouse.core.errors import Conflict, Forbidden
from tollhouse.core.key import ordered_id
from tollhouse.core.mailbox import normalised
from tollhouse.core.person import name_of
from tollhouse.core.throttle import MAIL_ACCOUNT, SIGN_UP_ADDRESS
from tollhouse.flows import hasher, invitation, link, throttle
from tollhouse.flows.audit import record
from tollhouse.flows.order import Order
from tollhouse.flows.person import give_own_organization
from tollhouse.flows.site import Site
from tollhouse.store import password as passwords
from tollhouse.store import profile as profiles
from tollhouse.store.db import Database, OperatorTx


@dataclass(frozen=True, slots=True)
class NewPerson:
    """`invitation` is the token of a link in mail."""

    email: str
    name: str
    password: str = field(repr=False)
    invitation: str | None = field(default=None, repr=False)


async def sign_up(db: Database, site: Site, order: Order, wanted: NewPerson) -> UUID | None:
    """The new person, when an invitation's link has shown that the mailbox is theirs: they may be signed in. None when
    mail was sent instead, which says what comes next; neither the answer nor its time tells whether the address had an
    account already. Forbidden where only who is invited may sign up."""
    now = order.now
    await throttle.check(db, site.keyring, SIGN_UP_ADDRESS, order.address or "", now=now)
    email, name = normalised(wanted.email), name_of(wanted.name)
    if wanted.invitation is not None:
        found = await invitation.look(db, site.keyring, wanted.invitation, now)
        if found.invitation.email != email:
            raise Forbidden("This invitation was sent to another address. Sign up with that one, or without it.")
    elif site.sign_up == "invited":
        raise Forbidden("Only who was invited may sign up here. Open the link of your invitation, or ask for one.")
    await throttle.check(db, site.keyring, MAIL_ACCOUNT, email, now=now)
    async with hasher.on_the_beat():
        hash_ = await hasher.hashed(wanted.password, name, email)
        async with db.operator() as tx:
            invited = wanted.invitation is not None
            person_id = await make(tx, order, email, name, verified=invited)
            if person_id is not None:
                await passwords.insert(tx, person_id, hash_, now)
            if invited:
                if person_id is None:
                    raise Conflict("You have an account with this address: sign in, then open the link again.")
                return person_id
            if person_id is None:
                await _tell_owner(tx, site, order, email)
            else:
                there = await link.issue(tx, site, "verify_email", person_id, email, now)
                await link.post(tx, email, letter.verify_email(site.name, there), now)
    return None


async def make(
    tx: OperatorTx, order: Order, email: str, name: str, *, verified: bool, by: str = "password"
) -> UUID | None:
    """A new person with their personal organisation, on its record. None when the address is somebody's. `by`: how
    they will sign in, as it stands in the record."""
    person_id = ordered_id(order.now, os.urandom(10))
    if not await profiles.insert(tx, person_id, email, name, order.now if verified else None, order.now):
        return None
    own = Order(f"person:{person_id}", order.now, order.address)
    organization_id = await give_own_organization(tx, own, person_id)
    details: dict[str, Detail] = {"by": by, "verified": verified}
    await record(tx, organization_id, own, "person.signed_up", ("person", str(person_id)), details)
    return person_id


async def _tell_owner(tx: OperatorTx, site: Site, order: Order, email: str) -> None:
    """Whoever has the address learns of it; whoever typed it does not. Who never confirmed it chooses a password by the
    link, in place of one that anybody may have set."""
    person = await profiles.find(tx, email)
    if person is None:  # erased since
        return
    if person.email_verified_at is None and person.suspended_at is None:
        there = await link.issue(tx, site, "reset_password", person.id, email, order.now)
        told = letter.finish_sign_up(site.name, there)
    else:
        told = letter.signed_up_again(site.name, site.url(link.SIGN_IN_PATH), site.url(link.FORGOTTEN_PATH))
    await link.post(tx, email, told, order.now)
