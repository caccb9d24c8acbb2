"""``python -m bench.reservations``: reserve-and-settle pairs over HTTP, on one worker with its PostgreSQL.

64 connections, each reserving for a model call under an idempotency key of its own and settling it by usage. The load
client is a process of its own; what counts is the CPU of the worker and of PostgreSQL per pair.
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import cast

import httptools
import uvloop

from bench import cost
from bench.server import NotReady, Servers

MODEL = "gpt-4o-mini"
RESERVE = json.dumps({"model": MODEL, "input_tokens": 1_200, "max_output_tokens": 100}).encode()
SETTLE = json.dumps({"usage": {"input_tokens": 800, "output_tokens": 60}}).encode()


class Connection(asyncio.Protocol):
    """One request at a time; the answer is awaited."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are no subclass of it
        self._parser = httptools.HttpResponseParser(self)

    async def ask(self, head: bytes, path: bytes, body: bytes) -> bytes:
        """The body of the answer; NotReady when its status is not 200 or 201."""
        self._body: list[bytes] = []
        self._answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        length = str(len(body)).encode()
        self._transport.write(b"POST " + path + b" HTTP/1.1\r\ncontent-length: " + length + head + body)
        await self._answer
        answer = b"".join(self._body)
        if self._parser.get_status_code() not in (200, 201):
            raise NotReady(f"{path.decode()}: {self._parser.get_status_code()} {answer[:300].decode()}")
        return answer

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_body(self, part: bytes) -> None:
        self._body.append(part)

    def on_message_complete(self) -> None:
        self._answer.set_result(None)


async def _load(options: argparse.Namespace) -> dict[str, float]:
    loop = asyncio.get_running_loop()
    lines = f"\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\nauthorization: Bearer {options.key}\r\n"
    head, path = lines.encode(), b"/api/credits/reservations"
    waits: list[float] = []
    pairs = 0
    counting_from, until = time.perf_counter() + 1, time.perf_counter() + 1 + options.seconds

    async def caller(number: int) -> None:
        nonlocal pairs
        _, connection = await loop.create_connection(Connection, "127.0.0.1", options.port)
        turn = 0
        while (begin := time.perf_counter()) < until:
            turn += 1
            once = f"idempotency-key: {os.getpid()}-{number}-{turn}\r\n\r\n".encode()
            answer = await connection.ask(head + once, path, RESERVE)
            took = time.perf_counter() - begin
            id_ = json.loads(answer)["id"].encode()
            await connection.ask(head + b"\r\n", path + b"/" + id_ + b"/settle", SETTLE)
            if begin >= counting_from:
                pairs += 1
                waits.append(took)

    async def watch() -> list[float]:
        await asyncio.sleep(max(0.0, counting_from - time.perf_counter()))
        before = [cost.cpu_seconds(pid) for pid in options.watch]
        await asyncio.sleep(until - time.perf_counter())
        return [cost.cpu_seconds(pid) - used for pid, used in zip(options.watch, before, strict=True)]

    watching = asyncio.create_task(watch())
    await asyncio.gather(*map(caller, range(options.concurrency)))
    used = await watching
    waits.sort()
    return {
        "pairs_per_second": pairs / options.seconds,
        "server_cpu_us": used[0] / pairs * 1e6,
        "database_cpu_us": used[1] / pairs * 1e6,
        "reserve_p50_ms": waits[len(waits) // 2] * 1e3,
        "reserve_p99_ms": waits[len(waits) * 99 // 100] * 1e3,
    }


def _serve_and_load(options: argparse.Namespace) -> int:
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        os.chmod(name, 0o755)  # noqa: S103 - the embedded PostgreSQL of root runs as another user
        servers = Servers(Path(name))
        try:
            target = servers.tollhouse(servers.provider(), MODEL)
            command = [sys.executable, "-m", "bench.reservations", "--port", str(target.port), "--key", target.key]
            command += ["--watch", str(target.server_pid), "--watch", str(target.database_pid)]
            command += ["--seconds", str(options.seconds), "--concurrency", str(options.concurrency)]
            done = subprocess.run(command, check=False)
            if not done.returncode:
                print(servers.command("prove-ledger"), file=sys.stderr)
            return done.returncode
        except NotReady as problem:
            print(f"The benchmark could not run: {problem}", file=sys.stderr)
            return 1
        finally:
            servers.stop()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.reservations", description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0, help="of measurement, after one of warming up")
    parser.add_argument("--concurrency", type=int, default=64, help="connections, each with a pair at a time")
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)  # the load client's own
    parser.add_argument("--key", help=argparse.SUPPRESS)
    parser.add_argument("--watch", type=int, action="append", default=[], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.port is None:
        return _serve_and_load(options)
    print(json.dumps({name: round(value, 2) for name, value in uvloop.run(_load(options)).items()}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
