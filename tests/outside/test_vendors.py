"""Each vendor's own protocol: what goes over the wire, and what a check of the connection finds."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace

import pytest

from tests.outside.wiretap import Wiretap
from tollhouse.outside import (
    Deadlines,
    Operation,
    ProviderLacks,
    ProviderRefused,
    ProviderTimeout,
    ProviderUnreachable,
)
from tollhouse.outside.anthropic import Anthropic
from tollhouse.outside.google import Google
from tollhouse.outside.http import HttpProvider
from tollhouse.outside.openai import OpenAICompatible
from tollhouse.outside.sandbox import Sandbox

KEY = "canary-key-that-must-never-be-shown"
BODY = b'{"any": "bytes"}'
MEGABYTE = 1 << 20


@dataclass(frozen=True, slots=True)
class Vendor:
    """A provider's class, the end of its base URL in these tests, and the headers that only it sends."""

    make: Callable[..., HttpProvider]
    path: str
    own: tuple[str, ...]
    keyless: tuple[str, ...] = ()


OPENAI = Vendor(OpenAICompatible, "/v1", (f"authorization: Bearer {KEY}",))
ANTHROPIC = Vendor(
    Anthropic, "", ("anthropic-version: 2023-06-01", f"x-api-key: {KEY}"), ("anthropic-version: 2023-06-01",)
)
GOOGLE = Vendor(Google, "", (f"x-goog-api-key: {KEY}",))
ALL = pytest.mark.parametrize("vendor", [OPENAI, ANTHROPIC, GOOGLE], ids=["openai", "anthropic", "google"])


@pytest.fixture
async def tap() -> AsyncIterator[Wiretap]:
    async with Wiretap() as server:
        yield server


def answer(status: int, content_type: str = "application/json", body: bytes = b"{}", more: str = "") -> bytes:
    head = f"HTTP/1.1 {status} Scripted\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n{more}\r\n"
    return head.encode() + body


async def sent(
    provider: HttpProvider, tap: Wiretap, operation: Operation, model: str, *, stream: bool = False
) -> tuple[str, set[str], bytes]:
    """The request line, the headers with their names in lower case, and the body of one call."""
    reply = await provider.send(operation, model, BODY, stream=stream)
    await reply.read(MEGABYTE)
    await provider.close()
    return taken_apart(tap.received[-1])


def taken_apart(request: bytes) -> tuple[str, set[str], bytes]:
    head, _, body = request.partition(b"\r\n\r\n")
    line, *headers = head.decode().split("\r\n")
    pairs = (header.partition(": ") for header in headers)
    return line, {f"{name.lower()}: {value}" for name, _, value in pairs}, body


@pytest.mark.parametrize(
    ("vendor", "path", "operation", "model", "stream", "target"),
    [
        (OPENAI, "/v1", "chat", "gpt-4o", False, "/v1/chat/completions"),
        (OPENAI, "/v1/", "chat", "gpt-4o", True, "/v1/chat/completions"),
        (OPENAI, "/v1", "embeddings", "", False, "/v1/embeddings"),
        (OPENAI, "/api/v3/openai", "chat", "", False, "/api/v3/openai/chat/completions"),
        (OPENAI, "", "chat", "", False, "/chat/completions"),
        (ANTHROPIC, "", "chat", "claude", False, "/v1/messages"),
        (ANTHROPIC, "/", "chat", "claude", True, "/v1/messages"),
        (ANTHROPIC, "/v1", "chat", "claude", False, "/v1/messages"),
        (ANTHROPIC, "/v1/", "count_tokens", "claude", False, "/v1/messages/count_tokens"),
        (ANTHROPIC, "/anthropic", "chat", "claude", False, "/anthropic/v1/messages"),
        (GOOGLE, "", "chat", "gemini-2.5-flash", False, "/v1beta/models/gemini-2.5-flash:generateContent"),
        (GOOGLE, "", "chat", "gemini-2.5-flash", True, "/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse"),
        (GOOGLE, "/v1beta", "chat", "g", False, "/v1beta/models/g:generateContent"),
        (GOOGLE, "/v1/", "chat", "g", False, "/v1/models/g:generateContent"),
        (GOOGLE, "", "embeddings", "text-embedding-004", False, "/v1beta/models/text-embedding-004:batchEmbedContents"),
        (GOOGLE, "", "chat", "../../x?key=1#é", False, "/v1beta/models/..%2F..%2Fx%3Fkey%3D1%23%C3%A9:generateContent"),
    ],
)
async def test_an_operation_is_sent_where_the_vendor_has_it(
    tap: Wiretap, vendor: Vendor, path: str, operation: Operation, model: str, stream: bool, target: str
) -> None:
    provider = vendor.make(tap.url + path, KEY, allow_private=True)
    line, _, body = await sent(provider, tap, operation, model, stream=stream)
    assert line == f"POST {target} HTTP/1.1"
    assert body == BODY


