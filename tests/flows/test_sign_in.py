"""Signing in: by password, by a link, by an account elsewhere."""

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from uuid import UUID, uuid4

import argon2
import pytest

from tests.flows.doorway import ADA, BOB, FIREFOX, OTHER, PASSWORD, Doorway, doorway
from tollhouse.core.errors import BadRequest, Conflict, Forbidden, NotFound, TooManyTries, Unauthenticated
from tollhouse.core.oidc import Identity
from tollhouse.core.session import Signed
from tollhouse.core.throttle import MAIL_ACCOUNT, SIGN_IN_ACCOUNT_FROM_ADDRESS
from tollhouse.flows import hasher, link, password, profile, session, sign_in
from tollhouse.flows.session import Begun, Browser


@pytest.fixture
async def door(database_url: str) -> AsyncIterator[Doorway]:
    async with doorway(database_url) as made:
        yield made


async def refused(door: Doorway, email: str, given: str) -> tuple[str, float]:
    began = time.monotonic()
    with pytest.raises(Unauthenticated) as refusal:
        await door.enter(email, given)
    return str(refusal.value), time.monotonic() - began


async def test_the_password_lets_in_and_is_on_record(door: Doorway) -> None:
    first = await door.newcomer()
    signed = await door.entered("  Ada@Example.COM ")
    assert (signed.person_id, signed.method) == (first.person_id, "password")
    assert signed.id != first.id
    assert (await door.trail(signed.person_id))[-1] == "person.signed_in"


async def test_wrong_and_unknown_are_refused_in_the_same_words_and_time(door: Doorway) -> None:
    await door.newcomer()
    await door.person("nopassword@example.com")
    answers = [await refused(door, email, OTHER) for email in (ADA, BOB, "nopassword@example.com")]
    assert len({words for words, _ in answers}) == 1
    beats = [took / 0.25 for _, took in answers]
    assert all(beat >= 1 for beat in beats)  # hashed, and then waited for the beat
    assert (await door.trail(await door.person_id()))[-1] == "person.sign_in_failed"


async def test_a_slower_search_does_not_show(door: Doorway) -> None:
    """Without the beat, the record of a failure would tell that there is an account."""
    began = time.monotonic()
    async with hasher.on_the_beat():
        await asyncio.sleep(0.03)
    assert 0.24 < time.monotonic() - began < 0.45


@pytest.mark.parametrize("given", ["", "x" * 201, "four grey herons wai", "FOUR GREY HERONS WAIT", PASSWORD + " "])
async def test_nothing_but_the_password_lets_in(door: Doorway, given: str) -> None:
    await door.newcomer()
    with pytest.raises((Unauthenticated, BadRequest)):
        await door.enter(ADA, given)


async def test_the_same_password_typed_on_another_keyboard_is_the_same(door: Doorway) -> None:
    await door.newcomer(password="vier große Bücher ﬁnden")
    await door.enter(ADA, "vier große Bücher finden")


async def test_guesses_at_an_account_are_slowed_down_and_its_owner_still_gets_in_from_elsewhere(door: Doorway) -> None:
    await door.newcomer()
    for _ in range(SIGN_IN_ACCOUNT_FROM_ADDRESS.burst):
        await refused(door, ADA, OTHER)
    with pytest.raises(TooManyTries):
        await door.enter()
    await door.enter(address="198.51.100.1")
    door.later(seconds=SIGN_IN_ACCOUNT_FROM_ADDRESS.interval.total_seconds())
    await door.enter()


async def test_a_hash_with_former_parameters_is_renewed_when_its_password_is_seen(door: Doorway) -> None:
    signed = await door.newcomer()
    weak = argon2.PasswordHasher(time_cost=1, memory_cost=1024, parallelism=1).hash(PASSWORD)
    await door.change("UPDATE password SET hash = %s WHERE person_id = %s", weak, signed.person_id)
    with pytest.raises(Unauthenticated):
        await door.enter(ADA, OTHER)
    assert await door.rows("SELECT hash FROM password") == [{"hash": weak}]
    await door.enter()
    (row,) = await door.rows("SELECT hash FROM password")
    assert "m=65536,t=3,p=4" in row["hash"]
    await door.enter()


async def test_a_suspended_person_is_told_so_only_with_the_password(door: Doorway) -> None:
    signed = await door.newcomer()
    await door.suspend("person", signed.person_id)
    await refused(door, ADA, OTHER)
    with pytest.raises(Forbidden, match="suspended"):
        await door.enter()


