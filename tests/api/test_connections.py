"""Connections to providers as operators and organisations make, change, test and delete them: no answer, audit row or
other address ever gets a key."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
import pytest_asyncio

from tests.api.conftest import Api, Reply
from tests.api.connecting import audited, http, rows, serving
from tests.conftest import TEST_SECRET, Cluster, SeededTemplate
from tests.fake_provider import FakeProvider
from tollhouse.core.connection import OF_AN_ORGANIZATION_MAX
from tollhouse.core.vault import Keyring, association
from tollhouse.flows.connection import Policy

pytestmark = pytest.mark.asyncio(loop_scope="module")

KEYRING = Keyring(TEST_SECRET)
KEY, OTHER_KEY = "sk-her-own-0123456789-tail", "sk-another-9876543210-last"
PLATFORM = "00000000-0000-0000-0000-000000000000"
OPENAI = {"provider": "openai", "key": KEY}
METADATA = "http://169.254.169.254/latest"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(cluster: Cluster, seeded_template: SeededTemplate) -> AsyncIterator[Api]:
    """An installation in test mode, as it comes."""
    with cluster.database(seeded_template.name) as url:
        async with serving(url, seeded_template.operator_key, Policy(KEYRING, "test")) as running:
            yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def open_client(cluster: Cluster, seeded_template: SeededTemplate) -> AsyncIterator[Api]:
    """One whose operator allows private addresses to everybody."""
    with cluster.database(seeded_template.name) as url:
        async with serving(url, seeded_template.operator_key, Policy(KEYRING, "live", allow_private=True)) as running:
            yield running


@pytest_asyncio.fixture(loop_scope="module")
async def provider() -> AsyncIterator[FakeProvider]:
    async with FakeProvider() as running:
        yield running


class Side:
    """The calls of one side: the operator's for the platform, or an organisation's own."""

    def __init__(self, client: Api, organization_id: str, key: str, path: str) -> None:
        self.client, self.organization_id, self.key, self.path = client, organization_id, key, path

    async def call(self, method: str, path: str = "", body: object = None) -> Reply:
        return await self.client.call(method, self.path + path, body, key=self.key)

    async def made(self, **changes: Any) -> Any:
        reply = await self.call("POST", "", OPENAI | changes)
        assert reply.status == 201, reply.text
        return reply.body

    async def listed(self) -> list[Any]:
        reply = await self.call("GET")
        assert reply.status == 200, reply.text
        items: list[Any] = reply.body["items"]
        return items


async def organization(client: Api, *scopes: str) -> Side:
    id_ = await client.organization("pro")
    return Side(client, id_, await client.key(id_, *(scopes or ("manage",))), "/api/connections")


async def operator(client: Api) -> Side:
    return Side(client, PLATFORM, client.operator_key, "/api/operator/connections")


sides = pytest.mark.parametrize("side", [organization, operator], ids=["organization", "operator"])


async def stored_key(client: Api, connection_id: str) -> str | None:
    """The key of a connection, opened as the gateway opens it."""
    ((owner, provider_id, sealed),) = await rows(
        client, "SELECT organization_id, provider_id, key_ciphertext FROM connection WHERE id = %s", connection_id
    )
    return sealed and KEYRING.open(sealed, association(owner, provider_id))


def refused(reply: Reply) -> tuple[int, str, list[str]]:
    assert reply.headers["content-type"] == "application/problem+json", reply.text
    return reply.status, reply.body["code"], [one["field"] for one in reply.body["errors"]]


# ------------------------------------------------------------------------------------------------- make, change, delete


@sides
async def test_a_connection_is_made_told_changed_and_deleted(client: Api, side: Any) -> None:
    hers = await side(client)
    others = await hers.listed()
    made = await hers.made(name="  Ours ")
    assert abs(datetime.fromisoformat(made["created_at"]) - datetime.now(UTC)) < timedelta(minutes=1)
    assert made == {
        "id": made["id"], "provider": "openai", "protocol": "openai", "name": "Ours",
        "base_url": "https://api.openai.com/v1", "has_key": True, "key_hint": "tail", "enabled": True, "priority": 0,
        "origin": "operator" if hers.organization_id == PLATFORM else "organization",
        "created_at": made["created_at"], "updated_at": None, "health": None,
    }  # fmt: skip
    assert [one for one in await hers.listed() if one not in others] == [made]
    changed = await hers.call("PATCH", f"/{made['id']}", {"name": "Theirs", "enabled": False, "priority": -5})
    assert changed.status == 200, changed.text
    expected = made | {"name": "Theirs", "enabled": False, "priority": -5, "updated_at": changed.body["updated_at"]}
    assert changed.body == expected
    assert changed.body["updated_at"] is not None
    assert [one for one in await hers.listed() if one not in others] == [expected]
    assert await stored_key(client, made["id"]) == KEY
    deleted = await hers.call("DELETE", f"/{made['id']}")
    assert (deleted.status, deleted.text) == (204, "")
    assert await hers.listed() == others
    for method, path, body in (("DELETE", "", None), ("PATCH", "", {"name": "x"}), ("POST", "/test", None)):
        assert refused(await hers.call(method, f"/{made['id']}{path}", body)) == (404, "not_found", [])


@sides
async def test_a_key_is_stored_sealed_and_stands_in_no_answer_and_no_audit_row(client: Api, side: Any) -> None:
    hers = await side(client)
    replies = [await hers.call("POST", "", OPENAI)]
    id_ = replies[0].body["id"]
    replies += [
        await hers.call("PATCH", f"/{id_}", {"key": OTHER_KEY}),
        await hers.call("GET"),
        await hers.call("PATCH", f"/{id_}", {"key": KEY + "\n"}),
        await hers.call("PATCH", f"/{id_}", {"base_url": "https://elsewhere.example/v1"}),
    ]
    assert await stored_key(client, id_) == OTHER_KEY
    told = [reply.text for reply in replies]
    ((kept,),) = await rows(client, "SELECT c::text FROM connection c WHERE id = %s", id_)
    trail = json.dumps(await audited(client, hers.organization_id))
    for secret in (KEY, OTHER_KEY):
        assert not any(secret in text for text in (*told, kept, trail))
        assert secret[-4:] not in trail
        assert secret.encode().hex() not in kept


@sides
async def test_every_call_is_in_the_audit_log_with_who_made_it(client: Api, side: Any) -> None:
    hers = await side(client)
    if side is operator:
        await hers.listed()  # an operator's look leaves a trace, an organisation's at its own does not
    before = len(await audited(client, hers.organization_id))
    made = await hers.made(name="first")
    await hers.listed()
    await hers.call("PATCH", f"/{made['id']}", {"key": None, "priority": 3})
    await hers.call("DELETE", f"/{made['id']}")
    trail = (await audited(client, hers.organization_id))[before:]
    about = {"provider": "openai", "name": "first", "base_url": made["base_url"], "enabled": True}
    expected = [
        ("connection.created", made["id"], about | {"has_key": True, "priority": 0}),
        ("connection.changed", made["id"], about | {"has_key": False, "priority": 3, "key_changed": True}),
        ("connection.deleted", made["id"], about | {"has_key": False, "priority": 3}),
    ]
    if side is operator:
        expected.insert(1, ("connection.read", PLATFORM, {}))
    assert [row[1:] for row in trail] == expected
    assert len({row[0] for row in trail}) == 1
    assert trail[0][0].startswith("key:")


async def test_a_connection_without_a_key_has_none_and_needs_none(client: Api) -> None:
    hers = await organization(client)
    made = await hers.made(key=None, provider="vllm", base_url="https://models.example:8443/v1/")
    assert (made["base_url"], made["has_key"], made["key_hint"]) == ("https://models.example:8443/v1", False, None)
    moved = await hers.call("PATCH", f"/{made['id']}", {"base_url": "https://elsewhere.example/v1"})
    assert (moved.status, moved.body["base_url"]) == (200, "https://elsewhere.example/v1")
    keyed = await hers.call("PATCH", f"/{made['id']}", {"key": KEY})
    assert (keyed.body["has_key"], keyed.body["key_hint"]) == (True, "tail")
    bare = await hers.call("PATCH", f"/{made['id']}", {"key": None})
    assert (bare.body["has_key"], bare.body["key_hint"]) == (False, None)
    assert await stored_key(client, made["id"]) is None


async def test_a_key_goes_to_no_other_address_than_it_was_entered_for(client: Api) -> None:
    hers = await organization(client)
    made = await hers.made()
    elsewhere = {"base_url": "https://elsewhere.example/v1"}
    assert refused(await hers.call("PATCH", f"/{made['id']}", elsewhere)) == (400, "invalid_request", ["key"])
    assert await hers.listed() == [made]
    same = await hers.call("PATCH", f"/{made['id']}", {"base_url": made["base_url"] + "/", "name": "same"})
    assert (same.status, same.body["base_url"]) == (200, made["base_url"])
    moved = await hers.call("PATCH", f"/{made['id']}", elsewhere | {"key": OTHER_KEY})
    assert (moved.status, moved.body["base_url"], moved.body["key_hint"]) == (200, elsewhere["base_url"], "last")
    assert await stored_key(client, made["id"]) == OTHER_KEY
    bare = await hers.call("PATCH", f"/{made['id']}", {"base_url": "https://third.example", "key": None})
    assert (bare.status, bare.body["has_key"]) == (200, False)


async def test_a_change_that_changes_nothing_leaves_the_catalogue_as_it_is(client: Api) -> None:
    hers = await organization(client)
    made = await hers.made(name="Ours")
    version = "SELECT version FROM catalogue_version"
    before = await rows(client, version)
    for body in ({}, {"name": "Ours"}, {"enabled": True, "priority": 0, "base_url": made["base_url"]}):
        reply = await hers.call("PATCH", f"/{made['id']}", body)
        assert (reply.status, reply.body) == (200, made)
    assert await rows(client, version) == before
    await hers.call("PATCH", f"/{made['id']}", {"priority": 1})
    assert await rows(client, version) > before


async def test_they_are_told_in_the_order_in_which_they_are_asked(client: Api) -> None:
    hers = await organization(client)
    ids = [
        (await hers.made(provider=name, priority=priority))["id"]
        for name, priority in (("openai", 7), ("together", 0), ("openai", -1), ("anthropic", 9), ("openai", 2))
    ]
    assert [one["id"] for one in await hers.listed()] == [ids[3], ids[2], ids[4], ids[0], ids[1]]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"provider": "nobody"}, "provider"),
        ({"provider": "sandbox"}, "provider"),
        ({"provider": "vllm"}, "base_url"),
        ({"base_url": "not an address"}, "base_url"),
        ({"base_url": "https://user:word@host.example/v1"}, "base_url"),
        ({"base_url": "https://host.example/v1?key=1"}, "base_url"),
        ({"base_url": ""}, "base_url"),
        ({"base_url": "https://host.example/" + "x" * 2000}, "base_url"),
        ({"key": ""}, "key"),
        ({"key": "sk 1"}, "key"),
        ({"key": "sk-1\r\nx-evil: 1"}, "key"),
        ({"key": "sk-ключ"}, "key"),
        ({"key": "k" * 1001}, "key"),
        ({"name": "n" * 201}, "name"),
        ({"priority": 1001}, "priority"),
        ({"priority": "1"}, "priority"),
        ({"enabled": "yes"}, "enabled"),
        ({"protocol": "openai"}, "protocol"),
        ({"origin": "operator"}, "origin"),
    ],
)
async def test_what_cannot_be_connected_is_refused_by_its_field_and_not_tried(
    client: Api, change: dict[str, Any], field: str
) -> None:
    hers = await organization(client)
    for path in ("", "/test"):
        assert refused(await hers.call("POST", path, OPENAI | change)) == (400, "invalid_request", [field])
    assert await hers.listed() == []
    assert await audited(client, hers.organization_id) == []


async def test_a_change_is_refused_like_a_new_one_and_then_nothing_is_changed(client: Api) -> None:
    hers = await organization(client)
    made = await hers.made()
    for body, field in (
        ({"base_url": METADATA, "key": KEY}, "base_url"),
        ({"base_url": "http://10.0.0.7/v1", "key": KEY}, "base_url"),
        ({"base_url": None}, "base_url"),
        ({"name": None}, "name"),
        ({"enabled": None}, "enabled"),
        ({"key": ""}, "key"),
        ({"provider": "together"}, "provider"),
    ):
        assert refused(await hers.call("PATCH", f"/{made['id']}", body)) == (400, "invalid_request", [field])
    assert await hers.listed() == [made]


async def test_an_organisation_has_twenty_connections_at_most_also_when_all_come_at_once(client: Api) -> None:
    hers = await organization(client)
    replies = await asyncio.gather(*(hers.call("POST", "", OPENAI) for _ in range(OF_AN_ORGANIZATION_MAX + 3)))
    assert sorted(reply.status for reply in replies) == [201] * OF_AN_ORGANIZATION_MAX + [409] * 3
    listed = await hers.listed()
    assert len(listed) == OF_AN_ORGANIZATION_MAX == 20
    await hers.call("DELETE", f"/{listed[0]['id']}")
    await hers.made()


# ----------------------------------------------------------------------------------------------------------- who may


async def test_another_organisations_connection_is_like_one_that_never_was(client: Api) -> None:
    hers, his = await organization(client), await organization(client)
    made = await hers.made()
    for method, path, body in (("PATCH", "", {"name": "mine"}), ("DELETE", "", None), ("POST", "/test", None)):
        theirs = await his.call(method, f"/{made['id']}{path}", body)
        nobodys = await his.call(method, f"/{uuid4()}{path}", body)
        assert refused(theirs) == refused(nobodys) == (404, "not_found", [])
        assert theirs.body["detail"] == nobodys.body["detail"]
        assert refused(await his.call(method, f"/17{path}", body)) == (404, "not_found", [])
        assert refused(await (await operator(client)).call(method, f"/{made['id']}{path}", body))[0] == 404
    assert await his.listed() == []
    assert await hers.listed() == [made]


async def test_each_call_needs_its_scope_testing_as_well_as_saving(client: Api) -> None:
    hers = await organization(client)
    id_ = (await hers.made())["id"]
    weak = await client.key(hers.organization_id, "gateway", "credits", "act_as")
    calls = (("GET", "", None), ("POST", "", OPENAI), ("POST", "/test", OPENAI), ("PATCH", f"/{id_}", {"name": "x"}),
             ("POST", f"/{id_}/test", None), ("DELETE", f"/{id_}", None))  # fmt: skip
    before = await audited(client, hers.organization_id), await audited(client, PLATFORM)
    for method, path, body in calls:
        for of_operator, key, status in (
            (False, weak, 403), (False, None, 401), (False, client.operator_key, 403), (True, weak, 403),
            (True, hers.key, 403), (True, None, 401),
        ):  # fmt: skip
            prefix = "/api/operator/connections" if of_operator else "/api/connections"
            reply = await client.call(method, prefix + path, body, key=key)
            assert reply.status == status, (method, path, of_operator, reply.text)
    assert (await audited(client, hers.organization_id), await audited(client, PLATFORM)) == before


async def test_a_key_of_the_platform_that_manages_is_sent_to_the_operators_calls(client: Api) -> None:
    key = await client.key(PLATFORM, "manage")
    reply = await client.call("POST", "/api/connections", OPENAI, key=key)
    assert refused(reply) == (403, "forbidden", [])
    assert "/api/operator/connections" in reply.body["detail"]


async def test_what_the_environment_brings_takes_a_name_and_a_priority_and_nothing_else(client: Api) -> None:
    id_ = str(uuid4())
    async with await psycopg.AsyncConnection.connect(client.database_url) as connection:
        await connection.execute(
            """INSERT INTO connection (organization_id, id, provider_id, base_url, key_ciphertext, origin, created_at)
               VALUES (%s, %s, 'together', 'https://api.together.xyz/v1', '\\x01', 'environment', now())""",
            (UUID(PLATFORM), id_),
        )
    hers = await operator(client)
    for body in ({"key": KEY}, {"enabled": False}, {"base_url": "https://a.example", "key": KEY}):
        reply = await hers.call("PATCH", f"/{id_}", body)
        assert refused(reply) == (409, "conflict", [])
        assert "TOGETHER_API_KEY" in reply.body["detail"]
    assert refused(await hers.call("DELETE", f"/{id_}")) == (409, "conflict", [])
    named = await hers.call("PATCH", f"/{id_}", {"name": "from the start", "priority": 8})
    assert (named.status, named.body["name"], named.body["priority"]) == (200, "from the start", 8)
    assert (named.body["origin"], named.body["has_key"], named.body["key_hint"]) == ("environment", True, None)


# ---------------------------------------------------------------------------------------------------------- addresses

PRIVATE = ("http://127.0.0.1:11434/v1", "https://127.0.0.1/v1", "https://10.1.2.3/v1", "https://localhost/v1",
           "https://[::1]/v1", "https://0x7f.1/v1", "http://host.example/v1")  # fmt: skip


@pytest.mark.parametrize("address", [*PRIVATE, METADATA, METADATA.replace("http", "https")])
async def test_an_organisation_reaches_no_address_inside_though_the_installation_is_for_tests(
    client: Api, address: str
) -> None:
    hers = await organization(client)
    for path in ("", "/test"):
        reply = await hers.call("POST", path, OPENAI | {"base_url": address})
        assert refused(reply) == (400, "invalid_request", ["base_url"])
        assert address not in reply.text


@pytest.mark.parametrize("address", PRIVATE)
async def test_the_platform_reaches_its_own_network_in_test_mode_and_with_the_setting_everybody_does(
    client: Api, open_client: Api, address: str
) -> None:
    assert (await (await operator(client)).call("POST", "", OPENAI | {"base_url": address})).status == 201
    for side in (operator, organization):
        reply = await (await side(open_client)).call("POST", "", OPENAI | {"base_url": address})
        assert reply.status == 201, reply.text


@sides
async def test_nobody_reaches_what_holds_a_clouds_credentials(open_client: Api, side: Any) -> None:
    reply = await (await side(open_client)).call("POST", "/test", OPENAI | {"base_url": METADATA})
    assert refused(reply) == (400, "invalid_request", ["base_url"])


async def test_in_live_mode_the_platform_reaches_nothing_inside_without_the_setting(
    cluster: Cluster, seeded_template: SeededTemplate
) -> None:
    with cluster.database(seeded_template.name) as url:
        async with serving(url, seeded_template.operator_key, Policy(KEYRING, "live")) as live:
            for address in PRIVATE:
                reply = await live.order("POST", "/connections", OPENAI | {"base_url": address})
                assert refused(reply) == (400, "invalid_request", ["base_url"])


# -------------------------------------------------------------------------------------------------------------- tests


@sides
async def test_a_connection_that_works_is_told_so_before_and_after_it_is_made(
    open_client: Api, provider: FakeProvider, side: Any
) -> None:
    hers = await side(open_client)
    before = await hers.listed()
    provider.raw_answers += [http(200), http(200)]
    draft = OPENAI | {"base_url": provider.url}
    tried = await hers.call("POST", "/test", draft)
    assert tried.status == 200, tried.text
    assert tried.body == {
        "ok": True, "message": "The provider answers and takes the key.", "duration_ms": tried.body["duration_ms"]
    }  # fmt: skip
    assert 0 <= tried.body["duration_ms"] < 10_000
    assert await hers.listed() == before
    made = await hers.made(base_url=provider.url)
    assert (await hers.call("POST", f"/{made['id']}/test")).body["ok"] is True
    assert [call.headers["authorization"] for call in provider.log] == [f"Bearer {KEY}"] * 2
    trail = [row[1:] for row in await audited(open_client, hers.organization_id) if "tested" in row[1]][-2:]
    assert [(action, id_) for action, id_, _ in trail] == [
        ("connection.draft_tested", "draft"), ("connection.tested", made["id"])
    ]  # fmt: skip
    assert KEY not in json.dumps(trail)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (http(401, b'{"error": "INSIDE: Incorrect API key provided: sk-her"}'), "refuses the key"),
        (http(500, b"INSIDE Traceback", content_type="text/html"), "status 500"),
        (http(200, b"<html>INSIDE intranet</html>", content_type="text/html"), "something else than JSON"),
        (http(302, b"", "Location: http://127.0.0.1:1/INSIDE"), "redirect"),
        (b"INSIDE is no HTTP\r\n\r\n", ""),
        (b"", ""),
    ],
)
async def test_why_a_connection_does_not_work_is_told_in_our_words_and_never_in_the_providers(
    open_client: Api, provider: FakeProvider, answer: bytes, said: str
) -> None:
    hers = await organization(open_client)
    provider.raw_answers += [answer] * 2  # what only reads is asked once more when a socket closes without an answer
    tried = await hers.call("POST", "/test", OPENAI | {"base_url": provider.url})
    assert tried.status == 200, tried.text
    assert tried.body["ok"] is False
    assert said in tried.body["message"]
    assert provider.calls >= 1
    for inside in ("INSIDE", "sk-her", provider.url):
        assert inside not in tried.text


async def test_a_stored_key_that_cannot_be_opened_is_told_with_the_remedy_and_nobody_is_called(
    open_client: Api, provider: FakeProvider
) -> None:
    hers = await organization(open_client)
    made = await hers.made(base_url=provider.url)
    async with await psycopg.AsyncConnection.connect(open_client.database_url) as connection:
        other = Keyring(b"another secret").seal(KEY, association(UUID(hers.organization_id), "openai"), bytes(12))
        await connection.execute("UPDATE connection SET key_ciphertext = %s WHERE id = %s", (other, made["id"]))
    tried = await hers.call("POST", f"/{made['id']}/test")
    assert tried.body["ok"] is False
    assert "TOLLHOUSE_PREVIOUS_SECRET_KEYS" in tried.body["message"]
    assert provider.calls == 0


async def test_a_provider_that_says_nothing_is_given_up(
    open_client: Api, provider: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tollhouse.flows.connection.CHECK_DEADLINE_S", 0.2)
    hers = await organization(open_client)
    provider.raw_answers.append(FakeProvider.HOLD)
    tried = await hers.call("POST", "/test", OPENAI | {"base_url": provider.url})
    assert tried.body == {
        "ok": False, "message": "the provider did not answer within 0.2 seconds",
        "duration_ms": tried.body["duration_ms"],
    }  # fmt: skip
    assert 200 <= tried.body["duration_ms"] < 5_000
    async with asyncio.timeout(5):
        await provider.all_closed.wait()


async def test_three_failed_checks_in_a_row_are_shown_and_switch_nothing_off(client: Api) -> None:
    hers = await organization(client)
    made = await hers.made()
    error, at = "the provider cannot be reached", datetime(2026, 3, 1, tzinfo=UTC)
    async with await psycopg.AsyncConnection.connect(client.database_url) as connection:
        await connection.execute(
            "INSERT INTO connection_health VALUES (%s, %s, %s, %s, 12, 2)",
            (hers.organization_id, made["id"], at, error),
        )
    health = {"checked_at": "2026-03-01T00:00:00Z", "ok": True, "error": error}
    assert await hers.listed() == [made | {"health": health}]
    async with await psycopg.AsyncConnection.connect(client.database_url) as connection:
        await connection.execute("UPDATE connection_health SET failures = 3 WHERE connection_id = %s", (made["id"],))
    assert await hers.listed() == [made | {"health": health | {"ok": False}}]
    assert (await hers.call("DELETE", f"/{made['id']}")).status == 204


async def test_in_the_document_of_the_api_nothing_left_out_of_a_change_has_a_value(client: Api) -> None:
    document = (await client.call("GET", "/openapi.json")).body
    properties = document["components"]["schemas"]["ConnectionChangeBody"]["properties"]
    assert set(properties) == {"name", "base_url", "key", "enabled", "priority"}
    assert not any("default" in one for one in properties.values())
    assert "key" not in document["components"]["schemas"]["ConnectionView"]["properties"]
