"""Providers that fail before their first byte: asked once more, then the next candidate; answered and charged once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from uuid import UUID

import aiohttp
import pytest
import pytest_asyncio

from tests.conftest import Cluster, SeededTemplate
from tests.fake_provider import FakeProvider
from tests.gateway.answers import ROLE, STOP, piece, stream_of
from tests.gateway.bill import LIST, assert_billed, assert_nothing_taken, exact
from tests.gateway.calls import desk
from tests.gateway.surfaces import SURFACES, Surface, Wish
from tests.house import House, Reply, Tenant, fresh_house
from tollhouse.core import breaker
from tollhouse.flows.operation import Reap
from tollhouse.flows.spend import Teller
from tollhouse.outside import Deadlines, Operation, Provider
from tollhouse.outside import Reply as ProviderReply
from tollhouse.outside.anthropic import Anthropic
from tollhouse.outside.openai import OpenAICompatible

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.usefixtures("proved")]

ASKED, DEFAULT, TRIED = "claude-3-5-haiku", "gpt-4o-mini", "claude-3-opus"
KEY = "sk-any-0123456789"
FALLEN_BACK = f"fallback: {ASKED} did not answer"
CALM = "sandbox:tokens=5 sandbox:delay=0"

Connect = Callable[..., Awaitable[str]]
each_surface = pytest.mark.parametrize("surface", SURFACES, ids=[one.name for one in SURFACES])
plain_and_stream = pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])


@pytest_asyncio.fixture(loop_scope="module")
async def first() -> AsyncIterator[FakeProvider]:
    """Where the model is that is asked for."""
    async with FakeProvider() as made:
        yield made


@pytest_asyncio.fixture(loop_scope="module")
async def spare() -> AsyncIterator[FakeProvider]:
    """Where the system's default model is."""
    async with FakeProvider() as made:
        yield made


@pytest_asyncio.fixture(loop_scope="module")
async def connect(house: House) -> AsyncIterator[Connect]:
    """Connects the platform to a fake provider until the test is over: each test begins with providers that nobody has
    heard anything bad of."""
    made: list[str] = []

    async def connected(vendor: str, provider: FakeProvider, priority: int = 0) -> str:
        url = provider.url if vendor in ("openai", "together") else provider.root
        wanted = {"provider": vendor, "base_url": url, "key": KEY, "priority": priority}
        made.append((await house.order("POST", "/connections", wanted))["id"])
        return made[-1]

    yield connected
    for id_ in made:
        headers = {"authorization": f"Bearer {house.operator_key}"}
        assert (await house.call("DELETE", f"/api/operator/connections/{id_}", headers=headers)).status == 204


@pytest_asyncio.fixture(loop_scope="module")
async def wired(connect: Connect, first: FakeProvider, spare: FakeProvider) -> None:
    await connect("anthropic", first)
    await connect("openai", spare)


async def send(
    house: House, tenant: Tenant, text: str = CALM, surface: Surface = SURFACES[0], stream: bool = False,
    model: str = ASKED, **headers: str,
) -> Reply:  # fmt: skip
    sent = tenant.headers | {name.replace("_", "-"): value for name, value in headers.items()}
    body = surface.body(Wish(text, model, stream=stream))
    return await house.call("POST", surface.path, json=body, headers=sent)


async def attempts(house: House, tenant: Tenant) -> list[tuple[int, str, str, str | None, int | None]]:
    """Of the organisation's last request: number, model, provider, outcome and status of each attempt."""
    found = await house.rows(
        """SELECT number, model_id, provider_id, outcome, status FROM attempt WHERE organization_id = %s
           AND request_id = (SELECT max(id::text)::uuid FROM request WHERE organization_id = %s) ORDER BY number""",
        tenant.id,
        tenant.id,
    )
    return [(row[0], row[1], row[2], row[3], row[4]) for row in found]


def who(reply: Reply) -> tuple[str, str, str | None]:
    """Model, provider and reason as the answer's headers tell them."""
    headers = reply.headers
    return headers["x-tollhouse-model"], headers["x-tollhouse-provider"], headers.get("x-tollhouse-reason")


# --------------------------------------------------------------------------------------------- the next one is asked

