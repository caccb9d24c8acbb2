"""Invitations: once, for seven days, for the address that they were sent to."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from uuid import UUID, uuid4

import pytest

from tests.society import Society, society
from tollhouse.core.access import Role
from tollhouse.core.errors import BadRequest, Conflict, Forbidden, NotFound, TooManyTries
from tollhouse.core.membership import INVITATIONS_OPEN_MAX
from tollhouse.core.session import Impersonator
from tollhouse.core.throttle import INVITATION_ORGANIZATION
from tollhouse.core.vault import Keyring
from tollhouse.flows import invitation as flow
from tollhouse.flows import organization as organizations
from tollhouse.flows.invitation import Wanted
from tollhouse.flows.organization import Insider

BOB = "bob@example.com"


@pytest.fixture
async def town(database_url: str) -> AsyncIterator[Society]:
    async with society(database_url) as made:
        yield made


async def invite(town: Society, insider: Insider, email: str = BOB, role: Role = "member") -> str:
    """The token in the mail."""
    await flow.invite(town.db, town.site, insider, Wanted(email, role))
    return await town.invited(email.lower())


async def accept(town: Society, person: UUID, token: str) -> UUID:
    signed = await town.sign_in(person)
    joined, _ = await flow.accept(town.db, town.site.keyring, town.order(signed.actor), signed, token)
    return joined.id


@pytest.fixture
async def owner(town: Society) -> Insider:
    """Of an organisation called Mill."""
    ada = await town.person("ada@example.com")
    mill, _ = await town.team(ada)
    return await town.insider(mill, ada)


# ------------------------------------------------------------------------------------------------------- it lets one in


async def test_who_accepts_is_in_with_the_role_that_was_offered(town: Society, owner: Insider) -> None:
    token = await invite(town, owner, role="admin")
    bob = await town.person(BOB)
    assert await accept(town, bob, token) == owner.organization_id
    assert (await town.roles(owner.organization_id))[bob] == "admin"
    sent, joined = (await town.audit(owner.organization_id))[-2:]
    assert (sent["action"], sent["actor"], sent["details"]["role"]) == ("invitation.sent", owner.name, "admin")
    assert (joined["action"], joined["actor"], joined["object_id"]) == ("member.joined", f"person:{bob}", str(bob))
    assert joined["details"]["invited_by"] == owner.name


async def test_the_mail_says_who_where_and_until_when_and_leads_to_this_installation(
    town: Society, owner: Insider
) -> None:
    token = await invite(town, owner)
    (mail,) = await town.rows("SELECT subject, body FROM mail WHERE recipient = %s", BOB)
    assert mail["subject"] == 'Invitation to "Mill" at Tollhouse'
    assert 'ada@example.com invites you to the organisation "Mill" at Tollhouse, as a member.' in mail["body"]
    assert f"\nhttps://ai.example.com/invitations/{token}\n" in mail["body"]
    assert f"{owner.order.now:%Y-%m-}" in mail["body"]


async def test_an_address_is_the_same_however_it_is_written(town: Society, owner: Insider) -> None:
    token = await invite(town, owner, "Bob@Example.COM")
    await accept(town, await town.person(BOB), token)


async def test_looking_at_a_link_does_not_use_it_up(town: Society, owner: Insider) -> None:
    token = await invite(town, owner)
    for _ in range(2):
        found = await flow.look(town.db, town.site.keyring, token, town.now)
        assert (found.organization_name, found.invitation.email, found.invitation.role) == ("Mill", BOB, "member")
    await accept(town, await town.person(BOB), token)


async def test_a_link_outlives_the_rotation_of_the_secret(town: Society, owner: Insider) -> None:
    token = await invite(town, owner)
    town.site = replace(
        town.site, keyring=Keyring(b"another secret, of today and longer", (town.site.keyring.current,))
    )
    await accept(town, await town.person(BOB), token)


async def test_who_is_a_member_already_keeps_their_role(town: Society, owner: Insider) -> None:
    token = await invite(town, owner, role="admin")
    bob = await town.person(BOB)
    await town.change(
        "INSERT INTO member (organization_id, person_id, role, created_at) VALUES (%s, %s, 'owner', now())",
        owner.organization_id, bob,
    )  # fmt: skip
    await accept(town, bob, token)
    assert (await town.roles(owner.organization_id))[bob] == "owner"
    with pytest.raises(Conflict, match="accepted already"):
        await accept(town, bob, token)


# ---------------------------------------------------------------------------------------------------- and nobody else


async def test_a_link_works_once(town: Society, owner: Insider) -> None:
    token = await invite(town, owner)
    bob = await town.person(BOB)
    await accept(town, bob, token)
    await town.change("DELETE FROM member WHERE person_id = %s AND role = 'member'", bob)
    with pytest.raises(Conflict, match="accepted already"):
        await accept(town, bob, token)
    assert bob not in await town.roles(owner.organization_id)


async def test_of_many_who_accept_at_once_one_does(town: Society, owner: Insider) -> None:
    token = await invite(town, owner)
    bob = await town.person(BOB)
    signed = await town.sign_in(bob)
    order = town.order(signed.actor)
    found = await asyncio.gather(
        *(flow.accept(town.db, town.site.keyring, order, signed, token) for _ in range(6)), return_exceptions=True
    )
    assert sum(isinstance(one, Conflict) for one in found) == 5, found
    actions = [row["action"] for row in await town.audit(owner.organization_id)]
    assert actions.count("member.joined") == 1


async def test_another_address_is_refused_with_the_remedy_and_learns_no_address(town: Society, owner: Insider) -> None:
    token = await invite(town, owner)
    eve = await town.person("eve@example.com")
    with pytest.raises(Forbidden, match="ask for an invitation to yours") as refusal:
        await accept(town, eve, token)
    assert BOB not in str(refusal.value)
    assert eve not in await town.roles(owner.organization_id)


async def test_an_address_that_was_not_proved_does_not_count(town: Society, owner: Insider) -> None:
    """Whoever is handed the link could sign up with the address that it was sent to."""
    token = await invite(town, owner)
    bob = await town.person(BOB, verified=False)
    with pytest.raises(Forbidden, match="Confirm your e-mail address"):
        await accept(town, bob, token)
    await town.change("UPDATE person SET email_verified_at = now() WHERE id = %s", bob)
    await accept(town, bob, token)


async def test_after_seven_days_it_leads_nowhere(town: Society, owner: Insider) -> None:
    token = await invite(town, owner)
    bob = await town.person(BOB)
    town.later(days=7, seconds=-1)
    await flow.look(town.db, town.site.keyring, token, town.now)
    town.later(seconds=1)
    for attempt in (flow.look(town.db, town.site.keyring, token, town.now), accept(town, bob, token)):
        with pytest.raises(Conflict, match="expired"):
            await attempt


async def test_one_that_is_sent_again_replaces_the_former(town: Society, owner: Insider) -> None:
    former = await invite(town, owner, role="admin")
    latter = await invite(town, owner)
    bob = await town.person(BOB)
    with pytest.raises(Conflict, match="later mail"):
        await accept(town, bob, former)
    await accept(town, bob, latter)
    assert (await town.roles(owner.organization_id))[bob] == "member"


async def test_one_that_expired_can_be_sent_again(town: Society, owner: Insider) -> None:
    await invite(town, owner)
    town.later(days=8)
    signed = owner.person
    token = await invite(town, await town.insider(owner.organization_id, signed.person_id))
    await accept(town, await town.person(BOB), token)


async def test_two_that_are_sent_at_once_leave_one_that_works(town: Society, owner: Insider) -> None:
    wanted = Wanted(BOB, "member")
    await asyncio.gather(*(flow.invite(town.db, town.site, owner, wanted) for _ in range(4)))
    open_ = await town.rows("SELECT id FROM invitation WHERE revoked_at IS NULL AND accepted_at IS NULL")
    assert len(open_) == 1


async def test_one_that_was_withdrawn_leads_nowhere(town: Society, owner: Insider) -> None:
    made = await flow.invite(town.db, town.site, owner, Wanted(BOB, "member"))
    token = await town.invited(BOB)
    await flow.revoke(town.db, owner, made.id)
    await flow.revoke(town.db, owner, made.id)
    assert [row["action"] for row in await town.audit(owner.organization_id)].count("invitation.revoked") == 1
    with pytest.raises(Conflict, match="withdrawn"):
        await accept(town, await town.person(BOB), token)


async def test_one_that_was_accepted_is_not_withdrawn(town: Society, owner: Insider) -> None:
    made = await flow.invite(town.db, town.site, owner, Wanted(BOB, "member"))
    await accept(town, await town.person(BOB), await town.invited(BOB))
    with pytest.raises(Conflict, match="Remove the member"):
        await flow.revoke(town.db, owner, made.id)


@pytest.mark.parametrize("token", ["", "x", "A" * 43, "A" * 44, "%00", "' OR 1=1 --", "\u00e9" * 43, "A" * 10_000])
async def test_what_is_no_link_of_ours_is_found_nowhere(town: Society, owner: Insider, token: str) -> None:
    await invite(town, owner)
    with pytest.raises(NotFound):
        await flow.look(town.db, town.site.keyring, token, town.now)


async def test_what_is_stored_is_not_the_link(town: Society, owner: Insider) -> None:
    token = await invite(town, owner)
    stored = str(await town.rows("SELECT * FROM invitation")) + str(await town.audit(owner.organization_id))
    assert token not in stored
    assert BOB not in str(await town.audit(owner.organization_id))


async def test_an_organisation_that_is_suspended_or_deleted_lets_nobody_in(town: Society, owner: Insider) -> None:
    token = await invite(town, owner)
    bob = await town.person(BOB)
    await town.suspend("organization", owner.organization_id)
    with pytest.raises(Forbidden, match="suspended"):
        await accept(town, bob, token)
    with pytest.raises(Forbidden, match="suspended"):
        await invite(town, owner, "eve@example.com")
    await town.change("UPDATE organization SET suspended_at = NULL WHERE id = %s", owner.organization_id)
    await organizations.delete(town.db, owner, "Mill")
    with pytest.raises(NotFound):
        await accept(town, bob, token)


async def test_nobody_accepts_in_somebodys_place(town: Society, owner: Insider) -> None:
    token = await invite(town, owner)
    signed = await town.sign_in(await town.person(BOB))
    signed = replace(signed, impersonator=Impersonator(uuid4(), "root@example.com", "a ticket of theirs", uuid4()))
    with pytest.raises(Forbidden, match="act as"):
        await flow.accept(town.db, town.site.keyring, town.order(signed.actor), signed, token)


# ------------------------------------------------------------------------------------------------------- who may invite


async def test_who_may_invite_as_what(town: Society, owner: Insider) -> None:
    mill = owner.organization_id
    admin, member = await town.join(mill, "admin"), await town.join(mill, "member")
    await invite(town, await town.insider(mill, admin), "one@example.com", "admin")
    await invite(town, town.key(mill), "two@example.com", "admin")
    assert "An administrator invites you" in str(await town.rows("SELECT body FROM mail"))
    for insider in (await town.insider(mill, member), await town.insider(mill, await town.person())):
        with pytest.raises(Forbidden):
            await invite(town, insider, "three@example.com")
    assert await town.rows("SELECT FROM mail WHERE recipient = 'three@example.com'") == []


async def test_who_has_not_proved_their_own_address_writes_to_nobody(town: Society, owner: Insider) -> None:
    await town.change("UPDATE person SET email_verified_at = NULL WHERE id = %s", owner.person.person_id)
    with pytest.raises(Forbidden, match="your own e-mail address"):
        await invite(town, owner)
    assert await town.rows("SELECT FROM mail WHERE recipient = %s", BOB) == []


async def test_a_member_is_not_invited_again(town: Society, owner: Insider) -> None:
    await accept(town, await town.person(BOB), await invite(town, owner))
    with pytest.raises(Conflict, match="member here already"):
        await invite(town, owner)


async def test_a_personal_organisation_takes_no_invitations(town: Society, owner: Insider) -> None:
    person = owner.person.person_id
    (own,) = await town.rows(
        """SELECT o.id FROM organization o JOIN member m ON m.organization_id = o.id
           WHERE m.person_id = %s AND o.kind = 'personal'""",
        person,
    )
    with pytest.raises(Conflict, match="exactly one member"):
        await invite(town, await town.insider(own["id"], person))


@pytest.mark.parametrize(
    "email",
    ["", "bob", "bob@", "@example.com", "bob@example.com, eve@example.com", "bob@example.com\nBcc: eve@example.com"],
)
async def test_what_is_no_address_gets_no_mail(town: Society, owner: Insider, email: str) -> None:
    with pytest.raises(BadRequest) as refusal:
        await invite(town, owner, email)
    assert refusal.value.field == "email"
    assert await town.rows("SELECT FROM mail WHERE kind = 'invitation'") == []


async def test_a_name_can_add_no_line_to_the_mail(town: Society, owner: Insider) -> None:
    """An operator may call an organisation as they like."""
    await town.change("UPDATE organization SET name = %s WHERE id = %s", "Mill\r\nBcc: eve", owner.organization_id)
    await invite(town, owner)
    (mail,) = await town.rows("SELECT subject, body FROM mail WHERE recipient = %s", BOB)
    assert "\n" not in mail["subject"]
    assert not any(line.startswith("Bcc") for line in mail["body"].splitlines())


async def test_an_organisation_invites_only_so_many(town: Society, owner: Insider) -> None:
    for n in range(INVITATION_ORGANIZATION.burst):
        await invite(town, owner, f"bob{n}@example.com")
    with pytest.raises(TooManyTries):
        await invite(town, owner, "one@more.example")
    town.later(days=1)
    later = await town.insider(owner.organization_id, owner.person.person_id)
    (waiting,) = await town.rows("SELECT count(*) AS n FROM invitation WHERE revoked_at IS NULL")
    assert waiting["n"] == INVITATIONS_OPEN_MAX
    with pytest.raises(Conflict, match="open invitations"):
        await invite(town, later, "one@more.example")
    await invite(town, later, "bob7@example.com")  # in place of another


async def test_another_organisations_invitations_are_none(town: Society, owner: Insider) -> None:
    made = await flow.invite(town.db, town.site, owner, Wanted(BOB, "member"))
    eve = await town.person()
    bakery, _ = await town.team(eve)
    with pytest.raises(NotFound):
        await flow.revoke(town.db, await town.insider(bakery, eve), made.id)
    async with town.db.tenant(bakery) as tx:
        assert await (await tx.execute("SELECT FROM invitation")).fetchall() == []
    await flow.look(town.db, town.site.keyring, await town.invited(BOB), town.now)
