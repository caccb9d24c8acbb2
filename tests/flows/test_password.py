"""Another password, and proving once more who one is."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from uuid import uuid4

import pytest

from tests.flows.doorway import ADA, BOB, OTHER, PASSWORD, Doorway, doorway
from tollhouse.core.errors import BadRequest, Forbidden, NotFound, ProofRequired, TooManyTries, Unauthenticated
from tollhouse.core.session import Impersonator, Signed, check_proved
from tollhouse.core.throttle import SIGN_IN_ACCOUNT
from tollhouse.flows import password, sign_in, step_up, throttle
from tollhouse.flows.session import Browser


@pytest.fixture
async def door(database_url: str) -> AsyncIterator[Doorway]:
    async with doorway(database_url) as made:
        yield made


async def change(door: Doorway, signed: Signed, given: str = OTHER) -> str:
    return await password.change(door.db, door.site, door.order(signed.actor), signed, given)


async def asked_for(door: Doorway, email: str = ADA) -> str:
    await password.request_reset(door.db, door.site, door.order(), email)
    return await door.token(email, "reset_password")


async def reset(door: Doorway, token: str, given: str = OTHER) -> None:
    await password.reset(door.db, door.site, door.order(), token, given)


async def test_a_changed_password_ends_the_other_sessions_and_links_and_is_told_by_mail(door: Doorway) -> None:
    elsewhere = await door.newcomer()
    here = await door.entered()
    link = await asked_for(door)
    cookie = await change(door, here)
    assert await door.whose(elsewhere.token) is None and await door.whose(here.token) is None
    assert (await door.read(cookie)).id == here.id
    assert (await door.mails())[-1] == "password_changed"
    with pytest.raises(NotFound):
        await reset(door, link)
    with pytest.raises(Unauthenticated):
        await door.enter(ADA, PASSWORD)
    await door.enter(ADA, OTHER)


async def test_a_password_is_changed_only_by_who_has_just_proved_who_they_are(door: Doorway) -> None:
    signed = await door.newcomer()
    acting = replace(signed, impersonator=Impersonator(uuid4(), BOB, "because they asked", uuid4()))
    with pytest.raises(Forbidden, match="You act as"):
        await change(door, acting)
    door.later(minutes=10)
    with pytest.raises(ProofRequired):
        await change(door, await door.read(signed.token))
    cookie = await step_up.prove_with_password(door.db, door.site, door.order(signed.actor), signed, PASSWORD)
    assert await door.whose(signed.token) is None
    await change(door, await door.read(cookie))


async def test_a_poor_password_changes_nothing(door: Doorway) -> None:
    signed = await door.newcomer()
    with pytest.raises(BadRequest):
        await change(door, signed, "ada lovelace")
    token = await asked_for(door)
    with pytest.raises(BadRequest):
        await reset(door, token, "password123")
    assert (await door.read(signed.token)).id == signed.id
    await reset(door, token)


async def test_a_reset_ends_every_session_and_link_and_signs_nobody_in(door: Doorway) -> None:
    signed = await door.newcomer()
    await sign_in.request_link(door.db, door.site, door.order(), ADA)
    first, second = await asked_for(door), await asked_for(door)
    await reset(door, second)
    assert await door.whose(signed.token) is None
    for token in (first, second):
        with pytest.raises(NotFound):
            await reset(door, token, PASSWORD)
    with pytest.raises(NotFound):
        link, browser = await door.token(ADA, "sign_in"), Browser("x")
        await sign_in.with_link(door.db, door.site, door.order(), link, browser)
    await door.enter(ADA, OTHER)
    assert "password.reset" in await door.trail(signed.person_id)


async def test_two_who_use_a_link_at_once_are_one(door: Doorway) -> None:
    await door.newcomer()
    token = await asked_for(door)
    done = await asyncio.gather(
        reset(door, token, OTHER), reset(door, token, "nine quiet owls sing"), return_exceptions=True
    )
    assert sorted(type(one).__name__ for one in done) == ["NoneType", "NotFound"]


async def test_a_link_to_reset_works_for_an_hour(door: Doorway) -> None:
    await door.newcomer()
    token = await asked_for(door)
    door.later(hours=1)
    with pytest.raises(NotFound):
        await reset(door, token)


async def test_nobody_learns_whether_there_is_an_account(door: Doorway) -> None:
    await password.request_reset(door.db, door.site, door.order(), BOB)
    assert await door.mails(BOB) == []


async def test_who_proves_who_they_are_is_proved_for_ten_minutes(door: Doorway) -> None:
    signed = await door.newcomer()
    assert await step_up.ways(door.db, signed) == step_up.Ways(password=True, code=False)
    door.later(hours=1)
    with pytest.raises(Unauthenticated):
        await step_up.prove_with_password(door.db, door.site, door.order(signed.actor), signed, OTHER)
    assert (await door.trail(signed.person_id))[-1] == "person.proof_failed"
    cookie = await step_up.prove_with_password(door.db, door.site, door.order(signed.actor), signed, PASSWORD)
    signed = await door.read(cookie)
    check_proved(signed, door.now)
    door.later(minutes=10)
    with pytest.raises(ProofRequired):
        check_proved(signed, door.now)


async def test_a_stolen_session_does_not_guess_the_password(door: Doorway) -> None:
    signed = await door.newcomer()
    await door.change("DELETE FROM password WHERE person_id = %s", signed.person_id)
    for _ in range(3):
        with pytest.raises(Unauthenticated):
            await step_up.prove_with_password(door.db, door.site, door.order(signed.actor), signed, "")
    signed = replace(signed, email="somebody@example.com")
    for _ in range(SIGN_IN_ACCOUNT.burst):
        await throttle.check(door.db, door.site.keyring, SIGN_IN_ACCOUNT, signed.email, now=door.now)
    with pytest.raises(TooManyTries):
        await step_up.prove_with_password(door.db, door.site, door.order(signed.actor), signed, PASSWORD)
