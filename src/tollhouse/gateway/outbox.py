"""What waits for a client to read it: bounded in bytes, so that a slow reader slows down its provider."""

import asyncio
from collections.abc import AsyncIterator


class Outbox:
    """One writer and one reader. It is full from `most` bytes on, so it holds that much and one chunk more."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._bytes = 0
        self._chunks: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._room = asyncio.Event()

    @property
    def full(self) -> bool:
        return self._bytes >= self._most

    async def room(self) -> None:
        """Waits until it is not full."""
        while self.full:
            self._room.clear()
            await self._room.wait()

    def add(self, chunk: bytes) -> None:
        self._bytes += len(chunk)
        self._chunks.put_nowait(chunk)

    def end(self) -> None:
        """Nothing follows what was added so far."""
        self._chunks.put_nowait(None)

    def drop(self) -> None:
        """Nobody will read what waits: neither the writer nor the reader waits for the other any more."""
        while not self._chunks.empty():
            self._chunks.get_nowait()
        self._bytes = 0
        self._room.set()
        self.end()

    async def read(self) -> AsyncIterator[bytes]:
        """The chunks as they come, until the end."""
        while (chunk := await self._chunks.get()) is not None:
            self._bytes -= len(chunk)
            self._room.set()
            yield chunk
