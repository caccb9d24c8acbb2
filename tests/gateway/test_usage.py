"""GET /v1/usage: what the key's organisation used, as it was charged."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.house import House, Tenant, ask, charge
from tollhouse.core.errors import BadRequest
from tollhouse.gateway.usage import read

pytestmark = pytest.mark.asyncio(loop_scope="module")

NOON = datetime(2026, 2, 28, 12, tzinfo=UTC)


async def usage(house: House, tenant: Tenant, **asked: Any) -> Any:
    reply = await house.call("GET", f"/v1/usage?{urlencode(asked)}", headers=tenant.headers)
    assert reply.status == 200, reply.raw
    return reply.body


async def test_each_figure_is_what_the_calls_were_charged(house: House, proved: None) -> None:
    tenant = await house.organization()
    calls = [("sandbox", "ada"), ("sandbox", None), ("gpt-4o-mini", "ada"), ("sandbox", "bo")]
    totals: dict[str, dict[str | None, list[int]]] = {"model": {}, "user": {}, "day": {}}
    for model, user in calls:
        asked = ask("sandbox:tokens=7", model)
        told = (await (house.chat(tenant, asked, x_tollhouse_user=user) if user else house.chat(tenant, asked))).body[
            "usage"
        ]
        cost = charge(model, told["prompt_tokens"], 7)
        assert Decimal(told["credits"]) * 1_000_000 == cost
        for by, name in (("model", model), ("user", user), ("day", None)):
            sums = totals[by].setdefault(name, [0, 0, 0])
            for place, figure in enumerate((1, told["prompt_tokens"], cost)):
                sums[place] += figure
    for by, expected in totals.items():
        found = await usage(house, tenant, group_by=by)
        rows = found["data"]
        names = [row[by] for row in rows]
        if by == "day":
            assert names == [f"{datetime.now(UTC):%Y-%m-%d}"]
        else:
            assert names == sorted(expected, key=lambda name: name or "")
        for row in rows:
            requests, given, micros = expected[None if by == "day" else row[by]]
            assert (row["requests"], row["input_tokens"], row["output_tokens"]) == (requests, given, 7 * requests)
            assert Decimal(row["credits"]) * 1_000_000 == micros
            assert Decimal(row["cost_usd"]) * 100 == Decimal(row["credits"])  # a credit is a cent of cost
            assert (row["cached_input_tokens"], row["reasoning_tokens"]) == (0, 0)
        total = found["total"]
        assert total["requests"] == len(calls)
        assert Decimal(total["credits"]) == sum(Decimal(row["credits"]) for row in rows)
        assert (found["object"], found["group_by"], found["has_more"], found["next_cursor"]) == (
            "list",
            by,
            False,
            None,
        )


async def test_pages_hold_each_row_once(house: House) -> None:
    tenant = await house.organization()
    users = [f"u_{number}" for number in range(5)]
    body = ask("sandbox:tokens=3")
    await asyncio.gather(*(house.chat(tenant, body, x_tollhouse_user=user) for user in users))
    seen: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        page = await usage(house, tenant, group_by="user", limit=2, **cursor)
        assert page["total"]["requests"] == 5
        assert 1 <= len(page["data"]) <= 2
        seen += [row["user"] for row in page["data"]]
        if not page["has_more"]:
            break
        cursor = {"cursor": page["next_cursor"]}
    assert page["next_cursor"] is None
    assert seen == users
    other = await house.call("GET", f"/v1/usage?group_by=model&cursor={cursor['cursor']}", headers=tenant.headers)
    assert (other.status, other.error["param"]) == (400, "cursor")


async def test_only_the_time_asked_for_counts_and_only_the_own_organisation(house: House) -> None:
    tenant, other = await house.organization(), await house.organization()
    await house.chat(tenant, ask("Hello"))
    now = datetime.now(UTC)
    tomorrow = f"{now + timedelta(days=1):%Y-%m-%d}"
    assert (await usage(house, tenant, **{"from": f"{now:%Y-%m-%d}", "to": tomorrow}))["total"]["requests"] == 1
    assert (await usage(house, tenant, **{"from": tomorrow, "to": f"{now + timedelta(days=2):%Y-%m-%d}"}))["data"] == []
    nothing = await usage(house, other)
    assert nothing["data"] == []
    assert nothing["total"] == {
        "requests": 0, "input_tokens": 0, "cached_input_tokens": 0, "output_tokens": 0, "reasoning_tokens": 0,
        "credits": "0", "cost_usd": "0",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("query", "param", "said"),
    [
        ("group_by=planet", "group_by", "day, model, user"),
        ("group_by=", "group_by", "day, model, user"),
        ("since=2026-01-01", "since", "from, to, group_by, limit, cursor"),
        ("limit=0", "limit", "1 to 1000"),
        ("limit=1001", "limit", "1 to 1000"),
        ("limit=%C2%B2", "limit", "1 to 1000"),
        ("limit=5&limit=6", "limit", "twice"),
        ("from=yesterday", "from", "2026-01-31"),
        ("from=2026-02-30", "from", "no such day"),
        ("from=2026-01-01T00:00:00", "from", "RFC 3339"),
        ("from=2026-01-01T00:00:00+01:00", "from", "%2B"),
        ("to=0001-01-01", "to", "2000"),
        ("to=9999-12-31T23:59:59-23:59", "to", "no such day"),
        ("from=2026-01-02&to=2026-01-02", "from", "before"),
        ("from=2026-01-01&to=2026-04-04", "from", "92 days"),
        ("cursor=%00", "cursor", "Begin again"),
        ("cursor=bm9uZQ", "cursor", "Begin again"),
    ],
)
async def test_nonsense_is_refused_by_name(house: House, query: str, param: str, said: str) -> None:
    tenant = await house.organization(credits="0")
    reply = await house.call("GET", f"/v1/usage?{query}", headers=tenant.headers)
    assert (reply.status, reply.error["code"], reply.error["param"]) == (400, "invalid_request", param)
    assert said in reply.error["message"]


async def test_it_takes_a_key_with_the_scope(house: House) -> None:
    reply = await house.call("GET", "/v1/usage")
    assert (reply.status, reply.error["code"]) == (401, "invalid_api_key")
    without = await house.organization(credits="0", scopes=["credits"])
    reply = await house.call("GET", "/v1/usage", headers=without.headers)
    assert (reply.status, reply.error["code"]) == (403, "forbidden")
    reply = await house.call("POST", "/v1/usage", headers=without.headers)
    assert (reply.status, reply.headers["allow"]) == (405, "GET")


async def test_without_from_and_to_it_is_the_last_30_days_from_the_days_beginning() -> None:
    wanted = read({}, NOON)
    assert (wanted.since, wanted.until) == (datetime(2026, 1, 29, tzinfo=UTC), NOON)
    assert (wanted.by, wanted.limit, wanted.after) == ("day", 100, None)
    summer = read({"from": "2026-01-01T01:30:00+01:30", "to": "2026-04-03"}, NOON)
    assert (summer.since, summer.until) == (datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 4, 3, tzinfo=UTC))


words = st.text(max_size=40) | st.from_regex(r"\d{4}-\d\d-\d\d(T\d\d:\d\d:\d\d(Z|[+-]\d\d:\d\d))?", fullmatch=True)


@given(
    asked=st.dictionaries(st.sampled_from(["from", "to", "limit", "cursor"]), words),
    by=st.sampled_from(["day", "user"]),
)
async def test_whatever_is_asked_is_read_or_refused(asked: dict[str, str], by: str) -> None:
    try:
        wanted = read(asked | {"group_by": by}, NOON)
    except BadRequest:
        return
    assert timedelta() < wanted.until - wanted.since <= timedelta(days=92)
