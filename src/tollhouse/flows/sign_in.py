"""Signing in: by password, by a link in mail, by an account elsewhere. A second factor comes after each."""

from dataclasses import dataclass, field
from urllib.parse import quote
from uuid import UUID

from tollhouse.core import letter
from tollhouse.core.errors import Conflict, Forbidden, TooManyTries, Unauthenticated
from tollhouse.core.mailbox import normalised
from tollhouse.core.oidc import Identity
from tollhouse.core.person import NAME_MAX, name_of
from tollhouse.core.throttle import (
    MAIL_ACCOUNT,
    MAIL_ADDRESS,
    SIGN_IN_ACCOUNT,
    SIGN_IN_ACCOUNT_FROM_ADDRESS,
    SIGN_IN_ADDRESS,
    SIGN_UP_ADDRESS,
)
from tollhouse.flows import hasher, link, session, sign_up, throttle
from tollhouse.flows import invitation as invitations
from tollhouse.flows.order import Order
from tollhouse.flows.person import record_own
from tollhouse.flows.session import Begun, Browser
from tollhouse.flows.site import Site
from tollhouse.store import linked_identity as identities
from tollhouse.store import password as passwords
from tollhouse.store import profile as profiles
from tollhouse.store.db import Database, PersonTx
from tollhouse.store.profile import Profile


@dataclass(frozen=True, slots=True)
class Given:
    """What was typed."""

    email: str
    password: str = field(repr=False)


async def with_password(db: Database, site: Site, order: Order, given: Given, browser: Browser) -> Begun:
    """Unauthenticated, in the same words and after the same time, for a wrong password, for an account without one and
    for an address that has no account. Forbidden, and the link sent once more, for who has not confirmed their
    address."""
    now, address = order.now, order.address or ""
    await throttle.check(db, site.keyring, SIGN_IN_ADDRESS, address, now=now)
    email = normalised(given.email)
    await throttle.check(db, site.keyring, SIGN_IN_ACCOUNT_FROM_ADDRESS, email, address, now=now)
    await throttle.check(db, site.keyring, SIGN_IN_ACCOUNT, email, now=now)
    async with hasher.on_the_beat():
        known = await _knows_password(db, order, email, given.password)
    if known is None:
        raise Unauthenticated(
            "The e-mail address or the password is not right. Try again, or have a link to sign in sent to you."
        )
    person, hash_ = known
    await throttle.forget(db, site.keyring, SIGN_IN_ACCOUNT_FROM_ADDRESS, email, address)
    await throttle.forget(db, site.keyring, SIGN_IN_ACCOUNT, email)
    if person.email_verified_at is None:
        await _send_verification(db, site, order, person)
        raise Forbidden("Confirm your e-mail address first: a mail with a link was sent to you just now.")
    return await session.begin(db, site, order, person.id, "password", browser, knows=hash_)


async def verify_email(db: Database, site: Site, order: Order, token: str, password: str, browser: Browser) -> Begun:
    """The link that was sent at sign-up, and the password that was chosen then: the address is confirmed, and the
    person signed in. It takes both: somebody else may have signed up with an address that is not theirs. NotFound for
    a link that works no more, Unauthenticated for another password."""
    sent = await link.look(db, site.keyring, "verify_email", token, order.now)
    await throttle.check(db, site.keyring, SIGN_IN_ACCOUNT, sent.email, now=order.now)
    known = await _knows_password(db, order, sent.email, password)
    if known is None or known[0].id != sent.person_id:
        raise Unauthenticated(
            "This is not the password that was chosen at sign-up. Try again, or choose another one by 'Forgotten?'."
        )
    person, hash_ = known
    async with db.person(person.id) as tx:
        await link.take(tx, site.keyring, "verify_email", token, sent, order.now)
        if await profiles.set_verified(tx, sent.email, order.now):
            await record_own(tx, _own(order, person.id), "person.email_verified", ("person", str(person.id)), {})
    return await session.begin(db, site, order, person.id, "password", browser, knows=hash_)


async def request_link(db: Database, site: Site, order: Order, email: str, next_path: str = "/") -> None:
    """Sends a link to sign in, which leads on to `next_path`, a path here. Neither the answer nor its time tells
    whether there is an account."""
    address = normalised(email)
    await check_mail(db, site, order, address)
    async with hasher.on_the_beat():
        person = await find(db, address)
        if person is None or person.suspended_at is not None:
            return
        async with db.person(person.id) as tx:
            there = await link.issue(tx, site, "sign_in", person.id, person.email, order.now)
            if next_path != "/":
                there += f"?next={quote(next_path, safe='')}"
            await link.post(tx, person.email, letter.sign_in(site.name, there), order.now)
            own = _own(order, person.id)
            await record_own(tx, own, "person.sign_in_link_sent", ("person", str(person.id)), {})


