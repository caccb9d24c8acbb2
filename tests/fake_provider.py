"""A provider for tests: a real socket, OpenAI's wire format, the directives of `outside.script`, and a bill of its own.

The bill is kept by counting what was received and written here, not by anything that the code under test says:
`calls` is the number of requests, `tokens` the input tokens of all calls that began to be answered and the output
tokens that were written to the socket.
"""

import asyncio
import json
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Literal, Self

from tollhouse.outside.script import Fault, Script, read_script

Outcome = Literal["running", "answered", "broken", "left"]
"""How a call ended: answered to its end, broken off by its script, or left by the client before the end."""


@dataclass(slots=True)
class Call:
    """One request as it was received, and what became of it."""

    path: str
    headers: dict[str, str]
    raw_body: bytes
    input_tokens: int = 0
    output_tokens: int = 0
    outcome: Outcome = "running"
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def body(self) -> dict[str, Any]:
        """The request's JSON."""
        decoded: dict[str, Any] = json.loads(self.raw_body)
        return decoded


class FakeProvider:
    """Use as ``async with FakeProvider() as provider`` and call `provider.url`, which ends in ``/v1``.

    `raw_answers` come before everything else: each is written as it is to the next request, then the socket is closed,
    or kept open and silent when the bytes end in `HOLD`.
    """

    HOLD = b"<hold>"

    def __init__(self, *, natural_tokens: int = 10) -> None:
        self.natural_tokens = natural_tokens
        self.log: list[Call] = []
        self.raw_answers: deque[bytes] = deque()
        self.connections = 0
        self.open_connections = 0
        self.all_closed = asyncio.Event()
        self.url = ""
        self._called = asyncio.Condition()
        self._tasks: set[asyncio.Task[None]] = set()

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
        self.url = f"http://{host}:{port}/v1"
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
        script = read_script(_last_user_text(call.body))
        await asyncio.sleep(script.first_ms / 1000)
        match script.fault:
            case Fault("refuse"):
                return "broken"
            case Fault("hang"):
                await asyncio.Event().wait()
            case Fault("garbage"):
                return await _write(writer, _http(200, "text/html; charset=utf-8", b"<html>not what you think</html>"))
            case Fault("status", status):
                return await _write(writer, _http(status, "application/json", _error(status)))
        call.input_tokens = sum(3 + len(json.dumps(message).split()) for message in call.body["messages"])
        if call.body.get("stream"):
            return await self._stream(call, script, writer)
        return await self._plain(call, script, writer)

    def _length(self, call: Call, script: Script) -> tuple[int, str]:
        wanted = self.natural_tokens if script.tokens is None else script.tokens
        most = call.body.get("max_completion_tokens", call.body.get("max_tokens"))
        return (most, "length") if most is not None and wanted > most else (wanted, "stop")

    async def _plain(self, call: Call, script: Script, writer: asyncio.StreamWriter) -> Outcome:
        length, reason = self._length(call, script)
        await asyncio.sleep(length * (script.delay_ms or 0) / 1000)
        call.output_tokens = length
        body = _head(call, "chat.completion") | {
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": "".join(_words(length))},
                    "finish_reason": reason,
                }
            ]
        }
        if script.fault is None or script.fault.kind != "nousage":
            body["usage"] = _usage(call)
        wire = json.dumps(body).encode()
        match script.fault:
            case Fault("error"):
                wire = _error(500)
            case Fault("cut" | "stall" as kind):
                await _write(writer, _http(200, "application/json", wire)[: -len(wire) // 2])
                if kind == "stall":
                    await asyncio.Event().wait()
                return "broken"
        return await _write(writer, _http(200, "application/json", wire))

    async def _stream(self, call: Call, script: Script, writer: asyncio.StreamWriter) -> Outcome:
        length, reason = self._length(call, script)
        fault = script.fault
        stop_at = fault.number if fault is not None and fault.kind in ("cut", "error", "stall") else None
        head = _head(call, "chat.completion.chunk")

        async def send(payload: object) -> Outcome:
            return await _write(writer, _chunk(b"data: " + json.dumps(payload).encode() + b"\n\n"))

        def piece(delta: dict[str, str], finish_reason: str | None = None) -> dict[str, Any]:
            return head | {"choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}]}

        await _write(writer, b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n")
        await _write(writer, b"Transfer-Encoding: chunked\r\n\r\n")
        await send(piece({"role": "assistant", "content": ""}))
        for word in _words(length if stop_at is None else min(length, stop_at)):
            await asyncio.sleep((script.delay_ms or 0) / 1000)
            await send(piece({"content": word}))
            call.output_tokens += 1
        if fault is not None and stop_at is not None:
            if fault.kind == "stall":
                await asyncio.Event().wait()
            if fault.kind == "cut":
                return "broken"
            await _write(writer, _chunk(b"data: " + _error(500) + b"\n\n") + _chunk(b""))
            return "answered"
        await send(piece({}, reason))
        asked = call.body.get("stream_options") or {}
        if asked.get("include_usage") and (fault is None or fault.kind != "nousage"):
            await send(head | {"choices": [], "usage": _usage(call)})
        return await _write(writer, _chunk(b"data: [DONE]\n\n") + _chunk(b""))


async def _receive(reader: asyncio.StreamReader) -> Call:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.rstrip("\r\n").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Call(first.split(" ")[1], headers, body)


async def _write(writer: asyncio.StreamWriter, wire: bytes) -> Outcome:
    writer.write(wire)
    await writer.drain()
    return "answered"


def _words(count: int) -> Iterator[str]:
    return (f" w{number}" if number else "w0" for number in range(count))


def _head(call: Call, kind: str) -> dict[str, Any]:
    return {"id": "chatcmpl-fake", "object": kind, "created": 1, "model": call.body["model"]}


def _usage(call: Call) -> dict[str, int]:
    total = call.input_tokens + call.output_tokens
    return {"prompt_tokens": call.input_tokens, "completion_tokens": call.output_tokens, "total_tokens": total}


def _last_user_text(body: dict[str, Any]) -> str:
    for message in reversed(body["messages"]):
        if message["role"] == "user":
            content = message["content"]
            return content if isinstance(content, str) else " ".join(part.get("text", "") for part in content)
    return ""


def _error(status: int) -> bytes:
    error = {"message": "told to fail", "type": "server_error", "param": None, "code": f"fake_{status}"}
    return json.dumps({"error": error}).encode()


def _http(status: int, content_type: str, body: bytes) -> bytes:
    head = f"HTTP/1.1 {status} Scripted\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def _chunk(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"
