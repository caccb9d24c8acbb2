"""An organisation's own limits as operators set, change and end them, and that they bind from the next call on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
import pytest_asyncio

from tests.api.conftest import Api, Reply, serve
from tests.conftest import Cluster, SeededTemplate
from tollhouse.core.key import end_user_id
from tollhouse.flows.limit import LIMITS_MAX

pytestmark = pytest.mark.asyncio(loop_scope="module")

CALL = {"model": "sandbox", "input_tokens": 1_000, "max_output_tokens": 100}
RULE: dict[str, Any] = {"scope": "organization", "meter": "messages", "period": "day", "maximum": 2}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(cluster: Cluster, seeded_template: SeededTemplate) -> AsyncIterator[Api]:
    """One server for all; in the end its ledger and its audit log must prove."""
    with cluster.database(seeded_template.name) as url:
        async for running in serve(url, seeded_template.operator_key, "test"):
            yield running
            assert await running.unproven() == []


async def order(
    client: Api, method: str, organization_id: str, path: str = "", body: object = None, **headers: str
) -> Reply:
    return await client.order(method, f"/organizations/{organization_id}/limits{path}", body, **headers)


async def made(client: Api, organization_id: str, **changes: Any) -> Any:
    reply = await order(client, "POST", organization_id, "", RULE | changes)
    assert reply.status == 201, reply.text
    return reply.body


async def listed(client: Api, organization_id: str) -> list[Any]:
    reply = await order(client, "GET", organization_id)
    assert reply.status == 200, reply.text
    items: list[Any] = reply.body["items"]
    return items


async def reserve(client: Api, key: str, **body: Any) -> Reply:
    return await client.call("POST", "/api/credits/reservations", CALL | body, key=key, Idempotency_Key=str(uuid4()))


async def tenant(client: Api, *scopes: str) -> tuple[str, str]:
    organization_id = await client.organization("pro")
    return organization_id, await client.key(organization_id, *(scopes or ("credits", "act_as")))


async def key_id(client: Api, organization_id: str) -> str:
    """Of the newest key."""
    reply = await client.order("GET", f"/organizations/{organization_id}/keys")
    return str(reply.body["items"][0]["id"])


async def audited(client: Api, organization_id: str) -> list[tuple[str, str, dict[str, Any]]]:
    """Action, object and details of what was done about limits, in order."""
    async with await psycopg.AsyncConnection.connect(client.database_url) as connection:
        cursor = await connection.execute(
            """SELECT action, object_id, details FROM audit
               WHERE organization_id = %s AND action LIKE 'limit.%%' ORDER BY seq""",
            (organization_id,),
        )
        return [(row[0], row[1], row[2]) for row in await cursor.fetchall()]


def problem(reply: Reply) -> tuple[int, str]:
    assert reply.headers["content-type"] == "application/problem+json", reply.text
    return reply.status, reply.body["code"]


# -------------------------------------------------------------------------------------------------- set, change, end


async def test_a_limit_is_set_told_changed_and_ended(client: Api) -> None:
    organization_id, _ = await tenant(client)
    assert await listed(client, organization_id) == []
    rule = await made(client, organization_id, model="sandbox")
    assert abs(datetime.fromisoformat(rule["created_at"]) - datetime.now(UTC)) < timedelta(minutes=1)
    assert rule == RULE | {
        "id": rule["id"], "subject": None, "model": "sandbox", "created_at": rule["created_at"], "ended_at": None,
    }  # fmt: skip
    assert await listed(client, organization_id) == [rule]
    changed = await order(client, "PATCH", organization_id, f"/{rule['id']}", {"maximum": 7})
    assert (changed.status, changed.body) == (200, rule | {"maximum": 7})
    assert await listed(client, organization_id) == [rule | {"maximum": 7}]
    ended = await order(client, "DELETE", organization_id, f"/{rule['id']}")
    assert ended.status == 200
    assert ended.body == rule | {"maximum": 7, "ended_at": ended.body["ended_at"]}
    again = await order(client, "DELETE", organization_id, f"/{rule['id']}")
    assert (again.status, again.body) == (200, ended.body)  # the first end counts
    assert await listed(client, organization_id) == []
    assert problem(await order(client, "PATCH", organization_id, f"/{rule['id']}", {"maximum": 9})) == (409, "conflict")


async def test_limits_are_told_oldest_first_with_their_subjects_as_they_were_named(client: Api) -> None:
    organization_id, _ = await tenant(client)
    of_key = await key_id(client, organization_id)
    rules = [
        await made(client, organization_id, scope="person", subject="ada"),
        await made(client, organization_id, scope="person"),
        await made(client, organization_id, scope="key", subject=of_key, period="minute"),
        await made(client, organization_id, meter="tokens", period="lifetime", maximum=0),
    ]
    assert [rule["subject"] for rule in rules] == ["ada", None, of_key, None]
    assert await listed(client, organization_id) == rules


async def test_every_order_about_limits_is_in_the_audit_log(client: Api) -> None:
    organization_id, _ = await tenant(client)
    rule = await made(client, organization_id, scope="person", subject="ada")
    await order(client, "PATCH", organization_id, f"/{rule['id']}", {"maximum": 7})
    await listed(client, organization_id)
    await order(client, "DELETE", organization_id, f"/{rule['id']}")
    ada = str(end_user_id(UUID(organization_id), "ada"))  # never the name: what is in the audit log stays there
    about = {"scope": "person", "subject": ada, "model": None, "meter": "messages", "period": "day", "maximum": 2}
    assert await audited(client, organization_id) == [
        ("limit.created", rule["id"], about),
        ("limit.changed", rule["id"], {"from": 2, "to": 7}),
        ("limit.read", organization_id, {}),
        ("limit.ended", rule["id"], {"maximum": 7}),
    ]


async def test_a_limit_that_is_set_twice_with_one_key_is_one(client: Api) -> None:
    organization_id, _ = await tenant(client)
    once = str(uuid4())
    replies = await asyncio.gather(
        *(order(client, "POST", organization_id, "", RULE, Idempotency_Key=once) for _ in range(5))
    )
    assert {reply.status for reply in replies} == {201}
    assert len({reply.body["id"] for reply in replies}) == 1
    assert sum("idempotent-replayed" not in reply.headers for reply in replies) == 1
    other = await order(client, "POST", organization_id, "", RULE | {"maximum": 3}, Idempotency_Key=once)
    assert problem(other) == (422, "idempotency_mismatch")
    assert len(await listed(client, organization_id)) == 1


async def test_of_many_that_set_the_same_limit_at_once_one_does(client: Api) -> None:
    organization_id, _ = await tenant(client)
    replies = await asyncio.gather(
        *(order(client, "POST", organization_id, "", RULE | {"maximum": n}) for n in range(5))
    )
    assert sorted(reply.status for reply in replies) == [201, 409, 409, 409, 409]


# ----------------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"scope": "everybody"}, "scope"),
        ({"meter": "requests"}, "meter"),
        ({"period": "year"}, "period"),
        ({"maximum": -1}, "maximum"),
        ({"maximum": "5"}, "maximum"),
        ({"maximum": 10**16}, "maximum"),
        ({"maximum": None}, "maximum"),
        ({"model": "none"}, "model"),
        ({"subject": "ada"}, "subject"),
        ({"scope": "person", "subject": ""}, "subject"),
        ({"scope": "person", "subject": "{key}"}, "subject"),
        ({"scope": "key", "subject": "ada"}, "subject"),
        ({"scope": "key", "subject": str(UUID(int=404))}, "subject"),
        ({"scope": "key", "subject": "{another tenant's key}"}, "subject"),
        ({"per": "day"}, "per"),
    ],
    ids=str,
)
async def test_a_limit_that_can_bind_nobody_is_refused_by_the_name_of_the_field(
    client: Api, changes: dict[str, Any], field: str
) -> None:
    (hers, _), (his, _) = await tenant(client), await tenant(client)
    real = {"{key}": await key_id(client, hers), "{another tenant's key}": await key_id(client, his)}
    body = {name: real.get(value, value) for name, value in (RULE | changes).items()}
    reply = await order(client, "POST", hers, "", body)
    assert problem(reply) == (400, "invalid_request")
    assert [(one["location"], one["field"]) for one in reply.body["errors"]] == [("body", field)]
    assert await listed(client, hers) == []


async def test_the_same_limit_twice_is_refused_with_the_one_there_is(client: Api) -> None:
    organization_id, _ = await tenant(client)
    rule = await made(client, organization_id, scope="person", subject="ada")
    reply = await order(
        client, "POST", organization_id, "", RULE | {"scope": "person", "subject": "ada", "maximum": 50}
    )
    assert problem(reply) == (409, "conflict")
    assert reply.body["detail"] == f"The limit {rule['id']} is about the same already, with a maximum of 2. Change it."
    for other in ({"subject": "bob"}, {"period": "week"}, {"meter": "tokens"}, {"model": "sandbox"}):
        await made(client, organization_id, **{"scope": "person", "subject": "ada"} | other)
    await order(client, "DELETE", organization_id, f"/{rule['id']}")
    await made(client, organization_id, scope="person", subject="ada", maximum=50)


async def test_there_is_an_end_to_how_many_limits_an_organisation_has(client: Api) -> None:
    organization_id, _ = await tenant(client)
    async with await psycopg.AsyncConnection.connect(client.database_url) as connection:
        await connection.execute(
            """INSERT INTO usage_limit (organization_id, id, scope, subject_id, meter, period, maximum, created_at)
               SELECT %s, gen_random_uuid(), 'person', gen_random_uuid(), 'messages', 'day', 1, now()
               FROM generate_series(1, %s)""",
            (organization_id, LIMITS_MAX),
        )
    reply = await order(client, "POST", organization_id, "", RULE)
    assert problem(reply) == (409, "conflict")
    assert f"{LIMITS_MAX} limits already" in reply.body["detail"]


async def test_nobody_but_an_operator_touches_limits_and_none_of_another_organisation(client: Api) -> None:
    organization_id, key = await tenant(client, "credits", "manage", "gateway")
    another, _ = await tenant(client)
    rule = await made(client, organization_id)
    calls = [("GET", "", None), ("POST", "", RULE), ("PATCH", f"/{rule['id']}", {"maximum": 9}),
             ("DELETE", f"/{rule['id']}", None)]  # fmt: skip
    for method, path, body in calls:
        full = f"/api/operator/organizations/{organization_id}/limits{path}"
        assert problem(await client.call(method, full, body, key=key)) == (403, "forbidden")
        assert problem(await client.call(method, full, body)) == (401, "invalid_api_key")
        assert problem(await order(client, method, str(uuid4()), path, body)) == (404, "not_found")
        if path:
            for id_, of in ((rule["id"], another), (str(uuid4()), organization_id), ("17", organization_id)):
                assert problem(await order(client, method, of, f"/{id_}", body)) == (404, "not_found")
    assert await listed(client, organization_id) == [rule]


# ---------------------------------------------------------------------------------------------------- that they bind


async def test_a_limit_binds_from_the_next_call_on_and_is_exact(client: Api) -> None:
    organization_id, key = await tenant(client)
    assert (await reserve(client, key)).status == 201  # before the rule: it does not count
    await made(client, organization_id)
    replies = await asyncio.gather(*(reserve(client, key) for _ in range(10)))
    assert sorted(reply.status for reply in replies) == [201, 201] + [429] * 8
    refused = next(reply for reply in replies if reply.status == 429)
    assert (refused.body["scope"], refused.body["meter"], refused.body["limit"]) == ("organization", "messages", 2)
    assert refused.headers["x-should-retry"] == "false"


async def test_a_maximum_that_is_changed_goes_on_with_what_was_counted(client: Api) -> None:
    organization_id, key = await tenant(client)
    rule = await made(client, organization_id, maximum=3)
    for _ in range(3):
        reply = await reserve(client, key)
        path = f"/api/credits/reservations/{reply.body['id']}/settle"
        assert (await client.call("POST", path, {"credits": "1"}, key=key)).status == 200
    assert (await reserve(client, key)).status == 429
    await order(client, "PATCH", organization_id, f"/{rule['id']}", {"maximum": 4})
    assert [(await reserve(client, key)).status for _ in range(2)] == [201, 429]
    await order(client, "PATCH", organization_id, f"/{rule['id']}", {"maximum": 1})  # below what was used
    refused = await reserve(client, key)
    assert (refused.status, refused.body["limit"], refused.body["used"], refused.body["remaining"]) == (429, 1, 3, 0)
    assert await client.unproven() == []
    await order(client, "DELETE", organization_id, f"/{rule['id']}")
    assert (await reserve(client, key)).status == 201
    await made(client, organization_id, maximum=1)  # a new limit counts anew
    assert [(await reserve(client, key)).status for _ in range(2)] == [201, 429]


async def test_a_person_may_be_limited_before_the_first_call(client: Api) -> None:
    organization_id, key = await tenant(client)
    await made(client, organization_id, scope="person", subject="ada", maximum=1)
    found = [(await reserve(client, key, user=user)).status for user in ("ada", "ada", "bob", "bob")]
    assert found == [201, 429, 201, 201]


async def test_each_person_and_each_key_has_a_count_of_their_own(client: Api) -> None:
    organization_id, key = await tenant(client)
    other_key = await client.key(organization_id, "credits", "act_as")
    rule = await made(client, organization_id, scope="person", maximum=1)
    found = [(await reserve(client, key, user=user)).status for user in ("ada", "ada", "bob", "bob")]
    assert found == [201, 429, 201, 429]
    assert (await reserve(client, key)).status == 201  # on nobody's behalf
    await order(client, "DELETE", organization_id, f"/{rule['id']}")
    await made(client, organization_id, scope="key", maximum=1)
    assert [(await reserve(client, one)).status for one in (key, key, other_key, other_key)] == [201, 429, 201, 429]


async def test_a_limit_of_one_key_leaves_the_others_alone(client: Api) -> None:
    organization_id, key = await tenant(client)
    limited = await client.key(organization_id, "credits")
    await made(client, organization_id, scope="key", subject=await key_id(client, organization_id), maximum=0)
    assert [(await reserve(client, one)).status for one in (limited, key)] == [429, 201]


async def test_calls_of_a_minute_are_limited_in_any_sixty_seconds_and_tokens_by_the_clock(client: Api) -> None:
    organization_id, key = await tenant(client)
    await made(client, organization_id, period="minute", maximum=1)
    assert (await reserve(client, key)).status == 201
    refused = await reserve(client, key)
    assert (refused.status, refused.body["meter"], refused.body["period"]) == (429, "requests", "minute")
    assert 1 <= int(refused.headers["retry-after"]) <= 60 and "x-should-retry" not in refused.headers
    organization_id, key = await tenant(client)
    await made(client, organization_id, meter="tokens", period="minute", maximum=1_099)
    refused = await reserve(client, key)
    assert (problem(refused), refused.body["period"]) == ((429, "quota_exceeded"), "minute")
    assert datetime.fromisoformat(refused.body["resets_at"]).second == 0
    assert 1 <= int(refused.headers["retry-after"]) <= 60


async def test_a_limit_about_a_model_leaves_other_models_and_uses_of_capabilities_alone(client: Api) -> None:
    organization_id, key = await tenant(client)
    await made(client, organization_id, model="gpt-4o-mini", maximum=0)
    use = {"capability": "question_generation"}  # answered by the same model
    reply = await client.call("POST", "/api/credits/reservations", use, key=key, Idempotency_Key=str(uuid4()))
    assert (reply.status, reply.body["model"]) == (201, "gpt-4o-mini")
    assert [(await reserve(client, key, model=model)).status for model in ("gpt-4o-mini", "sandbox")] == [429, 201]


async def test_a_limit_lives_by_the_organisations_own_time(client: Api) -> None:
    organization_id, key = await tenant(client)
    path = f"/organizations/{organization_id}/clock"
    ahead = (datetime.now(UTC) + timedelta(days=40)).isoformat()
    assert (await client.order("POST", path, {"now": ahead})).status == 200
    rule = await made(client, organization_id, maximum=1)
    assert abs(datetime.fromisoformat(rule["created_at"]) - datetime.fromisoformat(ahead)) < timedelta(minutes=1)
    assert [(await reserve(client, key)).status for _ in range(2)] == [201, 429]
    later = (datetime.now(UTC) + timedelta(days=41)).isoformat()
    assert (await client.order("POST", path, {"now": later})).status == 200
    assert [(await reserve(client, key)).status for _ in range(2)] == [201, 429]
