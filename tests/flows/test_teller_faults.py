"""When something breaks under the teller: nobody waits for ever, nothing is half done, and the next call works."""

import asyncio
from collections import Counter
from uuid import UUID

import psycopg
import pytest
from psycopg import AsyncConnection, errors

from tests.flows.cast import CREDIT, SANDBOX_PRICE, Clock, answer, ask, balance, counters, found, ledger, rows, settle
from tollhouse.core.errors import Overloaded
from tollhouse.core.price import Usage
from tollhouse.flows.operation import Admitted, AnyOperation, CatchUp, Settled
from tollhouse.flows.spend import QUEUE_MAX, Teller


async def blocked_teller(watcher: AsyncConnection) -> int:
    """The process of the teller's connection, as soon as it waits for a lock."""
    async with asyncio.timeout(10):
        while True:
            cursor = await watcher.execute(
                """SELECT pid FROM pg_stat_activity WHERE datname = current_database()
                   AND application_name = 'tollhouse_teller' AND wait_event_type = 'Lock'"""
            )
            if row := await cursor.fetchone():
                return int(row[0])
            await asyncio.sleep(0.01)  # the server tells nobody that somebody waits


@pytest.mark.parametrize("table", ["organization", "credit_grant"], ids=["before-it-decides", "while-it-writes"])
async def test_a_connection_that_dies_in_the_middle_refuses_and_the_next_call_works(
    books: str, teller: Teller, clock: Clock, table: str
) -> None:
    hers = await found(books, clock(), CREDIT)
    running = await teller.admit(ask(hers))
    async with (
        await AsyncConnection.connect(books) as blocker,
        await AsyncConnection.connect(books, autocommit=True) as watcher,
    ):
        if table == "organization":
            await blocker.execute("SELECT FROM organization WHERE id = %s FOR UPDATE", (hers,))
        else:
            await blocker.execute("SELECT FROM credit_grant WHERE organization_id = %s FOR UPDATE", (hers,))
        operations: list[AnyOperation] = [ask(hers), settle(hers, running.id), ask(hers)]
        waiting = asyncio.gather(*(answer(teller, one) for one in operations))
        await watcher.execute("SELECT pg_terminate_backend(%s)", (await blocked_teller(watcher),))
        assert [type(one) for one in await waiting] == [Overloaded] * 3
    assert await balance(books, hers) == (CREDIT, SANDBOX_PRICE, 0)
    assert (await counters(books, hers))["messages", ""] == (0, 1)
    assert isinstance(await teller.admit(ask(hers)), Admitted)
    assert not (await teller.do(settle(hers, running.id))).replayed


async def test_a_call_that_was_admitted_when_nobody_waited_any_more_is_given_back(
    books: str, teller: Teller, clock: Clock
) -> None:
    hers = await found(books, clock(), CREDIT)
    async with (
        await AsyncConnection.connect(books) as blocker,
        await AsyncConnection.connect(books, autocommit=True) as watcher,
    ):
        await blocker.execute("SELECT FROM organization WHERE id = %s FOR UPDATE", (hers,))
        waiting = asyncio.create_task(teller.admit(ask(hers)))
        await blocked_teller(watcher)
        waiting.cancel()
        await blocker.rollback()
        async with asyncio.timeout(10):
            while True:
                if await rows(books, "SELECT state FROM reservation") == [("released",)]:
                    break
                await asyncio.sleep(0.02)  # the teller tells nobody, since nobody waits
    assert await balance(books, hers) == (CREDIT, 0, 0)
    assert (await counters(books, hers))["messages", ""] == (0, 0)


async def test_a_database_that_is_away_refuses_at_once(clock: Clock, empty_database_url: str) -> None:
    teller = Teller(empty_database_url.replace("test_", "gone_"), "test", clock)
    await teller.open()
    with pytest.raises(Overloaded, match="try again"):
        await teller.admit(ask(UUID(int=1)))
    await teller.close()


async def test_a_full_queue_refuses_and_everybody_in_it_is_served(books: str, teller: Teller, clock: Clock) -> None:
    hers = await found(books, clock(), CREDIT)
    operations: list[AnyOperation] = [CatchUp(hers) for _ in range(QUEUE_MAX)]
    answers = await asyncio.gather(*(answer(teller, one) for one in [*operations, ask(hers), ask(hers)]))
    assert Counter(type(one) for one in answers) == {type(None): QUEUE_MAX, Overloaded: 2}
    assert Overloaded.retry_after_s == 1
    assert isinstance(await teller.admit(ask(hers)), Admitted)


async def test_one_operation_that_fails_does_not_take_its_batch_with_it(
    books: str, teller: Teller, clock: Clock
) -> None:
    hers = await found(books, clock(), CREDIT)
    first, second = await teller.admit(ask(hers)), await teller.admit(ask(hers))
    impossible = settle(hers, first.id, Usage(10, 10, cached_input_tokens=11))
    operations: list[AnyOperation] = [ask(hers), impossible, settle(hers, second.id), CatchUp(hers)]
    answers = await asyncio.gather(*(answer(teller, one) for one in operations))
    assert [type(one) for one in answers] == [Admitted, errors.CheckViolation, Settled, type(None)]
    assert await ledger(books, hers) == [("topup_purchase", CREDIT), ("ai_consumption", -SANDBOX_PRICE)]
    assert not (await teller.do(settle(hers, first.id))).replayed


async def test_whoever_stops_waiting_before_the_turn_comes_takes_nothing(
    books: str, teller: Teller, clock: Clock
) -> None:
    hers = await found(books, clock(), CREDIT)
    async with (
        await AsyncConnection.connect(books) as blocker,
        await AsyncConnection.connect(books, autocommit=True) as watcher,
    ):
        await blocker.execute("SELECT FROM organization WHERE id = %s FOR UPDATE", (hers,))
        served = asyncio.create_task(answer(teller, ask(hers)))
        await blocked_teller(watcher)
        impatient = asyncio.create_task(answer(teller, ask(hers)))
        await asyncio.sleep(0)
        impatient.cancel()
        with pytest.raises(asyncio.CancelledError):
            await impatient
    assert isinstance(await served, Admitted)
    assert len(await rows(books, "SELECT id FROM reservation WHERE organization_id = %s", hers)) == 1


async def test_a_teller_that_closes_serves_those_who_wait_and_refuses_who_comes_later(books: str, clock: Clock) -> None:
    hers = await found(books, clock(), CREDIT)
    closing = Teller(books, "test", clock)
    await closing.open()
    waiting = [asyncio.create_task(answer(closing, ask(hers))) for _ in range(5)]
    await asyncio.sleep(0)
    await closing.close()
    assert [type(one) for one in await asyncio.gather(*waiting)] == [Admitted] * 5
    with pytest.raises(Overloaded):
        await closing.admit(ask(hers))


async def test_the_teller_can_write_nothing_but_money(books: str, teller: Teller, clock: Clock) -> None:
    await teller.admit(ask(await found(books, clock(), CREDIT)))
    async with await AsyncConnection.connect(books) as connection:
        await connection.execute("SET ROLE tollhouse_teller")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await connection.execute("UPDATE credit_transaction SET amount_micros = 1")
