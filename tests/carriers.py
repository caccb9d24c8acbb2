"""Whatever somebody may come with: keys, tokens of an issuer that publishes its keys on a real socket, sessions."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, LiteralString
from uuid import UUID, uuid4

import psycopg
from aiohttp import web
from joserfc import jwt
from joserfc.jwk import ECKey

from tests.conftest import TEST_SECRET
from tollhouse.core.access import Role
from tollhouse.core.key import ordered_id
from tollhouse.core.session import Signed
from tollhouse.core.vault import Keyring
from tollhouse.flows import session
from tollhouse.flows.order import Order
from tollhouse.flows.site import Site
from tollhouse.store import jwt_issuer, member, person
from tollhouse.store.db import Database
from tollhouse.store.jwt_issuer import JwtIssuer

KEYRING = Keyring(TEST_SECRET)
Headers = dict[str, str]


def bearer(credential: str) -> Headers:
    return {"authorization": f"Bearer {credential}"}


def x_api_key(credential: str) -> Headers:
    return {"x-api-key": credential}


def cookie(value: str, **more: str) -> Headers:
    """As our own pages send it."""
    return {"cookie": f"tollhouse={value}", "sec-fetch-site": "same-origin"} | more


@dataclass(frozen=True, slots=True)
class Issuer:
    """One that an organisation trusts, and the key that it signs with."""

    id: UUID
    issuer: str
    audience: str
    key: ECKey = field(repr=False)

    def token(self, user: str, **claims: Any) -> str:
        now = int(datetime.now(UTC).timestamp())
        said = {"iss": self.issuer, "aud": self.audience, "sub": user, "iat": now, "exp": now + 600} | claims
        return jwt.encode({"alg": "ES256", "kid": "one"}, said, self.key)


@dataclass(frozen=True, slots=True)
class Carriers:
    """Makes what somebody comes with, in the books of an installation."""

    db: Database
    site: Site
    jwks_url: str
    key: ECKey = field(repr=False)

    @property
    def order(self) -> Order:
        return Order("system", datetime.now(UTC))

    async def person(self) -> UUID:
        async with self.db.operator() as tx:
            return await person.find_or_insert(tx, uuid4(), f"{uuid4().hex}@example.com", self.order.now)

    async def member(self, organization_id: UUID, role: Role = "member") -> UUID:
        """A new person who belongs to the organisation."""
        made = await self.person()
        async with self.db.operator() as tx:
            await member.insert(tx, organization_id, made, role, self.order.now)
        return made

    async def session(self, person_id: UUID, organization_id: UUID | None = None) -> str:
        """The cookie of somebody who is signed in and has chosen this organisation of theirs, or the one that is their
        own."""
        begun = await session.begin(self.db, self.site, self.order, person_id, "password", session.Browser("Tests/1.0"))
        signed = await session.find(self.db, KEYRING, "test", begun.cookie, datetime.now(UTC))
        assert isinstance(signed, Signed)
        if organization_id in (None, signed.organization_id):
            return begun.cookie
        assert organization_id is not None
        return await session.switch_organization(self.db, self.site, self.order, signed, organization_id)

    async def issuer(self, organization_id: UUID) -> Issuer:
        now = datetime.now(UTC)
        name, audience = f"https://{uuid4().hex}.example.com", f"tollhouse:{organization_id}"
        row = JwtIssuer(
            organization_id, ordered_id(now, os.urandom(10)), "Mill's app", name, audience, self.jwks_url, "sub", True,
            now, None,
        )  # fmt: skip
        async with self.db.operator() as tx:
            assert await jwt_issuer.insert(tx, row)
        return Issuer(row.id, name, audience, self.key)

    async def change(self, statement: LiteralString, *parameters: Any) -> None:
        async with await psycopg.AsyncConnection.connect(self.db.url) as connection:
            assert (await connection.execute(statement, parameters)).rowcount > 0


@asynccontextmanager
async def carriers(database_url: str, origin: str = "http://127.0.0.1") -> AsyncIterator[Carriers]:
    """For the installation on the database that the owner's URL names."""
    key = ECKey.generate_key("P-256")
    published: Mapping[str, Any] = {"keys": [key.as_dict(private=False) | {"kid": "one"}]}

    async def keys(request: web.Request) -> web.Response:
        return web.json_response(published)

    app = web.Application()
    app.router.add_get("/keys", keys)
    runner = web.AppRunner(app)
    await runner.setup()
    listening = web.TCPSite(runner, "127.0.0.1", 0)
    await listening.start()
    db = Database(database_url)
    await db.open()
    try:
        yield Carriers(db, Site(origin, "test", KEYRING), f"http://127.0.0.1:{runner.addresses[0][1]}/keys", key)
    finally:
        await db.close()
        await runner.cleanup()


SOON = timedelta(seconds=6)  # until everybody has heard that an issuer is trusted no more
