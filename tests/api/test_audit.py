"""The audit log over HTTP: found by what is looked for, whole as a file, and nobody else's."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
import pytest_asyncio

from tests.api.conftest import ORIGIN, Api
from tests.api.connecting import rows, serving
from tests.carriers import Carriers, carriers
from tests.conftest import TEST_SECRET, Cluster, SeededTemplate
from tollhouse.core.vault import Keyring
from tollhouse.flows import audit as flow
from tollhouse.flows.audit import record
from tollhouse.flows.connection import Policy
from tollhouse.flows.order import Order
from tollhouse.store.catalogue import PLATFORM_ID
from tollhouse.store.db import Database

pytestmark = pytest.mark.asyncio(loop_scope="module")

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
FORMULA = "=HYPERLINK(1)"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(cluster: Cluster, seeded_template: SeededTemplate) -> AsyncIterator[Api]:
    with cluster.database(seeded_template.name) as url:
        async with serving(url, seeded_template.operator_key, Policy(Keyring(TEST_SECRET), "test")) as running:
            yield running


@pytest_asyncio.fixture(loop_scope="module")
async def db(client: Api) -> AsyncIterator[Database]:
    made = Database(client.database_url)
    await made.open()
    yield made
    await made.close()


@pytest_asyncio.fixture(loop_scope="module")
async def made(client: Api) -> AsyncIterator[Carriers]:
    async with carriers(client.database_url, ORIGIN) as ways:
        yield ways


async def organization(client: Api) -> tuple[str, str]:
    id_ = await client.organization("pro")
    return id_, await client.key(id_, "manage")


async def write(db: Database, id_: str, hours: int, action: str = "test.made", actor: str = "person:ada") -> None:
    async with db.operator() as tx:
        order = Order(actor, NOON + timedelta(hours=hours), "192.0.2.7")
        await record(tx, UUID(id_), order, action, ("thing", f"t{hours}"), {"to": FORMULA, "ö": ['"', None, 1]})


async def looked(client: Api, key: str, query: str = "") -> Any:
    reply = await client.call("GET", f"/api/audit{query}", key=key)
    assert reply.status == 200, reply.text
    return reply.body


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("actor=person:ada", [3, 2, 1]),
        ("action=test.", [3, 2, 1]),
        ("action=test.un", [3]),
        ("action=test.made", [2, 1]),
        ("action=%25made", []),
        ("action=test_made", []),
        ("object_type=thing", [3, 2, 1]),
        ("object_type=thing&object_id=t2", [2]),
        ("object_id=t", []),
        ("from=2026-05-01T13:00:00Z&to=2026-05-01T15:00:00Z", [2, 1]),
        ("from=2026-05-01T13:00:00.000001Z&to=2026-05-01T15:00:00.000001Z", [3, 2]),
        ("actor=person:eve", []),
    ],
)
async def test_what_is_looked_for_is_found_and_nothing_else(
    client: Api, db: Database, query: str, found: list[int]
) -> None:
    id_, key = await organization(client)
    for hours, action in ((1, "test.made"), (2, "test.made"), (3, "test.unmade")):
        await write(db, id_, hours, action)
    body = await looked(client, key, f"?{query}")
    assert [row["object_id"] for row in body["items"]] == [f"t{hours}" for hours in found]
    for row in body["items"]:
        assert (row["actor"], row["address"], row["object_type"]) == ("person:ada", "192.0.2.7", "thing")
        assert row["details"] == {"to": FORMULA, "ö": ['"', None, 1]}


async def test_pages_follow_each_other_without_a_hole_while_rows_are_added(client: Api, db: Database) -> None:
    id_, key = await organization(client)
    for hours in range(7):
        await write(db, id_, hours)
    seen, cursor = [], ""
    while True:
        body = await looked(client, key, f"?limit=3&action=test.{cursor}")
        seen += [row["object_id"] for row in body["items"]]
        await write(db, id_, 99)
        if body["next_cursor"] is None:
            break
        cursor = f"&cursor={body['next_cursor']}"
    assert seen == [f"t{hours}" for hours in range(6, -1, -1)]


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=201", "cursor=bm9uZQ", "cursor=%00", "from=2026-05-01", "who=me", "actor=",
     "from=2026-05-02T00:00:00Z&to=2026-05-01T00:00:00Z"],
)  # fmt: skip
async def test_what_cannot_be_looked_for_is_refused(client: Api, query: str) -> None:
    _, key = await organization(client)
    assert (await client.call("GET", f"/api/audit?{query}", key=key)).status == 400


async def test_a_log_is_read_by_admins_of_its_own_organisation_alone(client: Api, made: Carriers) -> None:
    id_, key = await organization(client)
    _, his = await organization(client)
    weak = await client.key(id_, "gateway", "credits", "act_as")
    canary = (await looked(client, key))["items"][0]["hash"]
    for path in ("/api/audit", "/api/audit/export"):
        assert (await client.call("GET", path)).status == 401
        assert (await client.call("GET", path, key=weak)).status == 403
        other = await client.session.get(client.url + path, headers={"authorization": f"Bearer {his}"})
        assert other.status == 200 and canary not in await other.text()
        assert (await client.call("GET", f"{path}?organization_id={id_}", key=his)).status == 400
        for role, status in (("member", 403), ("admin", 200), ("owner", 200)):
            person = await made.member(UUID(id_), role)  # type: ignore[arg-type]
            token = await made.session(person, UUID(id_))
            headers = {"cookie": f"{made.site.cookie}={token}", "sec-fetch-site": "same-origin"}
            reply = await client.session.get(client.url + path, headers=headers)
            assert (reply.status, canary in await reply.text()) == (status, status == 200)


async def test_a_file_has_every_row_of_the_time_in_its_order_however_many_parts_it_comes_in(
    client: Api, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flow, "EXPORTED_AT_ONCE", 2)
    id_, key = await organization(client)
    for hours in range(5):
        await write(db, id_, hours)
    path = "/api/audit/export?from=2026-05-01T13:00:00Z&to=2026-05-01T16:00:00Z"
    reply = await client.session.get(client.url + path, headers={"authorization": f"Bearer {key}"})
    exported = [json.loads(line) for line in (await reply.text()).splitlines()]
    assert [row["object_id"] for row in exported] == ["t1", "t2", "t3"]
    assert reply.headers["content-type"] == "application/x-ndjson"
    assert reply.headers["cache-control"] == "no-store"
    assert reply.headers["content-disposition"] == f'attachment; filename="audit-{id_}-20260501-20260501.jsonl"'
    stored = await rows(
        client, "SELECT seq, hash, previous_hash FROM audit WHERE organization_id = %s AND object_type = 'thing'", id_
    )
    hashes = {row[0]: (row[1].hex(), row[2].hex()) for row in stored}
    assert all((row["hash"], row["previous_hash"]) == hashes[row["seq"]] for row in exported)
    trail = await rows(
        client, "SELECT details FROM audit WHERE organization_id = %s AND action = 'audit.exported'", id_
    )
    assert trail == [({"from": "2026-05-01T13:00:00+00:00", "to": "2026-05-01T16:00:00+00:00", "format": "jsonl"},)]


async def test_a_table_keeps_quotes_and_runs_nothing(client: Api, db: Database) -> None:
    id_, key = await organization(client)
    async with db.operator() as tx:
        await record(tx, UUID(id_), Order(FORMULA, NOON), "test.made", ("@x", "-1+2"), {"a": 'say "b",\r\n=c'})
    path = "/api/audit/export?format=csv&from=2026-05-01T00:00:00Z&to=2026-05-02T00:00:00Z"
    reply = await client.session.get(client.url + path, headers={"authorization": f"Bearer {key}"})
    text = await reply.text()
    (row,) = csv.DictReader(io.StringIO(text, newline=""))
    assert (row["actor"], row["object_type"], row["object_id"]) == (f"'{FORMULA}", "'@x", "'-1+2")
    assert json.loads(row["details"]) == {"a": 'say "b",\r\n=c'}
    assert reply.headers["content-type"] == "text/csv; charset=utf-8"


@pytest.mark.parametrize("query", ["from=2024-01-01T00:00:00Z", "format=xml", "cursor=1",
                                   "from=2026-05-02T00:00:00Z&to=2026-05-02T00:00:00Z"])  # fmt: skip
async def test_no_file_is_made_of_too_long_a_time_or_in_another_form(client: Api, query: str) -> None:
    _, key = await organization(client)
    assert (await client.call("GET", f"/api/audit/export?{query}", key=key)).status == 400


async def test_an_operator_reads_every_log_and_leaves_a_trace_in_it(client: Api) -> None:
    id_, key = await organization(client)
    found = await client.order("GET", f"/audit?organization_id={id_}&action=organization.")
    assert [row["action"] for row in found.body["items"]] == ["organization.created"]
    assert (await looked(client, key, "?limit=1"))["items"][0]["action"] == "audit.read"
    await client.order("GET", "/audit/export")
    own = await client.order("GET", "/audit?limit=1")
    assert [row["action"] for row in own.body["items"]] == ["audit.exported"], "the platform's own log"
    reply = await client.session.get(
        client.url + f"/api/operator/audit/export?organization_id={id_}",
        headers={"authorization": f"Bearer {client.operator_key}"},
    )
    assert {json.loads(line)["organization_id"] for line in (await reply.text()).splitlines()} == {id_}
    for path in ("/audit", "/audit/export"):
        assert (await client.order("GET", f"{path}?organization_id={uuid4()}")).status == 404
        assert (await client.call("GET", f"/api/operator{path}?organization_id={PLATFORM_ID}", key=key)).status == 403
