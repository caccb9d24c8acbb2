"""People and organisations as operators see them."""

import asyncio
from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import pytest

from tests.conftest import SeededTemplate
from tests.society import Society, society
from tollhouse.core.errors import BadRequest, Conflict, Forbidden, NotFound
from tollhouse.core.key import digest
from tollhouse.core.session import Held
from tollhouse.flows import organization as organizations
from tollhouse.flows import people as flow
from tollhouse.flows import session
from tollhouse.flows.organization import Change
from tollhouse.flows.people import Search
from tollhouse.store import key as keys
from tollhouse.store.catalogue import PLATFORM_ID

WHY = "sends spam, ticket 17"


@pytest.fixture
async def town(database_url: str) -> AsyncIterator[Society]:
    async with society(database_url) as made:
        yield made


async def found(town: Society, text: str = "", limit: int = 50) -> list[str]:
    """E-mail addresses over all pages."""
    addresses: list[str] = []
    cursor = None
    while True:
        page = await flow.search(town.db, town.order(), Search(text, limit, cursor))
        assert len(page.items) <= limit
        addresses += [person.email for person in page.items]
        cursor = page.next_cursor
        if cursor is None:
            return addresses


async def test_people_are_found_page_by_page_each_once(town: Society) -> None:
    made = {f"p{n}@example.com" for n in range(5)}
    for email in made:
        await town.person(email)
    for limit in (1, 2, 5, 50):
        seen = await found(town, "@example.com", limit)
        assert len(seen) == len(set(seen)) == 5 and set(seen) == made, limit


async def test_people_are_found_by_a_part_of_name_or_address_whatever_its_case(town: Society) -> None:
    ada, _ = await town.person("ada@example.com"), await town.person("bob@example.com")
    await town.change("UPDATE person SET name = 'Ada Lovelace' WHERE id = %s", ada)
    for text in ("ADA@", "lovel", "Ada L"):
        assert await found(town, text) == ["ada@example.com"], text


@pytest.mark.parametrize("text", ["%", "_", "a%b", "\\", "' OR true --", "*"])
async def test_what_is_searched_for_is_no_pattern(town: Society, text: str) -> None:
    await town.person("ada@example.com")
    assert await found(town, text) == []


async def test_a_look_leaves_a_trace_without_what_was_looked_for(town: Society) -> None:
    ada = await town.person("canary@example.com")
    await found(town, "canary")
    await flow.read(town.db, town.order("person:root"), ada)
    searched, read = (await town.audit(PLATFORM_ID))[-2:]
    assert (searched["action"], searched["details"]) == ("person.searched", {"found": 1})
    assert (read["action"], read["actor"], read["object_id"]) == ("person.read", "person:root", str(ada))
    assert "canary" not in str(await town.audit(PLATFORM_ID))


async def test_a_cursor_is_one_of_the_same_list(town: Society) -> None:
    for _ in range(2):
        await town.person()
    page = await flow.search(town.db, town.order(), Search("", 1, None))
    assert page.next_cursor is not None
    for cursor in (page.next_cursor, "x", "", "\u00e9", "cGVvcGxlOg", "cGVvcGxlOm5vLWlk"):
        with pytest.raises(BadRequest) as refusal:
            await flow.search_organizations(town.db, town.order(), Search("", 1, cursor))
        assert refusal.value.field == "cursor"


async def test_a_person_is_shown_with_their_organisations(town: Society) -> None:
    ada = await town.person()
    mill, _ = await town.team(ada)
    person, memberships = await flow.read(town.db, town.order(), ada)
    assert person.id == ada
    assert [(one.kind, one.role) for one in memberships] == [("personal", "owner"), ("team", "owner")]
    assert memberships[1].organization_id == mill
    with pytest.raises(NotFound):
        await flow.read(town.db, town.order(), uuid4())


async def test_who_is_suspended_is_shut_out_until_they_are_let_in_again(town: Society) -> None:
    ada = await town.person()
    cookie = await town.cookie(ada)
    for _ in range(2):  # safe to repeat
        assert (await flow.suspend(town.db, town.order("person:root"), ada, WHY)).suspended_at is not None
    held = await session.find(town.db, town.site.keyring, "test", cookie, town.now)
    assert held is None or (isinstance(held, Held) and held.reason == "suspended")
    with pytest.raises(Forbidden):
        await town.cookie(ada)
    assert (await flow.unsuspend(town.db, town.order("person:root"), ada, "appealed")).suspended_at is None
    await town.sign_in(ada)
    written = [(row["action"], row["details"]) for row in await town.audit(PLATFORM_ID) if row["object_id"] == str(ada)]
    assert written == [("person.suspended", {"reason": WHY}), ("person.unsuspended", {"reason": "appealed"})]


