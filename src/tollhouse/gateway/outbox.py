"""What waits for a client to read it: bounded in bytes, so that a slow reader slows down its provider."""

import asyncio
from collections.abc import AsyncIterator


class Outbox:
    """One writer and one reader. It is full from `most` bytes on, so it holds that much and one chunk more."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._bytes = 0
        self._chunks: list[bytes] = []
        self._ended = False
        self._reader: asyncio.Future[None] | None = None
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
        self._chunks.append(chunk)
        self._wake()

    def end(self) -> None:
        """Nothing follows what was added so far."""
        self._ended = True
        self._wake()

    def drop(self) -> None:
        """Nobody will read what waits: neither the writer nor the reader waits for the other any more."""
        self._chunks.clear()
        self._bytes = 0
        self._room.set()
        self.end()

    async def read(self) -> AsyncIterator[bytes]:
        """All that waits at a time, in one piece, until the end."""
        while True:
            if self._chunks:
                chunk = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
                self._chunks.clear()
                self._bytes = 0
                self._room.set()
                yield chunk
            elif self._ended:
                return
            else:
                self._reader = asyncio.get_running_loop().create_future()
                await self._reader

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)
