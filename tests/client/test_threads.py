"""One client, many threads or tasks."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

from tests.client.conftest import KEY
from tests.client.counter import FULL, LOST, Counter
from tollhouse.client import AsyncClient, Client

WORKERS, EACH = 16, 10


async def test_threads_that_share_a_client_are_each_charged_their_own(counter: Counter) -> None:
    counter.fail("reservations", *[FULL, LOST] * 10)
    counter.fail("settle", *[FULL, LOST] * 10)

    def work(worker: int) -> None:
        for number in range(EACH):
            with client.operation(credits=1000, user=f"{worker}-{number}") as op:
                op.used(credits=worker * EACH + number)

    with Client(KEY, counter.url) as client, ThreadPoolExecutor(WORKERS) as pool:
        await asyncio.gather(*[asyncio.get_running_loop().run_in_executor(pool, work, one) for one in range(WORKERS)])
    assert charges(counter) == list(range(WORKERS * EACH))


async def test_tasks_that_share_a_client_are_each_charged_their_own(counter: Counter) -> None:
    counter.fail("reservations", *[FULL, LOST] * 10)
    counter.fail("settle", *[FULL, LOST] * 10)

    async def work(worker: int) -> None:
        for number in range(EACH):
            async with client.operation(credits=1000) as op:
                op.used(credits=worker * EACH + number)

    async with AsyncClient(KEY, counter.url) as client:
        await asyncio.gather(*[work(worker) for worker in range(WORKERS)])
    assert charges(counter) == list(range(WORKERS * EACH))


async def test_reports_of_many_threads_come_to_the_largest(counter: Counter) -> None:
    def work() -> None:
        with Client(KEY, counter.url) as client, client.operation(credits=1000) as op, ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda credits: op.used(credits=credits), range(500)))

    await asyncio.to_thread(work)
    assert charges(counter) == [499]


def charges(counter: Counter) -> list[Decimal]:
    return sorted(Decimal(held.charged["credits"]) for held in counter.held.values() if held.charged)
