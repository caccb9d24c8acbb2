"""Prices and rate cards as operators add them, and that calls are charged by them from then on."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from tests.api.conftest import Api, Reply

PRICES = "/models/sandbox/prices"
CALL = {"model": "sandbox", "input_tokens": 1_000, "max_output_tokens": 100}
# Ten times what the seed says of the sandbox: a call of the above kind is 0.65 credits, and not 0.065.
DEARER = {"input_per_million": "5", "output_per_million": "15"}


async def added(client: Api, path: str, body: dict[str, Any]) -> Any:
    reply = await client.order("POST", path, body)
    assert reply.status == 201, reply.text
    return reply.body


async def listed(client: Api, path: str) -> Any:
    reply = await client.order("GET", path)
    assert reply.status == 200, reply.text
    return reply.body


async def tenant(client: Api) -> str:
    return await client.key(await client.organization("pro"), "credits")


async def reserve(client: Api, key: str) -> Any:
    reply = await client.call("POST", "/api/credits/reservations", CALL, key=key, Idempotency_Key=str(uuid4()))
    assert reply.status == 201, reply.text
    return reply.body


async def settle(client: Api, key: str, id_: str, **usage: int) -> str:
    body = {"usage": {"input_tokens": 1_000, "output_tokens": 100, **usage}}
    reply = await client.call(
        "POST", f"/api/credits/reservations/{id_}/settle", body, key=key, Idempotency_Key=str(uuid4())
    )
    assert reply.status == 200, reply.text
    return str(reply.body["charged"])


def refused(reply: Reply) -> tuple[int, str, list[str]]:
    assert reply.headers["content-type"] == "application/problem+json", reply.text
    return reply.status, reply.body["code"], [one["field"] for one in reply.body.get("errors", ())]


def later(**ahead: float) -> str:
    return (datetime.now(UTC) + timedelta(**ahead)).isoformat()


# --------------------------------------------------------------------------------------------------------------- prices


async def test_a_price_is_added_as_a_version_and_the_earlier_ones_stay(client: Api) -> None:
    before = await listed(client, PRICES)
    assert before["in_force"] == 1
    (first,) = before["items"]
    assert (first["input_per_million"], first["output_per_million"], first["source"]) == ("0.5", "1.5", "seed")
    row = await added(client, PRICES, DEARER | {"reasoning_per_million": "20", "note": " new list "})
    assert abs(datetime.fromisoformat(row["effective_from"]) - datetime.now(UTC)) < timedelta(minutes=1)
    assert row == {
        "model": "sandbox", "version": 2, "effective_from": row["effective_from"], "free": False,
        "input_per_million": "5", "cached_input_per_million": "5", "output_per_million": "15",
        "reasoning_per_million": "20", "cache_write_per_million": None, "per_request": "0", "source": "operator",
        "note": "new list",
    }  # fmt: skip
    assert await listed(client, PRICES) == {"in_force": 2, "items": [row, first]}


async def test_every_price_comes_back_exactly_as_it_was_said(client: Api) -> None:
    said = {
        "input_per_million": "0.123456789", "cached_input_per_million": "0", "output_per_million": "10000",
        "reasoning_per_million": "0.1", "cache_write_per_million": "0.000000001", "per_request": "0.014",
    }  # fmt: skip
    assert said.items() <= (await added(client, PRICES, said)).items()


async def test_a_new_price_holds_from_the_next_call_on_and_not_for_what_was_reserved(client: Api) -> None:
    key = await tenant(client)
    first = await reserve(client, key)
    await added(client, PRICES, DEARER)
    second = await reserve(client, key)
    assert (first["amount"], second["amount"]) == ("0.065", "0.65")
    assert await settle(client, key, first["id"]) == "0.065"
    assert await settle(client, key, second["id"]) == "0.65"


async def test_a_price_that_begins_later_holds_from_then_on(client: Api) -> None:
    key = await tenant(client)
    row = await added(client, PRICES, DEARER | {"effective_from": later(hours=1)})
    assert (await listed(client, PRICES))["in_force"] == 1
    assert (await reserve(client, key))["amount"] == "0.065"
    client.clock.ahead = timedelta(hours=2)
    assert (await reserve(client, key))["amount"] == "0.65"
    assert (await listed(client, PRICES))["in_force"] == row["version"] == 2


async def test_a_dearer_price_of_cache_writes_or_of_reasoning_is_what_a_call_is_held_at(client: Api) -> None:
    key = await tenant(client)
    await added(client, PRICES, {"input_per_million": "0.5", "output_per_million": "1.5",
                                 "cache_write_per_million": "1", "reasoning_per_million": "3"})  # fmt: skip
    held = await reserve(client, key)
    assert held["amount"] == "0.13"
    assert await settle(client, key, held["id"]) == "0.065"  # nothing was written, nothing was reasoned


async def test_a_model_that_costs_nothing_is_said_to(client: Api) -> None:
    key = await tenant(client)
    row = await added(client, PRICES, {"free": True})
    assert (row["free"], row["input_per_million"], row["output_per_million"]) == (True, "0", "0")
    assert (await reserve(client, key))["amount"] == "0"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"input_per_million": "0", "output_per_million": "0"}, "free"),
        ({"free": True, **DEARER}, "free"),
        ({"free": True, "reasoning_per_million": "1"}, "free"),
        ({"input_per_million": "0", "output_per_million": "0", "reasoning_per_million": "1"}, "free"),
        ({"output_per_million": "1"}, "input_per_million"),
        ({"input_per_million": "1"}, "output_per_million"),
        ({**DEARER, "input_per_million": 5}, "input_per_million"),
        ({**DEARER, "input_per_million": "-5"}, "input_per_million"),
        ({**DEARER, "input_per_million": "10000.1"}, "input_per_million"),
        ({**DEARER, "per_request": "0.0000000001"}, "per_request"),
        ({**DEARER, "source": "import"}, "source"),
        ({**DEARER, "effective_from": "2026-01-01"}, "effective_from"),
    ],
)
async def test_what_is_no_price_is_refused_by_the_field_and_changes_nothing(
    client: Api, body: dict[str, Any], field: str
) -> None:
    before = await listed(client, PRICES)
    assert refused(await client.order("POST", PRICES, body)) == (400, "invalid_request", [field])
    assert await listed(client, PRICES) == before


async def test_the_past_is_history(client: Api) -> None:
    reply = await client.order("POST", PRICES, DEARER | {"effective_from": later(seconds=-5)})
    assert refused(reply) == (400, "invalid_request", ["effective_from"])
    reply = await client.order("POST", "/rate-cards", {"credits_per_usd": "10", "effective_from": later(seconds=-5)})
    assert refused(reply) == (400, "invalid_request", ["effective_from"])


async def test_of_two_versions_for_one_instant_the_second_is_refused(client: Api) -> None:
    at = {"effective_from": later(hours=1)}
    replies = await asyncio.gather(*(client.order("POST", PRICES, DEARER | at) for _ in range(4)))
    assert sorted(reply.status for reply in replies) == [201, 409, 409, 409]
    await added(client, "/models/gpt-4o/prices", DEARER | at)  # another model's is another matter
    replies = await asyncio.gather(
        *(client.order("POST", "/rate-cards", {"credits_per_usd": "10"} | at) for _ in range(4))
    )
    assert sorted(reply.status for reply in replies) == [201, 409, 409, 409]


async def test_versions_that_are_added_at_once_have_numbers_of_their_own(client: Api) -> None:
    replies = await asyncio.gather(
        *(client.order("POST", PRICES, DEARER | {"effective_from": later(hours=n + 1)}) for n in range(5))
    )
    assert sorted(reply.body["version"] for reply in replies) == [2, 3, 4, 5, 6]


async def test_an_unknown_model_is_not_found(client: Api) -> None:
    for method, body in (("GET", None), ("POST", DEARER)):
        assert refused(await client.order(method, "/models/no-such/prices", body))[:2] == (404, "not_found")


async def test_a_price_that_is_sent_twice_with_one_key_is_one(client: Api) -> None:
    once = str(uuid4())
    first, second = [await client.order("POST", PRICES, DEARER, Idempotency_Key=once) for _ in range(2)]
    assert (second.status, second.body) == (201, first.body)
    assert second.headers["idempotent-replayed"] == "true"
    assert len((await listed(client, PRICES))["items"]) == 2
    other = await client.order("POST", PRICES, DEARER | {"note": "another"}, Idempotency_Key=once)
    assert other.status == 422


# ----------------------------------------------------------------------------------------------------------- rate cards


async def test_a_rate_card_is_added_as_a_version_with_all_that_it_says(client: Api) -> None:
    (first,) = (await listed(client, "/rate-cards"))["items"]
    assert (first["version"], first["credits_per_usd"], first["markup"], first["multipliers"]) == (1, "100", "1", {})
    said = {
        "credits_per_usd": "50.5", "markup": "1.25", "own_key_share": "0.05", "cache_hit_share": "0",
        "multipliers": {"fast": "0.5", "premium": "3"}, "note": "spring",
    }  # fmt: skip
    row = await added(client, "/rate-cards", said)
    assert row == said | {"version": 2, "effective_from": row["effective_from"]}
    assert await listed(client, "/rate-cards") == {"in_force": 2, "items": [row, first]}


async def test_what_a_rate_card_does_not_say_is_as_usual(client: Api) -> None:
    row = await added(client, "/rate-cards", {"credits_per_usd": "10"})
    usual = {"markup": "1", "own_key_share": "0", "cache_hit_share": "0.1", "multipliers": {}, "note": ""}
    assert usual.items() <= row.items()


async def test_a_call_is_charged_by_the_rate_card_that_was_in_force_when_it_was_reserved(client: Api) -> None:
    key = await tenant(client)
    first = await reserve(client, key)
    await added(client, "/rate-cards", {"credits_per_usd": "100", "markup": "1.2"})
    second = await reserve(client, key)
    assert (first["amount"], second["amount"]) == ("0.065", "0.078")
    assert await settle(client, key, first["id"]) == "0.065"
    assert await settle(client, key, second["id"]) == "0.078"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "credits_per_usd"),
        ({"credits_per_usd": "0"}, "credits_per_usd"),
        ({"credits_per_usd": "100000.1"}, "credits_per_usd"),
        ({"credits_per_usd": "1", "markup": "0"}, "markup"),
        ({"credits_per_usd": "1", "markup": "10.1"}, "markup"),
        ({"credits_per_usd": "1", "markup": 2}, "markup"),
        ({"credits_per_usd": "1", "own_key_share": "1.001"}, "own_key_share"),
        ({"credits_per_usd": "1", "cache_hit_share": "-0.1"}, "cache_hit_share"),
        ({"credits_per_usd": "1", "multipliers": {"no-such": "1"}}, "multipliers"),
        ({"credits_per_usd": "1", "multipliers": {"fast": "0"}}, "multipliers.fast"),
        ({"credits_per_usd": "1", "multipliers": {"fast": "100.001"}}, "multipliers.fast"),
    ],
)
async def test_what_is_no_rate_card_is_refused_by_the_field(client: Api, body: dict[str, Any], field: str) -> None:
    assert refused(await client.order("POST", "/rate-cards", body)) == (400, "invalid_request", [field])
    assert len((await listed(client, "/rate-cards"))["items"]) == 1


# ------------------------------------------------------------------------------------------------------------ who, when


async def test_every_order_is_in_the_audit_log_with_what_was_said(client: Api) -> None:
    row = await added(client, PRICES, DEARER | {"note": "new list"})
    await listed(client, PRICES)
    card = await added(client, "/rate-cards", {"credits_per_usd": "10", "multipliers": {"fast": "2"}})
    await listed(client, "/rate-cards")
    async with await psycopg.AsyncConnection.connect(client.database_url) as connection:
        cursor = await connection.execute(
            """SELECT action, object_type, object_id, details, actor LIKE 'key:%%' FROM audit
               WHERE action LIKE 'price.%%' OR action LIKE 'rate_card.%%' ORDER BY seq"""
        )
        found = await cursor.fetchall()
    assert found == [
        ("price.added", "model", "sandbox", {
            "version": 2, "effective_from": row["effective_from"].replace("Z", "+00:00"), "free": False,
            "input_nanos_per_million": 5_000_000_000, "cached_input_nanos_per_million": 5_000_000_000,
            "output_nanos_per_million": 15_000_000_000, "request_nanos": 0, "reasoning_nanos_per_million": None,
            "cache_write_nanos_per_million": None, "note": "new list", "source": "operator",
        }, True),
        ("price.read", "model", "sandbox", {}, True),
        ("rate_card.added", "rate_card", "2", {
            "version": 2, "effective_from": card["effective_from"].replace("Z", "+00:00"),
            "micros_per_usd": 10_000_000, "markup_permille": 1_000, "own_key_permille": 0, "cache_hit_permille": 100,
            "multipliers": {"fast": 2_000}, "note": "",
        }, True),
        ("rate_card.read", "rate_card", "all", {}, True),
    ]  # fmt: skip


async def test_nobody_but_operators_sees_or_adds_prices(client: Api) -> None:
    key = await tenant(client)
    for method, path, body in (
        ("GET", PRICES, None),
        ("POST", PRICES, DEARER),
        ("GET", "/rate-cards", None),
        ("POST", "/rate-cards", {"credits_per_usd": "1"}),
    ):
        assert refused(await client.call(method, "/api/operator" + path, body, key=key))[:2] == (403, "forbidden")
        assert (await client.call(method, "/api/operator" + path, body)).status == 401
