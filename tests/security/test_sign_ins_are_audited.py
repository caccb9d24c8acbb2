"""Signing in, by whatever way, and what people change about it stands in the audit log, in the same transaction."""

from __future__ import annotations

from collections.abc import AsyncIterator
from uuid import uuid4

import pytest

from tests.flows.doorway import ADA, BOB, FIREFOX, OTHER, PASSWORD, Doorway, doorway
from tests.security.changes import changes, install, untold
from tollhouse.core.errors import Unauthenticated
from tollhouse.core.oidc import Identity
from tollhouse.core.session import Signed
from tollhouse.flows import impersonation, password, profile, second_factor, session, sign_in, step_up
from tollhouse.flows.session import Browser

NEW = "ada@new.example.com"


@pytest.fixture
async def door(database_url: str) -> AsyncIterator[Doorway]:
    install(database_url)
    async with doorway(database_url) as made:
        yield made


async def actions(door: Doorway) -> set[str]:
    return {row["action"] for row in await door.rows("SELECT action FROM audit")}


def assert_told(door: Doorway) -> None:
    assert [f"{one.verb} of {one.table} {sorted(one.columns)}" for one in untold(changes(door.db.url))] == []


async def by_link(door: Doorway) -> Signed:
    await sign_in.request_link(door.db, door.site, door.order(), ADA)
    token = await door.token(ADA, "sign_in")
    return await door.read((await sign_in.with_link(door.db, door.site, door.order(), token, Browser(FIREFOX))).cookie)


async def test_every_way_in_and_out_is_told(door: Doorway) -> None:
    ada = await door.newcomer()
    with pytest.raises(Unauthenticated):
        await door.enter(password=OTHER)
    again = await door.read((await door.enter(former=ada)).cookie)
    linked = await by_link(door)
    order = door.order(again.actor)
    await session.revoke(door.db, order, again, linked.id)
    await door.entered()
    await session.revoke_others(door.db, order, again)
    team, _ = await door.team(ada.person_id)
    await session.switch_organization(door.db, door.site, order, again, team)
    await session.sign_out(door.db, order, again)
    assert_told(door)
    assert await actions(door) >= {
        "organization.created", "person.signed_up", "person.email_verified", "person.signed_in",
        "person.sign_in_failed", "person.sign_in_link_sent", "session.revoked", "sessions.revoked",
        "session.organization_chosen", "person.signed_out",
    }  # fmt: skip


async def test_a_session_that_loses_its_organisation_is_told_of(door: Doorway) -> None:
    bob = await door.newcomer(BOB)
    team, _ = await door.team(bob.person_id)
    cookie = await door.cookie(bob.person_id, team)
    await door.change("DELETE FROM member WHERE organization_id = %s", team)
    assert (await door.read(cookie)).organization_id == bob.organization_id
    row = await door.last_audit(bob.organization_id)
    assert (row["action"], row["actor"]) == ("session.organization_chosen", "system")
    assert row["details"] == {"from": str(team), "to": str(bob.organization_id)}
    await door.change("DELETE FROM member WHERE organization_id = %s", bob.organization_id)
    assert await door.whose(cookie) is None
    assert_told(door)


async def test_the_session_that_a_browser_had_ends_on_record(door: Doorway) -> None:
    ada, bob = await door.newcomer(), await door.newcomer(BOB)
    await door.enter(former=bob)
    row = await door.last_audit(bob.organization_id)
    assert (row["action"], row["actor"], row["object_id"]) == ("person.signed_out", bob.actor, str(bob.id))
    assert (await door.last_audit(ada.organization_id))["action"] == "person.signed_in"


async def test_what_people_change_about_their_account_is_told(door: Doorway) -> None:
    ada = await door.newcomer()
    order = door.order(ada.actor)
    await profile.rename(door.db, order, ada, "Ada King")
    await profile.request_email(door.db, door.site, order, ada, NEW)
    token = await door.token(NEW, "change_email")
    ada = await door.read(await profile.confirm_email(door.db, door.site, order, ada, token))
    provider_id = uuid4()
    await door.change(
        "INSERT INTO identity_provider (id, name, issuer, client_id, created_at) VALUES (%s, 'X', 'x', 'x', now())",
        provider_id,
    )
    identity = Identity(provider_id, "ada", NEW, True, "Ada")
    await profile.link_identity(door.db, door.site, order, ada, identity)
    await profile.unlink_identity(door.db, order, ada, provider_id, "ada")
    ada = await door.read(await password.change(door.db, door.site, order, ada, OTHER))
    ada = await door.read(await step_up.prove_with_password(door.db, door.site, order, ada, OTHER))
    await password.request_reset(door.db, door.site, door.order(), NEW)
    await password.reset(door.db, door.site, door.order(), await door.token(NEW, "reset_password"), PASSWORD)
    assert_told(door)
    assert await actions(door) >= {
        "person.renamed", "person.email_change_requested", "person.email_changed", "identity.linked",
        "identity.unlinked", "password.changed", "person.proved", "password.reset_requested", "password.reset",
    }  # fmt: skip


async def test_second_factors_and_who_acts_as_somebody_are_told(door: Doorway) -> None:
    ada, secret, codes = await door.with_app(await door.newcomer())
    door.later(minutes=1)
    held = await door.held((await door.enter()).cookie)
    with pytest.raises(Unauthenticated):
        await second_factor.give(door.db, door.site, door.order(), held, "000000")
    await second_factor.give(door.db, door.site, door.order(), held, door.code(secret))
    held = await door.held((await door.enter()).cookie)
    ada = await door.read(await second_factor.give(door.db, door.site, door.order(), held, codes[0]))
    order = door.order(ada.actor)
    codes = await second_factor.renew_recovery_codes(door.db, door.site, order, ada)
    ada = await door.read(await second_factor.remove(door.db, door.site, order, ada, codes[0]))
    root = await door.sign_in(await door.person("root@example.com", superadmin=True))
    order = door.order(root.actor)
    reason = "She asked why her call was refused."
    cookie = await impersonation.begin(door.db, door.site, order, root, ada.person_id, reason, "x")
    await impersonation.end(door.db, door.site, order, await door.read(cookie))
    assert_told(door)
    assert await actions(door) >= {
        "second_factor.added", "person.second_factor_awaited", "second_factor.failed", "recovery_code.used",
        "recovery_codes.renewed", "second_factor.removed", "impersonation.begun", "impersonation.ended",
    }  # fmt: skip
