"""Sessions: whose cookie it is, for how long, where, and how it ends."""

import asyncio
import os
from collections.abc import AsyncIterator
from dataclasses import replace
from uuid import UUID, uuid4

import psycopg
import pytest

from tests.conftest import TEST_SECRET
from tests.flows.doorway import ADA, BOB, FIREFOX, Doorway, doorway
from tollhouse.core.errors import Forbidden, NotFound, Unauthenticated
from tollhouse.core.session import Held, Impersonator, Signed
from tollhouse.core.vault import Keyring
from tollhouse.flows import session
from tollhouse.flows.session import Browser


@pytest.fixture
async def door(database_url: str) -> AsyncIterator[Doorway]:
    async with doorway(database_url) as made:
        yield made


async def test_the_cookie_is_the_session_s_and_stands_nowhere_in_the_database(door: Doorway) -> None:
    person_id = await door.person(ADA)
    signed = await door.sign_in(person_id)
    assert signed.person_id == person_id
    kept = await door.rows("SELECT s::text AS text FROM session s")
    assert not any(signed.token in row["text"] or signed.csrf in row["text"] for row in kept)
    assert signed.token not in repr(signed) and signed.csrf not in signed.token


@pytest.mark.parametrize(
    "cookie", ["", "x", "A" * 43, "A" * 10_000, "é" * 43, "' OR 1=1 --", "\x00" * 43, "\ud800" * 43]
)
async def test_no_guess_is_a_session(door: Doorway, cookie: str) -> None:
    await door.person(ADA)
    assert await door.whose(cookie) is None


async def test_a_row_that_was_written_without_the_secret_is_no_session(door: Doorway) -> None:
    """Whoever can write to the database, and no more, signs nobody in."""
    signed = await door.sign_in(await door.person(ADA))
    other = replace(door.site, keyring=Keyring(b"another secret"))
    begun = await session.begin(door.db, other, door.order(), signed.person_id, "password", Browser(FIREFOX))
    assert await door.whose(begun.cookie) is None


async def test_sessions_outlive_another_secret_as_long_as_the_former_is_named(door: Doorway) -> None:
    cookie = (await door.sign_in(await door.person(ADA))).token
    door.site = replace(door.site, keyring=Keyring(b"the new secret", (TEST_SECRET,)))
    signed = await door.read(cookie)
    again = await door.read(
        await session.switch_organization(door.db, door.site, door.order(), signed, signed.organization_id)
    )
    door.site = replace(door.site, keyring=Keyring(b"the new secret"))
    assert await door.whose(cookie) is None
    assert isinstance(await door.whose(again.token), Signed)


async def test_a_session_ends_when_it_was_not_seen_for_two_weeks(door: Doorway) -> None:
    cookie = (await door.sign_in(await door.person(ADA))).token
    door.later(days=13)
    assert await door.whose(cookie) is not None
    door.later(days=14)
    assert await door.whose(cookie) is None


async def test_a_session_ends_after_thirty_days_however_often_it_was_seen(door: Doorway) -> None:
    cookie = (await door.sign_in(await door.person(ADA))).token
    for _ in range(2):
        door.later(days=10)
        assert await door.whose(cookie) is not None
    door.later(days=10)
    assert await door.whose(cookie) is None


async def test_a_superadmin_s_ends_after_eight_hours_away(door: Doorway) -> None:
    cookie = (await door.sign_in(await door.person(ADA, superadmin=True))).token
    door.later(hours=7)
    assert await door.whose(cookie) is not None
    door.later(hours=8)
    assert await door.whose(cookie) is None


async def test_seen_is_written_once_a_minute(door: Doorway) -> None:
    signed = await door.sign_in(await door.person(ADA))
    began = door.now

    async def seen() -> object:
        await door.whose(signed.token)
        return (await door.rows("SELECT seen_at FROM session WHERE id = %s", signed.id))[0]["seen_at"]

    door.later(seconds=59)
    assert await seen() == began
    door.later(seconds=1)
    assert await seen() == door.now


