"""Faults inside the gateway itself, on a call that runs: nobody waits for ever, and what was reserved is closed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any, Literal
from uuid import UUID

import psycopg
import pytest

from tests.conftest import Cluster, SeededTemplate
from tests.fake_provider import FakeProvider
from tests.gateway.calls import ESTIMATE, desk
from tests.house import House, ask, charge, fresh_house
from tollhouse.core.errors import ProviderFailed
from tollhouse.flows.operation import LEASE, Reap
from tollhouse.gateway import call as call_module
from tollhouse.gateway import stream as streams
from tollhouse.outside import Operation, Reply
from tollhouse.outside.openai import OpenAICompatible
from tollhouse.outside.sandbox import Sandbox

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.usefixtures("proved")]

Place = Literal["send", "read", "middle", "close"]


class Faulty:
    """The sandbox, with a fault of our own code in one place."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._sandbox = Sandbox()

    async def send(self, operation: Operation, model: str, body: bytes, *, stream: bool) -> Reply:
        if self._place == "send":
            raise RuntimeError("a fault of ours")
        return FaultyReply(await self._sandbox.send(operation, model, body, stream=stream), self._place)

    async def check(self) -> None:
        await self._sandbox.check()

    async def close(self) -> None:
        await self._sandbox.close()


class FaultyReply:
    def __init__(self, reply: Reply, place: Place) -> None:
        self.status = reply.status
        self.content_type = reply.content_type
        self.retry_after_s = reply.retry_after_s
        self._reply = reply
        self._place = place

    async def read(self, limit: int) -> bytes:
        if self._place != "close":
            raise RuntimeError("a fault of ours")
        return await self._reply.read(limit)

    async def segments(self) -> AsyncIterator[bytes]:
        number = 0
        async for segment in self._reply.segments():
            if self._place == "read" or (self._place == "middle" and number == 3):
                raise RuntimeError("a fault of ours")
            yield segment
            number += 1

    async def close(self) -> None:
        await self._reply.close()
        if self._place == "close":
            raise RuntimeError("a fault of ours")


async def reap(house: House, organization_id: UUID, call_id: UUID, teller: Any) -> None:
    """What the worker does once the lease has run out."""
    ahead = (LEASE + timedelta(seconds=1)) // timedelta(microseconds=1)
    await house.change("UPDATE organization SET clock_offset_micros = %s WHERE id = %s", ahead, organization_id)
    await teller.do(Reap(organization_id, call_id))


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize("place", ["send", "read", "middle", "close"])
async def test_a_fault_of_ours_ends_the_call_for_whoever_listens_and_its_reservation_is_closed(
    house: House, place: Place, stream: bool
) -> None:
    tenant = await house.organization()
    before = await house.balance(tenant)
    async with desk(house.database_url) as calls:
        call = await calls.start(tenant, Faulty(place), ask("sandbox:tokens=9 sandbox:delay=1", stream=stream))
        async with asyncio.timeout(5):
            if stream and place in ("middle", "close"):
                await call.begun
                raw = b"".join([chunk async for chunk in call.chunks()])  # type: ignore[union-attr]
                assert b"[DONE]" not in raw
            else:
                with pytest.raises(ProviderFailed) as caught:
                    await call.begun
                assert caught.value.status == 500 and "a fault of ours" not in str(caught.value)
        assert calls.pumps.open == 0
        assert await house.requests(tenant) == [("running", False)]
        await reap(house, tenant.id, call.admitted.id, calls.teller)
    assert await house.requests(tenant) == [("incomplete", False)]
    assert await house.usage(tenant) == [(ESTIMATE, 0, True, charge("sandbox", ESTIMATE, 0))]
    assert before - await house.balance(tenant) == charge("sandbox", ESTIMATE, 0)


async def test_a_client_that_reads_nothing_for_a_while_has_left(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its call is read to the end and charged, though what it was to get is thrown away."""
    monkeypatch.setattr(streams, "STALL_S", 0.2)
    monkeypatch.setattr(streams, "OUTBOX_MAX", 1_000)
    tenant = await house.organization()
    async with FakeProvider() as provider, desk(house.database_url) as calls:
        client = OpenAICompatible(provider.url, None, allow_private=True)
        call = await calls.start(tenant, client, ask("sandbox:tokens=200 sandbox:delay=0", "gpt-4o-mini", stream=True))
        await call.begun
        assert await house.quiet(tenant, 1) == [("done", True)]
        assert calls.pumps.open == 0 and calls.pumps.drains == 0
        assert [row[1:3] for row in await house.usage(tenant)] == [(200, False)]
        await client.close()


class Silent(Faulty):
    """Takes the request, and never says anything."""

    def __init__(self) -> None:
        super().__init__("send")
        self.asked = asyncio.Event()

    async def send(self, operation: Operation, model: str, body: bytes, *, stream: bool) -> Reply:
        self.asked.set()
        await asyncio.Event().wait()
        raise AssertionError("nobody waits for this")


async def test_who_left_before_the_provider_said_anything_is_charged_the_input_and_the_call_ends_in_order(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(call_module, "DRAIN_S", 0.05)
    tenant, provider = await house.organization(), Silent()
    async with desk(house.database_url) as calls, asyncio.timeout(10):
        call = await calls.start(tenant, provider, ask("sandbox:tokens=9", stream=True))
        await provider.asked.wait()
        call.client_left()
        await call.begun  # no fault of ours
        assert await house.quiet(tenant, 1) == [("incomplete", True)]
        assert (calls.pumps.open, calls.pumps.drains) == (0, 0)
    assert await house.usage(tenant) == [(ESTIMATE, 0, True, charge("sandbox", ESTIMATE, 0))]


async def test_a_fault_of_ours_is_an_error_in_the_same_shape_and_takes_nothing(
    cluster: Cluster, seeded_template: SeededTemplate
) -> None:
    async with fresh_house(cluster, seeded_template) as house:
        tenant = await house.organization()
        async with await psycopg.AsyncConnection.connect(house.database_url) as connection:
            await connection.execute("ALTER TABLE reservation RENAME TO elsewhere")
        reply = await house.chat(tenant, ask("hi"))
        assert reply.status == 500
        assert "nothing was taken" in reply.error["message"] and "elsewhere" not in reply.raw.decode()
        async with await psycopg.AsyncConnection.connect(house.database_url) as connection:
            await connection.execute("ALTER TABLE elsewhere RENAME TO reservation")
        assert (await house.chat(tenant, ask("sandbox:tokens=1"))).status == 200
        assert len(await house.usage(tenant)) == 1
