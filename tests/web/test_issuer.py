"""Trusted issuers and connections as pages: what leads to other servers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from uuid import uuid4

import pytest_asyncio

from tests.fake_idp import FakeIdp
from tests.web.team import Team, at, seen, send, sent_on, team

SECRET = "sk-canary-0123456789abcdef"


@pytest_asyncio.fixture
async def mill(database_url: str) -> AsyncIterator[Team]:
    async with team(database_url, allow_private=True) as made:
        yield made


def wanted(idp: FakeIdp, **more: str) -> dict[str, str]:
    return {
        "name": "Our sign-in",
        "issuer": idp.issuer,
        "jwks_url": idp.jwks_url,
        "user_claim": "sub",
        "do": "save",
    } | more


# -------------------------------------------------------------------------------------------------------------- issuers


async def test_an_issuer_is_tested_before_it_is_trusted(mill: Team) -> None:
    async with FakeIdp() as idp:
        answer = await send(mill.owner, "/admin/issuers/new", wanted(idp, do="test"))
        assert answer.status == 200 and "The test went well" in seen(answer)
        assert at(answer, "#field-issuer")["value"] == idp.issuer
        assert await mill.rows("SELECT FROM jwt_issuer") == []
        assert "Our sign-in" in seen(await sent_on(mill.owner, "/admin/issuers/new", wanted(idp)))
    [row] = await mill.rows("SELECT audience FROM jwt_issuer")
    assert row["audience"] == f"tollhouse:{mill.id}"


async def test_one_without_keys_is_refused_where_its_address_stands(mill: Team) -> None:
    async with FakeIdp() as idp:
        for do in ("save", "test"):
            answer = await send(mill.owner, "/admin/issuers/new", wanted(idp, jwks_url=idp.issuer + "/no", do=do))
            assert "cannot be used" in seen(answer)
        answer = await send(mill.owner, "/admin/issuers/new", wanted(idp, user_claim="user id"))
        assert answer.status == 422 and answer.soup.select_one("#field-user_claim-error")
        answer = await send(mill.owner, "/admin/issuers/new", wanted(idp, audience=f"tollhouse:{uuid4()}"))
        assert answer.status == 422 and answer.soup.select_one("#field-audience-error")
    assert await mill.rows("SELECT FROM jwt_issuer") == []


async def test_an_issuer_is_switched_off_tested_and_deleted(mill: Team) -> None:
    async with FakeIdp() as idp:
        await sent_on(mill.owner, "/admin/issuers/new", wanted(idp))
        [row] = await mill.rows("SELECT id FROM jwt_issuer")
        path = f"/admin/issuers/{row['id']}"
        assert "usable key" in seen(await sent_on(mill.owner, path + "/test"))
        await sent_on(mill.owner, path, {"name": "Former", "jwks_url": idp.jwks_url, "user_claim": "uid"})
        [after] = await mill.rows("SELECT name, user_claim, enabled FROM jwt_issuer")
        assert after == {"name": "Former", "user_claim": "uid", "enabled": False}
    page = await sent_on(mill.owner, path + "/delete")
    assert "No issuer is trusted" in seen(page)
    expected = ["issuer.created", "issuer.tested", "issuer.changed", "issuer.deleted"]
    assert [one for one in await mill.audited() if one.startswith("issuer.")] == expected


async def test_issuers_of_others_are_not_there(mill: Team) -> None:
    async with FakeIdp() as idp:
        await sent_on(mill.owner, "/admin/issuers/new", wanted(idp))
        [row] = await mill.rows("SELECT id FROM jwt_issuer")
        other = await mill.place.in_a_team("other@example.com", "owner")
        change = {"name": "Mine", "jwks_url": idp.jwks_url, "user_claim": "sub"}
        for path in (f"/admin/issuers/{row['id']}", f"/admin/issuers/{uuid4()}"):
            assert (await other.get(path)).status == 404
            assert (await send(other, path, change)).status == 404
            assert (await send(other, path + "/test")).status == 404
            assert (await send(other, path + "/delete")).status == 404
        assert "Our sign-in" not in (await other.get("/admin/issuers")).text


async def test_where_private_addresses_are_not_allowed_none_is_asked(database_url: str) -> None:
    async with team(database_url) as mill, FakeIdp() as idp:
        answer = await send(mill.owner, "/admin/issuers/new", wanted(idp, do="test"))
        assert answer.status == 422 and answer.soup.select_one("#field-jwks_url-error")


# ---------------------------------------------------------------------------------------------------------- connections


async def connect(mill: Team) -> str:
    """The path of a new connection to a server that is not there."""
    fields = {"provider": "openai", "name": "Ours", "base_url": "http://127.0.0.1:9/v1", "key": SECRET, "do": "save"}
    await sent_on(mill.owner, "/admin/connections/new", fields)
    [row] = await mill.rows("SELECT id FROM connection WHERE organization_id = %s", mill.id)
    return f"/admin/connections/{row['id']}"


async def test_no_page_shows_the_key_of_a_connection_again(mill: Team) -> None:
    path = await connect(mill)
    for one in ("/admin/connections", path, "/admin/audit", "/admin"):
        assert SECRET not in (await mill.owner.get(one)).text
    refused = {"provider": "openai", "key": SECRET, "base_url": "nowhere", "do": "save"}
    answer = await send(mill.owner, "/admin/connections/new", refused)
    assert answer.status == 422 and SECRET not in answer.text
    assert "…cdef" in (await mill.owner.get("/admin/connections")).text


async def test_a_key_goes_to_no_other_address_and_stays_when_none_is_typed(mill: Team) -> None:
    path = await connect(mill)
    sealed = await mill.rows("SELECT key_ciphertext FROM connection WHERE organization_id = %s", mill.id)
    elsewhere = {"name": "Ours", "base_url": "http://127.0.0.1:10/v1", "priority": "0", "enabled": "yes"}
    answer = await send(mill.owner, path, elsewhere)
    assert answer.status == 422 and answer.soup.select_one("#field-key-error")
    stays = {"name": "Renamed", "base_url": "http://127.0.0.1:9/v1", "priority": "5", "enabled": "yes"}
    await sent_on(mill.owner, path, stays)
    assert sealed == await mill.rows("SELECT key_ciphertext FROM connection WHERE organization_id = %s", mill.id)
    await sent_on(mill.owner, path, stays | {"without_key": "yes"})
    [row] = await mill.rows("SELECT key_ciphertext, priority FROM connection WHERE organization_id = %s", mill.id)
    assert row == {"key_ciphertext": None, "priority": 5}


async def test_a_connection_is_tested_and_deleted(mill: Team) -> None:
    path = await connect(mill)
    page = await sent_on(mill.owner, path + "/test")
    assert page.soup.select_one('.toast[data-category="error"]')
    draft = {"provider": "openai", "base_url": "http://127.0.0.1:9/v1", "do": "test"}
    assert "The test failed" in seen(await send(mill.owner, "/admin/connections/new", draft))
    assert "No connections of your own" in seen(await sent_on(mill.owner, path + "/delete"))


async def test_connections_of_others_are_not_there(mill: Team) -> None:
    path, other = await connect(mill), await mill.place.in_a_team("other@example.com", "owner")
    assert (await other.get(path)).status == 404
    for act, fields in (("", {"name": "Mine", "enabled": "yes"}), ("/test", {}), ("/delete", {})):
        assert (await send(other, path + act, fields)).status == 404
    assert "Ours" not in seen(await other.get("/admin/connections"))
