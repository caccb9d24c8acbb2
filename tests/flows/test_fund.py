"""What begins and ends with time: nothing depends on a job having run."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from psycopg import AsyncConnection
from psycopg.errors import UniqueViolation

from tests.flows.cast import (
    CREDIT,
    FAILED,
    SANDBOX_PRICE,
    Clock,
    ask,
    balance,
    change,
    found,
    give,
    ledger,
    rows,
    settle,
)
from tollhouse.core.catalogue import Plan
from tollhouse.core.period import months_after
from tollhouse.core.price import Usage
from tollhouse.flows import fund
from tollhouse.flows.operation import CatchUp, Release
from tollhouse.flows.seed import DEMO_ID
from tollhouse.flows.spend import Teller
from tollhouse.store import catalogue
from tollhouse.store.db import OperatorTx

MONTHLY, WELCOME = 500 * CREDIT, 25 * CREDIT
OPENING = [("plan_allocation", MONTHLY), ("welcome_bonus", WELCOME)]


async def demo(url: str) -> tuple[Any, ...]:
    (row,) = await rows(
        url, "SELECT period_start, period_end, next_due_at FROM credit_balance WHERE organization_id = %s", DEMO_ID
    )
    return row


async def move(url: str, organization_id: UUID, by: timedelta) -> None:
    """Moves the organisation's test clock ahead of real time."""
    await change(
        url,
        "UPDATE organization SET clock_offset_micros = %s WHERE id = %s",
        by // timedelta(microseconds=1),
        organization_id,
    )


async def test_a_period_that_has_ended_is_caught_up_by_the_next_ask(books: str, teller: Teller) -> None:
    _, ends, _ = await demo(books)
    await move(books, DEMO_ID, timedelta(days=31))
    admitted = await teller.admit(ask(DEMO_ID))
    assert await ledger(books, DEMO_ID) == [*OPENING, ("expiry", -MONTHLY), ("plan_allocation", MONTHLY)]
    assert await demo(books) == (ends, months_after(ends, 1), months_after(ends, 1))
    assert admitted.available_micros == MONTHLY + WELCOME - SANDBOX_PRICE


async def test_of_many_asks_at_the_end_of_a_period_one_allocates(books: str, teller: Teller, clock: Clock) -> None:
    other = Teller(books, "test", clock)
    await other.open()
    await move(books, DEMO_ID, timedelta(days=31))
    await asyncio.gather(*(one.admit(ask(DEMO_ID)) for _ in range(20) for one in (teller, other)))
    await other.close()
    assert [kind for kind, _ in await ledger(books, DEMO_ID)].count("plan_allocation") == 2


async def test_after_a_long_sleep_there_is_one_allocation_for_the_period_of_now(books: str, teller: Teller) -> None:
    starts, _, _ = await demo(books)
    await move(books, DEMO_ID, timedelta(days=150))
    await teller.do(CatchUp(DEMO_ID))
    period_start, period_end, _ = await demo(books)
    assert period_start in {months_after(starts, 4), months_after(starts, 5)}
    assert (await ledger(books, DEMO_ID))[2:] == [("expiry", -MONTHLY), ("plan_allocation", MONTHLY)]
    (grant,) = await rows(
        books,
        """SELECT period_start, expires_at, note FROM credit_grant
           WHERE organization_id = %s AND source = 'plan' AND remaining_micros > 0""",
        DEMO_ID,
    )
    assert grant == (period_start, period_end, "Pro, monthly credits after a pause")


async def test_a_call_across_the_reset_is_paid_by_the_old_period_and_its_rest_ends(books: str, teller: Teller) -> None:
    running = await teller.admit(ask(DEMO_ID))
    await move(books, DEMO_ID, timedelta(days=31))
    await teller.do(CatchUp(DEMO_ID))
    assert await balance(books, DEMO_ID) == (MONTHLY + WELCOME + SANDBOX_PRICE, SANDBOX_PRICE, 0)
    settled = await teller.do(settle(DEMO_ID, running.id, Usage(500, 50)))
    half = SANDBOX_PRICE // 2
    assert settled.available_micros == MONTHLY + WELCOME
    assert (await ledger(books, DEMO_ID))[2:] == [
        ("expiry", SANDBOX_PRICE - MONTHLY),
        ("plan_allocation", MONTHLY),
        ("ai_consumption", -half),
        ("expiry", half - SANDBOX_PRICE),
    ]


async def test_a_call_across_the_reset_that_is_released_gives_nothing_to_the_new_period(
    books: str, teller: Teller
) -> None:
    running = await teller.admit(ask(DEMO_ID))
    await move(books, DEMO_ID, timedelta(days=31))
    assert (await teller.do(Release(DEMO_ID, running.id, FAILED))).available_micros == MONTHLY + WELCOME
    assert await balance(books, DEMO_ID) == (MONTHLY + WELCOME, 0, 0)


async def test_debt_is_carried_into_the_new_period_and_paid_by_its_allocation(
    books: str, teller: Teller, clock: Clock
) -> None:
    hers = await found(books, clock(), SANDBOX_PRICE)
    running = await teller.admit(ask(hers))
    await teller.do(settle(hers, running.id, Usage(1_000, 200)))
    clock.move(days=31)
    await teller.do(CatchUp(hers))
    assert (await ledger(books, hers))[3:] == [
        ("plan_allocation", MONTHLY),
        ("debt_repayment", -15_000),
        ("debt_repayment", 15_000),
    ]
    assert await balance(books, hers) == (MONTHLY - 15_000, 0, 0)


