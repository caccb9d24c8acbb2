"""What a key may call, and how much of it: over /v1, on several processes, exactly."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any
from uuid import uuid4

import pytest

from tests.conftest import Cluster, SeededTemplate
from tests.house import House, Tenant, ask, charge, credits, fresh_house

TOKENS, PAID, CALLS = 60, 9, 60
MESSAGES = "/v1/messages"


def body(number: int = 0, **more: Any) -> dict[str, Any]:
    stream: dict[str, Any] = {"stream": True, "stream_options": {"include_usage": True}} if number % 2 else {}
    return ask(f"sandbox:tokens={TOKENS} sandbox:delay=15", max_tokens=TOKENS, **stream) | more


async def with_key(house: House, **key: Any) -> Tenant:
    tenant = await house.organization()
    return Tenant(tenant.id, (await house.key(tenant.id, **key))["key"])


async def cost(house: House, tenant: Tenant) -> int:
    """Of one such call, in micro-credits."""
    reply = await house.chat(tenant, body())
    return charge("sandbox", reply.body["usage"]["prompt_tokens"], TOKENS)


@pytest.mark.parametrize("processes", [1, 2])
async def test_of_many_calls_at_once_exactly_those_pass_that_the_credits_of_the_key_pay(
    cluster: Cluster, seeded_template: SeededTemplate, processes: int
) -> None:
    async with fresh_house(cluster, seeded_template, processes) as house:
        one = await cost(house, await house.organization())
        limited = await with_key(house, credits_per_month=credits(one * PAID + one - 1))
        free = Tenant(limited.id, (await house.key(limited.id))["key"])

        async def called(number: int) -> tuple[int, str | None]:
            server = house.servers[number % processes]
            reply = await house.chat(limited, body(number // processes), server)
            return reply.status, None if reply.status == 200 else reply.error["metadata"]["meter"]

        outcomes = Counter(await asyncio.gather(*(called(number) for number in range(CALLS))))
        assert outcomes == {(200, None): PAID, (429, "credits"): CALLS - PAID}
        await house.quiet(limited, PAID)
        window = "SELECT used, reserved FROM quota_window WHERE organization_id = %s AND meter = 'credits'"
        assert await house.rows(window, limited.id) == [(one * PAID, 0)]
        assert (await house.chat(free, body())).status == 200
        refused = await house.chat(limited, body())
        assert refused.headers["x-should-retry"] == "false" and "retry-after" not in refused.headers
        told = refused.error["metadata"]
        assert (told["limit"], told["used"], told["scope"]) == (
            credits(one * PAID + one - 1), credits(one * PAID), "key",
        )  # fmt: skip


async def test_a_call_without_max_tokens_is_cut_to_what_the_key_has_left(
    cluster: Cluster, seeded_template: SeededTemplate
) -> None:
    async with fresh_house(cluster, seeded_template) as house:
        limited = await with_key(house, credits_per_month="0.05")
        reply = await house.chat(limited, ask("sandbox:tokens=100000"))
        assert reply.status == 200
        assert reply.body["choices"][0]["finish_reason"] == "length"
        ((used, reserved),) = await house.rows(
            "SELECT used, reserved FROM quota_window WHERE organization_id = %s AND meter = 'credits'", limited.id
        )
        assert 40_000 < used <= 50_000 and reserved == 0


async def test_a_key_for_some_models_sees_and_calls_these_alone(
    cluster: Cluster, seeded_template: SeededTemplate
) -> None:
    async with fresh_house(cluster, seeded_template) as house:
        narrow = await with_key(house, models=["sandbox", "gpt-4o-mini"])
        listed = await house.call("GET", "/v1/models", headers=narrow.headers)
        assert {one["id"] for one in listed.body["data"]} == {"sandbox", "gpt-4o-mini", "auto"}
        vectors = await with_key(house, models=["text-embedding-3-small"])
        listed = await house.call("GET", "/v1/models", headers=vectors.headers)
        assert [one["id"] for one in listed.body["data"]] == ["text-embedding-3-small"]
        assert (await house.call("GET", "/v1/models/gpt-4o", headers=narrow.headers)).status == 404
        assert (await house.call("GET", "/v1/models/sandbox", headers=narrow.headers)).status == 200
        refused = await house.chat(narrow, body(model="gpt-4o"))
        assert (refused.status, refused.error["code"]) == (403, "model_not_allowed")
        assert refused.error["metadata"]["models"] == ["gpt-4o-mini", "sandbox"]
        asked = {"model": "claude-3-5-haiku", "max_tokens": 9, "messages": [{"role": "user", "content": "Hello"}]}
        for path in (MESSAGES, f"{MESSAGES}/count_tokens"):
            sent = asked if path == MESSAGES else {name: asked[name] for name in ("model", "messages")}
            reply = await house.call("POST", path, json=sent, headers=narrow.headers)
            assert (reply.status, reply.body["error"]["type"]) == (403, "permission_error"), path
        assert (await house.chat(narrow, body())).status == 200
        chosen = await house.chat(narrow, body(model="auto"))
        assert chosen.body["model"] in ("gpt-4o-mini", "sandbox")
        refused = await house.chat(vectors, body(model="auto"))
        assert (refused.status, refused.error["code"]) == (403, "model_not_allowed")
        assert await house.rows("SELECT DISTINCT model_id FROM request WHERE organization_id = %s", vectors.id) == []


async def test_a_rotated_key_works_at_once_on_every_process_and_the_old_one_until_it_is_revoked(
    cluster: Cluster, seeded_template: SeededTemplate
) -> None:
    async with fresh_house(cluster, seeded_template, 2) as house:
        owner = await house.organization(scopes=("manage",))
        wanted = {"name": "app", "scopes": ["gateway"], "mode": "test", "requests_per_minute": 5}
        made = (await house.call("POST", "/api/keys", json=wanted, headers=owner.headers)).body
        old = Tenant(owner.id, made["key"])
        for server in house.servers:
            assert (await house.chat(old, body(), server)).status == 200
        path = f"/api/keys/{made['id']}"
        new = Tenant(owner.id, (await house.call("POST", f"{path}/rotate", json={}, headers=owner.headers)).body["key"])
        for key in (old, new):
            assert (await house.chat(key, body(), house.servers[1])).status == 200
        assert (await house.call("DELETE", path, headers=owner.headers)).status == 200
        for server in house.servers:
            assert (await house.chat(old, body(), server)).status == 401
        found = [(await house.chat(new, body(), server)).status for server in house.servers]
        assert found == [200, 429]  # the fifth and the sixth of this minute, of old and new together
        assert (await house.call("GET", f"/api/keys/{uuid4()}", headers=owner.headers)).status == 404


async def test_a_server_that_stops_has_written_when_its_keys_were_used(
    cluster: Cluster, seeded_template: SeededTemplate
) -> None:
    async with fresh_house(cluster, seeded_template) as house:
        tenant = await house.organization()
        assert (await house.chat(tenant, body())).status == 200
        assert await house.server.stop() == 0
        found = await house.rows(
            """SELECT count(*) FROM api_key WHERE organization_id = %s
               AND last_used_at BETWEEN now() - interval '3 minutes' AND now()""",
            tenant.id,
        )
        assert found == [(1,)]
