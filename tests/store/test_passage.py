"""Passages are found by the words of a question, and only those of the assistant that is asked."""

from __future__ import annotations

from uuid import UUID, uuid4

import pytest

from tollhouse.core.assistant import Assistant
from tollhouse.core.routing import PLATFORM_ID
from tollhouse.flows.seed import DEMO_ID
from tollhouse.store import assistant as assistants
from tollhouse.store import passage as store
from tollhouse.store.db import Database, TenantTx

NOBODY = UUID(int=0)


async def persona(tx: TenantTx, slug: str) -> Assistant:
    found = await assistants.by_slug(tx, DEMO_ID, NOBODY, slug)
    assert found is not None
    return found


async def test_each_persona_finds_what_it_knows_and_cites_where_it_stands(database_url: str) -> None:
    db = Database(database_url)
    await db.open()
    try:
        async with db.tenant(DEMO_ID) as tx:
            for slug, question, source, heading in (
                ("marcus", "How do I get out of bed in the morning?", "book 5", "Getting out of bed"),
                ("marcus", "How do I keep my anger with a colleague?", "book 11", "Nine thoughts against anger"),
                ("laozi", "How should a leader act?", "chapter 17", "The leader hardly noticed"),
                ("laozi", "What has water to teach?", "chapter 8", "The highest good is like water"),
                ("beauvoir", "Are women made or born? On becoming one", "The Second Sex", "Becoming a woman"),
                ("beauvoir", "I hide behind a cause; who is the serious man?", "part 2", "The serious man"),
            ):
                found = await store.search(tx, await persona(tx, slug), question)
                assert 1 <= len(found) <= 4 and (found[0].heading, source in found[0].source) == (heading, True), found
            marcus = await persona(tx, "marcus")
            assert await store.search(tx, marcus, "and the of") == []
            assert await store.search(tx, marcus, "") == []
            assert await store.search(tx, marcus, "zxcvb qwerty") == []
            assert len(await store.search(tx, marcus, "life work people death judgement", 2)) == 2
            for hostile in ("'; DROP TABLE passage; --", "a & | ! <-> b:*", "(" * 5000, "\\", "mind " * 10_000):
                await store.search(tx, marcus, hostile)
    finally:
        await db.close()


async def test_what_the_platforms_assistants_know_is_changed_by_no_organisation(database_url: str) -> None:
    db = Database(database_url)
    await db.open()
    try:
        async with db.tenant(DEMO_ID) as tx:
            marcus = await persona(tx, "marcus")
            [first, *_] = await assistants.documents(tx, marcus)
            assert not await store.delete(tx, marcus, first.id)
            assert marcus.organization_id == PLATFORM_ID
        with pytest.raises(Exception, match="row-level security"):
            async with db.tenant(DEMO_ID) as tx:
                await store.insert(tx, marcus, store.NewDocument(uuid4(), "x", "", [("", "y")]), marcus.created_at)
    finally:
        await db.close()
