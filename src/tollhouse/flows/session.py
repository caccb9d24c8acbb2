"""Sessions: begun when somebody signs in, found with every request, rotated whenever what they may do changes."""

import os
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from tollhouse.core import session as rules
from tollhouse.core.device import USER_AGENT_MAX, device_of
from tollhouse.core.errors import Forbidden, NotFound, Unauthenticated
from tollhouse.core.key import Mode, ordered_id
from tollhouse.core.link import RANDOM_BYTES, looks_like_a_token, new_token, token_digest, token_digests
from tollhouse.core.session import Held, Impersonator, Signed
from tollhouse.core.vault import Keyring
from tollhouse.flows.order import Order
from tollhouse.flows.person import ensure_own_organization, record_own
from tollhouse.flows.site import Site
from tollhouse.store import password as passwords
from tollhouse.store import profile as profiles
from tollhouse.store import session as store
from tollhouse.store import totp as totps
from tollhouse.store.db import Database, PersonTx
from tollhouse.store.session import Found, Method

__all__ = [
    "Begun", "Browser", "Device", "Held", "Signed", "begin", "find", "goes_on", "listed", "plain", "revoke",
    "revoke_others", "rotate", "sign_out", "switch_organization",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Browser:
    """From where somebody signs in. `former`: the session that it had until now, which ends with the new one."""

    user_agent: str
    former: Signed | Held | None = None


@dataclass(frozen=True, slots=True)
class Begun:
    """`cookie`: the value to set. `awaits_code`: the second factor comes next, and nothing may be done until then."""

    cookie: str
    awaits_code: bool


@dataclass(frozen=True, slots=True)
class Device:
    """A session as its person sees it. `device` in plain words; `seen_at` to the minute."""

    id: UUID
    device: str
    method: Method
    address: str | None
    created_at: datetime
    seen_at: datetime
    current: bool


async def begin(
    db: Database, site: Site, order: Order, person_id: UUID, method: Method, browser: Browser,
    *, knows: str | None = None,
) -> Begun:  # fmt: skip
    """A new session of somebody who has proved who they are, in the organisation where they were last. `knows`: the
    hash of the password that they gave, which must still be theirs: who resets it ends what was begun with the former.
    Forbidden for a person who is suspended."""
    former = browser.former
    if former is not None:
        actor = former.actor if isinstance(former, Signed) else f"person:{former.person_id}"
        await sign_out(db, Order(actor, order.now, order.address), former)
    own = Order(f"person:{person_id}", order.now, order.address)
    own_id = await ensure_own_organization(db, own, person_id)
    now, token = order.now, new_token(os.urandom(RANDOM_BYTES))
    async with db.person(person_id) as tx:
        await _check_may_begin(tx, knows)
        last_id = await store.last_organization(tx)
        chosen = last_id if last_id is not None and await profiles.belongs_to(tx, last_id) else own_id
        awaits_code = await totps.is_confirmed(tx)
        lasting = rules.SECOND_FACTOR_WITHIN if awaits_code else rules.LIFETIME
        row = store.New(
            person_id, ordered_id(now, os.urandom(10)), token_digest(site.keyring, token), chosen, method, now,
            now + lasting, False, order.address, plain(browser.user_agent),
        )  # fmt: skip
        await store.insert(tx, row)
        action = "person.second_factor_awaited" if awaits_code else "person.signed_in"
        details = {"method": method, "device": device_of(row.user_agent)}
        await record_own(tx, own, action, ("session", str(row.id)), details)
    return Begun(token, awaits_code)


async def _check_may_begin(tx: PersonTx, knows: str | None) -> None:
    person = await profiles.read(tx)
    if person is None or person.suspended_at is not None:
        raise Forbidden("Your account is suspended. Ask the operator of this installation why.")
    if knows is not None and await passwords.hold(tx) != knows:
        raise Unauthenticated("Your password was changed at this moment. Sign in with the new one.")


async def find(db: Database, keyring: Keyring, mode: Mode, cookie: str, now: datetime) -> Signed | Held | None:
    """Whose cookie this is, looked up afresh. None: nobody's, or the session has ended. A session in an organisation
    that is no more, or to which the person belongs no more, goes on in their personal one."""
    if not looks_like_a_token(cookie):
        return None
    async with db.nobody() as tx:
        found = await store.find(tx, token_digests(keyring, cookie))
    if found is None or _is_over(found, now):
        return None
    if found.person_suspended_at is not None:
        return Held(found.id, cookie, found.person_id, "suspended")
    if found.has_totp and not found.second_factor and found.impersonator_id is None:
        return Held(found.id, cookie, found.person_id, "second_factor")
    if found.role is None or found.organization_deleted_at is not None:
        return await _elsewhere(db, keyring, mode, cookie, found, now)
    if found.seen_at <= now - rules.TOUCH_AFTER:
        async with db.person(found.person_id) as own:
            await store.touch(own, found.id, now, now - rules.TOUCH_AFTER)
    return _signed(found, cookie, mode)


async def goes_on(db: Database, keyring: Keyring, signed: Signed, now: datetime) -> bool:
    """Whether the session is still what it was, for a page that stays open: it is not seen by that."""
    async with db.nobody() as tx:
        found = await store.find(tx, token_digests(keyring, signed.token))
    if found is None or _is_over(found, now) or found.person_suspended_at is not None or found.role is None:
        return False
    return found.organization_id == signed.organization_id and found.organization_deleted_at is None


def _is_over(found: Found, now: datetime) -> bool:
    if found.impersonator_id is not None and not found.impersonator_stands:
        return True
    return rules.is_over(found.expires_at, found.seen_at, found.revoked_at, found.superadmin, now)


async def _elsewhere(
    db: Database, keyring: Keyring, mode: Mode, cookie: str, found: Found, now: datetime
) -> Signed | Held | None:
    """The session in the personal organisation; it ends where there is none, and when it is an impersonation."""
    async with db.person(found.person_id) as tx:
        own_id = await profiles.own_organization(tx)
        order, about = Order("system", now), ("session", str(found.id))
        details = {"from": str(found.organization_id), "to": str(own_id)}
        if own_id is None or own_id == found.organization_id or found.impersonator_id is not None:
            if await store.revoke(tx, found.person_id, found.id, now):
                await record_own(tx, order, "session.revoked", about, {"lost": details["from"]})
            return None
        await store.choose(tx, found.id, own_id)
        await record_own(tx, order, "session.organization_chosen", about, details)
    return await find(db, keyring, mode, cookie, now)


def _signed(found: Found, cookie: str, mode: Mode) -> Signed:
    assert found.role is not None
    impersonator = None
    if found.impersonator_id is not None:
        assert found.impersonator_session_id is not None
        impersonator = Impersonator(
            found.impersonator_id, found.impersonator_email or "", found.impersonation_reason or "",
            found.impersonator_session_id,
        )  # fmt: skip
    must_add = rules.must_add_second_factor(found.superadmin, found.has_totp, mode)
    suspended = found.organization_suspended_at is not None
    permissions = rules.permissions_of(
        found.role, superadmin=found.superadmin, must_add=must_add, impersonated=impersonator is not None,
        organization_suspended=suspended,
    )  # fmt: skip
    return Signed(
        id=found.id, token=cookie, person_id=found.person_id, email=found.email, name=found.name,
        superadmin=found.superadmin, verified=found.email_verified_at is not None,
        organization_id=found.organization_id, organization_name=found.organization_name,
        organization_kind=found.organization_kind, organization_suspended=suspended, role=found.role,
        permissions=permissions, clock_offset_micros=found.clock_offset_micros, method=found.method,
        created_at=found.created_at, expires_at=found.expires_at, proved_at=found.proved_at,
        has_second_factor=found.has_totp, second_factor=found.second_factor, must_add_second_factor=must_add,
        impersonator=impersonator, language=found.language,
    )  # fmt: skip


async def rotate(tx: PersonTx, keyring: Keyring, held: Signed | Held, now: datetime) -> str:
    """Another cookie for the session, in the transaction of what changed: the former one is nobody's from here on.
    Unauthenticated when somebody else was first, or the session has ended."""
    token = new_token(os.urandom(RANDOM_BYTES))
    former = token_digests(keyring, held.token)
    if not await store.rotate(tx, held.id, former, token_digest(keyring, token), now):
        raise Unauthenticated("This session has ended, or was changed in another window. Load the page again.")
    return token


async def switch_organization(db: Database, site: Site, order: Order, signed: Signed, organization_id: UUID) -> str:
    """Goes on in another organisation of the person's; NotFound for one that is not theirs. Whoever acts as somebody
    else stays in the organisation that they gave their reason for. Returns the new cookie."""
    rules.check_own(signed)
    async with db.person(signed.person_id) as tx:
        if not await profiles.belongs_to(tx, organization_id):
            raise NotFound("You are not a member of such an organisation. Choose one of yours.")
        cookie = await rotate(tx, site.keyring, signed, order.now)
        await store.choose(tx, signed.id, organization_id)
        details = {"from": str(signed.organization_id), "to": str(organization_id)}
        await record_own(tx, order, "session.organization_chosen", ("session", str(signed.id)), details)
    return cookie


async def sign_out(db: Database, order: Order, held: Signed | Held) -> None:
    """Ends the session; once or often."""
    async with db.person(held.person_id) as tx:
        if await store.revoke(tx, held.person_id, held.id, order.now):
            await record_own(tx, order, "person.signed_out", ("session", str(held.id)), {})


async def listed(db: Database, signed: Signed, now: datetime) -> list[Device]:
    """The person's sessions that go on, the last seen first."""
    async with db.person(signed.person_id) as tx:
        idle = rules.IDLE_SUPERADMIN if signed.superadmin else rules.IDLE
        found = await store.listed(tx, now, now - idle)
    return [
        Device(
            row.id, device_of(row.user_agent), row.method, row.address, row.created_at,
            row.seen_at.replace(second=0, microsecond=0), row.id == signed.id,
        )
        for row in found
    ]  # fmt: skip


async def revoke(db: Database, order: Order, signed: Signed, session_id: UUID) -> None:
    """Ends one of the person's sessions. NotFound for one that has ended, and for another person's."""
    rules.check_own(signed)
    async with db.person(signed.person_id) as tx:
        if not await store.revoke(tx, signed.person_id, session_id, order.now):
            raise NotFound("There is no such session. It may have ended meanwhile.")
        await record_own(tx, order, "session.revoked", ("session", str(session_id)), {})


async def revoke_others(db: Database, order: Order, signed: Signed) -> int:
    """Ends all of the person's sessions but this one, and says how many there were."""
    rules.check_own(signed)
    async with db.person(signed.person_id) as tx:
        ended = await store.revoke_all(tx, signed.person_id, order.now, signed.id)
        details = {"sessions": ended}
        await record_own(tx, order, "sessions.revoked", ("person", str(signed.person_id)), details)
    return ended


def plain(user_agent: str) -> str:
    """The header as it is kept: what can be printed, so many characters of it."""
    return "".join(letter for letter in user_agent if letter.isprintable())[:USER_AGENT_MAX]
