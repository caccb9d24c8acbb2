"""A proxy between our processes and PostgreSQL that understands the wire protocol, and fails where it is told to.

Every statement that passes is a point: the role of its connection (`application_name`), its text, and which of its kind
it is. A `Trap` waits for one. So there is a named place to fail between any two statements, also between those that a
process sends in one write, and the product knows nothing of it.
"""

from __future__ import annotations

import asyncio
import struct
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Literal, Self

from psycopg.conninfo import conninfo_to_dict

READ_MAX = 256 * 1024
FLUSH = b"H\x00\x00\x00\x04"  # has the server send what it holds back until the next Sync
CANCEL_REQUEST = 80877102
ROWS_AS_JSON = "SELECT coalesce(json_agg(found), '[]') FROM ("  # how many statements begin alike

When = Literal["before", "after"]


@dataclass(frozen=True, slots=True)
class Point:
    """One statement on its way: `number` 1 is the first of its role and text since `WireProxy.forget`."""

    role: str
    statement: str
    number: int

    def __str__(self) -> str:
        text = " ".join(self.statement.removeprefix(ROWS_AS_JSON).split())
        return f"{self.role}: {text[:100]}{'...' if len(text) > 100 else ''} #{self.number}"


def nothing() -> None:
    """What a trap does that only breaks the connection."""


@dataclass(slots=True, eq=False)
class Trap:
    """Springs at the first point that `wants` accepts, once. "before": the statement and all that follows it never
    reach PostgreSQL. "after": PostgreSQL has done it, and the answer is never passed on. Then `act` is called, for
    example to kill the process, and the connection is closed on both sides."""

    wants: Callable[[Point], bool]
    when: When
    act: Callable[[], None] = nothing
    sprung: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(slots=True, eq=False)
class Hold:
    """Stops the connection at the first point that `wants` accepts, before it reaches PostgreSQL, until `go` is set."""

    wants: Callable[[Point], bool]
    reached: asyncio.Event = field(default_factory=asyncio.Event)
    go: asyncio.Event = field(default_factory=asyncio.Event)


class WireProxy:
    """Use as ``async with WireProxy(database_url) as proxy``; processes get `proxy.url`. The database may go away and
    come back: connections that find nobody are closed."""

    def __init__(self, database_url: str) -> None:
        about = conninfo_to_dict(database_url)
        self._socket = f"{about['host']}/.s.PGSQL.{about.get('port', 5432)}"
        self._name = f"{about['user']}@127.0.0.1:{{port}}/{about['dbname']}"
        self.url = ""
        self.seen: list[Point] = []
        self._counts: Counter[tuple[str, str]] = Counter()
        self._waiting: list[Trap | Hold] = []
        self._connections: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    def forget(self) -> None:
        """Begins to count anew, with nothing set."""
        self.seen.clear()
        self._counts.clear()
        self._waiting.clear()

    def trap(self, wants: Callable[[Point], bool], when: When, act: Callable[[], None] = nothing) -> Trap:
        trap = Trap(wants, when, act)
        self._waiting.append(trap)
        return trap

    def hold(self, wants: Callable[[Point], bool]) -> Hold:
        hold = Hold(wants)
        self._waiting.append(hold)
        return hold

    def met(self, role: str, statement: str) -> Trap | Hold | None:
        """Counts a statement that is about to be passed on, and finds what was set for it."""
        self._counts[role, statement] += 1
        point = Point(role, statement, self._counts[role, statement])
        self.seen.append(point)
        for one in self._waiting:
            if one.wants(point):
                self._waiting.remove(one)
                return one
        return None

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        self.url = f"postgresql://{self._name.format(port=port)}?sslmode=disable&gssencmode=disable"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, where: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            with suppress(ConnectionError, FileNotFoundError, asyncio.IncompleteReadError, asyncio.CancelledError):
                server_reader, server_writer = await asyncio.open_unix_connection(self._socket)
                try:
                    await _Connection(self, reader, writer, server_reader, server_writer).run()
                finally:
                    server_writer.close()  # what was to be passed on still is
        finally:
            writer.transport.abort()
            self._connections.discard(task)


