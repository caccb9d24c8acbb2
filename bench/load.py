"""The load client, a process of its own: raw protocol, keep-alive, every answer checked.

``python -m bench.load --port N --kind plain --concurrency 16 --seconds 3`` keeps that many calls running (closed loop);
``--rate 50`` instead starts a call every 20 ms whatever happens, and counts latency from the moment a call was due
(open loop). ``--watch PID`` (repeatable) adds what that process tree used in the measured window. Prints one line of
JSON.
"""

import argparse
import asyncio
import json
import time
from collections import Counter, deque
from collections.abc import Callable
from typing import cast

import httptools
import uvloop

from bench import cost

QUESTION = "How do I plan a week of meals for a family of four?"
MAX_TOKENS = 100
MAX_CONNECTIONS = 2048
GIVE_UP_S = 30.0


def request_bytes(kind: str, key: str, model: str) -> bytes:
    """The request that is sent again and again."""
    body = {
        "model": model,
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": QUESTION}],
        "max_tokens": MAX_TOKENS,
    }
    if kind == "stream":
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    wire = json.dumps(body, separators=(",", ":")).encode()
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        f"Authorization: Bearer {key}\r\nContent-Type: application/json\r\nContent-Length: {len(wire)}\r\n\r\n"
    )
    return head.encode() + wire


def problem_of(kind: str, status: int, body: bytes) -> str | None:
    """Why an answer does not count, or None."""
    if status != 200:
        return f"status {status}: {body[:200].decode(errors='replace')}"
    if b'"prompt_tokens"' not in body:
        return "no usage"
    if kind == "stream":
        if not body.endswith(b"data: [DONE]\n\n"):
            return "no [DONE]"
        if body.count(b"data: ") < 52:
            return f"{body.count(b'data: ')} events instead of 52"
    return None


class Connection(asyncio.Protocol):
    """Sends the request when told to, and reports the answer or the end of the connection."""

    def __init__(self, done: Callable[["Connection", int, bytes], None]) -> None:
        self._done = done
        self._body: list[bytes] = []
        self.due = 0.0
        self.first_byte = 0.0
        self.busy = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's are no subclass of it
        self._parser = httptools.HttpResponseParser(self)

    def send(self, request: bytes, due: float) -> None:
        self.due = due
        self.busy = True
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_body(self, part: bytes) -> None:
        if not self._body:
            self.first_byte = time.perf_counter()
        self._body.append(part)

    def on_message_complete(self) -> None:
        body = b"".join(self._body)
        self._body.clear()
        status = self._parser.get_status_code()
        if not self._parser.should_keep_alive():
            self.transport.close()
        self._parser = httptools.HttpResponseParser(self)
        self.busy = False
        self._done(self, status, body)

    def connection_lost(self, exc: Exception | None) -> None:
        if self.busy:
            self.busy = False
            self._done(self, 0, b"connection lost")


