"""What operators do over HTTP, and that nobody else does."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from tests.api.conftest import Api, Reply
from tollhouse.core.ask import Ask, CallWant, Size
from tollhouse.core.key import looks_like_a_key
from tollhouse.flows.operation import Admit

GRANT = {"source": "promo", "credits": "5", "note": "for the fair"}


def count(client: Api, statement: str) -> int:
    with psycopg.connect(client.database_url) as connection:
        row = connection.execute(statement.encode()).fetchone()
    assert row is not None
    return int(row[0])


def seen(reply: Reply) -> tuple[int, dict[str, Any]]:
    """An answer without what differs from call to call."""
    return reply.status, {name: value for name, value in reply.body.items() if name != "request_id"}


CALLS: list[tuple[str, str, dict[str, Any] | None]] = [
    ("POST", "/organizations", {"name": "Mill", "plan": "free"}),
    ("GET", "/organizations/{id}", None),
    ("POST", "/organizations/{id}/keys", {"name": "a", "scopes": ["gateway"], "mode": "test"}),
    ("GET", "/organizations/{id}/keys", None),
    ("DELETE", "/organizations/{id}/keys/{id}", None),
    ("POST", "/organizations/{id}/grants", GRANT),
    ("POST", "/organizations/{id}/plan", {"plan": "pro"}),
    ("PUT", "/organizations/{id}/overdraft", {"credits": "5"}),
    ("POST", "/organizations/{id}/clock", {"now": "2099-01-01T00:00:00Z"}),
    (
        "POST",
        "/entitlements",
        {"organization_id": "{id}", "model_id": "gpt-4o", "source": "trial", "note": "a present"},
    ),
    ("GET", "/ledger/proof", None),
]


async def test_every_operator_call_refuses_a_tenants_key_whatever_its_scopes(
    client: Api, subtests: pytest.Subtests
) -> None:
    organization_id = await client.organization()
    key = await client.key(organization_id, "gateway", "credits", "manage", "act_as")
    before = count(client, "SELECT count(*) FROM audit")
    for method, path, body in CALLS:
        with subtests.test(call=f"{method} {path}"):
            path = "/api/operator" + path.replace("{id}", organization_id)
            assert (await client.call(method, path, body, key=key, Idempotency_Key="k1")).status == 403
            assert (await client.call(method, path, body, Idempotency_Key="k1")).status == 401
    assert count(client, "SELECT count(*) FROM audit") == before


async def test_an_organisation_that_never_was_is_not_found_and_nor_is_what_is_no_id(
    client: Api, subtests: pytest.Subtests
) -> None:
    for method, path, body in CALLS:
        if "{id}" not in path:
            continue
        with subtests.test(call=f"{method} {path}"):
            replies = [
                await client.order(method, path.replace("{id}", id_), body, Idempotency_Key="k1")
                for id_ in (str(uuid4()), "17", "%00", "x" * 500)
            ]
            assert [reply.status for reply in replies] == [404] * 4
            assert seen(replies[1]) == seen(replies[2]) == seen(replies[3])


async def test_every_operator_call_writes_an_audit_row(client: Api, subtests: pytest.Subtests) -> None:
    organization_id = await client.organization()
    body = {"name": "a", "scopes": ["gateway"], "mode": "test"}
    key_id = (await client.order("POST", f"/organizations/{organization_id}/keys", body)).body["id"]
    for method, path, about in CALLS:
        with subtests.test(call=f"{method} {path}"):
            before = count(client, "SELECT count(*) FROM audit")
            path = path.replace("keys/{id}", f"keys/{key_id}").replace("{id}", organization_id)
            named = {"organization_id": organization_id} if about and "organization_id" in about else {}
            reply = await client.order(method, path, {**about, **named} if about else None, Idempotency_Key="k1")
            assert reply.status in (200, 201), reply.text
            assert count(client, "SELECT count(*) FROM audit") == before + 1


async def test_an_organisation_is_made_and_found_again(client: Api) -> None:
    anchor = "2026-01-31T13:00:00+01:00"
    body = {"name": " Mill ", "plan": "team", "business_type": "school", "period_anchor": anchor}
    made = await client.order("POST", "/organizations", body | {"owner_email": "Ada@Example.com"})
    assert made.status == 201
    assert (made.body["name"], made.body["plan"], made.body["business_type"]) == ("Mill", "team", "school")
    assert made.body["period_anchor"] == "2026-01-31T12:00:00Z"
    assert made.body["balance"]["available"] == "2050"
    found = await client.order("GET", f"/organizations/{made.body['id']}")
    assert found.status == 200
    assert {**found.body, "now": None} == {**made.body, "now": None}
    assert count(client, "SELECT count(*) FROM person WHERE email = 'ada@example.com'") == 1


async def test_an_organisation_made_again_with_the_same_key_is_the_same(client: Api) -> None:
    replies = await asyncio.gather(
        *[
            client.order("POST", "/organizations", {"name": "Mill", "plan": "pro"}, Idempotency_Key="k1")
            for _ in range(4)
        ]
    )
    assert {reply.status for reply in replies} == {201}
    assert len({reply.text for reply in replies}) == 1
    assert sorted("idempotent-replayed" in reply.headers for reply in replies) == [False, True, True, True]


async def test_a_key_is_shown_once_works_at_once_and_no_more_when_it_is_revoked(client: Api) -> None:
    organization_id = await client.organization()
    body = {"name": "laptop", "scopes": ["credits", "gateway", "credits"], "mode": "live"}
    made = await client.order("POST", f"/organizations/{organization_id}/keys", body)
    key = made.body["key"]
    assert looks_like_a_key(key) and key.startswith("th_live_" + made.body["start"][8:])
    assert made.headers["cache-control"] == "no-store"
    assert made.body["scopes"] == ["gateway", "credits"]
    assert (await client.call("GET", "/api/credits/balance", key=key)).status == 200
    listed = await client.order("GET", f"/organizations/{organization_id}/keys")
    assert [item["id"] for item in listed.body["items"]] == [made.body["id"]]
    assert key not in listed.text
    revoked = await client.order("DELETE", f"/organizations/{organization_id}/keys/{made.body['id']}")
    assert revoked.body["revoked_at"] is not None
    assert (await client.call("GET", "/api/credits/balance", key=key)).status == 401
    assert (await client.order("GET", f"/organizations/{organization_id}/keys")).body == {"items": []}


async def test_a_key_of_another_organisation_is_not_found(client: Api) -> None:
    first, second = await client.organization(), await client.organization()
    await client.key(first)
    listed = (await client.order("GET", f"/organizations/{first}/keys")).body["items"]
    of_another = await client.order("DELETE", f"/organizations/{second}/keys/{listed[0]['id']}")
    never_was = await client.order("DELETE", f"/organizations/{second}/keys/{uuid4()}")
    assert seen(of_another) == seen(never_was)
    assert of_another.status == 404


NO_KEYS: list[tuple[dict[str, Any], str]] = [
    ({"scopes": []}, "scopes"),
    ({"scopes": ["everything"]}, "scopes.0"),
    ({"scopes": "gateway"}, "scopes"),
    ({"scopes": ["operator"]}, "scopes"),
    ({"mode": "prod"}, "mode"),
    ({"name": "  "}, "name"),
    ({"name": "x" * 201}, "name"),
    ({"expires_at": "2020-01-01T00:00:00Z"}, "expires_at"),
]


async def test_a_key_that_may_not_be_made_is_refused_by_the_field(client: Api, subtests: pytest.Subtests) -> None:
    organization_id = await client.organization()
    for change, field in NO_KEYS:
        with subtests.test(change=change):
            body = {"name": "a", "scopes": ["gateway"], "mode": "test"} | change
            reply = await client.order("POST", f"/organizations/{organization_id}/keys", body)
            assert reply.status == 400
            assert [item["field"] for item in reply.body["errors"]] == [field]


async def test_a_grant_sent_eight_times_at_once_is_booked_once_and_answered_the_same(client: Api) -> None:
    organization_id = await client.organization()
    replies = await asyncio.gather(*[client.grant(organization_id, "5", "k1") for _ in range(8)])
    assert {reply.status for reply in replies} == {201}
    assert len({reply.text for reply in replies}) == 1
    assert ["idempotent-replayed" in reply.headers for reply in replies].count(False) == 1
    assert replies[0].body["available"] == "25"
    later = await client.grant(organization_id, "5.000000", "k1")
    assert later.text == replies[0].text
    assert (await client.balance(await client.key(organization_id)))["available"] == "25"


async def test_a_grant_with_the_same_key_and_another_body_is_a_mismatch(client: Api) -> None:
    organization_id = await client.organization()
    assert (await client.grant(organization_id, "5", "k1")).status == 201
    other = await client.grant(organization_id, "6", "k1")
    assert (other.status, other.body["code"]) == (422, "idempotency_mismatch")
    assert (await client.balance(await client.key(organization_id)))["available"] == "25"


async def test_a_grant_needs_a_key_by_which_it_can_be_recognised(client: Api) -> None:
    path = f"/organizations/{await client.organization()}/grants"
    for headers in ({}, *({"Idempotency_Key": key} for key in ("", "x" * 256, "caf\xe9"))):
        reply = await client.order("POST", path, GRANT, **headers)
        assert reply.status == 400
        assert [(item["location"], item["field"]) for item in reply.body["errors"]] == [("header", "Idempotency-Key")]
    assert count(client, "SELECT count(*) FROM credit_grant WHERE source = 'promo'") == 0


async def test_a_grant_has_the_defaults_of_its_source(client: Api) -> None:
    organization_id = await client.organization()
    topup = (await client.grant(organization_id, "1", "k1", source="topup")).body
    gift = (await client.grant(organization_id, "1", "k2", source="topup", paid=False, priority=5)).body
    assert (topup["priority"], topup["paid"], topup["expires_at"]) == (30, True, None)
    assert (gift["priority"], gift["paid"]) == (5, False)
    grants = (await client.balance(await client.key(organization_id)))["grants"]
    assert [one["source"] for one in grants] == ["topup", "plan", "welcome", "topup"]


NO_GRANTS: list[tuple[dict[str, Any], str]] = [
    ({"source": "gift"}, "source"),
    ({"priority": 101}, "priority"),
    ({"priority": "5"}, "priority"),
    ({"priority": True}, "priority"),
    ({"paid": "yes"}, "paid"),
    ({"note": ""}, "note"),
    ({"expires_at": "2020-01-01T00:00:00Z"}, "expires_at"),
    ({"amount": "5"}, "amount"),
]


async def test_a_grant_that_may_not_be_given_is_refused_by_the_field(client: Api, subtests: pytest.Subtests) -> None:
    organization_id = await client.organization()
    for number, (change, field) in enumerate(NO_GRANTS):
        with subtests.test(change=change):
            reply = await client.grant(organization_id, "5", f"k{number}", **change)
            assert reply.status == 400
            assert [item["field"] for item in reply.body["errors"]] == [field]


async def test_an_upgrade_counts_at_once_and_a_downgrade_from_the_periods_end(client: Api) -> None:
    organization_id = await client.organization("pro")
    up = (await client.order("POST", f"/organizations/{organization_id}/plan", {"plan": "team"})).body
    assert (up["plan"], up["pending_plan"], up["balance"]["available"]) == ("team", None, "2075")
    down = (await client.order("POST", f"/organizations/{organization_id}/plan", {"plan": "free"})).body
    assert (down["plan"], down["pending_plan"], down["balance"]["available"]) == ("team", "free", "2075")


async def test_an_overdraft_is_set_as_often_as_one_likes(client: Api) -> None:
    organization_id = await client.organization()
    for credits, spendable in (("5", "25"), ("5", "25"), ("0", "20")):
        reply = await client.order("PUT", f"/organizations/{organization_id}/overdraft", {"credits": credits})
        assert (reply.status, reply.body["balance"]["spendable"]) == (200, spendable)


async def test_an_entitlement_names_whom_it_is_for(client: Api) -> None:
    organization_id = await client.organization()
    body = {"organization_id": organization_id, "model_id": "gpt-4o", "source": "admin_grant", "note": "a present"}
    of_all = await client.order("POST", "/entitlements", body)
    assert (of_all.status, of_all.body["subject_id"]) == (201, None)
    of_one = await client.order("POST", "/entitlements", body | {"user": "customer-17"}, Idempotency_Key="k1")
    again = await client.order("POST", "/entitlements", body | {"user": "customer-17"}, Idempotency_Key="k1")
    assert of_one.body["subject_id"] is not None
    assert (again.text, again.headers["idempotent-replayed"]) == (of_one.text, "true")
    assert count(client, "SELECT count(*) FROM entitlement") == 2
    nobody = await client.order("POST", "/entitlements", body | {"organization_id": None})
    assert (nobody.status, nobody.body["errors"][0]["field"]) == (400, "organization_id")
    bought = await client.order("POST", "/entitlements", body | {"source": "purchase"})
    assert (bought.status, bought.body["errors"][0]["field"]) == (400, "source")


async def test_a_moved_clock_answers_when_everything_due_is_done(client: Api) -> None:
    organization_id = await client.organization("pro")
    id_ = UUID(organization_id)
    key = await client.key(organization_id)
    await client.grant(organization_id, "7", "k1", expires_at=(datetime.now(UTC) + timedelta(days=3)).isoformat())
    for _ in range(3):
        await client.teller.admit(
            Admit(id_, Ask(id_, None, id_, "api", CallWant("sandbox", Size(1000, 500))), "test", False)
        )
    before = await client.balance(key)
    assert Decimal(before["reserved"]) > 0
    reply = await client.order("POST", f"/organizations/{organization_id}/clock", {"now": before["period_end"]})
    assert reply.status == 200
    assert reply.body["now"] == before["period_end"]
    assert reply.body["reaped"] == 3
    assert reply.body["balance"]["period_start"] == before["period_end"]
    assert (reply.body["balance"]["available"], reply.body["balance"]["reserved"]) == ("525", "0")
    assert (await client.balance(key))["available"] == "525"
    assert (await client.order("GET", "/ledger/proof")).body == {"ok": True, "failures": []}


async def test_a_clock_does_not_go_back(client: Api) -> None:
    organization_id = await client.organization()
    reply = await client.order("POST", f"/organizations/{organization_id}/clock", {"now": "2020-01-01T00:00:00Z"})
    assert (reply.status, reply.body["code"]) == (409, "conflict")
    assert "only forward" in reply.body["detail"]


async def test_there_are_no_test_clocks_in_live_mode(live_client: Api) -> None:
    organization_id = await live_client.organization()
    reply = await live_client.order("POST", f"/organizations/{organization_id}/clock", {"now": "2099-01-01T00:00:00Z"})
    assert (reply.status, reply.body["code"]) == (403, "forbidden")


async def test_the_proof_shows_what_does_not_hold(live_client: Api) -> None:
    organization_id = await live_client.organization()
    with psycopg.connect(live_client.database_url) as connection:
        connection.execute(
            "UPDATE credit_balance SET remaining_micros = 1 WHERE organization_id = %s", (organization_id,)
        )
    proof = (await live_client.order("GET", "/ledger/proof")).body
    assert proof["ok"] is False
    assert {failure["number"] for failure in proof["failures"]} == {2}
    assert proof["failures"][0]["rows"][0]["organization_id"] == organization_id
