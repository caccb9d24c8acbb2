"""Both clients and a server that runs, with its books: whatever they did, the ledger proves."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
import pytest_asyncio

from tests.client.conftest import Connect, Face, connecting
from tests.conftest import Cluster, SeededTemplate
from tests.house import House, Tenant, charge, fresh_house, micros
from tollhouse.client import (
    AsyncClient,
    BadRequest,
    CapabilityDenied,
    Client,
    Conflict,
    Forbidden,
    InsufficientCredits,
    LimitReached,
    NotFound,
    Release,
    Settlement,
    Unauthenticated,
    Usage,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")
PRODUCT = {"product": {"name": "Mill", "description": "A mill that grinds coffee by hand."}, "count": 3}


class Broke(Exception):
    """What the block of a test raises."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(cluster: Cluster, seeded_template: SeededTemplate) -> AsyncIterator[House]:
    """At the end its ledger must prove."""
    async with fresh_house(cluster, seeded_template) as made:
        yield made


@pytest_asyncio.fixture(params=[Client, AsyncClient], ids=["threads", "asyncio"], loop_scope="module")
async def connect(request: pytest.FixtureRequest) -> AsyncIterator[Connect]:
    async with connecting(request.param) as make:
        yield make


async def of_plan(house: House, connect: Connect, plan: str, credits: str = "0") -> tuple[Face, Tenant]:
    tenant = await house.organization(credits, plan)
    return connect(house.server.url, tenant.key), tenant


async def test_an_operation_is_charged_what_it_used_and_stands_so_in_the_ledger(house: House, connect: Connect) -> None:
    face, _ = await of_plan(house, connect, "pro")
    async with face.operation("question_generation", quality="enhanced", user="u_1", metadata={"job": 7}) as op:
        assert (op.amount, op.reservation.quality, op.reservation.user) == (Decimal(2), "enhanced", "u_1")
        assert op.reservation.metadata == {"job": 7} and op.model
        assert (await face.do("balance")).reserved == 2
        op.used(credits="0.75")
    assert isinstance(op.result, Settlement)
    assert (op.result.charged, op.result.variance, op.result.late) == (Decimal("0.75"), Decimal("-1.25"), False)
    balance = await face.do("balance")
    assert (balance.available, balance.used_this_period, balance.reserved) == (op.result.balance, Decimal("0.75"), 0)
    [row] = (await face.do("transactions", type="ai_consumption", since=op.reservation.created_at)).items
    assert (row.amount, row.reservation_id, row.user) == (Decimal("-0.75"), op.reservation.id, "u_1")
    assert (row.capability, row.quality, row.model) == ("question_generation", "enhanced", op.model)
    found = await face.do("reservation", op.reservation.id)
    assert (found.status, found.charged, found.variance) == ("settled", Decimal("0.75"), Decimal("-1.25"))


async def test_usage_of_a_model_is_priced_as_it_was_reserved(house: House, connect: Connect) -> None:
    face, _ = await of_plan(house, connect, "bare", "100")
    async with face.operation(model="gpt-4o-mini", input_tokens=1200, max_output_tokens=500) as op:
        assert (op.model, op.max_output_tokens) == ("gpt-4o-mini", 500)
        assert micros(str(op.amount)) == charge("gpt-4o-mini", 1200, 500)
        op.used(usage=Usage(1100, 1))
        op.used(usage=Usage(0, 320))
    assert isinstance(op.result, Settlement)
    assert micros(str(op.result.charged)) == charge("gpt-4o-mini", 1100, 320)


async def test_without_a_report_the_estimate_is_the_price(house: House, connect: Connect) -> None:
    face, _ = await of_plan(house, connect, "pro")
    async with face.operation("testimonial_polish") as op:
        op.sent()
    assert isinstance(op.result, Settlement)
    assert (op.result.charged, op.result.variance) == (op.amount, Decimal(0))


async def test_a_block_that_breaks_before_anything_was_sent_costs_nothing(house: House, connect: Connect) -> None:
    face, _ = await of_plan(house, connect, "bare", "100")
    with pytest.raises(Broke):
        async with face.operation(credits="12.5") as op:
            raise Broke("of no concern to the ledger")
    assert isinstance(op.result, Release) and op.result.balance == 100
    found = await face.do("reservation", op.reservation.id)
    assert (found.status, found.reason, found.charged) == ("released", "Broke", None)


async def test_a_block_that_runs_twice_with_one_key_is_charged_once(house: House, connect: Connect) -> None:
    face, _ = await of_plan(house, connect, "bare", "100")
    results = []
    for credits in (2, 3):
        async with face.operation(credits=3, idempotency_key="job-7") as op:
            op.used(credits=credits)
        assert isinstance(op.result, Settlement)
        results.append((op.result.id, op.result.charged, op.result.replayed))
    assert results == [(results[0][0], Decimal(2), False), (results[0][0], Decimal(2), True)]
    assert (await face.do("balance")).available == 98