async def test_a_suspended_person_s_session_may_do_nothing(door: Doorway) -> None:
    signed = await door.sign_in(await door.person(ADA))
    await door.suspend("person", signed.person_id)
    found = await door.whose(signed.token)
    assert isinstance(found, Held) and found.reason == "suspended"


async def test_in_a_suspended_organisation_nothing_is_permitted(door: Doorway) -> None:
    signed = await door.sign_in(await door.person(ADA))
    assert signed.permissions
    await door.suspend("organization", signed.organization_id)
    found = await door.read(signed.token)
    assert found.organization_suspended and not found.permissions


@pytest.mark.parametrize("end", ["membership", "organisation"])
async def test_a_session_whose_organisation_is_lost_goes_on_in_the_personal_one(door: Doorway, end: str) -> None:
    person_id = await door.person(ADA)
    home = (await door.sign_in(person_id)).organization_id
    team, _ = await door.team(await door.person())
    await door.change("INSERT INTO member VALUES (%s, %s, 'admin', now())", team, person_id)
    cookie = await door.cookie(person_id, team)
    signed = await door.read(cookie)
    assert (signed.organization_id, signed.role) == (team, "admin")
    if end == "membership":
        await door.change("DELETE FROM member WHERE organization_id = %s AND person_id = %s", team, person_id)
    else:
        await door.change("UPDATE organization SET deleted_at = now() WHERE id = %s", team)
    signed = await door.read(cookie)
    assert (signed.organization_id, signed.role) == (home, "owner")


async def test_who_has_no_organisation_left_has_no_session(door: Doorway) -> None:
    signed = await door.sign_in(await door.person(ADA))
    await door.change("DELETE FROM member WHERE person_id = %s", signed.person_id)
    assert await door.whose(signed.token) is None
    await door.change("INSERT INTO member VALUES (%s, %s, 'owner', now())", signed.organization_id, signed.person_id)
    assert await door.whose(signed.token) is None


async def test_signing_in_again_leads_to_where_one_was_last(door: Doorway) -> None:
    person_id = await door.person(ADA)
    team, _ = await door.team(person_id)
    door.later(minutes=1)
    await door.cookie(person_id, team)
    door.later(minutes=1)
    assert (await door.sign_in(person_id)).organization_id == team


async def test_one_switches_only_to_one_s_own_organisations_and_gets_another_cookie(door: Doorway) -> None:
    person_id = await door.person(ADA)
    team, _ = await door.team(person_id)
    foreign, _ = await door.team(await door.person())
    signed = await door.sign_in(person_id)
    for wrong in (foreign, uuid4(), UUID(int=0)):
        with pytest.raises(NotFound):
            await session.switch_organization(door.db, door.site, door.order(), signed, wrong)
    cookie = await session.switch_organization(door.db, door.site, door.order(signed.actor), signed, team)
    assert await door.whose(signed.token) is None
    assert (await door.read(cookie)).organization_id == team


async def test_a_cookie_is_rotated_once_however_many_try(door: Doorway) -> None:
    signed = await door.sign_in(await door.person(ADA))
    tries = [
        session.switch_organization(door.db, door.site, door.order(signed.actor), signed, signed.organization_id)
        for _ in range(4)
    ]
    done = await asyncio.gather(*tries, return_exceptions=True)
    assert sorted(type(one).__name__ for one in done) == ["Unauthenticated"] * 3 + ["str"]


async def test_signing_out_ends_the_session_for_good(door: Doorway) -> None:
    signed = await door.sign_in(await door.person(ADA))
    for _ in range(2):
        await session.sign_out(door.db, door.order(signed.actor), signed)
    assert await door.whose(signed.token) is None
    with pytest.raises(Unauthenticated):
        await session.switch_organization(door.db, door.site, door.order(), signed, signed.organization_id)
    assert (await door.trail(signed.person_id)).count("person.signed_out") == 1


