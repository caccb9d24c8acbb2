"""People at the door: they sign up, read their mail, and sign in as a browser does."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from uuid import UUID

import pyotp

from tests.ledger import assert_ledger_holds
from tests.society import SITE, Society
from tollhouse.core.key import Mode
from tollhouse.core.session import Held, Signed
from tollhouse.flows import second_factor, session, sign_in, sign_up
from tollhouse.flows.session import Begun, Browser
from tollhouse.flows.sign_in import Given
from tollhouse.flows.sign_up import NewPerson
from tollhouse.store.db import Database

ADA, BOB = "ada@example.com", "bob@example.com"
PASSWORD, OTHER = "four grey herons wait", "seven pale moons rise"
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0"
_LINK = re.compile(r"https://ai\.example\.com/[a-z/-]+/([A-Za-z0-9_-]{43})")


class Doorway(Society):
    async def sign_up(self, email: str = ADA, password: str = PASSWORD, invitation: str | None = None) -> UUID | None:
        wanted = NewPerson(email, "Ada Lovelace", password, invitation)
        return await sign_up.sign_up(self.db, self.site, self.order(), wanted)

    async def verify(self, token: str, password: str = PASSWORD) -> Begun:
        return await sign_in.verify_email(self.db, self.site, self.order(), token, password, Browser(FIREFOX))

    async def newcomer(self, email: str = ADA, password: str = PASSWORD) -> Signed:
        """Somebody who has signed up, confirmed their address and so is signed in."""
        assert await self.sign_up(email, password) is None
        begun = await self.verify(await self.token(email, "verify_email"), password)
        return await self.read(begun.cookie)

    async def enter(
        self,
        email: str = ADA,
        password: str = PASSWORD,
        former: Signed | Held | None = None,
        address: str = "192.0.2.7",
    ) -> Begun:
        order = replace(self.order(), address=address)
        given, browser = Given(email, password), Browser(FIREFOX, former)
        return await sign_in.with_password(self.db, self.site, order, given, browser)

    async def entered(self, email: str = ADA, password: str = PASSWORD) -> Signed:
        return await self.read((await self.enter(email, password)).cookie)

    async def whose(self, cookie: str, mode: Mode | None = None) -> Signed | Held | None:
        return await session.find(self.db, self.site.keyring, mode or self.site.mode, cookie, self.now)

    async def held(self, cookie: str) -> Held:
        found = await self.whose(cookie)
        assert isinstance(found, Held)
        return found

    async def with_app(self, signed: Signed) -> tuple[Signed, str, tuple[str, ...]]:
        """The same person with a second factor: their session, the secret in their app, their recovery codes."""
        order = self.order(signed.actor)
        enrolment = await second_factor.start(self.db, self.site, order, signed)
        code = self.code(enrolment.secret)
        added = await second_factor.confirm(self.db, self.site, order, signed, code)
        return await self.read(added.cookie), enrolment.secret, added.recovery_codes

    def code(self, secret: str, steps: int = 0) -> str:
        """What the app shows now, or so many steps of 30 s later."""
        return pyotp.TOTP(secret).at(self.now + timedelta(seconds=30 * steps))

    async def mails(self, email: str = ADA) -> list[str]:
        return [
            row["kind"] for row in await self.rows("SELECT kind FROM mail WHERE recipient = %s ORDER BY ctid", email)
        ]

    async def token(self, email: str, kind: str) -> str:
        """That of the link in the last such mail."""
        found = await self.rows(
            "SELECT body FROM mail WHERE recipient = %s AND kind = %s ORDER BY ctid DESC LIMIT 1", email, kind
        )
        link = _LINK.search(found[0]["body"])
        assert link is not None, found[0]["body"]
        return link.group(1)

    async def person_id(self, email: str = ADA) -> UUID:
        found = await self.rows("SELECT id FROM person WHERE email = %s", email)
        id_ = found[0]["id"]
        assert isinstance(id_, UUID)
        return id_

    async def trail(self, person_id: UUID) -> list[str]:
        """What the person's own organisation has on record."""
        found = await self.rows(
            """SELECT a.action FROM audit a JOIN organization o ON o.id = a.organization_id
               JOIN member m ON m.organization_id = o.id
               WHERE m.person_id = %s AND o.kind = 'personal' ORDER BY a.seq""",
            person_id,
        )
        return [row["action"] for row in found]

    async def make_superadmin(self, person_id: UUID) -> None:
        await self.change("UPDATE person SET superadmin = true WHERE id = %s", person_id)


@asynccontextmanager
async def doorway(database_url: str) -> AsyncIterator[Doorway]:
    """The books must prove when the test is over."""
    db = Database(database_url)
    await db.open()
    try:
        yield Doorway(db, SITE)
    finally:
        await db.close()
    await assert_ledger_holds(database_url)
