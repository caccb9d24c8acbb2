"""A connection that comes back to the pool carries nothing of whoever had it: no organisation, no person, no role."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Generator
from typing import Any
from uuid import uuid4

import psycopg
import pytest
import pytest_asyncio

from tollhouse.core.errors import Overloaded
from tollhouse.store.db import Database, enter

POOL = 8  # as many as Database keeps for pages
# What a transaction that begins finds: its organisation, its person, its role, and whether the session is as it was.
_FOUND = """SELECT nullif(current_setting('tollhouse.organization_id', true), ''),
                   nullif(current_setting('tollhouse.person_id', true), ''), current_user::text,
                   current_setting('statement_timeout'), current_setting('search_path')"""
_CLEAN = (None, None, "tollhouse_web", "30s", '"$user", public')
Work = Callable[[Database], Coroutine[Any, Any, None]]


@pytest_asyncio.fixture
async def db(database_url: str) -> AsyncIterator[Database]:
    made = Database(database_url)
    await made.open()
    yield made
    await made.close()


class CutAt:
    """Cancels the task that awaits it where it waits for the n-th time, the way a client that leaves does."""

    def __init__(self, work: Coroutine[Any, Any, None], at: int) -> None:
        self._work, self._at = work, at
        self.waited = 0

    def __await__(self) -> Generator[Any, Any, None]:
        steps = self._work.__await__()
        said: Any = None
        problem: BaseException | None = None
        while True:
            try:
                wanted = steps.send(said) if problem is None else steps.throw(problem)
            except StopIteration:
                return
            self.waited += 1
            if self.waited == self._at:
                task = asyncio.current_task()
                assert task is not None
                task.cancel()
            said, problem = None, None
            try:
                said = yield wanted
            except BaseException as error:
                problem = error


async def cut(work: Coroutine[Any, Any, None], at: int) -> bool:
    """Whether it was cut; False: it had come to its end before."""
    probe = CutAt(work, at)

    async def awaited() -> None:
        await probe

    (ended,) = await asyncio.gather(asyncio.create_task(awaited()), return_exceptions=True)
    assert ended is None or isinstance(ended, asyncio.CancelledError), ended
    return probe.waited >= at


async def everything_is_clean(db: Database) -> None:
    """All connections that the pool has, and as many as it may have, at once."""
    here = asyncio.Barrier(POOL)

    async def look() -> Any:
        async with db.nobody() as tx:
            await here.wait()
            return await (await tx.execute(_FOUND)).fetchone()

    found = await asyncio.gather(*(look() for _ in range(POOL)))
    assert found == [_CLEAN] * POOL


async def as_tenant(db: Database) -> None:
    async with db.tenant(uuid4()) as tx:
        await tx.execute("SELECT name FROM api_key")


async def as_person(db: Database) -> None:
    async with db.person(uuid4()) as tx:
        await tx.execute("SELECT id FROM session")


async def as_member(db: Database) -> None:
    async with db.member(uuid4(), uuid4()) as tx:
        await tx.execute("SELECT id FROM conversation")


async def as_both(db: Database) -> None:
    async with db.person(uuid4()) as tx:
        tenant = await enter(tx, uuid4())
        await tenant.execute("SELECT pg_sleep(0.002)")
        async with tenant.transaction():
            await tenant.execute("SELECT name FROM member JOIN person ON id = person_id")


@pytest.mark.parametrize("work", [as_tenant, as_person, as_member, as_both])
async def test_cancelled_wherever_it_waits(db: Database, work: Work) -> None:
    await everything_is_clean(db)
    at = 1
    while await cut(work(db), at):
        await everything_is_clean(db)
        at += 1
    assert at > 4, "it was cut hardly anywhere"
    await everything_is_clean(db)


async def test_many_cancelled_at_once(db: Database) -> None:
    tasks = [asyncio.create_task(work(db)) for work in (as_tenant, as_person, as_member, as_both) for _ in range(20)]
    for number, task in enumerate(tasks):
        await asyncio.sleep(0.001)
        if number % 2:
            task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await everything_is_clean(db)


async def fails_in_sql(db: Database) -> None:
    async with db.tenant(uuid4()) as tx:
        await tx.execute("SELECT 1 / 0")


async def is_refused_by_the_policy(db: Database) -> None:
    async with db.person(uuid4()) as tx:
        await tx.execute(
            "INSERT INTO password (person_id, hash, changed_at) VALUES (gen_random_uuid(), 'x', now())"
        )  # fmt: skip


async def fails_in_python(db: Database) -> None:
    async with db.tenant(uuid4()) as tx, tx.transaction():
        raise ValueError


async def takes_too_long(db: Database) -> None:
    async with db.tenant(uuid4()) as tx:
        await tx.execute("SET LOCAL statement_timeout = '20ms'")
        await tx.execute("SELECT pg_sleep(5)")


async def loses_its_connection(db: Database) -> None:
    async with db.tenant(uuid4()) as tx:
        await tx.execute("SELECT name FROM api_key")
        async with await psycopg.AsyncConnection.connect(db.url) as other:
            await other.execute("SELECT pg_terminate_backend(%s)", (tx.info.backend_pid,))
        await tx.execute("SELECT name FROM api_key")


async def waits_while_idle_for_too_long(db: Database) -> None:
    async with db.person(uuid4()) as tx:
        await tx.execute("SET LOCAL idle_in_transaction_session_timeout = '20ms'")
        await asyncio.sleep(0.2)
        await tx.execute("SELECT 1")


@pytest.mark.parametrize(
    ("work", "problem"),
    [
        (fails_in_sql, psycopg.errors.DivisionByZero),
        (is_refused_by_the_policy, psycopg.errors.InsufficientPrivilege),
        (fails_in_python, ValueError),
        (takes_too_long, Overloaded),
        (loses_its_connection, Overloaded),
        (waits_while_idle_for_too_long, (Overloaded, psycopg.errors.IdleInTransactionSessionTimeout)),
    ],
)
async def test_after_whatever_went_wrong(db: Database, work: Work, problem: Any) -> None:
    for _ in range(POOL + 1):
        with pytest.raises(problem):
            await work(db)
    await everything_is_clean(db)


async def test_each_of_many_at_once_has_its_own(db: Database) -> None:
    """Four times as many as there are connections; each asks more than once whose it is."""

    async def one() -> None:
        organization_id, person_id = uuid4(), uuid4()
        async with db.person(person_id) as tx:
            tenant = await enter(tx, organization_id)
            for _ in range(3):
                row = await (await tenant.execute(_FOUND)).fetchone()
                assert row is not None
                assert row[:2] == (str(organization_id), str(person_id))
                await asyncio.sleep(0)

    await asyncio.gather(*(one() for _ in range(4 * POOL)))
    await everything_is_clean(db)


async def test_what_ended_by_hand_has_no_context_any_more(db: Database) -> None:
    """A transaction that somebody commits in the middle sees nothing in the next one."""
    async with db.tenant(uuid4()) as tx:
        await tx.commit()
        row = await (await tx.execute(_FOUND)).fetchone()
        assert row == _CLEAN
    await everything_is_clean(db)


async def test_a_role_that_somebody_takes_ends_with_its_connection(db: Database) -> None:
    """Nothing of ours does it; whoever does for a transaction leaves nothing behind."""
    async with db.tenant(uuid4()) as tx:
        await tx.execute("SET LOCAL ROLE tollhouse_operator")
    await everything_is_clean(db)
