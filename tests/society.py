"""People who are signed in, the organisations that they are in, and the mail that they get."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, LiteralString
from uuid import UUID, uuid4

from psycopg import AsyncConnection
from psycopg.rows import dict_row

from tests.conftest import TEST_SECRET
from tollhouse.core.access import Role
from tollhouse.core.session import Signed
from tollhouse.core.vault import Keyring
from tollhouse.flows import organization, session
from tollhouse.flows.order import Order
from tollhouse.flows.organization import Insider
from tollhouse.flows.site import Site
from tollhouse.store import member as members
from tollhouse.store.db import Database

KEYRING = Keyring(TEST_SECRET)
SITE = Site("https://ai.example.com", "test", KEYRING)
_LINK = re.compile(r"https://ai\.example\.com/invitations/(\S+)")


@dataclass
class Society:
    """An installation and its people, at one time, which a test may move."""

    db: Database
    site: Site = SITE
    now: datetime = field(default_factory=lambda: datetime.now(UTC))

    def order(self, actor: str = "system") -> Order:
        return Order(actor, self.now, "192.0.2.7")

    async def person(self, email: str | None = None, *, verified: bool = True, superadmin: bool = False) -> UUID:
        """Somebody with an account and a personal organisation."""
        id_ = uuid4()
        address = email or f"{id_.hex}@example.com"
        verified_at = self.now if verified else None
        await self.change(
            "INSERT INTO person (id, email, created_at, email_verified_at, superadmin) VALUES (%s, %s, %s, %s, %s)",
            id_, address, self.now, verified_at, superadmin,
        )  # fmt: skip
        await self.sign_in(id_)
        return id_

    async def cookie(self, person_id: UUID, organization_id: UUID | None = None) -> str:
        """Of a new session, in the organisation (None: where they were last)."""
        order = self.order(f"person:{person_id}")
        begun = await session.begin(self.db, self.site, order, person_id, "password", session.Browser("Tests/1.0"))
        signed = await self.read(begun.cookie)
        if organization_id is None or signed.organization_id == organization_id:
            return begun.cookie
        return await session.switch_organization(self.db, self.site, order, signed, organization_id)

    async def sign_in(self, person_id: UUID) -> Signed:
        """Somebody who has just proved who they are."""
        return await self.read(await self.cookie(person_id))

    async def read(self, cookie: str) -> Signed:
        """Whose session it is."""
        signed = await session.find(self.db, self.site.keyring, self.site.mode, cookie, self.now)
        assert isinstance(signed, Signed)
        return signed

    async def team(self, owner_id: UUID, **others: Role) -> tuple[UUID, dict[str, UUID]]:
        """An organisation called Mill, and further members of it, each under a name with a role."""
        signed = await self.sign_in(owner_id)
        async with self.db.operator() as tx:
            new = organization.New("Mill", "team")
            made = await organization.make(tx, self.order(signed.actor), new, owner_id)
        return made.id, {name: await self.join(made.id, role) for name, role in others.items()}

    async def join(self, organization_id: UUID, role: Role) -> UUID:
        """A new person who is a member."""
        person_id = await self.person()
        async with self.db.operator() as tx:
            await members.insert(tx, organization_id, person_id, role, self.now)
        return person_id

    async def insider(self, organization_id: UUID, person_id: UUID) -> Insider:
        signed = await self.sign_in(person_id)
        return Insider(organization_id, self.order(signed.actor), signed)

    def key(self, organization_id: UUID) -> Insider:
        """A key of the organisation with the scope `manage`."""
        return Insider(organization_id, self.order(f"key:{uuid4()}"), None)

    async def suspend(self, table: LiteralString, id_: UUID) -> None:
        await self.change(f"UPDATE {table} SET suspended_at = now() WHERE id = %s", id_)

    def later(self, **by: float) -> None:
        self.now += timedelta(**by)

    async def roles(self, organization_id: UUID) -> dict[UUID, str]:
        found = await self.rows("SELECT person_id, role FROM member WHERE organization_id = %s", organization_id)
        return {row["person_id"]: row["role"] for row in found}

    async def audit(self, organization_id: UUID) -> list[dict[str, Any]]:
        return await self.rows(
            "SELECT action, actor, address, object_type, object_id, details FROM audit WHERE organization_id = %s "
            "ORDER BY seq",
            organization_id,
        )

    async def last_audit(self, organization_id: UUID) -> dict[str, Any]:
        return (await self.audit(organization_id))[-1]

    async def invited(self, email: str) -> str:
        """The token of the last invitation that this address got: by transaction, as the time here stands still."""
        found = await self.rows(
            """SELECT body FROM mail WHERE recipient = %s AND kind = 'invitation'
               ORDER BY xmin::text::bigint DESC LIMIT 1""",
            email,
        )
        link = _LINK.search(found[0]["body"])
        assert link is not None, found[0]["body"]
        return link.group(1)

    async def rows(self, query: LiteralString, *parameters: Any) -> list[dict[str, Any]]:
        async with await AsyncConnection.connect(self.db.url, row_factory=dict_row) as connection:
            return await (await connection.execute(query, parameters)).fetchall()

    async def change(self, statement: LiteralString, *parameters: Any) -> None:
        async with await AsyncConnection.connect(self.db.url) as connection:
            assert (await connection.execute(statement, parameters)).rowcount > 0


@asynccontextmanager
async def society(database_url: str) -> AsyncIterator[Society]:
    db = Database(database_url)
    await db.open()
    try:
        yield Society(db)
    finally:
        await db.close()