async def test_nobody_suspends_themself_or_the_last_superadmin(town: Society) -> None:
    one, two = await town.person(superadmin=True), await town.person(superadmin=True)
    with pytest.raises(Conflict, match="your own account"):
        await flow.suspend(town.db, town.order(f"person:{one}"), one, WHY)
    await flow.suspend(town.db, town.order(f"person:{one}"), two, WHY)
    with pytest.raises(Conflict, match="last superadmin"):
        await flow.suspend(town.db, town.order("key:1"), one, WHY)


async def test_of_two_superadmins_who_suspend_each_other_at_once_one_stays(town: Society) -> None:
    one, two = await town.person(superadmin=True), await town.person(superadmin=True)
    done = await asyncio.gather(
        flow.suspend(town.db, town.order(f"person:{one}"), two, WHY),
        flow.suspend(town.db, town.order(f"person:{two}"), one, WHY),
        return_exceptions=True,
    )
    assert sum(isinstance(one, Conflict) for one in done) == 1, done


async def test_a_suspended_organisation_works_again_when_it_is_opened(town: Society) -> None:
    ada = await town.person()
    mill, _ = await town.team(ada)
    for _ in range(2):
        assert (await flow.suspend_organization(town.db, town.order("key:1"), mill, WHY)).suspended_at is not None
    with pytest.raises(Forbidden, match="suspended"):
        await organizations.change(town.db, await town.insider(mill, ada), Change("Bakery"))
    assert (await flow.unsuspend_organization(town.db, town.order("key:1"), mill, "paid")).suspended_at is None
    await organizations.change(town.db, await town.insider(mill, ada), Change("Bakery"))
    actions = [row["action"] for row in await town.audit(mill)]
    assert actions == [
        "organization.created", "organization.suspended", "organization.unsuspended", "organization.changed",
    ]  # fmt: skip


async def test_the_platform_is_not_suspended(town: Society, seeded_template: SeededTemplate) -> None:
    with pytest.raises(Conflict, match="nobody could undo it"):
        await flow.suspend_organization(town.db, town.order(), PLATFORM_ID, WHY)
    async with town.db.nobody() as tx:
        key = await keys.find(tx, [digest(town.site.keyring.current, seeded_template.operator_key)])
    assert key is not None and key.suspended_at is None


async def test_organisations_are_found_by_name_deleted_ones_too(town: Society) -> None:
    ada = await town.person()
    mill, _ = await town.team(ada)
    await organizations.delete(town.db, await town.insider(mill, ada), "Mill")
    town.later(seconds=1)
    bakery, _ = await town.team(ada)
    seen: dict[UUID, bool] = {}
    for text in ("mill", "ILL"):
        page = await flow.search_organizations(town.db, town.order(), Search(text, 50, None))
        seen = {row.id: row.deleted_at is not None for row in page.items}
        assert seen == {bakery: False, mill: True}
    first = await flow.search_organizations(town.db, town.order(), Search("mill", 1, None))
    second = await flow.search_organizations(town.db, town.order(), Search("mill", 1, first.next_cursor))
    assert [first.items[0].id, second.items[0].id] == [bakery, mill]
    assert second.next_cursor is None


@pytest.mark.parametrize("what", ["suspend", "unsuspend", "suspend_organization", "unsuspend_organization"])
async def test_nobody_is_no_one_to_suspend(town: Society, what: str) -> None:
    with pytest.raises(NotFound):
        await getattr(flow, what)(town.db, town.order(), uuid4(), WHY)


async def test_who_lost_their_second_factor_is_let_in_again_by_their_password_alone(town: Society) -> None:
    ada = await town.person("ada@example.com")
    cookie = await town.cookie(ada)
    await town.change(
        "INSERT INTO totp (person_id, secret, created_at, confirmed_at) VALUES (%s, %s, now(), now())", ada, b"sealed"
    )
    await town.change("INSERT INTO recovery_code (person_id, digest) VALUES (%s, %s)", ada, b"digest")
    assert isinstance(await session.find(town.db, town.site.keyring, "test", cookie, town.order().now), Held)

    with pytest.raises(Conflict, match="own account"):
        await flow.remove_second_factor(town.db, town.site, town.order(f"person:{ada}"), ada, WHY)
    await flow.remove_second_factor(town.db, town.site, town.order(), ada, WHY)

    assert await session.find(town.db, town.site.keyring, "test", cookie, town.order().now) is None
    assert await town.rows("SELECT 1 FROM totp UNION ALL SELECT 2 FROM recovery_code") == []
    told = await town.last_audit(PLATFORM_ID)
    assert (told["action"], told["object_id"], told["details"]["reason"]) == (
        "person.second_factor_removed", str(ada), WHY,
    )  # fmt: skip
    sent = await town.rows("SELECT recipient FROM mail WHERE kind = 'second_factor_removed'")
    assert sent == [{"recipient": "ada@example.com"}]
    with pytest.raises(Conflict, match="no second factor"):
        await flow.remove_second_factor(town.db, town.site, town.order(), ada, WHY)
    with pytest.raises(NotFound):
        await flow.remove_second_factor(town.db, town.site, town.order(), uuid4(), WHY)