async def test_the_session_that_the_browser_had_ends_so_that_none_can_be_planted(door: Doorway) -> None:
    planted = await door.newcomer(BOB)
    await door.newcomer()
    begun = await door.enter(former=planted)
    assert await door.whose(planted.token) is None
    assert begun.cookie != planted.token


async def test_a_password_that_is_reset_while_it_is_given_begins_no_session(door: Doorway) -> None:
    signed = await door.newcomer()
    (row,) = await door.rows("SELECT hash FROM password")
    await password.change(door.db, door.site, door.order(), signed, OTHER)
    with pytest.raises(Unauthenticated):
        await session.begin(
            door.db, door.site, door.order(), signed.person_id, "password", Browser(FIREFOX), knows=row["hash"]
        )


async def test_people_whom_an_operator_made_claim_their_account_by_a_link(door: Doorway) -> None:
    person_id = uuid4()
    await door.change("INSERT INTO person (id, email, created_at) VALUES (%s, %s, %s)", person_id, ADA, door.now)
    await sign_in.request_link(door.db, door.site, door.order(), ADA)
    signed = await door.read((await by_link(door, await door.token(ADA, "sign_in"))).cookie)
    assert (signed.person_id, signed.organization_kind, signed.role) == (person_id, "personal", "owner")
    assert signed.verified


# -------------------------------------------------------------------------------------------------------------- links


async def by_link(door: Doorway, token: str) -> Begun:
    return await sign_in.with_link(door.db, door.site, door.order(), token, Browser(FIREFOX))


async def asked_for(door: Doorway, email: str = ADA) -> str:
    await sign_in.request_link(door.db, door.site, door.order(), email)
    return await door.token(email, "sign_in")


async def test_a_link_signs_in_once(door: Doorway) -> None:
    signed = await door.newcomer()
    token = await asked_for(door)
    assert (await link.look(door.db, door.site.keyring, "sign_in", token, door.now)).email == ADA
    again = await door.read((await by_link(door, token)).cookie)
    assert (again.person_id, again.method) == (signed.person_id, "link")
    with pytest.raises(NotFound):
        await by_link(door, token)


async def test_two_who_open_a_link_at_once_are_one(door: Doorway) -> None:
    await door.newcomer()
    token = await asked_for(door)
    done = await asyncio.gather(*(by_link(door, token) for _ in range(4)), return_exceptions=True)
    assert [type(one) for one in done].count(Begun) == 1
    assert [type(one) for one in done].count(NotFound) == 3


async def test_a_link_works_for_a_quarter_of_an_hour_and_for_its_purpose_alone(door: Doorway) -> None:
    await door.newcomer()
    token = await asked_for(door)
    with pytest.raises(NotFound):
        await password.reset(door.db, door.site, door.order(), token, OTHER)
    door.later(minutes=15)
    with pytest.raises(NotFound):
        await by_link(door, token)


@pytest.mark.parametrize("token", ["", "A" * 43, "A" * 44, "../../etc", "' OR true --", "\x00" * 43, "é" * 43])
async def test_no_guess_is_a_link(door: Doorway, token: str) -> None:
    with pytest.raises(NotFound):
        await by_link(door, token)


async def test_a_link_that_was_sent_to_a_former_address_signs_nobody_in(door: Doorway) -> None:
    signed = await door.newcomer()
    token = await asked_for(door)
    await door.change("UPDATE person SET email = %s WHERE id = %s", BOB, signed.person_id)
    with pytest.raises(Unauthenticated):
        await by_link(door, token)


async def test_no_mail_goes_to_who_has_no_account_or_is_suspended_and_the_answer_is_the_same(door: Doorway) -> None:
    signed = await door.newcomer()
    await door.suspend("person", signed.person_id)
    before = len(await door.rows("SELECT FROM mail"))
    for email in (ADA, BOB):
        await sign_in.request_link(door.db, door.site, door.order(), email)
    assert len(await door.rows("SELECT FROM mail")) == before


async def test_links_start_with_the_address_of_the_installation(door: Doorway) -> None:
    await door.newcomer()
    await asked_for(door)
    (row,) = await door.rows("SELECT body FROM mail WHERE kind = 'sign_in'")
    assert "https://ai.example.com/sign-in/link/" in row["body"]


async def test_a_link_is_not_in_the_database(door: Doorway) -> None:
    await door.newcomer()
    token = await asked_for(door)
    kept = await door.rows("SELECT t::text AS text FROM one_time_token t")
    assert kept and not any(token in row["text"] for row in kept)


