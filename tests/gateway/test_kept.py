"""What an organisation chooses to keep: answers that are given again to equal requests, prompts and answers to be read.
Nothing is kept of those who have not chosen so."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from decimal import Decimal
from fractions import Fraction
from math import ceil
from typing import Any

import pytest
import pytest_asyncio

from tests.conftest import Cluster, SeededTemplate
from tests.fake_provider import Call, FakeProvider
from tests.gateway.bill import due, exact
from tests.gateway.surfaces import SURFACES, Heard, Surface, Wish
from tests.house import SCOPES, House, Reply, Tenant, micros
from tests.house import house as running
from tests.server import Program

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.usefixtures("proved")]

DEFAULT, OTHER = "gpt-4o-mini", "claude-3-5-haiku"
SHARE = Fraction(1, 10)  # of the charge, for an answer from the cache
TOLD = "fake:think=2 fake:cached=3 sandbox:tokens=6 sandbox:delay=0"

each_surface = pytest.mark.parametrize("surface", SURFACES, ids=[one.name for one in SURFACES])
plain_and_stream = pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def provider() -> AsyncIterator[FakeProvider]:
    async with FakeProvider() as made:
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(cluster: Cluster, seeded_template: SeededTemplate, provider: FakeProvider) -> AsyncIterator[House]:
    connected: dict[str, Any] = {
        "OPENAI_BASE_URL": provider.url,
        "OPENAI_API_KEY": "sk-openai-0123456789",
        "ANTHROPIC_BASE_URL": provider.root,
        "ANTHROPIC_API_KEY": "sk-ant-0123456789",
    }
    with cluster.database(seeded_template.name) as url:
        async with Program(url, "seed", **connected) as seed:
            assert await seed.wait() == 0
        async with running(url, seeded_template) as made:
            yield made


async def organization(house: House, **settings: Any) -> Tenant:
    """Which has chosen these settings."""
    made = await house.organization(scopes=(*SCOPES, "manage"))
    await choose(house, made, **settings)
    return made


async def choose(house: House, tenant: Tenant, **settings: Any) -> None:
    reply = await house.call("PATCH", "/api/settings", json=settings, headers=tenant.headers)
    assert reply.status == 200, reply.raw


async def send(
    house: House, tenant: Tenant, wish: Wish, surface: Surface = SURFACES[0], *, once: str | None = None, **fields: Any
) -> Reply:
    headers = tenant.headers | ({"idempotency-key": once} if once is not None else {})
    reply = await house.call("POST", surface.path, json=surface.body(wish) | fields, headers=headers)
    assert reply.status == 200, reply.raw
    return reply


def heard_of(reply: Reply, surface: Surface = SURFACES[0]) -> Heard:
    stream = reply.headers["content-type"].startswith("text/event-stream")
    return surface.stream(reply.raw) if stream else surface.plain(reply.body)


def said(heard: Heard) -> tuple[Any, ...]:
    return heard.text, heard.thoughts, heard.uses, heard.ended, heard.counts.input, heard.counts.output


async def booked(house: House, tenant: Tenant) -> list[tuple[str, int, int]]:
    """Of each call: origin, micro-credits charged, and nano-dollars that it cost the platform."""
    found = await house.rows(
        """SELECT origin, charged_micros, cost_nanos FROM usage_event WHERE organization_id = %s
           ORDER BY reservation_id""",
        tenant.id,
    )
    return [(row[0], row[1], row[2]) for row in found]


async def kept(house: House, tenant: Tenant, answers: int = 1) -> None:
    """Waits until so many answers are kept: that happens behind the answer's back."""
    async with asyncio.timeout(5):
        while True:
            if await stored(house, tenant) == answers:
                return
            await asyncio.sleep(0.01)


async def stored(house: House, tenant: Tenant) -> int:
    ((count,),) = await house.rows("SELECT count(*) FROM kept_answer WHERE organization_id = %s", tenant.id)
    return int(count)


def share_of(model: str, call: Call) -> int:
    return ceil(exact(model, call) * SHARE)


# ----------------------------------------------------------------------------------------- answers that are given again


