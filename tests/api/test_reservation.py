"""Reservations over HTTP: what a host application is answered, whatever it does and however often."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
import pytest_asyncio

from tests.api.conftest import Api, Reply, serve
from tests.conftest import Cluster, SeededTemplate
from tests.house import micros
from tollhouse.core.period import months_after
from tollhouse.flows import spend
from tollhouse.jobs import Jobs
from tollhouse.store.db import Database

pytestmark = pytest.mark.asyncio(loop_scope="module")

RESERVATIONS = "/api/credits/reservations"
USE = {"capability": "question_generation"}
CALL = {"model": "sandbox", "input_tokens": 1_000, "max_output_tokens": 100}  # 0.065 credits
TWO = {"credits": "2"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(cluster: Cluster, seeded_template: SeededTemplate) -> AsyncIterator[Api]:
    """One server for all; in the end its ledger must prove."""
    with cluster.database(seeded_template.name) as url:
        async for running in serve(url, seeded_template.operator_key, "test"):
            yield running
            assert await running.unproven() == []


@dataclass(frozen=True)
class Host:
    """A host application with its key. On the plan free it has 10 monthly credits and a welcome bonus of 10."""

    api: Api
    id: str
    key: str

    async def post(self, path: str, body: object, **headers: str) -> Reply:
        return await self.api.call("POST", RESERVATIONS + path, body, key=self.key, **headers)

    async def reserve(self, body: object, once: str | None = None, **headers: str) -> Reply:
        return await self.post("", body, Idempotency_Key=once or str(uuid4()), **headers)

    async def reserved(self, body: object = TWO, **more: Any) -> str:
        """The id of a new reservation."""
        assert isinstance(body, dict)
        reply = await self.reserve(body | more)
        assert reply.status == 201, reply.text
        return str(reply.body["id"])

    async def settle(self, id_: str, body: object) -> Reply:
        return await self.post(f"/{id_}/settle", body)

    async def release(self, id_: str, reason: str = "nobody came") -> Reply:
        return await self.post(f"/{id_}/release", {"reason": reason})

    async def renew(self, id_: str, ttl_seconds: int) -> Reply:
        return await self.post(f"/{id_}/renew", {"ttl_seconds": ttl_seconds})

    async def read(self, id_: str) -> Any:
        reply = await self.api.call("GET", f"{RESERVATIONS}/{id_}", key=self.key)
        assert reply.status == 200, reply.text
        return reply.body

    async def money(self) -> tuple[str, str, str]:
        """What is available, what is reserved, what is owed."""
        balance = await self.api.balance(self.key)
        return balance["available"], balance["reserved"], balance["debt"]

    async def order(self, method: str, path: str, body: object) -> Any:
        reply = await self.api.order(method, f"/organizations/{self.id}{path}", body)
        assert reply.status in (200, 201), reply.text
        return reply.body

    async def now(self) -> datetime:
        read = await self.api.order("GET", f"/organizations/{self.id}")
        return datetime.fromisoformat(read.body["now"])

    async def move(self, **by: float) -> Any:
        to = await self.now() + timedelta(**by)
        return await self.order("POST", "/clock", {"now": to.isoformat()})

    async def transactions(self) -> list[tuple[str, str]]:
        """Type and amount, in order."""
        reply = await self.api.call("GET", "/api/credits/transactions", key=self.key)
        return [(one["type"], one["amount"]) for one in reversed(reply.body["items"])]


async def host(client: Api, plan: str = "free", *scopes: str, **more: str) -> Host:
    organization_id = await client.organization(plan, **more)
    return Host(client, organization_id, await client.key(organization_id, *(scopes or ("credits", "act_as"))))


def moment(text: str) -> datetime:
    assert text.endswith("Z")
    return datetime.fromisoformat(text)


def replayed(reply: Reply) -> bool:
    return reply.headers.get("idempotent-replayed") == "true"


def problem(reply: Reply) -> tuple[int, str]:
    """Status and code, after checking that it is a whole problem."""
    assert reply.headers["content-type"] == "application/problem+json", reply.text
    assert {"type", "title", "status", "detail", "code", "request_id", "errors"} <= set(reply.body)
    assert reply.body["status"] == reply.status
    return reply.status, reply.body["code"]


def without_id(reply: Reply) -> dict[str, Any]:
    return {name: value for name, value in reply.body.items() if name != "request_id"}


# ---------------------------------------------------------------------------------------------------------- reserving


async def test_credits_are_reserved_as_they_were_asked_for(client: Api) -> None:
    hers = await host(client)
    reply = await hers.reserve({"credits": "2.50", "user": "ada", "metadata": {"page": [1, {"of": None}]}})
    told = dict(reply.body)
    (part,) = told.pop("parts")
    times = moment(told.pop("created_at")), moment(told.pop("expires_at"))
    assert (reply.status, reply.headers["content-type"], replayed(reply)) == (201, "application/json", False)
    assert (part["amount"], times[1] - times[0]) == ("2.5", timedelta(seconds=300))
    assert abs(times[0] - datetime.now(UTC)) < timedelta(minutes=1)
    assert told == {
        "id": told["id"], "status": "pending", "amount": "2.5", "model": None, "capability": None, "quality": None,
        "max_output_tokens": None, "user": "ada", "metadata": {"page": [1, {"of": None}]}, "overdraft": "0",
        "charged": None, "variance": None, "closed_at": None, "reason": None, "balance": "17.5",
    }  # fmt: skip
    assert await hers.read(told["id"]) == reply.body
    assert await hers.money() == ("17.5", "2.5", "0")


@pytest.mark.parametrize(
    ("plan", "body", "amount", "model", "quality", "output"),
    [
        ("free", USE, "1", "gpt-4o-mini", "fast", None),
        ("pro", USE | {"quality": "enhanced"}, "2", "gpt-4o", "enhanced", None),
        ("enterprise", USE | {"quality": "premium"}, "4", "gpt-4o", "premium", None),
        ("free", CALL, "0.065", "sandbox", None, 100),
        ("free", {"model": "sandbox", "input_tokens": 0}, "0.1536", "sandbox", None, 1_024),
        ("free", CALL | {"max_output_tokens": 5_000}, "0.2036", "sandbox", None, 1_024),
        ("free", {"model": "gpt-4o-mini", "input_tokens": 1_200, "max_output_tokens": 500}, "0.048", "gpt-4o-mini",
         None, 500),
    ],
    ids=["use", "enhanced", "premium-inherited", "call", "no-maximum", "clamped", "by-price"],
)  # fmt: skip
async def test_uses_and_calls_are_reserved_at_their_estimate(
    client: Api, plan: str, body: dict[str, Any], amount: str, model: str, quality: str | None, output: int | None
) -> None:
    hers = await host(client, plan)
    reply = await hers.reserve(body)
    assert reply.status == 201, reply.text
    told = reply.body
    assert (told["amount"], told["model"], told["quality"], told["max_output_tokens"]) == (
        amount, model, quality, output,
    )  # fmt: skip
    assert (told["capability"], told["user"], told["metadata"]) == (body.get("capability"), None, None)
    assert await hers.read(told["id"]) == told | {"max_output_tokens": None}
    assert (await client.balance(hers.key))["reserved"] == amount


@pytest.mark.parametrize("body", [USE, CALL | {"model": "gpt-4o-mini"}], ids=["use", "call"])
async def test_in_live_mode_a_host_application_reserves_for_models_that_only_it_is_connected_to(
    client: Api, body: dict[str, Any]
) -> None:
    hers = await host(client)
    wanted = {"name": "a key", "scopes": ["credits"], "mode": "live"}
    key = (await hers.order("POST", "/keys", wanted))["key"]
    async for live in serve(client.database_url, client.operator_key, "live"):
        at_work = Host(live, hers.id, key)
        told = await live.call("POST", "/api/ai/access-check", body, key=key)
        reply = await at_work.reserve(body)
        assert (reply.status, reply.body["model"]) == (201, "gpt-4o-mini"), reply.text
        assert told.body["can_proceed"] is True
        usage = {"usage": {"input_tokens": 100, "output_tokens": 10}}
        assert (await at_work.settle(reply.body["id"], usage)).status == 200


async def test_a_call_is_cut_to_what_the_balance_can_pay_but_not_to_what_helps_nobody(client: Api) -> None:
    hers = await host(client, "enterprise")
    await hers.reserved({"credits": "10097"})  # 3 of 10,100 are left: 20,000 tokens of output
    reply = await hers.reserve({"model": "sandbox", "input_tokens": 10_000, "max_output_tokens": 30_000})
    assert (reply.body["amount"], reply.body["max_output_tokens"]) == ("2.9576", 16_384)
    await hers.release(reply.body["id"])
    reply = await hers.reserve({"model": "sandbox", "input_tokens": 40_000, "max_output_tokens": 30_000})
    assert (reply.body["amount"], reply.body["max_output_tokens"]) == ("2.9999", 6_666)
    reply = await hers.reserve({"model": "sandbox", "input_tokens": 0})
    assert (problem(reply), reply.body["required"]) == ((402, "insufficient_credits"), "0.0384")


async def test_parts_are_taken_in_burn_order_and_the_overdraft_last(client: Api) -> None:
    hers = await host(client)
    await hers.api.grant(hers.id, "3", str(uuid4()), source="topup")
    await hers.order("PUT", "/overdraft", {"credits": "4"})
    grants = await client.balance(hers.key)
    source = {one["id"]: one["source"] for one in grants["grants"]}
    reply = await hers.reserve({"credits": "25"})
    assert [(source[part["grant_id"]], part["amount"]) for part in reply.body["parts"]] == [
        ("plan", "10"), ("welcome", "10"), ("topup", "3"),
    ]  # fmt: skip
    assert (reply.body["overdraft"], reply.body["balance"]) == ("2", "-2")
    assert (await hers.read(reply.body["id"]))["parts"] == reply.body["parts"]
    assert problem(await hers.reserve({"credits": "2.000001"})) == (402, "insufficient_credits")
    # settled for less, the last come first back: the overdraft, the top-up, the welcome bonus
    settled = await hers.settle(reply.body["id"], {"credits": "12"})
    assert (settled.body["charged"], settled.body["balance"]) == ("12", "11")
    left = {one["source"]: one["remaining"] for one in (await client.balance(hers.key))["grants"]}
    assert {name: left.get(name, "0") for name in ("plan", "welcome", "topup")} == {
        "plan": "0", "welcome": "8", "topup": "3",
    }  # fmt: skip


async def test_a_reservation_lives_as_long_as_was_asked_for(client: Api) -> None:
    hers = await host(client)
    for ttl in (5, 86_400):
        told = (await hers.reserve({"credits": "1", "ttl_seconds": ttl})).body
        assert moment(told["expires_at"]) - moment(told["created_at"]) == timedelta(seconds=ttl)


# ----------------------------------------------------------------------------------------------------------- refusals


async def test_too_little_is_refused_with_what_there_is_and_what_would_help(client: Api) -> None:
    hers = await host(client)
    await hers.reserved({"credits": "5"})
    reply = await hers.reserve({"credits": "15.000001"})
    assert problem(reply) == (402, "insufficient_credits")
    told = reply.body
    assert (told["required"], told["spendable"], told["reserved"]) == ("15.000001", "15", "5")
    resets_at = (await client.balance(hers.key))["period_end"]
    assert told["resets_at"] == resets_at
    assert told["hints"] == [{"kind": "top_up"}, {"kind": "upgrade"}, {"kind": "wait", "at": resets_at}]
    assert "retry-after" not in reply.headers
    assert await hers.money() == ("15", "5", "0")


async def test_what_the_plan_has_not_is_denied_with_the_plan_that_has_it(client: Api) -> None:
    hers = await host(client)
    for body, quality in ((USE | {"quality": "enhanced"}, "enhanced"), ({"capability": "testimonial_polish"}, None)):
        reply = await hers.reserve(body)
        assert problem(reply) == (403, "capability_denied")
        assert (reply.body["capability"], reply.body["quality"], reply.body["plan"]) == (
            body["capability"], quality, "free",
        )  # fmt: skip
        assert reply.body["hints"] == [{"kind": "upgrade", "price_cents": 4_900, "plan": "pro"}]


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"capability": "mind_reading"}, 404, "not_found"),
        ({"model": "none", "input_tokens": 1}, 404, "model_not_found"),
        (USE | {"quality": "excellent"}, 400, "invalid_request"),
    ],
)
async def test_what_there_is_not_is_refused_with_what_there_is(
    client: Api, body: dict[str, Any], status: int, code: str
) -> None:
    reply = await (await host(client)).reserve(body)
    assert problem(reply) == (status, code)
    if "quality" in body:
        assert [(one["location"], one["field"]) for one in reply.body["errors"]] == [("body", "quality")]


async def test_a_trial_that_is_used_up_says_what_unlocking_costs(client: Api) -> None:
    hers = await host(client)
    gpt = {"model": "gpt-4o", "input_tokens": 10, "max_output_tokens": 10}
    for _ in range(2):
        await hers.reserved(gpt)
    reply = await hers.reserve(gpt)
    assert problem(reply) == (402, "trial_expired")
    assert (reply.body["model_id"], reply.body["price_cents"], reply.body["trial_messages"]) == ("gpt-4o", 299, 2)
    assert reply.body["hints"] == [{"kind": "unlock", "price_cents": 299}]


async def test_a_full_minute_names_a_short_wait_and_a_full_day_a_reset(client: Api) -> None:
    hers = await host(client)
    for _ in range(5):
        await hers.reserved(USE)
    reply = await hers.reserve(USE)
    assert problem(reply) == (429, "rate_limit_exceeded")
    about = {name: reply.body[name] for name in ("scope", "meter", "period", "limit", "used", "remaining")}
    assert about == {
        "scope": "organization", "meter": "requests", "period": "minute", "limit": 5, "used": 5, "remaining": 0,
    }  # fmt: skip
    assert 1 <= int(reply.headers["retry-after"]) <= 60 and "x-should-retry" not in reply.headers
    await hers.order("POST", "/limits", {"scope": "organization", "meter": "messages", "period": "day", "maximum": 1})
    await hers.reserved(CALL)
    reply = await hers.reserve(CALL)
    assert problem(reply) == (429, "rate_limit_exceeded")
    now = await hers.now()
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
    assert (reply.body["used"], reply.body["remaining"], moment(reply.body["resets_at"])) == (0, 0, midnight)
    assert reply.headers["x-should-retry"] == "false" and "retry-after" not in reply.headers
    assert [hint["kind"] for hint in reply.body["hints"]] == ["wait", "upgrade"]


async def test_tokens_of_the_month_have_a_code_of_their_own(client: Api) -> None:
    hers = await host(client)
    await hers.order(
        "POST", "/limits", {"scope": "organization", "meter": "tokens", "period": "month", "maximum": 1_100}
    )
    await hers.reserved(CALL)
    reply = await hers.reserve(CALL)
    assert problem(reply) == (429, "quota_exceeded")
    assert (reply.body["meter"], reply.body["period"], reply.headers["x-should-retry"]) == ("tokens", "month", "false")


async def test_a_full_queue_refuses_and_takes_nothing(client: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    hers = await host(client)
    id_ = await hers.reserved()
    once = str(uuid4())
    monkeypatch.setattr(spend, "QUEUE_MAX", 0)
    for reply in (await hers.reserve(TWO, once), await hers.settle(id_, {"credits": "1"}), await hers.release(id_),
                  await hers.renew(id_, 60)):  # fmt: skip
        assert (problem(reply), reply.headers["retry-after"]) == ((503, "overloaded"), "1")
        assert "x-should-retry" not in reply.headers
    monkeypatch.undo()
    assert await hers.money() == ("18", "2", "0")
    reply = await hers.reserve(TWO, once)
    assert (reply.status, replayed(reply)) == (201, False)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, ""),
        ({"credits": "1"} | USE, ""),
        ({"credits": "1"} | CALL, ""),
        ({"credits": "1", "quality": "fast"}, ""),
        ({"credits": "1", "input_tokens": 5}, ""),
        (USE | {"max_output_tokens": 5}, ""),
        ({"model": "sandbox"}, ""),
        ({"credits": 1}, "credits"),
        ({"credits": "0"}, "credits"),
        ({"credits": "-1"}, "credits"),
        ({"credits": "1e3"}, "credits"),
        ({"credits": "0.0000001"}, "credits"),
        ({"credits": "999999999999"}, "credits"),
        ({"capability": ""}, "capability"),
        ({"capability": "x" * 81}, "capability"),
        (USE | {"quality": 1}, "quality"),
        (CALL | {"input_tokens": -1}, "input_tokens"),
        (CALL | {"input_tokens": "5"}, "input_tokens"),
        (CALL | {"input_tokens": 10**9}, "input_tokens"),
        (CALL | {"max_output_tokens": 0}, "max_output_tokens"),
        (TWO | {"user": ""}, "user"),
        (TWO | {"user": "x" * 201}, "user"),
        (TWO | {"user": "a\nb"}, "user"),
        (TWO | {"ttl_seconds": 4}, "ttl_seconds"),
        (TWO | {"ttl_seconds": 86_401}, "ttl_seconds"),
        (TWO | {"ttl_seconds": 60.5}, "ttl_seconds"),
        (TWO | {"metadata": []}, "metadata"),
        (TWO | {"metadata": {"a": "x" * 16_384}}, "metadata"),
        (TWO | {"credit": "2"}, "credit"),
    ],
    ids=lambda value: (value or "body") if isinstance(value, str) else "",
)
async def test_a_bad_body_is_refused_by_the_name_of_the_field_and_takes_nothing(
    client: Api, shared: Host, body: dict[str, Any], field: str
) -> None:
    once = str(uuid4())
    reply = await shared.reserve(body, once)
    assert problem(reply) == (400, "invalid_request")
    assert [(one["location"], one["field"]) for one in reply.body["errors"]] == [("body", field)]
    assert reply.body["errors"][0]["message"]
    reply = await shared.reserve({"credits": "0.000001"}, once)  # what nobody understood has not used up the key
    assert (reply.status, replayed(reply)) == (201, False)
    assert (await shared.release(reply.body["id"])).status == 200


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(client: Api) -> Host:
    """A host whose balance no test changes."""
    return await host(client)


@pytest.mark.parametrize("once", [None, "", "x" * 256, "caf\u00e9"], ids=["missing", "empty", "long", "not-ascii"])
async def test_without_a_usable_idempotency_key_nothing_is_reserved(
    client: Api, shared: Host, once: str | None
) -> None:
    headers = {} if once is None else {"Idempotency_Key": once}
    reply = await shared.post("", TWO, **headers)
    assert problem(reply) == (400, "invalid_request")
    assert [(one["location"], one["field"].lower()) for one in reply.body["errors"]] == [("header", "idempotency-key")]
    assert await shared.money() == ("20", "0", "0")


# ------------------------------------------------------------------------------------------------------- who may ask


async def test_without_a_key_that_may_reserve_nothing_is_done(client: Api) -> None:
    hers = await host(client)
    id_ = await hers.reserved()
    bare = Host(client, hers.id, await client.key(hers.id, "gateway"))
    assert problem(await client.call("POST", RESERVATIONS, TWO, Idempotency_Key="k")) == (401, "invalid_api_key")
    read = await client.call("GET", f"{RESERVATIONS}/{id_}", key=bare.key)
    for reply in (read, await bare.reserve(TWO), await bare.settle(id_, {"credits": "1"}), await bare.release(id_),
                  await bare.renew(id_, 60)):  # fmt: skip
        assert problem(reply) == (403, "forbidden")
        assert "'credits'" in reply.body["detail"]
    assert await hers.money() == ("18", "2", "0")


async def test_on_behalf_of_a_user_needs_a_key_that_may_act_for_others(client: Api) -> None:
    hers = await host(client, "free", "credits")
    once = str(uuid4())
    for reply in (await hers.reserve(TWO | {"user": "ada"}, once), await hers.reserve(TWO, X_Tollhouse_User="ada")):
        assert problem(reply) == (403, "forbidden")
        assert "'act_as'" in reply.body["detail"]
    able = Host(client, hers.id, await client.key(hers.id, "credits", "act_as"))
    reply = await able.reserve(TWO | {"user": "ada"}, once)  # the refusal of the other key is no answer to this one
    assert (reply.status, reply.body["user"], replayed(reply)) == (201, "ada", False)


async def test_the_user_may_stand_in_the_header(client: Api) -> None:
    hers = await host(client)
    once = str(uuid4())
    reply = await hers.reserve(TWO, once, X_Tollhouse_User="ada")
    assert (reply.status, reply.body["user"]) == (201, "ada")
    assert (await hers.read(reply.body["id"]))["user"] == "ada"
    both = await hers.reserve(TWO | {"user": "ada"}, once, X_Tollhouse_User="ada")
    assert (both.body, replayed(both)) == (reply.body, True)  # says the same
    for other in (await hers.reserve(TWO, once, X_Tollhouse_User="bob"), await hers.reserve(TWO, once)):
        assert problem(other) == (422, "idempotency_mismatch")
    differing = await hers.reserve(TWO | {"user": "ada"}, X_Tollhouse_User="bob")
    assert problem(differing) == (400, "invalid_request")
    assert [one["field"] for one in differing.body["errors"]] == ["user"]
    assert await hers.money() == ("18", "2", "0")


async def test_a_revoked_key_is_refused_also_what_it_was_answered_before(client: Api) -> None:
    hers = await host(client)
    once = str(uuid4())
    id_ = (await hers.reserve(TWO, once)).body["id"]
    settled = await hers.reserved()
    assert (await hers.settle(settled, {"credits": "1"})).status == 200
    assert replayed(await hers.reserve(TWO, once))
    keys = await client.order("GET", f"/organizations/{hers.id}/keys")
    await client.order("DELETE", f"/organizations/{hers.id}/keys/{keys.body['items'][0]['id']}")
    for reply in (await hers.reserve(TWO, once), await hers.reserve(TWO), await hers.settle(id_, {"credits": "1"}),
                  await hers.settle(settled, {"credits": "1"}), await hers.release(id_), await hers.renew(id_, 60),
                  await client.call("GET", f"{RESERVATIONS}/{id_}", key=hers.key)):  # fmt: skip
        assert problem(reply) == (401, "invalid_api_key")
        assert "balance" not in reply.body
    another = Host(client, hers.id, await client.key(hers.id))
    assert await another.money() == ("17", "2", "0")
    assert replayed(await another.reserve(TWO, once))


async def test_of_another_tenants_reservation_nobody_learns_that_it_exists(client: Api) -> None:
    hers, his = await host(client), await host(client)
    id_ = await hers.reserved()
    for one in (id_, str(uuid4()), "17"):
        replies = [await his.settle(one, {"credits": "1"}), await his.release(one), await his.renew(one, 60),
                   await client.call("GET", f"{RESERVATIONS}/{one}", key=his.key)]  # fmt: skip
        assert [problem(reply) for reply in replies] == [(404, "not_found")] * 4
        if one != "17":
            assert len({json.dumps(without_id(reply)) for reply in replies}) == 1
    assert (await hers.read(id_))["status"] == "pending"


# -------------------------------------------------------------------------------------------------------- idempotency


async def test_the_same_key_and_body_are_answered_again_and_done_once(client: Api) -> None:
    hers = await host(client)
    once = str(uuid4())
    first = await hers.reserve({"credits": "2", "metadata": {"a": 1, "b": 2}}, once)
    again = await hers.reserve({"metadata": {"b": 2, "a": 1}, "credits": "2"}, once)
    assert (again.status, again.body, replayed(first), replayed(again)) == (201, first.body, False, True)
    await hers.settle(first.body["id"], {"credits": "1"})
    later = await hers.reserve({"credits": "2", "metadata": {"a": 1, "b": 2}}, once)
    assert (later.body, later.body["status"]) == (first.body, "pending")  # as it was answered, not as it is
    for other in ({"credits": "3", "metadata": {"a": 1, "b": 2}}, {"credits": "2"}, USE):
        assert problem(await hers.reserve(other, once)) == (422, "idempotency_mismatch")
    assert await hers.money() == ("19", "0", "0")


async def test_many_at_once_with_one_key_reserve_once(client: Api) -> None:
    hers = await host(client)
    once = str(uuid4())
    replies = await asyncio.gather(*(hers.reserve(TWO, once) for _ in range(20)))
    assert {reply.status for reply in replies} == {201}
    assert len({reply.body["id"] for reply in replies}) == 1
    assert sum(not replayed(reply) for reply in replies) == 1
    assert await hers.money() == ("18", "2", "0")


async def test_a_refusal_is_answered_again_too_however_much_has_come_since(client: Api) -> None:
    hers = await host(client)
    once = str(uuid4())
    first = await hers.reserve({"credits": "21"}, once)
    await hers.api.grant(hers.id, "5", str(uuid4()))
    again = await hers.reserve({"credits": "21"}, once)
    assert problem(first) == problem(again) == (402, "insufficient_credits")
    assert without_id(again) == without_id(first)
    assert again.headers["x-should-retry"] == "false"
    assert problem(await hers.reserve({"credits": "20"}, once)) == (422, "idempotency_mismatch")
    assert (await hers.reserve({"credits": "21"})).status == 201


async def test_a_key_belongs_to_its_organisation_alone(client: Api) -> None:
    hers, his = await host(client), await host(client)
    once = str(uuid4())
    first, second = await hers.reserve(TWO, once), await his.reserve({"credits": "3"}, once)
    assert (first.status, second.status, second.body["amount"], replayed(second)) == (201, 201, "3", False)


# ------------------------------------------------------------------------------------------------------------ settling


@pytest.mark.parametrize(
    ("body", "used", "charged", "variance"),
    [
        (TWO, {"credits": "1.25"}, "1.25", "-0.75"),
        (TWO, {"credits": "2"}, "2", "0"),
        (TWO, {"credits": "0"}, "0", "-2"),
        (TWO, {"credits": "3.000001"}, "3.000001", "1.000001"),
        (CALL, {"usage": {"input_tokens": 1_000, "output_tokens": 100}}, "0.065", "0"),
        (CALL, {"usage": {"input_tokens": 1_000, "output_tokens": 0}}, "0.05", "-0.015"),
        (CALL, {"usage": {"input_tokens": 1_000, "output_tokens": 200, "cached_input_tokens": 400,
                          "reasoning_tokens": 150}}, "0.07", "0.005"),
        (CALL, {"credits": "0.5"}, "0.5", "0.435"),
        (USE, {"usage": {"input_tokens": 1_000, "output_tokens": 1_000}}, "0.075", "-0.925"),
        (USE, {"credits": "1"}, "1", "0"),
    ],
    ids=["below", "at", "nothing", "above", "call", "call-below", "call-with-parts", "call-stated", "use",
         "use-stated"],
)  # fmt: skip
async def test_what_was_used_is_charged_once(
    client: Api, body: dict[str, Any], used: dict[str, Any], charged: str, variance: str
) -> None:
    hers = await host(client)
    id_ = await hers.reserved(body)
    reply = await hers.settle(id_, used)
    left = (await client.balance(hers.key))["available"]
    assert micros(left) == micros("20") - micros(charged)
    assert (reply.status, reply.body) == (
        200,
        {"id": id_, "status": "settled", "charged": charged, "variance": variance, "late": False, "balance": left},
    )
    for repeated in (used, {"credits": "7"}):
        again = await hers.settle(id_, repeated)
        assert (again.status, again.body, replayed(again)) == (200, reply.body, True)
    told = await hers.read(id_)
    assert (told["status"], told["charged"], told["variance"], told["balance"]) == ("settled", charged, variance, left)
    assert told["closed_at"] is not None and told["reason"] is None
    assert problem(await hers.release(id_)) == problem(await hers.renew(id_, 60)) == (409, "conflict")
    assert await hers.money() == (left, "0", "0")


async def test_what_was_used_above_all_there_is_is_owed_and_nothing_more_is_reserved(client: Api) -> None:
    hers = await host(client)
    id_ = await hers.reserved()
    reply = await hers.settle(id_, {"credits": "23"})
    assert (reply.body["charged"], reply.body["variance"], reply.body["balance"]) == ("23", "21", "-3")
    assert await hers.money() == ("-3", "0", "3")
    refused = await hers.reserve({"credits": "0.000001"})
    assert (problem(refused), refused.body["spendable"]) == ((402, "insufficient_credits"), "0")
    await hers.api.grant(hers.id, "5", str(uuid4()))
    assert (await hers.reserve(TWO)).status == 201
    assert problem(await hers.reserve({"credits": "0.000001"})) == (402, "insufficient_credits")


async def test_a_reservation_in_credits_has_no_price_to_settle_usage_by(client: Api) -> None:
    hers = await host(client)
    id_ = await hers.reserved()
    reply = await hers.settle(id_, {"usage": {"input_tokens": 1, "output_tokens": 1}})
    assert problem(reply) == (400, "invalid_request")
    assert [one["field"] for one in reply.body["errors"]] == ["usage"]
    assert (await hers.settle(id_, {"credits": "1"})).body["charged"] == "1"


TOKENS = {"input_tokens": 5, "output_tokens": 5}


@pytest.mark.parametrize(
    ("call", "body", "field"),
    [
        ("settle", {}, ""),
        ("settle", {"credits": "1", "usage": TOKENS}, ""),
        ("settle", {"credits": 1}, "credits"),
        ("settle", {"credits": "-1"}, "credits"),
        ("settle", {"usage": {"input_tokens": 5}}, "usage.output_tokens"),
        ("settle", {"usage": TOKENS | {"output_tokens": -1}}, "usage.output_tokens"),
        ("settle", {"usage": TOKENS | {"cached_input_tokens": 6}}, "usage"),
        ("settle", {"usage": TOKENS | {"reasoning_tokens": 6}}, "usage"),
        ("settle", {"usage": TOKENS | {"total_tokens": 10}}, "usage.total_tokens"),
        ("release", {}, "reason"),
        ("release", {"reason": " "}, "reason"),
        ("release", {"reason": "x" * 501}, "reason"),
        ("renew", {}, "ttl_seconds"),
        ("renew", {"ttl_seconds": 4}, "ttl_seconds"),
        ("renew", {"ttl_seconds": 86_401}, "ttl_seconds"),
        ("renew", {"ttl_seconds": True}, "ttl_seconds"),
    ],
)
async def test_a_bad_body_closes_nothing(client: Api, shared: Host, call: str, body: object, field: str) -> None:
    id_ = await shared.reserved()
    reply = await shared.post(f"/{id_}/{call}", body)
    assert problem(reply) == (400, "invalid_request")
    assert [(one["location"], one["field"]) for one in reply.body["errors"]] == [("body", field)]
    assert (await shared.read(id_))["status"] == "pending"
    assert (await shared.release(id_)).body["balance"] == "20"


async def test_of_many_that_settle_and_release_at_once_one_wins(client: Api) -> None:
    hers = await host(client)
    id_ = await hers.reserved()
    acts = [hers.settle(id_, {"credits": "1.5"}) if n % 2 else hers.release(id_) for n in range(20)]
    replies = await asyncio.gather(*acts)
    settled = [reply for n, reply in enumerate(replies) if n % 2]
    assert {reply.status for reply in settled} == {200}
    assert {reply.body["charged"] for reply in settled} == {"1.5"}
    assert sum(not replayed(reply) for reply in settled) == 1
    assert len({reply.body["late"] for reply in settled}) == 1
    assert await hers.money() == ("18.5", "0", "0")


# ------------------------------------------------------------------------------------------------ releasing, outliving


async def test_a_release_gives_everything_back_and_may_be_repeated(client: Api) -> None:
    hers = await host(client)
    id_ = await hers.reserved(CALL | {"user": "ada"})
    reply = await hers.release(id_, "the model was down")
    assert (reply.status, reply.body) == (200, {"id": id_, "status": "released", "balance": "20"})
    again = await hers.release(id_, "another reason")
    assert (again.status, again.body, replayed(again)) == (200, reply.body, True)
    told = await hers.read(id_)
    assert (told["status"], told["reason"], told["charged"], told["variance"]) == (
        "released", "the model was down", None, None,
    )  # fmt: skip
    assert moment(told["closed_at"]) >= moment(told["created_at"])
    assert problem(await hers.renew(id_, 60)) == (409, "conflict")
    assert await hers.money() == ("20", "0", "0")


async def test_what_ran_after_its_release_is_charged_late_and_once(client: Api) -> None:
    hers = await host(client)
    id_ = await hers.reserved(CALL)
    await hers.release(id_)
    usage = {"usage": {"input_tokens": 1_000, "output_tokens": 100}}
    reply = await hers.settle(id_, usage)
    assert reply.body == {
        "id": id_, "status": "settled", "charged": "0.065", "variance": "0", "late": True, "balance": "19.935",
    }  # fmt: skip
    again = await hers.settle(id_, usage)
    assert (again.body, replayed(again)) == (reply.body, True)
    assert (await hers.transactions())[-1] == ("late_settle", "-0.065")
    told = await hers.read(id_)
    assert (told["status"], told["charged"]) == ("released", "0.065")  # what became of it, and what it cost
    assert problem(await hers.release(id_)) == (409, "conflict")


async def test_a_reservation_that_outlived_its_time_gives_back_what_it_held(client: Api) -> None:
    hers = await host(client)
    short, long = await hers.reserved(ttl_seconds=60), await hers.reserved(ttl_seconds=600)
    assert (await hers.move(seconds=59.5))["reaped"] == 0
    assert (await hers.move(seconds=60))["reaped"] == 1
    assert [(await hers.read(id_))["status"] for id_ in (short, long)] == ["expired", "pending"]
    assert (await hers.read(short))["reason"] == "outlived its time"
    assert await hers.money() == ("18", "2", "0")
    reply = await hers.release(short)
    assert (reply.status, reply.body["status"], replayed(reply)) == (200, "expired", True)
    assert problem(await hers.renew(short, 60)) == (409, "conflict")
    late = await hers.settle(short, {"credits": "1"})
    assert (late.body["late"], late.body["charged"], late.body["balance"]) == (True, "1", "17")
    assert (await hers.transactions())[-1] == ("late_settle", "-1")


async def test_whoever_looks_at_a_reservation_that_outlived_its_time_finds_it_expired(client: Api) -> None:
    hers = await host(client)
    id_ = await hers.reserved(ttl_seconds=5)
    client.clock.ahead += timedelta(seconds=6)
    told = await hers.read(id_)
    assert (told["status"], told["balance"]) == ("expired", "20")
    assert await hers.money() == ("20", "0", "0")


async def test_the_worker_reaps_what_outlived_its_time_and_nothing_else(client: Api) -> None:
    hers = await host(client)
    short, long = await hers.reserved(ttl_seconds=5), await hers.reserved(ttl_seconds=600)
    client.clock.ahead += timedelta(seconds=6)
    db = Database(client.database_url)
    await db.open()
    try:
        await Jobs(db, client.teller, client.clock).reap(0)
    finally:
        await db.close()
    assert await hers.money() == ("18", "2", "0")
    assert [(await hers.read(id_))["status"] for id_ in (short, long)] == ["expired", "pending"]


async def test_a_settlement_that_comes_before_the_reaper_is_not_late(client: Api) -> None:
    hers = await host(client)
    id_ = await hers.reserved(ttl_seconds=5)
    client.clock.ahead += timedelta(seconds=6)
    reply = await hers.settle(id_, {"credits": "1"})
    assert (reply.body["late"], reply.body["balance"]) == (False, "19")


async def test_a_renewal_extends_and_never_shortens(client: Api) -> None:
    hers = await host(client)
    told = (await hers.reserve(TWO | {"ttl_seconds": 60})).body
    id_, created = told["id"], moment(told["created_at"])
    reply = await hers.renew(id_, 600)
    later = moment(reply.body["expires_at"])
    assert (reply.status, set(reply.body), reply.body["id"]) == (200, {"id", "expires_at"}, id_)
    assert timedelta(seconds=600) <= later - created < timedelta(seconds=660)
    assert moment((await hers.renew(id_, 5)).body["expires_at"]) == later
    assert moment((await hers.read(id_))["expires_at"]) == later
    assert (await hers.move(seconds=120))["reaped"] == 0
    assert (await hers.settle(id_, {"credits": "2"})).body["late"] is False


async def test_a_reservation_across_a_reset_stays_with_the_grant_that_it_was_taken_from(client: Api) -> None:
    anchor = months_after(datetime.now(UTC) + timedelta(minutes=30) + client.clock.ahead, -1)
    hers = await host(client, period_anchor=anchor.isoformat())
    settled, released = await hers.reserved({"credits": "5"}, ttl_seconds=7_200), await hers.reserved(ttl_seconds=7_200)
    parts = (await hers.read(settled))["parts"]
    await hers.move(hours=1)
    assert await hers.money() == ("20", "7", "0")  # a new allocation, the welcome bonus, and what is still held
    assert (await hers.settle(settled, {"credits": "3"})).body["balance"] == "20"
    assert (await hers.release(released)).body["balance"] == "20"
    assert (await hers.transactions())[-3:] == [("ai_consumption", "-3"), ("expiry", "-2"), ("expiry", "-2")]
    assert (await hers.read(settled))["parts"] == parts
    assert await hers.money() == ("20", "0", "0")
