"""The audit log and the exports and erasures of an organisation as pages."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import AsyncIterator
from datetime import timedelta
from uuid import uuid4

import pytest_asyncio

from tests.web.serving import clock
from tests.web.team import Team, at, forget_proof, seen, send, sent_on, team
from tollhouse.core.audit import Detail
from tollhouse.web.audit import changes


@pytest_asyncio.fixture
async def mill(database_url: str) -> AsyncIterator[Team]:
    async with team(database_url) as made:
        yield made


async def rename(mill: Team, name: str) -> None:
    await sent_on(mill.owner, "/admin/settings", {"name": name, "business_type": "general"})


# ------------------------------------------------------------------------------------------------------------ audit log


async def test_a_change_is_told_with_who_and_from_what_to_what(mill: Team) -> None:
    await rename(mill, "Silk Mill")
    page = seen(await mill.owner.get("/admin/audit"))
    assert "organization.changed" in page and "Mill → Silk Mill" in page
    assert "Ada Lovelace" in page and "127.0.0.1" in page


async def test_filters_stand_in_the_address_and_narrow(mill: Team) -> None:
    await rename(mill, "Silk Mill")
    await sent_on(mill.owner, "/admin/settings/cache")
    tomorrow = (clock() + timedelta(days=1)).date().isoformat()
    shown = {
        "action=cache.": ["cache.emptied"],
        f"actor=person:{mill.owner.person_id}": ["cache.emptied", "organization.changed"],
        "actor=system": ["organization.created"],
        f"since={tomorrow}": [],
        "object_type=key": [],
        "action=cache.&utm=1": ["cache.emptied"],
    }
    for query, actions in shown.items():
        page = await mill.owner.get("/admin/audit?" + query)
        assert [one.text for one in page.soup.select("tbody code")] == actions, query
    page = await mill.owner.get("/admin/audit?action=cache.")
    assert at(page, "#field-action")["value"] == "cache."


async def test_addresses_that_say_what_cannot_be_are_refused(mill: Team) -> None:
    for query in ("actor=%00", "cursor=nonsense", "since=yesterday", "until=0001-01-01", "action=" + "x" * 81):
        assert (await mill.owner.get("/admin/audit?" + query)).status == 400, query
    assert (await mill.owner.get("/admin/audit/export?since=2020-01-01&until=2026-01-01")).status == 400


async def test_the_log_is_exported_as_csv_and_as_lines_of_json(mill: Team) -> None:
    await rename(mill, "=cmd()")
    answer = await mill.owner.get("/admin/audit/export?format=csv")
    assert answer.headers["content-type"].startswith("text/csv")
    assert answer.headers["content-disposition"].startswith("attachment;")
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert [row["action"] for row in rows] == ["organization.created", "organization.changed"]
    lines = (await mill.owner.get("/admin/audit/export?format=jsonl")).text.splitlines()
    told = [json.loads(line) for line in lines]
    assert [row["action"] for row in told] == ["organization.created", "organization.changed", "audit.exported"]
    assert [row["hash"] for row in told[:-1]] == [row["previous_hash"] for row in told[1:]]


async def test_the_chain_is_checked_and_a_changed_row_is_named(mill: Team) -> None:
    await rename(mill, "Silk Mill")
    assert "All 2 rows are as they were written" in seen(await mill.owner.get("/admin/audit?check=1"))
    await mill.place.change("UPDATE audit SET actor = 'system' WHERE organization_id = %s AND seq = 2", mill.id)
    page = seen(await mill.owner.get("/admin/audit?check=1"))
    assert "The chain is broken" in page and "Row 2" in page


async def test_rows_of_others_are_not_there_and_members_do_not_read_it(mill: Team) -> None:
    await rename(mill, "Canary Mill")
    other = await mill.place.in_a_team("other@example.com", "owner")
    assert "Canary" not in (await other.get(f"/admin/audit?actor=person:{mill.owner.person_id}")).text
    assert "Canary" not in (await other.get("/admin/audit/export?format=csv")).text
    member = await mill.join("member@example.com", "member")
    for path in ("/admin/audit", "/admin/audit?check=1", "/admin/audit/export?format=csv"):
        assert (await member.get(path)).status == 403


def test_details_are_told_in_words() -> None:
    details: dict[str, Detail] = {
        "name": {"from": "a", "to": None},
        "enabled": True,
        "models": ["x", "y"],
        "by": {"a": 1},
        "none": [],
    }
    told = [("name", "a → none"), ("enabled", "yes"), ("models", "x, y"), ("by", '{"a": 1}'), ("none", "none")]
    assert changes(details) == told


# -------------------------------------------------------------------------------------------------------------- privacy


async def test_an_export_of_a_member_is_ordered_and_shown_with_its_progress(mill: Team) -> None:
    member = await mill.join("member@example.com", "member")
    page = await sent_on(mill.owner, "/admin/privacy/export", {"member": str(member.person_id), "end_user": ""})
    assert "Waiting" in seen(page) and page.soup.select_one("progress")
    part = await mill.owner.get("/admin/privacy", hx_request="true")
    assert part.text.lstrip().startswith('<div id="tasks"') and "<html" not in part.text
    [task] = await mill.rows("SELECT id, kind, subject_id FROM privacy_task")
    assert (task["kind"], task["subject_id"]) == ("export", member.person_id)
    assert (await mill.owner.get(f"/admin/privacy/{task['id']}/file")).status == 404  # not made yet


async def test_a_file_is_downloaded_by_those_whose_it_is_and_until_its_end(mill: Team) -> None:
    member = await mill.join("member@example.com", "member")
    await sent_on(mill.owner, "/admin/privacy/export", {"member": str(member.person_id)})
    await mill.place.change(
        "UPDATE privacy_task SET state = 'done', finished_at = now(), result = 'zip', result_until = now() + '1 hour'"
    )
    [task] = await mill.rows("SELECT id FROM privacy_task")
    path = f"/admin/privacy/{task['id']}/file"
    assert path in (await mill.owner.get("/admin/privacy")).text
    answer = await mill.owner.get(path)
    assert (answer.text, answer.headers["content-type"]) == ("zip", "application/zip")
    other = await mill.place.in_a_team("other@example.com", "owner")
    assert (await other.get(path)).status == 404
    assert (await member.get(path)).status == 403
    await mill.place.change("UPDATE privacy_task SET result_until = now() - interval '1 second'")
    assert (await mill.owner.get(path)).status == 404
    assert (await mill.audited())[-1] == "export.downloaded"


async def test_an_erasure_takes_a_fresh_proof_and_spares_owners(mill: Team) -> None:
    member = await mill.join("member@example.com", "member")
    answer = await send(mill.owner, "/admin/privacy/erasure", {"member": str(mill.owner.person_id)})
    assert answer.status == 422 and "an owner of the organisation" in seen(answer)
    await sent_on(mill.owner, "/admin/privacy/erasure", {"member": str(member.person_id)})
    assert [row["kind"] for row in await mill.rows("SELECT kind FROM privacy_task")] == ["erasure"]
    await forget_proof(mill.place, mill.owner)
    answer = await send(mill.owner, "/admin/privacy/erasure", {"member": str(member.person_id)})
    assert answer.headers["location"].startswith("/confirm")


async def test_whom_the_organisation_does_not_have_is_not_found_and_one_is_named_not_two(mill: Team) -> None:
    stranger = await mill.place.person("stranger@example.com")
    for fields, said in (
        ({"member": str(stranger.person_id)}, "Nobody of this id"),
        ({"member": str(uuid4())}, "Nobody of this id"),
        ({"end_user": "nobody"}, "no such end user"),
        ({"member": str(uuid4()), "end_user": "x"}, "one of the two"),
        ({}, "one of the two"),
        ({"member": "nobody"}, "Choose one of the list"),
    ):
        answer = await send(mill.owner, "/admin/privacy/export", fields)
        assert answer.status == 422 and said in seen(answer), fields
    assert await mill.rows("SELECT FROM privacy_task") == []
