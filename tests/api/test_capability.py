"""What operators define of capabilities over HTTP, and that it counts from the next call on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import psycopg
import pytest
import pytest_asyncio

from tests.api.conftest import Api, serve
from tests.conftest import Cluster, SeededTemplate

pytestmark = pytest.mark.asyncio(loop_scope="module")

TEXT = {"type": "string", "maxLength": 100}
SCHEMA = {"type": "object", "properties": {"text": TEXT}, "required": ["text"], "additionalProperties": False}
DEFINITION: dict[str, Any] = {
    "name": "Summary",
    "description": "Makes a text short.",
    "estimated_credits": "0.75",
    "instructions": "Make it short.",
    "input_schema": SCHEMA,
    "answer_schema": SCHEMA,
    "max_output_tokens": 200,
}
OFFER: dict[str, Any] = {
    "requests_per_minute": 10,
    "requests_per_day": 100,
    "quality_levels": {"enhanced": ["gpt-4o", "sandbox"], "fast": ["sandbox"]},
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(cluster: Cluster, seeded_template: SeededTemplate) -> AsyncIterator[Api]:
    """One installation for all of these tests; its ledger and its audit log must prove in the end."""
    with cluster.database(seeded_template.name) as url:
        async for running in serve(url, seeded_template.operator_key, "test"):
            yield running
            assert await running.unproven() == []


async def define(client: Api, name: str, **changes: Any) -> None:
    made = await client.order("PUT", f"/capabilities/{name}", DEFINITION | changes)
    assert made.status == 200, made.text


async def offer(client: Api, plan: str, name: str, **changes: Any) -> Any:
    made = await client.order("PUT", f"/plans/{plan}/capabilities/{name}", OFFER | changes)
    assert made.status == 200, made.text
    return made.body


async def audit(client: Api) -> list[tuple[Any, ...]]:
    async with await psycopg.AsyncConnection.connect(client.database_url) as connection:
        cursor = await connection.execute(
            "SELECT action, object_id, details FROM audit WHERE object_type = 'capability' ORDER BY seq"
        )
        return await cursor.fetchall()


async def test_what_is_defined_and_offered_is_found_and_runs_at_once(client: Api) -> None:
    key = await client.key(await client.organization("team"))
    asked = {"input": {"text": "A long story."}}
    assert (await client.call("POST", "/api/capabilities/summary/run", asked, key=key)).status == 404
    await define(client, "summary")
    denied = await client.call("POST", "/api/capabilities/summary/run", asked, key=key)
    assert (denied.status, denied.body["code"]) == (403, "capability_denied")
    offered = await offer(client, "team", "summary")
    assert offered == {"plan": "team", "capability": "summary", "is_enabled": True, **OFFER, "inherited_from": None}
    found = await client.order("GET", "/capabilities/summary")
    assert found.body == {"id": "summary", **DEFINITION, "is_active": True, "offers": [offered]}
    async with await psycopg.AsyncConnection.connect(client.database_url) as connection:
        cursor = await connection.execute(
            """SELECT quality_id, model_id, is_default FROM plan_capability_model
               WHERE capability_id = 'summary' ORDER BY quality_id, priority"""
        )
        models = await cursor.fetchall()
    assert models == [("enhanced", "gpt-4o", True), ("enhanced", "sandbox", False), ("fast", "sandbox", True)]
    listed = (await client.order("GET", "/capabilities")).body["items"]
    assert found.body in listed and listed == sorted(listed, key=lambda one: str(one["id"]))
    run = await client.call("POST", "/api/capabilities/summary/run", asked, key=key)
    assert (run.status, run.body["quality"], run.body["model"]) == (200, "fast", "sandbox"), run.text
    assert run.headers["x-credits-reserved"] == "0.75"
    better = await client.call("POST", "/api/capabilities/summary/run", asked | {"quality": "enhanced"}, key=key)
    assert (better.body["model"], better.headers["x-credits-reserved"]) == ("gpt-4o", "1.5")


async def test_a_definition_and_an_offer_are_replaced_whole_and_count_from_the_next_call_on(client: Api) -> None:
    key = await client.key(await client.organization("team"))
    path, asked = "/api/capabilities/changing/run", {"input": {"text": "x"}}
    await define(client, "changing")
    await offer(client, "team", "changing")
    assert (await client.call("POST", path, asked, key=key)).status == 200
    await define(client, "changing", input_schema={"type": "object", "required": ["more"]})
    wrong = await client.call("POST", path, asked, key=key)
    assert [error["field"] for error in wrong.body["errors"]] == ["input.more"]
    await define(client, "changing", is_active=False)
    assert (await client.call("POST", path, asked, key=key)).status == 404
    await define(client, "changing")
    changed = await offer(client, "team", "changing", quality_levels={"premium": ["sandbox"]}, requests_per_day=None)
    assert (changed["quality_levels"], changed["requests_per_day"]) == ({"premium": ["sandbox"]}, None)
    assert (await client.call("POST", path, asked, key=key)).body["quality"] == "premium"
    denied = await client.call("POST", path, asked | {"quality": "fast"}, key=key)
    assert (denied.status, denied.body["code"]) == (403, "capability_denied")
    await offer(client, "team", "changing", is_enabled=False, quality_levels={})
    assert (await client.call("POST", path, asked, key=key)).status == 403
    bare = await client.order("PUT", "/capabilities/changing", {"name": "Bare", "estimated_credits": "1"})
    assert (bare.body["instructions"], bare.body["input_schema"], bare.body["max_output_tokens"]) == ("", None, 1024)


BAD_DEFINITIONS: list[tuple[str, dict[str, Any], list[str]]] = [
    ("fine", {"name": ""}, ["name"]),
    ("fine", {"estimated_credits": "0"}, ["estimated_credits"]),
    ("fine", {"estimated_credits": 1}, ["estimated_credits"]),
    ("fine", {"max_output_tokens": 0}, ["max_output_tokens"]),
    ("fine", {"instructions": "x" * 20_001}, ["instructions"]),
    ("fine", {"answer_schema": None}, ["answer_schema"]),
    ("fine", {"input_schema": None}, ["input_schema"]),
    ("fine", {"input_schema": [1]}, ["input_schema"]),
    ("fine", {"input_schema": {"type": "array"}}, ["input_schema"]),
    ("fine", {"answer_schema": {"type": "object", "properties": {"a": {"type": "objekt"}}}},
     ["answer_schema.properties.a.type"]),
    ("fine", {"answer_schema": {"type": "object", "$ref": "https://example.com"}}, ["answer_schema"]),
    ("fine", {"colour": "red"}, ["colour"]),
    ("Fine", {}, []),
    ("%00", {}, []),
    ("x" * 65, {}, []),
]  # fmt: skip


async def test_a_definition_that_cannot_be_is_refused_by_the_name_of_the_field(
    client: Api, subtests: pytest.Subtests
) -> None:
    before = await audit(client)
    for name, change, fields in BAD_DEFINITIONS:
        with subtests.test(name=name[:10], change=str(change)[:60]):
            reply = await client.order("PUT", f"/capabilities/{name}", DEFINITION | change)
            assert (reply.status, reply.body["code"]) == (400, "invalid_request"), reply.text
            assert [error["field"] for error in reply.body["errors"]] == fields
    assert await audit(client) == before
    assert (await client.order("GET", "/capabilities/fine")).status == 404


BAD_OFFERS: list[tuple[str, dict[str, Any], list[str]]] = [
    ("gold", {}, ["plan"]),
    ("pro", {"quality_levels": {}}, ["quality_levels"]),
    ("pro", {"quality_levels": {"best": ["sandbox"]}}, ["quality_levels.best"]),
    ("pro", {"quality_levels": {"fast": []}}, ["quality_levels.fast"]),
    ("pro", {"quality_levels": {"fast": ["sandbox", "gpt-9"]}}, ["quality_levels.fast.1"]),
    ("pro", {"quality_levels": {"fast": ["sandbox", "sandbox"]}}, ["quality_levels.fast.1"]),
    ("pro", {"requests_per_minute": 0}, ["requests_per_minute"]),
    ("pro", {"requests_per_day": "5"}, ["requests_per_day"]),
]


async def test_an_offer_that_cannot_be_is_refused_by_the_name_of_the_field(
    client: Api, subtests: pytest.Subtests
) -> None:
    await define(client, "refused")
    before = await audit(client)
    for plan, change, fields in BAD_OFFERS:
        with subtests.test(plan=plan, change=str(change)[:60]):
            reply = await client.order("PUT", f"/plans/{plan}/capabilities/refused", OFFER | change)
            assert (reply.status, reply.body["code"]) == (400, "invalid_request"), reply.text
            assert [error["field"] for error in reply.body["errors"]] == fields
    for name in ("nothing", "%00", "x" * 300):
        for method, body in (("PUT", OFFER), ("DELETE", None)):
            assert (await client.order(method, f"/plans/pro/capabilities/{name}", body)).status == 404
    assert await audit(client) == before
    assert (await client.order("GET", "/capabilities/refused")).body["offers"] == []


async def test_the_first_offer_of_a_plan_that_said_nothing_changes_nothing_else(client: Api) -> None:
    """Basic has what free has, until it says something of its own."""
    key = await client.key(await client.organization("basic"))
    questions = {"product": {"name": "Mill", "description": "Grinds."}}
    assert (await client.call("POST", "/api/ai/suggest-questions", questions, key=key)).status == 200
    await define(client, "first")
    await offer(client, "basic", "first")
    for path, body in (
        ("/api/ai/suggest-questions", questions),
        ("/api/capabilities/first/run", {"input": {"text": "x"}}),
    ):
        assert (await client.call("POST", path, body, key=key)).status == 200
    found = (await client.order("GET", "/capabilities/question_generation")).body["offers"]
    of_plan = {one["plan"]: one for one in found}
    assert of_plan["basic"] == of_plan["free"] | {"plan": "basic"}


async def test_an_offer_that_is_taken_back_leaves_the_others_and_the_last_one_the_lower_plans(client: Api) -> None:
    key = await client.key(await client.organization("enterprise"))
    await define(client, "passing")
    assert (await client.order("DELETE", "/plans/enterprise/capabilities/passing")).status == 404
    await offer(client, "team", "passing")
    await offer(client, "enterprise", "passing", quality_levels={"premium": ["sandbox"]})
    path, asked = "/api/capabilities/passing/run", {"input": {"text": "x"}}
    assert (await client.call("POST", path, asked, key=key)).body["quality"] == "premium"
    gone = await client.order("DELETE", "/plans/enterprise/capabilities/passing")
    assert (gone.status, gone.body["is_enabled"], gone.body["quality_levels"]) == (200, False, {})
    assert (await client.call("POST", path, asked, key=key)).status == 403
    listed = (await client.order("GET", "/capabilities")).body["items"]
    rest = [one["id"] for one in listed if any(row["plan"] == "enterprise" for row in one["offers"])]
    assert "question_generation" in rest
    taken = [await client.order("DELETE", f"/plans/enterprise/capabilities/{name}") for name in rest]
    assert {reply.status for reply in taken} == {200}
    assert taken[-1].body["inherited_from"] == "team" and taken[-1].body["is_enabled"]
    assert (await client.call("POST", path, asked, key=key)).body["quality"] == "fast"


async def test_every_call_writes_an_audit_row_with_what_was_said_and_refuses_who_is_no_operator(client: Api) -> None:
    organization_id = await client.organization()
    key = await client.key(organization_id, "gateway", "credits", "manage", "act_as")
    calls: list[tuple[str, str, Any]] = [
        ("PUT", "/capabilities/audited", DEFINITION),
        ("GET", "/capabilities/audited", None),
        ("GET", "/capabilities", None),
        ("PUT", "/plans/pro/capabilities/audited", OFFER),
        ("DELETE", "/plans/pro/capabilities/audited", None),
    ]
    before = len(await audit(client))
    for method, path, body in calls:
        assert (await client.call(method, "/api/operator" + path, body, key=key)).status == 403
        assert (await client.call(method, "/api/operator" + path, body)).status == 401
    assert len(await audit(client)) == before
    for method, path, body in calls:
        assert (await client.order(method, path, body)).status == 200
    written = (await audit(client))[before:]
    assert [(action, about) for action, about, _ in written] == [
        ("capability.set", "audited"),
        ("capability.read", "audited"),
        ("capability.read", "all"),
        ("offer.set", "audited"),
        ("offer.deleted", "audited"),
    ]
    made, offered = written[0][2], written[3][2]
    assert (made["new"], made["instructions"], made["estimated_credits"]) == (True, "Make it short.", "0.75")
    assert (offered["plan"], offered["quality_levels"]) == ("pro", OFFER["quality_levels"])
