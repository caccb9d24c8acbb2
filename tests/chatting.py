"""Chats of this process: people who are signed in, and the parts that chats are made with, on the sandbox."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, LiteralString
from uuid import UUID

from psycopg import AsyncConnection

from tests.conftest import TEST_SECRET
from tests.ledger import assert_ledger_holds
from tollhouse.core.access import Role
from tollhouse.core.conversation import Message
from tollhouse.core.session import Signed
from tollhouse.core.vault import Keyring
from tollhouse.flows import chat, session
from tollhouse.flows.chat import Ended, Parts, Piece, Said, Started
from tollhouse.flows.connection import Policy
from tollhouse.flows.order import Order
from tollhouse.flows.sign_up import make
from tollhouse.flows.site import Site
from tollhouse.flows.spend import Teller
from tollhouse.flows.writing import Writers
from tollhouse.gateway.keeper import Keeper
from tollhouse.gateway.providers import Providers
from tollhouse.gateway.pump import Pumps
from tollhouse.gateway.talk import Talks
from tollhouse.store import member as members
from tollhouse.store import message as messages
from tollhouse.store.db import Database

QUICK = "sandbox:delay=0"
_numbers = itertools.count(1)


@dataclass(slots=True)
class Told:
    """What open pages were told."""

    topics: list[tuple[UUID | None, str]]

    async def __call__(self, tx: object, organization_id: UUID, person_id: UUID | None, topic: str) -> None:
        self.topics.append((person_id, topic))


@dataclass(frozen=True, slots=True)
class Room:
    """One process's parts on a database. `clock` gives the real time, moved by `ahead`."""

    url: str
    db: Database
    teller: Teller
    pumps: Pumps
    parts: Parts
    told: Told

    async def person(self, name: str = "Ada Lovelace", plan: str | None = None) -> Signed:
        """Somebody new, in their own organisation."""
        order, site = Order("system", clock()), Site("http://127.0.0.1", "test", Keyring(TEST_SECRET))
        async with self.db.operator() as tx:
            person_id = await make(tx, order, f"p{next(_numbers)}@example.com", name, verified=True)
        assert person_id is not None
        begun = await session.begin(self.db, site, order, person_id, "password", session.Browser("a browser"))
        signed = await session.find(self.db, site.keyring, "test", begun.cookie, clock())
        assert isinstance(signed, Signed)
        if plan is not None:
            await self.change("UPDATE organization SET plan_id = %s WHERE id = %s", plan, signed.organization_id)
        return signed

    async def colleague(self, of: Signed, role: Role = "member") -> Signed:
        """Somebody else in the same organisation, which is a team from here on."""
        other = await self.person("Charles Babbage")
        await self.change("UPDATE organization SET kind = 'team' WHERE id = %s", of.organization_id)
        async with self.db.operator() as tx:
            await members.insert(tx, of.organization_id, other.person_id, role, clock())
        return replace(other, organization_id=of.organization_id, role=role)

    async def rows(self, query: LiteralString, *parameters: Any) -> list[tuple[Any, ...]]:
        async with await AsyncConnection.connect(self.url) as connection:
            return await (await connection.execute(query, parameters)).fetchall()

    async def change(self, statement: LiteralString, *parameters: Any) -> None:
        async with await AsyncConnection.connect(self.url) as connection:
            assert (await connection.execute(statement, parameters)).rowcount > 0

    async def messages(self, signed: Signed, conversation_id: UUID) -> list[Message]:
        async with self.db.member(signed.organization_id, signed.person_id) as tx:
            return await messages.of(tx, signed.organization_id, conversation_id)

    async def end(self, signed: Signed, started: Started) -> Message:
        """The answer once it has ended."""
        return await ended(self.parts, signed, started.answer)

    async def ask(self, signed: Signed, text: str, conversation_id: UUID | None = None, **said: Any) -> Message:
        """Says something, in a new conversation or this one, and waits for the answer."""
        what = Said(f"{text} {QUICK}" if "sandbox:delay" not in text else text, **said)
        if conversation_id is None:
            return await self.end(signed, await chat.begin(self.parts, signed, what))
        return await self.end(signed, await chat.say(self.parts, signed, conversation_id, what))


async def ended(parts: Parts, signed: Signed, answer: Message) -> Message:
    async with asyncio.timeout(20):
        async for event in chat.follow(parts, signed, answer.conversation_id, answer.id):
            if isinstance(event, Ended):
                return event.message
    raise AssertionError("the answer ended without its end")


async def texts(parts: Parts, signed: Signed, answer: Message) -> tuple[str, Message]:
    """All text that a reader is given, and the answer in the end."""
    found = ""
    async with asyncio.timeout(20):
        async for event in chat.follow(parts, signed, answer.conversation_id, answer.id):
            match event:
                case Piece(text):
                    found += text
                case Ended(message):
                    return found, message
    raise AssertionError("the answer ended without its end")


def clock() -> datetime:
    return datetime.now(UTC)


@asynccontextmanager
async def room(url: str, at: Callable[[], datetime] = clock) -> AsyncIterator[Room]:
    """One process. In the end it stops like one that is told to."""
    db = Database(url)
    await db.open()
    teller = Teller(url, "test", at)
    await teller.open()
    providers = Providers(Policy(Keyring(TEST_SECRET), "test", allow_private=True))
    pumps = Pumps(teller, providers, Keeper(db, at))
    told = Told([])
    writers = Writers(db, at, told)
    try:
        yield Room(url, db, teller, pumps, Parts(db, Talks(pumps, db, at, "test"), at, writers), told)
    finally:
        await pumps.close(0)
        await writers.close()
        await providers.close()
        await teller.close()
        await db.close()


@asynccontextmanager
async def proved_room(url: str) -> AsyncIterator[Room]:
    """The same; its ledger must hold once all has ended."""
    async with room(url) as made:
        yield made
    await assert_ledger_holds(url)
