"""A key that is revoked, or runs out, while a call is answered: the call ends soon, and what came is paid for."""

from __future__ import annotations

import asyncio

import pytest

from tests.house import House, ask, charge, chunks
from tollhouse.gateway.call import CHECKPOINT_S

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.usefixtures("proved")]

LONG = "sandbox:tokens=2000 sandbox:delay=50"  # a hundred seconds


@pytest.mark.parametrize("column", ["revoked_at", "expires_at"])
async def test_a_stream_does_not_outlive_its_key(house: House, column: str) -> None:
    tenant = await house.organization()
    async with asyncio.timeout(CHECKPOINT_S + 10):
        async with house.streaming(tenant, ask(LONG)) as response:
            await response.content.readline()
            if column == "revoked_at":
                await house.change("UPDATE api_key SET revoked_at = now() WHERE organization_id = %s", tenant.id)
            else:
                await house.change("UPDATE api_key SET expires_at = now() WHERE organization_id = %s", tenant.id)
            rest = await response.content.read()
        ((state, _),) = await house.quiet(tenant, 1)
    assert state == "incomplete"
    told = chunks(b"data: {}\n\n" + rest[rest.index(b"\n\n") + 2 :])
    assert told[-1]["error"]["code"] == "invalid_api_key"
    ((given, made, estimated, charged),) = await house.usage(tenant)
    assert estimated
    assert 0 < made < 400
    assert charged == charge("sandbox", given, made)


async def test_a_plain_call_does_not_outlive_its_key_either(house: House) -> None:
    tenant = await house.organization()
    calling = asyncio.create_task(house.chat(tenant, ask(LONG)))
    async with asyncio.timeout(CHECKPOINT_S + 10):
        await asyncio.sleep(1)  # by then it is admitted
        assert len(await house.requests(tenant)) == 1
        await house.change("UPDATE api_key SET revoked_at = now() WHERE organization_id = %s", tenant.id)
        reply = await calling
    assert (reply.status, reply.body["error"]["code"]) == (401, "invalid_api_key")
    ((_, made, estimated, charged),) = await house.usage(tenant)
    assert (made, estimated) == (0, True)
    assert charged > 0  # the provider was at work: the input is paid


async def test_a_key_calls_no_model_from_outside_its_networks_and_knows_what_binds_it(house: House) -> None:
    tenant = await house.organization()
    key = await house.call("GET", "/v1/key", headers=tenant.headers)
    assert (key.body["networks"], key.body["credits_per_month"], key.body["requests_per_minute"]) == (None, None, None)
    change = "UPDATE api_key SET networks = %s WHERE organization_id = %s"
    await house.change(change, ["192.0.2.0/24"], tenant.id)
    refused = [await house.chat(tenant, ask("hi")), await house.call("GET", "/v1/models", headers=tenant.headers)]
    assert [(reply.status, reply.body["error"]["code"]) for reply in refused] == [(403, "forbidden")] * 2
    assert await house.requests(tenant) == []
    await house.change(change, ["127.0.0.1/32", "::1/128"], tenant.id)
    assert (await house.chat(tenant, ask("hi"))).status == 200
    assert (await house.call("GET", "/v1/key", headers=tenant.headers)).body["networks"] == ["127.0.0.1/32", "::1/128"]
