"""The access check: it takes nothing, and what it says is what happens."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import psycopg
import pytest
import pytest_asyncio

from tests.api.conftest import Api, Reply, serve
from tests.conftest import Cluster, SeededTemplate
from tests.house import micros

pytestmark = pytest.mark.asyncio(loop_scope="module")

CHECK, RESERVATIONS = "/api/ai/access-check", "/api/credits/reservations"
USE = {"capability": "question_generation"}
CALL = {"model": "sandbox", "input_tokens": 1_000, "max_output_tokens": 100}  # 0.065 credits
FAST_MODELS = ["gpt-4o-mini", "gemini-2.0-flash", "claude-3-5-haiku-latest"]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(cluster: Cluster, seeded_template: SeededTemplate) -> AsyncIterator[Api]:
    """One server for all; in the end its ledger must prove."""
    with cluster.database(seeded_template.name) as url:
        async for running in serve(url, seeded_template.operator_key, "test"):
            yield running
            assert await running.unproven() == []


@dataclass(frozen=True)
class Host:
    api: Api
    id: str
    key: str

    async def check(self, body: object, **headers: str) -> Reply:
        return await self.api.call("POST", CHECK, body, key=self.key, **headers)

    async def told(self, body: object, **headers: str) -> Any:
        reply = await self.check(body, **headers)
        assert reply.status == 200, reply.text
        return reply.body

    async def reserve(self, body: object, **headers: str) -> Reply:
        return await self.api.call("POST", RESERVATIONS, body, key=self.key, Idempotency_Key=str(uuid4()), **headers)

    async def limit(self, **rule: Any) -> None:
        reply = await self.api.order("POST", f"/organizations/{self.id}/limits", rule)
        assert reply.status == 201, reply.text


async def host(client: Api, plan: str = "free", *scopes: str) -> Host:
    organization_id = await client.organization(plan)
    return Host(client, organization_id, await client.key(organization_id, *(scopes or ("credits", "act_as"))))


async def books(client: Api) -> list[tuple[Any, ...]]:
    """All that an ask may write, but for what an organisation is brought to its own time by."""
    tables = ("reservation", "quota_window", "request_rate", "credit_balance", "credit_grant", "credit_transaction",
              "usage_event", "idempotency", "end_user", "notice", "audit")  # fmt: skip
    found: list[tuple[Any, ...]] = []
    async with await psycopg.AsyncConnection.connect(client.database_url) as connection:
        for table in tables:
            query = f"SELECT count(*), md5(string_agg(t::text, '|' ORDER BY t::text)) FROM {table} t"
            found += await (await connection.execute(query.encode())).fetchall()
    return found


def problem(reply: Reply) -> tuple[int, str]:
    assert reply.headers["content-type"] == "application/problem+json", reply.text
    return reply.status, reply.body["code"]


# ------------------------------------------------------------------------------------------------------------- answers


async def test_a_capability_is_told_with_levels_credits_and_limits(client: Api) -> None:
    hers = await host(client)
    assert (await hers.reserve(USE)).status == 201
    told = await hers.told(USE)
    (minute, day, tokens) = told.pop("limits")
    upgrade = {"kind": "upgrade", "price_cents": 4_900, "plan": "pro", "at": None}
    assert told == {
        "can_proceed": True,
        "reason": None,
        "message": "It may proceed.",
        "model": "gpt-4o-mini",
        "models": FAST_MODELS,
        "quality_levels": [
            {"name": "fast", "allowed": True, "estimated_credits": "1", "models": FAST_MODELS, "hint": None},
            {"name": "enhanced", "allowed": False, "estimated_credits": "2", "models": [], "hint": upgrade},
            {"name": "premium", "allowed": False, "estimated_credits": "4", "models": [],
             "hint": upgrade | {"price_cents": 14_900, "plan": "team"}},
        ],
        "credits": {"estimated": "1", "spendable": "19", "enough": True},
        "hints": [],
    }  # fmt: skip
    about = {"scope": "organization", "meter": "requests", "model": None, "capability": "question_generation"}
    assert minute == about | {"period": "minute", "limit": 5, "used": 1, "remaining": 4, "resets_at": None}
    assert day.pop("resets_at").endswith("T00:00:00Z")
    assert day == about | {"period": "day", "limit": 20, "used": 0, "remaining": 19}
    assert (tokens["meter"], tokens["period"], tokens["limit"], tokens["remaining"]) == (
        "tokens", "month", 2_000_000, 1_999_999,
    )  # fmt: skip


async def test_a_model_is_told_with_the_price_of_a_page_when_nothing_is_said(client: Api) -> None:
    hers = await host(client)
    told = await hers.told({"model": "sandbox"})
    assert (told["model"], told["models"], told["quality_levels"]) == ("sandbox", ["sandbox"], [])
    assert told["credits"] == {"estimated": "0.125", "spendable": "20", "enough": True}
    assert [(one["meter"], one["period"], one["limit"]) for one in told["limits"]] == [
        ("messages", "day", 100), ("tokens", "month", 2_000_000),
    ]  # fmt: skip
    assert (await hers.told(CALL))["credits"]["estimated"] == "0.065"
    assert (await hers.told({"model": "gpt-4o"}))["limits"][-1] == {
        "scope": "user", "meter": "trial_messages", "period": "lifetime", "limit": 2, "used": 0, "remaining": 2,
        "resets_at": None, "model": "gpt-4o", "capability": None,
    }  # fmt: skip


async def test_who_has_too_little_is_told_what_it_would_take_and_what_would_help(client: Api) -> None:
    hers = await host(client)
    assert (await hers.reserve({"credits": "19.5"})).status == 201
    told = await hers.told(USE)
    assert (told["can_proceed"], told["reason"], told["model"]) == (False, "insufficient_credits", None)
    assert told["credits"] == {"estimated": "1", "spendable": "0.5", "enough": False}
    assert "Top up" in told["message"]
    assert [hint["kind"] for hint in told["hints"]] == ["top_up", "upgrade", "wait"]
    assert told["hints"][2]["at"] == (await client.balance(hers.key))["period_end"]
    assert told["quality_levels"][0]["allowed"] is True
    assert told["quality_levels"][0]["hint"]["kind"] == "top_up"


async def test_a_level_is_told_when_it_is_asked_for(client: Api) -> None:
    hers = await host(client, "pro")
    told = await hers.told(USE | {"quality": "enhanced"})
    assert (told["can_proceed"], told["model"], told["credits"]["estimated"]) == (True, "gpt-4o", "2")
    told = await hers.told(USE | {"quality": "premium"})
    assert (told["can_proceed"], told["reason"], told["models"]) == (False, "capability_denied", [])
    assert told["hints"] == [{"kind": "upgrade", "price_cents": 14_900, "plan": "team", "at": None}]


# ------------------------------------------------------------------------------------ what it says is what happens


async def nothing(hers: Host) -> None:
    return


async def spent(hers: Host) -> None:
    assert (await hers.reserve({"credits": "19.99"})).status == 201


async def owing(hers: Host) -> None:
    reply = await hers.reserve({"credits": "1"})
    path = f"{RESERVATIONS}/{reply.body['id']}/settle"
    assert (await hers.api.call("POST", path, {"credits": "21"}, key=hers.key)).status == 200


async def five_uses(hers: Host) -> None:
    for _ in range(5):
        assert (await hers.reserve(USE)).status == 201


async def two_trials(hers: Host) -> None:
    for _ in range(2):
        assert (await hers.reserve({"model": "gpt-4o", "input_tokens": 1, "max_output_tokens": 1})).status == 201


async def no_messages(hers: Host) -> None:
    await hers.limit(scope="organization", meter="messages", period="week", maximum=0)


async def no_tokens(hers: Host) -> None:
    await hers.limit(scope="organization", meter="tokens", period="lifetime", maximum=0)


async def adas_message(hers: Host) -> None:
    await hers.limit(scope="person", subject="ada", meter="messages", period="day", maximum=1)
    assert (await hers.reserve(CALL | {"user": "ada"})).status == 201


async def overdraft(hers: Host) -> None:
    await spent(hers)
    reply = await hers.api.order("PUT", f"/organizations/{hers.id}/overdraft", {"credits": "5"})
    assert reply.status == 200


GPT = {"model": "gpt-4o", "input_tokens": 1, "max_output_tokens": 1}
SITUATIONS: list[tuple[str, Callable[[Host], Awaitable[None]], dict[str, Any], str | None]] = [
    ("free", nothing, USE, None),
    ("free", nothing, CALL, None),
    ("free", nothing, GPT, None),
    ("free", nothing, USE | {"quality": "enhanced"}, "capability_denied"),
    ("pro", nothing, USE | {"quality": "enhanced"}, None),
    ("starter", nothing, {"capability": "testimonial_polish"}, "capability_denied"),
    ("enterprise", nothing, {"capability": "testimonial_polish", "quality": "premium"}, None),
    ("free", spent, USE, "insufficient_credits"),
    ("free", spent, CALL, "insufficient_credits"),
    ("free", spent, CALL | {"input_tokens": 10, "max_output_tokens": 10}, None),
    ("free", overdraft, USE, None),
    ("free", owing, CALL | {"input_tokens": 0, "max_output_tokens": 1}, "insufficient_credits"),
    ("free", five_uses, USE, "rate_limit_exceeded"),
    ("free", five_uses, CALL, None),
    ("free", two_trials, GPT, "trial_expired"),
    ("free", two_trials, GPT | {"user": "ada"}, None),
    ("free", no_messages, CALL, "rate_limit_exceeded"),
    ("free", no_messages, USE, None),
    ("free", no_tokens, CALL, "quota_exceeded"),
    ("free", no_tokens, USE, "quota_exceeded"),
    ("free", adas_message, CALL | {"user": "ada"}, "rate_limit_exceeded"),
    ("free", adas_message, CALL | {"user": "bob"}, None),
    ("free", adas_message, CALL, None),
]


@pytest.mark.parametrize(
    ("plan", "prepare", "body", "reason"),
    SITUATIONS,
    ids=[f"{plan}-{prepare.__name__}-{'-'.join(map(str, body.values()))}" for plan, prepare, body, _ in SITUATIONS],
)
async def test_what_it_says_is_what_happens_and_asking_takes_nothing(
    client: Api, plan: str, prepare: Callable[[Host], Awaitable[None]], body: dict[str, Any], reason: str | None
) -> None:
    hers = await host(client, plan)
    await prepare(hers)
    before = await books(client)
    told = await hers.told(body)
    assert await hers.told(body) == told
    assert await books(client) == before
    done = await hers.reserve(body)
    assert (told["can_proceed"], told["reason"]) == (reason is None, reason)
    if reason is None:
        assert done.status == 201, done.text
        assert (told["model"], told["credits"]["estimated"]) == (done.body["model"], done.body["amount"])
        assert told["credits"]["enough"] and told["hints"] == []
        return
    assert (done.body["code"], done.body["detail"]) == (reason, told["message"])
    assert [{name: value for name, value in hint.items() if value is not None} for hint in told["hints"]] == (
        done.body["hints"]
    )
    if reason == "insufficient_credits":
        assert not told["credits"]["enough"]
        assert told["credits"]["spendable"] == done.body["spendable"]
        assert micros(told["credits"]["estimated"]) >= micros(done.body["required"])
    if "limit" in done.body:
        full = [one for one in told["limits"] if one["remaining"] == 0]
        assert {name: full[0][name] for name in ("scope", "meter", "period", "limit", "used")} == {
            name: done.body[name] for name in ("scope", "meter", "period", "limit", "used")
        }


# ----------------------------------------------------------------------------------------------------------- refusals


async def test_who_may_not_ask_gets_no_decision(client: Api) -> None:
    hers = await host(client, "free", "credits")
    bare = Host(client, hers.id, await client.key(hers.id, "gateway"))
    assert problem(await client.call("POST", CHECK, USE)) == (401, "invalid_api_key")
    assert problem(await bare.check(USE)) == (403, "forbidden")
    for reply in (await hers.check(USE | {"user": "ada"}), await hers.check(USE, X_Tollhouse_User="ada")):
        assert problem(reply) == (403, "forbidden")
        assert "'act_as'" in reply.body["detail"]
    keys = await client.order("GET", f"/organizations/{hers.id}/keys")
    for key in keys.body["items"]:
        await client.order("DELETE", f"/organizations/{hers.id}/keys/{key['id']}")
    for body in (USE, {"capability": "mind_reading"}, {"model": "none"}):
        assert problem(await hers.check(body)) == (401, "invalid_api_key")


async def test_the_limits_of_the_user_in_the_header_are_told(client: Api) -> None:
    hers = await host(client)
    await adas_message(hers)
    assert (await hers.told(CALL, X_Tollhouse_User="ada"))["can_proceed"] is False
    assert (await hers.told(CALL, X_Tollhouse_User="bob"))["can_proceed"] is True
    assert problem(await hers.check(CALL | {"user": "ada"}, X_Tollhouse_User="bob")) == (400, "invalid_request")


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"capability": "mind_reading"}, 404, "not_found"),
        ({"model": "none"}, 404, "model_not_found"),
        ({"assistant": "butler"}, 404, "not_found"),
        (USE | {"quality": "excellent"}, 400, "invalid_request"),
    ],
)
async def test_what_there_is_not_is_not_decided_on(client: Api, body: object, status: int, code: str) -> None:
    assert problem(await (await host(client)).check(body)) == (status, code)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, ""),
        (USE | CALL, ""),
        (USE | {"assistant": "butler"}, ""),
        (CALL | {"quality": "fast"}, ""),
        ({"credits": "1"}, "credits"),
        ({"model": 5}, "model"),
        (USE | {"user": ""}, "user"),
        (CALL | {"input_tokens": -1}, "input_tokens"),
        (CALL | {"max_output_tokens": 0}, "max_output_tokens"),
    ],
)
async def test_a_bad_question_is_refused_by_the_name_of_the_field(client: Api, body: object, field: str) -> None:
    reply = await (await host(client)).check(body)
    assert problem(reply) == (400, "invalid_request")
    assert field in [one["field"] for one in reply.body["errors"]]
