"""`tollhouse serve` and `tollhouse worker` as processes of their own, on a database of the test's."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import tollhouse
from tests.conftest import TEST_SECRET
from tollhouse.listener import listen

SOURCE = Path(tollhouse.__file__).parents[1]
START_S = 30.0
STOP_S = 40.0  # longer than the grace period of calls under way


def environment(database_url: str, data_dir: Path, settings: dict[str, str]) -> dict[str, str]:
    """Nothing of the machine's own settings reaches the process; `settings` are whole names."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("TOLLHOUSE_") and not name.endswith(("_API_KEY", "_BASE_URL"))
    }
    return {
        **kept,
        "PYTHONPATH": str(SOURCE),
        "TOLLHOUSE_DATABASE_URL": database_url,
        "TOLLHOUSE_SECRET_KEY": TEST_SECRET.decode(),
        "TOLLHOUSE_DATA_DIR": str(data_dir),
        **settings,
    }


class Program:
    """One `python -m tollhouse ...`; leaving the context ends it with SIGKILL if it still runs."""

    def __init__(self, database_url: str, *words: str, **settings: str) -> None:
        self.words = words
        self._database_url = database_url
        self._settings = settings
        self._folder = tempfile.TemporaryDirectory(prefix="tollhouse-test-")
        self._output = Path(self._folder.name) / "output"
        self._process: asyncio.subprocess.Process | None = None

    @property
    def process(self) -> asyncio.subprocess.Process:
        assert self._process is not None, "the program was not started"
        return self._process

    def said(self) -> str:
        """Everything it has written to its standard output and its standard error so far."""
        return self._output.read_text(errors="replace")

    async def run(self, *pass_fds: int) -> None:
        folder = Path(self._folder.name)
        with self._output.open("ab") as output:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-m", "tollhouse", *self.words),
                env=environment(self._database_url, folder / "data", self._settings),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=asyncio.subprocess.STDOUT,
                pass_fds=pass_fds,
            )

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    async def wait(self, seconds: float = STOP_S) -> int:
        """Its exit status."""
        async with asyncio.timeout(seconds):
            return await self.process.wait()

    async def stop(self) -> int:
        """SIGTERM, and the exit status."""
        self.signal(signal.SIGTERM)
        return await self.wait()

    async def kill(self) -> None:
        """kill -9: it has no time for anything."""
        self.signal(signal.SIGKILL)
        await self.wait()

    async def __aenter__(self) -> Self:
        await self.run()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, where: TracebackType | None
    ) -> None:
        if self._process is not None and self._process.returncode is None:
            await self.kill()
        if kind is not None:
            print(self.said())
        self._folder.cleanup()


class Server(Program):
    """A web process. `url` is its address; within the context it has answered /readyz with 200."""

    def __init__(self, database_url: str, **settings: str) -> None:
        listener = listen("127.0.0.1", 0)
        super().__init__(database_url, "serve", "--fd", str(listener.fileno()), **settings)
        self._listener: socket.socket | None = listener
        self.host, self.port = listener.getsockname()[:2]
        self.url = f"http://{self.host}:{self.port}"

    async def run(self, *pass_fds: int) -> None:
        assert self._listener is not None, "a server is started once"
        with self._listener as listener:  # held open no longer than needed: the port ends with the process
            await super().run(*pass_fds, listener.fileno())
            self._listener = None
        ended = asyncio.create_task(self.process.wait())
        ready = asyncio.create_task(self._answers_ready())
        try:
            await asyncio.wait({ended, ready}, timeout=START_S, return_when=asyncio.FIRST_COMPLETED)
            assert ready.done() and ready.result(), self.said()
        finally:
            for task in (ended, ready):
                task.cancel()
            await asyncio.gather(ended, ready, return_exceptions=True)

    async def _answers_ready(self) -> bool:
        """The request waits in the listener's queue until the process takes it: nothing to repeat."""
        reader, writer = await asyncio.open_connection(self.host, self.port)
        try:
            writer.write(b"GET /readyz HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n")
            return (await reader.readline()).split()[1:2] == [b"200"]
        finally:
            writer.close()
            await writer.wait_closed()


@asynccontextmanager
async def servers(database_url: str, count: int, **settings: str) -> AsyncIterator[list[Server]]:
    """So many web processes on one database, started side by side."""
    async with AsyncExitStack() as stack:
        started = [Server(database_url, **settings) for _ in range(count)]
        await asyncio.gather(*(stack.enter_async_context(server) for server in started))
        yield started
