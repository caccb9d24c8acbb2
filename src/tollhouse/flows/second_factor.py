"""Second factors: a code of an app, or a recovery code, when signing in and before what is dangerous."""

import os
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

import segno

from tollhouse.core import letter, totp
from tollhouse.core.errors import BadRequest, Conflict, Forbidden, Unauthenticated
from tollhouse.core.session import LIFETIME, Held, Signed, check_proved
from tollhouse.core.throttle import CODE_ACCOUNT
from tollhouse.core.vault import NONCE_BYTES, Keyring, SealBroken
from tollhouse.flows import link, session, throttle
from tollhouse.flows.order import Order
from tollhouse.flows.person import record_own
from tollhouse.flows.site import Site
from tollhouse.store import profile as profiles
from tollhouse.store import session as sessions
from tollhouse.store import totp as store
from tollhouse.store.db import Database, PersonTx

Taken = Literal["app", "recovery_code"]
_WRONG = "This code is not right, or was used before. Wait for the next one of your app, or use a recovery code."


@dataclass(frozen=True, slots=True)
class Enrolment:
    """What an app needs: the secret to type, the same as an otpauth:// address and as a QR code (an SVG image)."""

    secret: str = field(repr=False)
    address: str = field(repr=False)
    qr_code: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Added:
    """The new cookie, and the recovery codes, which are shown this once."""

    cookie: str = field(repr=False)
    recovery_codes: tuple[str, ...] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Standing:
    """`since` None: there is no second factor."""

    since: datetime | None
    recovery_codes_left: int


async def standing(db: Database, signed: Signed) -> Standing:
    async with db.person(signed.person_id) as tx:
        row = await store.read(tx)
        return Standing(row.confirmed_at if row else None, await store.recovery_codes_left(tx))


async def start(db: Database, site: Site, order: Order, signed: Signed) -> Enrolment:
    """A new secret for the person's app; it counts when `confirm` has seen a code of it. Starting again replaces it.
    ProofRequired unless they have just proved who they are, Conflict for who has a second factor."""
    check_proved(signed, order.now)
    secret = totp.new_secret(os.urandom(totp.SECRET_BYTES))
    sealed = site.keyring.seal(secret, totp.association(signed.person_id), os.urandom(NONCE_BYTES))
    async with db.person(signed.person_id) as tx:
        if not await store.put(tx, signed.person_id, sealed, order.now):
            raise Conflict("You have a second factor already. Remove it first, to add another one.")
    return _enrolment(site, signed, secret)


async def waiting(db: Database, site: Site, order: Order, signed: Signed) -> Enrolment | None:
    """What was started and not confirmed yet, to be shown once more. None: there is nothing such. ProofRequired unless
    they have just proved who they are."""
    check_proved(signed, order.now)
    async with db.person(signed.person_id) as tx:
        row = await store.read(tx)
    if row is None or row.confirmed_at is not None:
        return None
    return _enrolment(site, signed, _secret(site.keyring, signed, row))


async def confirm(db: Database, site: Site, order: Order, signed: Signed, code: str) -> Added:
    """From here on codes are asked for. The person's other sessions end. BadRequest for a wrong code, Conflict when no
    secret waits for one."""
    check_proved(signed, order.now)
    await throttle.check(db, site.keyring, CODE_ACCOUNT, str(signed.person_id), now=order.now)
    async with db.person(signed.person_id) as tx:
        row = await store.read(tx)
        if row is None or row.confirmed_at is not None:
            raise Conflict("There is nothing to confirm. Begin again with adding a second factor.")
        step = totp.step_of(_secret(site.keyring, signed, row), code, row.last_step, order.now)
        if step is None:
            raise BadRequest("This code is not right. Type the one that your app shows now.", "code")
        cookie = await session.rotate(tx, site.keyring, signed, order.now)
        if not await store.confirm(tx, row.secret, step, order.now):
            raise Conflict("A second factor was added in another window at this moment. Load the page again.")
        await sessions.complete(tx, signed.id, order.now, signed.created_at + LIFETIME)
        ended = await sessions.revoke_all(tx, signed.person_id, order.now, signed.id)
        codes = await _new_codes(tx, site, signed)
        told = letter.second_factor_added(site.name, site.url(link.FORGOTTEN_PATH))
        await link.post(tx, signed.email, told, order.now)
        details = {"sessions_ended": ended}
        await record_own(tx, order, "second_factor.added", ("person", str(signed.person_id)), details)
    return Added(cookie, codes)


