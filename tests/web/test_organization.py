"""Organisations as pages: made, chosen, left, changed, handed on, deleted, joined."""

from __future__ import annotations

from collections.abc import AsyncIterator
from uuid import uuid4

import pytest_asyncio

from tests.web.team import Team, at, forget_proof, seen, send, sent_on, signed_in, team


@pytest_asyncio.fixture
async def mill(database_url: str) -> AsyncIterator[Team]:
    async with team(database_url) as made:
        yield made


# --------------------------------------------------------------------------------------------------- making and leaving


async def test_who_makes_an_organisation_goes_on_in_it_as_its_owner(mill: Team) -> None:
    ada = await mill.place.person("ada@example.com")
    before = ada.cookies[mill.place.site.cookie]
    page = await sent_on(ada, "/organizations/new", {"name": "Looms & Co <b>", "business_type": "manufacturing"})
    assert at(page, "h1").text == "Looms & Co <b>"
    assert "You are its owner." in seen(page)
    assert ada.cookies[mill.place.site.cookie] != before
    signed = await signed_in(mill.place, ada)
    assert (signed.organization_name, signed.role) == ("Looms & Co <b>", "owner")


async def test_a_name_that_cannot_be_is_refused_beside_its_field_and_stays_typed(mill: Team) -> None:
    answer = await send(mill.owner, "/organizations/new", {"name": "see https://x.example", "business_type": "general"})
    assert answer.status == 422
    assert at(answer, "#field-name")["value"] == "see https://x.example"
    assert "web address" in at(answer, "#field-name-error").text
    assert (await send(mill.owner, "/organizations/new", {"name": "A", "business_type": "piracy"})).status == 422


async def test_the_list_has_ones_own_organisations_and_no_others(mill: Team) -> None:
    stranger = await mill.place.person("stranger@example.com")
    assert "Mill" not in seen(await stranger.get("/organizations"))
    page = seen(await mill.owner.get("/organizations"))
    assert "Mill" in page and "Personal" in page


async def test_a_member_leaves_and_the_only_owner_is_told_what_to_do_first(mill: Team) -> None:
    member = await mill.join("member@example.com", "member")
    assert "only owner" in seen(await sent_on(mill.owner, f"/organizations/{mill.id}/leave"))
    assert "You left" in seen(await sent_on(member, f"/organizations/{mill.id}/leave"))
    assert (await signed_in(mill.place, member)).organization_id != mill.id
    assert (await mill.audited())[-1] == "member.left"


async def test_an_organisation_of_others_cannot_be_told_from_one_that_never_was(mill: Team) -> None:
    stranger = await mill.place.person("stranger@example.com")
    answers = [await send(stranger, f"/organizations/{id_}/leave") for id_ in (mill.id, uuid4())]
    assert [answer.status for answer in answers] == [404, 404]


# ------------------------------------------------------------------------------------------------- overview, settings


async def test_the_overview_says_what_needs_attention(mill: Team) -> None:
    assert "Nothing at the moment." in seen(await mill.owner.get("/admin"))
    await mill.join("member@example.com", "member")
    page = seen(await mill.owner.get("/admin"))
    assert "There is one owner only" in page
    assert "Free" in page


async def test_a_member_is_told_whom_to_ask_for_what_only_admins_open(mill: Team) -> None:
    member = await mill.join("member@example.com", "member")
    page = await member.get("/admin/settings")
    assert page.status == 403
    assert "Your role here is member" in seen(page) and "Ask an owner" in seen(page)
    assert 'href="/admin/settings"' not in (await member.get("/admin/members")).text


async def test_settings_are_changed_shown_again_and_written_down(mill: Team) -> None:
    await sent_on(mill.owner, "/admin/settings", {"name": "Silk Mill", "business_type": "retail"})
    chosen = {"cache_ttl": "3600", "stores_content": "yes", "retention_days": "90"}
    page = await sent_on(mill.owner, "/admin/settings/calls", chosen)
    assert at(page, "#field-name")["value"] == "Silk Mill"
    assert at(page, "#field-retention_days")["value"] == "90"
    assert at(page, "#field-stores_content").has_attr("checked")
    assert at(page, "#field-cache_ttl option[selected]")["value"] == "3600"
    page = await sent_on(mill.owner, "/admin/settings/chats", {"chats_kept": "90"})
    assert at(page, "#field-chats_kept option[selected]")["value"] == "90"
    assert at(page, "#field-retention_days")["value"] == "90"
    assert (await mill.audited())[-3:] == ["organization.changed", "settings.changed", "settings.changed"]
    page = await sent_on(mill.owner, "/admin/settings/chats", {"chats_kept": "0"})
    assert at(page, "#field-chats_kept option[selected]").text == "Never"


async def test_what_cannot_be_a_setting_changes_nothing(mill: Team) -> None:
    for days in ("0", "3651", "ninety", "1.5", "-1"):
        answer = await send(mill.owner, "/admin/settings/calls", {"cache_ttl": "0", "retention_days": days})
        assert answer.status == 422, days
    for days in ("3651", "ninety", "-1"):
        assert (await send(mill.owner, "/admin/settings/chats", {"chats_kept": days})).status == 422, days
    assert (await send(mill.owner, "/admin/settings/calls", {"retention_days": "9", "plan": "team"})).status == 400
    assert "settings.changed" not in await mill.audited()


