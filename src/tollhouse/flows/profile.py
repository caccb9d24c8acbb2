"""What people change about themselves: their name, their e-mail address, the accounts elsewhere that sign them in."""

from uuid import UUID

from psycopg.errors import UniqueViolation

from tollhouse.core import letter
from tollhouse.core.errors import Conflict, Forbidden, NotFound
from tollhouse.core.mailbox import normalised
from tollhouse.core.oidc import Identity
from tollhouse.core.person import name_of
from tollhouse.core.privacy import masked
from tollhouse.core.session import Signed, check_own, check_proved
from tollhouse.flows import link, session
from tollhouse.flows.order import Order
from tollhouse.flows.person import record_own
from tollhouse.flows.sign_in import check_mail
from tollhouse.flows.site import Site
from tollhouse.store import linked_identity as identities
from tollhouse.store import one_time_token as tokens
from tollhouse.store import profile as store
from tollhouse.store.db import Database
from tollhouse.store.linked_identity import Linked


async def rename(db: Database, order: Order, signed: Signed, name: str) -> None:
    check_own(signed)
    wanted = name_of(name)
    async with db.person(signed.person_id) as tx:
        await store.set_name(tx, wanted)
        # the record outlives the person's data: it says that the name was changed, and not to what
        await record_own(tx, order, "person.renamed", ("person", str(signed.person_id)), {})


async def choose_language(db: Database, signed: Signed, code: str | None) -> None:
    """The language in which pages are shown to the person from then on, in every browser; None: as each asks. Nobody
    is told: it changes nothing but how pages look to them."""
    check_own(signed)
    async with db.person(signed.person_id) as tx:
        await store.set_language(tx, code)


async def request_email(db: Database, site: Site, order: Order, signed: Signed, email: str) -> None:
    """Sends a link to the new address; the present one stays until it was opened. Whether somebody has the address
    already is told to its owner alone."""
    check_proved(signed, order.now)
    wanted = normalised(email)
    if wanted == signed.email:
        raise Conflict("This is your address already. Give another one.")
    await check_mail(db, site, order, wanted)
    async with db.person(signed.person_id) as tx:
        if await store.find(tx, wanted) is not None:
            told = letter.email_taken(site.name)
        else:
            there = await link.issue(tx, site, "change_email", signed.person_id, wanted, order.now)
            told = letter.change_email(site.name, there)
        await link.post(tx, wanted, told, order.now)
        about, details = ("person", str(signed.person_id)), {"to": masked(wanted)}
        await record_own(tx, order, "person.email_change_requested", about, details)


async def confirm_email(db: Database, site: Site, order: Order, signed: Signed, token: str) -> str:
    """The link was opened, by who is signed in to the account that asked for it: an address that was mistyped gives
    nobody the account. The former address is told. Returns the new cookie."""
    check_own(signed)
    sent = await link.look(db, site.keyring, "change_email", token, order.now)
    if sent.person_id != signed.person_id:
        raise Forbidden("This link belongs to another account. Sign in to that one, then open it again.")
    try:
        async with db.person(signed.person_id) as tx:
            await link.take(tx, site.keyring, "change_email", token, sent, order.now)
            cookie = await session.rotate(tx, site.keyring, signed, order.now)
            await store.set_email(tx, sent.email, order.now)
            await tokens.void_all(tx, order.now)
            await link.post(tx, signed.email, letter.email_changed(site.name, masked(sent.email)), order.now)
            about = ("person", str(signed.person_id))
            details = {"from": masked(signed.email), "to": masked(sent.email)}
            await record_own(tx, order, "person.email_changed", about, details)
    except UniqueViolation as error:
        raise Conflict("Somebody has an account with this address by now. Use another one.") from error
    return cookie


async def linked(db: Database, signed: Signed) -> list[Linked]:
    async with db.person(signed.person_id) as tx:
        return await identities.listed(tx)


async def link_identity(db: Database, site: Site, order: Order, signed: Signed, identity: Identity) -> None:
    """From here on the account at the provider signs in to this one. Safe to repeat. Conflict when it signs in to
    another one; ProofRequired unless the person has just proved who they are."""
    check_proved(signed, order.now)
    async with db.person(signed.person_id) as tx:
        owner_id = await identities.find(tx, identity.provider_id, identity.subject)
        if owner_id == signed.person_id:
            return
        if owner_id is not None or not await identities.insert(
            tx, signed.person_id, identity.provider_id, identity.subject, identity.email, order.now
        ):
            raise Conflict("That account is linked to somebody else here. Sign in with it, and remove it there first.")
        names = [one.provider_name for one in await identities.listed(tx) if one.provider_id == identity.provider_id]
        told = letter.identity_linked(site.name, names[0], site.url(link.FORGOTTEN_PATH))
        await link.post(tx, signed.email, told, order.now)
        about = ("identity_provider", str(identity.provider_id))
        await record_own(tx, order, "identity.linked", about, {})


async def unlink_identity(db: Database, order: Order, signed: Signed, provider_id: UUID, subject: str) -> None:
    """Signing in by a link in mail, or by another password that such a link gives, remains. NotFound for an account
    that is not linked to this one."""
    check_proved(signed, order.now)
    async with db.person(signed.person_id) as tx:
        if not await identities.delete(tx, provider_id, subject):
            raise NotFound("No such account is linked to yours. Load the page again.")
        await record_own(tx, order, "identity.unlinked", ("identity_provider", str(provider_id)), {})
