"""The database does it and the process never hears of it: the reply to a COMMIT is lost, or PostgreSQL goes away in the
middle of calls. Whoever asks again is answered, and nothing is booked twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
import pytest_asyncio

from tests.conftest import SMALL, TEST_POLICY, Cluster, SeededTemplate, private_folder
from tests.fake_provider import FakeProvider
from tests.gateway.connected import rest
from tests.house import House, Reply, Tenant, ask, charge, chunks, events, micros
from tests.house import house as running
from tests.server import Program
from tests.wire_proxy import Point, When, WireProxy
from tollhouse import migrations
from tollhouse.embedded import EmbeddedPostgres
from tollhouse.flows.seed import SeedInput, VendorConnectionInput, seed

pytestmark = pytest.mark.asyncio(loop_scope="module")

MODEL = "gpt-4o-mini"  # connected to the fake provider
TELLER, OPERATOR = "tollhouse_teller", "tollhouse_operator"
WHENS = pytest.mark.parametrize("when", ["before", "after"], ids=["commit-never-came", "reply-lost"])
KINDS = pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])


@dataclass(frozen=True, slots=True)
class Site:
    """A running installation behind a proxy, whose model is answered by the fake provider."""

    house: House
    proxy: WireProxy
    provider: FakeProvider


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(cluster: Cluster, seeded_template: SeededTemplate) -> AsyncIterator[Site]:
    with cluster.database(seeded_template.name) as url:
        async with FakeProvider() as provider, WireProxy(url) as proxy:
            connected: dict[str, Any] = {"OPENAI_BASE_URL": provider.url, "OPENAI_API_KEY": "sk-test"}
            async with Program(url, "seed", **connected) as made:
                assert await made.wait() == 0
            async with running(proxy.url, seeded_template) as house:
                yield Site(house, proxy, provider)


def commit(role: str, number: int = 1) -> Callable[[Point], bool]:
    return lambda point: point == Point(role, "COMMIT", number)


async def call(house: House, tenant: Tenant, text: str, stream: bool = False) -> Reply:
    more = {"stream": True, "stream_options": {"include_usage": True}} if stream else {}
    return await house.chat(tenant, ask(f"{text} sandbox:delay=0", MODEL, **more))


def told(reply: Reply) -> int:
    """What the customer is told that the call cost, in micro-credits."""
    usage = chunks(reply.raw)[-1]["usage"] if events_in(reply) else reply.body["usage"]
    return micros(usage["credits"])


def events_in(reply: Reply) -> bool:
    return reply.headers["content-type"].startswith("text/event-stream")


@KINDS
@WHENS
async def test_an_admission_whose_commit_is_in_doubt_is_refused_sends_nothing_and_is_given_back(
    site: Site, when: When, stream: bool
) -> None:
    """The process itself gives it back, as soon as it reaches the database again."""
    house, tenant = site.house, await site.house.organization()
    before, calls = await house.balance(tenant), site.provider.calls
    site.proxy.forget()
    trap = site.proxy.trap(commit(TELLER), when)
    refused = await call(house, tenant, "sandbox:tokens=3", stream)
    assert trap.sprung.is_set()
    assert refused.status == 503 and int(refused.headers["retry-after"]) > 0
    assert site.provider.calls == calls
    given_back = [("failed", False)] * (when == "after")
    assert await house.quiet(tenant) == given_back
    assert await house.balance(tenant) == before
    await house.assert_ledger_holds()
    reply = await call(house, tenant, "sandbox:tokens=3", stream)
    assert reply.status == 200
    assert await house.requests(tenant) == [*given_back, ("done", False)]
    assert before - await house.balance(tenant) == told(reply) > 0
    await house.assert_ledger_holds()


@KINDS
@WHENS
async def test_a_settlement_whose_commit_is_in_doubt_is_repeated_and_charged_once(
    site: Site, when: When, stream: bool
) -> None:
    house, tenant = site.house, await site.house.organization()
    before = await house.balance(tenant)
    site.proxy.forget()
    trap = site.proxy.trap(commit(TELLER, 2), when)
    reply = await call(house, tenant, "sandbox:tokens=5", stream)
    assert trap.sprung.is_set()
    assert reply.status == 200
    ((tokens_in, tokens_out, estimated, cost),) = await house.usage(tenant)
    assert (tokens_out, estimated) == (5, False)
    assert told(reply) == cost == charge(MODEL, tokens_in, 5) == before - await house.balance(tenant)
    if stream:
        assert events(reply.raw)[-1] == b"[DONE]"
    else:
        assert micros(reply.headers["x-credits-used"]) == cost
        assert micros(reply.headers["x-balance-remaining"]) == before - cost
    assert await house.requests(tenant) == [("done", False)]
    await house.assert_ledger_holds()


@pytest.mark.parametrize("number", [2, 3], ids=["second-attempt", "release"])
@KINDS
@WHENS
async def test_a_failed_call_of_which_a_commit_is_in_doubt_is_given_back_once(
    site: Site, when: When, stream: bool, number: int
) -> None:
    """The commit before its provider is asked once more, and that of the release. After the first nobody is asked."""
    house, tenant = site.house, await site.house.organization()
    before, calls = await house.balance(tenant), site.provider.calls
    await rest(house)
    site.proxy.forget()
    trap = site.proxy.trap(commit(TELLER, number), when)
    reply = await call(house, tenant, "sandbox:fault=status:500", stream)
    assert trap.sprung.is_set()
    assert (reply.status, reply.error["code"]) == (502, "provider_error")
    assert site.provider.calls - calls == number - 1
    assert await house.balance(tenant) == before
    assert await house.requests(tenant) == [("failed", False)]
    counted = await house.rows(
        "SELECT sum(used)::int, sum(reserved)::int FROM quota_window WHERE organization_id = %s", tenant.id
    )
    assert counted == [(0, 0)]
    await house.assert_ledger_holds()


@WHENS
async def test_calls_settled_in_one_batch_are_all_charged_once_when_its_commit_is_in_doubt(
    site: Site, when: When
) -> None:
    """Ten answers end while the teller waits for the database, which takes its time to admit another call: they are
    settled together."""
    house, tenant, other = site.house, await site.house.organization(), await site.house.organization()
    before, calls = await house.balance(tenant), site.provider.calls
    waiting = [asyncio.create_task(call(house, tenant, "sandbox:first=1000 sandbox:tokens=4")) for _ in range(10)]
    await site.provider.call(calls + 9)
    site.proxy.forget()
    hold = site.proxy.hold(commit(TELLER, 1))
    trap = site.proxy.trap(commit(TELLER, 2), when)
    admitted_slowly = asyncio.create_task(call(house, other, "sandbox:tokens=1"))
    await hold.reached.wait()
    for received in site.provider.log[calls:]:
        await received.ended.wait()
    hold.go.set()
    replies = await asyncio.gather(*waiting)
    assert trap.sprung.is_set()
    assert [reply.status for reply in (*replies, await admitted_slowly)] == [200] * 11
    assert await house.requests(tenant) == [("done", False)] * 10
    assert before - await house.balance(tenant) == sum(map(told, replies))
    await house.assert_ledger_holds()


@WHENS
async def test_a_grant_whose_commit_is_in_doubt_is_booked_once_for_whoever_sends_it_again(
    site: Site, when: When
) -> None:
    house, tenant = site.house, await site.house.organization()
    before = await house.balance(tenant)
    headers = {"authorization": f"Bearer {house.operator_key}", "idempotency-key": str(uuid4())}
    body = {"source": "promo", "credits": "7", "note": "for the fair"}
    path = f"/api/operator/organizations/{tenant.id}/grants"
    site.proxy.forget()
    trap = site.proxy.trap(commit(OPERATOR), when)
    refused = await house.call("POST", path, json=body, headers=headers)
    assert trap.sprung.is_set()
    assert (refused.status, refused.body["code"]) == (503, "overloaded")
    first, second = [await house.call("POST", path, json=body, headers=headers) for _ in range(2)]
    assert (first.status, second.status) == (201, 201) and first.body == second.body
    assert ("idempotent-replayed" in first.headers) == (when == "after")
    assert second.headers["idempotent-replayed"] == "true"
    assert await house.balance(tenant) - before == 7_000_000
    await house.assert_ledger_holds()


RESERVATIONS = "/api/credits/reservations"


async def post(house: House, tenant: Tenant, path: str, body: object, once: str | None = None) -> Reply:
    headers = tenant.headers | ({"idempotency-key": once} if once else {})
    return await house.call("POST", RESERVATIONS + path, json=body, headers=headers)


@WHENS
async def test_a_reservation_whose_commit_is_in_doubt_is_made_once_for_whoever_sends_it_again(
    site: Site, when: When
) -> None:
    house, tenant = site.house, await site.house.organization("10")
    body, once = {"credits": "4", "user": "somebody"}, str(uuid4())
    site.proxy.forget()
    trap = site.proxy.trap(commit(TELLER), when)
    refused = await post(house, tenant, "", body, once)
    assert trap.sprung.is_set()
    assert (refused.status, refused.body["code"]) == (503, "overloaded")
    first, second = [await post(house, tenant, "", body, once) for _ in range(2)]
    assert (first.status, second.status) == (201, 201) and first.body == second.body
    assert ("idempotent-replayed" in first.headers) == (when == "after")
    assert second.headers["idempotent-replayed"] == "true"
    assert await house.rows("SELECT amount_micros FROM reservation WHERE organization_id = %s", tenant.id) == [
        (4_000_000,)
    ]
    assert await house.balance(tenant) == 6_000_000
    await house.assert_ledger_holds()


@WHENS
@pytest.mark.parametrize(
    ("path", "body", "left"),
    [("/settle", {"credits": "1.5"}, 8_500_000), ("/release", {"reason": "not needed"}, 10_000_000)],
    ids=["settle", "release"],
)
async def test_the_end_of_a_reservation_whose_commit_is_in_doubt_is_booked_once(
    site: Site, when: When, path: str, body: dict[str, str], left: int
) -> None:
    house, tenant = site.house, await site.house.organization("10")
    made = await post(house, tenant, "", {"credits": "4"}, str(uuid4()))
    path = f"/{made.body['id']}{path}"
    site.proxy.forget()
    trap = site.proxy.trap(commit(TELLER), when)
    refused = await post(house, tenant, path, body)
    assert trap.sprung.is_set()
    assert (refused.status, refused.body["code"]) == (503, "overloaded")
    first, second = [await post(house, tenant, path, body) for _ in range(2)]
    assert (first.status, second.status) == (200, 200) and first.body == second.body
    assert ("idempotent-replayed" in first.headers) == (when == "after")
    assert second.headers["idempotent-replayed"] == "true"
    assert await house.balance(tenant) == left
    await house.assert_ledger_holds()


# --------------------------------------------------------------------------- PostgreSQL itself, one of our own


@dataclass(frozen=True, slots=True)
class OwnSite:
    house: House
    postgres: EmbeddedPostgres
    provider: FakeProvider


@pytest_asyncio.fixture(loop_scope="module")
async def own() -> AsyncIterator[OwnSite]:
    """A PostgreSQL that nobody else uses, so that it can be ended and started again."""
    with private_folder() as folder:
        postgres = EmbeddedPostgres(folder / "data", SMALL)
        url = postgres.start()
        try:
            migrations.upgrade(url)
            async with FakeProvider() as provider:
                vendors = (VendorConnectionInput("openai", provider.url, "sk-test"),)
                seeded = await seed(url, SeedInput(TEST_POLICY, None, vendors), datetime.now(UTC))
                template = SeededTemplate("", seeded.operator_key or "", seeded.demo_key or "")
                async with running(url, template) as house:
                    yield OwnSite(house, postgres, provider)
        finally:
            postgres.stop()


@pytest.mark.parametrize("crash", [False, True], ids=["stopped", "crashed"])
async def test_calls_outlive_a_restart_of_postgresql_and_are_settled_when_it_is_back(own: OwnSite, crash: bool) -> None:
    """Their providers answer while it is away. Who asks then is refused; whose call runs waits for its charge."""
    house, postgres, provider = own.house, own.postgres, own.provider
    tenant = await house.organization()
    before = await house.balance(tenant)
    text = "sandbox:tokens=6 sandbox:first=500"
    waiting = [asyncio.create_task(call(house, tenant, text, stream)) for stream in (False, True) * 10]
    await provider.call(19)
    if crash:
        assert postgres.process is not None
        postgres.process.kill()
        postgres.process.wait(10)
    else:
        postgres.stop()
    for received in provider.log:
        await received.ended.wait()
    assert (await call(house, tenant, "sandbox:tokens=1")).status == 503
    assert provider.calls == 20
    assert not any(one.done() and one.result().status == 200 for one in waiting)
    postgres.start()
    replies = await asyncio.gather(*waiting)
    assert [reply.status for reply in replies] == [200] * 20
    assert await house.requests(tenant) == [("done", False)] * 20
    assert all(row[1:3] == (6, False) for row in await house.usage(tenant))
    ((remaining, reserved),) = await house.rows(
        "SELECT remaining_micros, reserved_micros FROM credit_balance WHERE organization_id = %s", tenant.id
    )
    assert (before - remaining, reserved) == (sum(map(told, replies)), 0)
    assert (await call(house, tenant, "sandbox:tokens=1")).status == 200
    await house.assert_ledger_holds()


async def test_once_postgresql_is_back_every_request_is_answered(own: OwnSite) -> None:
    """Connections that were open before are of no use any more, and nobody who asks is told so."""
    house, postgres = own.house, own.postgres
    tenant = await house.organization()
    await house.balance(tenant)
    postgres.stop()
    postgres.start()
    path = f"/api/operator/organizations/{tenant.id}"
    operator = {"authorization": f"Bearer {house.operator_key}"}
    answers = [
        await house.call("GET", "/api/credits/balance", headers=tenant.headers),
        await house.call("GET", path, headers=operator),
        await house.chat(tenant, ask("sandbox:tokens=1")),
    ]
    assert [answer.status for answer in answers] == [200] * 3