@ALL
async def test_a_call_carries_the_vendors_headers_and_no_others(tap: Wiretap, vendor: Vendor) -> None:
    _, headers, _ = await sent(vendor.make(tap.url + vendor.path, KEY, allow_private=True), tap, "chat", "m")
    assert headers == {
        f"host: 127.0.0.1:{tap.port}",
        "accept: */*",
        "accept-encoding: identity",
        "user-agent: tollhouse",
        "content-type: application/json",
        f"content-length: {len(BODY)}",
        *vendor.own,
    }


@ALL
@pytest.mark.parametrize("key", [None, ""])
async def test_a_server_without_keys_is_sent_none(tap: Wiretap, vendor: Vendor, key: str | None) -> None:
    _, headers, _ = await sent(vendor.make(tap.url + vendor.path, key, allow_private=True), tap, "chat", "m")
    names = ("authorization", "x-api-key", "x-goog-api-key", "anthropic-version")
    assert {header for header in headers if header.startswith(names)} == set(vendor.keyless)


@pytest.mark.parametrize(
    ("vendor", "operation"), [(OPENAI, "count_tokens"), (ANTHROPIC, "embeddings"), (GOOGLE, "count_tokens")]
)
async def test_an_operation_that_the_vendor_has_not_is_not_sent(
    tap: Wiretap, vendor: Vendor, operation: Operation
) -> None:
    provider = vendor.make(tap.url + vendor.path, KEY, allow_private=True)
    with pytest.raises(ProviderLacks, match="choose a model of another provider") as lacks:
        await provider.send(operation, "m", BODY, stream=False)
    assert lacks.value.operation == operation
    assert tap.connections == 0
    await provider.close()


async def test_the_sandbox_does_not_count_tokens() -> None:
    with pytest.raises(ProviderLacks):
        await Sandbox().send("count_tokens", "m", BODY, stream=False)


@ALL
async def test_no_vendor_follows_a_redirect_with_its_key(tap: Wiretap, vendor: Vendor) -> None:
    async with Wiretap() as trap:
        tap.answer = answer(307, more=f"Location: {trap.url}/v1/x\r\n")
        provider = vendor.make(tap.url + vendor.path, KEY, allow_private=True)
        assert (await provider.send("chat", "m", BODY, stream=False)).status == 307
        with pytest.raises(ProviderRefused, match="redirects"):
            await provider.check()
        await provider.close()
        assert (len(tap.received), trap.connections) == (2, 0)


@ALL
async def test_a_vendors_key_is_blotted_out_of_its_refusals(tap: Wiretap, vendor: Vendor) -> None:
    tap.answer = answer(400, body=f"the key {KEY} is wrong".encode())
    provider = vendor.make(tap.url + vendor.path, KEY, allow_private=True)
    reply = await provider.send("chat", "m", BODY, stream=False)
    assert await reply.read(MEGABYTE) == b"the key [key] is wrong"
    await provider.close()


@pytest.mark.parametrize(
    ("vendor", "target"),
    [(OPENAI, "/v1/models"), (ANTHROPIC, "/v1/models?limit=1"), (GOOGLE, "/v1beta/models?pageSize=1")],
)
async def test_a_check_asks_for_the_models_with_the_key_and_nothing_else(
    tap: Wiretap, vendor: Vendor, target: str
) -> None:
    provider = vendor.make(tap.url + vendor.path, KEY, allow_private=True)
    await provider.check()
    await provider.close()
    line, headers, body = taken_apart(tap.received[0])
    assert line == f"GET {target} HTTP/1.1"
    assert set(vendor.own) <= headers
    assert not any(header.startswith("content-") for header in headers)
    assert (len(tap.received), body) == (1, b"")


