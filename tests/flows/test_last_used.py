"""When keys were last used: to the minute, without a write for each call, and not lost while the database is away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from tests.flows.cast import Clock, add_key, change, found, rows
from tollhouse.core.ask import Credential
from tollhouse.flows.auth import Identity
from tollhouse.flows.last_used import LastUsed
from tollhouse.store.db import Database

MINUTE = timedelta(minutes=1)


@pytest.fixture
async def db(database_url: str) -> AsyncIterator[Database]:
    made = Database(database_url)
    await made.open()
    yield made
    await made.close()


@pytest.fixture
async def hers(database_url: str, clock: Clock) -> Identity:
    organization_id = await found(database_url, clock())
    return of(organization_id, await add_key(database_url, organization_id))


def of(organization_id: UUID, key_id: UUID) -> Identity:
    return Identity(organization_id, Credential("key", key_id), organization_id)


async def stored(url: str, identity: Identity) -> datetime | None:
    ((at,),) = await rows(url, "SELECT last_used_at FROM api_key WHERE id = %s", identity.credential.id)
    assert at is None or isinstance(at, datetime)
    return at


def to_the_minute(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(second=0, microsecond=0)


async def test_the_last_use_of_each_key_is_written_to_the_minute(
    database_url: str, db: Database, hers: Identity, clock: Clock
) -> None:
    his = of(await found(database_url, clock()), hers.credential.id)
    his = of(his.organization_id, await add_key(database_url, his.organization_id))
    idle = of(hers.organization_id, await add_key(database_url, hers.organization_id))
    used = LastUsed(db)
    for minutes in (0, 3, 2):
        used.saw(hers, clock() + minutes * MINUTE)
    used.saw(his, clock())
    assert await stored(database_url, hers) is None
    await used.write()
    assert await stored(database_url, hers) == to_the_minute(clock() + 2 * MINUTE)
    assert await stored(database_url, his) == to_the_minute(clock())
    assert await stored(database_url, idle) is None


async def test_what_another_process_wrote_later_stays(
    database_url: str, db: Database, hers: Identity, clock: Clock
) -> None:
    early, late = LastUsed(db), LastUsed(db)
    early.saw(hers, clock())
    late.saw(hers, clock() + 5 * MINUTE)
    await late.write()
    await early.write()
    assert await stored(database_url, hers) == to_the_minute(clock() + 5 * MINUTE)


async def test_processes_that_write_the_same_keys_at_once_do_not_wait_for_each_other_for_ever(
    database_url: str, db: Database, hers: Identity, clock: Clock
) -> None:
    all_of_them = [hers] + [
        of(hers.organization_id, await add_key(database_url, hers.organization_id)) for _ in range(9)
    ]
    processes = [LastUsed(db) for _ in range(8)]
    for number, process in enumerate(processes):
        for one in all_of_them if number % 2 else reversed(all_of_them):
            process.saw(one, clock() + number * MINUTE)
    async with asyncio.timeout(20):
        await asyncio.gather(*(process.write() for process in processes))
    assert {await stored(database_url, one) for one in all_of_them} == {to_the_minute(clock() + 7 * MINUTE)}


@pytest.mark.parametrize("column", ["revoked_at", "expires_at"])
async def test_a_key_that_worked_no_more_was_not_used(
    database_url: str, db: Database, hers: Identity, clock: Clock, column: str
) -> None:
    if column == "revoked_at":
        await change(database_url, "UPDATE api_key SET revoked_at = %s WHERE id = %s", clock(), hers.credential.id)
    else:
        await change(database_url, "UPDATE api_key SET expires_at = %s WHERE id = %s", clock(), hers.credential.id)
    used = LastUsed(db)
    used.saw(hers, clock() + MINUTE)
    await used.write()
    assert await stored(database_url, hers) is None


async def test_it_is_written_by_itself_after_a_while_and_at_the_end(
    database_url: str, db: Database, hers: Identity, clock: Clock
) -> None:
    used = LastUsed(db, every_s=0.05)
    used.open()
    used.saw(hers, clock())
    async with asyncio.timeout(10):
        while await stored(database_url, hers) is None:  # noqa: ASYNC110 (the books are the only place that tells)
            await asyncio.sleep(0.02)
    used.saw(hers, clock() + MINUTE)
    await used.close()
    assert await stored(database_url, hers) == to_the_minute(clock() + MINUTE)


async def test_while_the_database_is_away_nothing_is_forgotten(
    database_url: str, db: Database, hers: Identity, clock: Clock
) -> None:
    away = Database(database_url.replace("host=", "host=%2Fnowhere"))
    await away.open()
    used = LastUsed(away)
    used.saw(hers, clock())
    await used.write()
    await away.close()
    used._db = db  # it is back
    await used.write()
    assert await stored(database_url, hers) == to_the_minute(clock())
