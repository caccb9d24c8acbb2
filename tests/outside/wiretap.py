"""A server that writes down what it receives, byte for byte, and gives one answer to everything."""

import asyncio
import ssl
from contextlib import suppress
from types import TracebackType
from typing import Self

EMPTY_LIST = b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 11\r\n\r\n{"data":[]}'


class Wiretap:
    """Use as ``async with Wiretap() as tap``. `received` holds each request, head and body; `names` what TLS asked for.

    `host` is an address of this machine, `port` any free one when 0.
    """

    def __init__(
        self, answer: bytes = EMPTY_LIST, *, host: str = "127.0.0.1", port: int = 0, tls: ssl.SSLContext | None = None
    ) -> None:
        self.answer = answer
        self.host = host
        self.port = port
        self.connections = 0
        self.received: list[bytes] = []
        self.names: list[str | None] = []
        self._tls = tls
        self._tasks: set[asyncio.Task[None]] = set()
        if tls is not None:
            tls.sni_callback = lambda _socket, name, _context: self.names.append(name)

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, self.host, self.port, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]
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
        self.connections += 1
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                while True:
                    await self._exchange(reader, writer)
        finally:
            writer.transport.abort()
            self._tasks.discard(task)

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        lengths = [
            line.partition(b":")[2] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")
        ]
        body = await reader.readexactly(int(lengths[0])) if lengths else b""
        self.received.append(head + body)
        writer.write(self.answer)
        await writer.drain()
