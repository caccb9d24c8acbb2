"""What changes is told to the pages that are open, of whom it is, and to nobody else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from uuid import UUID, uuid4

from psycopg import AsyncConnection

from tollhouse.core.notice import Notice
from tollhouse.flows.live import FOLLOWERS_MAX, TOPICS, Follower, Live
from tollhouse.flows.seed import DEMO_ID
from tollhouse.store.db import Database
from tollhouse.store.exchange import connect_teller, disconnect_teller, run
from tollhouse.store.notice import insert

HERE, ADA, BOB = uuid4(), uuid4(), uuid4()


@asynccontextmanager
async def lives(database_url: str) -> AsyncIterator[tuple[Database, Live, Live]]:
    """Two processes, as it were."""
    db = Database(database_url)
    await db.open()
    async with AsyncExitStack() as stack:
        stack.push_async_callback(db.close)
        for live in (one := Live(database_url), other := Live(database_url)):
            stack.push_async_callback(live.close)
        yield db, one, other


async def listening(live: Live, organization_id: UUID = HERE, person_id: UUID = ADA) -> Follower:
    """A follower that has heard that everything may have changed, as each does when the listening begins."""
    follower = live.follow(organization_id, person_id)
    assert await follower.changed(15) == sorted(TOPICS)
    return follower


async def test_a_commit_is_heard_in_every_process_and_a_rollback_in_none(database_url: str) -> None:
    async with lives(database_url) as (db, one, other):
        followers = [await listening(one), await listening(other)]
        async with db.tenant(HERE) as tx:
            await Live.tell(tx, HERE, ADA, "usage")
            await Live.tell(tx, HERE, ADA, "usage")
            assert await followers[0].changed(0.1) == [], "nothing is told before the commit"
        assert [await follower.changed(15) for follower in followers] == [["usage"], ["usage"]]
        try:
            async with db.tenant(HERE) as tx:
                await Live.tell(tx, HERE, ADA, "notice")
                raise RuntimeError
        except RuntimeError:
            pass
        async with db.tenant(HERE) as tx:
            await Live.tell(tx, HERE, None, "conversations")
        assert [await follower.changed(15) for follower in followers] == [["conversations"], ["conversations"]]


async def test_nobody_hears_of_others(database_url: str) -> None:
    async with lives(database_url) as (db, live, _):
        ada, bob = await listening(live), live.follow(HERE, BOB)
        elsewhere = live.follow(uuid4(), ADA)
        async with db.tenant(HERE) as tx:
            await Live.tell(tx, HERE, ADA, "conversations")
            await Live.tell(tx, HERE, None, "usage")
        heard = await ada.changed(15)
        if heard != ["conversations", "usage"]:
            heard += await ada.changed(15)
        assert heard == ["conversations", "usage"]
        assert await bob.changed(15) == ["usage"]
        assert await elsewhere.changed(0) == []


async def test_what_is_not_ours_on_the_channel_is_not_understood(database_url: str) -> None:
    async with lives(database_url) as (db, live, _):
        follower = await listening(live)
        async with await AsyncConnection.connect(database_url, autocommit=True) as connection:
            for payload in ("", "x", f"nobody {ADA} usage", f"{HERE} {ADA} script", f"{HERE} {ADA} usage more"):
                await connection.execute("SELECT pg_notify('tollhouse_live', %s)", (payload,))
        async with db.tenant(HERE) as tx:
            await Live.tell(tx, HERE, ADA, "usage")
        assert await follower.changed(15) == ["usage"]


async def test_after_a_broken_connection_everybody_looks_again(database_url: str) -> None:
    async with lives(database_url) as (_, live, _other):
        follower = await listening(live)
        async with await AsyncConnection.connect(database_url, autocommit=True) as connection:
            ended = await connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'"
            )
            assert ended.rowcount == 1
        assert await follower.changed(15) == sorted(TOPICS)


async def test_of_too_many_pages_of_one_person_the_oldest_ends(database_url: str) -> None:
    async with lives(database_url) as (_, live, _other):
        first = live.follow(HERE, ADA)
        others = [live.follow(uuid4(), ADA) for _ in range(FOLLOWERS_MAX - 1)]
        bob = live.follow(HERE, BOB)
        assert not first.over
        with live.follow(HERE, ADA) as last:
            assert (first.over, first.elsewhere) == (True, False)
            assert await first.changed(15) == []
        with live.follow(HERE, ADA):
            assert not any(one.over for one in (*others, bob, last)), "one has left meanwhile"


async def test_a_process_that_goes_down_sends_everybody_elsewhere(database_url: str) -> None:
    async with lives(database_url) as (_, live, _other):
        follower = await listening(live)
        waiting = asyncio.create_task(follower.changed(600))
        live.drain()
        assert await asyncio.wait_for(waiting, 15) == []
        late = live.follow(HERE, ADA)
        assert all(one.over and one.elsewhere for one in (follower, late))


async def test_a_notice_of_the_teller_is_told_to_everybody_there_with_its_commit_and_once(database_url: str) -> None:
    async with lives(database_url) as (_, live, _other):
        ada, bob = await listening(live, DEMO_ID), live.follow(DEMO_ID, BOB)
        elsewhere = live.follow(HERE, ADA)
        now = datetime.now(UTC)
        low = Notice(DEMO_ID, "low_balance", now.date(), 1, 2, now)
        teller = await connect_teller(database_url)
        await run(teller, insert([low]), commit=True)
        assert [await one.changed(15) for one in (ada, bob)] == [["notice"], ["notice"]]
        await run(teller, insert([low]), commit=True)
        assert [await one.changed(0.2) for one in (ada, bob, elsewhere)] == [[], [], []]
        await disconnect_teller(teller)