# How the first provider fails, the status of each attempt at it, and in which kind of answer that can be.
FAILURES: list[tuple[str, list[int | None], str]] = [
    ("sandbox:fault=refuse", [None, None], "both"),
    ("sandbox:fault=status:500", [500, 500], "both"),
    ("sandbox:fault=status:503", [503, 503], "both"),
    ("sandbox:fault=status:529", [529, 529], "both"),
    ("sandbox:fault=status:429", [429, 429], "both"),
    ("sandbox:fault=status:401", [401], "both"),
    ("sandbox:fault=status:403", [403], "both"),
    ("sandbox:fault=status:404", [404], "both"),
    ("sandbox:fault=garbage", [200], "both"),
    ("sandbox:fault=cut:3", [200, 200], "plain"),
    ("sandbox:fault=error:3", [200], "plain"),
    ("sandbox:fault=cut:0", [200, 200], "stream"),
    ("sandbox:fault=error:0", [200], "stream"),
]
CASES = [
    (fault, statuses, stream)
    for fault, statuses, kind in FAILURES
    for stream in (False, True)
    if kind in ("both", "stream" if stream else "plain")
]


@pytest.mark.parametrize(
    ("fault", "statuses", "stream"), CASES, ids=[f"{case[0]}-{'stream' if case[2] else 'plain'}" for case in CASES]
)
async def test_who_fails_before_the_first_byte_is_asked_again_at_most_once_and_then_the_default_answers(
    house: House,
    wired: None,
    first: FakeProvider,
    spare: FakeProvider,
    fault: str,
    statuses: list[int | None],
    stream: bool,
) -> None:
    tenant = await house.organization()
    before = await house.balance(tenant)
    first.order = fault
    reply = await send(house, tenant, stream=stream)
    assert reply.status == 200, reply.raw
    heard = SURFACES[0].stream(reply.raw) if stream else SURFACES[0].plain(reply.body)
    assert heard.text == "w0 w1 w2 w3 w4"
    assert (who(reply), heard.model) == ((DEFAULT, "openai", FALLEN_BACK), DEFAULT)
    assert (first.calls, spare.calls) == (len(statuses), 1)
    failed = [(number, ASKED, "anthropic", "failed", status) for number, status in enumerate(statuses, 1)]
    assert await attempts(house, tenant) == [*failed, (len(failed) + 1, DEFAULT, "openai", "answered", 200)]
    assert await house.requests(tenant) == [("done", False)]
    await assert_billed(house, tenant, before, DEFAULT, spare.log[0])


@each_surface
@plain_and_stream
async def test_the_default_answers_in_the_dialect_of_the_client(
    house: House, wired: None, first: FakeProvider, spare: FakeProvider, surface: Surface, stream: bool
) -> None:
    tenant = await house.organization()
    before = await house.balance(tenant)
    first.order = "sandbox:fault=status:500"
    reply = await send(house, tenant, surface=surface, stream=stream)
    heard = surface.stream(reply.raw) if stream else surface.plain(reply.body)
    assert (heard.text, heard.model) == ("w0 w1 w2 w3 w4", DEFAULT)
    await assert_billed(house, tenant, before, DEFAULT, spare.log[0])


@plain_and_stream
async def test_who_answers_when_asked_again_is_not_replaced(
    house: House, wired: None, first: FakeProvider, spare: FakeProvider, stream: bool
) -> None:
    tenant = await house.organization()
    before = await house.balance(tenant)
    first.orders.append("sandbox:fault=status:503")
    reply = await send(house, tenant, stream=stream)
    assert (reply.status, who(reply)) == (200, (ASKED, "anthropic", None))
    assert (first.calls, spare.calls) == (2, 0)
    assert [row[3:] for row in await attempts(house, tenant)] == [("failed", 503), ("answered", 200)]
    await assert_billed(house, tenant, before, ASKED, first.log[1])


