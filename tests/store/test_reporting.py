"""Credits for reports: the functions in SQL, and the statement that the API shows."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest
from psycopg import AsyncConnection

from tests.flows.cast import CREDIT, FAILED, SANDBOX_PRICE, Clock, ask, change, found, give, rows, settle
from tests.ledger import assert_ledger_holds
from tollhouse.core.price import Usage
from tollhouse.flows.operation import CatchUp, Release
from tollhouse.flows.spend import Teller
from tollhouse.store import credit
from tollhouse.store.db import Database, OperatorTx

NAMES = ("get_used_this_period", "get_available_credits", "get_spendable_credits")
ALL = "SELECT get_used_this_period(%s), get_available_credits(%s), get_spendable_credits(%s)"
PRICE = Decimal(SANDBOX_PRICE) / CREDIT


@dataclass(frozen=True, slots=True)
class Desk:
    url: str
    teller: Teller
    clock: Clock

    async def call(self, organization_id: UUID, usage: Usage | None = None) -> None:
        """A call that used all that it had reserved, if nothing else is said."""
        admitted: Any = await self.teller.do(ask(organization_id))
        await self.teller.do(settle(organization_id, admitted.id, usage))

    async def report(self, organization_id: UUID) -> tuple[Any, ...]:
        """Used in this period, available and spendable, in credits."""
        (row,) = await rows(self.url, ALL, *[organization_id] * 3)
        return row

    async def shown(self, organization_id: UUID) -> tuple[Any, ...]:
        """The same as the API shows it."""
        async with await AsyncConnection.connect(self.url) as connection:
            found = await credit.statement(OperatorTx(connection), organization_id, self.clock())
        assert found is not None
        micros = found.used_this_period_micros, found.balance.available_micros, found.balance.spendable_micros
        return tuple(Decimal(one) / CREDIT for one in micros)


@pytest.fixture
async def desk(database_url: str) -> AsyncIterator[Desk]:
    clock = Clock()
    teller = Teller(database_url, "test", clock)
    await teller.open()
    yield Desk(database_url, teller, clock)
    await teller.close()
    await assert_ledger_holds(database_url)


async def test_a_grant_is_available_and_nothing_of_it_is_used(desk: Desk) -> None:
    hers = await found(desk.url, desk.clock(), 12_345_678)
    assert await desk.report(hers) == (0, Decimal("12.345678"), Decimal("12.345678"))
    assert await desk.shown(hers) == await desk.report(hers)


async def test_what_a_running_call_holds_is_not_available_and_what_it_used_is_used(desk: Desk) -> None:
    hers = await found(desk.url, desk.clock(), CREDIT)
    admitted: Any = await desk.teller.do(ask(hers))
    assert await desk.report(hers) == (0, 1 - PRICE, 1 - PRICE)
    await desk.teller.do(settle(hers, admitted.id, Usage(500, 50)))
    assert await desk.report(hers) == (PRICE / 2, 1 - PRICE / 2, 1 - PRICE / 2)
    assert await desk.shown(hers) == await desk.report(hers)


async def test_an_overdraft_can_be_spent_but_is_not_available_and_a_debt_is_below_zero(desk: Desk) -> None:
    hers = await found(desk.url, desk.clock(), SANDBOX_PRICE // 2)
    query = "UPDATE credit_balance SET overdraft_limit_micros = %s WHERE organization_id = %s"
    await change(desk.url, query, SANDBOX_PRICE, hers)
    assert await desk.report(hers) == (0, PRICE / 2, PRICE * 3 / 2)
    admitted: Any = await desk.teller.do(ask(hers))
    assert await desk.report(hers) == (0, -PRICE / 2, PRICE / 2)
    await desk.teller.do(settle(hers, admitted.id))
    assert await desk.report(hers) == (PRICE, -PRICE / 2, PRICE / 2)
    assert await desk.shown(hers) == await desk.report(hers)


async def test_a_debt_beyond_the_overdraft_leaves_nothing_to_spend(desk: Desk) -> None:
    hers = await found(desk.url, desk.clock(), SANDBOX_PRICE)
    await desk.call(hers, Usage(1_000, 200))
    assert await desk.report(hers) == (Decimal("0.08"), PRICE - Decimal("0.08"), 0)
    await give(desk.url, hers, CREDIT, desk.clock())
    assert (await desk.report(hers))[0] == Decimal("0.08"), "what pays a debt is not used a second time"


async def test_a_new_period_begins_with_nothing_used(desk: Desk) -> None:
    hers = await found(desk.url, desk.clock(), CREDIT)
    await desk.call(hers)
    running: Any = await desk.teller.do(ask(hers))
    late: Any = await desk.teller.do(ask(hers))
    await desk.teller.do(Release(hers, late.id, FAILED))
    desk.clock.move(days=31)
    await desk.teller.do(CatchUp(hers))
    assert (await desk.report(hers))[0] == 0
    await desk.teller.do(settle(hers, running.id))
    await desk.teller.do(settle(hers, late.id))
    assert (await desk.report(hers))[0] == 2 * PRICE, "what is booked in the period is of the period"
    assert await desk.shown(hers) == await desk.report(hers)
    desk.clock.move(days=100)
    await desk.teller.do(CatchUp(hers))
    assert (await desk.report(hers))[0] == (await desk.shown(hers))[0] == 0


async def test_of_an_unknown_organisation_there_is_nothing(desk: Desk) -> None:
    assert await desk.report(uuid4()) == (0, 0, 0)


async def test_a_tenant_sees_only_its_own_and_who_has_no_tenant_sees_nothing(desk: Desk) -> None:
    hers, theirs = [await found(desk.url, desk.clock(), CREDIT) for _ in range(2)]
    await desk.call(hers)
    await desk.call(theirs)
    db = Database(desk.url)
    await db.open()
    try:
        async with db.tenant(hers) as tx:
            own = await (await tx.execute(ALL, [hers] * 3)).fetchone()
            other = await (await tx.execute(ALL, [theirs] * 3)).fetchone()
        async with db.nobody() as tx:
            nobodys = await (await tx.execute(ALL, [hers] * 3)).fetchone()
    finally:
        await db.close()
    assert own == (PRICE, 1 - PRICE, 1 - PRICE)
    assert other == nobodys == (0, 0, 0)


async def test_the_functions_change_nothing_run_as_their_caller_and_look_nowhere_else(database_url: str) -> None:
    found_rows = await rows(
        database_url,
        "SELECT proname, provolatile::text, prosecdef, proconfig FROM pg_proc WHERE proname = ANY(%s) ORDER BY proname",
        list(NAMES),
    )
    assert found_rows == [(name, "s", False, ["search_path=pg_catalog, public"]) for name in sorted(NAMES)]


async def test_what_is_used_is_read_from_the_period_on_however_long_the_ledger_is(database_url: str) -> None:
    """The plan of the function's own query: of 20,000 rows of earlier periods none is looked at."""
    hers = await found(database_url, Clock()())
    async with await AsyncConnection.connect(database_url, autocommit=True) as connection:
        await connection.execute(
            """INSERT INTO credit_transaction (organization_id, seq, id, type, amount_micros, balance_after_micros,
                   actor, created_at)
               SELECT %s, n, gen_random_uuid(), 'ai_consumption', -n, 0, 'system', now()
               FROM generate_series(1, 20010) n""",
            (hers,),
        )
        await connection.execute(
            "UPDATE credit_balance SET seq = 20010, period_seq = 20000 WHERE organization_id = %s", (hers,)
        )
        await connection.execute("ANALYZE")
        cursor = await connection.execute("SELECT pg_get_function_sqlbody('get_used_this_period'::regproc)")
        ((body,),) = await cursor.fetchall()
        query = body.removeprefix("BEGIN ATOMIC\n").removesuffix(";\nEND")
        query = query.replace("get_used_this_period.wanted", f"'{hers}'")
        cursor = await connection.execute("EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) " + query)
        plan = "\n".join(row[0] for row in await cursor.fetchall())
        cursor = await connection.execute("SELECT get_used_this_period(%s)", (hers,))
        assert await cursor.fetchall() == [(Decimal(sum(range(20_001, 20_011))) / CREDIT,)]
    assert "on credit_transaction" in plan and "Rows Removed by Join Filter" not in plan, plan


async def test_the_statement_is_of_the_organisations_own_time(desk: Desk) -> None:
    hers = await found(desk.url, desk.clock(), CREDIT)
    await change(desk.url, "UPDATE organization SET clock_offset_micros = 60000000 WHERE id = %s", hers)
    async with await AsyncConnection.connect(desk.url) as connection:
        statement = await credit.statement(OperatorTx(connection), hers, desk.clock())
        assert statement is not None
        assert statement.now == desk.clock() + timedelta(minutes=1)
        locked = await (
            await connection.execute(
                """SELECT remaining_micros, seq, period_start, low_armed, depleted_armed, period_seq
                   FROM credit_balance WHERE organization_id = %s""",
                (hers,),
            )
        ).fetchone()
        balance = statement.balance
        assert locked == (balance.remaining_micros, balance.seq, balance.period_start, balance.low_armed,
                          balance.depleted_armed, balance.period_seq)  # fmt: skip
        assert await credit.statement(OperatorTx(connection), uuid4(), desk.clock()) is None
