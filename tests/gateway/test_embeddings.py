"""POST /v1/embeddings: texts to vectors, by the sandbox and by a provider; only the input is charged."""

from __future__ import annotations

import struct
from base64 import b64decode
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from tests.conftest import Cluster, SeededTemplate
from tests.fake_openai import VECTOR
from tests.fake_provider import FakeProvider
from tests.gateway.connected import connected_house
from tests.house import House, Reply, Tenant, micros
from tollhouse.core.token import count_tokens

pytestmark = pytest.mark.asyncio(loop_scope="module")

PATH = "/v1/embeddings"
SMALL, LARGE = "text-embedding-3-small", "text-embedding-3-large"
PRICES = {SMALL: 2, LARGE: 13}  # micro-credits a token: the list prices at a hundred credits a dollar


async def embed(house: House, tenant: Tenant, given: object, model: str = SMALL, **fields: Any) -> Reply:
    return await house.call("POST", PATH, json={"model": model, "input": given, **fields}, headers=tenant.headers)


async def assert_nothing_taken(house: House, tenant: Tenant) -> None:
    assert await house.balance(tenant) == 100_000_000
    assert await house.usage(tenant) == []


@pytest.mark.parametrize("model", [SMALL, LARGE])
@pytest.mark.parametrize(
    ("given", "vectors", "tokens"),
    [
        ("Why is the sky blue?", 1, count_tokens("Why is the sky blue?")),
        (["Why?", "Because of the air."], 2, count_tokens("Why?") + count_tokens("Because of the air.")),
        ([5, 6, 7], 1, 3),
        ([[5, 6, 7], [8]], 2, 4),
    ],
    ids=["text", "texts", "tokens", "lists-of-tokens"],
)
@pytest.mark.usefixtures("proved")
async def test_the_input_is_charged_at_its_price_and_nothing_else(
    house: House, model: str, given: Any, vectors: int, tokens: int
) -> None:
    tenant = await house.organization()
    reply = await embed(house, tenant, given, model)
    assert reply.status == 200, reply.raw
    cost = tokens * PRICES[model]
    assert set(reply.body) == {"object", "data", "model", "usage"}
    assert [one["index"] for one in reply.body["data"]] == list(range(vectors))
    assert {len(one["embedding"]) for one in reply.body["data"]} == {1536 if model == SMALL else 3072}
    usage = reply.body["usage"]
    assert (usage["prompt_tokens"], usage["total_tokens"], micros(usage["credits"])) == (tokens, tokens, cost)
    assert "estimated" not in usage
    assert micros(reply.headers["x-credits-used"]) == micros(reply.headers["x-credits-reserved"]) == cost
    assert (reply.headers["x-tollhouse-model"], reply.headers["x-tollhouse-provider"]) == (model, "sandbox")
    assert await house.usage(tenant) == [(tokens, 0, False, cost)]
    assert await house.balance(tenant) == 100_000_000 - cost


async def test_base64_and_dimensions_are_passed_on(house: House) -> None:
    tenant = await house.organization()
    numbers = (await embed(house, tenant, "the same", dimensions=64)).body["data"][0]["embedding"]
    packed = (await embed(house, tenant, "the same", dimensions=64, encoding_format="base64")).body["data"][0][
        "embedding"
    ]
    assert list(struct.unpack("<64f", b64decode(packed))) == numbers
    refused = await embed(house, tenant, "the same", dimensions=4000)
    assert (refused.status, refused.error["code"]) == (400, "provider_error")
    assert "1 to 1536" in refused.error["message"]


@pytest.mark.parametrize("model", ["gpt-4o-mini", "auto"])
@pytest.mark.usefixtures("proved")
async def test_a_model_that_chats_makes_no_vectors(house: House, model: str) -> None:
    tenant = await house.organization()
    reply = await embed(house, tenant, "Hello", model)
    assert (reply.status, reply.error["code"], reply.error["param"]) == (400, "invalid_request", "model")
    assert ("POST /v1/chat/completions" if model != "auto" else "embedding model") in reply.error["message"]
    await assert_nothing_taken(house, tenant)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "Hello"}]}),
        ("/v1/responses", {"input": "Hello"}),
        ("/v1/messages", {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 9}),
    ],
)
@pytest.mark.usefixtures("proved")
async def test_a_model_that_makes_vectors_does_not_chat(house: House, path: str, body: dict[str, Any]) -> None:
    tenant = await house.organization()
    reply = await house.call("POST", path, json=body | {"model": SMALL}, headers=tenant.headers)
    assert reply.status == 400
    assert "POST /v1/embeddings" in reply.body["error"]["message"]
    await assert_nothing_taken(house, tenant)


