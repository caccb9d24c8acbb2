"""A provider for tests: a real socket, the formats of OpenAI, Anthropic and Google told apart by their paths, the
directives of `outside.script` and of `fake_vendor`, and a bill of its own.

The bill is kept by counting what was received and written here, not by anything that the code under test says:
`calls` is the number of requests, `tokens` the input tokens of all calls that began to be answered and the output
tokens that were written to the socket.
"""

import asyncio
import json
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from tests.fake_anthropic import Anthropic
from tests.fake_google import Google
from tests.fake_openai import OpenAI
from tests.fake_vendor import Call, Outcome, Said, Vendor, answer_to, own_directives
from tollhouse.outside.script import Fault, Script, read_script

__all__ = ["Call", "FakeProvider", "Outcome"]

OPENAI, ANTHROPIC, GOOGLE = OpenAI(), Anthropic(), Google()
VENDORS: dict[str, Vendor] = {vendor.name: vendor for vendor in (OPENAI, ANTHROPIC, GOOGLE)}


class FakeProvider:
    """Use as ``async with FakeProvider() as provider``. OpenAI's API is at `provider.url`, which ends in ``/v1``, the
    others' at `provider.root`.

    `raw_answers` come before everything else: each is written as it is to the next request, then the socket is closed,
    or kept open and silent when the bytes end in `HOLD`. `order` holds directives that are obeyed before those of
    messages, as long as it stands; each of `orders` is for one request, the next ones in turn. `keys`: those that are
    taken, None for any.
    """

    HOLD = b"<hold>"

    def __init__(self, *, natural_tokens: int = 10, keys: Iterable[str] | None = None) -> None:
        self.natural_tokens = natural_tokens
        self.keys = None if keys is None else set(keys)
        self.log: list[Call] = []
        self.raw_answers: deque[bytes] = deque()
        self.order = ""
        self.orders: deque[str] = deque()
        self.connections = 0
        self.open_connections = 0
        self.all_closed = asyncio.Event()
        self.root = ""
        self._called = asyncio.Condition()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"{self.root}/v1"

    @property
    def calls(self) -> int:
        """The requests received."""
        return len(self.log)

    @property
    def tokens(self) -> int:
        """What this provider would send a bill for."""
        return sum(call.input_tokens + call.output_tokens for call in self.log)

    async def call(self, number: int) -> Call:
        """The call with this number, the first being 0, as soon as it has come."""
        async with self._called:
            await self._called.wait_for(lambda: len(self.log) > number)
        return self.log[number]

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        host, port = self._server.sockets[0].getsockname()
        self.root = f"http://{host}:{port}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, where: TracebackType | None
    ) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        self.open_connections += 1
        self.all_closed.clear()
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                while await self._exchange(reader, writer):
                    pass
        finally:
            writer.transport.abort()
            self._tasks.discard(task)
            self.open_connections -= 1
            if not self.open_connections:
                self.all_closed.set()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Receives one request and answers it; False when the connection must not be used again."""
        call = await _receive(reader)
        async with self._called:
            self.log.append(call)
            self._called.notify_all()
        answer = asyncio.create_task(self._answer(call, writer))
        client = asyncio.create_task(reader.read(1))  # a client that does not pipeline sends nothing but its end
        try:
            await asyncio.wait({answer, client}, return_when=asyncio.FIRST_COMPLETED)
            if not answer.done():
                call.outcome = "left"
            elif answer.exception() is not None:
                call.outcome = "left" if isinstance(answer.exception(), ConnectionError) else "broken"
            else:
                call.outcome = answer.result()
        finally:
            answer.cancel()
            client.cancel()
            await asyncio.gather(answer, client, return_exceptions=True)
            call.ended.set()
        return call.outcome == "answered"

    async def _answer(self, call: Call, writer: asyncio.StreamWriter) -> Outcome:
        if self.raw_answers:
            raw = self.raw_answers.popleft()
            await _write(writer, raw.removesuffix(self.HOLD))
            if raw.endswith(self.HOLD):
                await asyncio.Event().wait()
            return "broken"
        vendor = _vendor_of(call)
        call.vendor, call.key = vendor.name, vendor.key(call.headers)
        if not self._takes(call, vendor):
            return await _write(writer, _http(401, "application/json", vendor.error(401)))
        if call.method == "GET":
            return await _write(writer, _http(200, "application/json", json.dumps(vendor.models()).encode()))
        asked = vendor.asked(call)
        order = self.orders.popleft() if self.orders else self.order
        script, own = read_script(f"{asked.text} {order}"), own_directives(f"{asked.text} {order}")
        await asyncio.sleep(script.first_ms / 1000)
        match script.fault:
            case Fault("refuse"):
                return "broken"
            case Fault("hang"):
                await asyncio.Event().wait()
            case Fault("garbage"):
                return await _write(writer, _http(200, "text/html; charset=utf-8", b"<html>not what you think</html>"))
            case Fault("status", status):
                wait = [f"Retry-After: {own['wait']}"] if "wait" in own else []
                return await _write(writer, _http(status, "application/json", vendor.error(status), *wait))
        call.input_tokens = asked.input_tokens
        call.cached_tokens = min(own.get("cached", 0), asked.input_tokens)
        call.written_tokens = min(own.get("written", 0), asked.input_tokens - call.cached_tokens)
        if call.path.endswith("/count_tokens"):
            counted = json.dumps({"input_tokens": asked.input_tokens}).encode()
            return await _write(writer, _http(200, "application/json", counted))
        said = answer_to(asked, script, own, self.natural_tokens)
        call.thought_tokens = len(said.thoughts)
        if asked.stream:
            return await self._stream(call, vendor, said, script, writer)
        if "embeddings" not in call.path:
            call.output_tokens = said.tokens
        return await self._plain(call, vendor, said, script, writer)

    def _takes(self, call: Call, vendor: Vendor) -> bool:
        """Whether the key stands where the vendor looks for it, no other header has one, and it is a right one."""
        carriers = sum(name in call.headers for name in ("authorization", "x-api-key", "x-goog-api-key"))
        if call.key is None:
            return carriers == 0 and self.keys is None and not vendor.wants_key()
        return carriers == 1 and (self.keys is None or call.key in self.keys)

    async def _plain(
        self, call: Call, vendor: Vendor, said: Said, script: Script, writer: asyncio.StreamWriter
    ) -> Outcome:
        await asyncio.sleep(said.tokens * (script.delay_ms or 0) / 1000)
        wire = json.dumps(vendor.whole(call, said)).encode()
        match script.fault:
            case Fault("error"):
                wire = vendor.error(500)
            case Fault("cut" | "stall" as kind):
                await _write(writer, _http(200, "application/json", wire)[: -len(wire) // 2])
                if kind == "stall":
                    await asyncio.Event().wait()
                return "broken"
        return await _write(writer, _http(200, "application/json", wire))

    async def _stream(
        self, call: Call, vendor: Vendor, said: Said, script: Script, writer: asyncio.StreamWriter
    ) -> Outcome:
        fault = script.fault
        stop_at = fault.number if fault is not None and fault.kind in ("cut", "error", "stall") else None
        await _write(writer, b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n")
        await _write(writer, b"Transfer-Encoding: chunked\r\n\r\n")
        for event in vendor.events(call, said):
            if stop_at is not None and (event.closing or call.output_tokens + event.tokens > stop_at):
                break
            await asyncio.sleep(event.tokens * (script.delay_ms or 0) / 1000)
            await _write(writer, _chunk(event.wire))
            call.output_tokens += event.tokens
        match fault:
            case Fault("stall"):
                await asyncio.Event().wait()
            case Fault("cut"):
                return "broken"
            case Fault("error"):
                await _write(writer, _chunk(vendor.failed()))
        return await _write(writer, _chunk(b""))


def _vendor_of(call: Call) -> Vendor:
    path = urlsplit(call.path).path
    if path.startswith("/v1beta/") or "x-goog-api-key" in call.headers:
        return GOOGLE
    if path.endswith(("/messages", "/count_tokens")) or "anthropic-version" in call.headers:
        return ANTHROPIC
    return OPENAI


async def _receive(reader: asyncio.StreamReader) -> Call:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.rstrip("\r\n").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    method, path, _ = first.split(" ")
    return Call(method, path, headers, body)


async def _write(writer: asyncio.StreamWriter, wire: bytes) -> Outcome:
    writer.write(wire)
    await writer.drain()
    return "answered"


def _http(status: int, content_type: str, body: bytes, *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status} Scripted", f"Content-Type: {content_type}", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


def _chunk(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"