async def with_link(db: Database, site: Site, order: Order, token: str, browser: Browser) -> Begun:
    """NotFound for a link that works no more, or was sent to an address that the person has no more."""
    sent = await link.look(db, site.keyring, "sign_in", token, order.now)
    async with db.person(sent.person_id) as tx:
        await link.take(tx, site.keyring, "sign_in", token, sent, order.now)
        await prove_mailbox(tx, order, await _still(tx, sent.email))
    return await session.begin(db, site, order, sent.person_id, "link", browser)


async def sign_in_with_identity(
    db: Database, site: Site, order: Order, identity: Identity, invitation: str | None = None
) -> UUID:
    """The person to whom this account at a provider is linked; else a new one. It is never linked to an account that
    there is by its address alone: Conflict, as its owner can link it after signing in. `invitation`: the token of a
    link in mail, for where only who is invited may sign up. Forbidden without an address that the provider has
    verified."""
    async with db.nobody() as tx:
        person_id = await identities.find(tx, identity.provider_id, identity.subject)
    if person_id is not None:
        return person_id
    if identity.email is None or not identity.email_verified:
        raise Forbidden(
            "Your provider does not say that your e-mail address is verified. Sign up with your address instead, and "
            "link this account to it afterwards."
        )
    email = normalised(identity.email)
    await throttle.check(db, site.keyring, SIGN_UP_ADDRESS, order.address or "", now=order.now)
    if site.sign_up == "invited":
        await _check_invited(db, site, order, invitation, email)
    async with db.operator() as tx:
        made = await sign_up.make(
            tx, order, email, name_of((identity.name or "")[:NAME_MAX]), verified=True, by=str(identity.provider_id)
        )
        if made is None or not await identities.insert(
            tx, made, identity.provider_id, identity.subject, email, order.now
        ):
            raise Conflict(
                "There is an account with your e-mail address already. Sign in to it, and link this one to it there."
            )
    return made


async def _check_invited(db: Database, site: Site, order: Order, token: str | None, email: str) -> None:
    if token is None or (await invitations.look(db, site.keyring, token, order.now)).invitation.email != email:
        raise Forbidden(
            "Only who was invited may sign up here: open the link of your invitation, and sign in with its address."
        )


async def prove_mailbox(tx: PersonTx, order: Order, person: Profile) -> None:
    """Who holds the mailbox takes over an account that nobody had confirmed: a password that was set before may be
    somebody else's, so it is gone."""
    if await profiles.set_verified(tx, person.email, order.now):
        dropped = await passwords.delete(tx)
        details = {"password_dropped": dropped}
        about = ("person", str(person.id))
        await record_own(tx, _own(order, person.id), "person.email_verified", about, details)


async def find(db: Database, email: str) -> Profile | None:
    async with db.nobody() as tx:
        return await profiles.find(tx, email)


async def check_mail(db: Database, site: Site, order: Order, email: str) -> None:
    """TooManyTries when too much mail was asked for from one place, or to one address."""
    await throttle.check(db, site.keyring, MAIL_ADDRESS, order.address or "", now=order.now)
    await throttle.check(db, site.keyring, MAIL_ACCOUNT, email, now=order.now)


async def _knows_password(db: Database, order: Order, email: str, password: str) -> tuple[Profile, str] | None:
    """The person of the address and the hash of their password, when this is it. Who fails leaves a trace in that
    person's record."""
    person, stored = await find(db, email), None
    if person is not None:
        async with db.person(person.id) as tx:
            stored = await passwords.read(tx)
    fits = await hasher.fits(password, stored)
    if person is None or stored is None or not fits:
        if person is not None:
            await _record_failure(db, order, person.id)
        return None
    fresh = await hasher.rehashed(password, stored)
    if fresh is not None:
        async with db.person(person.id) as tx:
            stored = fresh if await passwords.rehash(tx, stored, fresh) else stored
    return person, stored


async def _record_failure(db: Database, order: Order, person_id: UUID) -> None:
    async with db.person(person_id) as tx:
        about, details = ("person", str(person_id)), {"by": "password"}
        await record_own(tx, Order("system", order.now, order.address), "person.sign_in_failed", about, details)


async def _send_verification(db: Database, site: Site, order: Order, person: Profile) -> None:
    try:
        await check_mail(db, site, order, person.email)
    except TooManyTries:
        return  # the mails that were sent within the hour are enough
    async with db.person(person.id) as tx:
        there = await link.issue(tx, site, "verify_email", person.id, person.email, order.now)
        await link.post(tx, person.email, letter.verify_email(site.name, there), order.now)


async def _still(tx: PersonTx, email: str) -> Profile:
    """The person of the transaction, whose address this must still be."""
    person = await profiles.read(tx)
    if person is None or person.email != email:
        raise Unauthenticated("This link was sent to an address that the account has no more. Ask for another one.")
    return person


def _own(order: Order, person_id: UUID) -> Order:
    """The order as the person's own."""
    return Order(f"person:{person_id}", order.now, order.address)
