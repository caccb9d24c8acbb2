"""What an organisation may read of its credits."""

from __future__ import annotations

import asyncio
import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from tests.api.conftest import Api
from tollhouse.core.ask import Ask, CallWant, Size
from tollhouse.core.key import end_user_id
from tollhouse.core.price import Usage
from tollhouse.flows.operation import Admit, Answered, Outcome, Settle

TRANSACTIONS = "/api/credits/transactions"
SANDBOX = Answered("sandbox", "sandbox", 1, "provider")
FIELDS = {
    "id", "seq", "type", "amount", "balance_after", "grant_id", "reservation_id", "capability", "quality", "model",
    "user", "estimation_variance", "note", "created_at",
}  # fmt: skip


async def call_a_model(client: Api, organization_id: str, user: str | None = None, *, settled: bool = True) -> UUID:
    """Reserves for a thousand tokens of the sandbox, and settles half of them."""
    id_ = UUID(organization_id)
    subject = id_ if user is None else end_user_id(id_, user)
    ask = Ask(id_, None, subject, "api", CallWant("sandbox", Size(1000, 500)))
    admitted = await client.teller.admit(Admit(id_, ask, "test", False, user))
    if settled:
        await client.teller.do(Settle(id_, admitted.id, Usage(500, 100), Outcome("done"), SANDBOX))
    return admitted.id


async def pages(client: Api, key: str, query: str) -> list[list[dict[str, Any]]]:
    """All pages of a query, by following the cursor."""
    found, cursor = [], ""
    while True:
        reply = await client.call("GET", f"{TRANSACTIONS}?{query}{cursor}", key=key)
        assert reply.status == 200, reply.text
        found.append(reply.body["items"])
        if reply.body["next_cursor"] is None:
            return found
        cursor = f"&cursor={reply.body['next_cursor']}"


