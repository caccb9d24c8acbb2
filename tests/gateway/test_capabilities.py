"""Calls that are made for a capability: `X-Tollhouse-Capability` and `X-Tollhouse-Quality` on the paths of `/v1`."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from tests.conftest import Cluster, SeededTemplate
from tests.fake_provider import FakeProvider
from tests.gateway.bill import due
from tests.gateway.connected import connected_house
from tests.gateway.surfaces import SURFACES, Surface, Wish
from tests.house import House, Reply, Tenant, ask, micros

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.usefixtures("proved")]

FAST, BALANCED = "gpt-4o-mini", "gpt-4o"  # the second is premium
END = "sandbox:tokens=3 sandbox:delay=0"

each_surface = pytest.mark.parametrize("surface", SURFACES, ids=[one.name for one in SURFACES])
plain_and_stream = pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def provider() -> AsyncIterator[FakeProvider]:
    async with FakeProvider() as made:
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(cluster: Cluster, seeded_template: SeededTemplate, provider: FakeProvider) -> AsyncIterator[House]:
    connected = {
        "OPENAI_BASE_URL": provider.url, "OPENAI_API_KEY": "sk-openai-0123456789",
        "GOOGLE_BASE_URL": provider.root, "GOOGLE_API_KEY": "AIza-google-0123456789",
    }  # fmt: skip
    async with connected_house(cluster, seeded_template, connected) as made:
        yield made


async def post(house: House, tenant: Tenant, surface: Surface, wish: Wish, **headers: str) -> Reply:
    sent = tenant.headers | {name.replace("_", "-"): value for name, value in headers.items()}
    return await house.call("POST", surface.path, json=surface.body(wish), headers=sent)


async def chat(house: House, tenant: Tenant, model: str = "auto", **headers: Any) -> Reply:
    """A call that is answered."""
    reply = await house.chat(tenant, ask(END, model), **headers)
    assert reply.status == 200, reply.raw
    return reply


def answered_by(reply: Reply) -> tuple[str, str | None]:
    """Which model, and why."""
    return reply.headers["x-tollhouse-model"], reply.headers.get("x-tollhouse-reason")


@plain_and_stream
@each_surface
async def test_a_call_for_a_capability_is_held_and_charged_as_a_use_of_it(
    house: House, provider: FakeProvider, surface: Surface, stream: bool
) -> None:
    """At its multiplier, with its models, which need not be unlocked."""
    tenant = await house.organization(plan="pro")
    for quality, model, multiplier in (("fast", FAST, 1), ("enhanced", BALANCED, 2)):
        before, wish = await house.balance(tenant), Wish(END, "auto", stream)
        use: dict[str, Any] = {"X_Tollhouse_Capability": "question_generation", "X_Tollhouse_Quality": quality}
        reply = await post(house, tenant, surface, wish, **use)
        assert reply.status == 200, reply.raw
        told = surface.stream(reply.raw) if stream else surface.plain(reply.body)
        assert reply.headers["x-tollhouse-model"] == model and "x-trial-remaining" not in reply.headers
        assert micros(reply.headers["x-credits-reserved"]) == 1_000_000 * multiplier
        cost = due(model, provider.log[-1]) * multiplier
        assert told.counts.credits * 1_000_000 == cost == before - await house.balance(tenant)
    assert await house.rows(
        "SELECT capability, quality, channel, messages FROM usage_event WHERE organization_id = %s ORDER BY id",
        tenant.id,
    ) == [("question_generation", quality, "capability", 0) for quality in ("fast", "enhanced")]


async def test_without_a_quality_the_lowest_of_the_plan_is_taken(house: House) -> None:
    tenant = await house.organization(plan="pro")
    reply = await chat(house, tenant, X_Tollhouse_Capability="testimonial_polish")
    assert answered_by(reply) == (FAST, None)
    assert micros(reply.headers["x-credits-reserved"]) == 500_000


async def test_a_model_of_the_quality_that_is_named_answers(house: House) -> None:
    """Also one that cannot be asked for otherwise."""
    tenant = await house.organization(plan="pro")
    use: dict[str, Any] = {"X_Tollhouse_Capability": "testimonial_polish", "X_Tollhouse_Quality": "fast"}
    reply = await chat(house, tenant, "gemini-2.0-flash", **use)
    assert answered_by(reply) == ("gemini-2.0-flash", None)
    assert reply.headers["x-tollhouse-provider"] == "google"
    books = await house.books()
    refused = await house.chat(tenant, ask(END, BALANCED), **use)
    assert (refused.status, refused.error["code"], refused.error["param"]) == (400, "invalid_request", "model")
    assert "does not serve 'testimonial_polish' at this quality" in refused.error["message"]
    assert all(model in refused.error["message"] for model in (FAST, "gemini-2.0-flash", "claude-3-5-haiku-latest"))
    assert await house.books() == books


@each_surface
async def test_what_the_plan_does_not_offer_is_refused_with_what_would_help(house: House, surface: Surface) -> None:
    free, pro = await house.organization(plan="free"), await house.organization(plan="pro")
    books = await house.books()
    for tenant, capability, quality, upgrade in (
        (free, "testimonial_polish", "fast", "pro"),
        (free, "question_generation", "enhanced", "pro"),
        (pro, "question_generation", "premium", "team"),
    ):
        use: dict[str, Any] = {"X_Tollhouse_Capability": capability, "X_Tollhouse_Quality": quality}
        reply = await post(house, tenant, surface, Wish(END, "auto"), **use)
        error = reply.body["error"]
        assert (reply.status, error["code"]) == (403, "capability_denied")
        assert f"Upgrade to '{upgrade}'" in error["message"]
        assert [hint["kind"] for hint in error["metadata"]["hints"]] == ["upgrade"]
    assert await house.books() == books


async def test_headers_that_name_nothing_are_refused(house: House) -> None:
    tenant = await house.organization(plan="pro")
    books = await house.books()
    wrong: list[tuple[dict[str, Any], int, str]] = [
        ({"X_Tollhouse_Quality": "fast"}, 400, "X-Tollhouse-Quality is of a capability"),
        ({"X_Tollhouse_Capability": "cooking"}, 404, "no capability 'cooking'"),
        ({"X_Tollhouse_Capability": "testimonial_polish", "X_Tollhouse_Quality": "best"}, 400, "no quality 'best'"),
    ]
    for headers, status, words in wrong:
        reply = await house.chat(tenant, ask(END, "auto"), **headers)
        assert reply.status == status and words in reply.error["message"]
    assert await house.books() == books


async def test_the_requests_a_minute_of_a_capability_bind_here_too(house: House) -> None:
    tenant = await house.organization(plan="free")
    use: dict[str, Any] = {"X_Tollhouse_Capability": "question_generation"}
    replies = await asyncio.gather(*(house.chat(tenant, ask(END, "auto"), **use) for _ in range(8)))
    assert Counter(reply.status for reply in replies) == {200: 5, 429: 3}
    for reply in replies:
        if reply.status == 429:
            assert reply.error["metadata"]["capability"] == "question_generation"
            assert 0 < int(reply.headers["retry-after"]) <= 60
    assert (await chat(house, tenant, FAST)).status == 200
