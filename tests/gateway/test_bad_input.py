"""What cannot be answered: OpenAI's error, a message that names the remedy, and books in which nothing has changed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.gateway.bodies import BODIES, START, nested
from tests.house import CHAT, House, Reply, Tenant, ask
from tollhouse.core.key import make_key

pytestmark = pytest.mark.asyncio(loop_scope="module")

CAP = 8 * 1024 * 1024


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def tenant(house: House) -> Tenant:
    return await house.organization()


@asynccontextmanager
async def nothing_taken(house: House) -> AsyncIterator[None]:
    """No reservation, no counter, no trace at all of what happens within."""
    before = await house.books()
    yield
    assert await house.books() == before


def assert_refused(reply: Reply, status: int, code: str, *words: str) -> None:
    assert reply.status == status, reply.raw[:500]
    assert reply.headers["content-type"] == "application/json"
    assert UUID(reply.headers["x-request-id"]).version == 7
    error = reply.error
    assert error["code"] == code
    for word in words:
        assert word in error["message"], error["message"]


async def raw(house: House, *parts: bytes) -> Reply:
    """Bytes as they are, and the answer to them."""
    reader, writer = await asyncio.open_connection(house.server.host, house.server.port)
    try:
        async with asyncio.timeout(10):
            for part in parts:
                writer.write(part)
                await writer.drain()
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            first, *lines = head.rstrip("\r\n").split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
            body = await reader.readexactly(int(headers["content-length"]))
            return Reply(int(first.split(" ")[1]), headers, body)
    finally:
        writer.close()


def head(tenant: Tenant, *lines: bytes, method: bytes = b"POST", path: bytes = CHAT.encode()) -> bytes:
    fixed = [method + b" " + path + b" HTTP/1.1", b"host: test", b"authorization: Bearer " + tenant.key.encode()]
    return b"\r\n".join([*fixed, *lines, b"", b""])


# --------------------------------------------------------------------------------------------------------------- bodies


@pytest.mark.parametrize("name", BODIES)
async def test_a_body_that_is_wrong_is_refused_with_the_remedy(house: House, tenant: Tenant, name: str) -> None:
    body, words = BODIES[name]
    async with nothing_taken(house):
        assert_refused(await house.chat(tenant, body), 400, "invalid_request", *words)


@pytest.mark.parametrize("where", ["content", "tools", "response_format", "prediction", "tool_choice", "function_call"])
async def test_json_nested_too_deeply_is_refused_at_whatever_depth_it_comes(
    house: House, tenant: Tenant, where: str
) -> None:
    async with nothing_taken(house):
        for depth in (300, 900, *range(960, 1004, 2), 5_000, 200_000):
            reply = await house.chat(tenant, nested(depth, where))
            assert_refused(reply, 400, "invalid_request", "nested too deeply", "Send plainer JSON")


async def test_json_as_deep_as_tools_really_are_is_answered(house: House, tenant: Tenant) -> None:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(20):
        schema = {"type": "object", "properties": {"inner": schema}}
    tools = [{"type": "function", "function": {"name": f"f{n}", "parameters": schema}} for n in range(20)]
    assert (await house.chat(tenant, ask("sandbox:tokens=1", tools=tools))).status == 200


async def test_a_wide_body_is_answered_or_refused_but_never_an_error_of_ours(house: House, tenant: Tenant) -> None:
    many = [{"role": "user", "content": "sandbox:tokens=1"}] * 10_000
    assert (await house.chat(tenant, {"model": "sandbox", "messages": many, "max_tokens": 1})).status == 200
    async with nothing_taken(house):
        reply = await house.chat(tenant, {"model": "sandbox", "messages": [*many, many[0]]})
        assert_refused(reply, 400, "invalid_request", "`messages`", "length <= 10000")
        wide = START + b',"metadata":{' + b",".join(b'"%d":1' % n for n in range(300_000)) + b"}}"
        assert_refused(await house.chat(tenant, wide), 400, "invalid_request", "metadata", "Correct it")


async def test_a_body_announced_above_the_cap_is_refused_before_it_is_sent(house: House, tenant: Tenant) -> None:
    async with nothing_taken(house):
        for length in (CAP + 1, 10**15):
            reply = await raw(house, head(tenant, b"content-length: %d" % length))
            assert_refused(reply, 413, "invalid_request", str(CAP), "Send a shorter one")


async def test_a_chunked_body_is_refused_as_soon_as_it_passes_the_cap(house: House, tenant: Tenant) -> None:
    part = b"%x\r\n" % (CAP // 8) + b"x" * (CAP // 8) + b"\r\n"
    async with nothing_taken(house):
        reply = await raw(house, head(tenant, b"transfer-encoding: chunked"), *[part] * 8, b"1\r\nx\r\n")
        assert_refused(reply, 413, "invalid_request", str(CAP), "Send a shorter one")


async def test_a_body_of_exactly_the_cap_is_read(house: House, tenant: Tenant) -> None:
    async with nothing_taken(house):
        reply = await house.chat(tenant, b" " * CAP)
        assert_refused(reply, 400, "invalid_request", "valid JSON")


async def test_a_client_that_leaves_before_its_request_is_complete_takes_nothing(house: House, tenant: Tenant) -> None:
    async with nothing_taken(house):
        _, writer = await asyncio.open_connection(house.server.host, house.server.port)
        writer.write(head(tenant, b"content-length: 1000") + START)
        await writer.drain()
        writer.close()
        await writer.wait_closed()
        assert (await house.call("GET", "/v1/models", headers=tenant.headers)).status == 200


# --------------------------------------------------------------------------------------------------------------- models


async def test_a_model_that_cannot_be_had_is_refused_with_what_would_help(house: House, tenant: Tenant) -> None:
    async with nothing_taken(house):
        for name in ("gpt-17", "gemini-2.5-pro", "SANDBOX", "../sandbox", "Ünïcode ☃", "auto'; drop table model"):
            reply = await house.chat(tenant, ask("hi", model=name))
            assert_refused(reply, 404, "model_not_found", "There is no model", "GET /v1/models")
            assert reply.error["metadata"]["model_id"] == name


async def test_a_model_that_is_switched_off_is_refused(house: House, tenant: Tenant) -> None:
    await house.change("UPDATE model SET enabled = false WHERE id = 'llama-3.1-8b'")
    async with nothing_taken(house):
        reply = await house.chat(tenant, ask("hi", model="llama-3.1-8b"))
        assert_refused(reply, 403, "model_disabled", "switched off", "GET /v1/models lists the others")
        shown = await house.call("GET", "/v1/models/llama-3.1-8b", headers=tenant.headers)
        assert_refused(shown, 404, "model_not_found", "GET /v1/models")


async def test_a_model_without_a_price_is_refused(house: House, tenant: Tenant) -> None:
    await house.change(
        """INSERT INTO model (id, provider_id, provider_model_id, display_name, tier, context_window, max_output_tokens)
           VALUES ('priceless', 'sandbox', 'priceless', 'Priceless', 'free', 1000, 1000)"""
    )
    async with nothing_taken(house):
        reply = await house.chat(tenant, ask("hi", model="priceless"))
        assert_refused(reply, 403, "price_unknown", "no price", "An operator can set one")


async def test_a_locked_model_is_refused_with_its_price(house: House, tenant: Tenant) -> None:
    await house.change("UPDATE model SET trial_messages = 0 WHERE id = 'claude-3-opus'")
    async with nothing_taken(house):
        reply = await house.chat(tenant, ask("hi", model="claude-3-opus"))
        assert_refused(reply, 403, "model_locked", "Unlock it for $4.99", "free model")
        assert reply.error["metadata"]["hints"] == [{"kind": "unlock", "price_cents": 499}]


async def test_a_trial_that_is_used_up_is_refused_with_the_price(house: House) -> None:
    tenant = await house.organization()
    for _ in range(2):
        assert (await house.chat(tenant, ask("sandbox:tokens=1", model="gpt-4o"))).status == 200
    async with nothing_taken(house):
        reply = await house.chat(tenant, ask("hi", model="gpt-4o"))
        assert_refused(reply, 402, "trial_expired", "All 2 trial messages", "Unlock it for $2.99")


async def test_too_few_credits_are_refused_with_what_would_help(house: House) -> None:
    tenant = await house.organization(credits="0.001")
    async with nothing_taken(house):
        reply = await house.chat(tenant, ask("hi", max_tokens=100))
        assert_refused(reply, 402, "insufficient_credits", "0.001 are left", "Top up, or lower max_tokens")
        hints = reply.error["metadata"]["hints"]
        assert [hint["kind"] for hint in hints] == ["top_up", "upgrade", "wait"]


# ----------------------------------------------------------------------------------------------------------------- keys


@pytest.mark.parametrize("path", [CHAT, "/v1/models", "/v1/models/sandbox", "/v1/key"])
async def test_no_path_answers_without_a_key_that_is_known(house: House, tenant: Tenant, path: str) -> None:
    method = "POST" if path == CHAT else "GET"
    other = "th_test_" + "0" * 30
    unknown = other + "000000"
    headers = [
        {},
        {"authorization": ""},
        {"authorization": "Bearer"},
        {"authorization": "Bearer "},
        {"authorization": f"Basic {tenant.key}"},
        {"authorization": "Bearer sk-something"},
        {"authorization": f"Bearer {tenant.key[:-1]}"},
        {"authorization": f"Bearer {tenant.key}x"},
        {"x-api-key": unknown},
        {"x-api-key": "th_test_" + "ü" * 36},
        {"authorization": "Bearer " + "x" * 20_000},
    ]
    async with nothing_taken(house):
        for sent in headers:
            reply = await house.call(method, path, data=START + b"}" if path == CHAT else None, headers=sent)
            assert_refused(reply, 401, "invalid_api_key")
            remedies = ("Send an API key", "make a new one", "th_live_ or th_test_, then 36 letters")
            assert any(remedy in reply.error["message"] for remedy in remedies), reply.error


async def test_a_key_that_nobody_made_is_refused(house: House) -> None:
    stranger = Tenant(UUID(int=7), make_key("test", bytes(range(64))))
    async with nothing_taken(house):
        for _ in range(2):
            reply = await house.chat(stranger, ask("hi"))
            assert_refused(reply, 401, "invalid_api_key", "no such API key", "make a new one")


async def test_a_key_that_was_revoked_is_refused_from_the_next_call_on(house: House) -> None:
    tenant = await house.organization()
    made = await house.key(tenant.id)
    guest = Tenant(tenant.id, made["key"])
    assert (await house.chat(guest, ask("sandbox:tokens=1"))).status == 200
    await house.order("DELETE", f"/organizations/{tenant.id}/keys/{made['id']}", None)
    async with nothing_taken(house):
        assert_refused(await house.chat(guest, ask("hi")), 401, "invalid_api_key", "revoked", "Use another one")
        shown = await house.call("GET", "/v1/key", headers=guest.headers)
        assert_refused(shown, 401, "invalid_api_key", "revoked", "Use another one")
    assert (await house.chat(tenant, ask("sandbox:tokens=1"))).status == 200


async def test_a_key_that_expired_is_refused_by_its_organisations_own_time(house: House) -> None:
    now = datetime.now(UTC)
    tenant = await house.organization(expires_at=(now + timedelta(hours=1)).isoformat())
    assert (await house.chat(tenant, ask("sandbox:tokens=1"))).status == 200
    await house.order("POST", f"/organizations/{tenant.id}/clock", {"now": (now + timedelta(hours=2)).isoformat()})
    async with nothing_taken(house):
        reply = await house.chat(tenant, ask("hi"))
        assert_refused(reply, 401, "invalid_api_key", "expired at", "Make a new one")


async def test_a_key_without_the_scope_is_refused_by_the_name_of_the_scope(house: House) -> None:
    reader = await house.organization(scopes=("credits",))
    alone = await house.organization(scopes=("gateway",))
    operator = Tenant(UUID(int=0), house.operator_key)
    async with nothing_taken(house):
        for tenant in (reader, operator):
            assert_refused(await house.chat(tenant, ask("hi")), 403, "forbidden", "'gateway'", "Use a key that has it")
        reply = await house.chat(alone, ask("hi"), X_Tollhouse_User="jo")
        assert_refused(reply, 403, "forbidden", "'act_as'", "Use a key that has it")
    assert (await house.chat(alone, ask("sandbox:tokens=1"))).status == 200


async def test_a_suspended_organisation_is_refused(house: House) -> None:
    tenant = await house.organization()
    await house.change("UPDATE organization SET suspended_at = now() WHERE id = %s", tenant.id)
    async with nothing_taken(house):
        reply = await house.chat(tenant, ask("hi"))
        assert_refused(reply, 403, "forbidden", "suspended", "operator")


# ---------------------------------------------------------------------------------------------------- paths and headers


async def test_an_unknown_path_lists_those_there_are(house: House, tenant: Tenant) -> None:
    async with nothing_taken(house):
        for path in ("/v1/", "/v1/chat", "/v1/chat/completions/", "/v1/complete", "/v1//models", "/v1/%00", "/v1/%ff"):
            reply = await house.call("POST", path, json={}, headers=tenant.headers)
            assert_refused(reply, 404, "not_found", "POST /v1/chat/completions")
        reply = await house.call("GET", "/v1/models/no/such", headers=tenant.headers)
        assert_refused(reply, 404, "model_not_found", "GET /v1/models")


async def test_a_wrong_method_is_told_which_are_right(house: House, tenant: Tenant) -> None:
    async with nothing_taken(house):
        for method in ("GET", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND", "TRACE"):
            reply = await house.call(method, CHAT, headers=tenant.headers)
            assert_refused(reply, 405, "invalid_request", method, "POST /v1/chat/completions")
            assert reply.headers["allow"] == "POST"
        for path in ("/v1/models", "/v1/key", "/v1/models/sandbox"):
            reply = await house.call("POST", path, json={}, headers=tenant.headers)
            assert_refused(reply, 405, "invalid_request", "POST is not for this path", "GET /v1/models/{id}")
            assert reply.headers["allow"] == "GET"


async def test_header_bytes_that_are_not_text_are_refused(house: House, tenant: Tenant) -> None:
    body = START + b"}"
    length = b"content-length: %d" % len(body)
    async with nothing_taken(house):
        reply = await raw(house, head(tenant, length, b"x-tollhouse-user: jo\xff"), body)
        assert_refused(reply, 400, "invalid_request", "x-tollhouse-user", "UTF-8")
        reply = await raw(house, head(tenant, length, b"x-tollhouse-capability: \xfe"), body)
        assert_refused(reply, 400, "invalid_request", "x-tollhouse-capability", "UTF-8")
        nobody = b"POST /v1/chat/completions HTTP/1.1\r\nhost: test\r\nauthorization: Bearer \xff\xfe\r\n" + length
        assert_refused(await raw(house, nobody + b"\r\n\r\n", body), 401, "invalid_api_key", "make a new one")


async def test_a_header_with_a_wrong_value_is_refused(house: House, tenant: Tenant) -> None:
    async with nothing_taken(house):
        reply = await house.chat(tenant, ask("hi"), X_Tollhouse_Capability="summary")
        assert_refused(reply, 404, "not_found", "no capability 'summary'", "question_generation")
        reply = await house.chat(tenant, ask("hi"), X_Tollhouse_Quality="fast")
        assert_refused(reply, 400, "invalid_request", "X-Tollhouse-Quality", "Name it in X-Tollhouse-Capability")
        for wish in ("", "yes", "ON"):
            reply = await house.chat(tenant, ask("hi"), X_Tollhouse_Fallback=wish)
            assert_refused(reply, 400, "invalid_request", "X-Tollhouse-Fallback", "on", "off")
        for user in ("", "u" * 201, "a\tb"):
            reply = await house.chat(tenant, ask("hi"), X_Tollhouse_User=user)
            assert_refused(reply, 400, "invalid_request", "X-Tollhouse-User", "1 to 200 printable characters")


# ------------------------------------------------------------------------------------------------------------- anything

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)
fields = st.sampled_from(
    ["model", "messages", "max_tokens", "max_completion_tokens", "stream", "stream_options", "n", "temperature", "stop",
     "seed", "logit_bias", "response_format", "tools", "tool_choice", "functions", "prediction", "metadata", "user"]
)  # fmt: skip
many = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


async def assert_never_at_fault(house: House, tenant: Tenant, body: bytes) -> None:
    """An answer, or a refusal in OpenAI's shape that has taken nothing."""
    before = await house.books()
    reply = await house.chat(tenant, body)
    if reply.status == 200:
        return
    assert 400 <= reply.status < 500, (reply.status, reply.raw)
    assert reply.error["message"]
    assert await house.books() == before


