"""Providers over real sockets: what all of them have in common, shown with OpenAI's."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from tests.fake_provider import FakeProvider
from tollhouse.outside import (
    Deadlines,
    Provider,
    ProviderFault,
    ProviderTimeout,
    ProviderUnreachable,
    Reply,
    ReplyBroken,
    ReplyTooLarge,
)
from tollhouse.outside.openai import OpenAICompatible

KEY = "canary-key-that-must-never-be-shown"
SHORT = Deadlines(connect=0.2, first_byte=0.2, idle=0.2, total=5.0)
MEGABYTE = 1 << 20


@pytest.fixture
async def fake() -> AsyncIterator[FakeProvider]:
    async with FakeProvider() as provider:
        yield provider


@pytest.fixture
async def openai(fake: FakeProvider) -> AsyncIterator[Provider]:
    provider = OpenAICompatible(fake.url, KEY, allow_private=True)
    yield provider
    await provider.close()


@pytest.fixture
async def hasty(fake: FakeProvider) -> AsyncIterator[Provider]:
    """The same server, with deadlines that a test can wait for."""
    provider = OpenAICompatible(fake.url, KEY, SHORT, allow_private=True)
    yield provider
    await provider.close()


def ask(text: str, *, stream: bool = False) -> bytes:
    body = {"model": "m", "messages": [{"role": "user", "content": text}], "stream": stream}
    if stream:
        body["stream_options"] = {"include_usage": True}
    return json.dumps(body).encode()


async def tokens_of(reply: Reply) -> int:
    return b"".join([segment async for segment in reply.segments()]).count(b'{"content": ')


async def test_a_plain_answer_comes_back_byte_for_byte(openai: Provider, fake: FakeProvider) -> None:
    body = ask("sandbox:tokens=3")
    reply = await openai.send("chat", "m", body, stream=False)
    answer = json.loads(await reply.read(MEGABYTE))
    assert (reply.status, reply.content_type) == (200, "application/json")
    assert answer["choices"][0]["message"]["content"] == "w0 w1 w2"
    assert answer["usage"]["total_tokens"] == fake.tokens
    assert (fake.log[0].raw_body, fake.log[0].path) == (body, "/v1/chat/completions")


async def test_a_call_carries_the_key_and_asks_for_no_compression(openai: Provider, fake: FakeProvider) -> None:
    await (await openai.send("chat", "m", ask("hi"), stream=False)).read(MEGABYTE)
    headers = fake.log[0].headers
    assert headers["authorization"] == f"Bearer {KEY}"
    assert headers["accept-encoding"] == "identity"


async def test_a_server_without_keys_is_sent_none(fake: FakeProvider) -> None:
    provider = OpenAICompatible(fake.url, None, allow_private=True)
    await (await provider.send("chat", "m", ask("hi"), stream=False)).read(MEGABYTE)
    assert "authorization" not in fake.log[0].headers
    await provider.close()


async def test_a_stream_comes_whole_and_in_order(openai: Provider) -> None:
    reply = await openai.send("chat", "m", ask("sandbox:tokens=50", stream=True), stream=True)
    stream = b"".join([segment async for segment in reply.segments()])
    events = [json.loads(event[6:]) for event in stream.split(b"\n\n")[:-2]]
    assert reply.content_type == "text/event-stream"
    assert stream.endswith(b"data: [DONE]\n\n")
    assert "".join(e["choices"][0]["delta"].get("content", "") for e in events[:-1]).split(" ")[-1] == "w49"
    assert events[-1]["usage"]["completion_tokens"] == 50


async def test_a_segment_is_given_while_the_provider_still_thinks(openai: Provider, fake: FakeProvider) -> None:
    reply = await openai.send("chat", "m", ask("sandbox:fault=stall:1", stream=True), stream=True)
    segments = aiter(reply.segments())
    async with asyncio.timeout(5):
        received = b""
        while b"w0" not in received:
            received += await anext(segments)
    assert fake.log[0].outcome == "running"
    await reply.close()


async def test_closing_before_the_end_aborts_the_call_at_the_provider(openai: Provider, fake: FakeProvider) -> None:
    reply = await openai.send("chat", "m", ask("sandbox:tokens=1000 sandbox:delay=20", stream=True), stream=True)
    await anext(aiter(reply.segments()))
    await reply.close()
    async with asyncio.timeout(5):
        await fake.log[0].ended.wait()
    assert fake.log[0].outcome == "left"
    assert fake.log[0].output_tokens < 100


async def test_cancelling_a_call_that_waits_aborts_it_at_the_provider(openai: Provider, fake: FakeProvider) -> None:
    waiting = asyncio.create_task(openai.send("chat", "m", ask("sandbox:fault=hang"), stream=False))
    call = await fake.call(0)
    waiting.cancel()
    async with asyncio.timeout(5):
        await call.ended.wait()
    assert call.outcome == "left"


@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_read_to_its_end_gives_its_socket_back(
    openai: Provider, fake: FakeProvider, stream: bool
) -> None:
    for _ in range(5):
        reply = await openai.send("chat", "m", ask("hi", stream=stream), stream=stream)
        async for _ in reply.segments():
            pass
        await reply.close()
        await reply.close()
    assert (fake.calls, fake.connections) == (5, 1)


async def test_no_socket_stays_behind_after_a_storm_of_cancelled_calls(openai: Provider, fake: FakeProvider) -> None:
    async def one() -> None:
        reply = await openai.send("chat", "m", ask("sandbox:tokens=100 sandbox:delay=1", stream=True), stream=True)
        try:
            await tokens_of(reply)
        finally:
            await reply.close()

    storm = [asyncio.create_task(one()) for _ in range(60)]
    for number, task in enumerate(storm):
        if number % 3:
            await fake.call(number // 3)
        task.cancel()
    await asyncio.gather(*storm, return_exceptions=True)
    async with asyncio.timeout(5):
        if fake.open_connections:
            await fake.all_closed.wait()
        reply = await openai.send("chat", "m", ask("still there?"), stream=False)
        await reply.read(MEGABYTE)
    assert reply.status == 200


async def test_a_closed_port_is_unreachable(fake: FakeProvider) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        provider = OpenAICompatible(f"http://127.0.0.1:{unused.getsockname()[1]}/v1", KEY, allow_private=True)
        with pytest.raises(ProviderUnreachable):
            await provider.send("chat", "m", ask("hi"), stream=False)
        await provider.close()


async def test_a_name_that_does_not_exist_is_unreachable() -> None:
    provider = OpenAICompatible("http://no-such-host.invalid/v1", KEY, allow_private=True)
    with pytest.raises(ProviderUnreachable):
        await provider.send("chat", "m", ask("hi"), stream=False)
    await provider.close()


async def test_a_server_that_hangs_up_without_answering_is_called_once(openai: Provider, fake: FakeProvider) -> None:
    with pytest.raises(ProviderUnreachable):
        await openai.send("chat", "m", ask("sandbox:fault=refuse"), stream=False)
    assert fake.calls == 1


async def test_a_host_that_accepts_no_connection_runs_into_the_connect_deadline() -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        queue = [socket.socket() for _ in range(4)]
        for waiting in queue:  # fills the backlog, so that the kernel drops every further attempt
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        provider = OpenAICompatible(
            f"http://127.0.0.1:{full.getsockname()[1]}/v1", KEY, replace(SHORT, first_byte=5.0), allow_private=True
        )
        with pytest.raises(ProviderTimeout) as late:
            await provider.send("chat", "m", ask("hi"), stream=False)
        await provider.close()
        for waiting in queue:
            waiting.close()
    assert late.value.phase == "connect"


async def test_silence_before_the_answer_ends_at_the_first_byte_deadline(hasty: Provider, fake: FakeProvider) -> None:
    with pytest.raises(ProviderTimeout) as late:
        await hasty.send("chat", "m", ask("sandbox:fault=hang"), stream=False)
    assert late.value.phase == "first_byte"
    async with asyncio.timeout(5):
        await fake.log[0].ended.wait()
    assert fake.log[0].outcome == "left"


async def test_headers_without_a_body_end_at_the_first_byte_deadline(hasty: Provider, fake: FakeProvider) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    fake.raw_answers.append(head + FakeProvider.HOLD)
    reply = await hasty.send("chat", "m", ask("hi", stream=True), stream=True)
    with pytest.raises(ProviderTimeout) as late:
        await tokens_of(reply)
    assert late.value.phase == "first_byte"


async def test_silence_inside_the_answer_ends_at_the_idle_deadline(hasty: Provider, fake: FakeProvider) -> None:
    reply = await hasty.send("chat", "m", ask("sandbox:fault=stall:3", stream=True), stream=True)
    received = b""
    with pytest.raises(ProviderTimeout) as late:
        async for segment in reply.segments():
            received += segment
    assert late.value.phase == "idle"
    assert b"w2" in received
    async with asyncio.timeout(5):
        await fake.log[0].ended.wait()
    assert fake.log[0].outcome == "left"


async def test_a_slow_drip_ends_at_the_total_deadline(fake: FakeProvider) -> None:
    provider = OpenAICompatible(fake.url, KEY, replace(SHORT, total=0.4), allow_private=True)
    reply = await provider.send("chat", "m", ask("sandbox:tokens=1000 sandbox:delay=10", stream=True), stream=True)
    with pytest.raises(ProviderTimeout) as late:
        await tokens_of(reply)
    assert late.value.phase == "total"
    await provider.close()


async def test_a_steady_stream_longer_than_the_idle_deadline_is_left_alone(hasty: Provider) -> None:
    reply = await hasty.send("chat", "m", ask("sandbox:tokens=40 sandbox:delay=15", stream=True), stream=True)
    assert await tokens_of(reply) == 40


async def test_a_reader_who_pauses_is_not_taken_for_a_silent_provider(hasty: Provider) -> None:
    reply = await hasty.send("chat", "m", ask("sandbox:tokens=5", stream=True), stream=True)
    segments = aiter(reply.segments())
    received = await anext(segments)
    await asyncio.sleep(3 * SHORT.idle)
    async for segment in segments:
        received += segment
    assert received.endswith(b"data: [DONE]\n\n")


@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_cut_off_is_broken_and_never_a_normal_end(openai: Provider, stream: bool) -> None:
    reply = await openai.send("chat", "m", ask("sandbox:tokens=20 sandbox:fault=cut:7", stream=stream), stream=stream)
    with pytest.raises(ReplyBroken):
        await reply.read(MEGABYTE)


async def test_what_came_before_the_cut_is_given(openai: Provider, fake: FakeProvider) -> None:
    reply = await openai.send("chat", "m", ask("sandbox:fault=cut:7", stream=True), stream=True)
    received = b""
    with pytest.raises(ReplyBroken):
        async for segment in reply.segments():
            received += segment
    assert b"w6" in received
    assert fake.log[0].output_tokens == 7


@pytest.mark.parametrize("status", [307, 400, 401, 429, 500, 503, 529])
async def test_any_status_is_an_answer(openai: Provider, status: int) -> None:
    reply = await openai.send("chat", "m", ask(f"sandbox:fault=status:{status}"), stream=False)
    assert reply.status == status
    assert json.loads(await reply.read(MEGABYTE))["error"]["code"] == f"fake_{status}"


async def test_a_redirect_is_never_followed(openai: Provider, fake: FakeProvider) -> None:
    async with FakeProvider() as trap:
        location = trap.url.encode() + b"/chat/completions"
        fake.raw_answers.append(b"HTTP/1.1 307 Away\r\nLocation: " + location + b"\r\nContent-Length: 0\r\n\r\n")
        reply = await openai.send("chat", "m", ask("hi"), stream=False)
        assert (reply.status, await reply.read(MEGABYTE)) == (307, b"")
        assert (trap.connections, fake.calls) == (0, 1)


@pytest.mark.parametrize("framing", ["length", "chunked"])
async def test_an_answer_beyond_the_cap_is_abandoned(openai: Provider, fake: FakeProvider, framing: str) -> None:
    body = b"x" * 200_000
    if framing == "length":
        raw = b"HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n" + body
    else:
        raw = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n30d40\r\n" + body + b"\r\n"
    fake.raw_answers.append(raw + FakeProvider.HOLD)
    reply = await openai.send("chat", "m", ask("hi"), stream=False)
    with pytest.raises(ReplyTooLarge):
        await reply.read(100_000)
    async with asyncio.timeout(5):
        await fake.log[0].ended.wait()
    assert fake.log[0].outcome == "left"


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 100_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"".join(b"X-%d: y\r\n" % number for number in range(1000)) + b"\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
    ],
    ids=["a long header", "many headers", "another protocol"],
)
async def test_what_is_not_proper_http_is_a_broken_reply(openai: Provider, fake: FakeProvider, raw: bytes) -> None:
    fake.raw_answers.append(raw)
    with pytest.raises(ReplyBroken):
        await openai.send("chat", "m", ask("hi"), stream=False)


async def test_a_broken_chunk_inside_the_body_is_a_broken_reply(openai: Provider, fake: FakeProvider) -> None:
    fake.raw_answers.append(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nzz\r\n")
    with pytest.raises(ReplyBroken):
        reply = await openai.send("chat", "m", ask("hi"), stream=False)
        await reply.read(MEGABYTE)


async def test_compressed_bytes_are_never_unpacked(openai: Provider, fake: FakeProvider) -> None:
    packed = b"\x1f\x8b\x08\x00pretend"
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(packed)
    fake.raw_answers.append(head + packed)
    reply = await openai.send("chat", "m", ask("hi"), stream=False)
    assert await reply.read(MEGABYTE) == packed


async def test_cookies_are_not_kept(fake: FakeProvider) -> None:
    provider = OpenAICompatible(fake.url.replace("127.0.0.1", "localhost"), KEY, allow_private=True)
    head = b"HTTP/1.1 200 OK\r\nConnection: close\r\nSet-Cookie: a=b\r\n"
    fake.raw_answers.append(head + b"Content-Length: 2\r\n\r\n{}")
    for _ in range(2):
        await (await provider.send("chat", "m", ask("hi"), stream=False)).read(MEGABYTE)
    assert "cookie" not in fake.log[1].headers
    await provider.close()


async def test_proxies_of_the_environment_are_ignored(
    openai: Provider, fake: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "")
    reply = await openai.send("chat", "m", ask("hi"), stream=False)
    await reply.read(MEGABYTE)
    assert fake.calls == 1


async def test_a_body_of_megabytes_arrives_unchanged(openai: Provider, fake: FakeProvider) -> None:
    body = ask("x" * (3 * MEGABYTE))
    await (await openai.send("chat", "m", body, stream=False)).read(MEGABYTE)
    assert fake.log[0].raw_body == body


async def test_no_fault_tells_the_key_or_the_address(hasty: Provider, fake: FakeProvider) -> None:
    host = fake.url.removeprefix("http://").removesuffix("/v1")
    for text in ("sandbox:fault=refuse", "sandbox:fault=hang", "sandbox:fault=cut:2", "sandbox:fault=stall:2"):
        with pytest.raises(ProviderFault) as fault:
            reply = await hasty.send("chat", "m", ask(text, stream=True), stream=True)
            await reply.read(MEGABYTE)
        shown = f"{fault.value!r} {fault.value.__cause__!r}"
        assert KEY not in shown
        assert host not in shown


async def test_a_refusal_that_quotes_the_key_is_shown_without_it(openai: Provider, fake: FakeProvider) -> None:
    said = b'{"error": {"message": "Incorrect API key provided: ' + KEY.encode() + b'"}}'
    half = len(said) - 20  # within the key, which comes in two segments
    head = b"HTTP/1.1 401 No\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (said[:half], said[half:]))
    fake.raw_answers.append(head + chunks + b"0\r\n\r\n")
    reply = await openai.send("chat", "m", ask("hi"), stream=False)
    assert await reply.read(MEGABYTE) == said.replace(KEY.encode(), b"[key]")


async def test_a_placeholder_for_a_key_does_not_garble_a_refusal(fake: FakeProvider) -> None:
    provider = OpenAICompatible(fake.url, "EMPTY", allow_private=True)
    fake.raw_answers.append(b"HTTP/1.1 400 No\r\nContent-Length: 18\r\n\r\nmessages are EMPTY")
    reply = await provider.send("chat", "m", ask("hi"), stream=False)
    assert await reply.read(MEGABYTE) == b"messages are EMPTY"
    await provider.close()


@pytest.mark.parametrize("key", ["two words", "line\r\nX-Other: 1", "schlüssel", "\x00"])
def test_a_key_that_no_header_can_carry_is_refused_without_being_shown(key: str) -> None:
    with pytest.raises(ValueError, match="printable ASCII") as refused:
        OpenAICompatible("https://host/v1", key, allow_private=False)
    assert key not in str(refused.value)


async def test_a_closed_provider_opens_again_with_the_next_call(openai: Provider, fake: FakeProvider) -> None:
    for _ in range(2):
        await (await openai.send("chat", "m", ask("hi"), stream=False)).read(MEGABYTE)
        await openai.close()
    assert (fake.calls, fake.connections) == (2, 2)


async def test_the_wait_that_a_provider_asks_for_is_known_before_its_body_is_read(
    openai: Provider, fake: FakeProvider
) -> None:
    fake.raw_answers.append(b"HTTP/1.1 429 Slow\r\nConnection: close\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n")
    assert (await openai.send("chat", "m", ask("hi"), stream=False)).retry_after_s == 7
    assert (await openai.send("chat", "m", ask("hi"), stream=False)).retry_after_s is None