async def test_the_balance_is_what_its_grants_hold(client: Api) -> None:
    organization_id = await client.organization("pro")
    await client.grant(organization_id, "12.5", "k1", source="topup", expires_at="2099-01-01T00:00:00+02:00")
    found = await client.balance(await client.key(organization_id, "credits"))
    assert found["available"] == found["spendable"] == "537.5"
    assert (found["monthly"], found["bonus"], found["reserved"], found["debt"]) == ("500", "37.5", "0", "0")
    assert (found["overdraft_limit"], found["used_this_period"]) == ("0", "0")
    assert [(one["source"], one["amount"], one["priority"], one["paid"]) for one in found["grants"]] == [
        ("plan", "500", 10, False),
        ("welcome", "25", 20, False),
        ("topup", "12.5", 30, True),
    ]
    assert found["grants"][2]["expires_at"] == "2098-12-31T22:00:00Z"
    assert found["grants"][0]["expires_at"] == found["period_end"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", found["period_start"])


async def test_what_a_running_call_holds_is_reserved_and_what_it_used_is_counted(client: Api) -> None:
    organization_id = await client.organization("pro")
    key = await client.key(organization_id, "gateway")
    await call_a_model(client, organization_id)
    running = await call_a_model(client, organization_id, settled=False)
    found = await client.balance(key)
    used, reserved = Decimal(found["used_this_period"]), Decimal(found["reserved"])
    assert used > 0 and reserved > 0
    assert Decimal(found["available"]) == 525 - used - reserved
    assert Decimal(found["monthly"]) + Decimal(found["bonus"]) == 525 - used
    assert sum(Decimal(one["reserved"]) for one in found["grants"]) == reserved
    await client.teller.do(Settle(UUID(organization_id), running, Usage(1, 1), Outcome("done"), SANDBOX))


async def test_an_overdraft_may_be_spent_and_its_use_shows_as_debt(client: Api) -> None:
    organization_id = await client.organization("free")
    await client.order("PUT", f"/organizations/{organization_id}/overdraft", {"credits": "30"})
    ask = Ask(UUID(organization_id), None, UUID(organization_id), "api", CallWant("sandbox", Size(600_000, 1)))
    admitted = await client.teller.admit(Admit(UUID(organization_id), ask, "test", False))
    await client.teller.do(Settle(UUID(organization_id), admitted.id, Usage(500_000, 0), Outcome("done"), SANDBOX))
    found = await client.balance(await client.key(organization_id))
    assert (found["available"], found["spendable"], found["debt"], found["overdraft_limit"]) == ("-5", "25", "5", "30")


async def test_whoever_looks_sees_what_is_due_though_no_job_has_run(client: Api) -> None:
    organization_id = await client.organization("pro")
    key = await client.key(organization_id, "credits")
    before = await client.balance(key)
    client.clock.ahead = timedelta(days=45)
    [items] = await pages(client, key, "")
    assert [item["type"] for item in items] == ["plan_allocation", "expiry", "welcome_bonus", "plan_allocation"]
    after = await client.balance(key)
    assert after["period_start"] >= before["period_end"]
    assert after["available"] == "525"


async def test_the_usage_of_an_earlier_period_is_not_that_of_this_one(client: Api) -> None:
    organization_id = await client.organization("pro")
    key = await client.key(organization_id, "credits")
    await call_a_model(client, organization_id)
    assert (await client.balance(key))["used_this_period"] != "0"
    client.clock.ahead = timedelta(days=45)
    assert (await client.balance(key))["used_this_period"] == "0"


async def test_a_transaction_tells_what_its_call_was_about(client: Api) -> None:
    organization_id = await client.organization("pro")
    key = await client.key(organization_id, "credits")
    of_user = await call_a_model(client, organization_id, "customer-17")
    of_nobody = await call_a_model(client, organization_id)
    [items] = await pages(client, key, "type=ai_consumption")
    assert [set(item) for item in items] == [FIELDS, FIELDS]
    assert [(item["reservation_id"], item["user"]) for item in items] == [
        (str(of_nobody), None),
        (str(of_user), "customer-17"),
    ]
    assert {item["model"] for item in items} == {"sandbox"}
    assert all(Decimal(item["estimation_variance"]) < 0 for item in items)
    assert Decimal(items[1]["balance_after"]) == 525 + Decimal(items[1]["amount"])


async def test_pages_hold_each_transaction_once_newest_first(client: Api) -> None:
    organization_id = await client.organization()
    key = await client.key(organization_id, "credits")
    await asyncio.gather(*[client.grant(organization_id, "1", f"k{number}") for number in range(9)])
    found = await pages(client, key, "limit=4")
    assert [len(page) for page in found] == [4, 4, 3]
    assert [item["seq"] for page in found for item in page] == list(range(11, 0, -1))


async def test_a_page_that_ends_with_the_last_transaction_has_no_cursor(client: Api) -> None:
    key = await client.key(await client.organization(), "credits")
    assert [len(page) for page in await pages(client, key, "limit=2")] == [2]


async def test_what_is_booked_while_somebody_pages_does_not_shift_the_pages(client: Api) -> None:
    organization_id = await client.organization()
    key = await client.key(organization_id, "credits")
    first = (await client.call("GET", f"{TRANSACTIONS}?limit=1", key=key)).body
    await client.grant(organization_id, "1", "k1")
    second = (await client.call("GET", f"{TRANSACTIONS}?limit=1&cursor={first['next_cursor']}", key=key)).body
    assert [first["items"][0]["seq"], second["items"][0]["seq"]] == [2, 1]


async def test_the_time_filter_is_half_open(client: Api) -> None:
    organization_id = await client.organization()
    key = await client.key(organization_id, "credits")
    now = datetime.now(UTC)
    for days in (1, 2):
        to = {"now": (now + timedelta(days=days)).isoformat()}
        assert (await client.order("POST", f"/organizations/{organization_id}/clock", to)).status == 200
        await client.grant(organization_id, str(days), f"k{days}")
    [[second, first, *_]] = await pages(client, key, "")
    span = f"from={first['created_at']}&to={second['created_at']}"
    assert await pages(client, key, span) == [[first]]
    assert await pages(client, key, f"from={second['created_at']}") == [[second]]
    assert await pages(client, key, f"to={first['created_at']}&type=promo_bonus") == [[]]


WRONG = [
    ("type=gift", "type"),
    ("limit=0", "limit"),
    ("limit=201", "limit"),
    ("limit=many", "limit"),
    ("from=2026-01-31", "from"),
    ("from=2026-01-31T00:00:00Z&to=2026-01-31T00:00:00Z", "from"),
    ("cursor=1", "cursor"),
    ("cursor=c2VxOi0x", "cursor"),
    ("cursor=%00", "cursor"),
    ("cursor=%F0%9F%90%9F", "cursor"),
    ("cursor=" + "A" * 101, "cursor"),
]


async def test_a_wrong_filter_is_refused_by_its_name(client: Api, subtests: pytest.Subtests) -> None:
    key = await client.key(await client.organization(), "credits")
    for query, field in WRONG:
        with subtests.test(query=query):
            reply = await client.call("GET", f"{TRANSACTIONS}?{query}", key=key)
            assert reply.status == 400, reply.text
            assert [(item["location"], item["field"]) for item in reply.body["errors"]] == [("query", field)]


async def test_an_organisation_sees_its_own_credits_only(client: Api) -> None:
    rich, poor = await client.organization("enterprise"), await client.organization("free")
    await client.grant(rich, "77", "k1")
    key = await client.key(poor, "credits")
    assert (await client.balance(key))["available"] == "20"
    [items] = await pages(client, key, "")
    assert [item["amount"] for item in items] == ["10", "10"]


async def test_the_transactions_take_the_scope_credits(client: Api) -> None:
    key = await client.key(await client.organization(), "gateway")
    assert (await client.call("GET", TRANSACTIONS, key=key)).status == 403
    assert (await client.call("GET", "/api/credits/balance", key=key)).status == 200


async def test_many_who_read_while_others_spend_always_see_parts_that_agree(client: Api) -> None:
    organization_id = await client.organization("pro")
    key = await client.key(organization_id, "credits")
    spending = [call_a_model(client, organization_id) for _ in range(20)]
    reading = [client.balance(key) for _ in range(20)]
    for found in (await asyncio.gather(*reading, *spending))[:20]:
        assert isinstance(found, dict)
        held = sum(Decimal(one["remaining"]) for one in found["grants"])
        assert held == Decimal(found["monthly"]) + Decimal(found["bonus"])
        assert Decimal(found["available"]) == held - Decimal(found["reserved"])
        assert held == 525 - Decimal(found["used_this_period"])
