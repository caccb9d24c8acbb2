"""Usage by day: computed from the events of days that are over, and the same however often and whenever."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from psycopg import AsyncConnection

from tests.flows.cast import change, rows
from tollhouse.store import usage
from tollhouse.store.db import Database
from tollhouse.store.proof import prove

HER, HIM, SOMEBODY = UUID(int=1), UUID(int=2), UUID(int=77)
NOON = datetime(2026, 2, 28, 12, tzinfo=UTC)
DAY, MINUTE = timedelta(days=1), timedelta(minutes=1)


@pytest.fixture
async def db(database_url: str) -> AsyncIterator[Database]:
    made = Database(database_url)
    await made.open()
    yield made
    await made.close()


async def record(url: str, at: datetime, organization_id: UUID = HER, **about: Any) -> None:
    """One usage event: 100 tokens in, 10 out, 3 micro-credits."""
    row = {"organization_id": organization_id, "recorded_at": at, "started_at": at, "subject_id": SOMEBODY,
           "channel": "api", "capability": None, "model_id": "small", "messages": 1, "input_tokens": 100,
           "cached_input_tokens": 40, "output_tokens": 10, "reasoning_tokens": 4, "trial": False, "estimated": False,
           "cost_nanos": 7, "charged_micros": 3} | about  # fmt: skip
    await change(
        url,
        """INSERT INTO usage_event (organization_id, id, recorded_at, started_at, reservation_id, subject_id, channel,
               capability, model_id, multiplier_permille, messages, input_tokens, cached_input_tokens, output_tokens,
               reasoning_tokens, trial, estimated, cost_nanos, charged_micros)
           VALUES (%s, gen_random_uuid(), %s, %s, gen_random_uuid(), %s, %s, %s, %s, 1000, %s, %s, %s, %s, %s, %s, %s,
                   %s, %s)""",
        *row.values(),
    )


async def roll_up(db: Database, now: datetime) -> list[date]:
    """As the job does it; the days that were computed."""
    async with db.worker() as tx:
        days = await usage.days_to_roll_up(tx, now)
    for day in days:
        async with db.worker() as tx:
            assert await usage.roll_up(tx, day, now)
    return days


async def rollups(url: str) -> list[tuple[Any, ...]]:
    """Organisation, day, requests and micro-credits of each."""
    found = await rows(
        url, "SELECT organization_id, day, requests, charged_micros FROM usage_day ORDER BY 1, 2, channel, model_id"
    )
    return [(row[0], row[1], row[2], row[3]) for row in found]


async def assert_rollups_hold(url: str) -> None:
    async with await AsyncConnection.connect(url) as connection:
        assert [one for one in await prove(connection) if one.number == 10] == []


async def test_a_day_is_summed_by_who_what_and_how(database_url: str, db: Database) -> None:
    await record(database_url, NOON)
    await record(database_url, NOON, trial=True, messages=2)
    await record(database_url, NOON, estimated=True, output_tokens=50)
    await record(database_url, NOON, model_id=None, capability="polish", channel="capability", messages=0)
    await record(database_url, NOON, subject_id=HIM)
    await record(database_url, NOON, HIM)
    assert await roll_up(db, NOON + DAY) == [NOON.date()]
    found = await rows(
        database_url,
        """SELECT organization_id, subject_id, channel, capability, model_id, requests, messages, trial_messages,
                  estimated, input_tokens, cached_input_tokens, output_tokens, reasoning_tokens, cost_nanos,
                  charged_micros FROM usage_day ORDER BY 1, 2, 3""",
    )
    one = (100, 40, 10, 4, 7, 3)
    assert found == [
        (HER, HIM, "api", "", "small", 1, 1, 0, 0, *one),
        (HER, SOMEBODY, "api", "", "small", 3, 4, 2, 1, 300, 120, 70, 12, 21, 9),
        (HER, SOMEBODY, "capability", "polish", "", 1, 0, 0, 0, *one),
        (HIM, SOMEBODY, "api", "", "small", 1, 1, 0, 0, *one),
    ]
    await assert_rollups_hold(database_url)


async def test_a_day_begins_and_ends_at_midnight_utc(database_url: str, db: Database) -> None:
    midnight = datetime(2026, 3, 1, tzinfo=UTC)
    for at in (midnight - timedelta(microseconds=1), midnight, midnight + DAY):
        await record(database_url, at)
    await roll_up(db, midnight + 3 * DAY)
    assert await rollups(database_url) == [(HER, date(2026, 2, 28), 1, 3), (HER, date(2026, 3, 1), 1, 3),
                                           (HER, date(2026, 3, 2), 1, 3)]  # fmt: skip
    await assert_rollups_hold(database_url)


@pytest.mark.parametrize("minutes", [9, 10])
async def test_a_day_is_computed_ten_minutes_after_its_end(database_url: str, db: Database, minutes: int) -> None:
    await record(database_url, NOON)
    midnight = NOON.replace(hour=0) + DAY
    assert await roll_up(db, midnight + minutes * MINUTE) == ([NOON.date()] if minutes == 10 else [])


async def test_days_are_computed_from_the_first_event_on_also_those_without_any(
    database_url: str, db: Database
) -> None:
    assert await roll_up(db, NOON) == []
    await record(database_url, NOON)
    await record(database_url, NOON + 3 * DAY)
    assert await roll_up(db, NOON + 6 * DAY) == [(NOON + number * DAY).date() for number in range(6)]
    done = await rows(database_url, "SELECT day FROM usage_day_done ORDER BY day")
    assert done == [((NOON + number * DAY).date(),) for number in range(6)]
    assert len(await rollups(database_url)) == 2


async def test_the_last_two_days_are_computed_again_and_what_came_late_is_in_them(
    database_url: str, db: Database
) -> None:
    for number in range(4):
        await record(database_url, NOON + number * DAY)
    await roll_up(db, NOON + 4 * DAY)
    for number in (2, 3):
        await record(database_url, NOON + number * DAY)
    assert await roll_up(db, NOON + 4 * DAY) == [(NOON + number * DAY).date() for number in (2, 3)]
    assert [row[2] for row in await rollups(database_url)] == [1, 1, 2, 2]
    assert await roll_up(db, NOON + 6 * DAY) == [(NOON + number * DAY).date() for number in (2, 3, 4, 5)]
    await assert_rollups_hold(database_url)


async def test_a_job_that_was_cut_in_the_middle_goes_on_where_it_was(database_url: str, db: Database) -> None:
    for number in range(4):
        await record(database_url, NOON + number * DAY)
    with pytest.raises(ConnectionAbortedError):
        async with db.worker() as tx:
            await usage.roll_up(tx, NOON.date(), NOON)
            raise ConnectionAbortedError
    assert await rollups(database_url) == []
    async with db.worker() as tx:
        await usage.roll_up(tx, NOON.date(), NOON)
    assert await roll_up(db, NOON + 4 * DAY) == [(NOON + number * DAY).date() for number in range(4)]
    once = await rollups(database_url)
    assert [row[2] for row in once] == [1, 1, 1, 1]
    await roll_up(db, NOON + 4 * DAY)
    assert await rollups(database_url) == once


async def test_a_day_that_was_left_out_is_found(database_url: str, db: Database) -> None:
    await record(database_url, NOON)
    await roll_up(db, NOON + 9 * DAY)
    await change(database_url, "DELETE FROM usage_day_done WHERE day = %s", (NOON + 3 * DAY).date())
    assert (NOON + 3 * DAY).date() in await roll_up(db, NOON + 9 * DAY)


async def test_while_one_worker_computes_another_leaves_it_to_it(database_url: str, db: Database) -> None:
    await record(database_url, NOON)
    async with db.worker() as first, db.worker() as second:
        assert await usage.roll_up(first, NOON.date(), NOON + DAY) is True
        assert await usage.roll_up(second, NOON.date(), NOON + DAY) is False
    assert len(await rollups(database_url)) == 1


async def test_a_clock_that_steps_back_computes_what_is_over_by_it(database_url: str, db: Database) -> None:
    for number in range(4):
        await record(database_url, NOON + number * DAY)
    await roll_up(db, NOON + 300 * DAY)
    await record(database_url, NOON + 4 * DAY)
    assert await roll_up(db, NOON + 5 * DAY) == [(NOON + number * DAY).date() for number in (3, 4)]
    assert [row[2] for row in await rollups(database_url)] == [1, 1, 1, 1, 1]
    await assert_rollups_hold(database_url)


async def test_only_the_partition_of_the_month_is_read(database_url: str, db: Database) -> None:
    async with db.worker() as tx:
        await usage.create_partitions(tx, NOON - 60 * DAY, NOON + 60 * DAY)
    await record(database_url, NOON)
    async with db.worker() as tx:
        await usage.roll_up(tx, NOON.date(), NOON + DAY)
        cursor = await tx.execute(
            """SELECT c.relname FROM pg_locks l JOIN pg_class c ON c.oid = l.relation
               WHERE l.pid = pg_backend_pid() AND c.relkind = 'r' AND c.relname LIKE 'usage\\_event%'"""
        )
        assert {row[0] for row in await cursor.fetchall()} == {"usage_event_2026_02"}


async def test_partitions_made_by_two_at_once_are_made_once(database_url: str, db: Database) -> None:
    async def make() -> None:
        async with db.worker() as tx:
            await usage.create_partitions(tx, NOON - 400 * DAY, NOON)

    await asyncio.gather(make(), make())
    assert ("usage_event_2025_02",) in await rows(database_url, "SELECT relname FROM pg_class")