async def test_another_connection_of_the_same_model_comes_before_another_model(
    house: House, connect: Connect, first: FakeProvider, spare: FakeProvider
) -> None:
    tenant = await house.organization()
    before = await house.balance(tenant)
    async with FakeProvider() as second:
        await connect("anthropic", second, priority=5)
        await connect("anthropic", first)
        await connect("openai", spare)
        first.order = "sandbox:fault=status:500"
        reply = await send(house, tenant)
        assert (reply.status, who(reply)[:2]) == (200, (ASKED, "anthropic"))
        assert who(reply)[2] != FALLEN_BACK
        assert (first.calls, second.calls, spare.calls) == (2, 1, 0)
        await assert_billed(house, tenant, before, ASKED, second.log[0])
        second.order = "sandbox:fault=refuse"
        assert who(await send(house, tenant))[0] == DEFAULT
        assert [row[1:4] for row in await attempts(house, tenant)] == [
            *[(ASKED, "anthropic", "failed")] * 4, (DEFAULT, "openai", "answered")
        ]  # fmt: skip


async def test_however_many_ask_at_once_each_is_answered_and_charged_once(
    house: House, wired: None, first: FakeProvider, spare: FakeProvider
) -> None:
    """While they ask, the first provider comes to be left alone."""
    tenant = await house.organization()
    before = await house.balance(tenant)
    first.order = "sandbox:fault=status:500"
    replies = await asyncio.gather(*(send(house, tenant, stream=number % 2 == 1) for number in range(30)))
    assert {(reply.status, *who(reply)) for reply in replies} == {(200, DEFAULT, "openai", FALLEN_BACK)}
    assert (spare.calls, first.calls < 60) == (30, True)
    await assert_billed(house, tenant, before, DEFAULT, *spare.log)


@plain_and_stream
async def test_under_an_idempotency_key_the_model_that_answered_is_told_again(
    house: House, wired: None, first: FakeProvider, spare: FakeProvider, stream: bool
) -> None:
    tenant = await house.organization()
    before = await house.balance(tenant)
    first.orders.extend(["sandbox:fault=status:500"] * 2)
    told, again = [await send(house, tenant, stream=stream, idempotency_key="k1") for _ in range(2)]
    assert again.headers["idempotent-replayed"] == "true"
    assert who(told)[0] == again.headers["x-tollhouse-model"] == DEFAULT
    heard = SURFACES[0].stream(again.raw) if stream else SURFACES[0].plain(again.body)
    assert (heard.text, heard.model) == ("w0 w1 w2 w3 w4", DEFAULT)
    assert (first.calls, spare.calls) == (2, 1)
    await assert_billed(house, tenant, before, DEFAULT, spare.log[0])


async def test_when_all_fail_the_client_is_told_of_the_last_and_pays_nothing(
    house: House, wired: None, first: FakeProvider, spare: FakeProvider
) -> None:
    tenant = await house.organization()
    before = await house.balance(tenant)
    first.order, spare.order = "sandbox:fault=refuse", "sandbox:fault=status:503"
    for stream in (False, True):
        reply = await send(house, tenant, stream=stream)
        assert (reply.status, reply.error["code"]) == (503, "provider_error")
    assert (first.calls, spare.calls) == (4, 4)
    assert [row[3] for row in await attempts(house, tenant)] == ["failed"] * 4
    assert await house.requests(tenant) == [("failed", False)] * 2
    await assert_nothing_taken(house, tenant, before)


# --------------------------------------------------------------------------------------------- nobody else is asked


@plain_and_stream
async def test_with_fallback_off_no_other_model_answers(
    house: House, wired: None, first: FakeProvider, spare: FakeProvider, stream: bool
) -> None:
    tenant = await house.organization()
    before = await house.balance(tenant)
    first.order = "sandbox:fault=status:500"
    reply = await send(house, tenant, stream=stream, x_tollhouse_fallback="off")
    assert (reply.status, reply.error["code"]) == (502, "provider_error")
    assert (first.calls, spare.calls) == (2, 0)
    await assert_nothing_taken(house, tenant, before)
    wrong = await send(house, tenant, x_tollhouse_fallback="perhaps")
    assert wrong.status == 400 and "X-Tollhouse-Fallback" in wrong.error["message"]


@each_surface
@plain_and_stream
async def test_a_request_that_the_provider_finds_wrong_goes_to_nobody_else(
    house: House, wired: None, first: FakeProvider, spare: FakeProvider, surface: Surface, stream: bool
) -> None:
    tenant = await house.organization()
    before = await house.balance(tenant)
    for status in (400, 413, 422):
        reply = await send(house, tenant, f"sandbox:fault=status:{status}", surface, stream)
        assert reply.status == 400
        assert reply.body["error"]["message"] == "The provider would not take the request: told to fail"
    assert (first.calls, spare.calls) == (3, 0)
    await assert_nothing_taken(house, tenant, before)


