"""Processes that are killed, and processes that are told to stop, while calls run."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
from datetime import timedelta
from typing import Any

import aiohttp
import pytest

from tests.conftest import Cluster, SeededTemplate
from tests.gateway.calls import desk
from tests.house import House, Tenant, ask, charge, chunks, events, fresh_house, micros
from tests.server import Program, Server
from tollhouse.flows.operation import LEASE
from tollhouse.outside.sandbox import Sandbox

MODEL = "sandbox"


class Listener:
    """A client that reads its stream until the end, or until the server is gone."""

    def __init__(self, house: House, tenant: Tenant, text: str, **fields: Any) -> None:
        self.began = asyncio.Event()
        self.raw = b""
        self.task = asyncio.create_task(self._listen(house, tenant, ask(text, MODEL, **fields)))

    async def _listen(self, house: House, tenant: Tenant, body: dict[str, Any]) -> None:
        with contextlib.suppress(aiohttp.ClientError, ConnectionError):
            async with house.streaming(tenant, body) as response:
                async for part in response.content.iter_any():
                    self.raw += part
                    self.began.set()


async def all_begun(listeners: list[Listener]) -> None:
    async with asyncio.timeout(15):
        await asyncio.gather(*(one.began.wait() for one in listeners))
    refused = [one.raw for one in listeners if not one.raw.startswith(b"data: ")]
    assert refused == []


async def test_kill_9_during_fifty_streams_loses_at_most_what_came_since_the_last_checkpoint(
    cluster: Cluster, seeded_template: SeededTemplate
) -> None:
    """Half of them are older than a checkpoint, the others are not. A worker closes them all when their lease has run
    out; the organisation's clock is put forward to that."""
    async with fresh_house(cluster, seeded_template) as house, Program(house.database_url, "worker") as worker:
        tenant = await house.organization()
        before = await house.balance(tenant)
        endless = "sandbox:tokens=2000 sandbox:delay=20"
        old = [Listener(house, tenant, endless, max_tokens=2000) for _ in range(25)]
        await all_begun(old)
        written = await checkpoints(house, tenant, 25)
        young = [Listener(house, tenant, endless, max_tokens=2000) for _ in range(25)]
        await all_begun(young)
        await house.server.kill()
        await asyncio.gather(*(one.task for one in old + young))
        # a later checkpoint may have come before the kill
        written = {id_: max(count, written.get(id_, 0)) for id_, count in (await open_attempts(house, tenant)).items()}
        assert sum(count > 0 for count in written.values()) == 25 and len(written) == 50
        assert await house.requests(tenant) == [("running", False)] * 50
        await house.assert_ledger_holds()

        async with Server(house.database_url) as again:
            reply = await house.chat(tenant, ask("sandbox:tokens=1"), again)
            assert reply.status == 200
            meanwhile = micros(reply.headers["x-credits-used"])
            ahead = (LEASE + timedelta(seconds=1)) // timedelta(microseconds=1)
            await house.change("UPDATE organization SET clock_offset_micros = %s WHERE id = %s", ahead, tenant.id)
            ended = await house.quiet(tenant, 51, seconds=20)
            assert ended.count(("incomplete", False)) == 50
            states = await house.rows(
                "SELECT state, count(*) FROM reservation WHERE organization_id = %s GROUP BY 1 ORDER BY 1", tenant.id
            )
            assert states == [("settled", 51)]
            usage = [row for row in await house.usage(tenant) if row[2]]
            assert sorted(row[1] for row in usage) == sorted(written.values())
            assert all(row[3] == charge(MODEL, row[0], row[1]) for row in usage)
            reply = await house.call("GET", "/api/credits/balance", again, headers=tenant.headers)
            assert micros(reply.body["available"]) == before - meanwhile - sum(row[3] for row in usage)
            assert reply.body["reserved"] == "0"
            assert await worker.stop() == 0, worker.said()
            assert await again.stop() == 0


async def open_attempts(house: House, tenant: Tenant) -> dict[Any, int]:
    """Of each running call, the output tokens that its last checkpoint wrote down."""
    found = await house.rows(
        """SELECT request_id, coalesce(output_tokens, 0) FROM attempt
           WHERE organization_id = %s AND finished_at IS NULL""",
        tenant.id,
    )
    return {row[0]: row[1] for row in found}


async def checkpoints(house: House, tenant: Tenant, count: int) -> dict[Any, int]:
    """The same, as soon as so many calls have one."""
    async with asyncio.timeout(10):
        while True:
            found = await open_attempts(house, tenant)
            if sum(tokens > 0 for tokens in found.values()) >= count:
                return found
            await asyncio.sleep(0.1)


