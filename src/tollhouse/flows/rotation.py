"""Another secret for the installation: what was sealed under an earlier one is sealed anew. That is the keys of
providers and of models of one's own, the secrets of identity providers and those of people's second factors."""

import os
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from tollhouse.core import totp
from tollhouse.core.oidc import secret_association
from tollhouse.core.routing import PLATFORM_ID
from tollhouse.core.vault import NONCE_BYTES, Keyring, SealBroken, association
from tollhouse.flows.audit import record
from tollhouse.flows.order import Order
from tollhouse.store import connection as connections
from tollhouse.store import identity_provider as providers
from tollhouse.store import own_model as own_models
from tollhouse.store import totp as totps
from tollhouse.store.connection import Resealed
from tollhouse.store.db import Database

TOGETHER = 100


@dataclass(frozen=True, slots=True)
class Broken:
    """What cannot be opened; `what` says it in a sentence."""

    id: UUID
    what: str


@dataclass(frozen=True, slots=True)
class Rotated:
    """How many secrets were sealed anew, how many were under the current secret already, and which cannot be
    opened."""

    renewed: int
    current: int
    broken: tuple[Broken, ...]


@dataclass(slots=True)
class _Tally:
    keyring: Keyring
    renewed: int = 0
    current: int = 0
    broken: list[Broken] = field(default_factory=list)

    def fresh(self, sealed: bytes, associated: bytes, id_: UUID, what: str) -> bytes | None:
        """The same text under the current secret; None when it is already, or cannot be opened, which is noted."""
        try:
            after = self.keyring.renewed(sealed, associated, os.urandom(NONCE_BYTES))
        except SealBroken:
            self.broken.append(Broken(id_, what))
            return None
        self.current += after is None
        return after


async def rotate(db: Database, keyring: Keyring, now: datetime, together: int = TOGETHER) -> Rotated:
    """Seals anew whatever is not sealed under the current secret, so many at once, each batch a transaction. Cut short
    it is run again, and goes on with what is left; calls go on meanwhile. What cannot be opened stays as it is."""
    tally = _Tally(keyring)
    await _connections(db, tally, together)
    await _own_models(db, tally, together)
    await _identity_providers(db, tally)
    await _second_factors(db, tally, together)
    async with db.operator() as tx:
        details = {"renewed": tally.renewed, "current": tally.current, "broken": len(tally.broken)}
        await record(tx, PLATFORM_ID, Order("system", now), "keys.rotated", ("secret", "all"), details)
    return Rotated(tally.renewed, tally.current, tuple(tally.broken))


async def _connections(db: Database, tally: _Tally, together: int) -> None:
    last: tuple[UUID, UUID] | None = None
    while True:
        async with db.operator() as tx:
            found = await connections.sealed_after(tx, last, together)
            wanted = []
            for row in found:
                associated = association(row.organization_id, row.provider_id)
                what = f"connection {row.id} to {row.provider_id} of organisation {row.organization_id}"
                after = tally.fresh(row.key_ciphertext, associated, row.id, what)
                if after is not None:
                    wanted.append(Resealed(row.organization_id, row.id, row.key_ciphertext, after))
            if wanted:
                tally.renewed += await connections.reseal(tx, wanted)
        if len(found) < together:
            return
        last = (found[-1].organization_id, found[-1].id)


async def _own_models(db: Database, tally: _Tally, together: int) -> None:
    last: tuple[UUID, UUID] | None = None
    while True:
        async with db.operator() as tx:
            found = await own_models.sealed_after(tx, last, together)
            for row in found:
                assert row.key_ciphertext is not None
                associated = association(row.organization_id, row.provider_id)
                what = f"model {row.id} of organisation {row.organization_id}'s own"
                after = tally.fresh(row.key_ciphertext, associated, row.id, what)
                if after is not None:
                    before = row.key_ciphertext
                    tally.renewed += await own_models.reseal(tx, Resealed(row.organization_id, row.id, before, after))
        if len(found) < together:
            return
        last = (found[-1].organization_id, found[-1].id)


async def _identity_providers(db: Database, tally: _Tally) -> None:
    async with db.operator() as tx:
        for row in await providers.sealed(tx):
            associated = secret_association(row.id, row.issuer)
            what = f"client secret of identity provider {row.id} at {row.issuer}"
            after = tally.fresh(row.secret_ciphertext, associated, row.id, what)
            if after is not None:
                tally.renewed += await providers.renew(tx, row.id, row.secret_ciphertext, after)


async def _second_factors(db: Database, tally: _Tally, together: int) -> None:
    """Each in a transaction of its person, who alone may see it."""
    last: UUID | None = None
    while True:
        async with db.operator() as tx:
            found = await totps.people_after(tx, last, together)
        for person_id in found:
            async with db.person(person_id) as own:
                row = await totps.read(own)
                if row is None:
                    continue
                associated = totp.association(person_id)
                after = tally.fresh(row.secret, associated, person_id, f"second factor of person {person_id}")
                if after is not None:
                    tally.renewed += await totps.reseal(own, row.secret, after)
        if len(found) < together:
            return
        last = found[-1]
