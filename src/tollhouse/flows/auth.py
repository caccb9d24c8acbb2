"""Who is calling? One answer for every carrier: an API key, a token of an issuer that an organisation trusts, or the
session of a signed-in person."""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from tollhouse.core.access import OF_PEOPLE, Permission, of_scopes, roles_with, scopes_with
from tollhouse.core.admission import check_alive, check_network, check_suspended
from tollhouse.core.ask import Credential
from tollhouse.core.errors import BadRequest, Forbidden, Unauthenticated
from tollhouse.core.jwt import looks_like_a_jwt
from tollhouse.core.key import Mode, Scope, digest, digests, end_user_id, looks_like_a_key
from tollhouse.core.origin import READS, from_us
from tollhouse.core.session import Held, Signed
from tollhouse.core.throttle import Guesses
from tollhouse.core.vault import Keyring
from tollhouse.flows import session
from tollhouse.flows.jwt import TokenHolder, Tokens
from tollhouse.flows.site import Site
from tollhouse.store import key as keys
from tollhouse.store.catalogue import PLATFORM_ID
from tollhouse.store.db import Database
from tollhouse.store.key import KeyFound

IDENTITIES_MAX = 10_000
COOKIE_MAX = 512

_OF_END_USERS = of_scopes(OF_PEOPLE, platform=False)
_NEEDS: Mapping[Scope, tuple[frozenset[Scope], frozenset[Scope]]] = {
    scope: (frozenset({scope}), frozenset({scope, "act_as"})) for scope in ("gateway", "credits")
}

Headers = Iterable[tuple[bytes, bytes]]
HttpScope = Mapping[str, Any]  # a request as ASGI has it


