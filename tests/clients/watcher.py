"""A proxy between a client and a server that notes what is asked. It changes nothing."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Self


@dataclass(frozen=True, slots=True)
class Asked:
    """The head of one request; the names of its headers in lower case."""

    method: str
    path: str
    headers: dict[str, str]

    @property
    def key(self) -> str | None:
        """The API key, in either vendor's header."""
        return self.headers.get("x-api-key") or self.headers.get("authorization", "").removeprefix("Bearer ") or None


class Watcher:
    """Use as ``async with Watcher(port) as watcher``; clients get `watcher.url`. Understands HTTP/1.1 requests with a
    content-length, which is how all of the clients ask."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.url = ""
        self.asked: list[Asked] = []
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    def by(self, key: str) -> list[Asked]:
        """What was asked with this key, in order."""
        return [asked for asked in self.asked if asked.key == key]

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, where: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _accept(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        with suppress(ConnectionError, asyncio.CancelledError):
            server, to_server = await asyncio.open_connection("127.0.0.1", self._port)
            ways = [asyncio.create_task(self._forth(client, to_server)), asyncio.create_task(_back(server, to_client))]
            try:
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for way in ways:
                    way.cancel()
                await asyncio.gather(*ways, return_exceptions=True)
                to_server.close()
        to_client.close()
        self._connections.discard(task)

    async def _forth(self, client: asyncio.StreamReader, to_server: asyncio.StreamWriter) -> None:
        """Until the client closes."""
        with suppress(asyncio.IncompleteReadError):
            while True:
                head = await client.readuntil(b"\r\n\r\n")
                asked = _read(head)
                self.asked.append(asked)
                assert "transfer-encoding" not in asked.headers, "only bodies of a told length are understood"
                to_server.write(head + await client.readexactly(int(asked.headers.get("content-length", "0"))))
                await to_server.drain()


async def _back(server: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
    while data := await server.read(64 * 1024):
        to_client.write(data)
        await to_client.drain()


def _read(head: bytes) -> Asked:
    first, *lines = head.decode("latin-1").strip().split("\r\n")
    method, path, _ = first.split(" ")
    named = (line.partition(":") for line in lines)
    return Asked(method, path, {name.lower(): value.strip() for name, _, value in named})
