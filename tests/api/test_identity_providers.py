"""Identity providers as operators manage them: tried before they are saved; no answer or audit row has the secret."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import pytest
import pytest_asyncio

from tests.api.conftest import ORIGIN, Api, Reply
from tests.api.connecting import audited, rows, serving
from tests.conftest import TEST_SECRET, Cluster, SeededTemplate
from tests.fake_idp import FakeIdp
from tollhouse.core.oidc import secret_association
from tollhouse.core.vault import Keyring
from tollhouse.flows.connection import Policy

pytestmark = pytest.mark.asyncio(loop_scope="module")

KEYRING = Keyring(TEST_SECRET)
PLATFORM = "00000000-0000-0000-0000-000000000000"
SECRET, OTHER_SECRET = "canary-client-secret-1", "canary-client-secret-2"
PATH = "/identity-providers"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(cluster: Cluster, seeded_template: SeededTemplate) -> AsyncIterator[Api]:
    with cluster.database(seeded_template.name) as url:
        async with serving(url, seeded_template.operator_key, Policy(KEYRING, "test")) as running:
            yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def live_client(cluster: Cluster, seeded_template: SeededTemplate) -> AsyncIterator[Api]:
    with cluster.database(seeded_template.name) as url:
        async with serving(url, seeded_template.operator_key, Policy(KEYRING, "live")) as running:
            yield running


@pytest_asyncio.fixture(loop_scope="module")
async def idp() -> AsyncIterator[FakeIdp]:
    async with FakeIdp() as running:
        yield running


def wanted(idp: FakeIdp, **more: Any) -> dict[str, Any]:
    return {"name": "Example", "issuer": idp.issuer, "client_id": "tollhouse", "client_secret": SECRET} | more


async def made(client: Api, idp: FakeIdp, **more: Any) -> Any:
    reply = await client.order("POST", PATH, wanted(idp, **more))
    assert reply.status == 201, reply.text
    return reply.body


def refused(reply: Reply) -> tuple[int, list[str]]:
    return reply.status, [one["field"] for one in reply.body["errors"]]


async def stored(client: Api, row: Any) -> str | None:
    ((sealed,),) = await rows(client, "SELECT secret_ciphertext FROM identity_provider WHERE id = %s", row["id"])
    return sealed and KEYRING.open(sealed, secret_association(UUID(row["id"]), row["issuer"]))


async def test_a_provider_is_made_told_changed_tested_and_deleted(client: Api, idp: FakeIdp) -> None:
    row = await made(client, idp, name=" Example ")
    assert row == {
        "id": row["id"], "name": "Example", "issuer": idp.issuer, "client_id": "tollhouse", "has_secret": True,
        "redirect_uri": f"{ORIGIN}/sign-in/oidc/{row['id']}/callback", "enabled": True,
        "created_at": row["created_at"], "updated_at": None,
    }  # fmt: skip
    assert await stored(client, row) == SECRET
    assert row in (await client.order("GET", PATH)).body["items"]
    path = f"{PATH}/{row['id']}"
    changed = await client.order("PATCH", path, {"client_secret": OTHER_SECRET, "name": "Ours"})
    assert changed.body == row | {"name": "Ours", "updated_at": changed.body["updated_at"]}
    assert await stored(client, row) == OTHER_SECRET
    assert (await client.order("PATCH", path, {"client_secret": None})).body["has_secret"] is False
    assert await stored(client, row) is None
    tried = await client.order("POST", f"{path}/test")
    assert (tried.status, tried.body["ok"]) == (200, True)
    assert (await client.order("DELETE", path)).status == 204
    assert row["id"] not in (await client.order("GET", PATH)).text
    told = [one[1:] for one in await audited(client, PLATFORM) if one[2] == row["id"]]
    whole = {"name": "Example", "issuer": idp.issuer, "client_id": "tollhouse", "enabled": True, "has_secret": True}
    assert told == [
        ("identity_provider.created", row["id"], whole),
        ("identity_provider.changed", row["id"],
         {"name": {"from": "Example", "to": "Ours"}, "has_secret": {"from": True, "to": True}, "secret_changed": True}),
        ("identity_provider.changed", row["id"], {"has_secret": {"from": True, "to": False}, "secret_changed": True}),
        ("identity_provider.tested", row["id"], {"issuer": idp.issuer}),
        ("identity_provider.deleted", row["id"],
         whole | {"name": "Ours", "has_secret": False, "identities_unlinked": 0}),
    ]  # fmt: skip


async def test_the_secret_is_nowhere(client: Api, idp: FakeIdp) -> None:
    row = await made(client, idp)
    answers = [
        await client.order("GET", PATH),
        await client.order("PATCH", f"{PATH}/{row['id']}", {"client_secret": OTHER_SECRET}),
        await client.order("POST", f"{PATH}/{row['id']}/test"),
        await client.order("POST", f"{PATH}/test", wanted(idp)),
        await client.order("POST", PATH, wanted(idp)),
        await client.order("POST", PATH, wanted(idp, client_secret=f"{SECRET} \n")),
        await client.order("POST", PATH, wanted(idp, client_secret=[SECRET])),
    ]
    assert not any("canary" in answer.text for answer in answers)
    assert await rows(client, "SELECT 1 FROM audit WHERE details::text LIKE %s", "%canary%") == []
    assert (await client.order("DELETE", f"{PATH}/{row['id']}")).status == 204


async def test_only_operators_manage_them(client: Api, idp: FakeIdp) -> None:
    organization = await client.organization("pro")
    key = await client.key(organization, "manage", "gateway", "credits", "act_as")
    id_ = uuid4()
    for method, path, body in (
        ("GET", "", None), ("POST", "", wanted(idp)), ("POST", "/test", wanted(idp)), ("PATCH", f"/{id_}", {}),
        ("DELETE", f"/{id_}", None), ("POST", f"/{id_}/test", None),
    ):  # fmt: skip
        for carried, status in ((key, 403), (None, 401)):
            reply = await client.call(method, f"/api/operator{PATH}{path}", body, key=carried)
            assert reply.status == status, reply.text
    assert idp.calls == []


async def test_an_issuer_stays_who_it_is(client: Api, idp: FakeIdp) -> None:
    """Whoever is u-1 there would be u-1 of another issuer."""
    row = await made(client, idp)
    async with FakeIdp() as other:
        reply = await client.order("PATCH", f"{PATH}/{row['id']}", {"issuer": other.issuer})
    assert refused(reply) == (400, ["issuer"])
    again = await client.order("POST", PATH, wanted(idp))
    assert again.status == 409
    assert (await client.order("DELETE", f"{PATH}/{row['id']}")).status == 204


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"name": ""}, "name"), ({"name": "n" * 101}, "name"), ({"issuer": ""}, "issuer"), ({"issuer": "id"}, "issuer"),
        ({"issuer": "ftp://id.example"}, "issuer"), ({"issuer": "https://id.example?a=b"}, "issuer"),
        ({"issuer": "http://169.254.169.254"}, "issuer"), ({"client_id": ""}, "client_id"),
        ({"client_id": "a b"}, "client_id"), ({"client_secret": ""}, "client_secret"),
        ({"id": str(uuid4())}, "id"), ({"secret_ciphertext": "x"}, "secret_ciphertext"), ({"enabled": 1}, "enabled"),
    ],
)  # fmt: skip
async def test_what_is_wrong_is_told_by_its_name(client: Api, idp: FakeIdp, changes: Any, field: str) -> None:
    for path in ("", "/test"):
        assert refused(await client.order("POST", PATH + path, wanted(idp, **changes))) == (400, [field])
    assert idp.calls == []


async def test_nothing_is_saved_with_which_nobody_could_sign_in(client: Api, idp: FakeIdp) -> None:
    for description, raw, why in (
        ({"issuer": "https://canary.example"}, None, "another issuer"),
        ({"token_endpoint": "http://[::ffff:169.254.169.254]/canary"}, None, "token_endpoint"),
        ({}, b'{"keys": ["canary"]}', "keys of this issuer"),
    ):
        idp.description, idp.jwks_raw = description, raw
        reply, tried = (
            await client.order("POST", PATH, wanted(idp)),
            await client.order("POST", f"{PATH}/test", wanted(idp)),
        )
        assert refused(reply) == (400, ["issuer"])
        assert (tried.status, tried.body["ok"]) == (200, False)
        assert why in reply.text and why in tried.text
        assert "canary" not in reply.text + tried.text


async def test_in_live_mode_not_even_operators_lead_inside(live_client: Api, idp: FakeIdp) -> None:
    for issuer in (idp.issuer, idp.issuer.replace("http:", "https:"), "https://localhost"):
        assert refused(await live_client.order("POST", PATH, wanted(idp, issuer=issuer))) == (400, ["issuer"])
    assert idp.calls == []


async def test_there_is_none_of_that_id(client: Api) -> None:
    path = f"{PATH}/{uuid4()}"
    assert (await client.order("PATCH", path, {})).status == 404
    assert (await client.order("DELETE", path)).status == 404
    assert (await client.order("POST", f"{path}/test")).status == 404