async def test_a_renewal_moves_the_end_on(house: House, connect: Connect) -> None:
    face, _ = await of_plan(house, connect, "bare", "100")
    made = await face.do("reserve", credits=3, ttl_seconds=60)
    renewal = await face.do("renew", made.id, 600)
    assert renewal.expires_at >= made.created_at + timedelta(seconds=600)
    assert (await face.do("reservation", made.id)).expires_at == renewal.expires_at
    assert (await face.do("release", made.id, "no use")).status == "released"
    with pytest.raises(Conflict, match="is released and cannot be renewed"):
        await face.do("renew", made.id, 600)


async def test_the_background_renews_a_running_block(house: House, connect: Connect) -> None:
    face, _ = await of_plan(house, connect, "bare", "100")
    async with face.operation(credits=3, ttl_seconds=5) as op, asyncio.timeout(5):
        while op.expires_at == op.reservation.expires_at:  # noqa: ASYNC110  # a thread moves it
            await asyncio.sleep(0.05)
    assert isinstance(op.result, Settlement) and not op.result.late


async def test_a_settlement_after_the_end_of_the_reservation_is_booked_as_late(house: House, connect: Connect) -> None:
    face, tenant = await of_plan(house, connect, "bare", "100")
    made = await face.do("reserve", credits=3)
    later = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    await house.order("POST", f"/organizations/{tenant.id}/clock", {"now": later})
    assert (await face.do("reservation", made.id)).status == "expired"
    settled = await face.do("settle", made.id, credits="1.5")
    assert (settled.charged, settled.late, settled.balance) == (Decimal("1.5"), True, Decimal("98.5"))
    again = await face.do("settle", made.id, credits=3)
    assert (again.charged, again.replayed) == (Decimal("1.5"), True)


# ------------------------------------------------------------------------------------------------------------ refusals


async def test_too_few_credits_are_refused_with_the_figures(house: House, connect: Connect) -> None:
    face, _ = await of_plan(house, connect, "bare", "5")
    await face.do("reserve", credits=4)
    with pytest.raises(InsufficientCredits) as raised:
        await face.do("reserve", credits="2.5")
    refused = raised.value
    assert (refused.required, refused.spendable, refused.reserved) == (Decimal("2.5"), Decimal(1), Decimal(4))
    assert refused.resets_at is not None and refused.resets_at > datetime.now(UTC)
    assert {"top_up", "upgrade"} <= {hint.kind for hint in refused.hints}
    assert refused.request_id


async def test_a_capability_beyond_the_plan_is_refused_with_what_would_help(house: House, connect: Connect) -> None:
    face, _ = await of_plan(house, connect, "free")
    with pytest.raises(CapabilityDenied) as raised:
        await face.do("reserve", "question_generation", quality="premium")
    refused = raised.value
    assert (refused.capability, refused.quality, refused.plan) == ("question_generation", "premium", "free")
    [hint] = refused.hints
    assert (hint.kind, hint.plan) == ("upgrade", "team")
    access = await face.do("access_check", "question_generation", quality="premium")
    assert (access.can_proceed, access.reason, access.hints) == (False, "capability_denied", refused.hints)
    assert [(level.name, level.allowed) for level in access.quality_levels] == [
        ("fast", True),
        ("enhanced", False),
        ("premium", False),
    ]


async def test_a_rate_is_refused_with_what_is_left_and_when_to_come_back(house: House, connect: Connect) -> None:
    face, _ = await of_plan(house, connect, "free")
    for _ in range(5):
        await face.do("reserve", "question_generation")
    with pytest.raises(LimitReached) as raised:
        await face.do("reserve", "question_generation")
    refused = raised.value
    assert (refused.meter, refused.period, refused.limit, refused.remaining) == ("requests", "minute", 5, 0)
    assert refused.retry_after is not None and 0 < refused.retry_after <= 60
    access = await face.do("access_check", "question_generation")
    assert not access.can_proceed
    assert [limit.remaining for limit in access.limits if limit.period == "minute"] == [0]


async def test_an_access_check_says_yes_and_takes_nothing(house: House, connect: Connect) -> None:
    face, _ = await of_plan(house, connect, "pro")
    before = await face.do("balance")
    access = await face.do("access_check", model="gpt-4o-mini", input_tokens=1000, max_output_tokens=256, user="u_1")
    assert access.can_proceed and access.model == "gpt-4o-mini"
    assert access.credits.enough and micros(str(access.credits.estimated)) == charge("gpt-4o-mini", 1000, 256)
    assert await face.do("balance") == before


