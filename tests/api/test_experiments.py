"""Experiments as operators set them up, end them and read what came of them."""

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
from tests.flows.cast import DONE, FAILED, answered
from tollhouse.core.ask import Ask, CallWant, Size
from tollhouse.core.price import Usage
from tollhouse.flows.operation import Admit, Release, Settle

pytestmark = pytest.mark.asyncio(loop_scope="module")
PATH = "/experiments"
ARMS = [{"model": "gpt-4o-mini", "weight": 1}, {"model": "sandbox", "weight": 3}]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(cluster: Cluster, seeded_template: SeededTemplate) -> AsyncIterator[Api]:
    """One server for all; in the end its ledger and its audit log must prove."""
    with cluster.database(seeded_template.name) as url:
        async for running in serve(url, seeded_template.operator_key, "test"):
            yield running
            assert await running.unproven() == []


def ahead(**by: float) -> str:
    return (datetime.now(UTC) + timedelta(**by)).isoformat()


async def post(client: Api, **changes: Any) -> Reply:
    """About gpt-4o, with a name of its own, if nothing else is said; what is None is left out."""
    body = {"name": str(uuid4()), "model": "gpt-4o", "arms": ARMS} | changes
    return await client.order("POST", PATH, {name: value for name, value in body.items() if value is not None})


async def made(client: Api, **changes: Any) -> Any:
    reply = await post(client, **changes)
    assert reply.status == 201, reply.text
    return reply.body


async def end(client: Api, id_: str) -> None:
    assert (await client.order("PATCH", f"{PATH}/{id_}", {})).status == 200


async def audited(client: Api, id_: str) -> list[str]:
    async with await psycopg.AsyncConnection.connect(client.database_url) as connection:
        cursor = await connection.execute("SELECT action FROM audit WHERE object_id = %s ORDER BY seq", (id_,))
        return [row[0] for row in await cursor.fetchall()]


async def called(client: Api, organization_id: UUID, subject_id: UUID, *, answers: bool = True) -> str:
    """One call of gpt-4o-mini on somebody's behalf; the model that was asked."""
    ask = Ask(organization_id, None, subject_id, "api", CallWant("gpt-4o-mini", Size(1_000, 100), fallback=False))
    admitted = await client.teller.admit(Admit(organization_id, ask, "/v1/chat/completions"))
    model_id = admitted.admission.terms.model.id
    if answers:
        await client.teller.do(Settle(organization_id, admitted.id, Usage(500, 50), DONE, answered(model_id)))
    else:
        await client.teller.do(Release(organization_id, admitted.id, FAILED))
    return model_id


async def test_an_experiment_is_made_told_and_ended(client: Api) -> None:
    before = datetime.now(UTC)
    one = await made(client, name="  Is the sandbox enough?  ")
    assert one == {
        "id": one["id"], "name": "Is the sandbox enough?", "model": "gpt-4o", "capability": None, "quality": None,
        "arms": ARMS, "starts_at": one["starts_at"], "ends_at": None, "created_at": one["created_at"],
    }  # fmt: skip
    assert before <= datetime.fromisoformat(one["starts_at"]) <= datetime.now(UTC)
    path = f"{PATH}/{one['id']}"
    assert (await client.order("GET", path)).body == one
    assert one in (await client.order("GET", PATH)).body["items"]
    later = await client.order("PATCH", path, {"ends_at": ahead(days=1)})
    assert datetime.fromisoformat(later.body["ends_at"]) > datetime.now(UTC)
    ended = await client.order("PATCH", path, {})
    assert (ended.status, datetime.fromisoformat(ended.body["ends_at"]) <= datetime.now(UTC)) == (200, True)
    assert (await client.order("PATCH", path, {})).body == ended.body
    assert (await client.order("DELETE", path)).status == 409
    assert await audited(client, one["id"]) == [
        "experiment.created", "experiment.read", "experiment.ended", "experiment.ended", "experiment.ended",
    ]  # fmt: skip


async def test_one_that_has_not_begun_is_deleted_and_not_ended(client: Api) -> None:
    one = await made(client, starts_at=ahead(days=400), ends_at=ahead(days=401))
    path = f"{PATH}/{one['id']}"
    assert (await client.order("PATCH", path, {})).status == 409
    assert (await client.order("DELETE", path)).body == one
    assert (await client.order("GET", path)).status == 404
    assert (await client.order("DELETE", path)).status == 404
    assert await audited(client, one["id"]) == ["experiment.created", "experiment.deleted"]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"model": "gpt-none"}, "model"),
        ({"model": None, "capability": "flying", "quality": "fast"}, "capability"),
        ({"model": None, "capability": "question_generation", "quality": "best"}, "quality"),
        ({"arms": [ARMS[0], {"model": "gpt-none", "weight": 1}]}, "arms.1.model"),
        ({"arms": [ARMS[0], ARMS[0]]}, "arms.1.model"),
        ({"arms": ARMS[:1]}, "arms"),
        ({"arms": [ARMS[0], {"model": "sandbox", "weight": 0}]}, "arms.1.weight"),
        ({"starts_at": "2020-01-01T00:00:00Z"}, "starts_at"),
        ({"starts_at": "2090-01-02T00:00:00Z", "ends_at": "2090-01-01T00:00:00Z"}, "ends_at"),
        ({"capability": "question_generation", "quality": "fast"}, None),
        ({"model": None}, None),
        ({"model": None, "capability": "question_generation"}, None),
        ({"name": ""}, "name"),
    ],
)
async def test_what_cannot_be_compared_is_refused_by_its_name(
    client: Api, changes: dict[str, Any], field: str | None
) -> None:
    reply = await post(client, **changes)
    assert (reply.status, reply.body["code"]) == (400, "invalid_request"), reply.text
    if field is not None:
        assert field in reply.text