async def test_what_was_kept_is_forgotten_by_the_buttons_for_it(mill: Team) -> None:
    assert "cache is empty" in seen(await sent_on(mill.owner, "/admin/settings/cache"))
    assert "deleted" in seen(await sent_on(mill.owner, "/admin/settings/content"))
    assert (await mill.audited())[-2:] == ["cache.emptied", "content.forgotten"]


# --------------------------------------------------------------------------------------------- handing on, and the end


async def test_ownership_goes_to_another_member_and_the_former_owner_is_an_admin(mill: Team) -> None:
    member = await mill.join("member@example.com", "member")
    page = await mill.owner.get("/admin/settings/transfer")
    assert "member@example.com" in page.text and "owner@example.com (" not in page.text
    await sent_on(mill.owner, "/admin/settings/transfer", {"member": str(member.person_id)})
    assert (await signed_in(mill.place, member)).role == "owner"
    assert (await mill.owner.get("/admin/settings/transfer")).status == 403


async def test_ownership_goes_to_nobody_outside(mill: Team) -> None:
    stranger = await mill.place.person("stranger@example.com")
    answer = await send(mill.owner, "/admin/settings/transfer", {"member": str(stranger.person_id)})
    assert answer.status == 404
    assert (await send(mill.owner, "/admin/settings/transfer", {"member": "nobody"})).status == 422


async def test_an_organisation_is_deleted_by_its_owner_who_types_its_name(mill: Team) -> None:
    refused = await send(mill.owner, "/admin/settings/delete", {"name": "mill"})
    assert refused.status == 422 and "exactly as it is written" in seen(refused)
    assert "Mill is deleted" in seen(await sent_on(mill.owner, "/admin/settings/delete", {"name": "Mill"}))
    assert (await signed_in(mill.place, mill.owner)).organization_kind == "personal"
    assert (await mill.audited())[-1] == "organization.deleted"


async def test_who_has_not_proved_just_now_who_they_are_is_asked_first(mill: Team) -> None:
    await forget_proof(mill.place, mill.owner)
    for path in ("/admin/settings/delete", "/admin/settings/transfer", "/admin/privacy/erasure"):
        answer = await mill.owner.get(path)
        assert answer.status == 303
        assert answer.headers["location"].startswith("/confirm?next=%2Fadmin%2F")
    assert (await send(mill.owner, "/admin/settings/delete", {"name": "Mill"})).status == 303
    assert "organization.deleted" not in await mill.audited()


async def test_an_admin_neither_hands_it_on_nor_deletes_it(mill: Team) -> None:
    admin = await mill.join("admin@example.com", "admin")
    assert "Transfer ownership" not in (await admin.get("/admin/settings")).text
    assert (await send(admin, "/admin/settings/delete", {"name": "Mill"})).status == 403
    assert (await send(admin, "/admin/settings/transfer", {"member": str(admin.person_id)})).status == 403


# ---------------------------------------------------------------------------------------------------------- invitations


async def invite(mill: Team, email: str) -> str:
    await sent_on(mill.owner, "/admin/members/invite", {"email": email, "role": "admin"})
    return await mill.invited(email)


async def test_a_visitor_with_an_invitation_is_shown_the_two_ways_in_and_no_address(mill: Team) -> None:
    link = await invite(mill, "grace@example.com")
    page = await mill.place.visitor().get(link)
    assert "Join Mill" in seen(page) and "as an admin" in seen(page)
    assert page.soup.select_one(f'a[href="/sign-in?next={link}"]')
    assert page.soup.select_one(f'a[href="/sign-up?invitation={link.rpartition("/")[2]}"]')
    assert "grace@example.com" not in page.text


async def test_who_is_invited_accepts_once_and_goes_on_there(mill: Team) -> None:
    grace, link = await mill.place.person("grace@example.com"), await invite(mill, "grace@example.com")
    assert "Accept and join" in seen(await grace.get(link))
    page = await sent_on(grace, link)
    assert "You are in Mill now, as admin." in seen(page)
    assert (await signed_in(mill.place, grace)).organization_id == mill.id
    again = await grace.get(link)
    assert again.status == 409 and "accepted already" in seen(again)


async def test_somebody_else_with_the_link_is_told_the_remedy_and_does_not_get_in(mill: Team) -> None:
    link = await invite(mill, "grace@example.com")
    stranger = await mill.place.person("stranger@example.com")
    page = await stranger.get(link)
    assert "This is for another address" in seen(page) and "grace@" not in page.text
    assert (await send(stranger, link)).status == 403
    assert (await signed_in(mill.place, stranger)).organization_id != mill.id


async def test_a_link_that_leads_nowhere_says_so(mill: Team) -> None:
    link = await invite(mill, "grace@example.com")
    for path in ("/invitations/nothing", link[:-1], "/invitations/%00"):
        page = await mill.place.visitor().get(path)
        assert page.status == 404, path
        assert "Mill" not in page.text
