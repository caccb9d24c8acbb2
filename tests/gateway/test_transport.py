"""What may happen to an answer between the provider and us: it is cut, reset, stalled or slowed down at any byte. The
customer gets a whole answer or an error, pays for what came, and nothing of the call is left."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from itertools import product

import pytest
import pytest_asyncio

from tests.conftest import Cluster, SeededTemplate
from tests.fake_provider import FakeProvider
from tests.gateway.answers import DONE, HEAD, ROLE, STOP, answer_of, completion, piece, stream_of, usage, word
from tests.gateway.calls import ESTIMATE, desk
from tests.gateway.connected import connected_house, rest
from tests.gateway.surfaces import SURFACES, Surface, Wish
from tests.house import House, Tenant, ask, charge, chunks, text_of
from tests.tcp_proxy import How, Spoil, TcpProxy
from tollhouse.core.errors import ProviderFailed
from tollhouse.gateway.call import DRAINS_MAX
from tollhouse.outside import Deadlines
from tollhouse.outside.openai import OpenAICompatible

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.usefixtures("proved")]

MODEL = "gpt-4o-mini"
TOKENS = 8
TEXT = f"sandbox:tokens={TOKENS} sandbox:delay=0"
WORDS = "w0 w1 w2 w3 w4 w5 w6 w7"


@dataclass(frozen=True, slots=True)
class Site:
    house: House
    provider: FakeProvider
    proxy: TcpProxy


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(cluster: Cluster, seeded_template: SeededTemplate) -> AsyncIterator[Site]:
    async with FakeProvider() as provider, TcpProxy(provider.url) as proxy:
        connected = {"OPENAI_BASE_URL": proxy.url, "OPENAI_API_KEY": "sk-test-0123456789"}
        async with connected_house(cluster, seeded_template, connected) as house:
            yield Site(house, provider, proxy)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(site: Site) -> House:
    return site.house


@pytest_asyncio.fixture(autouse=True, loop_scope="module")
async def sound(site: Site) -> AsyncIterator[None]:
    """After each test nothing runs, nothing is held, no transaction is open, and the next call is answered."""
    await rest(site.house)
    site.proxy.spoil = Spoil()
    yield
    site.proxy.spoil = Spoil()
    site.provider.raw_answers.clear()
    await rest(site.house)
    tenant = await site.house.organization()
    for stream in (False, True):
        reply = await site.house.chat(tenant, ask(TEXT, MODEL, stream=stream))
        assert reply.status == 200, reply.raw
    await site.house.quiet(tenant, 2)
    assert await site.house.rows("SELECT count(*) FROM request WHERE state = 'running'") == [(0,)]
    assert await site.house.rows("SELECT count(*) FROM reservation WHERE state = 'pending'") == [(0,)]
    assert await site.house.rows(
        """SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()
           AND state LIKE 'idle in transaction%%'"""
    ) == [(0,)]
    async with asyncio.timeout(5):
        for call in site.provider.log:
            await call.ended.wait()


def without_fallback(tenant: Tenant) -> dict[str, str]:
    return tenant.headers | {"x-tollhouse-fallback": "off"}


async def lengths(site: Site, stream: bool) -> int:
    """How many bytes the answer has when nothing happens to it."""
    tenant = await site.house.organization()
    assert (await site.house.chat(tenant, ask(TEXT, MODEL, stream=stream))).status == 200
    return site.proxy.answered


# ------------------------------------------------------------------------------------------------------ cut at any byte


@pytest.mark.parametrize("how", ["end", "reset"])
async def test_a_stream_that_is_cut_at_any_byte_is_charged_for_the_words_that_were_passed_on(
    site: Site, how: How
) -> None:
    house, length, seed = site.house, await lengths(site, stream=True), random.Random(how)
    seen = set()
    for after in [1, 30, *sorted(seed.sample(range(60, length), 24)), length - 1]:
        await rest(house)
        tenant = await house.organization()
        before = await house.balance(tenant)
        site.proxy.spoil = Spoil(after, how)
        reply = await house.chat(tenant, ask(TEXT, MODEL, stream=True), X_Tollhouse_Fallback="off")
        ((state, left),) = await house.quiet(tenant, 1)
        seen.add(state)
        if state == "failed":
            assert (reply.status, reply.error["code"]) == (502, "provider_error")
            assert await house.balance(tenant) == before and await house.usage(tenant) == []
            continue
        assert reply.status == 200 and not left
        said = text_of(reply.raw)
        assert WORDS.startswith(said)
        ((tokens_in, tokens_out, estimated, cost),) = await house.usage(tenant)
        assert tokens_out == len(said.split())
        assert cost == charge(MODEL, tokens_in, tokens_out) == before - await house.balance(tenant)
        whole = reply.raw.endswith(b"data: [DONE]\n\n")
        assert whole == (state == "done") and (whole or estimated)
        if not whole:
            assert chunks(reply.raw)[-1]["error"]["code"] == "provider_broke"
    assert seen >= {"failed", "incomplete"}


@pytest.mark.parametrize("how", ["end", "reset"])
async def test_a_plain_answer_that_is_cut_at_any_byte_costs_nothing(site: Site, how: How) -> None:
    house, length, seed = site.house, await lengths(site, stream=False), random.Random(how)
    for after in [1, 30, *sorted(seed.sample(range(60, length - 1), 8)), length - 1]:
        await rest(house)
        tenant = await house.organization()
        before, calls = await house.balance(tenant), site.provider.calls
        site.proxy.spoil = Spoil(after, how)
        reply = await house.chat(tenant, ask(TEXT, MODEL), X_Tollhouse_Fallback="off")
        assert (reply.status, reply.error["code"]) == (502, "provider_error"), after
        assert await house.balance(tenant) == before and await house.usage(tenant) == []
        assert await house.requests(tenant) == [("failed", False)]
        assert site.provider.calls - calls == 2


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize("surface", SURFACES, ids=[one.name for one in SURFACES])
async def test_an_answer_in_tiny_pieces_is_the_same_answer(site: Site, surface: Surface, stream: bool) -> None:
    """Of a few bytes each, so that lines, characters and the frames of HTTP are cut anywhere."""
    said = 'é\u2028漢\U0001f600\\" end'
    counted = usage(11, 3, total_tokens=14)
    choice = {"index": 0, "message": {"role": "assistant", "content": said}, "finish_reason": "stop"}
    raw = answer_of(completion(choices=[choice], usage=counted))
    if stream:
        raw = stream_of(piece(ROLE), word(said), piece(STOP), piece(usage=counted), DONE)
    for segment in (1, 7):
        tenant = await site.house.organization()
        site.provider.raw_answers.append(raw)
        site.proxy.spoil = Spoil(segment=segment)
        body = surface.body(Wish("hi", MODEL, stream))
        reply = await site.house.call("POST", surface.path, json=body, headers=without_fallback(tenant))
        assert reply.status == 200, reply.raw
        heard = surface.stream(reply.raw) if stream else surface.plain(reply.body)
        assert heard.text == said
        assert await site.house.usage(tenant) == [(11, 3, False, charge(MODEL, 11, 3))]


@pytest.mark.parametrize("words", range(TOKENS + 1))
async def test_a_stream_that_falls_silent_is_charged_for_what_had_come(site: Site, words: int) -> None:
    tenant = await site.house.organization()
    body = ask(f"{TEXT} sandbox:fault=stall:{words}", MODEL, stream=True)
    client = OpenAICompatible(site.provider.url, None, Deadlines(first_byte=30, idle=0.5), allow_private=True)
    async with AsyncExitStack() as left, desk(site.house.database_url) as calls:
        left.push_async_callback(client.close)
        call = await calls.start(tenant, client, body)
        if words == 0:
            with pytest.raises(ProviderFailed) as caught:
                await call.begun
            assert caught.value.status == 504
        else:
            await call.begun
            raw = b"".join([chunk async for chunk in call.chunks()])  # type: ignore[union-attr]
            assert text_of(raw).split() == WORDS.split()[:words]
            assert chunks(raw)[-1]["error"]["code"] == "provider_broke" and b"[DONE]" not in raw
        await site.house.quiet(tenant, 1)
        assert calls.pumps.open == 0
    charged = [(ESTIMATE, words, True, charge(MODEL, ESTIMATE, words))] if words else []
    assert await site.house.usage(tenant) == charged


# ------------------------------------------------------------------------------------------------- one failure, another

FAULTS = {  # whether the provider is asked again after it, and the status told when it is the last
    "status:500": (True, 502), "status:429": (True, 429), "refuse": (True, 502), "garbage": (False, 502),
    "status:400": (False, 400), "": (False, 200),
}  # fmt: skip


@pytest.mark.parametrize(("first", "second"), list(product(FAULTS, FAULTS)))
async def test_whatever_fails_first_and_second_it_is_asked_twice_at_most_and_charged_for_one_answer(
    site: Site, first: str, second: str
) -> None:
    house = site.house
    tenant = await house.organization()
    before, calls = await house.balance(tenant), site.provider.calls
    site.provider.orders.extend(f"sandbox:fault={one}" if one else "" for one in (first, second))
    again, status = FAULTS[first]
    if again:
        status = FAULTS[second][1]
    reply = await house.chat(tenant, ask(TEXT, MODEL), X_Tollhouse_Fallback="off")
    site.provider.orders.clear()
    assert reply.status == status
    made = site.provider.calls - calls
    assert made == (2 if again else 1)
    assert await house.rows("SELECT count(*) FROM attempt WHERE organization_id = %s", tenant.id) == [(made,)]
    usage_rows = await house.usage(tenant)
    assert len(usage_rows) == (status == 200)
    assert before - await house.balance(tenant) == sum(row[3] for row in usage_rows)


# ------------------------------------------------------------------------------------------------------------- too much


async def test_a_stream_without_end_is_cut_off_at_its_largest_length(site: Site) -> None:
    """70 MB of comments, which nobody would ever count as output."""
    house, tenant = site.house, await site.house.organization()
    filler = (b": " + b"x" * 65_000 + b"\n\n") * 1_077
    site.provider.raw_answers.append(stream_of(word("a"), word("b"), filler, piece(STOP), DONE))
    reply = await house.chat(tenant, ask("hi", MODEL, stream=True), X_Tollhouse_Fallback="off")
    assert text_of(reply.raw) == "ab" and len(reply.raw) < 10_000
    error = chunks(reply.raw)[-1]["error"]
    assert error["code"] == "provider_broke" and "longer than allowed" in error["message"]
    assert [(row[1], row[2]) for row in await house.usage(tenant)] == [(2, True)]


async def test_a_packed_answer_is_not_unpacked(site: Site) -> None:
    house, tenant = site.house, await site.house.organization()
    packed = (
        HEAD + b"Content-Type: application/json\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\n\x1f\x8b\x08\0"
    )
    site.provider.raw_answers.extend([packed] * 2)
    reply = await house.chat(tenant, ask("hi", MODEL), X_Tollhouse_Fallback="off")
    assert (reply.status, reply.error["code"]) == (502, "provider_error")
    assert site.provider.log[-1].headers["accept-encoding"] == "identity"


async def test_an_answer_of_another_model_than_was_asked_is_charged_as_the_one_that_was(site: Site) -> None:
    house, tenant = site.house, await site.house.organization()
    site.provider.raw_answers.append(
        answer_of(completion(model="gpt-4o-2026-01-01", usage=usage(11, 3, total_tokens=14)))
    )
    reply = await house.chat(tenant, ask("hi", MODEL))
    assert reply.headers["x-tollhouse-model"] == MODEL
    assert await house.usage(tenant) == [(11, 3, False, charge(MODEL, 11, 3))]


# ------------------------------------------------------------------------------------------------------ clients that go


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
async def test_of_many_clients_that_leave_before_the_first_byte_only_so_many_are_read_on(
    site: Site, stream: bool
) -> None:
    """The others are given up at once, and at least their input is paid, for the provider was at work."""
    house, many = site.house, DRAINS_MAX + 10
    tenant, first = await house.organization(), site.provider.calls
    body = ask(f"sandbox:first=2500 {TEXT}", MODEL, stream=stream, max_tokens=50)

    async def leave() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1.5):
                await house.chat(tenant, body)

    leaving = [asyncio.create_task(leave()) for _ in range(many)]
    await asyncio.gather(*leaving, site.provider.call(first + many - 1))
    ended = await house.quiet(tenant, many)
    assert ended.count(("done", True)) == DRAINS_MAX
    assert ended.count(("incomplete", True)) == many - DRAINS_MAX
    rows = await house.usage(tenant)
    assert sorted(row[1] for row in rows) == [0] * (many - DRAINS_MAX) + [TOKENS] * DRAINS_MAX
    assert all(row[0] > 0 and row[3] == charge(MODEL, row[0], row[1]) for row in rows)


async def test_a_storm_of_clients_that_ask_leave_and_ask_again_leaves_nothing_open(site: Site) -> None:
    house, tenant = site.house, await site.house.organization()
    before = await house.balance(tenant)

    async def impatient(number: int) -> None:
        for _ in range(3):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05 + number * 0.002):
                    await house.chat(tenant, ask(f"sandbox:first=400 {TEXT}", MODEL, max_tokens=20))
        assert (await house.chat(tenant, ask(TEXT, MODEL, max_tokens=20))).status == 200

    await asyncio.gather(*(impatient(number) for number in range(15)))
    ended = await house.quiet(tenant)
    assert {state for state, _ in ended} <= {"done", "failed", "incomplete"}
    assert ended.count(("done", False)) == 15
    assert before - await house.balance(tenant) == sum(row[3] for row in await house.usage(tenant))


async def test_a_maximum_beyond_the_means_is_cut_to_them_and_sent_so(site: Site) -> None:
    """So that one call does not hold what others could use, and the provider cannot spend more than there is."""
    house = site.house
    tenant = await house.organization(credits="0.2")
    reply = await house.chat(tenant, ask(TEXT, MODEL, max_tokens=16_000))
    assert reply.status == 200
    most = site.provider.log[-1].body["max_tokens"]
    assert 256 <= most < 200_000 // 60
    assert float(reply.headers["x-credits-reserved"]) <= 0.2


async def test_what_is_changed_while_a_call_runs_counts_from_the_next_one_on(site: Site) -> None:
    """Its price, its model and its key: the call that was admitted is answered and charged as it was admitted."""
    house, model = site.house, "llama-3.1-8b"  # answered by the sandbox
    tenant = await house.organization()
    made = await house.key(tenant.id)
    before, seen = await house.balance(tenant), b""
    async with house.streaming(
        Tenant(tenant.id, made["key"]), ask("sandbox:tokens=30 sandbox:delay=20", model)
    ) as response:
        seen += await response.content.readline()
        await house.change(
            """INSERT INTO model_price (model_id, version, effective_from, input_nanos_per_million,
                   cached_input_nanos_per_million, output_nanos_per_million)
               SELECT model_id, 2, now(), 10 * input_nanos_per_million, 10 * cached_input_nanos_per_million,
                   10 * output_nanos_per_million FROM model_price WHERE model_id = %s""",
            model,
        )
        await house.change("UPDATE api_key SET revoked_at = now() WHERE id = %s", made["id"])
        refused = await house.chat(Tenant(tenant.id, made["key"]), ask("hi", model))
        assert refused.status == 401
        dearer = await house.chat(tenant, ask("sandbox:tokens=2", model))
        seen += await response.content.read()
    assert len(text_of(seen).split()) > 0 and seen.endswith(b"data: [DONE]\n\n")
    await house.quiet(tenant, 2)
    first, second = await house.usage(tenant)
    assert first[1:] == (30, False, charge(model, first[0], 30))
    assert second[3] == 10 * charge(model, second[0], 2) == round(float(dearer.headers["x-credits-used"]) * 1_000_000)
    assert before - await house.balance(tenant) == first[3] + second[3]
