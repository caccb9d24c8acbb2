"""Conversations of one person as they are listed, searched, pinned and deleted, also when there are ten thousand."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, LiteralString
from uuid import UUID, uuid4

import pytest
import pytest_asyncio
from psycopg import AsyncConnection

from tests.conftest import Cluster, SeededTemplate
from tollhouse.core.conversation import Attachment, Conversation, Message
from tollhouse.store import conversation, message
from tollhouse.store.conversation import PINNED_MAX, Place
from tollhouse.store.db import Database

pytestmark = pytest.mark.asyncio(loop_scope="module")

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)


class Shelf:
    """Organisations and people with conversations."""

    def __init__(self, url: str, db: Database) -> None:
        self.url = url
        self.db = db

    async def do(self, statement: LiteralString, *parameters: Any) -> None:
        async with await AsyncConnection.connect(self.url) as connection:
            await connection.execute(statement, parameters)

    async def person(self) -> tuple[UUID, UUID]:
        """In a new organisation."""
        organization, person = uuid4(), uuid4()
        await self.do(
            """INSERT INTO organization (id, name, kind, business_type, plan_id, period_anchor, created_at)
               VALUES (%s, 'Mill', 'team', 'general', 'free', now(), now())""",
            organization,
        )
        await self.do("INSERT INTO person (id, email, name, created_at) VALUES (%s, %s, 'P', now())",
                      person, f"{person}@example.com")  # fmt: skip
        return organization, person

    async def talk(self, whose: tuple[UUID, UUID], title: str, minutes: int, *texts: str) -> Conversation:
        """A conversation in which something was said so many minutes after noon."""
        at = NOON + timedelta(minutes=minutes)
        made = Conversation(whose[0], uuid4(), whose[1], title, None, None, None, at, at)
        async with self.db.member(*whose) as tx:
            await conversation.insert(tx, made)
            for number, text in enumerate(texts):
                said = Message(
                    made.id, UUID(int=number), "person", "done", text, (Attachment("a", "b"),), (), None, at, at
                )
                await message.insert(tx, *whose, said)
        return made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shelf(cluster: Cluster, seeded_template: SeededTemplate) -> AsyncIterator[Shelf]:
    with cluster.database(seeded_template.name) as url:
        db = Database(url)
        await db.open()
        yield Shelf(url, db)
        await db.close()


async def test_pages_hold_each_conversation_once_pinned_ones_first_then_the_newest(shelf: Shelf) -> None:
    ada, eve = await shelf.person(), await shelf.person()
    made = [await shelf.talk(ada, f"chat {n}", n // 2) for n in range(9)]  # two at a time
    await shelf.talk(eve, "hers", 99)
    async with shelf.db.member(*ada) as tx:
        for number in (2, 5):
            assert await conversation.pin(tx, *ada, made[number].id, NOON + timedelta(hours=number))
        assert await conversation.page(tx, *eve) == []
        first = await conversation.page(tx, *ada, limit=3)
        assert [one.id for one in first[:2]] == [made[5].id, made[2].id]
        found, part = list(first), first
        while part:
            part = await conversation.page(tx, *ada, Place(found[-1].updated_at, found[-1].id), limit=3)
            found += part
    others = found[2:]
    assert len(found) == 9 and {one.id for one in found} == {one.id for one in made}
    assert others == sorted(others, key=lambda one: (one.updated_at, one.id), reverse=True)


async def test_a_pin_is_kept_taken_back_and_not_one_too_many(shelf: Shelf) -> None:
    ada = await shelf.person()
    made = [await shelf.talk(ada, f"chat {n}", n) for n in range(PINNED_MAX + 1)]
    async with shelf.db.member(*ada) as tx:
        for one in made[:PINNED_MAX]:
            assert await conversation.pin(tx, *ada, one.id, NOON)
        assert not await conversation.pin(tx, *ada, made[-1].id, NOON)
        assert await conversation.pin(tx, *ada, made[0].id, NOON + timedelta(hours=1))  # it is pinned already
        again = await conversation.find(tx, ada[0], made[0].id)
        assert again is not None and again.pinned_at == NOON
        assert await conversation.unpin(tx, ada[0], made[0].id)
        assert await conversation.pin(tx, *ada, made[-1].id, NOON)
        assert not await conversation.pin(tx, *ada, uuid4(), NOON)


async def test_titles_and_messages_are_searched_as_far_as_the_last_word_was_typed(shelf: Shelf) -> None:
    ada, eve = await shelf.person(), await shelf.person()
    ledger = await shelf.talk(ada, "Double-entry ledgers", 1, "Who invented them?")
    cats = await shelf.talk(ada, "Cats", 2, "A cat called Bernoulli.", "Bernoulli's ledger: grey, <b>fat</b>")
    await shelf.talk(eve, "Double-entry ledgers", 3, "Bernoulli")

    async def search(text: str) -> list[tuple[UUID, str | None]]:
        async with shelf.db.member(*ada) as tx:
            return [(one.conversation.id, one.snippet) for one in await conversation.search(tx, *ada, text)]

    assert [one for one, _ in await search("ledger")] == [cats.id, ledger.id]
    assert await search("double ent") == [(ledger.id, None)]
    ((found, snippet),) = await search("BERNOULLI led")
    assert found == cats.id and snippet is not None
    assert snippet.startswith("\ue000Bernoulli\ue001's \ue000ledger\ue001")
    assert "<b>" not in snippet or "fat" in snippet  # as it was said: whoever shows it escapes it
    for nothing in ("", " ' & ! ", "doubled", "ernoulli", "Bernoulli dog"):
        assert await search(nothing) == [], nothing
    for hostile in ("'", "a'b", "\\", "a:*", "ledger | cat", "((", "ledger')::tsquery", "\0"):
        await search(hostile)
    async with shelf.db.member(*ada) as tx:
        await message.replace(tx, ada[0], cats.id, UUID(int=0), NOON)
    assert [one for one, _ in await search("Bernoulli")] == []


async def test_what_is_deleted_takes_its_messages_along(shelf: Shelf) -> None:
    ada, eve = await shelf.person(), await shelf.person()
    made = [await shelf.talk(ada, f"chat {n}", n, "hello") for n in range(3)]
    hers = await shelf.talk(eve, "hers", 1, "hello")
    async with shelf.db.member(*ada) as tx:
        assert not await conversation.delete(tx, ada[0], hers.id)
        assert not await conversation.rename(tx, ada[0], hers.id, "mine")
        assert await conversation.delete(tx, ada[0], made[0].id)
        assert await message.of(tx, ada[0], made[0].id) == []
        assert await conversation.delete_all(tx, *ada) == 2
    async with shelf.db.member(*eve) as tx:
        assert len(await message.of(tx, eve[0], hers.id)) == 1
        assert await conversation.delete_all(tx, *ada) == 0


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def crowded(shelf: Shelf) -> tuple[UUID, UUID]:
    """Somebody with ten thousand conversations, in an organisation with as many of others."""
    ada, eve = await shelf.person(), await shelf.person()
    for person in (ada[1], eve[1]):
        await shelf.do(
            """INSERT INTO conversation (organization_id, id, person_id, title, created_at, updated_at)
               SELECT %s, gen_random_uuid(), %s, 'chat ' || n, now(), now() - n * interval '1 minute'
               FROM generate_series(1, 10000) n""",
            ada[0], person,
        )  # fmt: skip
    await shelf.do(
        """INSERT INTO message (organization_id, conversation_id, id, person_id, author, state, content, created_at,
               written_at)
           SELECT organization_id, id, gen_random_uuid(), person_id, 'person', 'done', 'hello', now(), now()
           FROM conversation WHERE organization_id = %s""",
        ada[0],
    )
    await shelf.do("ANALYZE conversation, message")
    return ada


def scans(plan: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """What is scanned, how, and by which index."""
    if "Relation Name" in plan:
        yield plan["Relation Name"], plan["Node Type"], plan.get("Index Name", "")
    for inner in plan.get("Plans", ()):
        yield from scans(inner)


async def explained(shelf: Shelf, whose: tuple[UUID, UUID], call: Any) -> set[tuple[str, str, str]]:
    """The scans of what the call asks."""
    asked: list[tuple[Any, Any]] = []

    class Listening:
        """Stands in for a transaction."""

        def __init__(self, inner: Any) -> None:
            self._inner = inner

        def cursor(self, **options: Any) -> Any:
            return Listening(self._inner.cursor(**options))

        async def __aenter__(self) -> Any:
            return self

        async def __aexit__(self, *about: object) -> None:
            await self._inner.close()

        async def execute(self, statement: Any, parameters: Any) -> Any:
            asked.append((statement, parameters))
            return await self._inner.execute(statement, parameters)

        async def fetchall(self) -> Any:
            return await self._inner.fetchall()

    async with shelf.db.member(*whose) as tx:
        await call(Listening(tx))
        assert len(asked) == 1, "one query, however many there are"
        cursor = await tx.execute("EXPLAIN (FORMAT JSON) " + asked[0][0], asked[0][1])
        row = await cursor.fetchone()
    assert row is not None
    plan = row[0] if isinstance(row[0], list) else json.loads(row[0])
    return set(scans(plan[0]["Plan"]))


async def test_among_ten_thousand_each_list_is_one_query_by_an_index(
    shelf: Shelf, crowded: tuple[UUID, UUID]
) -> None:  # fmt: skip
    first = await explained(shelf, crowded, lambda tx: conversation.page(tx, *crowded))
    assert {index for _, _, index in first} == {"conversation_list", "conversation_pinned"}
    place = Place(datetime.now(UTC) - timedelta(days=3), uuid4())
    later = await explained(shelf, crowded, lambda tx: conversation.page(tx, *crowded, place))
    assert "conversation_list" in {index for _, _, index in later}
    found = await explained(shelf, crowded, lambda tx: conversation.search(tx, *crowded, "hello"))
    assert {index for _, _, index in found} <= {"conversation_list", "conversation_pkey", "message_pkey"}
    for one in (*first, *later, *found):
        assert "Seq" not in one[1], one
