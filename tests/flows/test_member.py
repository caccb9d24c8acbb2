"""Members: who may change whom, and that an organisation never loses its last owner."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from uuid import UUID, uuid4

import pytest

from tests.society import Society, society
from tollhouse.core.access import Role
from tollhouse.core.errors import Conflict, Forbidden, NotFound, ProofRequired
from tollhouse.core.membership import OWNED_MAX
from tollhouse.core.session import Impersonator
from tollhouse.flows import invitation as invitations
from tollhouse.flows import member as flow
from tollhouse.flows.invitation import Wanted
from tollhouse.flows.organization import Insider


@pytest.fixture
async def town(database_url: str) -> AsyncIterator[Society]:
    async with society(database_url) as made:
        yield made


async def personal(town: Society, person: UUID) -> UUID:
    (row,) = await town.rows(
        """SELECT o.id FROM organization o JOIN member m ON m.organization_id = o.id
           WHERE m.person_id = %s AND o.kind = 'personal'""",
        person,
    )
    id_ = row["id"]
    assert isinstance(id_, UUID)
    return id_


def stale(insider: Insider) -> Insider:
    """The same person, who proved who they are a while ago."""
    assert insider.signed is not None
    return replace(insider, signed=replace(insider.signed, proved_at=insider.order.now - timedelta(minutes=11)))


def impersonated(insider: Insider) -> Insider:
    """A superadmin who acts in the same person's place."""
    assert insider.signed is not None
    impersonator = Impersonator(uuid4(), "root@example.com", "a ticket of theirs", uuid4())
    signed = replace(insider.signed, impersonator=impersonator)
    return Insider(insider.organization_id, replace(insider.order, actor=signed.actor), signed)


# --------------------------------------------------------------------------------------------------------------- roles


GIVEN: list[tuple[str, Role, Role, bool]] = [
    # who, to a member of which role, which role, whether they may
    ("owner", "member", "admin", True),
    ("owner", "member", "owner", True),
    ("owner", "admin", "member", True),
    ("owner", "owner", "member", True),
    ("admin", "member", "admin", True),
    ("admin", "admin", "member", True),
    ("admin", "member", "owner", False),
    ("admin", "owner", "member", False),
    ("member", "member", "admin", False),
    ("member", "admin", "member", False),
    ("key", "member", "admin", True),
    ("key", "member", "owner", False),
    ("key", "owner", "admin", False),
    ("outsider", "member", "admin", False),
]


@pytest.mark.parametrize(("who", "before", "after", "may"), GIVEN)
async def test_who_may_give_and_take_which_role(town: Society, who: str, before: Role, after: Role, may: bool) -> None:
    mill, people = await town.team(await town.person(), owner="owner", admin="admin", member="member")
    target = await town.join(mill, before)
    match who:
        case "key":
            insider = town.key(mill)
        case "outsider":
            insider = await town.insider(mill, await town.person())
        case _:
            insider = await town.insider(mill, people[who])
    if may:
        assert (await flow.change_role(town.db, insider, target, after)).role == after
        audit = await town.last_audit(mill)
        assert (audit["action"], audit["actor"], audit["object_id"]) == (
            "member.role_changed", insider.order.actor, str(target),
        )  # fmt: skip
        assert (audit["details"]["from"], audit["details"]["to"]) == (before, after)
    else:
        with pytest.raises(Forbidden):
            await flow.change_role(town.db, insider, target, after)
    assert (await town.roles(mill))[target] == (after if may else before)


async def test_the_same_role_again_leaves_no_trace(town: Society) -> None:
    ada = await town.person()
    mill, people = await town.team(ada, bob="admin")
    before = await town.audit(mill)
    await flow.change_role(town.db, await town.insider(mill, ada), people["bob"], "admin")
    assert await town.audit(mill) == before


async def test_somebody_elses_members_are_nobody(town: Society) -> None:
    ada, eve = await town.person(), await town.person()
    mill, people = await town.team(ada, bob="member")
    bakery, _ = await town.team(eve)
    attacker = await town.insider(bakery, eve)
    for nobody in (people["bob"], ada, uuid4()):
        with pytest.raises(NotFound, match="no such member"):
            await flow.change_role(town.db, attacker, nobody, "admin")
        with pytest.raises(NotFound, match="no such member"):
            await flow.remove(town.db, attacker, nobody)
        with pytest.raises(NotFound, match="no such member"):
            await flow.transfer(town.db, attacker, nobody)
    assert await town.roles(mill) == {ada: "owner", people["bob"]: "member"}


