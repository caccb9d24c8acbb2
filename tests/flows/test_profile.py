"""What people change about themselves: name and address."""

from collections.abc import AsyncIterator
from dataclasses import replace
from uuid import uuid4

import pytest

from tests.flows.doorway import ADA, BOB, Doorway, doorway
from tollhouse.core.errors import BadRequest, Conflict, Forbidden, NotFound, ProofRequired, Unauthenticated
from tollhouse.core.session import Impersonator, Signed
from tollhouse.flows import profile, sign_in
from tollhouse.flows.session import Browser

NEW = "ada@new.example.com"


@pytest.fixture
async def door(database_url: str) -> AsyncIterator[Doorway]:
    async with doorway(database_url) as made:
        yield made


async def ask(door: Doorway, signed: Signed, email: str = NEW) -> None:
    await profile.request_email(door.db, door.site, door.order(signed.actor), signed, email)


async def confirm(door: Doorway, signed: Signed, token: str) -> str:
    return await profile.confirm_email(door.db, door.site, door.order(signed.actor), signed, token)


async def test_the_address_changes_when_the_new_mailbox_has_answered_and_the_former_is_told(door: Doorway) -> None:
    signed = await door.newcomer()
    await ask(door, signed, NEW.upper())
    assert (await door.read(signed.token)).email == ADA
    changed = await door.read(await confirm(door, signed, await door.token(NEW, "change_email")))
    assert (changed.email, changed.verified) == (NEW, True)
    assert await door.whose(signed.token) is None
    assert (await door.mails())[-1] == "email_changed"
    with pytest.raises(Unauthenticated):
        await door.enter(ADA)
    assert (await door.entered(NEW)).person_id == signed.person_id
    texts = await door.rows("SELECT details::text AS text FROM audit")
    assert not any(ADA in row["text"] or NEW in row["text"] for row in texts)


async def test_links_to_the_former_address_die_with_it(door: Doorway) -> None:
    signed = await door.newcomer()
    await sign_in.request_link(door.db, door.site, door.order(), ADA)
    await ask(door, signed)
    await confirm(door, signed, await door.token(NEW, "change_email"))
    with pytest.raises(NotFound):
        token = await door.token(ADA, "sign_in")
        await sign_in.with_link(door.db, door.site, door.order(), token, Browser("x"))


async def test_a_mistyped_address_gives_its_owner_nothing(door: Doorway) -> None:
    ada, bob = await door.newcomer(), await door.newcomer(BOB)
    await ask(door, ada)
    token = await door.token(NEW, "change_email")
    with pytest.raises(Forbidden, match="another account"):
        await confirm(door, bob, token)
    assert (await door.read(ada.token)).email == ADA


async def test_an_address_that_is_somebody_s_is_told_to_its_owner_alone(door: Doorway) -> None:
    ada = await door.newcomer()
    await door.newcomer(BOB)
    await ask(door, ada, BOB)
    assert (await door.mails(BOB))[-1] == "email_taken"
    await ask(door, ada)
    await door.person(NEW)  # meanwhile
    with pytest.raises(Conflict):
        await confirm(door, ada, await door.token(NEW, "change_email"))
    assert (await door.read(ada.token)).email == ADA


async def test_an_address_is_changed_only_by_who_has_just_proved_who_they_are(door: Doorway) -> None:
    signed = await door.newcomer()
    with pytest.raises(Conflict):
        await ask(door, signed, ADA)
    acting = replace(signed, impersonator=Impersonator(uuid4(), BOB, "because they asked", uuid4()))
    with pytest.raises(Forbidden):
        await ask(door, acting)
    door.later(minutes=10)
    with pytest.raises(ProofRequired):
        await ask(door, signed)


async def test_a_name_is_one_line_and_not_on_record(door: Doorway) -> None:
    signed = await door.newcomer()
    await profile.rename(door.db, door.order(signed.actor), signed, "  Augusta\r\nAda\x00 King ")
    assert (await door.read(signed.token)).name == "Augusta Ada King"
    with pytest.raises(BadRequest):
        await profile.rename(door.db, door.order(signed.actor), signed, "x" * 201)
    texts = await door.rows("SELECT details::text AS text FROM audit")
    assert not any("Augusta" in row["text"] for row in texts)
