"""Idempotency keys on the calls of `/v1`: what is sent again is answered again, and done once."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from tests.conftest import Cluster, SeededTemplate
from tests.fake_provider import FakeProvider
from tests.gateway.connected import connected_house, rest
from tests.gateway.repeated import code, heard, post
from tests.gateway.surfaces import SURFACES, Surface, Wish
from tests.house import House, Tenant, ask, micros
from tests.server import Server
from tests.wire_proxy import Point, WireProxy

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.usefixtures("proved")]

NATIVE, FOREIGN = "gpt-4o-mini", "claude-3-5-haiku"  # of chat completions; messages have it the other way round
VECTORS = "vectors"
EMBEDDINGS = "/v1/embeddings"
SHORT = "sandbox:tokens=5 sandbox:delay=0"

each_surface = pytest.mark.parametrize("surface", SURFACES, ids=[one.name for one in SURFACES])
plain_and_stream = pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def provider() -> AsyncIterator[FakeProvider]:
    async with FakeProvider() as made:
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(cluster: Cluster, seeded_template: SeededTemplate, provider: FakeProvider) -> AsyncIterator[House]:
    """Two processes, connected to the fake provider as OpenAI and as Anthropic."""
    connected = {
        "OPENAI_BASE_URL": provider.url, "OPENAI_API_KEY": "sk-openai-0123456789",
        "ANTHROPIC_BASE_URL": provider.root, "ANTHROPIC_API_KEY": "sk-ant-0123456789",
    }  # fmt: skip
    async with connected_house(cluster, seeded_template, connected, 2) as made:
        await made.change(
            """INSERT INTO model (id, provider_id, provider_model_id, display_name, tier, context_window,
                   max_output_tokens, kind) VALUES ('vectors', 'openai', 'vectors-1', 'Vectors', 'free', 8192, 1,
                   'embedding')"""
        )
        await made.change(
            """INSERT INTO model_price (model_id, version, effective_from, input_nanos_per_million,
                   cached_input_nanos_per_million, output_nanos_per_million)
               VALUES ('vectors', 1, '2020-01-01', 20000000, 20000000, 0)"""
        )
        yield made


@pytest_asyncio.fixture(autouse=True, loop_scope="module")
async def rested(house: House) -> None:
    await rest(house)


async def assert_once(house: House, tenant: Tenant, before: int) -> None:
    """One call was made, ended well, and was charged."""
    assert [state for state, _ in await house.quiet(tenant)] == ["done"]
    ((*_, cost),) = await house.usage(tenant)
    assert before - await house.balance(tenant) == cost > 0


# ----------------------------------------------------------------------------------------------------- the same request


@pytest.mark.parametrize("tools", [(), ("weather", "news")], ids=["text", "tools"])
@plain_and_stream
@pytest.mark.parametrize("model", [NATIVE, FOREIGN])
@each_surface
async def test_the_same_request_is_answered_again_and_done_once(
    house: House, provider: FakeProvider, surface: Surface, model: str, stream: bool, tools: tuple[str, ...]
) -> None:
    """By whichever process is asked."""
    tenant, calls = await house.organization(), provider.calls
    before = await house.balance(tenant)
    words = f"fake:think=2 fake:cached=3 {SHORT}" + (" fake:calls=2" if tools else "")
    body = surface.body(Wish(words, model, stream, tools=tools))
    first = await post(house, tenant, surface.path, body, "a key")
    again = [await post(house, tenant, surface.path, body, "a key", server) for server in house.servers]
    told = heard(surface, first, stream)
    assert len(told.uses) == len(tools) and (tools or told.text == "w0 w1 w2 w3 w4")
    assert "idempotent-replayed" not in first.headers
    for reply in again:
        assert heard(surface, reply, stream) == told
        assert reply.headers["idempotent-replayed"] == "true"
        assert reply.headers["x-tollhouse-model"] == first.headers["x-tollhouse-model"] == model
        assert reply.headers["x-request-id"] != first.headers["x-request-id"]
        if not stream:
            assert reply.body == first.body
            for name in ("x-credits-used", "x-balance-remaining"):
                assert reply.headers[name] == first.headers[name]
    assert provider.calls - calls == 1
    await assert_once(house, tenant, before)
    ((*_, cost),) = await house.usage(tenant)
    assert told.counts.credits * 1_000_000 == cost


@pytest.mark.parametrize("form", ["float", "base64"])
async def test_the_same_texts_become_the_same_vectors_and_are_done_once(
    house: House, provider: FakeProvider, form: str
) -> None:
    tenant, calls = await house.organization(), provider.calls
    before = await house.balance(tenant)
    body = {"model": VECTORS, "input": ["one text", "another"], "encoding_format": form}
    first, *again = [await post(house, tenant, EMBEDDINGS, body, "a key", server) for server in (None, *house.servers)]
    assert first.status == 200 and len(first.body["data"]) == 2
    for reply in again:
        assert reply.body == first.body and reply.headers["idempotent-replayed"] == "true"
    assert provider.calls - calls == 1
    await assert_once(house, tenant, before)


@plain_and_stream
async def test_several_answers_are_all_told_again(house: House, stream: bool) -> None:
    """From the sandbox, which alone gives several."""
    tenant = await house.organization()
    body = ask(SHORT, n=3, stream=stream)
    first, again = [await post(house, tenant, SURFACES[0].path, body, "a key") for _ in range(2)]
    if not stream:
        assert len(first.body["choices"]) == 3 and again.body == first.body
        return
    texts = [Counter[int](), Counter[int]()]
    told: list[dict[int, str]] = [{}, {}]
    for number, reply in enumerate((first, again)):
        for line in reply.raw.decode().split("\n\n")[:-2]:
            for choice in json.loads(line.removeprefix("data: "))["choices"]:
                index = choice["index"]
                told[number][index] = told[number].get(index, "") + (choice["delta"].get("content") or "")
                texts[number][index] += choice["finish_reason"] is not None
    assert told[0] == told[1] and set(told[0]) == {0, 1, 2}
    assert texts == [Counter({0: 1, 1: 1, 2: 1})] * 2


async def test_a_stream_without_usage_is_told_again_without_usage(house: House) -> None:
    tenant = await house.organization()
    body = ask(SHORT, NATIVE, stream=True)
    first, again = [await post(house, tenant, SURFACES[0].path, body, "a key") for _ in range(2)]
    for reply in (first, again):
        assert reply.raw.endswith(b"data: [DONE]\n\n") and b'"credits"' not in reply.raw
    assert again.headers["idempotent-replayed"] == "true"


@plain_and_stream
@each_surface
async def test_of_many_at_once_one_is_done_and_the_others_are_told_to_wait(
    house: House, provider: FakeProvider, surface: Surface, stream: bool
) -> None:
    tenant, calls = await house.organization(), provider.calls
    before = await house.balance(tenant)
    body = surface.body(Wish("sandbox:tokens=5 sandbox:delay=40", NATIVE, stream))
    wanted = [post(house, tenant, surface.path, body, "a key", house.servers[number % 2]) for number in range(20)]
    replies = await asyncio.gather(*wanted)
    assert Counter(reply.status for reply in replies) == {200: 1, 409: 19}
    for reply in replies:
        if reply.status == 409:
            assert (code(reply), reply.headers["retry-after"]) == ("conflict", "1")
    (answered,) = [reply for reply in replies if reply.status == 200]
    again = await post(house, tenant, surface.path, body, "a key")
    assert heard(surface, again, stream) == heard(surface, answered, stream)
    assert provider.calls - calls == 1
    await assert_once(house, tenant, before)


@plain_and_stream
@each_surface
async def test_who_left_gets_the_whole_answer_when_asking_again(
    house: House, provider: FakeProvider, surface: Surface, stream: bool
) -> None:
    tenant, calls = await house.organization(), provider.calls
    before = await house.balance(tenant)
    body = surface.body(Wish("sandbox:tokens=9 sandbox:delay=20", NATIVE, stream))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await post(house, tenant, surface.path, body, "a key")
    assert await house.quiet(tenant, 1) == [("done", True)]
    again = await post(house, tenant, surface.path, body, "a key")
    assert heard(surface, again, stream).text == "".join(f" w{n}" for n in range(9)).strip()
    assert again.headers["idempotent-replayed"] == "true"
    assert provider.calls - calls == 1
    await assert_once(house, tenant, before)


# ---------------------------------------------------------------------------------------------------- what is not equal


@each_surface
async def test_another_body_under_the_same_key_is_refused(
    house: House, provider: FakeProvider, surface: Surface
) -> None:
    tenant = await house.organization()
    body = surface.body(Wish(SHORT, NATIVE))
    assert (await post(house, tenant, surface.path, body, "a key")).status == 200
    calls, books = provider.calls, await house.books()
    for wish in (Wish(f"{SHORT} please", NATIVE), Wish(SHORT, FOREIGN), Wish(SHORT, NATIVE, stream=True)):
        reply = await post(house, tenant, surface.path, surface.body(wish), "a key")
        assert (reply.status, code(reply)) == (422, "idempotency_mismatch")
        assert "another body" in reply.body["error"]["message"]
    assert await house.books() == books and provider.calls == calls


@pytest.mark.parametrize(
    ("header", "values"),
    [
        ("X_Tollhouse_User", ("jo", "kim")),
        ("X_Tollhouse_Fallback", ("on", "off")),
        ("X_Tollhouse_Quality", ("fast", "enhanced")),
    ],
)
async def test_who_it_is_for_and_what_it_is_used_for_belong_to_the_request(
    house: House, header: str, values: tuple[str, str]
) -> None:
    tenant = await house.organization(plan="pro")
    body = SURFACES[0].body(Wish(SHORT, NATIVE if header != "X_Tollhouse_Quality" else "auto"))
    more: dict[str, Any] = {"X_Tollhouse_Capability": "testimonial_polish"} if header == "X_Tollhouse_Quality" else {}
    one, two = [more | {header: value} for value in values]
    first = await post(house, tenant, SURFACES[0].path, body, "a key", **one)
    assert first.status == 200, first.raw
    other = await post(house, tenant, SURFACES[0].path, body, "a key", **two)
    assert (other.status, code(other)) == (422, "idempotency_mismatch")
    without = await post(house, tenant, SURFACES[0].path, body, "a key", **more)
    assert (without.status, code(without)) == (422, "idempotency_mismatch")
    same = await post(house, tenant, SURFACES[0].path, body, "a key", **one)
    assert same.body == first.body
    assert len(await house.usage(tenant)) == 1


async def test_the_same_key_elsewhere_is_another_key(house: House, provider: FakeProvider) -> None:
    """Of another organisation, and at another path."""
    one, other, calls = await house.organization(), await house.organization(), provider.calls
    bodies = [(surface.path, surface.body(Wish(SHORT, NATIVE))) for surface in SURFACES]
    for tenant in (one, other):
        for path, body in [*bodies, (EMBEDDINGS, {"model": VECTORS, "input": "a text"})]:
            reply = await post(house, tenant, path, body, "a key")
            assert reply.status == 200 and "idempotent-replayed" not in reply.headers
    assert provider.calls - calls == 8


@each_surface
async def test_a_key_that_is_none_is_refused(house: House, surface: Surface) -> None:
    tenant = await house.organization()
    body = surface.body(Wish(SHORT, NATIVE))
    books = await house.books()
    for once in ("", "k" * 256, "a\tb"):
        reply = await post(house, tenant, surface.path, body, once)
        assert (reply.status, code(reply)) == (400, "invalid_request")
        assert "Idempotency-Key must be 1 to 255 printable characters" in reply.body["error"]["message"]
    assert await house.books() == books
    assert (await post(house, tenant, surface.path, body, "k" * 255)).status == 200


# -------------------------------------------------------------------------------------------------- calls that go wrong


@plain_and_stream
@each_surface
async def test_a_call_that_failed_frees_its_key(
    house: House, provider: FakeProvider, surface: Surface, stream: bool
) -> None:
    tenant, calls = await house.organization(), provider.calls
    before = await house.balance(tenant)
    body = surface.body(Wish(SHORT, NATIVE, stream))
    provider.order = "sandbox:fault=status:500"
    failed = await post(house, tenant, surface.path, body, "a key", X_Tollhouse_Fallback="off")
    provider.order = ""
    assert failed.status == 502
    assert await house.balance(tenant) == before
    reply = await post(house, tenant, surface.path, body, "a key", X_Tollhouse_Fallback="off")
    assert heard(surface, reply, stream).text == "w0 w1 w2 w3 w4"
    assert "idempotent-replayed" not in reply.headers
    assert provider.calls - calls == 3
    again = await post(house, tenant, surface.path, body, "a key", X_Tollhouse_Fallback="off")
    assert heard(surface, again, stream) == heard(surface, reply, stream)
    assert provider.calls - calls == 3
    assert [state for state, _ in await house.requests(tenant)] == ["failed", "done"]
    assert len(await house.usage(tenant)) == 1


@each_surface
async def test_whoever_asks_again_for_a_stream_that_broke_is_told_that_it_is_lost(
    house: House, provider: FakeProvider, surface: Surface
) -> None:
    """It is charged as far as it came, and once."""
    tenant, calls = await house.organization(), provider.calls
    body = surface.body(Wish("sandbox:tokens=9 sandbox:delay=0 sandbox:fault=cut:4", NATIVE, stream=True))
    first = await post(house, tenant, surface.path, body, "a key")
    text, error = surface.broken(first.raw)
    assert text == "w0 w1 w2 w3" and error["code"] == "provider_broke"
    for _ in range(2):
        lost = await post(house, tenant, surface.path, body, "a key")
        assert (lost.status, code(lost)) == (409, "conflict")
        assert "lost" in lost.body["error"]["message"] and "another key" in lost.body["error"]["message"]
        assert "retry-after" not in lost.headers
    assert provider.calls - calls == 1
    assert await house.requests(tenant) == [("incomplete", False)]
    assert [row[1] for row in await house.usage(tenant)] == [4]


@plain_and_stream
async def test_an_answer_of_another_model_is_told_again_as_its_own(
    house: House, provider: FakeProvider, stream: bool
) -> None:
    tenant, surface, calls = await house.organization(), SURFACES[0], provider.calls
    provider.orders.extend(["sandbox:fault=status:500"] * 2)
    body = surface.body(Wish(SHORT, FOREIGN, stream))
    first = await post(house, tenant, surface.path, body, "a key")
    again = await post(house, tenant, surface.path, body, "a key")
    assert heard(surface, first, stream) == heard(surface, again, stream)
    assert first.headers["x-tollhouse-model"] == again.headers["x-tollhouse-model"] == NATIVE
    assert provider.calls - calls == 3
    assert len(await house.usage(tenant)) == 1


@plain_and_stream
async def test_an_answer_that_was_booked_by_a_process_that_died_is_told_by_another(
    cluster: Cluster, seeded_template: SeededTemplate, stream: bool
) -> None:
    """PostgreSQL has the settlement, and the process is killed before it hears of it."""
    async with FakeProvider() as provider:
        connected = {"OPENAI_BASE_URL": provider.url, "OPENAI_API_KEY": "sk-test-0123456789"}
        async with (
            connected_house(cluster, seeded_template, connected) as house,
            WireProxy(house.database_url) as proxy,
            Server(proxy.url, **connected) as doomed,
        ):
            tenant, surface = await house.organization(), SURFACES[0]
            before = await house.balance(tenant)
            body = surface.body(Wish(SHORT, NATIVE, stream))
            assert (await post(house, tenant, surface.path, body, "before", doomed)).status == 200
            proxy.forget()
            booked = Point("tollhouse_teller", "COMMIT", 2)
            trap = proxy.trap(lambda point: point == booked, "after", doomed.process.kill)
            waiting = asyncio.create_task(post(house, tenant, surface.path, body, "a key", doomed))
            await trap.sprung.wait()
            with pytest.raises(Exception):  # noqa: B017 - however the socket tells that the process is gone
                (await waiting).raw.index(b"[DONE]")
            again = await post(house, tenant, surface.path, body, "a key")
            assert heard(surface, again, stream).text == "w0 w1 w2 w3 w4"
            assert again.headers["idempotent-replayed"] == "true"
            assert provider.calls == 2
            costs = [row[3] for row in await house.usage(tenant)]
            assert len(costs) == 2 and before - await house.balance(tenant) == sum(costs)
            assert micros(str(heard(surface, again, stream).counts.credits)) == costs[1]
