"""Whatever comes in, what goes out is a problem with a code, a request id and the remedy, and nothing of the inside."""

from __future__ import annotations

import io
import json
from collections.abc import AsyncIterator

import psycopg
import pytest

from tests.api.conftest import Api, Reply
from tests.conftest import Cluster
from tollhouse.api.problem import BODY_MAX

ORGANIZATIONS = "/api/operator/organizations"
VALID = {"name": "Mill", "plan": "free"}


def problem(reply: Reply, status: int, code: str) -> dict[str, object]:
    assert reply.status == status, reply.text
    assert reply.headers["content-type"] == "application/problem+json"
    body: dict[str, object] = reply.body
    assert (body["status"], body["code"]) == (status, code)
    assert body["type"] == f"urn:tollhouse:problem:{code}"
    assert body["title"] and body["detail"]
    assert body["request_id"] == reply.headers["x-request-id"]
    return body


def fields(reply: Reply) -> dict[str, str]:
    return {item["field"]: item["message"] for item in problem(reply, 400, "invalid_request")["errors"]}  # type: ignore[attr-defined]


async def test_a_call_without_a_key_is_told_how_to_send_one(client: Api) -> None:
    reply = await client.call("GET", "/api/credits/balance")
    assert "Authorization: Bearer" in str(problem(reply, 401, "invalid_api_key")["detail"])
    assert reply.headers["www-authenticate"].startswith("Bearer")


async def test_a_key_without_the_scope_is_told_which_it_lacks(client: Api) -> None:
    key = await client.key(await client.organization(), "act_as")
    reply = await client.call("GET", "/api/credits/balance", key=key)
    assert "'credits' or 'gateway'" in str(problem(reply, 403, "forbidden")["detail"])


async def test_the_key_may_come_as_x_api_key(client: Api) -> None:
    key = await client.key(await client.organization(), "credits")
    assert (await client.call("GET", "/api/credits/balance", x_api_key=key)).status == 200


async def test_a_request_id_is_on_every_answer_and_is_never_the_same(client: Api) -> None:
    replies = [
        await client.call("GET", path) for path in ("/openapi.json", "/openapi.json", "/nowhere", "/api/credits")
    ]
    assert len({reply.headers["x-request-id"] for reply in replies}) == len(replies)


async def test_a_path_that_is_none_is_a_problem(client: Api, subtests: pytest.Subtests) -> None:
    for path in ("/api/nowhere", "/api/operator/", "/api/credits/balance/"):
        with subtests.test(path=path):
            problem(await client.call("GET", path), 404, "not_found")


async def test_a_method_that_a_path_does_not_take_is_a_problem_that_names_those_it_takes(client: Api) -> None:
    reply = await client.call("DELETE", "/api/credits/balance", key=client.operator_key)
    assert "DELETE" in str(problem(reply, 405, "method_not_allowed")["detail"])
    assert reply.headers["allow"] == "GET"
    several = await client.call("PUT", "/api/keys", key=client.operator_key)
    assert several.headers["allow"] == "GET, POST"
    assert str(problem(several, 405, "method_not_allowed")["detail"]).endswith("it takes GET, POST.")


UNCLEAN: list[tuple[bytes, str]] = [
    (b"{", "not valid JSON"),
    (b'{"name": "Mill", "plan": "free"', "not valid JSON"),
    (b'{"name": NaN}', "not valid JSON"),
    (b'{"name": "\xff"}', "not valid JSON"),
    (b'{"name": "\xed\xa0\x80"}', "not valid JSON"),
    (b'{"name": "\\ud800"}', "not valid JSON"),
    (b'{"name": "\\udc00 and more"}', "not valid JSON"),
    (b'{"name": "\\u0000"}', "NUL"),
    (b'{"\\u0000": 1}', "NUL"),
    (b'{"name": {"deep": ["\\u0000"]}}', "NUL"),
    (b"[" * 200_000, "nested too deep"),
    (b'{"name": ' + b"9" * 10_000 + b"}", ""),
]


async def test_a_body_that_is_no_clean_json_is_refused(client: Api, subtests: pytest.Subtests) -> None:
    for body, detail in UNCLEAN:
        with subtests.test(body=body[:24]):
            reply = await client.call("POST", ORGANIZATIONS, body, key=client.operator_key)
            assert detail in str(problem(reply, 400, "invalid_request")["detail"])


async def test_text_that_only_looks_like_an_escaped_nul_is_taken_as_it_is(client: Api) -> None:
    body = b'{"name": "back\\\\u0000slash", "plan": "free"}'
    reply = await client.call("POST", ORGANIZATIONS, body, key=client.operator_key)
    assert (reply.status, reply.body["name"]) == (201, "back\\u0000slash")


async def test_a_body_of_another_media_type_is_refused_with_the_right_one(client: Api) -> None:
    reply = await client.call("POST", ORGANIZATIONS, VALID, key=client.operator_key, content_type="text/plain")
    assert "application/json" in str(problem(reply, 415, "invalid_request")["detail"])


async def test_a_missing_body_is_a_problem(client: Api) -> None:
    assert "JSON body" in str(fields(await client.call("POST", ORGANIZATIONS, key=client.operator_key)))


async def test_a_body_that_is_no_object_is_a_problem(client: Api, subtests: pytest.Subtests) -> None:
    for body in (b"[]", b"null", b'"text"', b"7"):
        with subtests.test(body=body):
            assert fields(await client.call("POST", ORGANIZATIONS, body, key=client.operator_key))


