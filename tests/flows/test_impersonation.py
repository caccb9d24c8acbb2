"""A superadmin acts as somebody else: never without a reason, a trace and an end."""

from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import pytest

from tests.flows.doorway import ADA, BOB, Doorway, doorway
from tollhouse.core.errors import BadRequest, Forbidden, NotFound, ProofRequired, Unauthenticated
from tollhouse.core.session import Signed, check_own, check_proved
from tollhouse.flows import impersonation, session

WHY = "She asked why her call was refused."
PLATFORM = UUID(int=0)


@pytest.fixture
async def door(database_url: str) -> AsyncIterator[Doorway]:
    async with doorway(database_url) as made:
        yield made


@pytest.fixture
async def operator(door: Doorway) -> Signed:
    return await door.sign_in(await door.person("root@example.com", superadmin=True))


async def act_as(
    door: Doorway, operator: Signed, person_id: UUID, reason: str = WHY, organization_id: UUID | None = None
) -> str:
    order = door.order(operator.actor)
    return await impersonation.begin(
        door.db, door.site, order, operator, person_id, reason, "Tests/1.0", organization_id
    )


async def end(door: Doorway, acting: Signed) -> str:
    return await impersonation.end(door.db, door.site, door.order(acting.actor), acting)


async def test_who_acts_as_somebody_sees_what_they_see_and_is_known(door: Doorway, operator: Signed) -> None:
    ada = await door.sign_in(await door.person(ADA))
    acting = await door.read(await act_as(door, operator, ada.person_id))
    assert (acting.person_id, acting.organization_id) == (ada.person_id, ada.organization_id)
    assert acting.impersonator is not None
    assert (acting.impersonator.id, acting.impersonator.reason) == (operator.person_id, WHY)
    assert acting.actor == f"person:{operator.person_id}"
    assert "platform" not in acting.permissions and "organization.own" not in acting.permissions
    assert "privacy.manage" not in acting.permissions and "models.use" in acting.permissions
    with pytest.raises(Forbidden, match="You act as"):
        check_own(acting)
    with pytest.raises(Forbidden, match="You act as"):
        check_proved(acting, door.now)
    for chain in (ada.organization_id, PLATFORM):
        row = await door.last_audit(chain)
        assert (row["action"], row["actor"]) == ("impersonation.begun", f"person:{operator.person_id}")
        assert row["details"]["reason"] == WHY
    methods = {one.id: one.method for one in await session.listed(door.db, ada, door.now)}
    assert methods[acting.id] == "impersonation"


async def test_it_ends_back_in_the_superadmin_s_own_session(door: Doorway, operator: Signed) -> None:
    ada = await door.sign_in(await door.person(ADA))
    acting = await door.read(await act_as(door, operator, ada.person_id))
    own = await door.read(await end(door, acting))
    assert (own.id, own.person_id, own.impersonator) == (operator.id, operator.person_id, None)
    assert await door.whose(acting.token) is None and await door.whose(operator.token) is None
    assert (await door.last_audit(ada.organization_id))["action"] == "impersonation.ended"
    with pytest.raises(Forbidden):
        await end(door, own)


async def test_it_lasts_an_hour(door: Doorway, operator: Signed) -> None:
    acting = await door.read(await act_as(door, operator, await door.person(ADA)))
    door.later(minutes=59)
    assert await door.whose(acting.token) is not None
    door.later(minutes=1)
    assert await door.whose(acting.token) is None


@pytest.mark.parametrize("reason", ["", "asked", " a    b     c ", "x" * 501])
async def test_without_a_reason_nobody_acts(door: Doorway, operator: Signed, reason: str) -> None:
    with pytest.raises(BadRequest):
        await act_as(door, operator, await door.person(ADA), reason)


async def test_only_superadmins_who_have_just_proved_who_they_are_act(door: Doorway, operator: Signed) -> None:
    ada, bob = await door.person(ADA), await door.person(BOB)
    with pytest.raises(Forbidden):
        await act_as(door, await door.sign_in(bob), ada)
    live = await door.whose(operator.token, "live")  # a superadmin without a second factor
    assert isinstance(live, Signed)
    with pytest.raises(Forbidden):
        await act_as(door, live, ada)
    acting = await door.read(await act_as(door, operator, ada))
    with pytest.raises(Forbidden):
        await act_as(door, acting, bob)
    door.later(minutes=10)
    with pytest.raises(ProofRequired):
        await act_as(door, operator, ada)


async def test_nobody_acts_as_a_superadmin_as_themselves_or_as_who_may_do_nothing(
    door: Doorway, operator: Signed
) -> None:
    ada = await door.person(ADA)
    await door.suspend("person", ada)
    for person_id in (await door.person(BOB, superadmin=True), operator.person_id, ada):
        with pytest.raises(Forbidden):
            await act_as(door, operator, person_id)
    with pytest.raises(NotFound):
        await act_as(door, operator, uuid4())


async def test_they_act_in_the_person_s_organisations_and_in_the_one_that_was_said(
    door: Doorway, operator: Signed
) -> None:
    ada = await door.person(ADA)
    team, _ = await door.team(ada)
    foreign, _ = await door.team(await door.person(BOB))
    acting = await door.read(await act_as(door, operator, ada, organization_id=team))
    assert acting.organization_id == team
    assert (await door.last_audit(team))["action"] == "impersonation.begun"
    with pytest.raises(NotFound):
        await act_as(door, operator, ada, organization_id=foreign)
    await door.change("DELETE FROM member WHERE organization_id = %s AND person_id = %s", team, ada)
    assert await door.whose(acting.token) is None


@pytest.mark.parametrize("loss", ["rights", "suspended", "session"])
async def test_it_ends_with_what_it_stands_on(door: Doorway, operator: Signed, loss: str) -> None:
    acting = await door.read(await act_as(door, operator, await door.person(ADA)))
    if loss == "rights":
        await door.change("UPDATE person SET superadmin = false WHERE id = %s", operator.person_id)
    elif loss == "suspended":
        await door.suspend("person", operator.person_id)
    else:
        await session.sign_out(door.db, door.order(), operator)
    assert await door.whose(acting.token) is None
    if loss == "session":
        with pytest.raises(Unauthenticated):
            await end(door, acting)


async def test_the_person_ends_it_when_they_want(door: Doorway, operator: Signed) -> None:
    ada = await door.sign_in(await door.person(ADA))
    acting = await door.read(await act_as(door, operator, ada.person_id))
    await session.revoke(door.db, door.order(ada.actor), ada, acting.id)
    assert await door.whose(acting.token) is None
    assert isinstance(await door.whose(operator.token), Signed)


async def test_the_person_s_second_factor_is_not_asked_of_who_acts_as_them(door: Doorway, operator: Signed) -> None:
    ada, _, _ = await door.with_app(await door.newcomer())
    assert isinstance(await door.whose(await act_as(door, operator, ada.person_id)), Signed)
