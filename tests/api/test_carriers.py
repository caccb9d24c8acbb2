"""Who the API takes a caller for: what is written down about them, what only people do, what they must prove first."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from tests.api.conftest import ORIGIN, Api
from tests.api.connecting import rows, serving
from tests.carriers import KEYRING, Carriers, bearer, carriers
from tests.carriers import cookie as insecure_cookie
from tests.conftest import SeededTemplate
from tollhouse.flows.connection import Policy

SETTINGS = "/api/settings"


@pytest.fixture
async def client(database_url: str, seeded_template: SeededTemplate) -> AsyncIterator[Api]:
    """The keys of issuers are published on this machine."""
    policy = Policy(KEYRING, "test", allow_private=True)
    async with serving(database_url, seeded_template.operator_key, policy) as running:
        yield running


@pytest.fixture
async def cast(client: Api) -> AsyncIterator[Carriers]:
    async with carriers(client.database_url, ORIGIN) as made:
        yield made


def cookie(value: str) -> dict[str, str]:
    """As browsers send it over TLS."""
    sent = insecure_cookie(value)
    return sent | {"cookie": sent["cookie"].replace("tollhouse=", "__Host-tollhouse=")}


async def written(client: Api, organization_id: str | UUID, action: str) -> list[tuple[str, str | None]]:
    """Who did it and from where, as the audit log has it."""
    found = await rows(
        client,
        "SELECT actor, address FROM audit WHERE organization_id = %s AND action = %s ORDER BY seq",
        organization_id,
        action,
    )
    return [(row[0], row[1]) for row in found]


async def test_a_change_is_written_down_with_who_made_it_and_from_where(client: Api, cast: Carriers) -> None:
    organization_id = await client.organization()
    key = await client.key(organization_id, "manage")
    admin = await cast.member(UUID(organization_id), "admin")
    session = await cast.session(admin, UUID(organization_id))
    for headers, seconds in ((bearer(key), 60), (cookie(session), 90)):
        changed = await client.call("PATCH", SETTINGS, {"cache_ttl_seconds": seconds}, **headers)
        assert changed.status == 200, changed.text
    ((key_id,),) = await rows(client, "SELECT id FROM api_key WHERE organization_id = %s", organization_id)
    assert await written(client, organization_id, "settings.changed") == [
        (f"key:{key_id}", "127.0.0.1"),
        (f"person:{admin}", "127.0.0.1"),
    ]


async def test_over_tls_the_cookie_of_plain_http_is_nobodys(client: Api, cast: Carriers) -> None:
    organization_id = UUID(await client.organization())
    session = await cast.session(await cast.member(organization_id, "admin"), organization_id)
    assert (await client.call("GET", SETTINGS, **cookie(session))).status == 200
    assert (await client.call("GET", SETTINGS, **insecure_cookie(session))).status == 401


async def test_what_people_do_is_no_keys_and_no_tokens(client: Api, cast: Carriers) -> None:
    organization_id = await client.organization()
    key = await client.key(organization_id, "manage", "gateway", "credits")
    token = (await cast.issuer(UUID(organization_id))).token("ada")
    for credential in (key, token, client.operator_key):
        refused = await client.call("POST", "/api/organizations", {"name": "Another"}, **bearer(credential))
        assert (refused.status, refused.body["code"]) == (403, "forbidden"), refused.text
        assert "signed in" in refused.body["detail"]


async def test_the_refusal_names_what_would_do(client: Api, cast: Carriers) -> None:
    organization_id = await client.organization()
    member = await cast.session(await cast.member(UUID(organization_id), "member"), UUID(organization_id))
    token = (await cast.issuer(UUID(organization_id))).token("ada")
    key = await client.key(organization_id, "gateway")
    for headers, named in ((bearer(key), "'manage'"), (bearer(token), "'manage'"), (cookie(member), "'admin'")):
        refused = await client.call("PATCH", SETTINGS, {"cache_ttl_seconds": 60}, **headers)
        assert refused.status == 403 and named in refused.body["detail"], refused.text


async def test_a_former_member_is_in_their_own_organisation_again(client: Api, cast: Carriers) -> None:
    organization_id = UUID(await client.organization())
    person_id = await cast.member(organization_id, "owner")
    session = await cast.session(person_id, organization_id)
    await cast.change("DELETE FROM member WHERE person_id = %s AND organization_id = %s", person_id, organization_id)
    reply = await client.call("GET", "/api/organization", **cookie(session))
    assert (reply.status, reply.body["role"]) == (200, "owner")
    assert reply.body["id"] != str(organization_id)


# ---------------------------------------------------------------------------------------------------- superadmins


async def superadmin(cast: Carriers) -> tuple[UUID, dict[str, str]]:
    person_id = await cast.person()
    await cast.change("UPDATE person SET superadmin = true WHERE id = %s", person_id)
    return person_id, cookie(await cast.session(person_id))


async def test_a_superadmin_proves_who_they_are_before_the_platform_is_changed(client: Api, cast: Carriers) -> None:
    person_id, headers = await superadmin(cast)
    body: dict[str, Any] = {"name": "New", "plan": "free"}
    made = await client.call("POST", "/api/operator/organizations", body, **headers)
    assert made.status == 201, made.text
    assert await written(client, made.body["id"], "organization.created") == [(f"person:{person_id}", "127.0.0.1")]
    await cast.change("UPDATE session SET proved_at = now() - interval '11 minutes' WHERE person_id = %s", person_id)
    refused = await client.call("POST", "/api/operator/organizations", body, **headers)
    assert (refused.status, refused.body["code"]) == (403, "proof_required"), refused.text
    read = await client.call("GET", f"/api/operator/organizations/{made.body['id']}", **headers)
    assert read.status == 200, read.text


async def test_only_superadmins_have_the_platform(client: Api, cast: Carriers) -> None:
    organization_id = UUID(await client.organization())
    owner = cookie(await cast.session(await cast.member(organization_id, "owner"), organization_id))
    refused = await client.call("GET", f"/api/operator/organizations/{organization_id}", **owner)
    assert (refused.status, refused.body["code"]) == (403, "forbidden")
    assert "operators" in refused.body["detail"]


async def test_a_superadmin_of_a_suspended_organisation_still_has_the_platform(client: Api, cast: Carriers) -> None:
    _, headers = await superadmin(cast)
    own = (await client.call("GET", "/api/organization", **headers)).body["id"]
    await cast.change("UPDATE organization SET suspended_at = %s WHERE id = %s", datetime.now(UTC), UUID(own))
    assert (await client.call("GET", "/api/organization", **headers)).status == 403
    assert (await client.call("GET", f"/api/operator/organizations/{own}", **headers)).status == 200