async def test_what_changes_who_owns_it_takes_a_fresh_proof_and_nobody_in_ones_place(town: Society) -> None:
    ada = await town.person()
    mill, people = await town.team(ada, other="owner", bob="member")
    insider = await town.insider(mill, ada)
    for attempt, refusal in ((stale(insider), ProofRequired), (impersonated(insider), Forbidden)):
        for change in (
            flow.change_role(town.db, attempt, people["bob"], "owner"),
            flow.change_role(town.db, attempt, people["other"], "member"),
            flow.remove(town.db, attempt, people["other"]),
            flow.transfer(town.db, attempt, people["bob"]),
        ):
            with pytest.raises(refusal):
                await change
    with pytest.raises(Forbidden):
        await flow.leave(town.db, impersonated(insider))
    assert await town.roles(mill) == {ada: "owner", people["other"]: "owner", people["bob"]: "member"}
    await flow.change_role(town.db, stale(insider), people["bob"], "admin")  # no owner in it: needs none


# ------------------------------------------------------------------------------------------------------ the last owner


async def test_the_only_owner_can_neither_leave_nor_be_lowered_nor_be_removed(town: Society) -> None:
    ada = await town.person()
    mill, _ = await town.team(ada, admin="admin")
    insider = await town.insider(mill, ada)
    for attempt in (
        flow.leave(town.db, insider),
        flow.change_role(town.db, insider, ada, "admin"),
        flow.remove(town.db, insider, ada),
    ):
        with pytest.raises(Conflict, match="only owner"):
            await attempt
    assert (await town.roles(mill))[ada] == "owner"


async def test_of_two_owners_who_leave_at_once_one_stays(town: Society) -> None:
    ada = await town.person()
    mill, people = await town.team(ada, bob="owner")
    leaving = [await town.insider(mill, person) for person in (ada, people["bob"])]
    found = await asyncio.gather(*(flow.leave(town.db, one) for one in leaving), return_exceptions=True)
    assert sorted(type(one).__name__ for one in found) == ["Conflict", "NoneType"]
    assert list((await town.roles(mill)).values()) == ["owner"]


async def test_of_two_owners_who_lower_each_other_at_once_one_stays(town: Society) -> None:
    ada = await town.person()
    mill, people = await town.team(ada, bob="owner")
    bob = people["bob"]
    found = await asyncio.gather(
        flow.change_role(town.db, await town.insider(mill, ada), bob, "member"),
        flow.change_role(town.db, await town.insider(mill, bob), ada, "member"),
        return_exceptions=True,
    )
    assert sum(isinstance(one, Forbidden) for one in found) == 1, found
    assert sorted((await town.roles(mill)).values()) == ["member", "owner"]


async def test_an_owner_who_cannot_sign_in_does_not_count(town: Society) -> None:
    ada = await town.person()
    mill, people = await town.team(ada, bob="owner")
    await town.suspend("person", people["bob"])
    insider = await town.insider(mill, ada)
    with pytest.raises(Conflict, match="only owner"):
        await flow.leave(town.db, insider)
    await flow.remove(town.db, insider, people["bob"])
    assert await town.roles(mill) == {ada: "owner"}


# ------------------------------------------------------------------------------------------------ going, and handing on


async def test_a_member_who_leaves_or_is_removed_is_in_no_more(town: Society) -> None:
    ada = await town.person()
    mill, people = await town.team(ada, bob="member", eve="admin")
    cookies = {name: await town.cookie(id_, mill) for name, id_ in people.items()}
    await flow.leave(town.db, await town.insider(mill, people["bob"]))
    assert (await town.last_audit(mill))["action"] == "member.left"
    await flow.remove(town.db, await town.insider(mill, ada), people["eve"])
    assert (await town.last_audit(mill))["details"] == {"role": "admin", "invitations_revoked": 0}
    assert await town.roles(mill) == {ada: "owner"}
    for name, cookie in cookies.items():
        signed = await town.read(cookie)
        assert signed.organization_id == await personal(town, people[name])
    with pytest.raises(Forbidden):
        await flow.leave(town.db, await town.insider(mill, people["bob"]))


async def test_what_somebody_sent_before_they_went_lets_nobody_in(town: Society) -> None:
    ada = await town.person()
    mill, people = await town.team(ada, gone="admin", lowered="admin")
    await town.person("second@example.com")
    await town.person("third@example.com")
    for name, email in (("gone", "second@example.com"), ("lowered", "third@example.com")):
        insider = await town.insider(mill, people[name])
        await invitations.invite(town.db, town.site, insider, Wanted(email, "admin"))
    owner = await town.insider(mill, ada)
    await flow.remove(town.db, owner, people["gone"])
    await flow.change_role(town.db, owner, people["lowered"], "member")
    for email in ("second@example.com", "third@example.com"):
        with pytest.raises(Conflict, match="withdrawn"):
            await invitations.look(town.db, town.site.keyring, await town.invited(email), town.now)


