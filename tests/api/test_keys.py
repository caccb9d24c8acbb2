"""Keys as an organisation's admins manage them over HTTP, by session and by key; end users and what they used."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
import pytest_asyncio

from tests.api.conftest import ORIGIN, Api, Reply, serve
from tests.carriers import Carriers, carriers
from tests.conftest import Cluster, SeededTemplate

pytestmark = pytest.mark.asyncio(loop_scope="module")

CALL = {"model": "sandbox", "input_tokens": 1_000, "max_output_tokens": 100}
COST = "0.065"
NOBODY = UUID("0190f3c4-0000-7000-8000-000000000000")  # nothing has this id
BODY: dict[str, Any] = {"name": "laptop", "scopes": ["credits", "act_as"], "mode": "test"}
FIELDS = {
    "id", "name", "start", "scopes", "mode", "models", "credits_per_month", "requests_per_minute", "networks",
    "expires_at", "revoked_at", "created_at", "created_by", "last_used_at", "replaced_by",
}  # fmt: skip


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(cluster: Cluster, seeded_template: SeededTemplate) -> AsyncIterator[Api]:
    """One server for all; in the end its ledger and its audit log must prove."""
    with cluster.database(seeded_template.name) as url:
        async for running in serve(url, seeded_template.operator_key, "test"):
            yield running
            assert await running.unproven() == []


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def people(client: Api) -> AsyncIterator[Carriers]:
    async with carriers(client.database_url, ORIGIN) as made:
        yield made


@dataclass(frozen=True)
class Admin:
    """Somebody who calls for one organisation, with a key or a session."""

    client: Api
    organization_id: str
    headers: dict[str, str]

    async def call(self, method: str, path: str = "", body: object = None) -> Reply:
        return await self.client.call(method, f"/api/keys{path}", body, **self.headers)

    async def make(self, **more: Any) -> Any:
        reply = await self.call("POST", "", BODY | more)
        assert reply.status == 201, reply.text
        assert reply.headers["cache-control"] == "no-store"
        return reply.body

    async def listed(self, query: str = "") -> list[str]:
        reply = await self.call("GET", query)
        assert reply.status == 200, reply.text
        return [one["name"] for one in reply.body["items"]]


async def with_key(client: Api, plan: str = "pro") -> Admin:
    organization_id = await client.organization(plan)
    key = await client.key(organization_id, "manage")
    return Admin(client, organization_id, {"authorization": f"Bearer {key}"})


async def signed_in(client: Api, people: Carriers, role: Any) -> Admin:
    organization_id = await client.organization("pro")
    person_id = await people.member(UUID(organization_id), role)
    cookie = f"{people.site.cookie}={await people.session(person_id, UUID(organization_id))}"
    return Admin(client, organization_id, {"cookie": cookie, "sec_fetch_site": "same-origin"})


async def reserve(client: Api, key: str, **body: Any) -> Reply:
    return await client.call("POST", "/api/credits/reservations", CALL | body, key=key, Idempotency_Key=str(uuid4()))


def problem(reply: Reply) -> tuple[int, str]:
    assert reply.headers["content-type"] == "application/problem+json", reply.text
    return reply.status, reply.body["code"]


# ------------------------------------------------------------------------------------------------------- make and list


async def test_a_key_is_made_told_changed_replaced_and_revoked(client: Api) -> None:
    admin = await with_key(client)
    soon = (datetime.now(UTC) + timedelta(days=30)).isoformat()
    made = await admin.make(models=["sandbox"], credits_per_month="12.5", requests_per_minute=60, expires_at=soon)
    assert set(made) == FIELDS | {"key"}
    assert made["key"].startswith(made["start"]) and made["created_by"].startswith("key:")
    assert (made["models"], made["credits_per_month"], made["requests_per_minute"]) == (["sandbox"], "12.5", 60)
    read = await admin.call("GET", f"/{made['id']}")
    assert (read.status, read.body) == (200, {name: made[name] for name in FIELDS})
    changed = await admin.call("PATCH", f"/{made['id']}", {"name": "desk", "models": None, "credits_per_month": "3"})
    assert changed.body == read.body | {"name": "desk", "models": None, "credits_per_month": "3"}
    new = await admin.call("POST", f"/{made['id']}/rotate", {})
    assert new.status == 201 and new.headers["cache-control"] == "no-store"
    former = (await admin.call("GET", f"/{made['id']}")).body
    assert former["replaced_by"] == new.body["id"] and new.body["credits_per_month"] == "3"
    ends = datetime.fromisoformat(former["expires_at"]) - datetime.now(UTC)
    assert timedelta(hours=23) < ends <= timedelta(days=1)
    revoked = await admin.call("DELETE", f"/{made['id']}")
    assert revoked.body["revoked_at"] is not None
    again = await admin.call("DELETE", f"/{made['id']}")
    assert again.body == revoked.body
    assert await admin.listed() == ["desk", "a key"]
    assert await admin.listed("?all=true") == ["desk", "desk", "a key"]


async def test_the_list_comes_in_pages(client: Api) -> None:
    admin = await with_key(client)
    for number in range(4):
        await admin.make(name=f"key {number}")
    first = (await admin.call("GET", "?limit=3")).body
    assert [one["name"] for one in first["items"]] == ["key 3", "key 2", "key 1"]
    last = (await admin.call("GET", f"?limit=3&cursor={first['next_cursor']}")).body
    assert ([one["name"] for one in last["items"]], last["next_cursor"]) == (["key 0", "a key"], None)
    assert problem(await admin.call("GET", "?cursor=nonsense")) == (400, "invalid_request")
    assert problem(await admin.call("GET", "?sort=name")) == (400, "invalid_request")


@pytest.mark.parametrize(
    "wrong",
    [
        {"models": []}, {"models": ["nonsense"]}, {"models": "sandbox"}, {"scopes": []}, {"scopes": ["root"]},
        {"scopes": ["operator"]}, {"mode": "real"}, {"expires_at": "2020-01-01T00:00:00Z"}, {"credits_per_month": 5},
        {"credits_per_month": "-1"}, {"requests_per_minute": -1}, {"requests_per_minute": "5"}, {"digest": "00"},
        {"organization_id": str(NOBODY)}, {"created_by": "system"}, {"counts_as": str(NOBODY)}, {"name": ""},
    ],
    ids=str,
)  # fmt: skip
async def test_what_no_key_may_be_is_refused_by_its_name(client: Api, wrong: dict[str, Any]) -> None:
    admin = await with_key(client)
    reply = await admin.call("POST", "", BODY | wrong)
    assert problem(reply) == (400, "invalid_request")
    assert next(iter(wrong)) in reply.text
    assert await admin.listed() == ["a key"]


# -------------------------------------------------------------------------------------------------------------- who may


@pytest.mark.parametrize(("role", "allowed"), [("owner", True), ("admin", True), ("member", False)])
async def test_admins_manage_keys_and_members_do_not(client: Api, people: Carriers, role: str, allowed: bool) -> None:
    person = await signed_in(client, people, role)
    if allowed:
        made = await person.make(scopes=["manage"])  # which no key could give
        assert made["created_by"].startswith("person:")
        assert (await person.call("PATCH", f"/{made['id']}", {"name": "x"})).status == 200
        assert problem(await person.call("POST", "", BODY | {"scopes": ["operator"]})) == (400, "invalid_request")
        return
    id_ = uuid4()
    for method, path, body in (("GET", "", None), ("POST", "", BODY), ("GET", f"/{id_}", None),
                               ("PATCH", f"/{id_}", {"name": "x"}), ("POST", f"/{id_}/rotate", {}),
                               ("DELETE", f"/{id_}", None)):  # fmt: skip
        assert problem(await person.call(method, path, body)) == (403, "forbidden")


async def test_a_key_without_manage_and_nobody_manage_no_keys_and_none_of_another_organisation(client: Api) -> None:
    admin, other = await with_key(client), await with_key(client)
    theirs = await other.make()
    weak = Admin(client, admin.organization_id, {"authorization": f"Bearer {(await admin.make())['key']}"})
    nobody = Admin(client, admin.organization_id, {})
    calls: tuple[tuple[str, str, Any], ...] = (
        ("GET", "", None),
        ("PATCH", "", {"name": "x"}),
        ("POST", "/rotate", {}),
        ("DELETE", "", None),
    )
    for method, path, body in calls:
        full = f"/{theirs['id']}{path}"
        assert problem(await weak.call(method, full, body)) == (403, "forbidden")
        assert problem(await nobody.call(method, full, body)) == (401, "invalid_api_key")
        for id_ in (theirs["id"], str(uuid4())):
            assert problem(await admin.call(method, f"/{id_}{path}", body)) == (404, "not_found")
    assert (await other.call("GET", f"/{theirs['id']}")).body["name"] == "laptop"


async def test_a_key_makes_no_key_that_manages_nor_changes_itself(client: Api) -> None:
    admin = await with_key(client)
    (own,) = (await admin.call("GET")).body["items"]
    for reply in (
        await admin.call("POST", "", BODY | {"scopes": ["manage"]}),
        await admin.call("PATCH", f"/{own['id']}", {"name": "x"}),
        await admin.call("POST", f"/{own['id']}/rotate", {}),
    ):
        assert problem(reply) == (403, "forbidden")
        assert "'manage'" in reply.body["detail"]


async def test_a_suspended_organisation_makes_no_keys(client: Api, people: Carriers) -> None:
    admin, person = await with_key(client), await signed_in(client, people, "owner")
    for one in (admin, person):
        await people.change("UPDATE organization SET suspended_at = now() WHERE id = %s", UUID(one.organization_id))
        assert problem(await one.call("POST", "", BODY)) == (403, "forbidden")


# ------------------------------------------------------------------------------------------------------ that it binds


async def test_credits_of_a_key_bind_reservations_of_every_kind_exactly(client: Api) -> None:
    admin = await with_key(client)
    made = await admin.make(credits_per_month="0.3")
    replies = await asyncio.gather(*(reserve(client, made["key"]) for _ in range(12)))
    assert Counter(reply.status for reply in replies) == {201: 4, 429: 8}
    refused = next(reply for reply in replies if reply.status == 429)
    assert problem(refused) == (429, "rate_limit_exceeded")
    assert (refused.body["scope"], refused.body["meter"], refused.body["limit"]) == ("key", "credits", "0.3")
    assert (refused.body["used"], refused.body["remaining"]) == ("0", "0.04")
    assert refused.headers["x-should-retry"] == "false"
    plain = {"credits": "0.05"}
    once = {"Idempotency_Key": str(uuid4())}
    reply = await client.call("POST", "/api/credits/reservations", plain, key=made["key"], **once)
    assert problem(reply) == (429, "rate_limit_exceeded")
    first = next(reply for reply in replies if reply.status == 201).body["id"]
    settled = await client.call(
        "POST", f"/api/credits/reservations/{first}/settle", {"credits": "0.01"}, key=made["key"]
    )
    assert settled.status == 200
    again = await client.call("POST", "/api/credits/reservations", plain, key=made["key"], Idempotency_Key=str(uuid4()))
    assert again.status == 201
    asked = await client.call("POST", "/api/ai/access-check", {"model": "sandbox"}, key=made["key"])
    (limit,) = (one for one in asked.body["limits"] if one["meter"] == "credits")
    assert (limit["limit"], limit["used"], limit["remaining"]) == ("0.3", "0.01", "0.045")
    assert (asked.body["can_proceed"], asked.body["reason"]) == (False, "rate_limit_exceeded")


async def test_the_models_of_a_key_bind_and_the_access_check_says_so(client: Api) -> None:
    admin = await with_key(client)
    made = await admin.make(models=["gpt-4o-mini"])
    assert problem(await reserve(client, made["key"])) == (403, "model_not_allowed")
    assert (await reserve(client, made["key"], model="gpt-4o-mini")).status == 201
    asked = await client.call("POST", "/api/ai/access-check", {"model": "sandbox"}, key=made["key"])
    assert (asked.body["can_proceed"], asked.body["reason"], asked.body["models"]) == (False, "model_not_allowed", [])
    use = {"capability": "question_generation"}
    asked = await client.call("POST", "/api/ai/access-check", use, key=made["key"])
    assert asked.body["can_proceed"] and set(asked.body["models"]) == {"gpt-4o-mini"}


async def test_a_key_works_from_its_networks_alone_from_the_next_call_on(client: Api) -> None:
    admin = await with_key(client)
    bound = await admin.make(networks=[" 198.51.100.7/24", "2001:DB8::1"])
    assert bound["networks"] == ["198.51.100.0/24", "2001:db8::1/128"]

    async def answers() -> list[int]:
        key = bound["key"]
        return [
            (await client.call("GET", "/api/credits/balance", key=key)).status,
            (await client.call("POST", "/api/ai/access-check", {"model": "sandbox"}, key=key)).status,
            (await reserve(client, key)).status,
        ]

    assert await answers() == [403] * 3
    reply = await reserve(client, bound["key"])
    assert "may not be used from 127.0.0.1" in reply.body["detail"]
    changed = await admin.call("PATCH", f"/{bound['id']}", {"networks": ["127.0.0.0/8", "::1"]})
    assert changed.body["networks"] == ["127.0.0.0/8", "::1/128"]
    assert await answers() == [200, 200, 201]
    new = await admin.call("POST", f"/{bound['id']}/rotate", {})
    assert new.body["networks"] == ["127.0.0.0/8", "::1/128"]
    await admin.call("PATCH", f"/{new.body['id']}", {"networks": ["192.0.2.1"]})
    assert (await client.call("GET", "/api/credits/balance", key=new.body["key"])).status == 403
    assert (await admin.call("PATCH", f"/{new.body['id']}", {"networks": None})).body["networks"] is None
    assert (await client.call("GET", "/api/credits/balance", key=new.body["key"])).status == 200


@pytest.mark.parametrize("wrong", ["192.0.2.0/33", "example.com", "", "10.0.0.1-10.0.0.9", "::1/129", "127.1"])
async def test_what_is_no_network_is_refused_by_name(client: Api, wrong: str) -> None:
    admin = await with_key(client)
    reply = await admin.call("POST", "", BODY | {"networks": ["10.0.0.0/8", wrong]})
    assert problem(reply) == (400, "invalid_request")
    assert "networks" in reply.body["errors"][0]["field"]


async def test_what_ran_for_a_key_is_settled_from_its_networks_alone(client: Api) -> None:
    admin = await with_key(client)
    made = await admin.make()
    held = (await reserve(client, made["key"])).body["id"]
    await admin.call("PATCH", f"/{made['id']}", {"networks": ["192.0.2.1"]})
    path = f"/api/credits/reservations/{held}/settle"
    assert (await client.call("POST", path, {"credits": "0.01"}, key=made["key"])).status == 403
    await admin.call("PATCH", f"/{made['id']}", {"networks": ["127.0.0.1"]})
    assert (await client.call("POST", path, {"credits": "0.01"}, key=made["key"])).status == 200


async def test_a_refusal_for_a_models_sake_is_not_kept_for_other_keys(client: Api) -> None:
    """They share their idempotency keys, and not their models."""
    admin = await with_key(client)
    narrow, wide = await admin.make(models=["gpt-4o-mini"]), await admin.make()
    once = str(uuid4())
    for key, status in ((narrow, 403), (wide, 201)):
        reply = await client.call("POST", "/api/credits/reservations", CALL, key=key["key"], Idempotency_Key=once)
        assert reply.status == status


async def test_operators_limit_credits_too_and_send_them_as_strings(client: Api) -> None:
    organization_id = await client.organization("pro")
    key = await client.key(organization_id, "credits")
    path = f"/organizations/{organization_id}/limits"
    wanted = {"scope": "organization", "meter": "credits", "period": "day", "maximum": "0.13"}
    for wrong in ({"maximum": 5}, {"maximum": "-1"}, {"period": "minute"}, {"meter": "tokens"}):
        assert problem(await client.order("POST", path, wanted | wrong)) == (400, "invalid_request")
    made = await client.order("POST", path, wanted)
    assert (made.status, made.body["maximum"]) == (201, "0.13")
    assert [(await reserve(client, key)).status for _ in range(3)] == [201, 201, 429]
    assert problem(await client.order("PATCH", f"{path}/{made.body['id']}", {"maximum": 9})) == (400, "invalid_request")
    changed = await client.order("PATCH", f"{path}/{made.body['id']}", {"maximum": "0.2"})
    assert changed.body["maximum"] == "0.2"
    assert [(await reserve(client, key)).status for _ in range(2)] == [201, 429]
    again = await client.order("POST", path, wanted)
    assert "a maximum of 0.2" in again.body["detail"]


async def test_every_order_about_keys_is_in_the_audit_log_without_the_key(client: Api) -> None:
    admin = await with_key(client)
    made = await admin.make(requests_per_minute=5)
    await admin.call("PATCH", f"/{made['id']}", {"name": "desk"})
    new = (await admin.call("POST", f"/{made['id']}/rotate", {"overlap_seconds": 0})).body
    await admin.call("DELETE", f"/{new['id']}")
    async with await psycopg.AsyncConnection.connect(client.database_url) as connection:
        cursor = await connection.execute(
            "SELECT action, actor, address, details::text FROM audit WHERE organization_id = %s ORDER BY seq",
            (admin.organization_id,),
        )
        found = (await cursor.fetchall())[2:]  # after the organisation and its first key
    assert [row[0] for row in found] == [
        "limit.created", "key.created", "key.changed", "key.rotated", "limit.ended", "key.revoked",
    ]  # fmt: skip
    assert {(row[1].partition(":")[0], row[2]) for row in found} == {("key", "127.0.0.1")}
    assert not any(made["key"] in row[3] or new["key"] in row[3] for row in found)


# -------------------------------------------------------------------------------------------------------------- users


async def test_end_users_are_listed_with_what_they_used(client: Api) -> None:
    admin = await with_key(client)
    key = (await admin.make())["key"]
    for user, settles in (("ada", 2), ("bob", 0), ("zoë: ü", 1)):
        for number in range(max(1, settles)):
            id_ = (await reserve(client, key, user=user)).body["id"]
            if number < settles:
                usage = {"usage": {"input_tokens": 900, "output_tokens": 10}}
                done = await client.call("POST", f"/api/credits/reservations/{id_}/settle", usage, key=key)
                assert done.status == 200, done.text
    one = {"requests": 1, "input_tokens": 900, "output_tokens": 10, "credits": "0.0465"}
    two = {"requests": 2, "input_tokens": 1_800, "output_tokens": 20, "credits": "0.093"}
    none = {"requests": 0, "input_tokens": 0, "output_tokens": 0, "credits": "0"}
    first = await client.call("GET", "/api/users?limit=2", key=key)
    assert [(row["user"], row["today"], row["this_month"]) for row in first.body["items"]] == [
        ("ada", two, two), ("bob", none, none),
    ]  # fmt: skip
    rest = await client.call("GET", f"/api/users?limit=2&cursor={first.body['next_cursor']}", **admin.headers)
    assert [(row["user"], row["this_month"]) for row in rest.body["items"]] == [("zoë: ü", one)]
    assert rest.body["next_cursor"] is None
    other = await with_key(client)
    assert (await client.call("GET", "/api/users", **other.headers)).body["items"] == []
    weak = await admin.make(scopes=["credits"])
    assert problem(await client.call("GET", "/api/users", key=weak["key"])) == (403, "forbidden")
    assert problem(await client.call("GET", "/api/users?cursor=nonsense", key=key)) == (400, "invalid_request")
