"""What somebody used themselves: their own calls and nobody else's, the same before and after days are summed, found by
index in a table that is full."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from psycopg import AsyncConnection

from tests.store.test_plans import nodes
from tests.store.test_rollup import roll_up
from tollhouse.core import figures as rules
from tollhouse.core.figures import Part, Sum
from tollhouse.flows.seed import DEMO_ID
from tollhouse.store import figures
from tollhouse.store.catalogue import PLATFORM_ID
from tollhouse.store.db import Database, role_conninfo

HER, HIM = UUID(int=501), UUID(int=502)
NOON = datetime(2026, 2, 28, 12, tzinfo=UTC)
DAY, MICROSECOND = timedelta(days=1), timedelta(microseconds=1)
TODAY = NOON.date()
EVENT = """INSERT INTO usage_event (organization_id, id, recorded_at, started_at, reservation_id, subject_id, key_id,
               channel, model_id, multiplier_permille, messages, input_tokens, cached_input_tokens, output_tokens,
               reasoning_tokens, trial, estimated, cost_nanos, charged_micros, duration_ms, first_token_ms)"""


@dataclass(frozen=True, slots=True)
class Call:
    """A call of 100 tokens in and 10 out: 3 micro-credits, 7 nano-dollars."""

    at: datetime
    subject: UUID = HER
    model: str | None = "small"
    key: UUID | None = None
    organization: UUID = DEMO_ID
    assistant: UUID | None = None
    in_chat: bool = True
    rating: int | None = None
    state: str = "done"
    first_ms: int | None = 500
    whole_ms: int | None = 2000
    id: UUID = field(default_factory=uuid4)


def calls(count: int) -> Sum:
    return Sum(count, count, 100 * count, 10 * count, 3 * count, 7 * count)


async def record(url: str, made: Iterable[Call]) -> None:
    async with await AsyncConnection.connect(url) as connection:
        for one in made:
            await connection.execute(
                EVENT.encode() + b" VALUES (%s, gen_random_uuid(), %s, %s, %s, %s, %s, 'chat', %s, 1000, 1, 100, 0, 10,"
                b" 0, false, false, 7, 3, %s, %s)",
                (one.organization, one.at, one.at, one.id, one.subject, one.key, one.model, one.whole_ms, one.first_ms),
            )
            await connection.execute(
                """INSERT INTO request (organization_id, id, subject_id, endpoint, channel, model_id, stream, state,
                       created_at, finished_at) VALUES (%s, %s, %s, '/chat', 'chat', 'small', true, %s, %s, %s)""",
                (one.organization, one.id, one.subject, one.state, one.at, one.at),
            )
            if one.in_chat:
                await connection.execute(
                    """INSERT INTO assistant_use (organization_id, request_id, subject_id, assistant_id, model_id,
                           rating, created_at) VALUES (%s, %s, %s, %s, %s, %s, %s)""",
                    (one.organization, one.id, one.subject, one.assistant, one.model or "", one.rating, one.at),
                )


@pytest.fixture
async def db(database_url: str) -> AsyncIterator[Database]:
    made = Database(database_url)
    await made.open()
    yield made
    await made.close()


async def parts(db: Database, since: date, today: date = TODAY, subject: UUID = HER) -> list[Part]:
    async with db.tenant(DEMO_ID) as tx:
        return await figures.parts(tx, DEMO_ID, subject, since, today)


async def test_days_are_utc_days_and_only_her_own_calls_are_in_them(database_url: str, db: Database) -> None:
    midnight = datetime(2026, 2, 27, tzinfo=UTC)
    await record(
        database_url,
        [
            Call(midnight - MICROSECOND), Call(midnight), Call(midnight + DAY - MICROSECOND, model="large"), Call(NOON),
            Call(NOON, HIM), Call(NOON, organization=PLATFORM_ID), Call(NOON, DEMO_ID, key=UUID(int=9)),
            Call(NOON, model=None),
        ],
    )  # fmt: skip
    assert await parts(db, TODAY - DAY) == [
        Part(date(2026, 2, 27), "large", calls(1)), Part(date(2026, 2, 27), "small", calls(1)),
        Part(TODAY, "", calls(1)), Part(TODAY, "small", calls(1)),
    ]  # fmt: skip
    assert rules.total(await parts(db, TODAY - 2 * DAY)) == calls(5)
    assert await parts(db, TODAY, subject=HIM) == [Part(TODAY, "small", calls(1))]
    async with db.tenant(PLATFORM_ID) as tx:
        assert await figures.parts(tx, DEMO_ID, HER, TODAY - 9 * DAY, TODAY) == []


async def test_days_that_are_over_are_read_as_they_were_summed_and_are_the_same(
    database_url: str, db: Database
) -> None:
    await record(database_url, [Call(NOON - number * DAY, model=name) for number in range(6) for name in "aab"])
    await record(database_url, [Call(NOON - number * DAY, HIM) for number in range(6)])
    before = await parts(db, TODAY - 5 * DAY)
    assert rules.total(before) == calls(18)
    await roll_up(db, NOON - 2 * DAY)  # two days are left: the last of them and today
    assert await parts(db, TODAY - 5 * DAY) == before
    async with await AsyncConnection.connect(database_url) as connection:
        gone = await connection.execute("DELETE FROM usage_event WHERE recorded_at < %s", (NOON - 2.5 * DAY,))
    assert gone.rowcount == 12
    assert await parts(db, TODAY - 5 * DAY) == before


async def test_what_was_used_by_assistant_adds_up_to_what_was_used(database_url: str, db: Database) -> None:
    async with db.operator() as tx:
        cursor = await tx.execute("SELECT id, name FROM assistant ORDER BY slug LIMIT 2")
        (one, name), (other, _) = await cursor.fetchall()
    await record(
        database_url,
        [
            *(Call(NOON, assistant=one) for _ in range(3)), Call(NOON), Call(NOON), Call(NOON, in_chat=False),
            Call(NOON, HIM, assistant=other), Call(NOON - 9 * DAY, assistant=one),
        ],
    )  # fmt: skip
    async with db.tenant(DEMO_ID) as tx:
        found = await figures.of_assistants(tx, DEMO_ID, HER, TODAY)
    assert [(use.assistant_id, use.in_chat, use.name, use.sum) for use in found] == [
        (one, True, name, calls(3)), (None, True, None, calls(2)), (None, False, None, calls(1)),
    ]  # fmt: skip
    assert sum((use.sum for use in found), Sum()) == rules.total(await parts(db, TODAY))


async def test_speed_and_wholeness_are_of_the_models_answers_and_ratings_are_counted(
    database_url: str, db: Database
) -> None:
    times = [(100 * number, 1000 * number) for number in range(1, 21)]
    await record(database_url, [Call(NOON, first_ms=first, whole_ms=whole) for first, whole in times])
    await record(database_url, [Call(NOON, state="incomplete", rating=-1, first_ms=None, whole_ms=None)])
    await record(database_url, [Call(NOON, model="large", rating=1), Call(NOON, model="large", rating=1)])
    await record(database_url, [Call(NOON, HIM, model="large", rating=-1), Call(NOON - 9 * DAY, rating=1)])
    async with db.tenant(DEMO_ID) as tx:
        small, large = await figures.answers(tx, DEMO_ID, HER, TODAY)
        rated = await figures.ratings(tx, DEMO_ID, HER, TODAY)
    assert (small.model_id, small.calls, small.incomplete) == ("small", 21, 1)
    assert (small.first_token_median_ms, small.duration_median_ms) == (1050, 10500)
    assert (small.first_token_p95_ms, small.duration_p95_ms) == (1905, 19050)
    assert (large.calls, large.incomplete, large.duration_median_ms) == (2, 0, 2000)
    assert {name: (one.up, one.down) for name, one in rated.items()} == {"small": (0, 1), "large": (2, 0)}


async def test_calls_come_newest_first_and_pages_leave_none_out_though_they_were_recorded_at_once(
    database_url: str, db: Database
) -> None:
    made = [Call(NOON - (number // 4) * DAY) for number in range(10)]
    await record(database_url, [*made, Call(NOON, HIM)])
    seen: list[figures.Call] = []
    async with db.tenant(DEMO_ID) as tx:
        for _ in range(4):
            last = (seen[-1].recorded_at, seen[-1].id) if seen else None
            seen += await figures.calls(tx, DEMO_ID, HER, 3, last)
        assert await figures.calls(tx, DEMO_ID, HER, 3, (seen[-1].recorded_at, seen[-1].id)) == []
    assert {one.request_id for one in seen} == {one.id for one in made} and len(seen) == 10
    assert [one.recorded_at for one in seen] == sorted((one.at for one in made), reverse=True)


async def test_models_have_the_names_of_the_catalogue(db: Database) -> None:
    async with db.tenant(DEMO_ID) as tx:
        assert (await figures.model_names(tx, DEMO_ID))["gpt-4o-mini"] == "GPT-4o Mini"


class Explained:
    """A transaction that explains what it is told to execute."""

    def __init__(self, connection: AsyncConnection[Any]) -> None:
        self.connection = connection
        self.plans: list[dict[str, Any]] = []

    async def execute(self, query: str, parameters: dict[str, Any]) -> Any:
        cursor = await self.connection.execute(("EXPLAIN (FORMAT JSON) " + query).encode(), parameters)
        row = await cursor.fetchone()
        assert row is not None
        self.plans.append(row[0][0]["Plan"])
        return await self.connection.execute(query.encode(), parameters)

    def cursor(self, **options: Any) -> Any:
        return _Cursor(self, self.connection.cursor(**options))


class _Cursor:
    def __init__(self, explained: Explained, cursor: Any) -> None:
        self.explained, self.inner = explained, cursor

    async def __aenter__(self) -> _Cursor:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.inner.close()

    async def execute(self, query: str, parameters: Any) -> None:
        await self.explained.execute(query, parameters)
        await self.inner.execute(query.encode(), parameters)

    async def fetchall(self) -> Any:
        return await self.inner.fetchall()


async def test_in_a_full_table_her_calls_are_found_by_index(database_url: str) -> None:
    """Of 60,000 calls of one organisation 60 are hers."""
    async with await AsyncConnection.connect(database_url, autocommit=True) as owner:
        await owner.execute(
            EVENT.encode()
            + b" SELECT %s, gen_random_uuid(), t, t, gen_random_uuid(), md5((n %% 1000)::text)::uuid, NULL,"
            b" 'chat', 'small', 1000, 1, 100, 0, 10, 0, false, false, 7, 3, 900, 90"
            b" FROM generate_series(1, 60000) n CROSS JOIN LATERAL (SELECT %s - n * interval '1 minute' AS t) AS at",
            (DEMO_ID, NOON),
        )
        cursor = await owner.execute("SELECT md5('7')::uuid")
        row = await cursor.fetchone()
        await owner.execute("ANALYZE usage_event")
    assert row is not None
    her = row[0]
    async with await AsyncConnection.connect(role_conninfo(database_url, "tollhouse_web")) as connection:
        await connection.execute("SELECT set_config('tollhouse.organization_id', %s, true)", (str(DEMO_ID),))
        tx: Any = Explained(connection)
        since = TODAY - 89 * DAY
        assert rules.total(await figures.parts(tx, DEMO_ID, her, since, TODAY)) == calls(60)
        assert [one.sum for one in await figures.of_assistants(tx, DEMO_ID, her, since)] == [calls(60)]
        await figures.answers(tx, DEMO_ID, her, since)
        assert len(await figures.calls(tx, DEMO_ID, her, 20, None)) == 20
        assert len(await figures.calls(tx, DEMO_ID, her, 20, (NOON - 20 * DAY, UUID(int=0)))) == 20
    assert len(tx.plans) == 5
    for plan in tx.plans:
        # the partitions of the months ahead are empty
        events = [one for one in nodes(plan) if one.get("Relation Name") == "usage_event_default"]
        assert events
        for one in events:
            condition = json.dumps(
                [one.get("Index Cond"), *(inner.get("Index Cond") for inner in one.get("Plans", ()))]
            )
            assert "subject_id = " in condition, (one, condition)