@pytest.mark.parametrize("fault", ["cut:3", "error:3"])
async def test_after_the_first_byte_nobody_else_is_asked(
    house: House, wired: None, first: FakeProvider, spare: FakeProvider, fault: str
) -> None:
    tenant = await house.organization()
    reply = await send(house, tenant, f"sandbox:tokens=9 sandbox:fault={fault}", stream=True)
    text, error = SURFACES[0].broken(reply.raw)
    assert (text, error["code"]) == ("w0 w1 w2", "provider_broke")
    assert (first.calls, spare.calls) == (1, 0)
    assert [row[3] for row in await attempts(house, tenant)] == ["incomplete"]


async def test_an_empty_answer_is_an_answer_whatever_comes_after_it(
    house: House, wired: None, first: FakeProvider, spare: FakeProvider
) -> None:
    """Once a client has been told that it is over, nobody begins anew."""
    tenant = await house.organization()
    late = b'data: {"error":{"message":"too late"}}\n\n'
    spare.raw_answers.append(stream_of(piece(ROLE), piece(STOP), late))
    reply = await send(house, tenant, model=DEFAULT, stream=True)
    assert SURFACES[0].stream(reply.raw).text == ""
    assert spare.calls == 1
    assert await house.requests(tenant) == [("done", False)]


# ------------------------------------------------------------------------------------- what belongs to a model


async def test_a_model_whose_limit_is_reached_stands_in_for_nobody(
    house: House, wired: None, first: FakeProvider, spare: FakeProvider
) -> None:
    tenant = await house.organization()
    rule = {"scope": "organization", "model": DEFAULT, "meter": "messages", "period": "day", "maximum": 1}
    await house.order("POST", f"/organizations/{tenant.id}/limits", rule)
    first.order = "sandbox:fault=status:500"
    assert who(await send(house, tenant))[0] == DEFAULT
    before = await house.balance(tenant)
    refused = await send(house, tenant)
    assert (refused.status, refused.error["code"]) == (502, "provider_error")
    assert (first.calls, spare.calls, await house.balance(tenant)) == (4, 1, before)
    assert [row[1] for row in await attempts(house, tenant)] == [ASKED, ASKED]


async def test_a_model_that_has_not_what_was_asked_for_stands_in_for_nobody(
    house: House, wired: None, first: FakeProvider, spare: FakeProvider
) -> None:
    tenant = await house.organization()
    before = await house.balance(tenant)
    first.order = "sandbox:fault=status:500"
    body = SURFACES[2].body(Wish(CALM, ASKED)) | {"top_k": 5}  # which OpenAI has not
    refused = await house.call("POST", SURFACES[2].path, json=body, headers=tenant.headers)
    assert (refused.status, refused.body["error"]["code"]) == (502, "provider_error")
    assert (first.calls, spare.calls) == (2, 0)
    await assert_nothing_taken(house, tenant, before)


async def test_a_trial_message_is_given_back_when_another_model_answers(
    house: House, wired: None, first: FakeProvider, spare: FakeProvider
) -> None:
    tenant = await house.organization()
    first.order = "sandbox:fault=status:500"
    assert who(await send(house, tenant, model=TRIED))[0] == DEFAULT
    first.order = ""
    for left in ("1", "0"):
        reply = await send(house, tenant, model=TRIED)
        assert (who(reply)[0], reply.headers["x-trial-remaining"]) == (TRIED, left)
    refused = await send(house, tenant, model=TRIED)
    assert (refused.status, refused.error["code"]) == (402, "trial_expired")


