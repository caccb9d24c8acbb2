"""Issuers as organisations register them: tried before they are saved, nobody else's, each change in the audit log."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import pytest
import pytest_asyncio

from tests.api.conftest import Api, Reply
from tests.api.connecting import audited, serving
from tests.conftest import TEST_SECRET, Cluster, SeededTemplate
from tests.fake_idp import FakeIdp, new_key
from tests.outside.wiretap import Wiretap
from tollhouse.core.issuer import OF_AN_ORGANIZATION_MAX
from tollhouse.core.vault import Keyring
from tollhouse.flows.connection import Policy

pytestmark = pytest.mark.asyncio(loop_scope="module")

PATH = "/api/issuers"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(cluster: Cluster, seeded_template: SeededTemplate) -> AsyncIterator[Api]:
    """An installation whose operator allows private addresses to everybody."""
    with cluster.database(seeded_template.name) as url:
        policy = Policy(Keyring(TEST_SECRET), "test", allow_private=True)
        async with serving(url, seeded_template.operator_key, policy) as running:
            yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def strict_client(cluster: Cluster, seeded_template: SeededTemplate) -> AsyncIterator[Api]:
    """One in test mode as it comes: private addresses are not for organisations."""
    with cluster.database(seeded_template.name) as url:
        async with serving(url, seeded_template.operator_key, Policy(Keyring(TEST_SECRET), "test")) as running:
            yield running


@pytest_asyncio.fixture(loop_scope="module")
async def idp() -> AsyncIterator[FakeIdp]:
    async with FakeIdp() as running:
        yield running


@dataclass
class Hers:
    client: Api
    id: str
    key: str

    async def call(self, method: str, path: str = "", body: object = None) -> Reply:
        return await self.client.call(method, PATH + path, body, key=self.key)

    async def trust(self, idp: FakeIdp, **more: Any) -> Reply:
        return await self.call("POST", "", wanted(idp) | more)

    async def trusted(self, idp: FakeIdp, **more: Any) -> Any:
        reply = await self.trust(idp, **more)
        assert reply.status == 201, reply.text
        return reply.body

    async def listed(self) -> list[Any]:
        reply = await self.call("GET")
        assert reply.status == 200, reply.text
        items: list[Any] = reply.body["items"]
        return items


def wanted(idp: FakeIdp) -> dict[str, Any]:
    return {"name": "login", "issuer": idp.issuer, "jwks_url": idp.jwks_url}


async def organization(client: Api, *scopes: str) -> Hers:
    id_ = await client.organization("pro")
    return Hers(client, id_, await client.key(id_, *(scopes or ("manage",))))


def refused(reply: Reply) -> tuple[int, list[str]]:
    assert reply.headers["content-type"] == "application/problem+json", reply.text
    return reply.status, [one["field"] for one in reply.body["errors"]]


async def test_an_issuer_is_made_told_changed_tested_and_deleted(client: Api, idp: FakeIdp) -> None:
    hers = await organization(client)
    made = await hers.trusted(idp)
    assert made == {
        "id": made["id"], "name": "login", "issuer": idp.issuer, "audience": f"tollhouse:{hers.id}",
        "jwks_url": idp.jwks_url, "user_claim": "sub", "enabled": True, "created_at": made["created_at"],
        "updated_at": None,
    }  # fmt: skip
    assert await hers.listed() == [made]
    changed = await hers.call("PATCH", f"/{made['id']}", {"enabled": False, "user_claim": "email"})
    assert changed.body == made | {"enabled": False, "user_claim": "email", "updated_at": changed.body["updated_at"]}
    assert await hers.listed() == [changed.body]
    tried = await hers.call("POST", f"/{made['id']}/test")
    assert (tried.status, tried.body) == (200, {"ok": True, "message": "The issuer publishes 1 usable key."})
    assert (await hers.call("DELETE", f"/{made['id']}")).status == 204
    assert await hers.listed() == []
    told = [(action, object_id, details) for _, action, object_id, details in await audited(client, hers.id)]
    whole = {name: made[name] for name in ("issuer", "audience", "name", "jwks_url", "user_claim", "enabled")}
    assert told == [
        ("issuer.created", made["id"], whole),
        ("issuer.changed", made["id"],
         {"enabled": {"from": True, "to": False}, "user_claim": {"from": "sub", "to": "email"}}),
        ("issuer.tested", made["id"], {"jwks_url": idp.jwks_url}),
        ("issuer.deleted", made["id"], whole | {"enabled": False, "user_claim": "email"}),
    ]  # fmt: skip


async def test_nobody_else_sees_changes_tests_or_deletes_it(client: Api, idp: FakeIdp) -> None:
    hers, others = await organization(client), await organization(client)
    made = await hers.trusted(idp)
    asked = idp.count("/keys")
    assert await others.listed() == []
    for method, path, body in (
        ("PATCH", f"/{made['id']}", {"jwks_url": "http://127.0.0.1:9/keys"}),
        ("DELETE", f"/{made['id']}", None),
        ("POST", f"/{made['id']}/test", None),
    ):
        there, never = (
            await others.call(method, path, body),
            await others.call(method, path.replace(made["id"], str(uuid4())), body),
        )
        assert there.status == never.status == 404
        assert there.body["detail"] == never.body["detail"]
    assert idp.count("/keys") == asked
    assert await hers.listed() == [made]


@pytest.mark.parametrize("scopes", [("gateway", "credits", "act_as")])
async def test_saving_and_testing_need_the_same_right(client: Api, idp: FakeIdp, scopes: tuple[str, ...]) -> None:
    small = await organization(client, *scopes)
    id_ = str(uuid4())
    for method, path, body in (
        ("GET", "", None), ("POST", "", wanted(idp)), ("POST", "/test", wanted(idp)), ("PATCH", f"/{id_}", {}),
        ("DELETE", f"/{id_}", None), ("POST", f"/{id_}/test", None),
    ):  # fmt: skip
        assert (await small.call(method, path, body)).status == 403
        assert (await client.call(method, PATH + path, body)).status == 401
    assert idp.calls == []


async def test_the_platform_trusts_no_issuer(client: Api, idp: FakeIdp) -> None:
    key = await client.key(str(UUID(int=0)), "manage")
    reply = await client.call("POST", PATH, wanted(idp), key=key)
    assert reply.status == 403
    assert "identity-providers" in reply.body["detail"]


# ---------------------------------------------------------------------------------------------------- what may be saved


async def test_an_audience_names_no_other_organisation(client: Api, idp: FakeIdp) -> None:
    hers, others = await organization(client), await organization(client)
    for audience in (f"tollhouse:{others.id}", f"Tollhouse:{hers.id}", "tollhouse:", f"tollhouse:{hers.id.upper()}x"):
        reply = await hers.trust(idp, audience=audience)
        assert refused(reply) == (400, ["audience"])
        assert f"tollhouse:{hers.id}" in reply.body["detail"]
    assert (await hers.trusted(idp, audience=f"tollhouse:{hers.id}"))["audience"] == f"tollhouse:{hers.id}"


async def test_of_two_who_want_the_same_tokens_the_second_is_told_what_to_do(client: Api, idp: FakeIdp) -> None:
    hers, others = await organization(client), await organization(client)
    await hers.trusted(idp, audience="shop")
    reply = await others.trust(idp, audience="shop")
    assert reply.status == 409
    assert f"'tollhouse:{others.id}'" in reply.body["detail"]
    assert hers.id not in reply.text
    again = await hers.trust(idp, audience="shop")
    assert again.status == 409
    assert "already" in again.body["detail"]
    assert len(await others.listed()) == 0


async def test_of_two_who_want_the_same_tokens_at_once_one_gets_them(client: Api, idp: FakeIdp) -> None:
    hers, others = await organization(client), await organization(client)
    replies = await asyncio.gather(hers.trust(idp, audience="shop"), others.trust(idp, audience="shop"))
    assert sorted(reply.status for reply in replies) == [201, 409]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"name": ""}, "name"), ({"name": "n" * 201}, "name"), ({"issuer": ""}, "issuer"),
        ({"issuer": "a b"}, "issuer"),
        ({"issuer": "é"}, "issuer"), ({"issuer": "i" * 501}, "issuer"), ({"audience": ""}, "audience"),
        ({"audience": "a b"}, "audience"), ({"user_claim": ""}, "user_claim"), ({"user_claim": "a b"}, "user_claim"),
        ({"jwks_url": ""}, "jwks_url"), ({"jwks_url": "ftp://id.example/"}, "jwks_url"),
        ({"jwks_url": "http://169.254.169.254/latest"}, "jwks_url"),
        ({"jwks_url": "http://u:p@id.example/"}, "jwks_url"),
        ({"organization_id": str(UUID(int=1))}, "organization_id"), ({"id": str(UUID(int=1))}, "id"),
        ({"enabled": "yes"}, "enabled"),
    ],
)  # fmt: skip
async def test_what_is_wrong_is_told_by_its_name(client: Api, idp: FakeIdp, changes: Any, field: str) -> None:
    hers = await organization(client)
    for path in ("", "/test"):
        assert refused(await hers.call("POST", path, wanted(idp) | changes)) == (400, [field])
    assert idp.calls == []


@pytest.mark.parametrize("change", [{"issuer": "https://elsewhere.example"}, {"audience": "other"}])
async def test_an_issuer_does_not_become_another(client: Api, idp: FakeIdp, change: Any) -> None:
    hers = await organization(client)
    made = await hers.trusted(idp)
    assert (await hers.call("PATCH", f"/{made['id']}", change)).status == 400
    assert await hers.listed() == [made]


@pytest.mark.parametrize(
    "url",
    ["https://127.0.0.1/keys", "https://10.0.0.1/keys", "https://[::ffff:10.0.0.1]/keys", "http://id.example/keys",
     "https://2130706433/keys", "https://localhost/keys", "https://169.254.169.254/keys"],
)  # fmt: skip
async def test_an_organisation_does_not_have_the_server_look_inside(strict_client: Api, url: str) -> None:
    hers = await organization(strict_client)
    body = {"name": "login", "issuer": "https://id.example", "jwks_url": url}
    for path in ("", "/test"):
        assert refused(await hers.call("POST", path, body)) == (400, ["jwks_url"])


async def test_nothing_is_saved_whose_keys_cannot_be_had(client: Api, idp: FakeIdp) -> None:
    hers = await organization(client)
    async with Wiretap(b"HTTP/1.1 200 OK\r\nContent-Length: 300000\r\n\r\n" + b"canary" * 50_000) as huge:
        for raw, url, why in (
            (b"<canary>", idp.jwks_url, "not JSON"),
            (b"{}", idp.jwks_url, "no JWKS"),
            (b'{"keys": [{"kty": "oct", "k": "Y2FuYXJ5"}]}', idp.jwks_url, "no key"),
            (b"", f"{idp.issuer}/nothing", "status 404"),
            (b"", huge.url, "larger than"),
        ):
            idp.jwks_raw = raw
            reply = await hers.trust(idp, jwks_url=url)
            assert refused(reply) == (400, ["jwks_url"])
            tried = await hers.call("POST", "/test", wanted(idp) | {"jwks_url": url})
            assert (tried.status, tried.body["ok"]) == (200, False)
            for told in (reply, tried):
                assert why in told.text and "canary" not in told.text
    assert await hers.listed() == []


async def test_a_redirect_is_not_followed(client: Api, idp: FakeIdp) -> None:
    hers = await organization(client)
    async with FakeIdp() as other:
        idp.jwks_location = other.jwks_url
        reply = await hers.trust(idp)
        assert refused(reply) == (400, ["jwks_url"])
        assert "redirects" in reply.body["detail"]
        assert other.calls == []


async def test_another_address_is_tried_before_it_is_saved(client: Api, idp: FakeIdp) -> None:
    hers = await organization(client)
    made = await hers.trusted(idp)
    assert refused(await hers.call("PATCH", f"/{made['id']}", {"jwks_url": f"{idp.issuer}/nothing"})) == (
        400, ["jwks_url"],
    )  # fmt: skip
    async with FakeIdp(keys=[new_key(), new_key("RSA")]) as other:
        changed = await hers.call("PATCH", f"/{made['id']}", {"jwks_url": other.jwks_url})
        assert changed.body["jwks_url"] == other.jwks_url
        tried = await hers.call("POST", f"/{made['id']}/test")
        assert tried.body["message"] == "The issuer publishes 2 usable keys."
    assert (await hers.call("POST", f"/{made['id']}/test")).body["ok"] is False


async def test_there_is_an_end_of_issuers_also_at_once(client: Api, idp: FakeIdp) -> None:
    hers = await organization(client)
    replies = await asyncio.gather(
        *(hers.trust(idp, audience=f"a{number}") for number in range(OF_AN_ORGANIZATION_MAX + 3))
    )
    assert sorted(reply.status for reply in replies) == [201] * OF_AN_ORGANIZATION_MAX + [409] * 3
    assert len(await hers.listed()) == OF_AN_ORGANIZATION_MAX