@each_surface
@pytest.mark.parametrize("model", [DEFAULT, OTHER])
@pytest.mark.parametrize("streams", [(False, False), (False, True), (True, False), (True, True)])
async def test_an_equal_request_is_answered_from_the_cache_without_a_call_for_a_tenth_of_the_charge(
    house: House, provider: FakeProvider, surface: Surface, model: str, streams: tuple[bool, bool]
) -> None:
    tenant = await organization(house, cache_ttl_seconds=60)
    before = await house.balance(tenant)
    first = await send(house, tenant, Wish(TOLD, model, stream=streams[0]), surface)
    assert "x-tollhouse-cache" not in first.headers
    await kept(house, tenant)
    calls, call = provider.calls, provider.log[-1]
    again = await send(house, tenant, Wish(TOLD, model, stream=streams[1]), surface)
    assert (again.headers["x-tollhouse-cache"], provider.calls) == ("hit", calls)
    heard, share = heard_of(again, surface), share_of(model, call)
    assert said(heard) == said(heard_of(first, surface))
    assert heard.counts.credits == Decimal(share) / 1_000_000
    assert await booked(house, tenant) == [
        ("provider", due(model, call), ceil(exact(model, call) * 10)), ("cache", share, 0)
    ]  # fmt: skip
    assert before - await house.balance(tenant) == due(model, call) + share
    assert await house.requests(tenant) == [("done", False)] * 2
    if not streams[1]:
        assert micros(again.headers["x-credits-used"]) == share


@each_surface
@plain_and_stream
async def test_uses_of_tools_are_given_again_too(
    house: House, provider: FakeProvider, surface: Surface, stream: bool
) -> None:
    tenant = await organization(house, cache_ttl_seconds=60)
    wish = Wish("fake:calls=2", OTHER, tools=("weather", "time"), stream=stream)
    first = await send(house, tenant, wish, surface)
    await kept(house, tenant)
    calls = provider.calls
    again = await send(house, tenant, wish, surface)
    assert provider.calls == calls
    assert said(heard_of(again, surface)) == said(heard_of(first, surface))
    assert len(heard_of(again, surface).uses) == 2


async def test_requests_are_equal_in_whatever_order_their_fields_stand_and_whosever_they_are(
    house: House, provider: FakeProvider
) -> None:
    tenant = await organization(house, cache_ttl_seconds=60)
    wish = Wish(TOLD, DEFAULT)
    await send(house, tenant, wish, temperature=0.5, user="one")
    await kept(house, tenant)
    calls = provider.calls
    turned = dict(reversed(list((SURFACES[0].body(wish) | {"temperature": 0.5, "user": "two"}).items())))
    reply = await house.chat(tenant, turned, x_tollhouse_user="two")
    assert (reply.status, reply.headers["x-tollhouse-cache"], provider.calls) == (200, "hit", calls)


async def test_requests_that_differ_in_anything_that_counts_are_each_asked(
    house: House, provider: FakeProvider
) -> None:
    tenant = await organization(house, cache_ttl_seconds=60)
    wish, calls = Wish(TOLD, DEFAULT), provider.calls
    await send(house, tenant, wish)
    await send(house, tenant, wish, temperature=0.5)
    await send(house, tenant, wish, seed=1)
    await send(house, tenant, Wish(TOLD, DEFAULT, most=199))
    await send(house, tenant, Wish(TOLD + " .", DEFAULT))
    await send(house, tenant, Wish(TOLD, OTHER))
    await send(house, tenant, wish, SURFACES[1])
    assert provider.calls - calls == 7
    await kept(house, tenant, 7)


async def test_another_organisation_gets_nothing_of_it(house: House, provider: FakeProvider) -> None:
    hers, his = await organization(house, cache_ttl_seconds=60), await organization(house, cache_ttl_seconds=60)
    wish = Wish(TOLD, DEFAULT)
    await send(house, hers, wish)
    await kept(house, hers)
    calls = provider.calls
    reply = await send(house, his, wish)
    assert (reply.headers.get("x-tollhouse-cache"), provider.calls) == (None, calls + 1)


@pytest.mark.parametrize("ending", ["expired", "emptied", "switched off"])
async def test_what_is_kept_no_longer_is_asked_again(house: House, provider: FakeProvider, ending: str) -> None:
    tenant = await organization(house, cache_ttl_seconds=60)
    wish = Wish(TOLD, DEFAULT)
    await send(house, tenant, wish)
    await kept(house, tenant)
    match ending:
        case "expired":
            await house.change("UPDATE kept_answer SET expires_at = now() WHERE organization_id = %s", tenant.id)
        case "emptied":
            await house.call("DELETE", "/api/settings/cache", headers=tenant.headers)
        case _:
            await choose(house, tenant, cache_ttl_seconds=None)
    calls = provider.calls
    await send(house, tenant, wish)
    assert provider.calls == calls + 1
    assert [row[0] for row in await booked(house, tenant)] == ["provider"] * 2