async def test_a_capability_goes_through_its_models_in_their_order(
    house: House, connect: Connect, first: FakeProvider, spare: FakeProvider
) -> None:
    """GPT-4o fails, then Gemini; Claude answers, at its own price and twice the credits, as the quality says."""
    for vendor, provider in (("openai", first), ("google", first), ("anthropic", spare)):
        await connect(vendor, provider)
    tenant = await house.organization(plan="team")
    before = await house.balance(tenant)
    first.order = "sandbox:fault=status:500"
    reply = await send(
        house, tenant, model="auto", x_tollhouse_capability="question_generation", x_tollhouse_quality="enhanced"
    )
    assert reply.status == 200, reply.raw
    assert who(reply)[:2] == ("claude-sonnet-4-20250514", "anthropic")
    assert [call.vendor for call in first.log] == ["openai", "openai", "google", "google"]
    tried = [("gpt-4o", "failed")] * 2 + [("gemini-2.5-flash", "failed")] * 2
    found = [(row[1], row[3]) for row in await attempts(house, tenant)]
    assert found == [*tried, ("claude-sonnet-4-20250514", "answered")]
    (call,) = spare.log
    assert before - await house.balance(tenant) == 2 * (300 * call.input_tokens + 1500 * call.output_tokens)


# ------------------------------------------------------------------------------------------------- health, and pauses


async def test_a_provider_that_keeps_failing_is_left_alone(
    house: House, wired: None, first: FakeProvider, spare: FakeProvider
) -> None:
    tenant = await house.organization()
    first.order = "sandbox:fault=status:500"
    for _ in range(3):
        assert who(await send(house, tenant))[0] == DEFAULT
    called = first.calls
    assert called == 5  # the fifth failure was enough: nobody asked it again
    before = await house.balance(tenant)
    reply = await send(house, tenant)
    assert (who(reply), first.calls) == ((DEFAULT, "openai", FALLEN_BACK), called)
    assert [row[3] for row in await attempts(house, tenant)] == ["failed", "answered"]
    assert before - await house.balance(tenant) == exact(DEFAULT, spare.log[-1])
    refused = await send(house, tenant, x_tollhouse_fallback="off")
    assert (refused.status, first.calls) == (503, called)
    assert 1 <= int(refused.headers["retry-after"]) <= 10
    assert await house.balance(tenant) == before - exact(DEFAULT, spare.log[-1])


@pytest.mark.parametrize(("wait", "times"), [(1, 2), (5, 1)])
async def test_a_provider_is_given_the_pause_it_asks_for_or_somebody_else_is_asked(
    house: House, wired: None, first: FakeProvider, spare: FakeProvider, wait: int, times: int
) -> None:
    """A second is waited for; for five seconds nobody has the time."""
    tenant = await house.organization()
    first.orders.append(f"sandbox:fault=status:429 fake:wait={wait}")
    began = asyncio.get_running_loop().time()
    reply = await send(house, tenant)
    took = asyncio.get_running_loop().time() - began
    assert (first.calls, spare.calls) == (times, 2 - times)
    assert (who(reply)[0], took >= 1) == ((ASKED, True) if times == 2 else (DEFAULT, False))


@plain_and_stream
async def test_when_the_client_leaves_during_a_pause_nobody_is_asked_any_more(
    house: House, wired: None, first: FakeProvider, spare: FakeProvider, stream: bool
) -> None:
    tenant = await house.organization()
    before = await house.balance(tenant)
    first.orders.append("sandbox:fault=status:429 fake:wait=1")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.4):
            await send(house, tenant, stream=stream)
    assert await house.quiet(tenant, 1) == [("failed", True)]
    assert (first.calls, spare.calls) == (1, 0)
    await assert_nothing_taken(house, tenant, before)


class ByModel:
    """A provider that has each model somewhere else."""

    def __init__(self, **providers: Provider) -> None:
        self._providers = providers

    async def send(self, operation: Operation, model: str, body: bytes, *, stream: bool) -> ProviderReply:
        vendor = "anthropic" if model.startswith("claude") else "openai"
        return await self._providers[vendor].send(operation, model, body, stream=stream)

    async def check(self) -> None:
        raise NotImplementedError

    async def close(self) -> None:
        for provider in self._providers.values():
            await provider.close()


