"""What an organisation used: summed by day, model or user, in pages, from its own events only, and found by index."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from psycopg import AsyncConnection

from tests.flows.cast import change
from tests.store.test_plans import nodes
from tollhouse.core.key import end_user_id
from tollhouse.flows.seed import DEMO_ID
from tollhouse.store import usage
from tollhouse.store.catalogue import PLATFORM_ID
from tollhouse.store.db import Database, role_conninfo
from tollhouse.store.usage import Grouping, Used

HER, HIM = DEMO_ID, PLATFORM_ID
NOON = datetime(2026, 2, 28, 12, tzinfo=UTC)
DAY, MICROSECOND = timedelta(days=1), timedelta(microseconds=1)


@pytest.fixture
async def db(database_url: str) -> AsyncIterator[Database]:
    made = Database(database_url)
    await made.open()
    yield made
    await made.close()


async def record(
    url: str, at: datetime, organization_id: UUID = HER, model: str | None = "small", subject: UUID | None = None
) -> None:
    """A call of 100 tokens in, 40 of them cached, and 10 out, 4 of them reasoning: 3 micro-credits, 7 nano-dollars."""
    await change(
        url,
        """INSERT INTO usage_event (organization_id, id, recorded_at, started_at, reservation_id, subject_id, channel,
               model_id, multiplier_permille, messages, input_tokens, cached_input_tokens, output_tokens,
               reasoning_tokens, trial, estimated, cost_nanos, charged_micros)
           VALUES (%s, gen_random_uuid(), %s, %s, gen_random_uuid(), %s, 'api', %s, 1000, 1, 100, 40, 10, 4, false,
                   false, 7, 3)""",
        organization_id, at, at, subject or organization_id, model,
    )  # fmt: skip


def calls(name: str, count: int) -> Used:
    return Used(name, count, 100 * count, 40 * count, 10 * count, 4 * count, 3 * count, 7 * count)


async def found(
    db: Database,
    by: Grouping,
    since: datetime = NOON,
    until: datetime = NOON + DAY,
    limit: int = 100,
    after: str | None = None,
    organization_id: UUID = HER,
) -> tuple[list[Used], Used]:
    async with db.tenant(organization_id) as tx:
        return await usage.used(tx, organization_id, since, until, by, limit, after)


async def test_days_are_utc_days_and_the_end_is_not_included(database_url: str, db: Database) -> None:
    midnight = datetime(2026, 3, 1, tzinfo=UTC)
    for at in (NOON - MICROSECOND, NOON, midnight - MICROSECOND, midnight, NOON + DAY):
        await record(database_url, at)
    assert await found(db, "day") == ([calls("2026-02-28", 2), calls("2026-03-01", 1)], calls("", 3))


async def test_what_has_no_model_comes_first_without_a_name(database_url: str, db: Database) -> None:
    for model in ("small", None, "large", "small"):
        await record(database_url, NOON, model=model)
    assert await found(db, "model") == ([calls("", 1), calls("large", 1), calls("small", 2)], calls("", 4))


async def test_users_have_their_own_names_members_their_ids_and_the_organisation_none(
    database_url: str, db: Database
) -> None:
    member = UUID(int=77)
    for name in ("u_1", "Zoë"):
        await change(
            database_url,
            "INSERT INTO end_user (organization_id, id, external_id, created_at) VALUES (%s, %s, %s, %s)",
            HER, end_user_id(HER, name), name, NOON,
        )  # fmt: skip
    for subject in (end_user_id(HER, "u_1"), member, end_user_id(HER, "Zoë"), None, end_user_id(HER, "u_1")):
        await record(database_url, NOON, subject=subject)
    rows, total = await found(db, "user")
    assert rows == [calls("", 1), calls(str(member), 1), calls("Zoë", 1), calls("u_1", 2)]
    assert total == calls("", 5)


async def test_pages_follow_one_another_and_each_tells_the_whole_sum(database_url: str, db: Database) -> None:
    for model in (None, "a", "b", "c"):
        await record(database_url, NOON, model=model)
    seen: list[str] = []
    after = None
    for _ in range(3):
        rows, total = await found(db, "model", limit=2, after=after)
        assert total == calls("", 4)
        seen += [row.name for row in rows]
        after = seen[-1]
    assert seen == ["", "a", "b", "c"]
    assert await found(db, "model", after="c") == ([], calls("", 4))


async def test_an_organisation_sees_its_own_only_and_nothing_is_zero(database_url: str, db: Database) -> None:
    await record(database_url, NOON, HIM)
    assert await found(db, "day") == ([], calls("", 0))
    assert await found(db, "day", organization_id=HIM) == ([calls("2026-02-28", 1)], calls("", 1))
    async with db.tenant(HER) as tx:
        assert await usage.used(tx, HIM, NOON, NOON + DAY, "day", 9, None) == ([], calls("", 0))


@pytest.mark.parametrize("by", ["day", "model", "user"])
async def test_events_are_found_by_organisation_and_time(database_url: str, by: Grouping) -> None:
    """What a table that grows is asked: by index in each of its partitions."""

    class Explained:
        """Explains what it is told to execute."""

        def __init__(self, connection: AsyncConnection) -> None:
            self.connection = connection
            self.plans: list[dict[str, Any]] = []

        async def execute(self, query: str, parameters: dict[str, Any]) -> Any:
            cursor = await self.connection.execute("EXPLAIN (FORMAT JSON) " + query, parameters)
            row = await cursor.fetchone()
            assert row is not None
            self.plans.append(row[0][0]["Plan"])
            return await self.connection.execute(query, parameters)

    async with await AsyncConnection.connect(role_conninfo(database_url, "tollhouse_web")) as connection:
        await connection.execute("SET enable_seqscan = off")
        explained = Explained(connection)
        await usage.used(explained, HER, NOON, NOON + 92 * DAY, by, 9, None)  # type: ignore[arg-type]
    [plan] = explained.plans
    events = [one for one in nodes(plan) if str(one.get("Relation Name", "")).startswith("usage_event")]
    assert events
    for one in events:
        condition = json.dumps([one.get("Index Cond"), *(inner.get("Index Cond") for inner in one.get("Plans", ()))])
        assert "organization_id = " in condition and "recorded_at >= " in condition, one