class _Connection:
    """One connection of a process, and the one to PostgreSQL that it gets."""

    def __init__(
        self,
        proxy: WireProxy,
        client: asyncio.StreamReader,
        to_client: asyncio.StreamWriter,
        server: asyncio.StreamReader,
        to_server: asyncio.StreamWriter,
    ) -> None:
        self._proxy = proxy
        self._client, self._to_client = client, to_client
        self._server, self._to_server = server, to_server
        self._role = ""
        self._prepared: dict[bytes, str] = {}
        self._portals: dict[bytes, str] = {}
        self._owed: deque[bytes] = deque()  # what the server has not answered yet: Q(uery), E(xecute), S(ync)
        self._sprung: Trap | None = None  # waits until the server owes nothing

    async def run(self) -> None:
        """Until either side ends, or a trap has sprung."""
        if not await self._begin():
            return
        ways = [asyncio.create_task(self._forth()), asyncio.create_task(self._back())]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            ended = await asyncio.gather(*ways, return_exceptions=True)
        for problem in ended:
            if isinstance(problem, Exception) and not isinstance(problem, ConnectionError):
                raise problem

    async def _begin(self) -> bool:
        """The startup message, which tells the role. False for a cancellation, which is passed on and has no more."""
        head = await self._client.readexactly(8)
        size, code = struct.unpack("!ii", head)
        body = await self._client.readexactly(size - 8)
        self._to_server.write(head + body)
        if code == CANCEL_REQUEST:
            await self._to_server.drain()
            await self._server.read()
            return False
        words = body.split(b"\0")
        self._role = dict(zip(words[::2], words[1::2], strict=False)).get(b"application_name", b"").decode()
        return True

    async def _forth(self) -> None:
        async for messages in _read(self._client):
            out = bytearray()
            for kind, message in messages:
                met = None
                statement = self._statement(kind, message)
                if statement is not None:
                    met = self._proxy.met(self._role, statement)
                if isinstance(met, Hold):
                    await self._send(out)
                    out.clear()
                    met.reached.set()
                    await met.go.wait()
                if isinstance(met, Trap) and met.when == "before":
                    await self._send(out)
                    return self._spring(met)
                if kind in b"QES":
                    self._owed.append(kind)
                out += message
                if isinstance(met, Trap):
                    self._sprung = met
                    await self._send(out + (FLUSH if kind == b"E" else b""))
                    await asyncio.Event().wait()  # the way back ends this one
            await self._send(out)

    async def _back(self) -> None:
        async for messages in _read(self._server):
            for kind, _ in messages:
                self._answered(kind)
            if self._sprung is None:
                self._to_client.write(b"".join(message for _, message in messages))
                await self._to_client.drain()
            elif not self._owed:
                return self._spring(self._sprung)

    def _statement(self, kind: bytes, message: bytes) -> str | None:
        """The text of a statement when this message has it done, else None."""
        body = message[5:]
        match kind:
            case b"P":
                name, text, _ = body.split(b"\0", 2)
                self._prepared[name] = text.decode()
            case b"B":
                portal, name, _ = body.split(b"\0", 2)
                self._portals[portal] = self._prepared[name]
            case b"E":
                return self._portals[body.partition(b"\0")[0]]
            case b"Q":
                return body[:-1].decode()
        return None

    def _answered(self, kind: bytes) -> None:
        """Takes from what is owed what this message answers. After an error the server skips all until the Sync."""
        if kind == b"Z":
            while self._owed and self._owed.popleft() == b"E":
                pass
        elif kind in b"CIs" and self._owed and self._owed[0] == b"E":
            self._owed.popleft()
        elif kind == b"E":
            while self._owed and self._owed[0] == b"E":
                self._owed.popleft()

    async def _send(self, out: bytes | bytearray) -> None:
        if out:
            self._to_server.write(bytes(out))
            await self._to_server.drain()

    def _spring(self, trap: Trap) -> None:
        trap.act()
        trap.sprung.set()


async def _read(reader: asyncio.StreamReader) -> AsyncIterator[list[tuple[bytes, bytes]]]:
    """Whole messages, each with its type, as they come; until the end of the connection."""
    rest = b""
    while chunk := await reader.read(READ_MAX):
        rest += chunk
        messages = list(_whole(rest))
        rest = rest[sum(len(message) for _, message in messages) :]
        yield messages


def _whole(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    start = 0
    while len(data) >= start + 5:
        end = start + 1 + int.from_bytes(data[start + 1 : start + 5], "big")
        if len(data) < end:
            return
        yield data[start : start + 1], data[start:end]
        start = end