async def test_an_organisation_is_handed_on(town: Society) -> None:
    ada = await town.person()
    mill, people = await town.team(ada, bob="member")
    await flow.transfer(town.db, await town.insider(mill, ada), people["bob"])
    assert await town.roles(mill) == {ada: "admin", people["bob"]: "owner"}
    audit = await town.last_audit(mill)
    assert audit["action"] == "ownership.transferred"
    assert audit["details"] == {"from": str(ada), "to": str(people["bob"]), "role_before": "member"}
    with pytest.raises(Forbidden):
        await flow.transfer(town.db, await town.insider(mill, ada), ada)


async def test_who_may_not_hand_it_on(town: Society) -> None:
    ada = await town.person()
    mill, people = await town.team(ada, admin="admin", member="member")
    for insider in (
        await town.insider(mill, people["admin"]), await town.insider(mill, people["member"]),
        await town.insider(mill, await town.person()), town.key(mill),
    ):  # fmt: skip
        with pytest.raises(Forbidden):
            await flow.transfer(town.db, insider, people["member"])
    with pytest.raises(Conflict, match="own this organisation already"):
        await flow.transfer(town.db, await town.insider(mill, ada), ada)
    assert (await town.roles(mill))[ada] == "owner"


async def test_two_who_are_handed_the_same_organisation_at_once(town: Society) -> None:
    """The second finds that who hands it on owns it no more."""
    ada = await town.person()
    mill, people = await town.team(ada, bob="member", eve="member")
    insider = await town.insider(mill, ada)
    found = await asyncio.gather(
        flow.transfer(town.db, insider, people["bob"]), flow.transfer(town.db, insider, people["eve"]),
        return_exceptions=True,
    )  # fmt: skip
    assert sum(isinstance(one, Forbidden) for one in found) == 1, found
    assert sorted((await town.roles(mill)).values()) == ["admin", "member", "owner"]


async def test_nobody_is_made_the_owner_of_more_than_one_may_own(town: Society) -> None:
    ada, bob = await town.person(), await town.person()
    mill, _ = await town.team(ada)
    await town.change(
        "INSERT INTO member (organization_id, person_id, role, created_at) VALUES (%s, %s, 'admin', now())", mill, bob
    )
    for _ in range(OWNED_MAX):
        await town.team(bob)
    insider = await town.insider(mill, ada)
    for attempt in (flow.transfer(town.db, insider, bob), flow.change_role(town.db, insider, bob, "owner")):
        with pytest.raises(Conflict, match="20 organisations"):
            await attempt
    assert await town.roles(mill) == {ada: "owner", bob: "admin"}


async def test_nobody_who_is_suspended_is_made_the_owner(town: Society) -> None:
    ada = await town.person()
    mill, people = await town.team(ada, bob="member", eve="owner")
    insider = await town.insider(mill, ada)
    await town.suspend("person", people["bob"])
    await town.suspend("person", people["eve"])
    for attempt in (
        flow.transfer(town.db, insider, people["bob"]),
        flow.transfer(town.db, insider, people["eve"]),
        flow.change_role(town.db, insider, people["bob"], "owner"),
    ):
        with pytest.raises(Conflict, match="suspended"):
            await attempt
    assert (await town.roles(mill))[ada] == "owner"


async def test_a_personal_organisation_keeps_its_one_member(town: Society) -> None:
    ada = await town.person()
    own = await personal(town, ada)
    insider = await town.insider(own, ada)
    for attempt in (
        flow.leave(town.db, insider),
        flow.remove(town.db, insider, ada),
        flow.change_role(town.db, insider, ada, "member"),
        flow.transfer(town.db, insider, await town.person()),
    ):
        with pytest.raises(Conflict, match="personal organisation"):
            await attempt
    assert await town.roles(own) == {ada: "owner"}


async def test_a_suspended_organisation_keeps_its_members_as_they_are(town: Society) -> None:
    ada = await town.person()
    mill, people = await town.team(ada, bob="member")
    await town.suspend("organization", mill)
    owner, bob = await town.insider(mill, ada), await town.insider(mill, people["bob"])
    for attempt in (
        flow.leave(town.db, bob),
        flow.remove(town.db, owner, people["bob"]),
        flow.change_role(town.db, owner, people["bob"], "admin"),
        flow.transfer(town.db, owner, people["bob"]),
    ):
        with pytest.raises(Forbidden, match="suspended"):
            await attempt
    assert await town.roles(mill) == {ada: "owner", people["bob"]: "member"}
