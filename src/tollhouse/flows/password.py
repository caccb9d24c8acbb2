"""Another password: chosen by who is signed in, or by who holds the mailbox."""

from tollhouse.core import letter
from tollhouse.core.errors import NotFound
from tollhouse.core.mailbox import normalised
from tollhouse.core.session import Signed, check_proved
from tollhouse.flows import hasher, link, session
from tollhouse.flows.order import Order
from tollhouse.flows.person import record_own
from tollhouse.flows.sign_in import check_mail, find, prove_mailbox
from tollhouse.flows.site import Site
from tollhouse.store import one_time_token as tokens
from tollhouse.store import password as store
from tollhouse.store import profile as profiles
from tollhouse.store import session as sessions
from tollhouse.store.db import Database


async def change(db: Database, site: Site, order: Order, signed: Signed, password: str) -> str:
    """Another password, or the first one of who signed in without. Their other sessions end, and links that they were
    sent work no more. ProofRequired unless they have just proved who they are. Returns the new cookie."""
    check_proved(signed, order.now)
    hash_ = await hasher.hashed(password, signed.name, signed.email)
    async with db.person(signed.person_id) as tx:
        cookie = await session.rotate(tx, site.keyring, signed, order.now)
        await store.put(tx, signed.person_id, hash_, order.now)
        ended = await sessions.revoke_all(tx, signed.person_id, order.now, signed.id)
        await tokens.void_all(tx, order.now)
        told = letter.password_changed(site.name, site.url(link.FORGOTTEN_PATH))
        await link.post(tx, signed.email, told, order.now)
        about, details = ("person", str(signed.person_id)), {"sessions_ended": ended}
        await record_own(tx, order, "password.changed", about, details)
    return cookie


async def request_reset(db: Database, site: Site, order: Order, email: str) -> None:
    """Sends a link to choose another password, also to who has none yet. Neither the answer nor its time tells whether
    there is an account."""
    address = normalised(email)
    await check_mail(db, site, order, address)
    async with hasher.on_the_beat():
        person = await find(db, address)
        if person is None or person.suspended_at is not None:
            return
        async with db.person(person.id) as tx:
            there = await link.issue(tx, site, "reset_password", person.id, person.email, order.now)
            await link.post(tx, person.email, letter.reset_password(site.name, there), order.now)
            own = Order(f"person:{person.id}", order.now, order.address)
            await record_own(tx, own, "password.reset_requested", ("person", str(person.id)), {})


async def reset(db: Database, site: Site, order: Order, token: str, password: str) -> None:
    """Another password for who holds the mailbox. All sessions end and no other link works any more; a second factor
    stays. Signing in comes next. NotFound for a link that works no more."""
    now = order.now
    sent = await link.look(db, site.keyring, "reset_password", token, now)
    async with db.person(sent.person_id) as tx:
        person = await profiles.read(tx)
    if person is None or person.email != sent.email:
        raise NotFound("This link was sent to an address that the account has no more. Ask for another one.")
    hash_ = await hasher.hashed(password, person.name, person.email)
    async with db.person(person.id) as tx:
        await link.take(tx, site.keyring, "reset_password", token, sent, now)
        await prove_mailbox(tx, order, person)
        await store.put(tx, person.id, hash_, now)
        ended = await sessions.revoke_all(tx, person.id, now)
        await tokens.void_all(tx, now)
        told = letter.password_changed(site.name, site.url(link.FORGOTTEN_PATH))
        await link.post(tx, person.email, told, now)
        own = Order(f"person:{person.id}", now, order.address)
        about, details = ("person", str(person.id)), {"sessions_ended": ended}
        await record_own(tx, own, "password.reset", about, details)
