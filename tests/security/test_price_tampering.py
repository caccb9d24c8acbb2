"""Nobody but an operator says what something costs, what is in a plan or how many credits there are."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from tests.house import Reply
from tests.security.fields import OF_MONEY, documented
from tests.security.walker import Route, Walk, routes
from tests.security.world import World

pytestmark = pytest.mark.asyncio(loop_scope="module")
FAR: tuple[object, ...] = (
    "-1",
    "-0.000001",
    "NaN",
    "Infinity",
    "-Infinity",
    "1e9",
    "0x10",
    "١",
    "",
    " 1",
    "1_000",
    "99999999999999999999",
    -1,
    1,
    1.5,
    True,
    None,
    [],
    {},
)


def of_customers() -> list[Route]:
    return [one for one in routes() if one.policy != "platform" and not one.is_page and one.example.body is not None]


async def sent(world: World, name: str, route: Route, **more: Any) -> Reply:
    found = {place: await world.object(kind) for place, kind in route.example.kinds(route.path).items()}
    return await Walk(world).send(route, await world.caller(name), found, f"words_{uuid4().hex}", **more)


async def test_fields_of_money_are_refused_in_every_body_that_no_operator_sends(world: World) -> None:
    known, wrong = documented(), []
    for route in of_customers():
        if route.path.startswith("/v1/"):
            continue
        fields = known[route.name] or frozenset()
        for name, value in OF_MONEY.items():
            if name in fields:
                continue
            reply = await sent(world, "owner", route, **{name: value})
            if reply.status not in (400, 422) or name not in str(reply.body.get("errors")):
                wrong.append(f"{route.name}: {name}: {reply.status} {reply.raw[:160]!r}")
    assert not wrong, "\n" + "\n".join(wrong)


async def test_a_call_costs_the_same_whatever_it_says_about_money(world: World) -> None:
    """The gateway passes by what a provider would not know: it is refused, or the call costs what it costs."""
    gateway = [one for one in of_customers() if one.name == "POST /v1/chat/completions"]
    assert len(gateway) == 1
    plain = await sent(world, "owner", gateway[0])
    assert plain.status == 200
    for name, value in OF_MONEY.items():
        reply = await sent(world, "owner", gateway[0], **{name: value})
        if reply.status == 200:
            assert reply.headers["x-credits-used"] == plain.headers["x-credits-used"], name
        else:
            assert reply.status == 400, (name, reply.raw)


async def test_amounts_are_decimal_strings_of_what_there_can_be(world: World) -> None:
    """No negative amount, no number that is none, no number where digits would be lost."""
    key = await world.caller("key with credits")
    there = f"/api/credits/reservations/{await world.object('reservation')}/settle"
    for value in FAR:
        for path in ("/api/credits/reservations", there):
            headers = dict(key.headers) | {"idempotency-key": str(uuid4())}
            reply = await world.house.call("POST", path, json={"credits": value}, headers=headers)
            assert reply.status in (400, 402, 422), (path, value, reply.raw)


async def test_the_token_of_an_end_user_states_no_credits(world: World) -> None:
    """What it costs is what the model costs: an end user burns nothing by word."""
    holder = await world.caller("end user of A")
    stated = await world.house.call(
        "POST", "/api/credits/reservations", json={"credits": "1"},
        headers=dict(holder.headers) | {"idempotency-key": str(uuid4())},
    )  # fmt: skip
    assert stated.status == 403, stated.raw
    reserved = await world.post("/api/credits/reservations", {"model": "sandbox", "input_tokens": 9}, holder.headers)
    path = f"/api/credits/reservations/{reserved['id']}/settle"
    settled = await world.house.call("POST", path, json={"credits": "50"}, headers=dict(holder.headers))
    assert settled.status == 403, settled.raw


async def test_settling_for_less_than_nothing_and_twice_gives_no_credits(world: World) -> None:
    key = await world.caller("key with credits")
    tenant_before = await balance(world)
    made = await world.post("/api/credits/reservations", {"credits": "5"}, key.headers)
    path = f"/api/credits/reservations/{made['id']}/settle"
    for usage in ({"input_tokens": -5, "output_tokens": 1}, {"input_tokens": 1, "output_tokens": 10**18},
                  {"input_tokens": 1, "output_tokens": 1, "cached_input_tokens": 5}):  # fmt: skip
        reply = await world.house.call("POST", path, json={"usage": usage}, headers=dict(key.headers))
        assert reply.status in (400, 422), reply.raw
    first = await world.house.call("POST", path, json={"credits": "5"}, headers=dict(key.headers))
    second = await world.house.call("POST", path, json={"credits": "0"}, headers=dict(key.headers))
    assert first.status == 200 and (second.status == 409 or second.body["charged"] == first.body["charged"]), second.raw
    assert await balance(world) == tenant_before - 5_000_000


async def test_the_keys_of_a_customer_give_no_credits_and_change_no_plan(world: World) -> None:
    """The calls of operators with every key, token and session that a customer may have."""
    money = [one for one in routes() if one.policy == "platform" and not one.is_page and one.method != "GET"]
    assert len(money) > 20
    before = await balance(world)
    for name in ("owner", "admin", "key with manage", "key with credits", "end user of A"):
        for route in money:
            reply = await sent(world, name, route)
            assert reply.status == 403, (route.name, name, reply.raw)
    assert await balance(world) == before


async def balance(world: World) -> int:
    found = await world.rows(
        "SELECT remaining_micros - debt_micros FROM credit_balance WHERE organization_id = %s", world.id
    )
    return int(found[0][0])