@plain_and_stream
async def test_under_an_idempotency_key_an_answer_from_the_cache_is_charged_once_and_told_again(
    house: House, provider: FakeProvider, stream: bool
) -> None:
    tenant = await organization(house, cache_ttl_seconds=60)
    wish = Wish(TOLD, DEFAULT, stream=stream)
    await send(house, tenant, wish)
    await kept(house, tenant)
    calls = provider.calls
    hit = await send(house, tenant, wish, once="k1")
    assert hit.headers["x-tollhouse-cache"] == "hit"
    left = await house.balance(tenant)
    told = await send(house, tenant, wish, once="k1")
    assert (told.headers["idempotent-replayed"], told.raw) == ("true", hit.raw)
    assert (provider.calls, await house.balance(tenant)) == (calls, left)


@pytest.mark.parametrize("fault", ["cut:3", "error:3"])
async def test_an_answer_that_broke_off_is_not_kept(house: House, provider: FakeProvider, fault: str) -> None:
    tenant = await organization(house, cache_ttl_seconds=60)
    wish = Wish(f"sandbox:tokens=9 sandbox:fault={fault}", DEFAULT, stream=True)
    for _ in range(2):
        calls = provider.calls
        await send(house, tenant, wish)
        assert provider.calls == calls + 1
    assert await stored(house, tenant) == 0


async def test_what_another_model_said_is_not_given_again_as_the_answer_of_the_one_that_was_asked(
    house: House, provider: FakeProvider
) -> None:
    tenant = await organization(house, cache_ttl_seconds=60)
    wish = Wish(TOLD, OTHER)
    provider.orders.extend(["sandbox:fault=status:500"] * 2)
    fallen = await send(house, tenant, wish)
    assert fallen.headers["x-tollhouse-model"] == DEFAULT
    well = await send(house, tenant, wish)
    assert (well.headers["x-tollhouse-model"], well.headers.get("x-tollhouse-cache")) == (OTHER, None)
    await kept(house, tenant)


# ----------------------------------------------------------------------------------------------- what was said, stored


@each_surface
@plain_and_stream
async def test_who_has_chosen_so_can_read_what_was_asked_and_answered(
    house: House, provider: FakeProvider, surface: Surface, stream: bool
) -> None:
    tenant = await organization(house, store_content=True)
    wish = Wish(TOLD, OTHER, stream=stream)
    reply = await send(house, tenant, wish, surface)
    content = await read_content(house, tenant, reply)
    assert content["prompt"] == surface.body(wish)
    (choice,) = content["answer"]["choices"]
    assert [part.get("text") for part in choice["parts"]] == ["t0 t1", "w0 w1 w2 w3 w4 w5"]
    assert await stored(house, tenant) == 0
    other = await organization(house, store_content=True)
    theirs = await house.call("GET", path_of(reply), headers=other.headers)
    assert theirs.status == 404


def path_of(reply: Reply) -> str:
    return f"/api/requests/{reply.headers['x-request-id']}/content"


async def read_content(house: House, tenant: Tenant, reply: Reply) -> Any:
    """What is stored of a request, once it is: that happens behind the answer's back."""
    async with asyncio.timeout(5):
        while True:
            found = await house.call("GET", path_of(reply), headers=tenant.headers)
            if found.status == 200:
                return found.body
            assert found.status == 404
            await asyncio.sleep(0.02)


async def test_an_answer_from_the_cache_is_stored_like_any_other(house: House, provider: FakeProvider) -> None:
    tenant = await organization(house, store_content=True, cache_ttl_seconds=60)
    wish = Wish(TOLD, DEFAULT)
    first = await send(house, tenant, wish)
    await kept(house, tenant)
    again = await send(house, tenant, wish)
    assert again.headers["x-tollhouse-cache"] == "hit"
    contents = [await read_content(house, tenant, reply) for reply in (first, again)]
    assert contents[0]["request_id"] != contents[1]["request_id"]
    assert contents[0]["prompt"] == contents[1]["prompt"] == SURFACES[0].body(wish)
    assert contents[0]["answer"]["choices"] == contents[1]["answer"]["choices"]


async def test_of_those_who_have_chosen_nothing_nothing_is_kept(house: House, provider: FakeProvider) -> None:
    tenant, calls = await house.organization(scopes=(*SCOPES, "manage")), provider.calls
    replies = [await send(house, tenant, Wish("a secret " + TOLD, DEFAULT, stream=stream)) for stream in (False, True)]
    assert provider.calls - calls == 2
    await house.quiet(tenant, 2)
    await choose(house, tenant, store_content=False)  # a transaction later
    for reply in replies:
        assert (await house.call("GET", path_of(reply), headers=tenant.headers)).status == 404
    assert await stored(house, tenant) == 0
    assert await house.rows("SELECT count(*) FROM request_content WHERE organization_id = %s", tenant.id) == [(0,)]
