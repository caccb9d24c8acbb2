"""A server with the reservation API's manners on a real socket, which fails as it is told to.

It keeps reservations by their idempotency key and settles each once, in a dictionary: what a client made happen, and
how often, stands in `log` and `held`.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from types import TracebackType
from typing import Any, Self

Answer = tuple[int, dict[str, str], Any]


@dataclass(frozen=True, slots=True)
class Request:
    method: str
    path: str
    headers: dict[str, str]
    body: Any

    @property
    def what(self) -> str:
        """The last word of the path: reservations, settle, release, renew ..."""
        return self.path.partition("?")[0].rpartition("/")[2]


@dataclass(frozen=True, slots=True)
class Fault:
    """What goes wrong with one request. `does`: the request has its effect all the same. `raw` is written instead of
    the answer, and the connection closed; None closes it without a byte. `gate`: the answer comes when it is set.
    `drips`: after that, a byte now and then without end."""

    does: bool = False
    raw: bytes | None = None
    gate: asyncio.Event | None = None
    drips: bool = False


def plain(status: int, body: bytes = b"", headers: str = "") -> bytes:
    head = f"HTTP/1.1 {status} x\r\ncontent-length: {len(body)}\r\nconnection: close\r\n{headers}\r\n"
    return head.encode() + body


def problem(status: int, code: str, headers: str = "", **members: Any) -> bytes:
    document = {"type": f"urn:tollhouse:problem:{code}", "title": code, "status": status, "detail": f"It is {code}."}
    body = json.dumps(document | {"code": code, "request_id": "r-1", "errors": []} | members).encode()
    return plain(status, body, f"content-type: application/problem+json\r\n{headers}")


CLOSED = Fault()
LOST = Fault(does=True)
FULL = Fault(raw=problem(503, "overloaded", "retry-after: 0\r\n"))


@dataclass(slots=True)
class Held:
    """A reservation, and the body of each request that changed it."""

    id: str
    amount: Decimal
    model: str | None
    capability: str | None
    status: str = "pending"
    charged: dict[str, Any] | None = None
    reason: str | None = None
    renewals: int = 0
    created_at: datetime = field(default_factory=lambda: datetime.now(UTC))


class Counter:
    """Use as ``async with Counter() as counter``. `faults[what]` are met by the next requests whose path ends so, one
    by one; `always[what]` by all of them."""

    def __init__(self) -> None:
        self.log: list[Request] = []
        self.held: dict[str, Held] = {}
        self.faults: dict[str, deque[Fault]] = {}
        self.always: dict[str, Fault] = {}
        self.lasts = timedelta(seconds=300)
        self.url = ""
        self._by_key: dict[str, str] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Condition()

    def fail(self, what: str, *faults: Fault) -> None:
        self.faults.setdefault(what, deque()).extend(faults)

    def sent(self, what: str) -> list[Request]:
        return [request for request in self.log if request.what == what]

    async def received(self, what: str, count: int = 1) -> None:
        """Returns when so many requests of the kind have come."""
        async with asyncio.timeout(10), self._changed:
            await self._changed.wait_for(lambda: len(self.sent(what)) >= count)

    @property
    def only(self) -> Held:
        [held] = self.held.values()
        return held

    # ------------------------------------------------------------------------------------------------------- the socket

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        host, port = self._server.sockets[0].getsockname()
        self.url = f"http://{host}:{port}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, where: TracebackType | None
    ) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                while await self._exchange(await _receive(reader), writer):
                    pass
        finally:
            writer.transport.abort()
            self._tasks.discard(task)

    async def _exchange(self, request: Request, writer: asyncio.StreamWriter) -> bool:
        async with self._changed:
            self.log.append(request)
            self._changed.notify_all()
        waiting = self.faults.get(request.what)
        fault = waiting.popleft() if waiting else self.always.get(request.what)
        if fault is not None and not fault.does:
            return await self._break(fault, writer)
        status, headers, body = self._answer(request)
        if fault is not None:
            return await self._break(fault, writer)
        encoded = json.dumps(body).encode()
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        writer.write(f"HTTP/1.1 {status} x\r\ncontent-length: {len(encoded)}\r\n{lines}\r\n".encode() + encoded)
        await writer.drain()
        return True

    async def _break(self, fault: Fault, writer: asyncio.StreamWriter) -> bool:
        if fault.gate is not None:
            await fault.gate.wait()
        if fault.raw is not None:
            writer.write(fault.raw)
            await writer.drain()
            while fault.drips:
                await asyncio.sleep(0.02)
                writer.write(b" ")
                await writer.drain()
            writer.close()
            await writer.wait_closed()
        return False

    # ------------------------------------------------------------------------------------------------------ the counter

    def _answer(self, request: Request) -> Answer:
        acts: dict[str, Callable[[Request], Answer]] = {
            "reservations": self._reserve,
            "settle": self._settle,
            "release": self._release,
            "renew": self._renew,
        }
        return acts[request.what](request)

    def _reserve(self, request: Request) -> Answer:
        key = request.headers["idempotency-key"]
        known = self._by_key.get(key)
        if known is None:
            body = request.body
            amount = Decimal(body.get("credits", "4"))
            model = "gpt-4o-mini" if "credits" not in body else None
            known = self._by_key[key] = f"r{len(self.held)}"
            self.held[known] = Held(known, amount, model, body.get("capability"))
            return 201, {}, self._view(self.held[known])
        return 201, {"idempotent-replayed": "true"}, self._view(self.held[known])

    def _view(self, held: Held) -> dict[str, Any]:
        return {
            "id": held.id,
            "status": "pending",
            "amount": str(held.amount),
            "model": held.model,
            "capability": held.capability,
            "max_output_tokens": 500 if held.model else None,
            "parts": [{"grant_id": "g1", "amount": str(held.amount)}],
            "overdraft": "0",
            "created_at": held.created_at.isoformat(),
            "expires_at": (held.created_at + self.lasts).isoformat(),
            "balance": "96",
            "of_a_later_version": {"unknown": [1, 2, 3]},
        }

    def _of(self, request: Request) -> Held:
        return self.held[request.path.split("/")[-2]]

    def _settle(self, request: Request) -> Answer:
        held = self._of(request)
        again = held.charged is not None
        if not again:
            held.status, held.charged = "settled", request.body
        assert held.charged is not None
        charged = held.charged.get("credits", "0.5")
        answer = {"id": held.id, "status": "settled", "charged": charged, "late": False, "balance": "95"}
        answer["variance"] = str(Decimal(charged) - held.amount)
        return 200, {"idempotent-replayed": "true"} if again else {}, answer

    def _release(self, request: Request) -> Answer:
        held = self._of(request)
        again = held.status == "released"
        held.status, held.reason = "released", request.body["reason"]
        answer = {"id": held.id, "status": "released", "balance": "100"}
        return 200, {"idempotent-replayed": "true"} if again else {}, answer

    def _renew(self, request: Request) -> Answer:
        held = self._of(request)
        held.renewals += 1
        return 200, {}, {"id": held.id, "expires_at": (datetime.now(UTC) + self.lasts).isoformat()}


async def _receive(reader: asyncio.StreamReader) -> Request:
    head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    method, path, _ = head[0].split(" ")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
    raw = await reader.readexactly(int(headers.get("content-length", "0")))
    return Request(method, path, headers, json.loads(raw) if raw else None)