async def test_every_wrong_field_is_named_at_once(client: Api) -> None:
    body = {"plan": 7, "owner_email": "nobody", "period_anchor": "2026-01-31T12:00:00", "colour": "red"}
    found = fields(await client.order("POST", "/organizations", body))
    assert set(found) == {"name", "plan", "owner_email", "period_anchor", "colour"}
    assert found["name"] == "is required"
    assert "not known here" in found["colour"]
    assert "offset" in found["period_anchor"]
    assert "ada@example.com" in found["owner_email"]


async def test_a_refusal_of_a_rule_names_its_field_too(client: Api) -> None:
    found = fields(await client.order("POST", "/organizations", VALID | {"plan": "gold"}))
    assert "enterprise" in found["plan"]


async def test_strange_names_of_fields_do_not_break_the_answer(client: Api) -> None:
    names = {"\u202e\x1b[31m": 1, "é" * 500: 2, **{str(number): number for number in range(500)}}
    found = fields(await client.order("POST", "/organizations", VALID | names))
    assert len(found) == 50
    assert not any("\x1b" in name or len(name) > 80 for name in found)


async def test_parameters_that_a_call_does_not_take_are_refused(client: Api) -> None:
    problem(await client.order("POST", "/organizations?plan=free", VALID), 400, "invalid_request")
    reply = await client.call("GET", "/api/credits/transactions?colour=red", key=client.operator_key)
    assert reply.status == 403  # the key comes first
    key = await client.key(await client.organization(), "credits")
    assert "colour" in fields(await client.call("GET", "/api/credits/transactions?colour=red", key=key))


NO_CREDITS: list[tuple[object, str]] = [
    (5, "decimal string"),
    (0.5, "decimal string"),
    (True, "decimal string"),
    (None, "decimal string"),
    ("5.1234567", "six decimals"),
    ("1e3", "six decimals"),
    (" 5", "six decimals"),
    ("٥", "six decimals"),
    ("", "six decimals"),
    ("NaN", "six decimals"),
    ("0", "more than 0"),
    ("-5", "more than 0"),
    ("10000000001", "10000000000"),
]


async def test_credits_are_decimal_strings_above_zero(client: Api, subtests: pytest.Subtests) -> None:
    path = f"/organizations/{await client.organization()}/grants"
    for credits, message in NO_CREDITS:
        with subtests.test(credits=credits):
            body = {"source": "promo", "credits": credits, "note": "for the fair"}
            reply = await client.order("POST", path, body, Idempotency_Key="k1")
            assert message in fields(reply)["credits"]


NO_MOMENTS: list[object] = [
    "2026-01-31T12:00:00", "2026-01-31", "2026-02-30T12:00:00Z", "2026-01-31T25:00:00Z", "1700000000", 1700000000,
    "1026-01-31T12:00:00Z", "9999-12-31T23:59:59Z", "9999-12-31T23:59:59-12:00", "0001-01-01T00:00:00+14:00",
]  # fmt: skip


async def test_times_have_an_offset_and_lie_in_our_century(client: Api, subtests: pytest.Subtests) -> None:
    path = f"/organizations/{await client.organization()}/clock"
    for moment in NO_MOMENTS:
        with subtests.test(moment=moment):
            assert set(fields(await client.order("POST", path, {"now": moment}))) == {"now"}


async def test_a_body_above_a_mebibyte_is_refused_whether_it_says_so_or_not(client: Api) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(17):
            yield b" " * (BODY_MAX // 16)

    headers = {"authorization": f"Bearer {client.operator_key}", "content-type": "application/json"}
    for data in (io.BytesIO(b" " * (BODY_MAX + 1)), pieces()):
        async with client.session.post(client.url + ORGANIZATIONS, data=data, headers=headers) as response:
            assert response.status == 413
            assert (await response.json(content_type=None))["status"] == 413
            assert response.headers["x-request-id"]


async def test_a_body_of_just_a_mebibyte_is_read(client: Api) -> None:
    body = json.dumps(VALID).encode().ljust(BODY_MAX)
    assert (await client.call("POST", ORGANIZATIONS, body, key=client.operator_key)).status == 201


async def test_what_nobody_expected_tells_its_id_and_nothing_of_the_inside(broken_client: Api) -> None:
    reply = await broken_client.call("GET", "/api/credits/balance", key=broken_client.operator_key)
    body = problem(reply, 500, "internal_error")
    assert "request_id" in str(body["detail"])
    assert "hmac" not in reply.text.lower() and "TypeError" not in reply.text


async def test_a_database_that_is_away_is_a_503_with_a_time_to_try_again(client: Api, cluster: Cluster) -> None:
    name = client.database_url.partition("?")[0].rpartition("/")[2]
    key = await client.key(await client.organization(), "credits")
    with cluster.superuser() as connection:
        connection.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false'.encode())
        connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,))
        reply = await client.call("GET", "/api/credits/balance", key=key)
        connection.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true'.encode())
    problem(reply, 503, "overloaded")
    assert reply.headers["retry-after"] == "1"
    with psycopg.connect(client.database_url) as owner:
        assert owner.execute("SELECT 1").fetchone() == (1,)


async def test_the_documentation_is_complete_and_loads_nothing_from_elsewhere(client: Api) -> None:
    document = (await client.call("GET", "/openapi.json")).body
    assert "/api/operator/organizations/{organization_id}/grants" in document["paths"]
    for operations in document["paths"].values():
        for operation in operations.values():
            assert operation["summary"]
            assert list(operation["responses"]["default"]["content"]) == ["application/problem+json"]
            assert "422" not in operation["responses"]
    for path in ("/docs", "/redoc"):
        problem(await client.call("GET", path), 404, "not_found")
