"""The ledger in parts: a time is found by halving, and what is found is what a look at every row finds."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from random import Random

import pytest
from psycopg import AsyncConnection

from tollhouse.flows.seed import DEMO_ID
from tollhouse.store import credit
from tollhouse.store.credit import Filter
from tollhouse.store.db import Database

BEGAN = datetime(2026, 2, 1, tzinfo=UTC)
ROWS = 700


@pytest.fixture
async def db(database_url: str) -> AsyncIterator[Database]:
    made = Database(database_url)
    await made.open()
    yield made
    await made.close()


async def fill(url: str, rows: int) -> list[tuple[int, datetime, str]]:
    """Uses and bonuses, as many as that; now and then one waited for the lock longer than the one after it."""
    async with await AsyncConnection.connect(url) as connection:
        await connection.execute("DELETE FROM credit_transaction WHERE organization_id = %s", (DEMO_ID,))
        await connection.execute(
            """INSERT INTO credit_transaction (organization_id, seq, id, type, amount_micros, balance_after_micros,
                   actor, created_at)
               SELECT %s, n, gen_random_uuid(), CASE WHEN n %% 5 = 0 THEN 'promo_bonus' ELSE 'ai_consumption' END,
                      CASE WHEN n %% 5 = 0 THEN 1 ELSE -1 END, 0, 'system',
                      %s + n * interval '7 minutes' - CASE WHEN n %% 11 = 0 THEN interval '8 minutes' ELSE '0' END
               FROM generate_series(1, %s) n""",
            (DEMO_ID, BEGAN, rows),
        )
        await connection.execute("UPDATE credit_balance SET seq = %s WHERE organization_id = %s", (rows, DEMO_ID))
        cursor = await connection.execute(
            "SELECT seq, created_at, type FROM credit_transaction WHERE organization_id = %s ORDER BY seq DESC",
            (DEMO_ID,),
        )
        return [(row[0], row[1], row[2]) for row in await cursor.fetchall()]


async def test_a_time_has_the_rows_of_it_whatever_waited_for_the_lock(database_url: str, db: Database) -> None:
    all_rows, random = await fill(database_url, ROWS), Random(5)
    last = ROWS * 7 + 30
    minutes = [sorted(random.sample(range(-30, last), 2)) for _ in range(40)] + [[-90, -60], [last, last + 60]]
    times = [(BEGAN + timedelta(minutes=first), BEGAN + timedelta(minutes=end)) for first, end in minutes]
    times.append((all_rows[9][1], all_rows[3][1]))  # exactly at rows
    async with db.tenant(DEMO_ID) as tx:
        for since, until in times:
            for wanted in (Filter(None, since, until), Filter("promo_bonus", since, None), Filter(None, None, until)):
                found = await credit.transactions(tx, DEMO_ID, wanted, ROWS, None)
                assert [one.seq for one in found.items] == [
                    seq for seq, at, type_ in all_rows
                    if wanted.type in (None, type_) and (wanted.since is None or at >= wanted.since)
                    and (wanted.until is None or at < wanted.until)
                ], wanted  # fmt: skip


async def test_a_ledger_with_nothing_or_one_row_is_searched_too(database_url: str, db: Database) -> None:
    for rows in (0, 1):
        await fill(database_url, rows)
        async with db.tenant(DEMO_ID) as tx:
            found = await credit.transactions(tx, DEMO_ID, Filter(None, BEGAN, BEGAN + timedelta(days=1)), 9, None)
        assert len(found.items) == rows


async def test_pages_of_a_time_follow_one_another(database_url: str, db: Database) -> None:
    await fill(database_url, ROWS)
    wanted, cursor, seen = Filter("promo_bonus", BEGAN, BEGAN + timedelta(days=1)), None, list[int]()
    async with db.tenant(DEMO_ID) as tx:
        while True:
            page = await credit.transactions(tx, DEMO_ID, wanted, 10, cursor)
            seen += [one.seq for one in page.items]
            cursor = page.next_cursor
            if cursor is None:
                break
        whole = await credit.transactions(tx, DEMO_ID, wanted, ROWS, None)
    assert seen == [one.seq for one in whole.items] and len(seen) > 30
