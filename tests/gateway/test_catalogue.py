"""What may be asked for, told in OpenAI's shape and in Anthropic's."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

import pytest

from tests.house import House, Reply, Tenant

pytestmark = pytest.mark.asyncio(loop_scope="module")

CHATTING = [
    "gpt-4o-mini", "claude-3-5-haiku", "llama-3.1-8b", "gpt-4o", "claude-3-5-sonnet", "claude-3-opus", "gemini-pro-1.5",
    "sandbox",
]  # fmt: skip
EMBEDDING = ["text-embedding-3-small", "text-embedding-3-large"]
OURS = {"kind", "tier", "price_cents", "daily_messages", "trial_messages", "max_output_tokens"}
ANTHROPIC = {"anthropic-version": "2023-06-01"}


async def look(house: House, path: str, tenant: Tenant, **headers: str) -> Reply:
    return await house.call("GET", path, headers=tenant.headers | headers)


async def page(house: House, tenant: Tenant, **asked: Any) -> Any:
    reply = await look(house, f"/v1/models?{urlencode(asked)}", tenant, **ANTHROPIC)
    assert reply.status == 200, reply.raw
    assert set(reply.body) == {"data", "has_more", "first_id", "last_id"}
    return reply.body


async def test_openais_list_has_every_model_that_may_be_named_and_auto_last(house: House) -> None:
    reply = await look(house, "/v1/models", await house.organization(credits="0"))
    assert (reply.status, reply.body["object"]) == (200, "list")
    *models, auto = reply.body["data"]
    assert [(one["id"], one["kind"]) for one in models] == [
        *((id_, "chat") for id_ in CHATTING),
        *((id_, "embedding") for id_ in EMBEDDING),
    ]
    for one in models:
        assert set(one) == {"id", "object", "created", "owned_by", "display_name", *OURS}
        assert one["object"] == "model"
        assert isinstance(one["created"], int)
        assert (one["max_output_tokens"] is None) == (one["kind"] == "embedding")
    by_id = {one["id"]: one for one in models}
    assert (by_id["gpt-4o"]["owned_by"], by_id["gpt-4o"]["tier"], by_id["gpt-4o"]["price_cents"]) == (
        "openai", "premium", 299,
    )  # fmt: skip
    assert (auto["id"], auto["object"], auto["owned_by"], auto["kind"]) == ("auto", "model", "tollhouse", "chat")
    assert "fits the question" in auto["note"]
    assert auto["created"] == min(one["created"] for one in models)


async def test_anthropics_list_has_those_that_chat_with_theirs_beside_our_fields(house: House) -> None:
    found = await page(house, await house.organization(credits="0"))
    assert [one["id"] for one in found["data"]] == [*CHATTING, "auto"]
    assert (found["has_more"], found["first_id"], found["last_id"]) == (False, CHATTING[0], "auto")
    *models, auto = found["data"]
    assert all(set(one) == {"type", "id", "display_name", "created_at", *OURS} for one in models)
    assert {"type", "id", "display_name", "created_at", "note"} <= set(auto)
    for one in found["data"]:
        assert one["type"] == "model"
        assert datetime.fromisoformat(one["created_at"]).tzinfo is not None


async def test_anthropics_pages_go_forwards_and_backwards(house: House) -> None:
    tenant = await house.organization(credits="0")
    seen: list[str] = []
    asked: dict[str, Any] = {"limit": 4}
    while True:
        found = await page(house, tenant, **asked)
        ids = [one["id"] for one in found["data"]]
        assert (found["first_id"], found["last_id"]) == (ids[0], ids[-1])
        seen += ids
        if not found["has_more"]:
            break
        asked["after_id"] = found["last_id"]
    assert seen == [*CHATTING, "auto"]
    assert len(ids) == 1
    back = await page(house, tenant, limit=4, before_id="auto")
    assert ([one["id"] for one in back["data"]], back["has_more"]) == (CHATTING[4:], True)
    back = await page(house, tenant, limit=4, before_id=CHATTING[4])
    assert ([one["id"] for one in back["data"]], back["has_more"]) == (CHATTING[:4], False)
    none = await page(house, tenant, after_id="auto")
    assert none == {"data": [], "has_more": False, "first_id": None, "last_id": None}


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("limit=0", "1 to 1000"),
        ("limit=1001", "1 to 1000"),
        ("limit=many", "1 to 1000"),
        ("after_id=no-such", "'after_id' names no model"),
        ("after_id=text-embedding-3-small", "'after_id' names no model"),
        ("before_id=", "'before_id' names no model"),
        ("after_id=gpt-4o&before_id=gpt-4o", "not both"),
        ("page=2", "limit, after_id, before_id"),
    ],
)
async def test_nonsense_about_pages_is_refused_in_anthropics_shape(house: House, query: str, said: str) -> None:
    reply = await look(house, f"/v1/models?{query}", await house.organization(credits="0"), **ANTHROPIC)
    assert reply.status == 400
    assert (reply.body["type"], reply.body["error"]["type"]) == ("error", "invalid_request_error")
    assert said in reply.body["error"]["message"]


@pytest.mark.parametrize("headers", [{}, ANTHROPIC], ids=["openai", "anthropic"])
async def test_one_model_is_told_as_in_the_list(house: House, headers: dict[str, str]) -> None:
    tenant = await house.organization(credits="0")
    shown = (await look(house, "/v1/models", tenant, **headers)).body["data"]
    for one in shown:
        reply = await look(house, f"/v1/models/{one['id']}", tenant, **headers)
        assert (reply.status, reply.body) == (200, one)
        assert reply.headers["x-request-id"]


async def test_refusals_have_the_shape_of_the_dialect_that_is_spoken(house: House) -> None:
    tenant = await house.organization(credits="0")
    without = await house.organization(credits="0", scopes=["credits"])
    kinds = {404: "not_found_error", 401: "authentication_error", 403: "permission_error", 405: "invalid_request_error"}
    for method, path, who, status, code in [
        ("GET", "/v1/models/no-such", tenant.headers, 404, "model_not_found"),
        ("GET", "/v1/models/gemini-2.5-pro", tenant.headers, 404, "model_not_found"),  # for capabilities only
        ("GET", "/v1/models", {}, 401, "invalid_api_key"),
        ("GET", "/v1/models", without.headers, 403, "forbidden"),
        ("POST", "/v1/models", tenant.headers, 405, "invalid_request"),
    ]:
        reply = await house.call(method, path, headers=who)
        assert (reply.status, reply.error["code"]) == (status, code)
        theirs = await house.call(method, path, headers=who | ANTHROPIC)
        assert theirs.status == status
        assert theirs.body["type"] == "error"
        assert theirs.body["error"]["type"] == kinds[status]
        assert theirs.body["error"]["message"] == reply.error["message"]
        if method == "GET":
            assert theirs.headers["request-id"] == theirs.headers["x-request-id"]
    vectors = await look(house, "/v1/models/text-embedding-3-small", tenant, **ANTHROPIC)
    assert vectors.status == 404


async def test_a_deprecated_model_says_since_when_and_what_replaces_it_and_one_switched_off_is_gone(
    house: House,
) -> None:
    tenant = await house.organization(credits="0")
    moment = datetime(2026, 1, 31, 12, tzinfo=UTC)
    await house.change(
        "UPDATE model SET deprecated_at = %s, replacement_model_id = 'gpt-4o-mini' WHERE id = 'llama-3.1-8b'", moment
    )
    await house.change("UPDATE model SET enabled = false WHERE id = 'claude-3-opus'")
    try:
        for headers in ({}, ANTHROPIC):
            old = (await look(house, "/v1/models/llama-3.1-8b", tenant, **headers)).body
            assert datetime.fromisoformat(old["deprecated_at"]) == moment
            assert old["replacement"] == "gpt-4o-mini"
            shown = (await look(house, "/v1/models", tenant, **headers)).body["data"]
            assert [one["id"] for one in shown if "deprecated_at" in one] == ["llama-3.1-8b"]
            assert "claude-3-opus" not in [one["id"] for one in shown]
            assert (await look(house, "/v1/models/claude-3-opus", tenant, **headers)).status == 404
    finally:
        await house.change("UPDATE model SET deprecated_at = NULL, replacement_model_id = NULL, enabled = true")
