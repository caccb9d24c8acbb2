"""Web processes that start in a few hundredths of a second: forked from one that has imported everything before.

For tests that kill a hundred of them. What is forked goes through `tollhouse serve` from its command line on.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.server import SOURCE, environment
from tollhouse.listener import listen

ROOT = Path(__file__).parents[1]
START_S = 10.0


class Nursery:
    """Use as ``async with Nursery() as nursery``; leaving kills what was forked and still runs."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="tollhouse-test-")
        self._channel, self._far_end = socket.socketpair()
        self._process: subprocess.Popen[bytes] | None = None
        self._forked: list[Forked] = []

    async def serve(self, database_url: str) -> Forked:
        """A web process that has answered /readyz with 200."""
        output = Path(self._folder.name) / f"output-{len(self._forked)}"
        with listen("127.0.0.1", 0) as listener, output.open("ab") as written:
            alive, held = os.pipe()
            order = {"environment": environment(database_url, Path(self._folder.name) / "data", {})}
            socket.send_fds(self._channel, [json.dumps(order).encode()], [listener.fileno(), written.fileno(), held])
            os.close(held)
            host, port = listener.getsockname()[:2]
        pid = int(await asyncio.get_running_loop().run_in_executor(None, self._channel.recv, 32))
        forked = Forked(pid, f"http://{host}:{port}", alive, output)
        self._forked.append(forked)
        await forked.ready(host, port)
        return forked

    async def __aenter__(self) -> Self:
        with self._far_end:
            self._process = subprocess.Popen(
                [sys.executable, "-c", "import sys; from tests.nursery import breed; breed(int(sys.argv[1]))",
                 str(self._far_end.fileno())],
                env=os.environ | {"PYTHONPATH": f"{SOURCE}{os.pathsep}{ROOT}"},
                pass_fds=(self._far_end.fileno(),),
            )  # fmt: skip
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, where: TracebackType | None
    ) -> None:
        for forked in self._forked:
            await forked.kill()
        self._channel.close()
        assert self._process is not None
        self._process.wait(START_S)
        self._folder.cleanup()


class Forked:
    """One web process. `url` is its address."""

    def __init__(self, pid: int, url: str, alive: int, output: Path) -> None:
        self.url = url
        self._pid = pid
        self._alive = alive  # a pipe that ends with the process
        self._output = output
        self._over = False

    def said(self) -> str:
        return self._output.read_text(errors="replace")

    def strike(self) -> None:
        """kill -9, without waiting for its end."""
        if not self._over:
            os.kill(self._pid, signal.SIGKILL)

    async def kill(self) -> None:
        """kill -9, and the end of it. Safe to repeat."""
        if self._over:
            return
        self.strike()
        await self.ended()

    async def ended(self) -> None:
        """Waits until the process is gone."""
        loop = asyncio.get_running_loop()
        gone = loop.create_future()
        loop.add_reader(self._alive, gone.set_result, None)
        try:
            async with asyncio.timeout(START_S):
                await gone
        finally:
            loop.remove_reader(self._alive)
        os.close(self._alive)
        self._over = True

    async def ready(self, host: str, port: int) -> None:
        async with asyncio.timeout(START_S):
            reader, writer = await asyncio.open_connection(host, port)
            writer.write(b"GET /readyz HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n")
            answer = await reader.readline()
            writer.close()
        assert answer.split()[1:2] == [b"200"], self.said()


def breed(channel_fd: int) -> None:
    """What the process does that forks, until the test closes the channel. It does not wait for the ends of those it
    forked: so none of their numbers is given to another process while the test may still send it a signal."""
    from tollhouse import app, cli, server  # noqa: F401 - so that what is forked finds them

    gc.collect()
    gc.freeze()
    with socket.socket(fileno=channel_fd) as channel:
        while True:
            message, fds, _, _ = socket.recv_fds(channel, 64 * 1024, 3)
            if not message:
                return
            pid = os.fork()
            if pid == 0:
                channel.close()
                _grow(json.loads(message), *fds)
            for fd in fds:
                os.close(fd)
            channel.send(b"%d" % pid)


def _grow(order: dict[str, dict[str, str]], listener: int, output: int, held: int) -> None:
    """What a forked process does: it becomes `tollhouse serve`."""
    from tollhouse import cli

    os.dup2(output, 1)
    os.dup2(output, 2)
    os.environ.clear()
    os.environ.update(order["environment"])
    sys.argv = ["tollhouse", "serve", "--fd", str(listener)]
    try:
        cli.main()
    finally:
        os._exit(1)
