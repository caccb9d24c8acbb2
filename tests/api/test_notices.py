"""What an organisation is told of its credits running low."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from tests.api.conftest import Api
from tollhouse.core.ask import Ask, CreditsWant
from tollhouse.core.money import parse_credits
from tollhouse.core.price import Stated
from tollhouse.flows.operation import Admit, Settle
from tollhouse.flows.spend import Teller

NOTICES = "/api/credits/notices"


async def spend(client: Api, organization_id: str, credits: str, teller: Teller | None = None) -> None:
    """So many credits for whatever the host application does."""
    id_, desk = UUID(organization_id), teller or client.teller
    amount = parse_credits(credits)
    admitted: Any = await desk.do(Admit(id_, Ask(id_, None, id_, "api", CreditsWant(amount)), None))
    await desk.do(Settle(id_, admitted.id, Stated(amount), None, None))


async def told(client: Api, key: str) -> list[dict[str, Any]]:
    reply = await client.call("GET", NOTICES, key=key)
    assert reply.status == 200, reply.text
    assert set(reply.body) == {"items"}
    items: list[dict[str, Any]] = reply.body["items"]
    return items


async def move(client: Api, organization_id: str, to: datetime) -> None:
    moved = await client.order("POST", f"/organizations/{organization_id}/clock", {"now": to.isoformat()})
    assert moved.status == 200, moved.text


async def test_credits_that_run_low_and_then_out_are_told_with_the_charge_that_did_it(client: Api) -> None:
    organization_id = await client.organization("pro")  # 500 a month and 25 to begin with
    key = await client.key(organization_id)
    await spend(client, organization_id, "425")
    assert await told(client, key) == []
    await spend(client, organization_id, "0.5")
    await spend(client, organization_id, "98.5")
    out, low = await told(client, key)
    today = datetime.now(UTC)
    for item in (out, low):
        assert datetime.fromisoformat(item.pop("created_at")) <= today
    assert out == {"kind": "depleted", "day": f"{today:%Y-%m-%d}", "available": "1", "threshold": "1"}
    assert low == {"kind": "low_balance", "day": f"{today:%Y-%m-%d}", "available": "99.5", "threshold": "100"}


async def test_of_many_charges_that_cross_at_once_one_is_told_of(client: Api) -> None:
    organization_id = await client.organization("pro")
    other = Teller(client.database_url, "test", client.clock)
    await other.open()
    tellers = (client.teller, other)
    await asyncio.gather(*(spend(client, organization_id, "10", tellers[number % 2]) for number in range(50)))
    await other.close()
    assert [item["kind"] for item in await told(client, await client.key(organization_id))] == ["low_balance"]


async def test_a_kind_is_told_once_a_day_and_again_another_day_after_credits_came(client: Api) -> None:
    organization_id = await client.organization("pro")
    key = await client.key(organization_id)
    noon = (datetime.now(UTC) + timedelta(days=1)).replace(hour=12, minute=0, second=0, microsecond=0)
    await move(client, organization_id, noon)
    await spend(client, organization_id, "450")
    await client.grant(organization_id, "100", "k1")
    await spend(client, organization_id, "100")
    assert [item["day"] for item in await told(client, key)] == [f"{noon:%Y-%m-%d}"]
    await move(client, organization_id, noon + timedelta(days=1))
    await spend(client, organization_id, "1")
    assert len(await told(client, key)) == 1, "it is still low since yesterday"
    await client.grant(organization_id, "100", "k2")
    await spend(client, organization_id, "100")
    assert [item["day"] for item in await told(client, key)] == [
        f"{noon + timedelta(days=days):%Y-%m-%d}" for days in (1, 0)
    ]


async def test_the_credits_of_a_new_period_count_as_come_in(client: Api) -> None:
    organization_id = await client.organization("pro")
    key = await client.key(organization_id)
    await spend(client, organization_id, "450")
    await move(client, organization_id, datetime.now(UTC) + timedelta(days=32))
    await spend(client, organization_id, "450")
    assert [item["kind"] for item in await told(client, key)] == ["low_balance", "low_balance"]


async def test_an_empty_organisation_is_told_nothing_before_it_has_spent(client: Api) -> None:
    organization_id = await client.organization("free")
    key = await client.key(organization_id)
    assert (await client.order("PUT", f"/organizations/{organization_id}/overdraft", {"credits": "5"})).status == 200
    assert await told(client, key) == []


async def test_an_organisation_sees_its_own_notices_only(client: Api) -> None:
    hers, theirs = await client.organization("pro"), await client.organization("pro")
    await spend(client, hers, "450")
    assert len(await told(client, await client.key(hers))) == 1
    assert await told(client, await client.key(theirs)) == []


async def test_notices_take_the_scope_credits_and_no_query(client: Api) -> None:
    organization_id = await client.organization()
    assert (await client.call("GET", NOTICES, key=await client.key(organization_id, "gateway"))).status == 403
    reply = await client.call("GET", NOTICES + "?limit=3", key=await client.key(organization_id))
    assert reply.status == 400
