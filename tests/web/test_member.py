"""Members and invitations as pages."""

from __future__ import annotations

from collections.abc import AsyncIterator
from uuid import uuid4

import pytest_asyncio

from tests.web.team import Team, at, forget_proof, seen, send, sent_on, signed_in, team


@pytest_asyncio.fixture
async def mill(database_url: str) -> AsyncIterator[Team]:
    async with team(database_url) as made:
        yield made


async def test_everybody_sees_who_is_in_and_only_managers_the_means_to_change_it(mill: Team) -> None:
    member = await mill.join("member@example.com", "member")
    await sent_on(mill.owner, "/admin/members/invite", {"email": "grace@example.com", "role": "member"})
    page = await member.get("/admin/members")
    assert "owner@example.com" in page.text and "member@example.com" in page.text
    assert "grace@example.com" not in page.text and "Invite" not in seen(page)
    assert (await member.get(f"/admin/members/{mill.owner.person_id}")).status == 403
    assert "grace@example.com" in (await mill.owner.get("/admin/members")).text


async def test_an_invitation_is_sent_sent_again_and_revoked(mill: Team) -> None:
    await sent_on(mill.owner, "/admin/members/invite", {"email": "Grace@Example.com", "role": "member"})
    first = await mill.invited("grace@example.com")
    [row] = await mill.rows("SELECT id FROM invitation WHERE revoked_at IS NULL")
    assert "works no more" in seen(await sent_on(mill.owner, f"/admin/invitations/{row['id']}/resend"))
    second = await mill.invited("grace@example.com")
    visitor = mill.place.visitor()
    assert [(await visitor.get(link)).status for link in (first, second)] == [409, 200]
    [row] = await mill.rows("SELECT id FROM invitation WHERE revoked_at IS NULL")
    await sent_on(mill.owner, f"/admin/invitations/{row['id']}/revoke")
    assert (await visitor.get(second)).status == 409
    assert (await send(mill.owner, f"/admin/invitations/{row['id']}/resend")).status == 404


async def test_what_is_no_address_and_who_is_a_member_are_refused_beside_the_field(mill: Team) -> None:
    answer = await send(mill.owner, "/admin/members/invite", {"email": "grace", "role": "member"})
    assert answer.status == 422 and answer.soup.select_one("#field-email-error")
    answer = await send(mill.owner, "/admin/members/invite", {"email": "owner@example.com", "role": "member"})
    assert answer.status == 422 and "is a member here already" in seen(answer)


async def test_nobody_is_invited_as_an_owner_by_an_admin(mill: Team) -> None:
    admin = await mill.join("admin@example.com", "admin")
    answer = await send(admin, "/admin/members/invite", {"email": "grace@example.com", "role": "owner"})
    assert answer.status == 403
    assert (await send(admin, "/admin/members/invite", {"email": "g@example.com", "role": "god"})).status == 422
    assert await mill.rows("SELECT FROM invitation") == []


async def test_a_role_is_changed_and_counts_at_once(mill: Team) -> None:
    member = await mill.join("member@example.com", "member")
    page = await mill.owner.get(f"/admin/members/{member.person_id}")
    assert at(page, 'input[name="role"][checked]')["value"] == "member"
    await sent_on(mill.owner, f"/admin/members/{member.person_id}/role", {"role": "admin"})
    assert (await signed_in(mill.place, member)).role == "admin"


async def test_an_admin_makes_no_owner_and_unmakes_none(mill: Team) -> None:
    admin = await mill.join("admin@example.com", "admin")
    for person_id, role in ((admin.person_id, "owner"), (mill.owner.person_id, "member")):
        answer = await send(admin, f"/admin/members/{person_id}/role", {"role": role})
        assert answer.status == 403 and "Ask an owner" in seen(answer)
    assert (await send(admin, f"/admin/members/{mill.owner.person_id}/remove")).status == 403
    assert (await signed_in(mill.place, mill.owner)).role == "owner"


async def test_the_last_owner_stays_one(mill: Team) -> None:
    answer = await send(mill.owner, f"/admin/members/{mill.owner.person_id}/role", {"role": "member"})
    assert answer.status == 409 and "only owner" in seen(answer)
    assert "only owner" in seen(await sent_on(mill.owner, f"/admin/members/{mill.owner.person_id}/remove"))


async def test_to_make_an_owner_takes_a_fresh_proof(mill: Team) -> None:
    admin = await mill.join("admin@example.com", "admin")
    await forget_proof(mill.place, mill.owner)
    answer = await send(mill.owner, f"/admin/members/{admin.person_id}/role", {"role": "owner"})
    assert (answer.status, answer.headers["location"].partition("?")[0]) == (303, "/confirm")
    assert (await signed_in(mill.place, admin)).role == "admin"


async def test_a_removed_member_is_out_at_once(mill: Team) -> None:
    member = await mill.join("member@example.com", "member")
    await sent_on(mill.owner, f"/admin/members/{member.person_id}/remove")
    assert (await signed_in(mill.place, member)).organization_id != mill.id
    assert "owner@example.com" not in (await member.get("/admin/members")).text


async def test_people_and_invitations_of_others_are_not_there(mill: Team) -> None:
    other = await mill.place.in_a_team("other@example.com", "owner")
    await sent_on(other, "/admin/members/invite", {"email": "theirs@example.com", "role": "member"})
    [row] = await mill.rows("SELECT id FROM invitation")
    for path in (
        f"/admin/members/{other.person_id}/role",
        f"/admin/members/{uuid4()}/role",
    ):
        assert (await send(mill.owner, path, {"role": "member"})).status == 404
    for path in (
        f"/admin/members/{other.person_id}/remove",
        f"/admin/invitations/{row['id']}/revoke",
        f"/admin/invitations/{row['id']}/resend",
    ):
        assert (await send(mill.owner, path)).status == 404, path
    assert (await mill.owner.get(f"/admin/members/{other.person_id}")).status == 404
    assert "theirs@example.com" not in (await mill.owner.get("/admin/members")).text


async def test_a_personal_organisation_says_that_it_has_one_member(mill: Team) -> None:
    ada = await mill.place.person("ada@example.com")
    page = await ada.get("/admin/members")
    assert "exactly one member" in seen(page)
    answer = await send(ada, "/admin/members/invite", {"email": "grace@example.com", "role": "member"})
    assert answer.status == 422 and "exactly one member" in seen(answer)