@many
@given(body=st.binary(max_size=400))
async def test_any_bytes_are_refused_and_take_nothing(house: House, tenant: Tenant, body: bytes) -> None:
    await assert_never_at_fault(house, tenant, body)


@many
@given(body=json_values)
async def test_any_json_is_refused_and_takes_nothing(house: House, tenant: Tenant, body: Any) -> None:
    await assert_never_at_fault(house, tenant, json.dumps(body).encode())


@many
@given(name=fields, value=json_values)
async def test_any_value_of_a_field_is_answered_or_refused_and_then_takes_nothing(
    house: House, tenant: Tenant, name: str, value: Any
) -> None:
    body = ask("sandbox:tokens=1 sandbox:delay=0", max_tokens=1) | {name: value}
    await assert_never_at_fault(house, tenant, json.dumps(body).encode())


@many
@given(cut=st.integers(0, 200), junk=st.binary(max_size=12), at=st.integers(0, 200))
async def test_any_damage_to_a_whole_request_is_answered_or_refused_and_then_takes_nothing(
    house: House, tenant: Tenant, cut: int, junk: bytes, at: int
) -> None:
    whole = json.dumps(ask("sandbox:tokens=1", max_tokens=1, tools=[{"type": "function"}], user="jo")).encode()
    await assert_never_at_fault(house, tenant, whole[:at] + junk + whole[at + cut :])


UNWANTED: list[tuple[str, Any]] = [
    ("response_format", {}), ("response_format", {"type": "yaml"}), ("response_format", {"type": "json_schema"}),
    ("response_format", {"type": "json_schema", "json_schema": {}}),
    ("tool_choice", []), ("tool_choice", 5), ("tool_choice", "any"), ("tool_choice", {"type": "function"}),
    ("tool_choice", "required"),
]  # fmt: skip


@pytest.mark.parametrize(("field", "value"), UNWANTED)
async def test_what_no_provider_takes_is_refused_before_anything_is_taken(
    house: House, tenant: Tenant, field: str, value: Any
) -> None:
    async with nothing_taken(house):
        reply = await house.chat(tenant, ask("hi", **{field: value}))
        assert_refused(reply, 400, "invalid_request", f"`{field}`")
        assert reply.error["param"] == field