@pytest.mark.parametrize(
    ("vendor", "status", "said"),
    [
        (OPENAI, 401, "refuses the key"),
        (ANTHROPIC, 401, "refuses the key"),
        (ANTHROPIC, 403, "refuses the key"),
        (GOOGLE, 400, "refuses the key"),
        (GOOGLE, 403, "refuses the key"),
        (OPENAI, 400, "refuses the check"),
        (OPENAI, 404, "no list of models"),
        (GOOGLE, 405, "no list of models"),
        (OPENAI, 302, "redirects"),
        (ANTHROPIC, 429, "limits our calls"),
        (OPENAI, 500, "trouble"),
        (ANTHROPIC, 529, "trouble"),
    ],
)
async def test_a_check_says_what_is_wrong_and_neither_key_nor_address(
    tap: Wiretap, vendor: Vendor, status: int, said: str
) -> None:
    tap.answer = answer(status, body=f'{{"error": "{KEY}"}}'.encode())
    provider = vendor.make(tap.url + vendor.path, KEY, allow_private=True)
    with pytest.raises(ProviderRefused, match=said) as refused:
        await provider.check()
    await provider.close()
    assert refused.value.status == status
    assert str(status) in str(refused.value)
    assert KEY not in str(refused.value)
    assert str(tap.port) not in str(refused.value)


async def test_a_page_instead_of_a_list_fails_the_check(tap: Wiretap) -> None:
    tap.answer = answer(200, "text/html; charset=utf-8", b"<html>welcome</html>")
    provider = OpenAICompatible(tap.url, KEY, allow_private=True)
    with pytest.raises(ProviderRefused, match="something else than JSON; correct the base URL"):
        await provider.check()
    await provider.close()


async def test_a_check_reads_no_list_however_long(tap: Wiretap) -> None:
    tap.answer = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100000000\r\n\r\n["
    provider = OpenAICompatible(tap.url, KEY, allow_private=True)
    async with asyncio.timeout(5):
        await provider.check()
    await provider.close()


async def test_a_check_of_what_cannot_be_reached_says_so(tap: Wiretap) -> None:
    gone, silent = Wiretap(), Deadlines(connect=0.2, first_byte=0.2, idle=0.2, total=5.0)
    async with gone:
        pass
    closed = OpenAICompatible(gone.url, KEY, allow_private=True)
    with pytest.raises(ProviderUnreachable, match="cannot be reached"):
        await closed.check()
    await closed.close()
    nameless = OpenAICompatible("https://no-such-host.invalid/v1", KEY, allow_private=False)
    with pytest.raises(ProviderUnreachable, match="name cannot be resolved"):
        await nameless.check()
    await nameless.close()
    tap.answer = b""
    hasty = OpenAICompatible(tap.url, KEY, silent, allow_private=True)
    with pytest.raises(ProviderTimeout, match="did not begin to answer"):
        await hasty.check()
    await hasty.close()


async def test_a_check_does_not_let_anybody_wait_as_long_as_a_call(
    tap: Wiretap, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tollhouse.outside.http._CHECK_S", 0.1)
    tap.answer = b""
    provider = OpenAICompatible(tap.url, KEY, allow_private=True)
    async with asyncio.timeout(5):
        with pytest.raises(ProviderTimeout, match="did not begin to answer"):
            await provider.check()
    await provider.close()


async def test_a_server_without_tls_where_tls_is_wanted_fails_the_check() -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(answer(400))
        writer.close()

    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        provider = OpenAICompatible(f"https://127.0.0.1:{port}/v1", KEY, allow_private=True)
        with pytest.raises(ProviderUnreachable, match="no secure connection"):
            await provider.check()
        await provider.close()


@ALL
@pytest.mark.parametrize(
    ("slow", "phase"), [("first_byte", "first_byte"), ("total", "first_byte")], ids=["first_byte", "total"]
)
async def test_a_silent_vendor_is_given_up_at_its_deadline(tap: Wiretap, vendor: Vendor, slow: str, phase: str) -> None:
    tap.answer = b""
    deadlines = replace(Deadlines(), **{slow: 0.1})
    provider = vendor.make(tap.url + vendor.path, KEY, deadlines, allow_private=True)
    with pytest.raises(ProviderTimeout) as late:
        await provider.send("chat", "m", BODY, stream=True)
    assert late.value.phase == phase
    await provider.close()