async def test_sessions_are_listed_and_ended_by_their_person_alone(door: Doorway) -> None:
    ada, bob = await door.person(ADA), await door.person(BOB)
    theirs = await door.sign_in(bob)
    first = await door.sign_in(ada)
    begun = await session.begin(door.db, door.site, door.order(), ada, "password", Browser(FIREFOX + "\r\nX: y"))
    here = await door.read(begun.cookie)
    devices = {one.id: one for one in await session.listed(door.db, here, door.now)}
    assert theirs.id not in devices
    assert devices[here.id].device == "Firefox on Linux" and devices[here.id].current
    assert devices[here.id].address == "192.0.2.7" and devices[here.id].seen_at.second == 0
    for wrong in (theirs.id, uuid4()):
        with pytest.raises(NotFound):
            await session.revoke(door.db, door.order(here.actor), here, wrong)
    await session.revoke(door.db, door.order(here.actor), here, first.id)
    assert await door.whose(first.token) is None
    third = await door.sign_in(ada)
    assert await session.revoke_others(door.db, door.order(here.actor), here) >= 1
    assert await door.whose(third.token) is None
    assert isinstance(await door.whose(here.token), Signed)
    assert isinstance(await door.whose(theirs.token), Signed)
    assert [one.current for one in await session.listed(door.db, here, door.now)] == [True]


async def test_whoever_acts_as_somebody_ends_none_of_their_sessions(door: Doorway) -> None:
    signed = await door.sign_in(await door.person(ADA))
    acting = replace(signed, impersonator=Impersonator(uuid4(), BOB, "because they asked", uuid4()))
    with pytest.raises(Forbidden):
        await session.revoke_others(door.db, door.order(), acting)
    with pytest.raises(Forbidden):
        await session.revoke(door.db, door.order(), acting, signed.id)
    with pytest.raises(Forbidden):
        await session.switch_organization(door.db, door.site, door.order(), acting, signed.organization_id)


async def test_a_live_superadmin_without_a_second_factor_has_no_rights_over_the_platform(door: Doorway) -> None:
    signed = await door.sign_in(await door.person(ADA, superadmin=True))
    assert "platform" in signed.permissions and not signed.must_add_second_factor
    live = await door.whose(signed.token, "live")
    assert isinstance(live, Signed)
    assert "platform" not in live.permissions and live.must_add_second_factor


# --------------------------------------------------------------------------------------------------- in SQL, directly


async def test_the_web_s_role_sees_what_is_the_person_s_of_the_transaction_and_nothing_else(door: Doorway) -> None:
    ada, bob = await door.newcomer(ADA), await door.newcomer(BOB)
    await door.with_app(bob)
    for table in ("password", "totp", "recovery_code", "session", "one_time_token"):
        async with door.db.person(ada.person_id) as own:
            rows = await (await own.execute(f"SELECT person_id FROM {table}")).fetchall()
            assert {row[0] for row in rows} <= {ada.person_id}, table
            changed = await own.execute(
                f"UPDATE {table} SET person_id = person_id WHERE person_id <> %s", (ada.person_id,)
            )
            assert changed.rowcount == 0, table
        for context in (door.db.nobody(), door.db.tenant(bob.organization_id)):
            async with context as tx:
                rows = await (await tx.execute(f"SELECT FROM {table}")).fetchall()
                assert rows == [], table
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        async with door.db.operator() as op:
            await op.execute("SELECT hash FROM password")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        async with door.db.person(ada.person_id) as own:
            await own.execute("INSERT INTO password (person_id, hash, changed_at) VALUES (%s, 'x', now())", (uuid4(),))


async def test_nobody_makes_themselves_a_superadmin_in_sql(door: Doorway) -> None:
    ada = await door.sign_in(await door.person(ADA))
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        async with door.db.person(ada.person_id) as tx:
            await tx.execute("UPDATE person SET superadmin = true")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        async with door.db.person(ada.person_id) as tx:
            await tx.execute("UPDATE person SET suspended_at = NULL")


async def test_cancelled_anywhere_a_connection_carries_no_person_s_context(door: Doorway) -> None:
    signed = await door.newcomer()
    for _ in range(12):
        task = asyncio.create_task(session.listed(door.db, signed, door.now))
        await asyncio.sleep(int.from_bytes(os.urandom(1), "big") / 50_000)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    for _ in range(8):
        async with door.db.nobody() as tx:
            cursor = await tx.execute("SELECT app_person(), app_organization(), (SELECT count(*) FROM session)")
            assert await cursor.fetchone() == (None, None, 0)
