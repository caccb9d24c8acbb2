"""Who is calling? One answer for every carrier of a key."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from tollhouse.core.access import Permission, of_scopes, scopes_with
from tollhouse.core.admission import check_alive, check_suspended
from tollhouse.core.ask import Credential
from tollhouse.core.errors import Forbidden, Unauthenticated
from tollhouse.core.key import Mode, digest, digests, looks_like_a_key
from tollhouse.core.vault import Keyring
from tollhouse.store import key as keys
from tollhouse.store.catalogue import PLATFORM_ID
from tollhouse.store.db import Database
from tollhouse.store.key import KeyFound

IDENTITIES_MAX = 10_000


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls, in which organisation, and what may be done there, read a moment ago. `mode` None: that of the
    installation."""

    organization_id: UUID
    credential: Credential
    permissions: frozenset[Permission]
    mode: Mode | None

    @property
    def actor(self) -> str:
        """As it stands in the ledger and in the audit log."""
        return f"{self.credential.kind}:{self.credential.id}"


@dataclass(frozen=True, slots=True)
class Identity:
    """What of a key never changes."""

    organization_id: UUID
    key_id: UUID


def credential_of(headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    """The key in the headers (names in lower case, as ASGI has them): `Authorization: Bearer`, else `x-api-key`."""
    from_x_api_key = None
    for name, value in headers:
        if name == b"authorization":
            scheme, _, credential = value.partition(b" ")
            if scheme.lower() == b"bearer" and credential.strip():
                return credential.strip().decode("latin-1")
        elif name == b"x-api-key" and value.strip():
            from_x_api_key = value.strip().decode("latin-1")
    return from_x_api_key


async def authenticate(db: Database, keyring: Keyring, credential: str | None, now: datetime) -> Caller:
    """The caller whose key this is, looked up afresh. Unauthenticated when the key is missing, unknown, revoked or
    expired (by the organisation's own time), Forbidden when the organisation is suspended."""
    found = await _look_up(db, keyring, _key(credential))
    check_suspended(found.suspended_at is not None)
    check_alive(found.revoked_at, found.expires_at, now + timedelta(microseconds=found.clock_offset_micros))
    permissions = of_scopes(found.scopes, platform=found.organization_id == PLATFORM_ID)
    return Caller(found.organization_id, Credential("key", found.id), permissions, found.mode)


def require(caller: Caller, *any_of: Permission) -> None:
    """Forbidden, naming the scopes that would do, unless the caller has one of these permissions."""
    if caller.permissions.isdisjoint(any_of):
        wanted = " or ".join(repr(scope) for permission in any_of for scope in scopes_with(permission))
        raise Forbidden(f"This API key lacks the scope {wanted}. Use a key that has it, or have one made.")


class Identities:
    """Key to organisation, kept in memory for the gateway. Only what never changes is kept: whether the key still works
    and what it may do is read again under the teller's lock, with every call."""

    def __init__(self, db: Database, keyring: Keyring) -> None:
        self._db = db
        self._keyring = keyring
        self._known: dict[bytes, Identity] = {}
        self._asking: dict[bytes, asyncio.Task[Identity]] = {}

    async def identify(self, credential: str | None) -> Identity:
        """Unauthenticated when there is no such key. The dictionary compares the whole digest; it is an HMAC under our
        secret, so its timing tells nothing about a key. The unknown are not remembered: each costs a look-up."""
        key = _key(credential)
        digested = digest(self._keyring.current, key)
        known = self._known.get(digested)
        if known is not None:
            return known
        asking = self._asking.get(digested)
        if asking is None:  # hundreds may bring the same new key at once: it is looked up for all of them together
            asking = self._asking[digested] = asyncio.create_task(self._learn(digested, key))
            asking.add_done_callback(lambda task: task.cancelled() or task.exception())
        return await asyncio.shield(asking)

    async def _learn(self, digested: bytes, key: str) -> Identity:
        try:
            found = await _look_up(self._db, self._keyring, key)
        finally:
            del self._asking[digested]
        if len(self._known) >= IDENTITIES_MAX:
            self._known.pop(next(iter(self._known)))  # the one that was seen first
        known = self._known[digested] = Identity(found.organization_id, found.id)
        return known


def _key(credential: str | None) -> str:
    """What may be a key. A typing mistake in one of ours is told without a look-up; an operator's key that was given by
    the environment has any form."""
    if credential is None:
        raise Unauthenticated("Send an API key as 'Authorization: Bearer th_...' or as 'x-api-key: th_...'.")
    if credential.startswith("th_") and not looks_like_a_key(credential):
        raise Unauthenticated("This is not a whole API key of Tollhouse: th_live_ or th_test_, then 36 letters.")
    return credential


async def _look_up(db: Database, keyring: Keyring, key: str) -> KeyFound:
    async with db.nobody() as tx:
        found = await keys.find(tx, digests(keyring.secrets, key))
    if found is None:
        raise Unauthenticated(
            "There is no such API key here. Check to which installation it belongs, or make a new one."
        )
    return found
