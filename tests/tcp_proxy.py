"""A proxy between the gateway and a provider that spoils answers on their way: cut, reset, stalled or slowed down."""

from __future__ import annotations

import asyncio
import socket
import struct
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, Self
from urllib.parse import urlsplit

How = Literal["end", "reset", "stall"]


@dataclass(frozen=True, slots=True)
class Spoil:
    """`after` so many bytes of an answer it ends: properly closed, reset, or silent with the socket open. `segment`:
    the answer comes in pieces of so many bytes, with `pause_s` between them."""

    after: int | None = None
    how: How = "end"
    segment: int | None = None
    pause_s: float = 0.0


class TcpProxy:
    """Use as ``async with TcpProxy(provider.url) as proxy`` and call `proxy.url`. `spoil` holds for every answer that
    begins from then on; `answered` is the length of the last answer as it came from the provider."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None and parts.port is not None
        self._host, self._port, self._path = parts.hostname, parts.port, parts.path
        self.spoil = Spoil()
        self.answered = 0
        self.open_connections = 0
        self.url = ""
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}{self._path}"
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
        self.open_connections += 1
        try:
            to_reader, to_writer = await asyncio.open_connection(self._host, self._port)
            try:
                await self._between(reader, writer, to_reader, to_writer)
            finally:
                to_writer.transport.abort()
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.transport.abort()
            self.open_connections -= 1
            self._tasks.discard(task)

    async def _between(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        to_reader: asyncio.StreamReader,
        to_writer: asyncio.StreamWriter,
    ) -> None:
        asked = asyncio.create_task(self._asked(reader, to_writer))
        answered = asyncio.create_task(self._answers(to_reader, writer))
        try:
            await asyncio.wait({asked, answered}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            asked.cancel()
            answered.cancel()
            await asyncio.gather(asked, answered, return_exceptions=True)

    async def _asked(self, reader: asyncio.StreamReader, to_writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            self.answered = 0
            to_writer.write(data)
            await to_writer.drain()

    async def _answers(self, to_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await to_reader.read(65_536):
            spoil, before = self.spoil, self.answered
            self.answered += len(data)
            if spoil.after is not None and self.answered >= spoil.after:
                await self._pass(writer, data[: max(0, spoil.after - before)], spoil)
                await self._end(writer, spoil.how)
                return
            await self._pass(writer, data, spoil)

    async def _pass(self, writer: asyncio.StreamWriter, data: bytes, spoil: Spoil) -> None:
        size = spoil.segment or len(data) or 1
        for start in range(0, len(data), size):
            writer.write(data[start : start + size])
            await writer.drain()
            if spoil.segment is not None:
                await asyncio.sleep(spoil.pause_s)

    async def _end(self, writer: asyncio.StreamWriter, how: How) -> None:
        if how == "stall":
            await asyncio.Event().wait()
        if how == "reset":
            await asyncio.sleep(0.005)  # a reset overtakes what is still on its way
            found = writer.get_extra_info("socket")
            found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return
        with suppress(OSError):
            writer.write_eof()
        await asyncio.sleep(0.005)