async def test_a_mailbox_is_not_flooded_with_links(door: Doorway) -> None:
    await door.newcomer()
    with pytest.raises(TooManyTries):
        for _ in range(MAIL_ACCOUNT.burst + 1):
            await asked_for(door)


async def test_a_link_drops_a_password_that_was_set_before_the_address_was_confirmed(door: Doorway) -> None:
    await door.sign_up(ADA, OTHER)  # by somebody else
    await by_link(door, await asked_for(door))
    with pytest.raises(Unauthenticated):
        await door.enter(ADA, OTHER)


# -------------------------------------------------------------------------------------------------- accounts elsewhere


async def provider(door: Doorway) -> UUID:
    id_ = uuid4()
    await door.change(
        """INSERT INTO identity_provider (id, name, issuer, client_id, created_at)
           VALUES (%s, 'Elsewhere', %s, 'us', now())""",
        id_, f"https://{id_}.example",
    )  # fmt: skip
    return id_


async def come(door: Doorway, identity: Identity, invitation: str | None = None) -> UUID:
    return await sign_in.sign_in_with_identity(door.db, door.site, door.order(), identity, invitation)


async def test_an_account_elsewhere_signs_up_and_then_in(door: Doorway) -> None:
    identity = Identity(await provider(door), "ada-1", ADA, True, "Ada")
    person_id = await come(door, identity)
    assert await come(door, replace(identity, email="another@example.com")) == person_id
    assert await come(door, replace(identity, subject="ada-2", email=BOB)) != person_id
    begun = await session.begin(door.db, door.site, door.order(), person_id, "oidc", Browser(FIREFOX))
    signed = await door.read(begun.cookie)
    assert (signed.email, signed.verified, signed.organization_kind) == (ADA, True, "personal")


async def test_an_address_alone_never_links_to_an_account_that_there_is(door: Doorway) -> None:
    await door.newcomer()
    with pytest.raises(Conflict, match="Sign in to it"):
        await come(door, Identity(await provider(door), "mallory", ADA, True, "Ada"))
    assert await door.rows("SELECT FROM linked_identity") == []


@pytest.mark.parametrize(("email", "verified"), [(None, True), (BOB, False), (None, False)])
async def test_an_address_that_the_provider_has_not_verified_makes_nobody(
    door: Doorway, email: str | None, verified: bool
) -> None:
    with pytest.raises(Forbidden, match="verified"):
        await come(door, Identity(await provider(door), "x", email, verified, None))
    assert await door.rows("SELECT FROM person WHERE email = %s", BOB) == []


async def test_many_who_come_first_at_once_are_one_person(door: Doorway) -> None:
    identity = Identity(await provider(door), "ada-1", ADA, True, "Ada")
    done = await asyncio.gather(*(come(door, identity) for _ in range(4)), return_exceptions=True)
    people = {one for one in done if isinstance(one, UUID)}
    assert len(people) == 1
    assert {type(one) for one in done} <= {UUID, Conflict}


async def test_only_the_invited_sign_up_with_an_account_elsewhere_where_it_is_so(door: Doorway) -> None:
    door.site = replace(door.site, sign_up="invited")
    identity = Identity(await provider(door), "ada-1", ADA, True, "Ada")
    with pytest.raises(Forbidden, match="invited"):
        await come(door, identity)
    with pytest.raises(NotFound):
        await come(door, identity, "A" * 43)


async def test_who_is_signed_in_links_an_account_and_it_signs_them_in(door: Doorway) -> None:
    ada, bob = await door.newcomer(), await door.newcomer(BOB)
    identity = Identity(await provider(door), "ada-1", "work@example.com", True, "Ada")
    for _ in range(2):
        await profile.link_identity(door.db, door.site, door.order(ada.actor), ada, identity)
    assert await come(door, identity) == ada.person_id
    assert "identity_linked" in await door.mails()
    with pytest.raises(Conflict, match="somebody else"):
        await profile.link_identity(door.db, door.site, door.order(bob.actor), bob, identity)
    with pytest.raises(NotFound):
        await profile.unlink_identity(door.db, door.order(bob.actor), bob, identity.provider_id, "ada-1")
    assert [one.subject for one in await profile.linked(door.db, ada)] == ["ada-1"]
    assert await profile.linked(door.db, bob) == []
    await profile.unlink_identity(door.db, door.order(ada.actor), ada, identity.provider_id, "ada-1")
    assert await come(door, identity) != ada.person_id
    assert isinstance(ada, Signed)
