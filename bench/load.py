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

import uvloop

from bench import cost
from bench.call import KINDS, Connection

MAX_CONNECTIONS = 2048
GIVE_UP_S = 30.0


class Load:
    """One run of one kind of call against one port."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.kind = KINDS[options.kind]
        self.request = self.kind.request(options.key, options.model)
        self.latencies: list[float] = []
        self.first_tokens: list[float] = []
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
        problem = self.kind.problem_of(status, body)
        if problem is not None:
            self.problems[problem] += 1
        elif self._counts(connection.due, now):
            self.latencies.append(now - connection.due)
            self.first_tokens.append(connection.first_token - connection.due)
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
            "first_token_ms": _percentiles_ms(self.first_tokens),
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
    parser.add_argument("--kind", choices=list(KINDS), default="plain")
    loop_kind = parser.add_mutually_exclusive_group(required=True)
    loop_kind.add_argument("--concurrency", type=int)
    loop_kind.add_argument("--rate", type=float)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--warmup", type=float, default=0.5)
    parser.add_argument("--watch", type=int, action="append", default=[])
    uvloop.run(_main(parser.parse_args()))
