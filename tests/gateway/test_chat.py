"""Calls as customers make them: with the official SDK, and with nothing but HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any
from uuid import UUID

import openai
import pytest
from openai import AsyncOpenAI

from tests.house import CHAT, House, Tenant, ask, charge, chunks, credits, events, micros, text_of

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.usefixtures("proved")]

HELLO: Any = [{"role": "user", "content": "Hello there, sandbox:tokens=12 sandbox:delay=0"}]


@asynccontextmanager
async def sdk(house: House, tenant: Tenant) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=house.server.url + "/v1", api_key=tenant.key, max_retries=0) as client:
        yield client


# ---------------------------------------------------------------------------------------------------- the SDK, answered


async def test_a_plain_call_costs_exactly_what_its_usage_says(house: House) -> None:
    tenant = await house.organization()
    before = await house.balance(tenant)
    async with sdk(house, tenant) as client:
        answer = await client.chat.completions.create(model="sandbox", messages=HELLO)
    assert answer.choices[0].message.content is not None
    assert answer.choices[0].message.content.startswith("[sandbox]")
    assert answer.usage is not None and answer.usage.model_extra is not None
    assert answer.usage.completion_tokens == 12
    cost = micros(answer.usage.model_extra["credits"])
    assert cost == charge("sandbox", answer.usage.prompt_tokens, 12) == before - await house.balance(tenant)
    assert Decimal(answer.usage.model_extra["cost_usd"]) * 100 == Decimal(cost) / 1_000_000  # 100 credits a dollar


async def test_a_stream_with_usage_costs_exactly_what_its_last_chunk_says(house: House) -> None:
    tenant = await house.organization()
    before = await house.balance(tenant)
    async with sdk(house, tenant) as client:
        stream = await client.chat.completions.create(
            model="sandbox", messages=HELLO, stream=True, stream_options={"include_usage": True}
        )
        got = [chunk async for chunk in stream]
    *pieces, last = got
    assert all(chunk.choices and chunk.usage is None for chunk in pieces)
    assert last.choices == [] and last.usage is not None and last.usage.model_extra is not None
    assert last.id == pieces[0].id and last.model == pieces[0].model
    assert sum(1 for chunk in pieces if chunk.choices[0].delta.content) == last.usage.completion_tokens == 12
    assert last.usage.total_tokens == last.usage.prompt_tokens + 12
    cost = micros(last.usage.model_extra["credits"])
    assert cost == charge("sandbox", last.usage.prompt_tokens, 12) == before - await house.balance(tenant)


async def test_a_stream_without_usage_is_charged_all_the_same(house: House) -> None:
    tenant = await house.organization()
    before = await house.balance(tenant)
    async with sdk(house, tenant) as client:
        stream = await client.chat.completions.create(model="sandbox", messages=HELLO, stream=True)
        got = [chunk async for chunk in stream]
    assert all(chunk.choices and chunk.usage is None for chunk in got)
    assert got[-1].choices[0].finish_reason == "stop"
    ((tokens_in, tokens_out, estimated, cost),) = await house.usage(tenant)
    assert (tokens_out, estimated) == (12, False)
    assert cost == charge("sandbox", tokens_in, 12) == before - await house.balance(tenant)


async def test_streamed_and_plain_answers_say_the_same(house: House) -> None:
    tenant = await house.organization()
    plain = await house.chat(tenant, ask("Tell me. sandbox:delay=0"))
    stream = await house.chat(tenant, ask("Tell me. sandbox:delay=0", stream=True))
    assert text_of(stream.raw) == plain.body["choices"][0]["message"]["content"]
    assert events(stream.raw)[-1] == b"[DONE]"
    assert stream.headers["content-type"] == "text/event-stream; charset=utf-8"


@pytest.mark.parametrize("stream", [False, True])
async def test_several_answers_of_one_call_are_all_counted_and_charged(house: House, stream: bool) -> None:
    tenant = await house.organization()
    body = ask("sandbox:tokens=7 sandbox:delay=0", n=2, max_tokens=50)
    if stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    reply = await house.chat(tenant, body)
    usage = chunks(reply.raw)[-1]["usage"] if stream else reply.body["usage"]
    assert usage["completion_tokens"] == 14
    assert micros(reply.headers["x-credits-reserved"]) == charge("sandbox", usage["prompt_tokens"], 100)
    assert micros(usage["credits"]) == charge("sandbox", usage["prompt_tokens"], 14)
    finished = chunks(reply.raw)[:-1] if stream else [reply.body]
    assert {choice["index"] for part in finished for choice in part["choices"] if choice["finish_reason"]} == {0, 1}


async def test_the_callers_maximum_ends_the_answer_and_bounds_the_reservation(house: House) -> None:
    tenant = await house.organization()
    for field in ("max_tokens", "max_completion_tokens"):
        reply = await house.chat(tenant, ask("sandbox:tokens=500") | {field: 9})
        assert reply.body["choices"][0]["finish_reason"] == "length"
        assert reply.body["usage"]["completion_tokens"] == 9
        assert reply.headers["x-credits-reserved"] == reply.headers["x-credits-used"]


async def test_without_a_maximum_the_plans_counts(house: House) -> None:
    tenant = await house.organization(plan="free")
    reply = await house.chat(tenant, ask("sandbox:tokens=5000"))
    assert reply.body["usage"]["completion_tokens"] == 1024


async def test_the_models_that_are_listed_are_those_that_can_be_asked_for(house: House) -> None:
    tenant = await house.organization()
    async with sdk(house, tenant) as client:
        listed = {model.id: model async for model in client.models.list()}
        for id_, model in listed.items():
            assert await client.models.retrieve(id_) == model
        assert {"sandbox", "gpt-4o-mini", "gpt-4o"} <= set(listed)
        assert listed["sandbox"].owned_by == "sandbox"
        with pytest.raises(openai.NotFoundError):
            await client.models.retrieve("gemini-2.5-pro")  # only through a capability
        with pytest.raises(openai.NotFoundError):
            await client.chat.completions.create(model="gemini-2.5-pro", messages=HELLO)


# ----------------------------------------------------------------------------------------------------- the SDK, refused


async def refusal(house: House, tenant: Tenant, **changes: Any) -> openai.APIStatusError:
    async with sdk(house, tenant) as client:
        with pytest.raises(openai.APIStatusError) as caught:
            await client.chat.completions.create(**{"model": "sandbox", "messages": HELLO, **changes})
    return caught.value


async def test_the_sdk_raises_its_own_class_for_each_refusal(house: House) -> None:
    tenant = await house.organization()
    stranger = Tenant(tenant.id, "th_test_" + "x" * 36)
    assert isinstance(await refusal(house, stranger), openai.AuthenticationError)
    assert isinstance(await refusal(house, tenant, temperature="hot"), openai.BadRequestError)
    missing = await refusal(house, tenant, model="gpt-17")
    assert isinstance(missing, openai.NotFoundError)
    assert missing.code == "model_not_found"
    reader = await house.organization(scopes=("credits",))
    assert isinstance(await refusal(house, reader), openai.PermissionDeniedError)
    poor = await house.organization(credits="0")
    broke = await refusal(house, poor)
    assert (broke.status_code, broke.type, broke.code) == (402, "insufficient_quota", "insufficient_credits")
    failing: Any = [{"role": "user", "content": "sandbox:fault=status:503"}]
    assert isinstance(await refusal(house, tenant, messages=failing), openai.InternalServerError)


async def test_a_daily_limit_is_a_rate_limit_error_that_is_not_tried_again(house: House) -> None:
    await house.change(
        """INSERT INTO plan (id, name, rank, monthly_credits_micros, daily_messages, max_output_tokens,
               charged_channels)
           VALUES ('two-a-day', 'Two a day', 2, 0, 2, 1024, '{api}')"""
    )
    tenant = await house.organization(plan="two-a-day")
    for left in ("1", "0"):
        reply = await house.chat(tenant, ask("sandbox:tokens=1"))
        assert reply.headers["x-ratelimit-limit-requests"] == "2"
        assert reply.headers["x-ratelimit-remaining-requests"] == left
        assert 0 <= int(reply.headers["x-ratelimit-reset-requests"].removesuffix("s")) <= 86_400
    before = await house.books()
    async with AsyncOpenAI(base_url=house.server.url + "/v1", api_key=tenant.key, max_retries=5) as patient:
        with pytest.raises(openai.RateLimitError) as caught:
            await patient.chat.completions.create(model="sandbox", messages=HELLO)
    error = caught.value
    assert error.code == "rate_limit_exceeded"
    assert error.response.headers["x-should-retry"] == "false" and "retry-after" not in error.response.headers
    assert isinstance(error.body, dict)
    assert error.body["metadata"]["remaining"] == 0 and error.body["metadata"]["resets_at"]
    assert await house.books() == before


async def test_an_error_in_the_middle_of_a_stream_reaches_the_sdk_as_one(house: House) -> None:
    tenant = await house.organization()
    async with sdk(house, tenant) as client:
        messages: Any = [{"role": "user", "content": "sandbox:fault=error:5 sandbox:delay=0"}]
        stream = await client.chat.completions.create(model="sandbox", messages=messages, stream=True)
        with pytest.raises(openai.APIError) as caught:
            async for _ in stream:
                pass
    assert caught.value.code == "provider_broke"


# ------------------------------------------------------------------------------------------------------- over bare HTTP


@pytest.mark.parametrize("carrier", ["x-api-key", "authorization"])
async def test_both_carriers_of_a_key_are_one(house: House, carrier: str) -> None:
    tenant = await house.organization()
    value = tenant.key if carrier == "x-api-key" else f"bearer {tenant.key}"
    reply = await house.call("POST", CHAT, json=ask("sandbox:tokens=3"), headers={carrier: value})
    assert reply.status == 200
    assert len(await house.usage(tenant)) == 1


async def test_the_headers_of_an_answer_say_what_was_taken_and_what_is_left(house: House) -> None:
    tenant = await house.organization(credits="2")
    body = ask("sandbox:tokens=20", max_tokens=100)
    reply = await house.chat(tenant, body)
    used, reserved = micros(reply.headers["x-credits-used"]), micros(reply.headers["x-credits-reserved"])
    assert used == micros(reply.body["usage"]["credits"])
    assert reserved - used == charge("sandbox", 0, 80)
    assert micros(reply.headers["x-balance-remaining"]) == 2_000_000 - used == await house.balance(tenant)
    assert reply.headers["x-tollhouse-model"] == reply.headers["x-tollhouse-provider"] == "sandbox"
    ((state, model),) = await house.rows(
        "SELECT state, model_id FROM request WHERE id = %s", UUID(reply.headers["x-request-id"])
    )
    assert (state, model) == ("done", "sandbox")


async def test_the_headers_of_a_stream_say_what_was_reserved(house: House) -> None:
    tenant = await house.organization(credits="2")
    reply = await house.chat(tenant, ask("sandbox:tokens=2", max_tokens=10, stream=True))
    assert "x-credits-used" not in reply.headers
    reserved = micros(reply.headers["x-credits-reserved"])
    assert micros(reply.headers["x-balance-remaining"]) == 2_000_000 - reserved
    assert reply.headers["cache-control"] == "no-cache"
    assert UUID(reply.headers["x-request-id"]).version == 7


async def test_usage_is_sent_only_to_those_who_asked_for_it(house: House) -> None:
    tenant = await house.organization()
    for options in ({}, {"stream_options": None}, {"stream_options": {"include_usage": False}}):
        reply = await house.chat(tenant, ask("sandbox:tokens=2 sandbox:delay=0", stream=True, **options))
        assert all(chunk["choices"] and not chunk.get("usage") for chunk in chunks(reply.raw))
    asked = ask("sandbox:tokens=2 sandbox:delay=0", stream=True, stream_options={"include_usage": True})
    *pieces, last = chunks((await house.chat(tenant, asked)).raw)
    assert all(chunk["choices"] for chunk in pieces)
    assert last["choices"] == [] and last["usage"]["completion_tokens"] == 2


async def test_in_test_mode_a_model_that_nobody_connected_is_answered_by_the_sandbox_and_says_so(house: House) -> None:
    tenant = await house.organization()
    reply = await house.chat(tenant, ask("sandbox:tokens=4", model="gpt-4o-mini"))
    assert reply.headers["x-tollhouse-provider"] == "sandbox"
    assert reply.headers["x-tollhouse-model"] == "gpt-4o-mini"
    assert reply.body["choices"][0]["message"]["content"].startswith("[sandbox]")
    assert micros(reply.headers["x-credits-used"]) == charge("gpt-4o-mini", reply.body["usage"]["prompt_tokens"], 4)


async def test_the_messages_of_a_trial_are_counted_down(house: House) -> None:
    tenant = await house.organization()
    for left in ("1", "0"):
        reply = await house.chat(tenant, ask("sandbox:tokens=1", model="gpt-4o"))
        assert (reply.status, reply.headers["x-trial-remaining"]) == (200, left)
    error = (await house.chat(tenant, ask("sandbox:tokens=1", model="gpt-4o"))).error
    assert (error["code"], error["metadata"]["price_cents"]) == ("trial_expired", 299)
    order = {"organization_id": str(tenant.id), "model_id": "gpt-4o", "source": "admin_grant", "note": "a gift"}
    await house.order("POST", "/entitlements", order)
    reply = await house.chat(tenant, ask("sandbox:tokens=1", model="gpt-4o"))
    assert reply.status == 200 and "x-trial-remaining" not in reply.headers


async def test_end_users_of_a_host_application_have_limits_of_their_own(house: House) -> None:
    tenant = await house.organization()
    for user in ("jo", "jo", "kim"):
        reply = await house.chat(tenant, ask("sandbox:tokens=1", model="gpt-4o"), X_Tollhouse_User=user)
        assert reply.status == 200
    assert (await house.chat(tenant, ask("hi", model="gpt-4o"), X_Tollhouse_User="jo")).status == 402
    assert (await house.chat(tenant, ask("sandbox:tokens=1", model="gpt-4o"), X_Tollhouse_User="kim")).status == 200
    users = await house.rows("SELECT external_id FROM end_user WHERE organization_id = %s ORDER BY 1", tenant.id)
    assert users == [("jo",), ("kim",)]


async def test_a_key_shows_what_it_may_do_and_what_is_left(house: House) -> None:
    tenant = await house.organization(plan="free", credits="5")
    before = await house.balance(tenant)
    await house.chat(tenant, ask("sandbox:tokens=10"))
    key = await house.call("GET", "/v1/key", headers=tenant.headers)
    assert key.status == 200
    shown = key.body
    assert (shown["object"], shown["organization_id"], shown["plan"]) == ("key", str(tenant.id), "free")
    assert tenant.key.startswith(shown["start"]) and tenant.key not in key.raw.decode()
    ((tokens_in, tokens_out, _, cost),) = await house.usage(tenant)
    assert micros(shown["credits"]["available"]) == before - cost == await house.balance(tenant)
    limits = {limit["meter"]: limit for limit in shown["limits"]}
    assert (limits["messages"]["limit"], limits["messages"]["used"], limits["messages"]["remaining"]) == (100, 1, 99)
    assert limits["tokens"]["used"] == tokens_in + tokens_out


async def test_a_change_of_the_catalogue_counts_from_the_next_call_on(house: House) -> None:
    tenant = await house.organization()
    assert (await house.chat(tenant, ask("sandbox:tokens=1", model="llama-3.1-8b"))).status == 200
    await house.change("UPDATE model SET enabled = false WHERE id = 'llama-3.1-8b'")
    try:
        refused = await house.chat(tenant, ask("hi", model="llama-3.1-8b"))
        assert (refused.status, refused.error["code"]) == (403, "model_disabled")
    finally:
        await house.change("UPDATE model SET enabled = true WHERE id = 'llama-3.1-8b'")
    assert (await house.chat(tenant, ask("sandbox:tokens=1", model="llama-3.1-8b"))).status == 200


async def test_an_answer_is_clamped_to_what_the_balance_can_pay(house: House) -> None:
    first = await house.organization()
    tokens_in = (await house.chat(first, ask("sandbox:tokens=9000"))).body["usage"]["prompt_tokens"]
    tenant = await house.organization(credits=credits(charge("sandbox", tokens_in, 300)))
    reply = await house.chat(tenant, ask("sandbox:tokens=9000"))
    assert reply.body["usage"]["completion_tokens"] == 300
    assert await house.balance(tenant) == 0
