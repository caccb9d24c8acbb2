"""Cancelled tasks, loops that end, and Ctrl-C: the charge arrives."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

import tollhouse
from tests.client.conftest import KEY
from tests.client.counter import FULL, Counter, Fault
from tollhouse.client import AsyncClient, Unsettled

SOURCE = Path(tollhouse.__file__).parents[1]


@pytest.fixture
async def client(counter: Counter) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(KEY, counter.url) as made:
        yield made


async def test_a_task_cancelled_in_its_block_is_charged_and_then_cancelled(
    client: AsyncClient, counter: Counter
) -> None:
    sent = asyncio.Event()

    async def work() -> None:
        async with client.operation("polish") as op:
            op.sent()
            sent.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await sent.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert counter.only.charged == {"credits": "4"}


@pytest.mark.parametrize("times", [1, 3])
async def test_a_cancellation_during_the_settlement_waits_until_it_is_delivered(
    client: AsyncClient, counter: Counter, times: int
) -> None:
    gate = asyncio.Event()
    counter.fail("settle", Fault(raw=FULL.raw, gate=gate))

    async def work() -> None:
        async with client.operation("polish") as op:
            op.used(credits="0.5")

    task = asyncio.create_task(work())
    await counter.received("settle")
    for _ in range(times):
        task.cancel()
        await asyncio.sleep(0)
    assert not task.done()
    gate.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert counter.only.charged == {"credits": "0.5"}


async def test_a_timeout_around_the_block_stays_a_timeout(client: AsyncClient, counter: Counter) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(None) as limit, client.operation("polish") as op:
            op.sent()
            limit.reschedule(asyncio.get_running_loop().time())
            await asyncio.Event().wait()
    assert counter.only.charged == {"credits": "4"}


async def test_a_cancelled_task_with_an_open_charge_ends_with_the_charge(counter: Counter) -> None:
    counter.always["settle"] = FULL
    sent = asyncio.Event()

    async def work() -> None:
        async with AsyncClient(KEY, counter.url, settle_for=0.2) as client, client.operation("polish") as op:
            op.sent()
            sent.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await sent.wait()
    task.cancel()
    with pytest.raises(Unsettled) as raised:
        await task
    assert isinstance(raised.value.during, asyncio.CancelledError)


async def test_a_cancellation_during_a_settlement_that_fails_ends_with_the_charge(counter: Counter) -> None:
    gate = asyncio.Event()
    counter.always["settle"] = Fault(raw=FULL.raw, gate=gate)

    async def work() -> None:
        async with AsyncClient(KEY, counter.url, settle_for=0.2) as client, client.operation("polish") as op:
            op.used(credits="0.5")

    task = asyncio.create_task(work())
    await counter.received("settle")
    task.cancel()
    gate.set()
    with pytest.raises(Unsettled) as raised:
        await task
    assert isinstance(raised.value.during, asyncio.CancelledError)
    assert raised.value.__context__ is raised.value.during


async def test_a_task_cancelled_before_anything_was_sent_gives_everything_back(
    client: AsyncClient, counter: Counter
) -> None:
    entered = asyncio.Event()

    async def work() -> None:
        async with client.operation("polish"):
            entered.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (counter.only.status, counter.only.reason) == ("released", "CancelledError")


@asynccontextmanager
async def script(text: str, url: str) -> AsyncIterator[asyncio.subprocess.Process]:
    environment = os.environ | {"PYTHONPATH": str(SOURCE), "TOLLHOUSE_URL": url, "TOLLHOUSE_API_KEY": KEY}
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", text, env=environment, stdin=pipe, stdout=pipe, stderr=pipe
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


THREADS = """
import time
from tollhouse.client import Client
with Client() as client, client.operation("polish") as op:
    op.sent()
    print("sent", flush=True)
    time.sleep(60)
"""

TASKS = """
import asyncio
from tollhouse.client import AsyncClient
async def work(client):
    async with client.operation("polish") as op:
        op.sent()
        print("sent", flush=True)
        await asyncio.sleep(60)
async def main():
    client = AsyncClient()
    others = [asyncio.create_task(work(client)) for _ in range(2)]
    await work(client)
asyncio.run(main())
"""


@pytest.mark.parametrize(("text", "operations"), [(THREADS, 1), (TASKS, 3)], ids=["threads", "asyncio"])
async def test_ctrl_c_ends_the_program_after_every_charge_has_arrived(
    counter: Counter, text: str, operations: int
) -> None:
    counter.fail("settle", *[Fault(raw=FULL.raw)] * operations)
    async with script(text, counter.url) as process, asyncio.timeout(20):
        assert process.stdout is not None and process.stderr is not None
        for _ in range(operations):
            assert await process.stdout.readline() == b"sent\n"
        process.send_signal(signal.SIGINT)
        assert b"KeyboardInterrupt" in await process.stderr.read()
        assert await process.wait() != 0
    assert [held.charged for held in counter.held.values()] == [{"credits": "4"}] * operations


LEAVING = """
import asyncio, sys
from tollhouse.client import AsyncClient
async def work(client):
    async with client.operation("polish") as op:
        op.used(credits="0.5")
async def main():
    client = AsyncClient()
    task = asyncio.create_task(work(client))
    await asyncio.to_thread(sys.stdin.readline)
asyncio.run(main())
"""


async def test_a_loop_that_ends_in_the_middle_of_a_settlement_ends_after_it(counter: Counter) -> None:
    """Its end cancels the delivery itself, which then is made once more."""
    counter.fail("settle", Fault(gate=asyncio.Event()))
    async with script(LEAVING, counter.url) as process, asyncio.timeout(20):
        await counter.received("settle")
        assert process.stdin is not None
        process.stdin.write(b"\n")
        assert await process.wait() == 0
    assert counter.only.charged == {"credits": "0.5"}
    assert len(counter.sent("settle")) == 2


STUCK = """
from tollhouse.client import Client, Unsettled
try:
    with Client() as client, client.operation("polish") as op:
        op.used(credits="0.5")
except Unsettled as unsettled:
    print(unsettled.reservation_id, unsettled.credits, type(unsettled.failure).__name__)
"""


async def test_ctrl_c_while_a_settlement_is_stuck_ends_the_tries_and_tells_the_charge(counter: Counter) -> None:
    counter.always["settle"] = Fault(gate=asyncio.Event())
    async with script(STUCK, counter.url) as process, asyncio.timeout(20):
        await counter.received("settle")
        process.send_signal(signal.SIGINT)
        assert process.stdout is not None
        assert await process.stdout.readline() == b"r0 0.5 KeyboardInterrupt\n"


async def test_the_client_imports_nothing_of_the_server() -> None:
    text = """
import sys
import tollhouse.client
ours = {name for name in sys.modules if name.startswith("tollhouse.") and not name.startswith("tollhouse.client")}
servers = {"fastapi", "pydantic", "psycopg", "aiohttp", "uvicorn", "starlette", "sqlalchemy"} & set(sys.modules)
print(sorted(ours | servers))
"""
    async with script(text, "http://unused") as process:
        output, _ = await process.communicate()
    assert output == b"[]\n"