async def test_a_process_that_stands_still_beyond_its_lease_charges_nothing_a_second_time(
    cluster: Cluster, seeded_template: SeededTemplate
) -> None:
    """A worker closes its calls meanwhile; when it goes on, its own settlements find them closed."""
    async with fresh_house(cluster, seeded_template) as house, Program(house.database_url, "worker") as worker:
        tenant = await house.organization()
        before = await house.balance(tenant)
        listeners = [Listener(house, tenant, "sandbox:tokens=40 sandbox:delay=40") for _ in range(5)]
        await all_begun(listeners)
        house.server.signal(signal.SIGSTOP)
        ahead = (LEASE + timedelta(seconds=1)) // timedelta(microseconds=1)
        await house.change("UPDATE organization SET clock_offset_micros = %s WHERE id = %s", ahead, tenant.id)
        assert await house.quiet(tenant, 5, seconds=20) == [("incomplete", False)] * 5
        charged = await house.usage(tenant)
        assert all(row[2] and row[3] == charge(MODEL, row[0], row[1]) for row in charged)
        house.server.signal(signal.SIGCONT)
        await asyncio.gather(*(one.task for one in listeners))
        assert all(events(one.raw)[-1] == b"[DONE]" for one in listeners)
        assert await house.usage(tenant) == charged
        assert before - await house.balance(tenant) == sum(row[3] for row in charged)
        assert (await house.chat(tenant, ask("sandbox:tokens=1"))).status == 200
        assert await worker.stop() == 0, worker.said()


async def test_sigterm_lets_running_calls_finish_and_takes_no_new_ones(
    cluster: Cluster, seeded_template: SeededTemplate
) -> None:
    async with fresh_house(cluster, seeded_template) as house:
        tenant = await house.organization()
        text = "sandbox:tokens=60 sandbox:delay=20"
        listeners = [Listener(house, tenant, text, stream_options={"include_usage": True}) for _ in range(20)]
        plain = [asyncio.create_task(house.chat(tenant, ask(text))) for _ in range(5)]
        await all_begun(listeners)
        await running(house, tenant, 25)
        house.server.signal(signal.SIGTERM)
        await closed(house.server)
        assert await house.server.wait() == 0, house.server.said()
        await asyncio.gather(*(one.task for one in listeners))
        for one in listeners:
            assert events(one.raw)[-1] == b"[DONE]"
            assert chunks(one.raw)[-1]["usage"]["completion_tokens"] == 60
        assert [reply.body["usage"]["completion_tokens"] for reply in await asyncio.gather(*plain)] == [60] * 5
        assert await house.requests(tenant) == [("done", False)] * 25
        assert not [row for row in await house.usage(tenant) if row[2]]


async def running(house: House, tenant: Tenant, count: int) -> None:
    """Every call of the tenant has been admitted. The books are the only place that tells."""
    async with asyncio.timeout(10):
        while True:
            if len(await house.requests(tenant)) >= count:
                return
            await asyncio.sleep(0.02)


async def closed(server: Server) -> None:
    """The port takes nobody any more."""
    async with asyncio.timeout(5):
        while True:
            try:
                _, writer = await asyncio.open_connection(server.host, server.port)
            except ConnectionRefusedError:
                return
            writer.close()
            await asyncio.sleep(0.02)


async def test_sigterm_does_not_wait_for_connections_that_ask_nothing(
    cluster: Cluster, seeded_template: SeededTemplate
) -> None:
    async with fresh_house(cluster, seeded_template) as house:
        tenant = await house.organization()
        assert (await house.chat(tenant, ask("sandbox:tokens=1"))).status == 200  # kept alive by our client
        _, idle = await asyncio.open_connection(house.server.host, house.server.port)
        house.server.signal(signal.SIGTERM)
        assert await house.server.wait(5) == 0
        idle.close()


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
async def test_calls_that_outlast_the_grace_period_are_settled_with_what_they_have(
    cluster: Cluster, seeded_template: SeededTemplate, stream: bool
) -> None:
    async with fresh_house(cluster, seeded_template) as house:
        tenant = await house.organization()
        before = await house.balance(tenant)
        body = ask("sandbox:tokens=900 sandbox:delay=20", MODEL, stream=stream)
        async with desk(house.database_url) as calls:
            begun = [await calls.start(tenant, Sandbox(), body) for _ in range(10)]
            if stream:
                await asyncio.gather(*(call.begun for call in begun))
            await calls.pumps.close(0.5)
            assert calls.pumps.open == 0
            for call in begun:
                if stream:
                    raw = b"".join([chunk async for chunk in call.chunks()])  # type: ignore[union-attr]
                    assert json.loads(events(raw)[-1])["error"]["code"] == "provider_broke"
                else:
                    assert call.begun.exception() is not None
        usage = await house.usage(tenant)
        if stream:
            assert await house.requests(tenant) == [("incomplete", False)] * 10
            assert all(estimated and 1 <= tokens_out < 900 for _, tokens_out, estimated, _ in usage)
            assert all(cost == charge(MODEL, tokens_in, tokens_out) for tokens_in, tokens_out, _, cost in usage)
        else:
            assert await house.requests(tenant) == [("failed", False)] * 10
            assert usage == []
        assert before - await house.balance(tenant) == sum(row[3] for row in usage)