async def test_two_about_the_same_at_one_time_or_of_one_name_are_refused(client: Api) -> None:
    one = await made(client, model="llama-3.1-8b", ends_at=ahead(days=2))
    assert (await post(client, model="llama-3.1-8b")).status == 409
    assert (await post(client, name=one["name"], model="auto")).status == 409
    after = await made(client, model="llama-3.1-8b", starts_at=one["ends_at"])
    assert (await client.order("DELETE", f"{PATH}/{after['id']}")).status == 200
    other = await made(client, model=None, capability="question_generation", quality="fast")
    for id_ in (one["id"], other["id"]):
        await end(client, id_)


async def test_an_end_in_the_past_is_refused(client: Api) -> None:
    one = await made(client, model="auto")
    reply = await client.order("PATCH", f"{PATH}/{one['id']}", {"ends_at": "2020-01-01T00:00:00Z"})
    assert reply.status == 400
    await end(client, one["id"])


async def test_only_operators_see_experiments(client: Api) -> None:
    organization_id = await client.organization("pro")
    key = await client.key(organization_id, "manage", "gateway")
    for method, path in (("GET", ""), ("POST", ""), ("GET", f"/{uuid4()}"), ("GET", f"/{uuid4()}/outcomes")):
        reply = await client.call(method, f"/api/operator{PATH}{path}", {} if method == "POST" else None, key=key)
        assert reply.status == 403, reply.text


async def test_outcomes_tell_of_each_model_what_came_of_the_calls_for_which_it_was_drawn(client: Api) -> None:
    organization_id = UUID(await client.organization("pro"))
    one = await made(client, model="gpt-4o-mini")
    nobody = (await client.order("GET", f"{PATH}/{one['id']}/outcomes")).body["arms"]
    assert [(arm["model"], arm["requests"], arm["duration_mean_ms"]) for arm in nobody] == [
        ("gpt-4o-mini", 0, None), ("sandbox", 0, None),
    ]  # fmt: skip
    subjects = [uuid4() for _ in range(12)]
    drawn = await asyncio.gather(*(called(client, organization_id, one) for one in subjects))
    again = await asyncio.gather(*(called(client, organization_id, one) for one in subjects))
    assert drawn == again, "everybody keeps their model"
    lost = await called(client, organization_id, subjects[0], answers=False)
    found = (await client.order("GET", f"{PATH}/{one['id']}/outcomes")).body
    assert found["experiment"]["id"] == one["id"]
    cost, charge = {"gpt-4o-mini": 105, "sandbox": 325}, {"gpt-4o-mini": 10_500, "sandbox": 32_500}
    for arm in found["arms"]:
        answers = 2 * drawn.count(arm["model"])
        assert arm["requests"] == answers + (arm["model"] == lost)
        assert (arm["errors"], arm["running"]) == (int(arm["model"] == lost), 0)
        assert (arm["input_tokens"], arm["output_tokens"]) == (answers * 500, answers * 50)
        assert float(arm["cost_usd"]) == pytest.approx(answers * cost[arm["model"]] / 1e6)
        assert float(arm["credits_used"]) == pytest.approx(answers * charge[arm["model"]] / 1e6)
        if answers:
            assert 0 <= arm["first_token_mean_ms"] <= arm["first_token_p95_ms"] + 1
            assert arm["duration_p95_ms"] is not None and arm["duration_mean_ms"] is not None
    await end(client, one["id"])
    assert {await called(client, organization_id, one) for one in subjects} == {"gpt-4o-mini"}


async def test_a_call_that_another_model_took_over_counts_for_the_one_that_was_drawn(client: Api) -> None:
    from tests.flows.test_attempt import attempt

    organization_id = UUID(await client.organization("pro"))
    arms = [{"model": "llama-3.1-8b", "weight": 1}, {"model": "claude-3-5-haiku", "weight": 1}]
    one = await made(client, model="sandbox", arms=arms)
    ask = Ask(organization_id, None, organization_id, "api", CallWant("sandbox", Size(1_000, 100)))
    admitted = await client.teller.admit(Admit(organization_id, ask, "/v1/chat/completions"))
    drawn = admitted.admission.terms.model.id
    await client.teller.do(attempt(admitted))
    by = answered("gpt-4o-mini", attempt=2)
    await client.teller.do(Settle(organization_id, admitted.id, Usage(1_000, 100), DONE, by))
    found = (await client.order("GET", f"{PATH}/{one['id']}/outcomes")).body["arms"]
    assert {arm["model"]: arm["requests"] for arm in found} == {
        name: int(name == drawn) for name in ("llama-3.1-8b", "claude-3-5-haiku")
    }
    assert sum(float(arm["credits_used"]) for arm in found) == pytest.approx(0.021)
    await end(client, one["id"])