class Load:
    """One run of one kind of call against one port."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.request = request_bytes(options.kind, options.key, options.model)
        self.latencies: list[float] = []
        self.first_bytes: list[float] = []
        self.problems: Counter[str] = Counter()
        self.free: deque[Connection] = deque()
        self.running = 0
        self.connections = 0
        self.stopping = False
        self.measuring_from = float("inf")
        self.measuring_until = float("inf")
        self.idle = asyncio.Event()
        self.tasks: set[asyncio.Task[None]] = set()
        self.loop = asyncio.get_running_loop()

    async def run(self) -> dict[str, object]:
        await self._connect(self.options.concurrency or 16)
        start = time.perf_counter()
        self.measuring_from = start + self.options.warmup
        self.measuring_until = self.measuring_from + self.options.seconds
        self.loop.call_later(self.options.warmup, self._begin)
        self.loop.call_later(self.options.warmup + self.options.seconds, self._end)
        if self.options.concurrency:
            while self.free:
                self._start(time.perf_counter())
        else:
            self._tick(start, 0)
        await asyncio.sleep(self.options.warmup + self.options.seconds)
        self.stopping = True
        if self.running:
            try:
                await asyncio.wait_for(self.idle.wait(), GIVE_UP_S)
            except TimeoutError:
                self.problems[f"no answer within {GIVE_UP_S:.0f} s after the end"] += self.running
        return self._report()

    def _begin(self) -> None:
        self.cpu_before = [cost.cpu_seconds(pid) for pid in self.options.watch]
        self.calibration_ms = _calibration_ms()

    def _end(self) -> None:
        self.cpu_after = [cost.cpu_seconds(pid) for pid in self.options.watch]

    async def _connect(self, count: int) -> None:
        for _ in range(count):
            self.connections += 1
            _, connection = await self.loop.create_connection(
                lambda: Connection(self._done), "127.0.0.1", self.options.port
            )
            self.free.append(connection)

    def _tick(self, start: float, number: int) -> None:
        """Starts call `number` of the open loop and sets the clock for the next one."""
        due = start + number / self.options.rate
        if due >= self.measuring_until:
            return
        if self.free:
            self._start(due)
        elif self.connections < MAX_CONNECTIONS:
            task = self.loop.create_task(self._start_on_new_connection(due))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)
        else:
            self.problems["more calls running than connections allowed"] += 1
        following = start + (number + 1) / self.options.rate
        self.loop.call_later(max(0.0, following - time.perf_counter()), self._tick, start, number + 1)

    async def _start_on_new_connection(self, due: float) -> None:
        await self._connect(1)
        self._start(due)

    def _start(self, due: float) -> None:
        self.running += 1
        self.free.popleft().send(self.request, due)

    def _done(self, connection: Connection, status: int, body: bytes) -> None:
        now = time.perf_counter()
        self.running -= 1
        problem = problem_of(self.options.kind, status, body)
        if problem is not None:
            self.problems[problem] += 1
        elif self._counts(connection.due, now):
            self.latencies.append(now - connection.due)
            self.first_bytes.append(connection.first_byte - connection.due)
        if self.stopping:
            if not self.running:
                self.idle.set()
            return
        if connection.transport.is_closing():
            self.connections -= 1
            if self.options.concurrency:
                self.problems["the server closed a connection"] += 1
            return
        self.free.append(connection)
        if self.options.concurrency:
            self._start(now)

    def _counts(self, due: float, now: float) -> bool:
        """A closed loop counts what ended in the window, as its CPU was used there; an open loop what was due in it."""
        moment = now if self.options.concurrency else due
        return self.measuring_from <= moment < self.measuring_until

    def _report(self) -> dict[str, object]:
        used = [after - before for before, after in zip(self.cpu_before, self.cpu_after, strict=True)]
        return {
            "calls": len(self.latencies),
            "per_second": len(self.latencies) / self.options.seconds,
            "latency_ms": _percentiles_ms(self.latencies),
            "first_byte_ms": _percentiles_ms(self.first_bytes),
            "cpu_us": [1e6 * seconds / max(1, len(self.latencies)) for seconds in used],
            "calibration_ms": self.calibration_ms,
            "problems": dict(self.problems.most_common(5)),
        }


def _percentiles_ms(seconds: list[float]) -> dict[str, float]:
    ordered = sorted(seconds) or [0.0]
    return {
        name: 1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))]
        for name, share in (("p50", 0.50), ("p95", 0.95), ("p99", 0.99))
    }


def _calibration_ms() -> float:
    """How long a fixed piece of work takes now: shows a machine that is slower than it was a minute ago."""
    start = time.perf_counter()
    sum(number * number for number in range(40_000))
    return 1000 * (time.perf_counter() - start)


async def _main(options: argparse.Namespace) -> None:
    print(json.dumps(await Load(options).run()))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--key", default="none")
    parser.add_argument("--model", default="gpt-4o-mini")
    parser.add_argument("--kind", choices=["plain", "stream"], default="plain")
    loop_kind = parser.add_mutually_exclusive_group(required=True)
    loop_kind.add_argument("--concurrency", type=int)
    loop_kind.add_argument("--rate", type=float)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--warmup", type=float, default=0.5)
    parser.add_argument("--watch", type=int, action="append", default=[])
    uvloop.run(_main(parser.parse_args()))
