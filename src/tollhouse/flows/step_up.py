"""Proving once more who one is, before money and security."""

from dataclasses import dataclass

from tollhouse.core.errors import Unauthenticated
from tollhouse.core.session import Signed, check_own
from tollhouse.core.throttle import SIGN_IN_ACCOUNT
from tollhouse.flows import hasher, second_factor, session, throttle
from tollhouse.flows.order import Order
from tollhouse.flows.person import record_own
from tollhouse.flows.site import Site
from tollhouse.store import password as passwords
from tollhouse.store import session as sessions
from tollhouse.store import totp as totps
from tollhouse.store.db import Database


@dataclass(frozen=True, slots=True)
class Ways:
    """By what the person can prove who they are. By neither: they sign in anew, by a link or at their provider."""

    password: bool
    code: bool


async def ways(db: Database, signed: Signed) -> Ways:
    async with db.person(signed.person_id) as tx:
        return Ways(await passwords.read(tx) is not None, await totps.is_confirmed(tx))


async def prove_with_password(db: Database, site: Site, order: Order, signed: Signed, password: str) -> str:
    """Returns the new cookie. Unauthenticated for a wrong password, Forbidden for who acts as somebody else."""
    check_own(signed)
    await throttle.check(db, site.keyring, SIGN_IN_ACCOUNT, signed.email, now=order.now)
    async with db.person(signed.person_id) as tx:
        stored = await passwords.read(tx)
    if not await hasher.fits(password, stored):
        async with db.person(signed.person_id) as tx:
            about, details = ("session", str(signed.id)), {"by": "password"}
            await record_own(tx, order, "person.proof_failed", about, details)
        raise Unauthenticated("This password is not right. Try again, or choose another one by 'Forgotten?'.")
    return await _proved(db, site, order, signed, "password")


async def prove_with_code(db: Database, site: Site, order: Order, signed: Signed, code: str) -> str:
    """The same with a code of the person's app, or a recovery code."""
    check_own(signed)
    await second_factor.check_code(db, site, order, signed, code)
    return await _proved(db, site, order, signed, "code")


async def _proved(db: Database, site: Site, order: Order, signed: Signed, by: str) -> str:
    async with db.person(signed.person_id) as tx:
        cookie = await session.rotate(tx, site.keyring, signed, order.now)
        await sessions.prove(tx, signed.id, order.now)
        await record_own(tx, order, "person.proved", ("session", str(signed.id)), {"by": by})
    return cookie
