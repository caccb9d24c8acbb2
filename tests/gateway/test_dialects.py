"""Each dialect of clients against each vendor: what is asked arrives, what is answered arrives, and the bill agrees."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from tests.conftest import Cluster, SeededTemplate
from tests.fake_provider import VENDORS, Call, FakeProvider
from tests.fake_vendor import example_of
from tests.gateway.bill import LIST, assert_billed, assert_nothing_taken, credits_of, dollars_of
from tests.gateway.received import image_in, results_in
from tests.gateway.surfaces import PNG, SURFACES, Heard, Surface, Wish, parameters
from tests.house import House, Reply, Tenant
from tests.house import house as running
from tests.server import Program

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.usefixtures("proved")]

# By vendor: a model of it, what it calls that model, and the key that the installation has there.
MODELS = {
    "openai": ("gpt-4o-mini", "gpt-4o-mini", "sk-openai-0123456789"),
    "anthropic": ("claude-3-5-haiku", "claude-3-5-haiku-20241022", "sk-ant-0123456789"),
    "google": ("gemini-pro-1.5", "gemini-1.5-pro-latest", "AIza-google-0123456789"),
}
VENDOR_NAMES = {model: name for model, name, _ in MODELS.values()}
NOTES = "fake:think=3 fake:cached=2 sandbox:tokens=7 sandbox:delay=0"

each_surface = pytest.mark.parametrize("surface", SURFACES, ids=[one.name for one in SURFACES])
each_vendor = pytest.mark.parametrize("vendor", list(MODELS))
plain_and_stream = pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def provider() -> AsyncIterator[FakeProvider]:
    async with FakeProvider(keys=[key for _, _, key in MODELS.values()]) as made:
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(cluster: Cluster, seeded_template: SeededTemplate, provider: FakeProvider) -> AsyncIterator[House]:
    """All three vendors are connected by the environment, to one fake provider."""
    connected: dict[str, Any] = {
        "OPENAI_BASE_URL": provider.url,
        "ANTHROPIC_BASE_URL": provider.root,
        "GOOGLE_BASE_URL": provider.root,
        **{f"{vendor.upper()}_API_KEY": key for vendor, (_, _, key) in MODELS.items()},
    }
    with cluster.database(seeded_template.name) as url:
        async with Program(url, "seed", **connected) as seed:
            assert await seed.wait() == 0
        async with running(url, seeded_template) as made:
            yield made
    if provider.open_connections:
        async with asyncio.timeout(5):
            await provider.all_closed.wait()


@pytest_asyncio.fixture(loop_scope="module")
async def tenant(house: House) -> Tenant:
    return await entitled(house)


async def entitled(house: House) -> Tenant:
    """Somebody who may use all of the models."""
    made = await house.organization()
    right = {"organization_id": str(made.id), "model_id": "gemini-pro-1.5", "source": "admin_grant", "note": "test"}
    await house.order("POST", "/entitlements", right)
    return made


def wish(text: str, vendor: str, **more: Any) -> Wish:
    return Wish(text, MODELS[vendor][0], **more)


async def send(house: House, tenant: Tenant, surface: Surface, body: dict[str, Any]) -> Reply:
    """Nobody else answers in its place."""
    headers = tenant.headers | {"x-tollhouse-fallback": "off"}
    return await house.call("POST", surface.path, json=body, headers=headers)


async def answered(house: House, tenant: Tenant, surface: Surface, body: dict[str, Any]) -> Heard:
    reply = await send(house, tenant, surface, body)
    assert reply.status == 200, reply.raw
    heard = surface.stream(reply.raw) if body.get("stream") else surface.plain(reply.body)
    assert reply.headers["x-tollhouse-model"] == body["model"]
    assert heard.model in (body["model"], VENDOR_NAMES[body["model"]])  # the vendor's own where its bytes are passed on
    if not body.get("stream"):
        assert reply.headers["x-credits-used"] == format(heard.counts.credits.normalize(), "f")
    return heard


async def newest(provider: FakeProvider, number: int = -1) -> Call:
    """The last call, once the provider is through with it, after what must hold of each."""
    call = provider.log[number]
    await call.ended.wait()
    _, name, key = MODELS[call.vendor]
    assert call.key == key
    assert name in (call.path if call.vendor == "google" else call.body["model"])
    return call


def assert_told(heard: Heard, model: str, call: Call) -> None:
    """The client is told what the provider counted, and what is charged for it."""
    counts = heard.counts
    assert (counts.input, counts.cached, counts.output) == (call.input_tokens, call.cached_tokens, call.output_tokens)
    assert counts.written == call.written_tokens
    assert (counts.credits, counts.cost_usd) == (credits_of(model, call), dollars_of(model, call))
    assert counts.estimated is False


# --------------------------------------------------------------------------------------------------------- answers


@each_surface
@each_vendor
@plain_and_stream
async def test_an_answer_is_heard_word_for_word_and_charged_as_the_provider_bills_it(
    house: House, provider: FakeProvider, tenant: Tenant, surface: Surface, vendor: str, stream: bool
) -> None:
    before = await house.balance(tenant)
    written = " fake:written=1" if vendor == "anthropic" else ""
    asked = wish(f"Tell me. {NOTES}{written}", vendor, stream=stream)
    heard = await answered(house, tenant, surface, surface.body(asked))
    call = await newest(provider)
    assert (call.vendor, call.outcome) == (vendor, "answered")
    assert (heard.text, heard.thoughts) == ("w0 w1 w2 w3 w4 w5 w6", "t0 t1 t2")
    assert (heard.ended, heard.uses) == ("stop", [])
    assert (call.output_tokens, call.thought_tokens, call.cached_tokens) == (10, 3, 2)
    assert_told(heard, asked.model, call)
    await assert_billed(house, tenant, before, asked.model, call)


@each_surface
@each_vendor
@plain_and_stream
async def test_two_tools_at_once_are_used_and_their_results_come_back_to_the_model(
    house: House, provider: FakeProvider, tenant: Tenant, surface: Surface, vendor: str, stream: bool
) -> None:
    before = await house.balance(tenant)
    asked = wish("Which? fake:calls=2", vendor, stream=stream, tools=("weather", "time", "news"))
    body = surface.body(asked)
    heard = await answered(house, tenant, surface, body)
    first = await newest(provider)
    assert heard.ended == "tool_calls"
    assert [use[1:] for use in heard.uses] == [("weather", {"city": "C0"}), ("time", {"city": "C1"})]
    assert len({use[0] for use in heard.uses}) == 2
    assert VENDORS[vendor].asked(first).tools == asked.tools
    told = surface.with_results(body, heard, ["rain", "noon"])
    provider.orders.append("sandbox:tokens=4 fake:calls=0")
    last = await answered(house, tenant, surface, told)
    second = await newest(provider)
    assert results_in(second) == [("weather", "rain"), ("time", "noon")]
    assert (last.text, last.ended) == ("w0 w1 w2 w3", "stop")
    assert_told(last, asked.model, second)
    await assert_billed(house, tenant, before, asked.model, first, second)


@each_surface
@each_vendor
async def test_an_image_arrives_as_data(
    house: House, provider: FakeProvider, tenant: Tenant, surface: Surface, vendor: str
) -> None:
    before = await house.balance(tenant)
    asked = wish("What is it?", vendor, image=True)
    await answered(house, tenant, surface, surface.body(asked))
    call = await newest(provider)
    assert image_in(call) == ("image/png", PNG)
    await assert_billed(house, tenant, before, asked.model, call)


@each_surface
@each_vendor
@plain_and_stream
async def test_an_answer_in_json_has_the_form_that_was_asked_for(
    house: House, provider: FakeProvider, tenant: Tenant, surface: Surface, vendor: str, stream: bool
) -> None:
    before = await house.balance(tenant)
    schema = parameters() | {"additionalProperties": False}
    asked = wish("In JSON.", vendor, schema=schema, stream=stream)
    heard = await answered(house, tenant, surface, surface.body(asked))
    call = await newest(provider)
    assert VENDORS[vendor].asked(call).schema == schema
    assert json.loads(heard.text) == example_of(schema)
    await assert_billed(house, tenant, before, asked.model, call)


@each_surface
@each_vendor
@plain_and_stream
async def test_the_callers_maximum_ends_the_answer_and_the_client_is_told_so(
    house: House, provider: FakeProvider, tenant: Tenant, surface: Surface, vendor: str, stream: bool
) -> None:
    before = await house.balance(tenant)
    asked = wish("sandbox:tokens=50", vendor, most=6, stream=stream)
    heard = await answered(house, tenant, surface, surface.body(asked))
    call = await newest(provider)
    assert VENDORS[vendor].asked(call).most == 6
    assert (heard.text, heard.ended) == ("w0 w1 w2 w3 w4 w5", "length")
    await assert_billed(house, tenant, before, asked.model, call)


@each_surface
@each_vendor
@plain_and_stream
async def test_an_answer_that_nobody_counted_is_estimated_and_the_estimate_is_flagged(
    house: House, provider: FakeProvider, tenant: Tenant, surface: Surface, vendor: str, stream: bool
) -> None:
    before = await house.balance(tenant)
    asked = wish("sandbox:tokens=9 sandbox:fault=nousage", vendor, stream=stream)
    heard = await answered(house, tenant, surface, surface.body(asked))
    assert (await newest(provider)).outcome == "answered"
    assert heard.counts.estimated is True
    ((tokens_in, tokens_out, estimated, charged),) = await house.usage(tenant)
    assert (tokens_in, tokens_out) == (heard.counts.input, heard.counts.output)
    assert estimated and tokens_in > 0 and (tokens_out == 9 if stream else 1 <= tokens_out <= 60)
    price_in, _, _, price_out = LIST[asked.model]
    assert charged == tokens_in * price_in + tokens_out * price_out == before - await house.balance(tenant)


# ---------------------------------------------------------------------------------------------------------- faults

# The provider's status, what the client is told, and how often the provider is asked.
REFUSALS = [(400, 400, 1), (401, 502, 1), (429, 429, 2), (500, 502, 2), (503, 503, 2)]


def error_of(surface: Surface, reply: Reply) -> dict[str, Any]:
    body = reply.body
    assert ("type" in body) == (surface.name == "messages"), "an error in another dialect's shape"
    error: dict[str, Any] = body["error"]
    return error


@each_surface
@each_vendor
async def test_a_provider_that_refuses_costs_nothing_and_is_told_of_in_the_clients_dialect(
    house: House, provider: FakeProvider, tenant: Tenant, surface: Surface, vendor: str
) -> None:
    """Between two refusals it answers somebody else, or it would be left alone for a while."""
    before, other = await house.balance(tenant), await entitled(house)
    for stream in (False, True):
        for refused, told, asked_times in REFUSALS:
            for _ in range(2):
                await answered(house, other, surface, surface.body(wish("sandbox:tokens=1", vendor, stream=stream)))
            number = provider.calls
            text = f"sandbox:fault=status:{refused} fake:wait=1"
            reply = await send(house, tenant, surface, surface.body(wish(text, vendor, stream=stream)))
            assert (reply.status, error_of(surface, reply)["code"]) == (told, "provider_error"), reply.raw
            assert provider.calls - number == asked_times
            assert reply.headers.get("retry-after") == ("1" if refused in (429, 503) else None)
    await assert_nothing_taken(house, tenant, before)


@each_surface
@each_vendor
@pytest.mark.parametrize("fault", ["error:3", "cut:3"])
async def test_an_answer_that_breaks_off_ends_in_an_error_and_what_had_come_is_charged(
    house: House, provider: FakeProvider, tenant: Tenant, surface: Surface, vendor: str, fault: str
) -> None:
    before = await house.balance(tenant)
    asked = wish(f"sandbox:tokens=9 sandbox:fault={fault}", vendor, stream=True)
    reply = await send(house, tenant, surface, surface.body(asked))
    text, error = surface.broken(reply.raw)
    assert (reply.status, text, error["code"]) == (200, "w0 w1 w2", "provider_broke")
    assert "told to fail" not in json.dumps(error)
    assert (await newest(provider)).output_tokens == 3
    assert await house.quiet(tenant, 1) == [("incomplete", False)]
    ((tokens_in, tokens_out, estimated, charged),) = await house.usage(tenant)
    assert (tokens_out, estimated) == (3, vendor != "google")  # Google counts in each event
    price_in, _, _, price_out = LIST[asked.model]
    assert charged == tokens_in * price_in + 3 * price_out == before - await house.balance(tenant)


@each_surface
@each_vendor
@plain_and_stream
async def test_a_client_that_leaves_pays_for_the_whole_answer(
    house: House, provider: FakeProvider, tenant: Tenant, surface: Surface, vendor: str, stream: bool
) -> None:
    before, number = await house.balance(tenant), provider.calls
    asked = wish("sandbox:tokens=12 sandbox:delay=15", vendor, stream=stream)
    request = house.session.post(house.server.url + surface.path, json=surface.body(asked), headers=tenant.headers)
    if stream:
        async with request as response:
            await response.content.readline()
            response.close()
    else:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.08):
                await request
    await provider.call(number)
    call = await newest(provider, number)
    assert (call.outcome, call.output_tokens) == ("answered", 12)
    assert await house.quiet(tenant, 1) == [("done", True)]
    await assert_billed(house, tenant, before, asked.model, call)


# By dialect and vendor: a field that the one has and the other has not (or nobody can price), and what the refusal
# calls it.
LACKING: dict[tuple[str, str], tuple[dict[str, Any], str]] = {
    ("chat", "openai"): ({"audio": {"voice": "alloy", "format": "wav"}}, "audio"),
    ("chat", "anthropic"): ({"seed": 7}, "seed"),
    ("chat", "google"): ({"logit_bias": {"50256": -100}}, "logit_bias"),
    ("responses", "openai"): ({"previous_response_id": "resp_1"}, "previous_response_id"),
    ("responses", "anthropic"): ({"top_logprobs": 2}, "top_logprobs"),
    ("responses", "google"): ({"parallel_tool_calls": False}, "parallel_tool_calls"),
    ("messages", "openai"): ({"top_k": 5}, "top_k"),
    ("messages", "anthropic"): ({"container": "c1"}, "container"),
    ("messages", "google"): ({"stop_sequences": list("abcdef")}, "stop_sequences"),
}


@each_surface
@each_vendor
async def test_what_a_vendor_has_not_is_refused_by_its_name_before_anybody_is_asked(
    house: House, provider: FakeProvider, tenant: Tenant, surface: Surface, vendor: str
) -> None:
    before, calls = await house.balance(tenant), provider.calls
    fields, name = LACKING[surface.name, vendor]
    for stream in (False, True):
        reply = await send(house, tenant, surface, surface.body(wish("hi", vendor, stream=stream)) | fields)
        assert reply.status == 400, reply.raw
        assert name in error_of(surface, reply)["message"]
    assert provider.calls == calls
    await assert_nothing_taken(house, tenant, before)


# ------------------------------------------------------------------------------------------------ counting, and the end


@each_vendor
async def test_tokens_are_counted_by_the_vendor_that_counts_and_estimated_for_the_others(
    house: House, provider: FakeProvider, tenant: Tenant, vendor: str
) -> None:
    before, number = await house.balance(tenant), provider.calls
    body = {"model": MODELS[vendor][0], "messages": [{"role": "user", "content": "How long is this?"}]}
    reply = await house.call("POST", "/v1/messages/count_tokens", json=body, headers=tenant.headers)
    assert reply.status == 200, reply.raw
    if vendor == "anthropic":
        call = await newest(provider)
        assert call.path == "/v1/messages/count_tokens"
        assert reply.body == {"input_tokens": call.input_tokens}
    else:
        assert reply.body["estimated"] is True and reply.body["input_tokens"] > 0
    assert provider.calls - number == (vendor == "anthropic")
    await assert_nothing_taken(house, tenant, before)


async def test_after_all_that_no_call_runs_and_nothing_is_reserved(house: House) -> None:
    assert await house.rows("SELECT count(*) FROM request WHERE state = 'running'") == [(0,)]
    assert await house.rows("SELECT count(*) FROM reservation WHERE state = 'pending'") == [(0,)]
    async with asyncio.timeout(5):
        assert await house.server.stop() == 0
