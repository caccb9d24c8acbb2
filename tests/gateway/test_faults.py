"""Providers that fail in every way: a clear error, nothing charged or exactly what was produced, and no key told."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from tests.conftest import Cluster, SeededTemplate
from tests.fake_provider import FakeProvider
from tests.gateway.answers import (
    BREAKS,
    DONE,
    ENDINGS,
    FIRSTS,
    NONSENSE,
    PLAINS,
    STOP,
    WORDS,
    answer_of,
    completion,
    piece,
    stream_of,
    usage,
    word,
)
from tests.gateway.calls import ESTIMATE, desk
from tests.gateway.connected import connected_house, rest
from tests.house import House, Reply, Tenant, ask, charge, chunks, events, micros, text_of
from tollhouse.core.errors import ProviderFailed
from tollhouse.outside import Deadlines
from tollhouse.outside.openai import OpenAICompatible

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.usefixtures("proved")]

CANARY = "sk-canary-4242424242"
SANDBOX, REAL = "sandbox", "gpt-4o-mini"  # the second is connected to the fake provider
NOWHERE = "llama-3.1-8b"  # its provider's port is closed


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def provider() -> AsyncIterator[FakeProvider]:
    async with FakeProvider() as made:
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(cluster: Cluster, seeded_template: SeededTemplate, provider: FakeProvider) -> AsyncIterator[House]:
    """An installation whose environment names the fake provider as OpenAI, and for Together a port where nobody is."""
    connected: dict[str, Any] = {
        "OPENAI_BASE_URL": provider.url,
        "OPENAI_API_KEY": CANARY,
        "TOGETHER_BASE_URL": "http://127.0.0.1:9/v1",
        "TOGETHER_API_KEY": CANARY,
    }
    async with connected_house(cluster, seeded_template, connected) as made:
        yield made
        assert CANARY not in made.server.said()


@pytest_asyncio.fixture(autouse=True, loop_scope="module")
async def rested(house: House, provider: FakeProvider) -> AsyncIterator[None]:
    """No test suffers from what its providers did before."""
    await rest(house)
    yield
    provider.raw_answers.clear()


async def call(house: House, tenant: Tenant, text: str, model: str, stream: bool, **fields: Any) -> Reply:
    """A call whose provider is told by `text` how to fail; no other model answers in its place. The provider's key is
    nowhere in the answer."""
    if stream:
        fields |= {"stream": True, "stream_options": {"include_usage": True}}
    reply = await house.chat(tenant, ask(text, model, **fields), X_Tollhouse_Fallback="off")
    assert CANARY not in reply.raw.decode() and not any(CANARY in value for value in reply.headers.values())
    return reply


async def assert_free(house: House, tenant: Tenant, before: int) -> None:
    """Nothing was charged, everything was given back, and the next call is answered."""
    assert await house.balance(tenant) == before
    assert await house.usage(tenant) == []
    assert {state for state, _ in await house.requests(tenant)} == {"failed"}
    counted = await house.rows(
        "SELECT sum(used)::int, sum(reserved)::int FROM quota_window WHERE organization_id = %s", tenant.id
    )
    assert counted == [(0, 0)]
    await assert_answers(house, tenant)


async def assert_answers(house: House, tenant: Tenant) -> None:
    for model in (SANDBOX, REAL):
        for stream in (False, True):
            reply = await call(house, tenant, "sandbox:tokens=2 sandbox:delay=0", model, stream)
            assert reply.status == 200 and "provider" not in reply.raw.decode().replace("No provider", "")


# -------------------------------------------------------------------------------------------- before there is an answer

BEFORE_OUTPUT = [  # with how often the provider is asked
    ("refuse", 2, 502, "cannot be reached"),
    ("garbage", 1, 502, "nothing was charged"),
    ("status:302", 1, 502, "refused the call (status 302)"),
    ("status:400", 1, 400, "would not take the request"),
    ("status:401", 1, 502, "refused the call (status 401)"),
    ("status:403", 1, 502, "refused the call (status 403)"),
    ("status:404", 1, 502, "refused the call (status 404)"),
    ("status:408", 2, 502, "refused the call (status 408)"),
    ("status:409", 2, 502, "refused the call (status 409)"),
    ("status:413", 1, 400, "would not take the request"),
    ("status:422", 1, 400, "would not take the request"),
    ("status:429", 2, 429, "Try again shortly"),
    ("status:500", 2, 502, "refused the call (status 500)"),
    ("status:503", 2, 503, "Try again shortly"),
    ("status:529", 2, 503, "Try again shortly"),
]


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize("model", [SANDBOX, REAL])
@pytest.mark.parametrize(("fault", "attempts", "status", "words"), BEFORE_OUTPUT, ids=[row[0] for row in BEFORE_OUTPUT])
async def test_a_provider_that_fails_before_its_answer_costs_nothing(
    house: House, provider: FakeProvider, fault: str, attempts: int, status: int, words: str, model: str, stream: bool
) -> None:
    """It is asked again at most once, and each time is written down."""
    tenant = await house.organization()
    before, calls = await house.balance(tenant), provider.calls
    reply = await call(house, tenant, f"sandbox:fault={fault}", model, stream)
    assert (reply.status, reply.error["code"]) == (status, "provider_error")
    assert words in reply.error["message"]
    assert provider.calls - calls == (attempts if model == REAL else 0)
    written = await house.rows("SELECT outcome FROM attempt WHERE organization_id = %s", tenant.id)
    assert written == [("failed",)] * attempts
    await assert_free(house, tenant, before)


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
async def test_a_provider_that_is_not_there_costs_nothing(house: House, stream: bool) -> None:
    tenant = await house.organization()
    before = await house.balance(tenant)
    reply = await call(house, tenant, "hi", NOWHERE, stream)
    assert (reply.status, reply.error["code"]) == (502, "provider_error")
    assert "cannot be reached" in reply.error["message"] and "127.0.0.1" not in reply.error["message"]
    await assert_free(house, tenant, before)


@pytest.mark.parametrize("model", [SANDBOX, REAL])
@pytest.mark.parametrize("fault", ["error:0", "cut:3", "error:3"])
async def test_a_plain_answer_that_is_none_costs_nothing(house: House, model: str, fault: str) -> None:
    tenant = await house.organization()
    before = await house.balance(tenant)
    reply = await call(house, tenant, f"sandbox:tokens=9 sandbox:fault={fault}", model, False)
    assert (reply.status, reply.error["code"]) == (502, "provider_error")
    await assert_free(house, tenant, before)


@pytest.mark.parametrize("model", [SANDBOX, REAL])
@pytest.mark.parametrize("fault", ["error:0", "cut:0"])
async def test_a_stream_that_breaks_before_its_first_token_costs_nothing(house: House, model: str, fault: str) -> None:
    tenant = await house.organization()
    before = await house.balance(tenant)
    reply = await call(house, tenant, f"sandbox:tokens=9 sandbox:fault={fault}", model, True)
    assert (reply.status, reply.error["code"]) == (502, "provider_error")
    await assert_free(house, tenant, before)


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize("phase", ["hang", "stall"])
async def test_a_provider_that_falls_silent_is_given_up_at_its_deadline(
    house: House, provider: FakeProvider, phase: str, stream: bool
) -> None:
    tenant = await house.organization()
    before = await house.balance(tenant)
    fault = "hang" if phase == "hang" else "stall:4"
    body = ask(f"sandbox:tokens=9 sandbox:fault={fault}", REAL, stream=stream)
    client = OpenAICompatible(provider.url, CANARY, Deadlines(first_byte=0.2, idle=0.2), allow_private=True)
    async with desk(house.database_url) as calls:
        begun = await calls.start(tenant, client, body)
        if stream and phase == "stall":
            await begun.begun
            await house.quiet(tenant)
            assert await house.usage(tenant) == [(ESTIMATE, 4, True, charge(REAL, ESTIMATE, 4))]
        else:
            with pytest.raises(ProviderFailed) as caught:
                await begun.begun
            assert caught.value.status == 504 and "nothing was charged" in str(caught.value)
            assert await house.balance(tenant) == before
    await client.close()
    await provider.log[-1].ended.wait()
    assert provider.log[-1].outcome == "left"


@pytest.mark.parametrize("model", [SANDBOX, REAL])
async def test_a_trial_message_is_given_back_when_the_provider_fails(house: House, model: str) -> None:
    tenant = await house.organization()
    premium = "gpt-4o" if model == REAL else "claude-3-opus"  # the second is connected to nobody
    for _ in range(3):
        for stream in (False, True):
            assert (await call(house, tenant, "sandbox:fault=status:500", premium, stream)).status == 502
            await rest(house)
    for left in ("1", "0"):
        reply = await call(house, tenant, "sandbox:tokens=1", premium, False)
        assert reply.headers["x-trial-remaining"] == left


# ------------------------------------------------------------------------------------------- in the middle of an answer


@pytest.mark.parametrize("model", [SANDBOX, REAL])
@pytest.mark.parametrize("fault", ["error:1", "error:5", "cut:1", "cut:5"])
async def test_a_stream_that_breaks_is_charged_for_what_had_come(
    house: House, provider: FakeProvider, model: str, fault: str
) -> None:
    tenant = await house.organization()
    before, came = await house.balance(tenant), int(fault.partition(":")[2])
    reply = await call(house, tenant, f"sandbox:tokens=9 sandbox:delay=0 sandbox:fault={fault}", model, True)
    assert reply.status == 200
    *pieces, last = chunks(reply.raw)
    assert sum(1 for chunk in pieces if chunk["choices"][0]["delta"].get("content")) == came
    assert last["error"]["code"] == "provider_broke" and b"[DONE]" not in reply.raw
    ((tokens_in, tokens_out, estimated, cost),) = await house.usage(tenant)
    assert (tokens_out, estimated) == (came, True)
    assert cost == charge(model, tokens_in, came) == before - await house.balance(tenant)
    assert await house.requests(tenant) == [("incomplete", False)]
    if model == REAL:
        assert provider.log[-1].output_tokens == came
    await assert_answers(house, tenant)


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize("model", [SANDBOX, REAL])
async def test_an_answer_without_usage_is_counted_here_and_says_so(house: House, model: str, stream: bool) -> None:
    tenant = await house.organization()
    before = await house.balance(tenant)
    reply = await call(house, tenant, "sandbox:tokens=8 sandbox:delay=0 sandbox:fault=nousage", model, stream)
    usage = chunks(reply.raw)[-1]["usage"] if stream else reply.body["usage"]
    ((tokens_in, tokens_out, estimated, cost),) = await house.usage(tenant)
    assert usage["estimated"] is True and estimated
    assert (usage["prompt_tokens"], usage["completion_tokens"]) == (tokens_in, tokens_out)
    assert (
        micros(usage["credits"]) == cost == charge(model, tokens_in, tokens_out) == before - await house.balance(tenant)
    )
    assert tokens_out == 8 if stream else tokens_out > 0


# ------------------------------------------------------------------------------------ answers that were written by hand


@pytest.mark.parametrize("said", NONSENSE, ids=lambda said: json.dumps(said)[:60])
@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
async def test_usage_that_cannot_be_true_is_counted_here_instead(
    house: House, provider: FakeProvider, said: Any, stream: bool
) -> None:
    tenant = await house.organization()
    before = await house.balance(tenant)
    raw = stream_of(*WORDS, piece(STOP), piece(usage=said), DONE) if stream else answer_of(completion(usage=said))
    provider.raw_answers.append(raw)
    reply = await call(house, tenant, "hi", REAL, stream)
    told = chunks(reply.raw)[-1]["usage"] if stream else reply.body["usage"]
    ((tokens_in, tokens_out, estimated, cost),) = await house.usage(tenant)
    assert estimated and told["estimated"] is True
    assert 0 < tokens_in < 50 and (tokens_out == 3 if stream else 0 < tokens_out < 50)
    assert (told["prompt_tokens"], told["completion_tokens"]) == (tokens_in, tokens_out)
    assert (
        micros(told["credits"]) == cost == charge(REAL, tokens_in, tokens_out) == before - await house.balance(tenant)
    )


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
async def test_an_explicit_zero_is_a_count_like_any_other(house: House, provider: FakeProvider, stream: bool) -> None:
    tenant = await house.organization()
    said = usage(0, 0)
    provider.raw_answers.append(
        stream_of(*WORDS, piece(STOP), piece(usage=said), DONE) if stream else answer_of(completion(usage=said))
    )
    assert (await call(house, tenant, "hi", REAL, stream)).status == 200
    assert await house.usage(tenant) == [(0, 0, False, 0)]


@pytest.mark.parametrize("name", ENDINGS)
async def test_a_whole_answer_is_charged_once_however_it_ends(house: House, provider: FakeProvider, name: str) -> None:
    tenant = await house.organization()
    before = await house.balance(tenant)
    provider.raw_answers.append(stream_of(*WORDS, *ENDINGS[name]))
    reply = await call(house, tenant, "hi", REAL, True)
    assert text_of(reply.raw) == "abc"
    assert events(reply.raw)[-1] == b"[DONE]" and events(reply.raw).count(b"[DONE]") == 1
    told = chunks(reply.raw)[-1]["usage"]
    assert (told["prompt_tokens"], told["completion_tokens"]) == (11, 3) and "estimated" not in told
    assert await house.usage(tenant) == [(11, 3, False, charge(REAL, 11, 3))]
    assert before - await house.balance(tenant) == charge(REAL, 11, 3) == micros(told["credits"])
    assert await house.requests(tenant) == [("done", False)]


@pytest.mark.parametrize("name", BREAKS)
async def test_whatever_breaks_a_stream_is_an_error_and_charged_for_what_had_come(
    house: House, provider: FakeProvider, name: str
) -> None:
    tenant = await house.organization()
    before = await house.balance(tenant)
    provider.raw_answers.append(stream_of(*WORDS, BREAKS[name]))
    reply = await call(house, tenant, "hi", REAL, True)
    assert text_of(reply.raw) == "abc"
    assert chunks(reply.raw)[-1]["error"]["code"] == "provider_broke" and b"[DONE]" not in reply.raw
    ((tokens_in, tokens_out, estimated, cost),) = await house.usage(tenant)
    assert (tokens_out, estimated) == (3, True)
    assert cost == charge(REAL, tokens_in, 3) == before - await house.balance(tenant)
    await assert_answers(house, tenant)


@pytest.mark.parametrize("name", FIRSTS)
async def test_whatever_breaks_a_stream_at_its_very_beginning_costs_nothing(
    house: House, provider: FakeProvider, name: str
) -> None:
    tenant = await house.organization()
    before = await house.balance(tenant)
    provider.raw_answers.append(stream_of(FIRSTS[name]))
    reply = await call(house, tenant, "hi", REAL, True)
    assert (reply.status, reply.error["code"]) == (502, "provider_error")
    await assert_free(house, tenant, before)


@pytest.mark.parametrize("name", PLAINS)
async def test_a_plain_answer_of_any_wrong_form_costs_nothing(house: House, provider: FakeProvider, name: str) -> None:
    tenant = await house.organization()
    before = await house.balance(tenant)
    provider.raw_answers.extend([PLAINS[name]] * 2)  # what is no HTTP answer is asked for again
    reply = await call(house, tenant, "hi", REAL, False)
    provider.raw_answers.clear()
    assert (reply.status, reply.error["code"]) == (502, "provider_error")
    await assert_free(house, tenant, before)


async def test_an_answer_with_unusual_contents_passes_through(house: House, provider: FakeProvider) -> None:
    tenant = await house.organization()
    provider.raw_answers.append(answer_of(completion(usage=usage(11, 3), created=10**25, extra=[None, 1.5, "ü\u2028"])))
    reply = await call(house, tenant, "hi", REAL, False)
    assert (reply.body["created"], reply.body["extra"]) == (10**25, [None, 1.5, "ü\u2028"])


async def test_with_several_answers_a_stream_that_ends_before_all_are_finished_is_broken(
    house: House, provider: FakeProvider
) -> None:
    tenant = await house.organization()
    provider.raw_answers.append(stream_of(*WORDS, word("x", 1), piece(STOP)))
    reply = await call(house, tenant, "hi", REAL, True, n=2)
    assert chunks(reply.raw)[-1]["error"]["code"] == "provider_broke"
    ((_, tokens_out, estimated, _),) = await house.usage(tenant)
    assert (tokens_out, estimated) == (4, True)


@pytest.mark.parametrize("status", [400, 401, 403, 422, 429, 500])
async def test_a_key_that_the_provider_quotes_is_not_passed_on(
    house: House, provider: FakeProvider, status: int
) -> None:
    tenant = await house.organization()
    error = json.dumps({"error": {"message": f"Incorrect API key provided: {CANARY}.", "type": "x"}}).encode()
    head = b"HTTP/1.1 %d No\r\nConnection: close\r\nContent-Type: application/json\r\n" % status
    for stream in (False, True):
        provider.raw_answers.extend([head + b"Content-Length: %d\r\n\r\n" % len(error) + error] * 2)
        reply = await call(house, tenant, "hi", REAL, stream)
        provider.raw_answers.clear()
        assert reply.status >= 400
    told = await house.rows("SELECT q.error, a.error FROM request q JOIN attempt a ON a.request_id = q.id")
    assert not any(CANARY in (text or "") for row in told for text in row)


async def test_a_redirect_is_not_followed(house: House, provider: FakeProvider) -> None:
    tenant = await house.organization()
    async with FakeProvider() as trap:
        location = f"{trap.url}/chat/completions".encode()
        provider.raw_answers.append(
            b"HTTP/1.1 307 Over there\r\nLocation: " + location + b"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        )
        assert (await call(house, tenant, "hi", REAL, False)).status == 502
        assert trap.calls == 0


async def test_the_provider_gets_its_own_key_and_nothing_of_the_customers(house: House, provider: FakeProvider) -> None:
    tenant = await house.organization()
    assert (await call(house, tenant, "sandbox:tokens=3", REAL, True, max_tokens=5)).status == 200
    received = provider.log[-1]
    assert received.headers["authorization"] == f"Bearer {CANARY}"
    assert tenant.key not in json.dumps(received.headers) and tenant.key.encode() not in received.raw_body
    assert received.body["model"] == "gpt-4o-mini" and received.body["max_tokens"] == 5
    assert received.body["stream_options"] == {"include_usage": True}


async def test_the_providers_bill_and_the_books_agree(house: House, provider: FakeProvider) -> None:
    """Over everything that was answered in full."""
    tenant, first = await house.organization(), provider.calls
    texts = [f"sandbox:tokens={n} sandbox:delay=0 " + "word " * n for n in range(12)]
    replies = await asyncio.gather(*(call(house, tenant, text, REAL, n % 2 == 0) for n, text in enumerate(texts)))
    assert all(reply.status == 200 for reply in replies)
    bill = sorted((one.input_tokens, one.output_tokens) for one in provider.log[first:])
    assert sorted((row[0], row[1]) for row in await house.usage(tenant)) == bill
