"""Clients that go away: the call is read to its end, charged in full, and nothing of it is left running."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator

import psutil
import pytest
import pytest_asyncio

from tests.conftest import Cluster, SeededTemplate
from tests.fake_provider import Call, FakeProvider
from tests.house import CHAT, House, Tenant, ask, charge, chunks
from tests.house import house as running
from tests.server import Program
from tollhouse.gateway.call import DRAINS_MAX

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.usefixtures("proved")]

REAL = "gpt-4o-mini"
TOKENS = 20


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def provider() -> AsyncIterator[FakeProvider]:
    async with FakeProvider() as made:
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(cluster: Cluster, seeded_template: SeededTemplate, provider: FakeProvider) -> AsyncIterator[House]:
    with cluster.database(seeded_template.name) as url:
        async with Program(url, "seed", OPENAI_BASE_URL=provider.url) as seed:
            assert await seed.wait() == 0
        async with running(url, seeded_template) as made:
            yield made
        # the server is down: no call is left at the provider, nor any socket that was kept for another
        async with asyncio.timeout(5):
            if provider.open_connections:
                await provider.all_closed.wait()
        assert "running" not in {call.outcome for call in provider.log}


async def newest(provider: FakeProvider, number: int) -> Call:
    """The call, once the provider is through with it."""
    call = await provider.call(number)
    await call.ended.wait()
    return call


async def assert_charged_in_full(house: House, tenant: Tenant, before: int, call: Call) -> None:
    ((state, _),) = await house.quiet(tenant, 1)
    assert (state, call.outcome) == ("done", "answered")
    cost = charge(REAL, call.input_tokens, call.output_tokens)
    assert await house.usage(tenant) == [(call.input_tokens, call.output_tokens, False, cost)]
    assert before - await house.balance(tenant) == cost


@pytest.mark.parametrize("wait_for", [0, 1, TOKENS // 2, TOKENS - 1, TOKENS])
async def test_a_client_that_leaves_a_stream_pays_for_all_of_it(
    house: House, provider: FakeProvider, wait_for: int
) -> None:
    """It leaves with the headers, and after the first, a middle, the last but one and the last word."""
    tenant, number = await house.organization(), provider.calls
    before = await house.balance(tenant)
    async with house.streaming(tenant, ask(f"sandbox:tokens={TOKENS} sandbox:delay=10", REAL)) as response:
        seen = 0
        while seen < wait_for:
            seen += b'"content": "' in await response.content.readline()
        response.close()
    call = await newest(provider, number)
    assert call.output_tokens == TOKENS
    await assert_charged_in_full(house, tenant, before, call)
    if wait_for < TOKENS - 1:  # nearer to its end the settlement may come first
        assert await house.requests(tenant) == [("done", True)]


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize("when", ["before the first byte", "in the middle"])
async def test_a_client_that_leaves_before_it_got_anything_pays_for_all_of_it(
    house: House, provider: FakeProvider, stream: bool, when: str
) -> None:
    tenant, number = await house.organization(), provider.calls
    before = await house.balance(tenant)
    wait = "sandbox:first=300 sandbox:delay=0" if when == "before the first byte" else "sandbox:delay=15"
    body = json.dumps(ask(f"sandbox:tokens={TOKENS} {wait}", REAL, stream=stream)).encode()
    lines = f"POST {CHAT} HTTP/1.1\r\nhost: test\r\nx-api-key: {tenant.key}\r\ncontent-length: {len(body)}\r\n\r\n"
    _, writer = await asyncio.open_connection(house.server.host, house.server.port)
    writer.write(lines.encode() + body)
    await provider.call(number)
    writer.close()
    call = await newest(provider, number)
    assert call.output_tokens == TOKENS
    await assert_charged_in_full(house, tenant, before, call)
    assert await house.requests(tenant) == [("done", True)]


async def test_a_client_that_leaves_a_stream_that_breaks_pays_for_what_had_come(
    house: House, provider: FakeProvider
) -> None:
    tenant, number = await house.organization(), provider.calls
    text = f"sandbox:tokens={TOKENS} sandbox:delay=10 sandbox:fault=cut:12"
    async with house.streaming(tenant, ask(text, REAL)) as response:
        await response.content.readline()
        response.close()
    assert (await newest(provider, number)).output_tokens == 12
    assert await house.quiet(tenant, 1) == [("incomplete", True)]
    ((tokens_in, tokens_out, estimated, cost),) = await house.usage(tenant)
    assert (tokens_out, estimated) == (12, True)
    assert cost == charge(REAL, tokens_in, 12)


async def test_a_client_that_leaves_a_call_that_fails_pays_nothing(house: House, provider: FakeProvider) -> None:
    tenant, number = await house.organization(), provider.calls
    before = await house.balance(tenant)
    with pytest.raises(asyncio.TimeoutError):
        async with asyncio.timeout(0.2):
            await house.chat(tenant, ask("sandbox:first=400 sandbox:fault=status:500", REAL))
    await newest(provider, number)
    assert await house.quiet(tenant, 1) == [("failed", True)]
    assert await house.balance(tenant) == before


async def test_only_so_many_calls_are_read_on_for_clients_that_left(house: House, provider: FakeProvider) -> None:
    """The rest is given up at once, and charged as far as it had come."""
    tenant, first, many = await house.organization(), provider.calls, DRAINS_MAX + 6

    async def begin() -> asyncio.StreamWriter:
        body = json.dumps(ask("sandbox:tokens=40 sandbox:delay=40", REAL, stream=True, max_tokens=40)).encode()
        lines = f"POST {CHAT} HTTP/1.1\r\nhost: test\r\nx-api-key: {tenant.key}\r\ncontent-length: {len(body)}\r\n\r\n"
        reader, writer = await asyncio.open_connection(house.server.host, house.server.port)
        writer.write(lines.encode() + body)
        await reader.readuntil(b'"w0"')
        return writer

    writers = await asyncio.gather(*(begin() for _ in range(many)))
    for writer in writers:
        writer.transport.abort()
    calls = await asyncio.gather(*(newest(provider, first + number) for number in range(many)))
    outcomes = [call.outcome for call in calls]
    assert (outcomes.count("answered"), outcomes.count("left")) == (DRAINS_MAX, many - DRAINS_MAX)
    ended = await house.quiet(tenant, many)
    assert (ended.count(("done", True)), ended.count(("incomplete", True))) == (DRAINS_MAX, many - DRAINS_MAX)
    usage = await house.usage(tenant)
    assert [row[1] for row in usage if not row[2]] == [40] * DRAINS_MAX
    assert all(1 <= row[1] < 40 and row[3] == charge(REAL, row[0], row[1]) for row in usage if row[2])


async def test_a_client_that_reads_nothing_holds_up_its_provider_and_nobody_else(
    house: House, provider: FakeProvider
) -> None:
    tenant, number = await house.organization(), provider.calls
    text, count = "x" * 8_000, 4_000  # 32 MB, which the sockets in between do not hold
    piece = json.dumps({"id": "c1", "choices": [{"index": 0, "delta": {"content": text}}]}).encode()
    ending = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
    said = b'data: {"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":7}}\n\n'
    head = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: text/event-stream\r\n\r\n"
    provider.raw_answers.append(head + (b"data: " + piece + b"\n\n") * count + ending + said + b"data: [DONE]\n\n")
    memory = psutil.Process(house.server.process.pid).memory_info
    before = memory().rss
    body = json.dumps(ask("hi", REAL, stream=True)).encode()
    lines = f"POST {CHAT} HTTP/1.1\r\nhost: test\r\nx-api-key: {tenant.key}\r\ncontent-length: {len(body)}\r\n\r\n"
    with socket.socket() as lazy:
        lazy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        lazy.connect((house.server.host, house.server.port))
        lazy.sendall(lines.encode() + body)
        call = await provider.call(number)
        other = await house.organization()
        for _ in range(20):
            assert (await house.chat(other, ask("sandbox:tokens=1"))).status == 200
        with pytest.raises(TimeoutError):  # the provider is not let through
            async with asyncio.timeout(0.5):
                await call.ended.wait()
        assert await house.requests(tenant) == [("running", False)]
        assert memory().rss - before < 16 * 1024 * 1024
    await call.ended.wait()
    assert await house.quiet(tenant, 1) == [("done", True)]
    assert await house.usage(tenant) == [(9, 7, False, charge(REAL, 9, 7))]


async def test_a_client_that_reads_slowly_gets_every_byte(house: House) -> None:
    tenant = await house.organization()
    async with house.streaming(tenant, ask("sandbox:tokens=3000 sandbox:delay=0")) as response:
        raw = b""
        while part := await response.content.read(16_384):
            raw += part
            await asyncio.sleep(0.001)
    assert sum(1 for chunk in chunks(raw) if chunk["choices"][0]["delta"].get("content")) == 3_000


async def test_after_all_that_no_call_is_left(house: House, provider: FakeProvider) -> None:
    """Whoever is told to stop now has nothing to wait for."""
    running_calls = await house.rows("SELECT count(*) FROM request WHERE state = 'running'")
    assert running_calls == [(0,)]
    assert await house.rows("SELECT count(*) FROM reservation WHERE state = 'pending'") == [(0,)]
    async with asyncio.timeout(5):
        assert await house.server.stop() == 0
