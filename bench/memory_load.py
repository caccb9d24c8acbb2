"""The load client of `bench.memory`, a process of its own: it loads one server and reads what that holds in memory.

``--calls 100000`` sends so many plain calls, 64 at once, and reads the server's resident memory after each tenth.
``--streams 2000`` reads it, opens so many streams, and reads it again until the first of them ends. Prints one line of
JSON, in bytes. The first answer that is not as it should be ends it with status 1 and the reason.
"""

import argparse
import asyncio
import json
import sys
import time
from functools import partial

import uvloop

from bench import cost
from bench.call import KINDS, Connection

AT_ONCE = 64
WARM_UP_CALLS = 500
SETTLED_S = 1.0  # until a server has forgotten connections that were closed
LOOK_S = 0.25
GIVE_UP_S = 900.0


class Spoilt(Exception):
    """What was measured is not what should be. The message says what came instead."""


class Calls:
    """Plain calls, so many at once, until so many are answered; `resident` holds what was read after each tenth."""

    def __init__(self, options: argparse.Namespace, count: int) -> None:
        self._options = options
        self._count = count
        self._request = KINDS["plain"].request(options.key, options.model)
        self._to_start = count
        self._answered = 0
        self._over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.resident: list[int] = []

    async def run(self) -> None:
        connections: list[Connection] = []
        while len(connections) < AT_ONCE and self._to_start and not self._over.done():
            connection = await _connect(self._options.port, partial(Connection, self._done))
            connections.append(connection)
            if self._to_start:  # the others go on while this one connects
                self._start(connection)
        await self._over
        for connection in connections:
            connection.transport.close()

    def _start(self, connection: Connection) -> None:
        self._to_start -= 1
        connection.send(self._request, time.perf_counter())

    def _done(self, connection: Connection, status: int, body: bytes) -> None:
        if self._over.done():
            return
        problem = KINDS["plain"].problem_of(status, body)
        if problem is None and connection.transport.is_closing():
            problem = "the server closed a connection"
        if problem is not None:
            self._over.set_exception(Spoilt(problem))
            return
        self._answered += 1
        if self._answered * 10 // self._count > len(self.resident):
            self.resident.append(cost.resident_bytes(self._options.pid))
        if self._answered == self._count:
            self._over.set_result(None)
        elif self._to_start:
            self._start(connection)


class Streams:
    """Streams that are all open at the same time, started so many at once."""

    def __init__(self, options: argparse.Namespace) -> None:
        loop = asyncio.get_running_loop()
        self._options = options
        self._request = KINDS["stream"].request(options.key, options.model)
        self._starting = asyncio.Semaphore(AT_ONCE)
        self._open = 0
        self._ended = 0
        self._all_open: asyncio.Future[None] = loop.create_future()
        self._all_ended: asyncio.Future[None] = loop.create_future()

    async def run(self) -> int:
        """The most that the server held while all were open, in bytes."""
        for _ in range(self._options.streams):
            await self._starting.acquire()
            if self._all_ended.done():
                break
            connection = await _connect(self._options.port, partial(Connection, self._done, self._began))
            connection.send(self._request, time.perf_counter())
        await asyncio.wait([self._all_open, self._all_ended], return_when=asyncio.FIRST_COMPLETED)
        most = 0
        while not self._ended and not self._all_ended.done():
            most = max(most, cost.resident_bytes(self._options.pid))
            await asyncio.sleep(LOOK_S)
        await self._all_ended
        return most

    def _began(self) -> None:
        self._starting.release()
        self._open += 1
        if self._open == self._options.streams and not self._all_open.done():
            self._all_open.set_result(None)

    def _done(self, connection: Connection, status: int, body: bytes) -> None:
        self._ended += 1
        problem = KINDS["stream"].problem_of(status, body)
        if problem is None and not self._all_open.done():
            problem = "a stream ended before all were open: give a greater --gap-ms"
        connection.transport.close()
        if self._all_ended.done():
            return
        if problem is not None:
            self._all_ended.set_exception(Spoilt(problem))
            self._starting.release()  # of a stream that never began
        elif self._ended == self._options.streams:
            self._all_ended.set_result(None)


async def _connect(port: int, protocol: "partial[Connection]") -> Connection:
    _, connection = await asyncio.get_running_loop().create_connection(protocol, "127.0.0.1", port)
    return connection


async def _measure(options: argparse.Namespace) -> dict[str, object]:
    async with asyncio.timeout(GIVE_UP_S):
        if options.calls:
            calls = Calls(options, options.calls)
            await calls.run()
            return {"resident": calls.resident}
        await Calls(options, WARM_UP_CALLS).run()
        await asyncio.sleep(SETTLED_S)
        before = cost.resident_bytes(options.pid)
        return {"before": before, "open": await Streams(options).run()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--key", default="none")
    parser.add_argument("--model", required=True)
    parser.add_argument("--pid", type=int, required=True, help="the process tree whose memory is read")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--calls", type=int)
    what.add_argument("--streams", type=int)
    try:
        found = uvloop.run(_measure(parser.parse_args()))
    except Spoilt as problem:
        print(problem, file=sys.stderr)
        return 1
    except TimeoutError:
        print(f"not done after {GIVE_UP_S:.0f} s", file=sys.stderr)
        return 1
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