@pytest.mark.usefixtures("proved")
async def test_a_provider_that_fails_costs_nothing_and_one_that_does_not_count_is_counted_for(house: House) -> None:
    tenant = await house.organization()
    failed = await embed(house, tenant, ["Hello", "sandbox:fault=status:500"])
    assert (failed.status, failed.error["code"]) == (502, "provider_error")
    broken = await embed(house, tenant, "sandbox:fault=garbage")
    assert broken.status == 502
    await assert_nothing_taken(house, tenant)
    told = await embed(house, tenant, "sandbox:fault=nousage")
    assert told.status == 200
    assert told.body["usage"]["estimated"] is True
    assert [row[2] for row in await house.usage(tenant)] == [True]


async def test_credits_and_requests_are_checked_as_for_any_call(house: House) -> None:
    poor = await house.organization(credits="0.000005")
    assert (await embed(house, poor, [1, 2, 3])).error["code"] == "insufficient_credits"
    assert (await embed(house, poor, [1, 2])).status == 200
    stream = await embed(house, poor, "Hello", stream=True)
    assert (stream.status, stream.error["param"]) == (400, "stream")


# -------------------------------------------------------------------------------------------------- at a real provider


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def provider() -> AsyncIterator[FakeProvider]:
    async with FakeProvider(keys=["sk-0123456789"]) as made:
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def connected(cluster: Cluster, seeded_template: SeededTemplate, provider: FakeProvider) -> AsyncIterator[House]:
    settings: dict[str, Any] = {"OPENAI_BASE_URL": provider.url, "OPENAI_API_KEY": "sk-0123456789"}
    async with connected_house(cluster, seeded_template, settings) as made:
        yield made


@pytest.mark.parametrize("form", [None, "float", "base64"])
async def test_a_provider_gets_the_request_as_it_came_and_its_vectors_come_back_untouched(
    connected: House, provider: FakeProvider, form: str | None
) -> None:
    tenant = await connected.organization()
    fields: dict[str, Any] = {"dimensions": 3, "user": "u_1"} | ({} if form is None else {"encoding_format": form})
    reply = await embed(connected, tenant, ["Hello you", "and you"], **fields)
    call = provider.log[-1]
    assert reply.status == 200, reply.raw
    assert (call.path, call.key) == ("/v1/embeddings", "sk-0123456789")
    assert call.body == {"model": SMALL, "input": ["Hello you", "and you"], **fields}
    for one in reply.body["data"]:
        vector = one["embedding"]
        assert (struct.unpack("<3f", b64decode(vector)) if form == "base64" else tuple(vector)) == VECTOR
    cost = call.input_tokens * PRICES[SMALL]
    assert reply.body["usage"]["prompt_tokens"] == call.input_tokens
    assert micros(reply.headers["x-credits-used"]) == cost
    assert await connected.usage(tenant) == [(call.input_tokens, 0, False, cost)]
    await connected.assert_ledger_holds()


async def test_a_provider_that_fails_once_is_asked_again_and_no_other_model_stands_in(
    connected: House, provider: FakeProvider
) -> None:
    tenant = await connected.organization()
    before = provider.calls
    provider.orders.append("sandbox:fault=status:500")
    assert (await embed(connected, tenant, "Hello")).status == 200
    assert provider.calls == before + 2
    provider.orders.extend(["sandbox:fault=status:500"] * 2)
    assert (await embed(connected, tenant, "Hello")).status == 502
    assert provider.calls == before + 4
    assert [call.path for call in provider.log[before:]] == [PATH] * 4
    assert len(await connected.usage(tenant)) == 1
