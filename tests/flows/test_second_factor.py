"""Second factors: nobody is in before the code, and a code counts once."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from uuid import uuid4

import pytest

from tests.flows.doorway import ADA, BOB, FIREFOX, PASSWORD, Doorway, doorway
from tollhouse.core.errors import BadRequest, Conflict, Forbidden, ProofRequired, TooManyTries, Unauthenticated
from tollhouse.core.session import Held, Impersonator, Signed
from tollhouse.core.throttle import CODE_ACCOUNT
from tollhouse.core.vault import Keyring
from tollhouse.flows import password, second_factor, session, sign_in, step_up
from tollhouse.flows.rotation import rotate
from tollhouse.flows.session import Browser


@pytest.fixture
async def door(database_url: str) -> AsyncIterator[Doorway]:
    async with doorway(database_url) as made:
        yield made


async def give(door: Doorway, held: Held, code: str) -> str:
    return await second_factor.give(door.db, door.site, door.order(), held, code)


async def test_after_the_password_comes_the_code_and_until_then_nothing(door: Doorway) -> None:
    signed, secret, _ = await door.with_app(await door.newcomer())
    assert signed.has_second_factor and signed.second_factor
    door.later(minutes=1)
    begun = await door.enter()
    assert begun.awaits_code
    held = await door.held(begun.cookie)
    assert held.reason == "second_factor"
    cookie = await give(door, held, door.code(secret))
    assert await door.whose(held.token) is None, "the cookie of the first step"
    assert (await door.read(cookie)).person_id == signed.person_id
    assert (await door.trail(signed.person_id))[-2:] == ["person.second_factor_awaited", "person.signed_in"]


async def test_a_link_needs_the_code_too_and_an_account_elsewhere(door: Doorway) -> None:
    signed, _, _ = await door.with_app(await door.newcomer())
    await sign_in.request_link(door.db, door.site, door.order(), ADA)
    token = await door.token(ADA, "sign_in")
    begun = await sign_in.with_link(door.db, door.site, door.order(), token, Browser(FIREFOX))
    assert isinstance(await door.whose(begun.cookie), Held)
    begun = await session.begin(door.db, door.site, door.order(), signed.person_id, "oidc", Browser(FIREFOX))
    assert isinstance(await door.whose(begun.cookie), Held)


async def test_a_code_counts_once_also_when_it_comes_twice_at_the_same_time(door: Doorway) -> None:
    _, secret, _ = await door.with_app(await door.newcomer())
    with_first = await door.held((await door.enter()).cookie)
    with pytest.raises(Unauthenticated):  # the one that confirmed the app
        await give(door, with_first, door.code(secret))
    door.later(minutes=1)
    doors = [await door.held((await door.enter()).cookie) for _ in range(3)]
    done = await asyncio.gather(*(give(door, held, door.code(secret)) for held in doors), return_exceptions=True)
    assert sorted(type(one).__name__ for one in done) == ["Unauthenticated", "Unauthenticated", "str"]


async def test_codes_of_the_steps_beside_count_and_no_others(door: Doorway) -> None:
    _, secret, _ = await door.with_app(await door.newcomer())
    door.later(minutes=10)
    held = await door.held((await door.enter()).cookie)
    for steps in (-2, 2, 20):
        with pytest.raises(Unauthenticated):
            await give(door, held, door.code(secret, steps))
    await give(door, held, door.code(secret, -1))
    held = await door.held((await door.enter()).cookie)
    await give(door, held, door.code(secret, 1))


@pytest.mark.parametrize("code", ["", "12345", "1234567", "abcdef", "１２３４５６", "' OR 1=1", "\x00", "22222-22222"])
async def test_what_is_no_code_lets_nobody_in(door: Doorway, code: str) -> None:
    await door.with_app(await door.newcomer())
    held = await door.held((await door.enter()).cookie)
    with pytest.raises(Unauthenticated):
        await give(door, held, code)
    assert (await door.trail(held.person_id))[-1] == "second_factor.failed"


async def test_guesses_at_codes_are_slowed_down_whatever_the_session_and_address(door: Doorway) -> None:
    _, secret, _ = await door.with_app(await door.newcomer())
    door.later(hours=5)
    held = await door.held((await door.enter()).cookie)
    for _ in range(CODE_ACCOUNT.burst):
        with pytest.raises(Unauthenticated):
            await give(door, held, "000000" if door.code(secret) != "000000" else "000001")
    with pytest.raises(TooManyTries):
        await give(door, await door.held((await door.enter()).cookie), door.code(secret))


async def test_the_first_step_does_not_last(door: Doorway) -> None:
    await door.with_app(await door.newcomer())
    held = await door.held((await door.enter()).cookie)
    door.later(minutes=15)
    assert await door.whose(held.token) is None


async def test_a_suspended_person_s_code_lets_nobody_in(door: Doorway) -> None:
    signed, secret, _ = await door.with_app(await door.newcomer())
    door.later(minutes=1)
    begun = await door.enter()
    await door.suspend("person", signed.person_id)
    with pytest.raises(Forbidden):
        await give(door, await door.held(begun.cookie), door.code(secret))


async def test_recovery_codes_let_in_once_each_and_the_person_is_told(door: Doorway) -> None:
    signed, _, codes = await door.with_app(await door.newcomer())
    assert len(set(codes)) == 10
    held = await door.held((await door.enter()).cookie)
    await give(door, held, codes[0].upper().replace("-", " "))
    held = await door.held((await door.enter()).cookie)
    with pytest.raises(Unauthenticated):
        await give(door, held, codes[0])
    assert "recovery_code_used" in await door.mails()
    assert (await second_factor.standing(door.db, signed)).recovery_codes_left == 9
    kept = await door.rows("SELECT encode(digest, 'escape') AS text FROM recovery_code")
    assert not any(code in row["text"] for row in kept for code in codes)


async def test_recovery_codes_are_their_person_s_alone(door: Doorway) -> None:
    _, _, codes = await door.with_app(await door.newcomer())
    await door.with_app(await door.newcomer(BOB))
    held = await door.held((await door.enter(BOB)).cookie)
    with pytest.raises(Unauthenticated):
        await give(door, held, codes[0])


async def test_new_recovery_codes_end_the_former(door: Doorway) -> None:
    signed, _, codes = await door.with_app(await door.newcomer())
    fresh = await second_factor.renew_recovery_codes(door.db, door.site, door.order(signed.actor), signed)
    assert not set(fresh) & set(codes)
    held = await door.held((await door.enter()).cookie)
    with pytest.raises(Unauthenticated):
        await give(door, held, codes[1])
    await give(door, held, fresh[1])


async def test_adding_it_rotates_the_cookie_and_ends_the_other_sessions(door: Doorway) -> None:
    elsewhere = await door.newcomer()
    here = await door.entered()
    signed, _, _ = await door.with_app(here)
    assert await door.whose(elsewhere.token) is None and await door.whose(here.token) is None
    assert signed.id == here.id
    assert "second_factor_added" in await door.mails()


async def test_it_counts_only_when_a_code_was_seen(door: Doorway) -> None:
    signed = await door.newcomer()
    order = door.order(signed.actor)
    with pytest.raises(Conflict):
        await second_factor.confirm(door.db, door.site, order, signed, "123456")
    first = await second_factor.start(door.db, door.site, order, signed)
    again = await second_factor.start(door.db, door.site, order, signed)
    assert first.secret != again.secret and again.secret in again.address and "<svg" in again.qr_code
    with pytest.raises(BadRequest):
        await second_factor.confirm(door.db, door.site, order, signed, door.code(first.secret))
    assert not (await door.enter()).awaits_code
    (row,) = await door.rows("SELECT secret FROM totp")
    assert again.secret.encode() not in row["secret"]


async def test_it_is_added_removed_and_renewed_only_by_who_has_just_proved_who_they_are(door: Doorway) -> None:
    signed, secret, _ = await door.with_app(await door.newcomer())
    with pytest.raises(Conflict):
        await second_factor.start(door.db, door.site, door.order(), signed)
    door.later(minutes=10)
    order, code = door.order(signed.actor), door.code(secret)
    for act in (
        second_factor.start(door.db, door.site, order, signed),
        second_factor.confirm(door.db, door.site, order, signed, code),
        second_factor.remove(door.db, door.site, order, signed, code),
        second_factor.renew_recovery_codes(door.db, door.site, order, signed),
    ):
        with pytest.raises(ProofRequired):
            await act
    signed = await door.read(await step_up.prove_with_code(door.db, door.site, order, signed, code))
    door.later(minutes=1)
    with pytest.raises(Unauthenticated):
        await second_factor.remove(door.db, door.site, order, signed, "000000")
    cookie = await second_factor.remove(door.db, door.site, door.order(signed.actor), signed, door.code(secret))
    assert not (await door.read(cookie)).has_second_factor
    assert not (await door.enter()).awaits_code
    assert await door.rows("SELECT FROM recovery_code") == []


async def test_whoever_acts_as_somebody_touches_none_of_it(door: Doorway) -> None:
    signed = await door.newcomer()
    acting = replace(signed, impersonator=Impersonator(uuid4(), BOB, "because they asked", uuid4()))
    with pytest.raises(Forbidden, match="You act as"):
        await second_factor.start(door.db, door.site, door.order(), acting)


async def test_a_live_superadmin_is_led_to_add_one_and_keeps_it(door: Doorway) -> None:
    signed = await door.newcomer()
    await door.make_superadmin(signed.person_id)
    door.site = replace(door.site, mode="live")
    signed = await door.entered()
    assert signed.must_add_second_factor and "platform" not in signed.permissions
    signed, secret, _ = await door.with_app(signed)
    assert "platform" in signed.permissions
    door.later(minutes=1)
    with pytest.raises(Forbidden, match="live mode"):
        await second_factor.remove(door.db, door.site, door.order(), signed, door.code(secret))


async def test_a_reset_password_leaves_the_second_factor(door: Doorway) -> None:
    await door.with_app(await door.newcomer())
    await password.request_reset(door.db, door.site, door.order(), ADA)
    await password.reset(
        door.db, door.site, door.order(), await door.token(ADA, "reset_password"), "nine quiet owls sing"
    )
    assert (await door.enter(ADA, "nine quiet owls sing")).awaits_code


async def test_the_secret_is_sealed_anew_when_the_installation_s_changes(door: Doorway) -> None:
    """And opens for nobody else, wherever it is copied to."""
    ada, secret, _ = await door.with_app(await door.newcomer())
    bob, _, _ = await door.with_app(await door.newcomer(BOB))
    new = Keyring(b"the new secret", (door.site.keyring.current,))
    done = await rotate(door.db, new, door.now, 1)
    assert (done.renewed, done.broken) == (2, ())
    assert (await rotate(door.db, new, door.now)).renewed == 0
    door.site = replace(door.site, keyring=Keyring(b"the new secret"))
    door.later(minutes=1)
    held = await door.held((await door.enter()).cookie)
    assert isinstance(await door.whose(await give(door, held, door.code(secret))), Signed)
    await door.change(
        "UPDATE totp SET secret = (SELECT secret FROM totp WHERE person_id = %s) WHERE person_id = %s",
        ada.person_id, bob.person_id,
    )  # fmt: skip
    held = await door.held((await door.enter(BOB, PASSWORD)).cookie)
    with pytest.raises(Conflict, match="recovery code"):
        await give(door, held, door.code(secret, 1))
    assert [one.id for one in (await rotate(door.db, Keyring(b"x" * 32), door.now)).broken if "second" in one.what]