async def test_a_pending_change_of_plan_comes_with_the_new_period(books: str, teller: Teller) -> None:
    await change(books, "UPDATE organization SET pending_plan_id = 'free' WHERE id = %s", DEMO_ID)
    await teller.do(CatchUp(DEMO_ID))
    await move(books, DEMO_ID, timedelta(days=31))
    await teller.admit(ask(DEMO_ID))
    assert (await ledger(books, DEMO_ID))[2:] == [("expiry", -MONTHLY), ("plan_allocation", 10 * CREDIT)]
    plans = await rows(books, "SELECT plan_id, pending_plan_id FROM organization WHERE id = %s", DEMO_ID)
    assert plans == [("free", None)]
    allocated = await rows(books, "SELECT allocated_micros FROM credit_balance WHERE organization_id = %s", DEMO_ID)
    assert allocated == [(10 * CREDIT,)]


async def test_a_grant_counts_from_its_begin_to_its_end_without_any_job(
    books: str, teller: Teller, clock: Clock
) -> None:
    hers = await found(books, clock())
    begins, ends = clock() + timedelta(hours=1), clock() + timedelta(hours=2)
    await give(books, hers, CREDIT, clock(), "promo", effective_at=begins, expires_at=ends)
    assert await balance(books, hers) == (0, 0, 0)
    await teller.do(CatchUp(hers))
    assert await ledger(books, hers) == []
    clock.now = begins
    admitted = await teller.admit(ask(hers))
    assert admitted.available_micros == CREDIT - SANDBOX_PRICE
    await teller.do(Release(hers, admitted.id, FAILED))
    clock.now = ends
    await teller.do(CatchUp(hers))
    assert await ledger(books, hers) == [("promo_bonus", CREDIT), ("expiry", -CREDIT)]
    assert await balance(books, hers) == (0, 0, 0)


async def test_a_grant_that_nobody_saw_is_booked_with_its_end(books: str, teller: Teller, clock: Clock) -> None:
    hers = await found(books, clock())
    begins, ends = clock() + timedelta(hours=1), clock() + timedelta(hours=2)
    await give(books, hers, CREDIT, clock(), "promo", effective_at=begins, expires_at=ends)
    clock.move(hours=3)
    await teller.do(CatchUp(hers))
    assert await ledger(books, hers) == [("promo_bonus", CREDIT), ("expiry", -CREDIT)]


async def test_the_next_moment_of_interest_is_the_earliest_of_all(books: str, teller: Teller, clock: Clock) -> None:
    hers = await found(books, clock())
    first, second = clock() + timedelta(hours=1), clock() + timedelta(hours=2)
    await give(books, hers, CREDIT, clock(), "promo", expires_at=second)
    await give(books, hers, CREDIT, clock(), "promo", effective_at=first)
    query = "SELECT next_due_at FROM credit_balance WHERE organization_id = %s"
    assert await rows(books, query, hers) == [(first,)]
    clock.now = first
    await teller.do(CatchUp(hers))
    assert await rows(books, query, hers) == [(second,)]
    clock.now = second
    await teller.do(CatchUp(hers))
    assert await rows(books, query, hers) == await rows(
        books, "SELECT period_end FROM credit_balance WHERE organization_id = %s", hers
    )


async def test_the_books_themselves_refuse_a_second_allocation_and_a_second_welcome(books: str, clock: Clock) -> None:
    hers = await found(books, clock())
    plan = await pro(books)
    async with await AsyncConnection.connect(books) as connection:
        await fund.begin(OperatorTx(connection), hers, plan, clock())
    for once in (plan, replace(plan, monthly_credits_micros=0)):
        with pytest.raises(UniqueViolation):
            async with await AsyncConnection.connect(books) as connection:
                await fund.begin(OperatorTx(connection), hers, once, clock())
    assert await ledger(books, hers) == OPENING


async def test_a_clock_that_stepped_back_begins_no_period_again(books: str, teller: Teller, clock: Clock) -> None:
    hers = await found(books, clock())
    first, ends = clock(), months_after(clock(), 1)
    clock.now = ends
    await teller.do(CatchUp(hers))
    booked = await ledger(books, hers)
    clock.now = first
    async with await AsyncConnection.connect(books) as connection:
        tx = OperatorTx(connection)
        locked = await fund.lock_one(tx, hers)
        assert locked is not None
        await fund.catch_up(tx, locked, await catalogue.load(tx), clock())
    for clock.now in (first, ends):
        await teller.do(CatchUp(hers))
    assert await ledger(books, hers) == booked == [("plan_allocation", MONTHLY)]


async def test_what_was_booked_before_a_period_is_told_apart_from_what_it_books(
    books: str, teller: Teller, clock: Clock
) -> None:
    hers = await found(books, clock(), CREDIT)
    await give(books, hers, CREDIT, clock(), "promo", expires_at=months_after(clock(), 1))
    clock.now = months_after(clock(), 1)
    await teller.do(CatchUp(hers))
    query = "SELECT period_seq, seq FROM credit_balance WHERE organization_id = %s"
    assert await rows(books, query, hers) == [(3, 4)]
    assert (await ledger(books, hers))[2:] == [("expiry", -CREDIT), ("plan_allocation", MONTHLY)]


async def pro(url: str) -> Plan:
    async with await AsyncConnection.connect(url) as connection:
        return (await catalogue.load(OperatorTx(connection))).plans["pro"]
