"""Credits for exactly so many calls: exactly so many are let through, however many ask at once and wherever."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

from tests.conftest import Cluster, SeededTemplate
from tests.house import House, Tenant, ask, charge, credits, fresh_house, micros

CALLS, PAID = 200, 20
TOKENS = 60  # below this an answer is not cut to what is left: it is refused


async def price(house: House) -> int:
    """What one of the calls costs, as told by one that was made."""
    reply = await house.chat(await house.organization(), body(0))
    cost = micros(reply.body["usage"]["credits"])
    assert cost == charge("sandbox", reply.body["usage"]["prompt_tokens"], TOKENS)
    assert reply.headers["x-credits-reserved"] == reply.headers["x-credits-used"]
    return cost


def body(number: int) -> dict[str, object]:
    """Each second call is a stream; none ends while another is still being decided."""
    stream: dict[str, Any] = {"stream": True, "stream_options": {"include_usage": True}} if number % 2 else {}
    return ask(f"sandbox:tokens={TOKENS} sandbox:delay=15", max_tokens=TOKENS, **stream)


async def ask_all(house: House, tenants: list[Tenant]) -> list[tuple[int, str | None]]:
    """Status and code of all calls, which start together, one process after the other in turn."""

    async def one(number: int, tenant: Tenant) -> tuple[int, str | None]:
        server = house.servers[number % len(house.servers)]
        reply = await house.chat(tenant, body(number // len(house.servers)), server)
        assert reply.status != 200 or b'"credits"' in reply.raw
        return reply.status, None if reply.status == 200 else reply.error["code"]

    return list(await asyncio.gather(*(one(*numbered) for numbered in enumerate(tenants))))


@pytest.mark.parametrize("processes", [1, 2])
async def test_with_credits_for_twenty_calls_two_hundred_at_once_let_exactly_twenty_through(
    cluster: Cluster, seeded_template: SeededTemplate, processes: int
) -> None:
    async with fresh_house(cluster, seeded_template, processes) as house:
        cost = await price(house)
        tenant = await house.organization(credits=credits(cost * PAID))
        outcomes = Counter(await ask_all(house, [tenant] * CALLS))
        assert outcomes == {(200, None): PAID, (402, "insufficient_credits"): CALLS - PAID}
        assert await house.balance(tenant) == 0
        assert await house.requests(tenant) == [("done", False)] * PAID
        assert {row[3] for row in await house.usage(tenant)} == {cost}
        await house.assert_ledger_holds()
        assert (await house.chat(tenant, body(0))).status == 402


async def test_organisations_do_not_take_from_each_other_and_what_a_call_leaves_over_can_be_spent(
    cluster: Cluster, seeded_template: SeededTemplate
) -> None:
    """On two processes, with a limit of messages for one organisation, credits for another, and enough for a third."""
    async with fresh_house(cluster, seeded_template, 2) as house:
        cost = await price(house)
        await house.change(
            """INSERT INTO plan (id, name, rank, monthly_credits_micros, daily_messages, max_output_tokens,
                   charged_channels) VALUES ('seven', 'Seven', 2, 0, 7, 1024, '{api}')"""
        )
        seven = await house.organization(plan="seven")
        five = await house.organization(credits=credits(cost * 5 + cost - 1))
        rich = await house.organization()
        tenants = [seven, five, rich] * 20
        outcomes = await ask_all(house, tenants)
        found = {
            tenant.id: Counter(outcome for asked, outcome in zip(tenants, outcomes, strict=True) if asked == tenant)
            for tenant in (seven, five, rich)
        }
        assert found[seven.id] == {(200, None): 7, (429, "rate_limit_exceeded"): 13}
        assert found[five.id] == {(200, None): 5, (402, "insufficient_credits"): 15}
        assert found[rich.id] == {(200, None): 20}
        assert await house.balance(five) == cost - 1
        for left in ("nothing", "still nothing"):
            refused = await house.chat(five, body(0))
            assert refused.status == 402, left
        shorter = await house.chat(five, ask("sandbox:tokens=9", max_tokens=TOKENS - 1))
        assert shorter.status == 200
