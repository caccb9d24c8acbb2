"""API keys as pages."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest_asyncio

from tests.web.serving import clock
from tests.web.team import Team, at, seen, send, sent_on, team

KEY = re.compile(r"th_(?:test|live)_[0-9A-Za-z]{36}")
WANTED: dict[str, Any] = {"name": "Website", "scopes": ["gateway", "act_as"], "mode": "test"}


@pytest_asyncio.fixture
async def mill(database_url: str) -> AsyncIterator[Team]:
    async with team(database_url) as made:
        yield made


async def make(mill: Team, **more: Any) -> dict[str, Any]:
    """The row of a new key, and the key."""
    answer = await send(mill.owner, "/admin/keys/new", WANTED | more)
    assert answer.status == 200, answer.text
    [key] = set(KEY.findall(answer.text))
    [row] = await mill.rows("SELECT * FROM api_key ORDER BY id DESC LIMIT 1")
    return row | {"key": key}


async def test_a_key_is_shown_once_and_on_no_page_afterwards(mill: Team) -> None:
    answer = await send(mill.owner, "/admin/keys/new", WANTED)
    assert answer.headers["cache-control"] == "no-store"
    [key] = set(KEY.findall(answer.text))
    [row] = await mill.rows("SELECT id, start FROM api_key WHERE organization_id = %s", mill.id)
    for path in ("/admin/keys", f"/admin/keys/{row['id']}", "/admin/audit", "/admin"):
        page = await mill.owner.get(path)
        assert page.status == 200 and key not in page.text
    assert row["start"] in (await mill.owner.get("/admin/keys")).text


async def test_a_key_has_what_was_chosen_for_it(mill: Team) -> None:
    last_day = (clock() + timedelta(days=30)).date()
    chosen = {"models": ["gpt-4o-mini", "sandbox"], "credits_per_month": "12.5", "requests_per_minute": "60"}
    row = await make(mill, **chosen, expires_at=last_day.isoformat())
    assert row["scopes"] == ["gateway", "act_as"] and row["model_ids"] == ["gpt-4o-mini", "sandbox"]
    assert row["expires_at"].date() == last_day + timedelta(days=1) and row["expires_at"].hour == 0
    page = await mill.owner.get(f"/admin/keys/{row['id']}")
    values = {one["name"]: one.get("value") for one in page.soup.select("form.form input:not([type=checkbox])")}
    assert (values["credits_per_month"], values["requests_per_minute"]) == ("12.5", "60")
    assert values["expires_at"] == last_day.isoformat()
    assert [one["value"] for one in page.soup.select('input[name="models"][checked]')] == ["gpt-4o-mini", "sandbox"]


async def test_what_cannot_be_is_refused_beside_its_field_and_stays_typed(mill: Team) -> None:
    for field, value in {
        "credits_per_month": "-1", "requests_per_minute": "1.5", "expires_at": "2001-01-01", "models": "gpt-nothing",
        "scopes": "operator", "name": "",
    }.items():  # fmt: skip
        answer = await send(mill.owner, "/admin/keys/new", WANTED | {field: value})
        assert answer.status == 422, field
        assert answer.soup.select('[role="alert"]'), field
    answer = await send(mill.owner, "/admin/keys/new", WANTED | {"credits_per_month": "much"})
    assert at(answer, "#field-credits_per_month")["value"] == "much"
    assert (await send(mill.owner, "/admin/keys/new", WANTED | {"scopes": []})).status == 422
    assert (await send(mill.owner, "/admin/keys/new", WANTED | {"organization_id": str(uuid4())})).status == 400
    assert await mill.rows("SELECT FROM api_key WHERE organization_id = %s", mill.id) == []


async def test_a_key_is_changed_and_an_expiry_only_comes_earlier(mill: Team) -> None:
    day = clock().date()
    row = await make(mill, expires_at=(day + timedelta(days=30)).isoformat())
    path, stays = f"/admin/keys/{row['id']}", {"name": "Website", "expires_at": (day + timedelta(days=30)).isoformat()}
    await sent_on(mill.owner, path, stays | {"name": "Website 2", "models": ["sandbox"]})
    [after] = await mill.rows("SELECT name, model_ids, expires_at FROM api_key WHERE id = %s", row["id"])
    assert after == {"name": "Website 2", "model_ids": ["sandbox"], "expires_at": row["expires_at"]}
    for later in ((day + timedelta(days=31)).isoformat(), ""):
        answer = await send(mill.owner, path, stays | {"expires_at": later})
        assert answer.status == 422 and "never later" in seen(answer)
    await sent_on(mill.owner, path, stays | {"expires_at": (day + timedelta(days=2)).isoformat()})
    assert (await mill.audited()).count("key.changed") == 2


async def test_a_replaced_key_goes_on_for_as_long_as_was_said(mill: Team) -> None:
    row = await make(mill)
    answer = await send(mill.owner, f"/admin/keys/{row['id']}/rotate", {"overlap": "3600"})
    [key] = set(KEY.findall(answer.text))
    assert key != row["key"] and "works until" in seen(answer)
    [former] = await mill.rows("SELECT replaced_by, expires_at FROM api_key WHERE id = %s", row["id"])
    assert clock() < former["expires_at"] <= clock() + timedelta(hours=1)
    assert "was replaced" in seen(await sent_on(mill.owner, f"/admin/keys/{row['id']}/rotate", {"overlap": "0"}))
    for overlap in ("604801", "-1", "soon"):
        page = await sent_on(mill.owner, f"/admin/keys/{former['replaced_by']}/rotate", {"overlap": overlap})
        assert "whole number" in seen(page)


async def test_a_revoked_key_leaves_the_list_and_cannot_be_changed(mill: Team) -> None:
    row = await make(mill)
    await sent_on(mill.owner, f"/admin/keys/{row['id']}/revoke")
    assert "No keys yet" in seen(await mill.owner.get("/admin/keys"))
    assert "Revoked" in seen(await mill.owner.get("/admin/keys?all=1"))
    answer = await send(mill.owner, f"/admin/keys/{row['id']}", {"name": "Again"})
    assert answer.status == 422 and "works no more" in seen(answer)
    assert not answer.soup.select(f'form[action="/admin/keys/{row["id"]}/rotate"]')


async def test_keys_of_others_are_not_there(mill: Team) -> None:
    row = await make(mill, name="Canary of Mill")
    other = await mill.place.in_a_team("other@example.com", "owner")
    assert "Canary" not in (await other.get("/admin/keys?all=1")).text
    assert (await other.get(f"/admin/keys/{row['id']}")).status == 404
    for act, fields in (("", {"name": "Mine"}), ("/rotate", {"overlap": "0"}), ("/revoke", {})):
        answers = [await send(other, f"/admin/keys/{id_}{act}", fields) for id_ in (row["id"], uuid4())]
        assert [answer.status for answer in answers] == [404, 404]
    [after] = await mill.rows("SELECT name, revoked_at, replaced_by FROM api_key WHERE id = %s", row["id"])
    assert after == {"name": "Canary of Mill", "revoked_at": None, "replaced_by": None}


async def test_a_member_opens_none_of_it(mill: Team) -> None:
    row, member = await make(mill), await mill.join("member@example.com", "member")
    for path in ("/admin/keys", "/admin/keys/new", f"/admin/keys/{row['id']}"):
        assert (await member.get(path)).status == 403
    assert (await send(member, f"/admin/keys/{row['id']}/revoke")).status == 403


async def test_a_name_of_a_key_is_text_wherever_it_stands(mill: Team) -> None:
    row = await make(mill, name="<script>alert(1)</script>")
    for path in ("/admin/keys", f"/admin/keys/{row['id']}", "/admin/audit"):
        assert "<script>alert" not in (await mill.owner.get(path)).text


async def test_a_long_list_goes_on_from_where_it_ended(mill: Team) -> None:
    await mill.place.change(
        """INSERT INTO api_key (organization_id, id, name, digest, start, scopes, mode, created_at)
           SELECT %s, gen_random_uuid(), 'Key ' || n, decode(md5(n::text) || md5(n::text), 'hex'), 'th_test_xxxx',
                  '{gateway}', 'test', now() FROM generate_series(1, 60) AS n""",
        mill.id,
    )
    first = await mill.owner.get("/admin/keys")
    following = next(str(one["href"]) for one in first.soup.select(".pagination a") if one.text.strip() == "Next")
    second = await mill.owner.get(following)
    names = [{one.text for one in page.soup.select("tbody td a.font-medium")} for page in (first, second)]
    assert (len(names[0]), len(names[1])) == (50, 10) and not names[0] & names[1]
    assert (await mill.owner.get("/admin/keys?cursor=nonsense")).status == 400
