"""An organisation of a team, its people with their browsers, and what stands in its books."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, LiteralString
from uuid import UUID

from bs4 import Tag
from psycopg import AsyncConnection
from psycopg.rows import dict_row

from tests.web.serving import Answer, Place, Visitor, clock, serving
from tollhouse.core.access import Role
from tollhouse.core.session import Signed
from tollhouse.flows import session
from tollhouse.store import member as members


@dataclass(frozen=True, slots=True)
class Team:
    """`owner` has just proved who they are. The organisation is called Mill."""

    place: Place
    id: UUID
    owner: Visitor

    async def join(self, email: str, role: Role) -> Visitor:
        """Somebody new who is signed in, here."""
        visitor = await self.place.person(email)
        assert visitor.person_id is not None
        async with self.place.db.operator() as tx:
            await members.insert(tx, self.id, visitor.person_id, role, clock())
        await self.place.change(
            "UPDATE session SET organization_id = %s WHERE person_id = %s", self.id, visitor.person_id
        )
        return visitor

    async def rows(self, query: LiteralString, *parameters: Any) -> list[dict[str, Any]]:
        async with await AsyncConnection.connect(self.place.database_url, row_factory=dict_row) as connection:
            return await (await connection.execute(query, parameters)).fetchall()

    async def audited(self) -> list[str]:
        found = await self.rows("SELECT action FROM audit WHERE organization_id = %s ORDER BY seq", self.id)
        return [row["action"] for row in found]

    async def invited(self, email: str) -> str:
        """The path of the last invitation that the address got."""
        found = await self.rows(
            "SELECT body FROM mail WHERE recipient = %s ORDER BY xmin::text::bigint DESC LIMIT 1", email
        )
        link = re.search(r"(/invitations/\S+)", found[0]["body"])
        assert link is not None
        return link.group(1)


@asynccontextmanager
async def team(database_url: str, **options: Any) -> AsyncIterator[Team]:
    async with serving(database_url, **options) as place:
        owner = await place.in_a_team("owner@example.com", "owner")
        yield Team(place, (await signed_in(place, owner)).organization_id, owner)


async def signed_in(place: Place, visitor: Visitor) -> Signed:
    cookie = visitor.cookies[place.site.cookie]
    found = await session.find(place.db, place.site.keyring, place.site.mode, cookie, clock())
    assert isinstance(found, Signed)
    return found


async def send(visitor: Visitor, path: str, fields: dict[str, Any] | None = None) -> Answer:
    """Posts a form as a page of ours sends it."""
    token = (await visitor.get("/organizations")).token
    pairs = [(name, one) for name, value in (fields or {}).items() for one in _each(value)]
    return await visitor.post(path, [*pairs, ("csrf", token)])


async def sent_on(visitor: Visitor, path: str, fields: dict[str, Any] | None = None) -> Answer:
    """The same, and the page that it leads to."""
    answer = await send(visitor, path, fields)
    assert answer.status == 303, answer.text
    return await visitor.get(answer.headers["location"])


async def forget_proof(place: Place, visitor: Visitor) -> None:
    """An hour passes since they proved who they are."""
    await place.change("UPDATE session SET proved_at = proved_at - interval '1 hour' WHERE person_id = %s",
                       visitor.person_id)  # fmt: skip


def seen(answer: Answer) -> str:
    """The text of the page, in one line."""
    return " ".join(answer.soup.get_text(" ").split())


def at(answer: Answer, selector: str) -> Tag:
    """The first part of the page that the selector finds."""
    found = answer.soup.select_one(selector)
    assert found is not None, f"no {selector} in {answer.text}"
    return found


def _each(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else list(value)