@plain_and_stream
async def test_a_provider_that_does_not_begin_in_time_is_not_waited_for_twice(
    house: House, wired: None, first: FakeProvider, spare: FakeProvider, stream: bool
) -> None:
    tenant = await house.organization()
    before = await house.balance(tenant)
    first.order = "sandbox:fault=hang"
    hasty = Anthropic(first.root, KEY, Deadlines(first_byte=0.2), allow_private=True)
    providers = ByModel(anthropic=hasty, openai=OpenAICompatible(spare.url, KEY, allow_private=True))
    async with desk(house.database_url) as calls:
        call = await calls.start(tenant, providers, SURFACES[0].body(Wish(CALM, ASKED, stream=stream)))
        await call.begun
        await house.quiet(tenant, 1)
    await providers.close()
    assert (first.calls, spare.calls) == (1, 1)
    assert [row[1] for row in await attempts(house, tenant)] == [ASKED, DEFAULT]
    await assert_billed(house, tenant, before, DEFAULT, spare.log[0])


async def test_after_its_pause_a_provider_is_tried_with_one_call_and_then_trusted_again(
    house: House, wired: None, first: FakeProvider, spare: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(breaker, "COOLDOWN_S", 0.6)
    tenant = await house.organization()
    providers = ByModel(
        anthropic=Anthropic(first.root, KEY, allow_private=True),
        openai=OpenAICompatible(spare.url, KEY, allow_private=True),
    )
    body = SURFACES[0].body(Wish(CALM, ASKED))
    async with desk(house.database_url) as calls:

        async def model() -> str:
            call = await calls.start(tenant, providers, body)
            await call.begun
            return call.candidate.model.id

        first.order = "sandbox:fault=status:500"
        assert [await model() for _ in range(3)] == [DEFAULT] * 3
        first.order, failed = "", first.calls
        assert (await model(), first.calls) == (DEFAULT, failed)
        await asyncio.sleep(0.7)
        first.order = "sandbox:first=300"
        found = await asyncio.gather(*(model() for _ in range(4)))
        assert (sorted(found), first.calls) == ([ASKED, *[DEFAULT] * 3], failed + 1)
        first.order = ""
        assert await asyncio.gather(*(model() for _ in range(4))) == [ASKED] * 4
    await providers.close()


# --------------------------------------------------------------------------------------------------------- kill -9


async def test_a_process_that_is_killed_while_the_next_model_is_asked_costs_what_that_model_was_given(
    cluster: Cluster, seeded_template: SeededTemplate, first: FakeProvider, spare: FakeProvider
) -> None:
    first.order, spare.order = "sandbox:fault=status:500", "sandbox:fault=hang"
    async with fresh_house(cluster, seeded_template) as house:
        for vendor, url in (("anthropic", first.root), ("openai", spare.url)):
            await house.order("POST", "/connections", {"provider": vendor, "base_url": url, "key": KEY})
        tenant = await house.organization()
        before = await house.balance(tenant)
        asking = asyncio.create_task(send(house, tenant))
        await spare.call(0)
        await house.server.kill()
        with pytest.raises(aiohttp.ClientError):
            await asking
        assert await attempts(house, tenant) == [
            (1, ASKED, "anthropic", "failed", 500),
            (2, ASKED, "anthropic", "failed", 500),
            (3, DEFAULT, "openai", None, None),
        ]
        assert await reaped(house, tenant) is True
        ((model, tokens_in, tokens_out, estimated, charged),) = await house.rows(
            """SELECT model_id, input_tokens, output_tokens, estimated, charged_micros FROM usage_event
               WHERE organization_id = %s""",
            tenant.id,
        )
        assert (model, tokens_out, estimated) == (DEFAULT, 0, True)
        assert charged == tokens_in * LIST[DEFAULT][0] == before - await left(house, tenant)


async def left(house: House, tenant: Tenant) -> int:
    """What is available, in micro-credits, when no server can tell."""
    query = "SELECT remaining_micros - reserved_micros - debt_micros FROM credit_balance WHERE organization_id = %s"
    ((micros,),) = await house.rows(query, tenant.id)
    return int(micros)


async def reaped(house: House, tenant: Tenant) -> bool:
    """Whether the one call was still open when its lease was over."""
    ((id_,),) = await house.rows("SELECT id FROM reservation WHERE organization_id = %s", tenant.id)
    teller = Teller(house.database_url, "test", lambda: datetime.now(UTC) + timedelta(minutes=2))
    await teller.open()
    try:
        return await teller.do(Reap(tenant.id, UUID(str(id_))))
    finally:
        await teller.close()