@dataclass(frozen=True, slots=True)
class Identity:
    """Who somebody is, which never changes. `subject_id` is whose limits are taken when nobody else is named: those of
    the key's organisation, the person or the token's end user, of whom `end_user` is the host application's id."""

    organization_id: UUID
    credential: Credential
    subject_id: UUID
    end_user: str | None = None

    def at(self, address: str) -> "Identity":
        """The same, coming from this network address."""
        credential = Credential(self.credential.kind, self.credential.id, address)
        return Identity(self.organization_id, credential, self.subject_id, self.end_user)

    def on_behalf_of(self, named: str | None) -> str | None:
        """The end user for whom it is done, when a request names this one. Forbidden for a person, and for a token that
        is another's; whether a key may name anybody is decided with what it does."""
        kind = self.credential.kind
        if kind == "issuer":
            if named not in (None, self.end_user):
                raise Forbidden("This token is of another end user than the request names. Leave the name out.")
            return self.end_user
        if kind == "person" and named is not None:
            raise Forbidden("A person acts for nobody else. Use an API key that has the scope 'act_as'.")
        return named

    def subject_of(self, user: str | None) -> UUID:
        """Whose limits it takes, for an end user as `on_behalf_of` gives it."""
        if user is None or user == self.end_user:
            return self.subject_id
        return end_user_id(self.organization_id, user)

    def needs(self, scope: Scope, user: str | None) -> frozenset[Scope]:
        """The scopes that it takes, for an end user as `on_behalf_of` gives it."""
        return _NEEDS[scope][user is not None and user != self.end_user]

    def once_at(self, endpoint: str) -> str:
        """Where an idempotency key of this one's counts. Those who share a key share it; no person or end user is told
        an answer of another's."""
        return endpoint if self.credential.kind == "key" else f"{endpoint} of {self.subject_id}"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls, and what may be done there, read a moment ago. `mode` None: that of the installation. `signed`: the
    session of a person."""

    identity: Identity
    permissions: frozenset[Permission]
    mode: Mode | None = None
    signed: Signed | None = None

    @property
    def organization_id(self) -> UUID:
        return self.identity.organization_id

    @property
    def credential(self) -> Credential:
        return self.identity.credential

    @property
    def subject_id(self) -> UUID:
        return self.identity.subject_id

    @property
    def actor(self) -> str:
        """As it stands in the ledger and in the audit log; while somebody is impersonated, it is who does that."""
        if self.signed is not None:
            return self.signed.actor
        return f"{self.credential.kind}:{self.credential.id}"

    @property
    def sees(self) -> UUID | None:
        """Whose calls may be looked at. None: those of the whole organisation, for its keys and its admins."""
        everything = self.credential.kind == "key" or "organization.manage" in self.permissions
        return None if everything else self.subject_id


def credential_of(headers: Headers) -> str | None:
    """The key or token in the headers (names in lower case, as ASGI has them): `Authorization: Bearer` or `x-api-key`.
    BadRequest when there are two that differ: which of them is meant cannot be told."""
    found = None
    for name, value in headers:
        if name == b"authorization":
            scheme, _, credential = value.partition(b" ")
            if scheme.lower() != b"bearer":
                continue
            value = credential
        elif name != b"x-api-key":
            continue
        value = value.strip()
        if value and found not in (None, value):
            raise BadRequest("The request carries two different keys. Send one: as Authorization or as x-api-key.")
        found = value or found
    return None if found is None else found.decode("latin-1")


def require(caller: Caller, *any_of: Permission) -> None:
    """Forbidden, naming what would do, unless the caller has one of these permissions."""
    if not caller.permissions.isdisjoint(any_of):
        return
    if caller.signed is not None:
        check_suspended(caller.signed.organization_suspended)
    scopes = _listed(scope for permission in any_of for scope in scopes_with(permission))
    roles = _listed(role for permission in any_of for role in roles_with(permission))
    match caller.credential.kind:
        case "key" if scopes:
            raise Forbidden(f"This API key lacks the scope {scopes}. Use a key that has it, or have one made.")
        case "key":
            raise Forbidden(f"No API key may do this: it takes a signed-in person with the role {roles}.")
        case "issuer":
            remedy = f"an API key with the scope {scopes}" if scopes else "a signed-in person"
            raise Forbidden(f"The token of an end user may not do this: it takes {remedy}.")
        case "person" if roles:
            raise Forbidden(f"This takes the role {roles} in the organisation. Ask an owner of it.")
        case "person":
            raise Forbidden("This is for the operators of the platform.")


def require_person(caller: Caller) -> Signed:
    """The session. Forbidden for whoever came with a key or a token: nobody in particular."""
    if caller.signed is None:
        raise Forbidden("This is done by a person who is signed in, not with an API key or a token.")
    return caller.signed


def _listed(names: Iterable[str]) -> str:
    return " or ".join(repr(name) for name in dict.fromkeys(names))


class Authentication:
    """The one way in: whatever a request carries, this says who it is. A key or a token is believed before a cookie, of
    which its sender may not know. `used` is told of every key that was recognised."""

    def __init__(
        self, db: Database, site: Site, tokens: Tokens, used: Callable[[Identity, datetime], None] | None = None
    ) -> None:
        self._db = db
        self._site = site
        self._tokens = tokens
        self._identities = Identities(db, site.keyring)
        self._used = used

    async def identify(self, request: HttpScope, now: datetime) -> Identity:
        """Who it is; a key is known from memory. Whether it still works and what it may do is decided with the
        operation, under the organisation's lock. Unauthenticated for nobody, BadRequest for two at once; Forbidden for
        a cookie that another site had sent."""
        credential = credential_of(request["headers"])
        if credential is None:
            return identity_of(await self._session(request, now))
        if looks_like_a_jwt(credential):
            return _identity_of_holder(await self._tokens.identify(credential, _address(request)))
        address = _address(request)
        identity = (await self._identities.identify(credential, address, now)).at(address)
        if self._used is not None:
            self._used(identity, now)
        return identity

    async def authenticate(self, request: HttpScope, now: datetime) -> Caller:
        """The caller, looked up afresh. Like `identify`; besides Unauthenticated when the key is revoked or expired (by
        the organisation's own time), Forbidden when it comes from outside its networks, or when the organisation or the
        person is suspended. A person of a suspended organisation is let in and has no permission there: there may be
        others to turn to."""
        credential = credential_of(request["headers"])
        if credential is None:
            signed = await self._session(request, now)
            return Caller(identity_of(signed), signed.permissions, signed=signed)
        if looks_like_a_jwt(credential):
            holder = await self._tokens.identify(credential, _address(request))
            check_suspended(holder.suspended)
            return Caller(_identity_of_holder(holder), _OF_END_USERS)
        address = _address(request)
        found = await self._identities.look_up(credential, address, now)
        check_suspended(found.suspended_at is not None)
        check_alive(found.revoked_at, found.expires_at, now + timedelta(microseconds=found.clock_offset_micros))
        check_network(None if found.networks is None else tuple(found.networks), address)
        permissions = of_scopes(found.scopes, platform=found.organization_id == PLATFORM_ID)
        identity = _identity_of_key(found).at(address)
        if self._used is not None:
            self._used(identity, now)
        return Caller(identity, permissions, found.mode)

    async def _session(self, request: HttpScope, now: datetime) -> Signed:
        cookie = session_cookie(request["headers"], self._site.cookie)
        if cookie is None:
            raise Unauthenticated(
                "Send an API key as 'Authorization: Bearer th_...' or as 'x-api-key: th_...', or sign in."
            )
        _check_origin(request, self._site.origin)
        found = await session.find(self._db, self._site.keyring, self._site.mode, cookie, now)
        match found:
            case Signed():
                return found
            case Held(reason="suspended"):
                raise Forbidden("This account is suspended. Ask the operator why.")
            case Held():
                raise Unauthenticated("Signing in is not finished: the code of the second factor is missing.")
            case None:
                raise Unauthenticated("This session has ended. Sign in again.")


def identity_of(signed: Signed) -> Identity:
    """Of a person in the organisation that is chosen for the session."""
    return Identity(signed.organization_id, Credential("person", signed.person_id), signed.person_id)


def session_cookie(headers: Headers, wanted: str) -> str | None:
    """The session's cookie, exactly as we set it. BadRequest when there are two that differ: another host may have
    planted one of them."""
    found = None
    start = wanted.encode() + b"="
    for name, value in headers:
        if name != b"cookie":
            continue
        for part in value.split(b";"):
            part = part.strip()
            if part.startswith(start):
                if found not in (None, part):
                    raise BadRequest("The request carries two different sessions. Delete this site's cookies.")
                found = part
    value = (found or b"").removeprefix(start)
    return value.decode("latin-1") if 0 < len(value) <= COOKIE_MAX else None


def _check_origin(request: HttpScope, ours: str) -> None:
    """What browsers do by themselves, other sites may have them do: with a cookie, only our own pages change anything,
    and what they send is JSON, which no form sends."""
    said = {name: value.decode("latin-1") for name, value in request["headers"]}
    method = request["method"]
    if not from_us(method, said.get(b"sec-fetch-site"), said.get(b"origin"), ours):
        raise Forbidden(f"With a session only the pages of {ours} may do this. Others use an API key.")
    empty = said.get(b"content-length", "0") == "0" and b"transfer-encoding" not in said
    kind = said.get(b"content-type", "").partition(";")[0].strip().lower()
    if method not in READS and not empty and kind != "application/json":
        raise BadRequest("With a session, send the body with the header 'content-type: application/json'.", status=415)


class Identities:
    """Key to organisation, kept in memory for the gateway. Only what never changes is kept: whether the key still works
    and what it may do is read again under the teller's lock, with every call."""

    def __init__(self, db: Database, keyring: Keyring) -> None:
        self._db = db
        self._keyring = keyring
        self._guesses = Guesses()
        self._known: dict[bytes, Identity] = {}
        self._asking: dict[bytes, asyncio.Task[KeyFound]] = {}

    async def identify(self, credential: str, address: str, now: datetime) -> Identity:
        """Whose key it is; else as `look_up`. The dictionary compares the whole digest; it is an HMAC under our secret,
        so its timing tells nothing about a key."""
        digested = digest(self._keyring.current, credential)
        known = self._known.get(digested)
        if known is not None:
            return known
        asking = self._asking.get(digested)
        if asking is None:  # hundreds may bring the same new key at once: it is looked up for all of them together
            asking = self._asking[digested] = asyncio.create_task(self.look_up(credential, address, now))
            asking.add_done_callback(lambda task: self._answered(digested, task))
        return _identity_of_key(await asyncio.shield(asking))

    async def look_up(self, credential: str, address: str, now: datetime) -> KeyFound:
        """The key as it is at this moment. Unauthenticated when there is none; TooManyTries for an address that
        guesses, whose known keys go on working."""
        _check_form(credential)
        digested = digest(self._keyring.current, credential)
        if digested not in self._known and not self._guesses.worth_asking(address, digested, now):
            raise _unknown_key()
        async with self._db.nobody() as tx:
            found = await keys.find(tx, digests(self._keyring.secrets, credential))
        if found is None:
            self._guesses.failed(address, digested, now)
            raise _unknown_key()
        self._guesses.found(digested)
        self._keep(digested, found)
        return found

    def _keep(self, digested: bytes, found: KeyFound) -> None:
        if digested not in self._known:
            if len(self._known) >= IDENTITIES_MAX:
                self._known.pop(next(iter(self._known)))  # the one that was seen first
            self._known[digested] = _identity_of_key(found)

    def _answered(self, digested: bytes, task: asyncio.Task[KeyFound]) -> None:
        del self._asking[digested]
        if not task.cancelled():
            task.exception()  # those who wait for it are told


def _identity_of_holder(holder: TokenHolder) -> Identity:
    return Identity(holder.organization_id, holder.credential, holder.end_user_id, holder.external_user)


def _identity_of_key(found: KeyFound) -> Identity:
    return Identity(found.organization_id, Credential("key", found.id), found.organization_id)


def _check_form(credential: str) -> None:
    """Unauthenticated for what cannot be a key: a typing mistake in one of ours is told without a look-up. An
    operator's key that was given by the environment has any form."""
    if credential.startswith("th_") and not looks_like_a_key(credential):
        raise Unauthenticated("This is not a whole API key of Tollhouse: th_live_ or th_test_, then 36 letters.")


def _unknown_key() -> Unauthenticated:
    return Unauthenticated("There is no such API key here. Check to which installation it belongs, or make a new one.")


def _address(request: HttpScope) -> str:
    """Of the client, as the edge has found it; empty: not known."""
    client = request.get("client")
    return str(client[0]) if client else ""