async def test_other_refusals_are_their_own_errors(house: House, connect: Connect) -> None:
    face, tenant = await of_plan(house, connect, "bare", "100")
    made = await face.do("reserve", credits=3, idempotency_key="once")
    with pytest.raises(BadRequest) as mismatch:
        await face.do("reserve", credits=4, idempotency_key="once")
    assert (mismatch.value.status, mismatch.value.code) == (422, "idempotency_mismatch")
    with pytest.raises(BadRequest) as wrong:
        await face.do("reserve", credits=4, ttl_seconds=1)
    assert [field.field for field in wrong.value.fields] == ["ttl_seconds"]
    with pytest.raises(BadRequest):
        await face.do("settle", made.id, usage=Usage(1, 1))
    await face.do("settle", made.id, credits=1)
    with pytest.raises(Conflict):
        await face.do("release", made.id, "too late")
    with pytest.raises(NotFound):
        await face.do("reserve", "divination")
    other, _ = await of_plan(house, connect, "bare")
    for stranger in (made.id, "no-such-id"):
        with pytest.raises(NotFound):
            await other.do("reservation", stranger)
    with pytest.raises(Unauthenticated):
        await connect(house.server.url, "th_test_nobody").do("balance")
    alone = (await house.key(tenant.id, ["credits"]))["key"]
    with pytest.raises(Forbidden, match="act_as"):
        await connect(house.server.url, alone).do("reserve", credits=1, user="u_1")


# ---------------------------------------------------------------------------------------------------------------- runs


async def test_a_run_is_answered_and_charged_once_per_key(house: House, connect: Connect) -> None:
    face, _ = await of_plan(house, connect, "pro")
    before = await face.do("balance")
    found = [
        await face.do("run", "question_generation", PRODUCT, quality="fast", user="u_1", idempotency_key="run-7")
        for _ in range(2)
    ]
    assert [one.replayed for one in found] == [False, True]
    assert found[0].answer == found[1].answer and len(found[0].answer["questions"]) >= 1
    assert found[0].credits_used > 0 and found[0].usage.output_tokens > 0
    assert (await face.do("balance")).available == before.available - found[0].credits_used


async def test_a_run_sent_again_while_it_runs_is_waited_for_and_answered_once(house: House, connect: Connect) -> None:
    face, _ = await of_plan(house, connect, "pro")
    before = await face.do("balance")
    slow = {"product": {"name": "Mill", "description": "It grinds. sandbox:first=500"}, "count": 3}
    first, second = await asyncio.gather(
        *[face.do("run", "question_generation", slow, idempotency_key="run-8", timeout=20) for _ in range(2)]
    )
    assert (first.id, first.answer) == (second.id, second.answer)
    assert {first.replayed, second.replayed} == {False, True}
    assert (await face.do("balance")).available == before.available - first.credits_used


async def test_a_run_with_a_wrong_input_names_the_field_and_costs_nothing(house: House, connect: Connect) -> None:
    face, _ = await of_plan(house, connect, "pro")
    before = await face.do("balance")
    with pytest.raises(BadRequest) as raised:
        await face.do("run", "question_generation", {"product": {"name": 7}})
    assert any(field.field.startswith("input.product") for field in raised.value.fields)
    assert await face.do("balance") == before


# --------------------------------------------------------------------------------------------------------- all at once


async def test_of_many_threads_on_one_client_exactly_so_many_get_the_last_credits(house: House) -> None:
    tenant = await house.organization("40", "bare")

    def work(client: Client) -> int:
        served = 0
        try:
            while True:
                with client.operation(credits=1):
                    served += 1
        except InsufficientCredits:
            return served

    with Client(tenant.key, house.server.url) as client, ThreadPoolExecutor(8) as pool:
        loop = asyncio.get_running_loop()
        served = await asyncio.gather(*[loop.run_in_executor(pool, work, client) for _ in range(8)])
        balance = await asyncio.to_thread(client.balance)
    assert sum(served) == 40
    assert (balance.available, balance.reserved) == (Decimal(0), Decimal(0))


async def test_a_server_that_stands_still_settles_once_when_it_goes_on(house: House, connect: Connect) -> None:
    """Each attempt that was given up is still in its queue."""
    tenant = await house.organization("10", "bare")
    face = connect(house.server.url, tenant.key, timeout=0.2)
    made = await face.do("reserve", credits=3)
    house.server.signal(signal.SIGSTOP)
    try:
        settling: asyncio.Task[Any] = asyncio.create_task(face.do("settle", made.id, credits=2))
        assert not (await asyncio.wait([settling], timeout=0.7))[0]
    finally:
        house.server.signal(signal.SIGCONT)
    assert (await settling).charged == 2
    assert (await face.do("balance")).available == 8