async def give(db: Database, site: Site, order: Order, held: Held, code: str) -> str:
    """The second step of signing in. Unauthenticated for a wrong code, TooManyTries after too many. Returns the new
    cookie, of a session that may do what its person may."""
    if held.reason != "second_factor":
        raise Forbidden("Your account is suspended. Ask the operator of this installation why.")
    await check_code(db, site, order, held, code)
    own = Order(f"person:{held.person_id}", order.now, order.address)
    async with db.person(held.person_id) as tx:
        cookie = await session.rotate(tx, site.keyring, held, order.now)
        await sessions.complete(tx, held.id, order.now, order.now + LIFETIME)
        await record_own(tx, own, "person.signed_in", ("session", str(held.id)), {"second_factor": True})
    return cookie


async def check_code(db: Database, site: Site, order: Order, who: Signed | Held, code: str) -> None:
    """Takes the code: it counts once. Unauthenticated for a wrong one, which leaves a trace in the person's record."""
    await throttle.check(db, site.keyring, CODE_ACCOUNT, str(who.person_id), now=order.now)
    own = Order(f"person:{who.person_id}", order.now, order.address)
    about = ("person", str(who.person_id))
    async with db.person(who.person_id) as tx:
        taken = await _take(tx, site, who, code, order.now)
        if taken is None:
            await record_own(tx, own, "second_factor.failed", about, {})
        elif taken == "recovery_code":
            await _tell_of_recovery_code(tx, site, own)
    if taken is None:
        raise Unauthenticated(_WRONG)
    await throttle.forget(db, site.keyring, CODE_ACCOUNT, str(who.person_id))


async def remove(db: Database, site: Site, order: Order, signed: Signed, code: str) -> str:
    """Codes are asked for no more, and recovery codes are gone. Forbidden for superadmins in live mode, who need one.
    Returns the new cookie."""
    check_proved(signed, order.now)
    if signed.superadmin and site.mode == "live":
        raise Forbidden("Superadmins need a second factor in live mode. Make new recovery codes if yours are lost.")
    await check_code(db, site, order, signed, code)
    async with db.person(signed.person_id) as tx:
        cookie = await session.rotate(tx, site.keyring, signed, order.now)
        if not await store.remove(tx):
            raise Conflict("You have no second factor any more. Load the page again.")
        told = letter.second_factor_removed(site.name, site.url(link.FORGOTTEN_PATH))
        await link.post(tx, signed.email, told, order.now)
        await record_own(tx, order, "second_factor.removed", ("person", str(signed.person_id)), {})
    return cookie


async def renew_recovery_codes(db: Database, site: Site, order: Order, signed: Signed) -> tuple[str, ...]:
    """New recovery codes, shown this once; the former ones work no more."""
    check_proved(signed, order.now)
    async with db.person(signed.person_id) as tx:
        if not await store.is_confirmed(tx):
            raise Conflict("You have no second factor. Add one first: recovery codes come with it.")
        codes = await _new_codes(tx, site, signed)
        await record_own(tx, order, "recovery_codes.renewed", ("person", str(signed.person_id)), {"codes": len(codes)})
    return codes


def _enrolment(site: Site, signed: Signed, secret: str) -> Enrolment:
    address = totp.address_of(secret, signed.email, site.name)
    # no colours and no size of its own: the page's style gives both
    image = segno.make(address, error="m").svg_inline(scale=1, border=2, omitsize=True, svgclass=None, lineclass=None)
    return Enrolment(secret, address, image)


async def _take(tx: PersonTx, site: Site, who: Signed | Held, code: str, now: datetime) -> Taken | None:
    digests = totp.recovery_digests(site.keyring, who.person_id, code)
    if digests:
        return "recovery_code" if await store.take_recovery_code(tx, digests, now) else None
    row = await store.read(tx)
    if row is None or row.confirmed_at is None:
        return None
    step = totp.step_of(_secret(site.keyring, who, row), code, row.last_step, now)
    return "app" if step is not None and await store.take_step(tx, step) else None


async def _tell_of_recovery_code(tx: PersonTx, site: Site, own: Order) -> None:
    person, left = await profiles.read(tx), await store.recovery_codes_left(tx)
    assert person is not None
    told = letter.recovery_code_used(site.name, left, site.url(link.FORGOTTEN_PATH))
    await link.post(tx, person.email, told, own.now)
    await record_own(tx, own, "recovery_code.used", ("person", str(person.id)), {"left": left})


async def _new_codes(tx: PersonTx, site: Site, signed: Signed) -> tuple[str, ...]:
    codes = tuple(totp.recovery_code(os.urandom(totp.RECOVERY_BYTES)) for _ in range(totp.RECOVERY_CODES))
    digests = [totp.recovery_digests(site.keyring, signed.person_id, code)[0] for code in codes]
    await store.put_recovery_codes(tx, signed.person_id, digests)
    return codes


def _secret(keyring: Keyring, who: Signed | Held, row: store.Totp) -> str:
    try:
        return keyring.open(row.secret, totp.association(who.person_id))
    except SealBroken as error:
        raise Conflict(
            "Codes of your app cannot be checked at the moment: the secret of this installation was changed. Use a "
            "recovery code, and tell the operator."
        ) from error
