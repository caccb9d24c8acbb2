"""Names and texts that are made to break out of where they stand: models, headers, events, logs."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

import pytest
import pytest_asyncio

from tests.conftest import Cluster, SeededTemplate
from tests.fake_provider import FakeProvider
from tests.gateway.answers import DONE, STOP, answer_of, completion, piece, stream_of, usage, word
from tests.gateway.connected import connected_house
from tests.gateway.surfaces import SURFACES, Surface, Wish
from tests.house import CHAT, House, Tenant, ask

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.usefixtures("proved")]

MODEL = "gpt-4o-mini"
NAMES = [
    "GPT-4O-MINI", "gpt-4o-mini ", " gpt-4o-mini", "gpt-4o-mini\t", "gpt-4o-mini\n", "\uff47pt-4o-mini",
    "gpt\u20114o\u2011mini", "gpt-4\u043e-mini", "gpt-4o-mini\u200b", "\ufeffgpt-4o-mini", "gpt-4o-mini/",
    "./gpt-4o-mini", "../gpt-4o-mini", "gpt-4o-mini%00", "gpt-4o%2dmini", "gpt-4o-mini?x=1", "gpt-4o-mini#",
    "gpt-4o-mini';--", "%", "*", "auto ", "AUTO", "gpt-4o-mini\r\nx-injected: yes", "\x1b[31mred", "x" * 200,
]  # fmt: skip
TEXTS = [
    "\n\ndata: [DONE]\n\n", "\r\n\r\ndata: {}\r\n\r\n", "event: error\ndata: {}\n\n", "\r\rdata: x\r\r",
    "\u2028\u2029\u0085", "<script>alert(1)</script>", '"}]}\n\ndata: {"choices":[]}', "\\u0000\\n\\n", "\x1b[2J",
    ": ping\n\n",
]  # fmt: skip


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def provider() -> AsyncIterator[FakeProvider]:
    async with FakeProvider() as made:
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(cluster: Cluster, seeded_template: SeededTemplate, provider: FakeProvider) -> AsyncIterator[House]:
    connected = {"OPENAI_BASE_URL": provider.url, "OPENAI_API_KEY": "sk-test-0123456789"}
    async with connected_house(cluster, seeded_template, connected) as made:
        yield made
        assert "\x1b" not in made.server.said() and "x-injected: yes\n" not in made.server.said()


async def head_of(house: House, tenant: Tenant, body: Any, *lines: str) -> bytes:
    """The head of an answer, byte for byte."""
    sent = json.dumps(body).encode()
    head = [f"POST {CHAT} HTTP/1.1", "host: test", f"x-api-key: {tenant.key}", f"content-length: {len(sent)}", *lines]
    reader, writer = await asyncio.open_connection(house.server.host, house.server.port)
    try:
        writer.write("\r\n".join([*head, "", ""]).encode() + sent)
        async with asyncio.timeout(10):
            return await reader.readuntil(b"\r\n\r\n")
    finally:
        writer.close()


@pytest.mark.parametrize("name", NAMES, ids=[ascii(name)[:40] for name in NAMES])
async def test_only_the_exact_name_of_a_model_is_that_model(house: House, provider: FakeProvider, name: str) -> None:
    tenant, calls = await house.organization(), provider.calls
    books = await house.books()
    for surface in SURFACES:
        reply = await house.call("POST", surface.path, json=surface.body(Wish("hi", name)), headers=tenant.headers)
        assert reply.status == 404, (surface.name, reply.raw)
        assert reply.body["error"]["code"] == "model_not_found"
        assert not any("injected" in header.lower() for header in reply.headers)
    if name not in ("./gpt-4o-mini", "../gpt-4o-mini"):  # which clients resolve before they ask
        found = await house.call("GET", f"/v1/models/{quote(name, safe='')}", headers=tenant.headers)
        assert found.status == 404
    assert await house.books() == books and provider.calls == calls


@pytest.mark.parametrize("text", TEXTS, ids=[ascii(text)[:30] for text in TEXTS])
@pytest.mark.parametrize("surface", SURFACES, ids=[one.name for one in SURFACES])
async def test_no_text_of_a_model_can_open_an_event_of_its_own(
    house: House, provider: FakeProvider, surface: Surface, text: str
) -> None:
    tenant = await house.organization()
    counted = usage(11, 3, total_tokens=14)
    provider.raw_answers.append(stream_of(word(text), word("."), piece(STOP), piece(usage=counted), DONE))
    body = surface.body(Wish("hi", MODEL, stream=True))
    reply = await house.call("POST", surface.path, json=body, headers=tenant.headers)
    assert surface.stream(reply.raw).text == text + "."
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    provider.raw_answers.append(answer_of(completion(choices=[choice], usage=counted)))
    body = surface.body(Wish("hi", MODEL))
    reply = await house.call("POST", surface.path, json=body, headers=tenant.headers)
    assert surface.plain(reply.body).text == text


@pytest.mark.parametrize("surface", SURFACES, ids=[one.name for one in SURFACES])
async def test_what_a_provider_says_of_an_error_stays_inside_it(
    house: House, provider: FakeProvider, surface: Surface
) -> None:
    tenant = await house.organization()
    said = 'bad\n\ndata: [DONE]\r\nx-injected: yes\x1b[31m"}'
    wire = json.dumps({"error": {"message": said, "type": "x\r\ny", "code": ["a"]}}).encode()
    head = b"HTTP/1.1 400 No\r\nConnection: close\r\nX-Injected: yes\r\nSet-Cookie: a=b\r\nContent-Length: %d\r\n\r\n"
    provider.raw_answers.append(head % len(wire) + wire)
    body = surface.body(Wish("hi", MODEL, stream=True))
    reply = await house.call("POST", surface.path, json=body, headers=tenant.headers)
    assert reply.status == 400 and said in reply.body["error"]["message"]
    assert not {"x-injected", "set-cookie"} & {name.lower() for name in reply.headers}


async def test_a_name_of_an_experiment_opens_no_header(house: House) -> None:
    """It stands in x-tollhouse-reason. Whatever the name, a header more never comes of it."""
    tenant = await house.organization()
    operator = {"authorization": f"Bearer {house.operator_key}"}
    for number, name in enumerate(("plain é ö", "日本語", "two\r\nx-injected: yes", "nul\0", "\x7f\x85bell\x07")):
        arms = [{"model": "llama-3.1-8b", "weight": 9_999}, {"model": MODEL, "weight": 1}]
        body = {"name": name, "model": MODEL, "arms": arms}
        made = await house.call("POST", "/api/operator/experiments", json=body, headers=operator)
        assert made.status in (201, 400, 422), made.raw
        assert number > 1 or made.status == 201
        if made.status != 201:
            continue
        head = await head_of(house, tenant, ask("sandbox:tokens=1", MODEL))
        assert head.startswith(b"HTTP/1.1 200") and b"x-tollhouse-reason: experiment: " in head
        lines = head.removesuffix(b"\r\n\r\n").split(b"\r\n")
        assert not any(line.startswith(b"x-injected") for line in lines)
        assert not any(byte < 32 or byte == 127 for line in lines for byte in line)
        await house.call("PATCH", f"/api/operator/experiments/{made.body['id']}", json={}, headers=operator)


@pytest.mark.parametrize("line", ["x-tollhouse-user: a\x00b", "x-tollhouse-user: a\x01b", "idempotency-key: a\x1b[31m"])
async def test_control_characters_in_headers_are_refused(house: House, line: str) -> None:
    tenant = await house.organization()
    books = await house.books()
    assert (await head_of(house, tenant, ask("hi"), line)).startswith(b"HTTP/1.1 400")
    assert await house.books() == books
