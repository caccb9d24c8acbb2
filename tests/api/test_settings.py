"""What an organisation chooses for its calls, and what was kept of them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any
from uuid import UUID, uuid4

import pytest
import pytest_asyncio

from tests.api.conftest import Api, Reply
from tests.api.connecting import audited, rows, serving
from tests.conftest import TEST_SECRET, Cluster, SeededTemplate
from tollhouse.core.vault import Keyring
from tollhouse.flows.connection import Policy
from tollhouse.store import content, kept_answer
from tollhouse.store.db import Database

pytestmark = pytest.mark.asyncio(loop_scope="module")

NOTHING = {"cache_ttl_seconds": None, "store_content": False, "retention_days": 30, "chat_retention_days": None}
NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
KEY = sha256(b"a request").digest()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(cluster: Cluster, seeded_template: SeededTemplate) -> AsyncIterator[Api]:
    with cluster.database(seeded_template.name) as url:
        async with serving(url, seeded_template.operator_key, Policy(Keyring(TEST_SECRET), "test")) as running:
            yield running


@pytest_asyncio.fixture(loop_scope="module")
async def db(client: Api) -> AsyncIterator[Database]:
    """What the gateway keeps with."""
    made = Database(client.database_url)
    await made.open()
    yield made
    await made.close()


async def organization(client: Api, *scopes: str) -> tuple[str, str]:
    id_ = await client.organization("pro")
    return id_, await client.key(id_, *(scopes or ("manage",)))


async def choose(client: Api, key: str, **body: Any) -> Reply:
    return await client.call("PATCH", "/api/settings", body, key=key)


async def test_nothing_is_kept_until_it_is_chosen_and_each_choice_is_made_by_itself(client: Api) -> None:
    id_, key = await organization(client)
    assert (await client.call("GET", "/api/settings", key=key)).body == NOTHING
    for body, settings in (
        ({"cache_ttl_seconds": 3600}, (3600, False, 30, None)),
        ({"store_content": True}, (3600, True, 30, None)),
        ({}, (3600, True, 30, None)),
        ({"retention_days": 1}, (3600, True, 1, None)),
        ({"chat_retention_days": 365}, (3600, True, 1, 365)),
        ({"cache_ttl_seconds": None}, (None, True, 1, 365)),
        (
            {
                "cache_ttl_seconds": 2_592_000,
                "store_content": False,
                "retention_days": 3650,
                "chat_retention_days": None,
            },
            (2_592_000, False, 3650, None),
        ),
    ):
        reply = await choose(client, key, **body)
        assert (reply.status, reply.body) == (200, dict(zip(NOTHING, settings, strict=True)))
        assert (await client.call("GET", "/api/settings", key=key)).body == reply.body
        stored = await rows(
            client,
            """SELECT cache_ttl_s, stores_content, retention_days, chat_retention_days FROM organization
               WHERE id = %s""",
            id_,
        )
        assert stored == [settings]


async def test_each_change_is_in_the_audit_log_with_who_made_it(client: Api) -> None:
    id_, key = await organization(client)
    await choose(client, key, cache_ttl_seconds=60, store_content=True)
    await choose(client, key, store_content=True)
    await choose(client, key, retention_days=7, store_content=True)
    await choose(client, key, chat_retention_days=90)
    for method, path in (("DELETE", "/api/settings/cache"), ("DELETE", "/api/requests/content")):
        assert (await client.call(method, path, key=key)).body == {"forgotten": 0}
    trail = await audited(client, id_)
    assert [row[1:] for row in trail] == [
        (
            "settings.changed",
            id_,
            {"cache_ttl_seconds": {"from": None, "to": 60}, "store_content": {"from": False, "to": True}},
        ),
        ("settings.changed", id_, {"retention_days": {"from": 30, "to": 7}}),
        ("settings.changed", id_, {"chat_retention_days": {"from": None, "to": 90}}),
        ("cache.emptied", id_, {"answers": 0}),
        ("content.forgotten", id_, {"requests": 0}),
    ]
    assert len({row[0] for row in trail}) == 1 and trail[0][0].startswith("key:")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"cache_ttl_seconds": 0}, "cache_ttl_seconds"),
        ({"cache_ttl_seconds": 2_592_001}, "cache_ttl_seconds"),
        ({"cache_ttl_seconds": "60"}, "cache_ttl_seconds"),
        ({"cache_ttl_seconds": 1.5}, "cache_ttl_seconds"),
        ({"chat_retention_days": 0}, "chat_retention_days"),
        ({"retention_days": 0}, "retention_days"),
        ({"retention_days": 3651}, "retention_days"),
        ({"retention_days": None}, "retention_days"),
        ({"retention_days": "30"}, "retention_days"),
        ({"store_content": None}, "store_content"),
        ({"store_content": 1}, "store_content"),
        ({"stores_content": True}, "stores_content"),
    ],
)
async def test_what_cannot_be_chosen_is_refused_by_its_field(client: Api, body: dict[str, Any], field: str) -> None:
    _, key = await organization(client)
    reply = await choose(client, key, store_content=True)
    refusal = await choose(client, key, **body)
    assert (refusal.status, [one["field"] for one in refusal.body["errors"]]) == (400, [field])
    assert (await client.call("GET", "/api/settings", key=key)).body == reply.body


async def test_an_organisation_chooses_for_itself_alone_and_only_with_the_scope(client: Api) -> None:
    _, hers = await organization(client)
    id_, his = await organization(client)
    weak = await client.key(id_, "gateway", "credits", "act_as")
    await choose(client, hers, cache_ttl_seconds=60)
    assert (await client.call("GET", "/api/settings", key=his)).body == NOTHING
    calls = (("GET", "/settings"), ("PATCH", "/settings"), ("DELETE", "/settings/cache"),
             ("GET", f"/requests/{uuid4()}/content"), ("DELETE", "/requests/content"))  # fmt: skip
    for method, path in calls:
        body: dict[str, Any] | None = {} if method == "PATCH" else None
        assert (await client.call(method, "/api" + path, body, key=weak)).status == 403
        assert (await client.call(method, "/api" + path, body)).status == 401


async def test_what_was_said_is_read_by_its_organisation_and_not_found_by_others(client: Api, db: Database) -> None:
    id_, hers = await organization(client)
    _, his = await organization(client)
    request_id = uuid4()
    said: tuple[Any, Any] = ({"messages": [{"role": "user", "content": "one"}]}, {"choices": [], "ok": True})
    async with db.tenant(UUID(id_)) as tx:
        await content.keep(tx, UUID(id_), request_id, *said, NOON)
    path = f"/api/requests/{request_id}/content"
    read = await client.call("GET", path, key=hers)
    assert (read.status, read.headers["cache-control"]) == (200, "no-store")
    assert read.body == {
        "request_id": str(request_id), "prompt": said[0], "answer": said[1], "created_at": "2026-05-01T12:00:00Z"
    }  # fmt: skip
    for other in (path, f"/api/requests/{uuid4()}/content", "/api/requests/17/content"):
        reply = await client.call("GET", other, key=his)
        assert (reply.status, reply.body["code"]) == (404, "not_found")
    assert (await client.call("DELETE", "/api/requests/content", key=his)).body == {"forgotten": 0}
    assert (await client.call("DELETE", "/api/requests/content", key=hers)).body == {"forgotten": 1}
    assert (await client.call("GET", path, key=hers)).status == 404


async def test_a_call_without_an_answer_has_none(client: Api, db: Database) -> None:
    id_, key = await organization(client)
    async with db.tenant(UUID(id_)) as tx:
        await content.keep(tx, UUID(id_), (request_id := uuid4()), {}, None, NOON)
    read = await client.call("GET", f"/api/requests/{request_id}/content", key=key)
    assert (read.status, read.body["answer"]) == (200, None)


@pytest.mark.parametrize(
    ("change", "left"),
    [
        ({"cache_ttl_seconds": None}, False),
        ({"cache_ttl_seconds": 59}, False),
        ({"cache_ttl_seconds": 60}, True),
        ({"cache_ttl_seconds": 61}, True),
        ({"store_content": True}, True),
    ],
)
async def test_answers_kept_for_longer_than_they_now_may_be_are_forgotten(
    client: Api, db: Database, change: dict[str, Any], left: bool
) -> None:
    id_, key = await organization(client)
    await choose(client, key, cache_ttl_seconds=60)
    async with db.tenant(UUID(id_)) as tx:
        await kept_answer.keep(tx, UUID(id_), KEY, "sandbox", {}, NOON, 60)
    await choose(client, key, **change)
    async with db.tenant(UUID(id_)) as tx:
        assert (await kept_answer.find(tx, UUID(id_), KEY, NOON) is not None) is left


async def test_an_emptied_cache_holds_nothing_of_its_organisation_and_all_of_others(client: Api, db: Database) -> None:
    (hers, key), (his, _) = await organization(client), await organization(client)
    for id_ in (hers, his):
        async with db.tenant(UUID(id_)) as tx:
            await kept_answer.keep(tx, UUID(id_), KEY, "sandbox", {}, NOON, 60)
    assert (await client.call("DELETE", "/api/settings/cache", key=key)).body == {"forgotten": 1}
    for id_, left in ((hers, False), (his, True)):
        async with db.tenant(UUID(id_)) as tx:
            assert (await kept_answer.find(tx, UUID(id_), KEY, NOON) is not None) is left
