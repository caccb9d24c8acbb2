"""Signing up: nobody learns who has an account, and nobody prepares one with somebody else's address."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta

import pytest

from tests.flows.doorway import ADA, BOB, OTHER, PASSWORD, Doorway, doorway
from tollhouse.core.errors import BadRequest, Conflict, Forbidden, NotFound, TooManyTries, Unauthenticated
from tollhouse.core.session import Signed
from tollhouse.core.throttle import MAIL_ACCOUNT, SIGN_UP_ADDRESS
from tollhouse.flows import invitation, password, sign_up
from tollhouse.flows.invitation import Wanted
from tollhouse.flows.order import Order
from tollhouse.flows.sign_up import NewPerson


@pytest.fixture
async def door(database_url: str) -> AsyncIterator[Doorway]:
    async with doorway(database_url) as made:
        yield made


async def test_a_new_person_has_an_organisation_of_their_own_with_what_the_free_plan_gives(door: Doorway) -> None:
    signed = await door.newcomer()
    assert (signed.email, signed.name, signed.verified) == (ADA, "Ada Lovelace", True)
    assert (signed.organization_kind, signed.role, signed.superadmin) == ("personal", "owner", False)
    (row,) = await door.rows("SELECT plan_id FROM organization WHERE id = %s", signed.organization_id)
    assert row["plan_id"] == "free"
    given = await door.rows("SELECT type FROM credit_transaction WHERE organization_id = %s", signed.organization_id)
    assert {one["type"] for one in given} >= {"plan_allocation"}
    assert await door.trail(signed.person_id) == [
        "organization.created", "person.signed_up", "person.email_verified", "person.signed_in"
    ]  # fmt: skip


async def test_the_password_is_kept_as_a_hash_and_stands_nowhere(door: Doorway) -> None:
    signed = await door.newcomer()
    (row,) = await door.rows("SELECT hash FROM password WHERE person_id = %s", signed.person_id)
    assert row["hash"].startswith("$argon2id$v=19$m=65536,t=3,p=4$")
    audit = await door.rows("SELECT details::text FROM audit")
    assert not any(PASSWORD in one["details"] or ADA in one["details"] for one in audit)


async def test_an_address_that_has_an_account_gets_the_same_answer_and_its_owner_a_mail(door: Doorway) -> None:
    signed = await door.newcomer()
    assert await door.sign_up(ADA.upper(), OTHER) is None
    assert (await door.mails())[-1] == "signed_up_again"
    assert (await door.rows("SELECT count(*) FROM person WHERE email = %s", ADA)) == [{"count": 1}]
    assert (await door.entered()).person_id == signed.person_id
    with pytest.raises(Unauthenticated):
        await door.enter(ADA, OTHER)


async def test_many_who_sign_up_with_one_address_at_once_are_one_person(door: Doorway) -> None:
    assert await asyncio.gather(*(door.sign_up() for _ in range(4))) == [None] * 4
    assert await door.rows("SELECT count(*) FROM person WHERE email = %s", ADA) == [{"count": 1}]
    assert await door.rows("SELECT count(*) FROM organization WHERE kind = 'personal'") == [{"count": 1}]


async def test_who_has_not_confirmed_is_not_let_in_and_gets_the_link_again(door: Doorway) -> None:
    await door.sign_up()
    with pytest.raises(Forbidden, match="Confirm your e-mail"):
        await door.enter()
    assert await door.mails() == ["verify_email", "verify_email"]
    assert isinstance(await door.whose((await door.verify(await door.token(ADA, "verify_email"))).cookie), Signed)


async def test_the_link_alone_confirms_nothing(door: Doorway) -> None:
    """Somebody else signed up with her address; she opens the link that she got."""
    await door.sign_up(ADA, OTHER)
    token = await door.token(ADA, "verify_email")
    with pytest.raises(Unauthenticated):
        await door.verify(token, PASSWORD)
    with pytest.raises(Forbidden):
        await door.enter(ADA, OTHER)


async def test_who_holds_the_mailbox_takes_over_what_somebody_prepared_with_their_address(door: Doorway) -> None:
    await door.sign_up(ADA, OTHER)
    await door.sign_up(ADA, PASSWORD)  # she does the same, later
    token = await door.token(ADA, "finish_sign_up")
    await password.reset(door.db, door.site, door.order(), token, PASSWORD)
    assert (await door.entered()).verified
    with pytest.raises(Unauthenticated):
        await door.enter(ADA, OTHER)


async def test_a_link_confirms_once_and_for_a_day(door: Doorway) -> None:
    await door.sign_up()
    token = await door.token(ADA, "verify_email")
    door.now += timedelta(hours=24)
    with pytest.raises(NotFound):
        await door.verify(token)
    door.now -= timedelta(seconds=1)
    await door.verify(token)
    with pytest.raises(NotFound):
        await door.verify(token)


@pytest.mark.parametrize(
    "email", ["", "ada", "ada@", "@example.com", "a b@example.com", "ada@example.com\r\nBcc: x@y.z"]
)
async def test_what_is_no_address_is_refused(door: Doorway, email: str) -> None:
    with pytest.raises(BadRequest) as refusal:
        await door.sign_up(email)
    assert refusal.value.field == "email"


@pytest.mark.parametrize("poor", ["short", "password123!", "ada lovelace", "aaaaaaaaaaaaaaaa", "x" * 201])
async def test_a_poor_password_makes_nobody(door: Doorway, poor: str) -> None:
    with pytest.raises(BadRequest) as refusal:
        await door.sign_up(ADA, poor)
    assert refusal.value.field == "password"
    assert await door.rows("SELECT FROM person WHERE email = %s", ADA) == []


async def test_one_network_address_signs_up_only_so_many(door: Doorway) -> None:
    order = replace(door.order(), address="2001:db8::1")
    for number in range(SIGN_UP_ADDRESS.burst):
        with pytest.raises(BadRequest):
            await _try(door, replace(order, address=f"2001:db8::{number}"), "no address")
    with pytest.raises(TooManyTries):
        await _try(door, order, ADA)


async def _try(door: Doorway, order: Order, email: str) -> None:
    await sign_up.sign_up(door.db, door.site, order, NewPerson(email, "", PASSWORD))


@pytest.mark.parametrize("known", [True, False])
async def test_one_mailbox_is_not_flooded_and_the_refusal_tells_nothing(door: Doorway, known: bool) -> None:
    if known:
        await door.newcomer()
    sent = MAIL_ACCOUNT.burst - known
    for _ in range(sent):
        await door.sign_up()
    with pytest.raises(TooManyTries):
        await door.sign_up()
    assert len(await door.mails()) == MAIL_ACCOUNT.burst


async def test_where_only_the_invited_sign_up_others_do_not(door: Doorway) -> None:
    door.site = replace(door.site, sign_up="invited")
    with pytest.raises(Forbidden, match="invited"):
        await door.sign_up()


async def _invited(door: Doorway, email: str) -> str:
    team, _ = await door.team(await door.person())
    (owner,) = await door.rows("SELECT person_id FROM member WHERE organization_id = %s", team)
    insider = await door.insider(team, owner["person_id"])
    await invitation.invite(door.db, door.site, insider, Wanted(email, "member"))
    return await door.invited(email)


async def test_an_invitation_signs_up_at_once_as_its_mail_has_arrived(door: Doorway) -> None:
    door.site = replace(door.site, sign_up="invited")
    token = await _invited(door, ADA)
    person_id = await door.sign_up(ADA, PASSWORD, token)
    assert person_id is not None
    assert (await door.entered()).person_id == person_id
    assert "verify_email" not in await door.mails()
    with pytest.raises(Conflict):
        await door.sign_up(ADA, PASSWORD, token)


async def test_an_invitation_is_for_its_address_alone(door: Doorway) -> None:
    token = await _invited(door, ADA)
    with pytest.raises(Forbidden):
        await door.sign_up(BOB, PASSWORD, token)
    with pytest.raises(NotFound):
        await door.sign_up(ADA, PASSWORD, "A" * 43)
    assert await door.rows("SELECT FROM person WHERE email IN (%s, %s)", ADA, BOB) == []
