"""Organisations of people: how they begin, change and end."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from uuid import UUID, uuid4

import pytest

from tests.flows.cast import ask, settle
from tests.ledger import assert_ledger_holds
from tests.society import KEYRING, Society, society
from tollhouse.core.errors import (
    BadRequest,
    Conflict,
    Forbidden,
    NotFound,
    ProofRequired,
    TollhouseError,
    TooManyTries,
)
from tollhouse.core.key import digest, make_key
from tollhouse.core.membership import OWNED_MAX
from tollhouse.core.session import Impersonator, Signed
from tollhouse.core.throttle import ORGANIZATION_PERSON
from tollhouse.flows import organization as flow
from tollhouse.flows.organization import Change, Insider
from tollhouse.flows.spend import Teller
from tollhouse.store import key as keys
from tollhouse.store import organization as organizations


@pytest.fixture
async def town(database_url: str) -> AsyncIterator[Society]:
    async with society(database_url) as made:
        yield made
    await assert_ledger_holds(database_url)


async def create(town: Society, owner: UUID, name: str = "Mill", business_type: str = "general") -> UUID:
    signed = await town.sign_in(owner)
    return (await flow.create(town.db, KEYRING, town.order(signed.actor), signed, name, business_type)).id


async def personal(town: Society, person: UUID) -> UUID:
    async with town.db.person(person) as tx:
        return next(row.id for row in await organizations.own(tx) if row.kind == "personal")


def impersonated(signed: Signed) -> Signed:
    """The same person, with a superadmin acting in their place."""
    return replace(signed, impersonator=Impersonator(uuid4(), "root@example.com", "a ticket of theirs", uuid4()))


# ------------------------------------------------------------------------------------------------------------ beginning


async def test_who_makes_an_organisation_owns_it_and_it_begins_with_its_credits(town: Society) -> None:
    ada = await town.person()
    mill = await create(town, ada, "Mill & Sons", "legal")
    assert await town.roles(mill) == {ada: "owner"}
    (row,) = await town.rows("SELECT name, kind, business_type, plan_id FROM organization WHERE id = %s", mill)
    assert tuple(row.values()) == ("Mill & Sons", "team", "legal", "free")
    assert await town.rows("SELECT FROM credit_transaction WHERE organization_id = %s", mill) != []
    audit = await town.last_audit(mill)
    assert (audit["action"], audit["actor"], audit["address"]) == (
        "organization.created", f"person:{ada}", "192.0.2.7",
    )  # fmt: skip
    assert audit["details"]["owner"] == str(ada)


async def test_of_many_that_are_made_at_once_one_owns_no_more_than_one_may(town: Society) -> None:
    ada = await town.person()
    signed = await town.sign_in(ada)
    order = town.order(signed.actor)
    for _ in range(OWNED_MAX - 2):
        await town.team(ada)
    made = [flow.create(town.db, KEYRING, order, signed, f"Mill {n}", "general") for n in range(5)]
    refused = [one for one in await asyncio.gather(*made, return_exceptions=True) if isinstance(one, BaseException)]
    assert [type(one) for one in refused] == [Conflict] * 3
    async with town.db.person(ada) as tx:
        owned = [row for row in await organizations.own(tx) if row.kind == "team"]
    assert len(owned) == OWNED_MAX


async def test_one_that_was_deleted_counts_no_more(town: Society) -> None:
    ada = await town.person()
    made = [(await town.team(ada))[0] for _ in range(OWNED_MAX)]
    await flow.delete(town.db, await town.insider(made[0], ada), "Mill")
    await create(town, ada)
    with pytest.raises(Conflict, match="20 organisations"):
        await create(town, ada)


async def test_nobody_gets_credits_by_making_organisations_and_deleting_them(town: Society) -> None:
    ada, bob = await town.person(), await town.person()
    for _ in range(ORGANIZATION_PERSON.burst):
        mill = await create(town, ada)
        await flow.delete(town.db, await town.insider(mill, ada), "Mill")
    with pytest.raises(TooManyTries) as refusal:
        await create(town, ada)
    assert refusal.value.retry_after_s > 60 * 60
    await create(town, bob)
    town.later(seconds=refusal.value.retry_after_s)
    await create(town, ada)
    with pytest.raises(TooManyTries):
        await create(town, ada)


@pytest.mark.parametrize(
    "name", ["two\nlines", "bell\x07", "mark\u202e", "see https://evil.example", "WWW.evil.example"]
)
async def test_a_name_that_would_not_stand_well_in_mail_is_refused(town: Society, name: str) -> None:
    with pytest.raises(BadRequest) as refusal:
        await create(town, await town.person(), name)
    assert refusal.value.field == "name"


async def test_a_business_type_is_one_of_the_list_or_what_an_operator_named(town: Society) -> None:
    ada = await town.person()
    with pytest.raises(BadRequest) as refusal:
        await create(town, ada, business_type="piracy")
    assert refusal.value.field == "business_type"
    mill = await create(town, ada)
    await town.change("UPDATE organization SET business_type = 'school' WHERE id = %s", mill)
    insider = await town.insider(mill, ada)
    assert (await flow.change(town.db, insider, Change(business_type="school"))).business_type == "school"
    assert (await flow.change(town.db, insider, Change(business_type="legal"))).business_type == "legal"


async def test_nobody_makes_one_in_somebodys_place(town: Society) -> None:
    signed = impersonated(await town.sign_in(await town.person()))
    with pytest.raises(Forbidden, match="act as"):
        await flow.create(town.db, KEYRING, town.order(signed.actor), signed, "Mill", "general")


# ------------------------------------------------------------------------------------------------------------- changing


async def test_a_change_is_written_down_from_what_to_what(town: Society) -> None:
    ada = await town.person()
    mill = await create(town, ada)
    await flow.change(town.db, await town.insider(mill, ada), Change("Bakery", "retail"))
    audit = await town.last_audit(mill)
    assert audit["action"] == "organization.changed"
    assert audit["details"] == {
        "name": {"from": "Mill", "to": "Bakery"}, "business_type": {"from": "general", "to": "retail"},
    }  # fmt: skip


async def test_a_change_that_changes_nothing_leaves_no_trace(town: Society) -> None:
    ada = await town.person()
    mill = await create(town, ada)
    before = await town.audit(mill)
    await flow.change(town.db, await town.insider(mill, ada), Change("Mill"))
    assert await town.audit(mill) == before


async def test_what_a_personal_organisation_is_called_never_gets_into_the_audit_log(town: Society) -> None:
    ada = await town.person()
    own = await personal(town, ada)
    await flow.change(town.db, await town.insider(own, ada), Change("Ada Lovelace"))
    (row,) = await town.rows("SELECT name FROM organization WHERE id = %s", own)
    assert row["name"] == "Ada Lovelace"
    assert "Lovelace" not in str(await town.audit(own))
    assert (await town.last_audit(own))["details"] == {"name": "changed"}


async def test_who_may_change_it(town: Society) -> None:
    mill, people = await town.team(await town.person(), admin="admin", member="member")
    outsider = await town.person()
    await flow.change(town.db, await town.insider(mill, people["admin"]), Change("By an admin"))
    await flow.change(town.db, town.key(mill), Change("By a key"))
    for person in (people["member"], outsider):
        with pytest.raises(Forbidden):
            await flow.change(town.db, await town.insider(mill, person), Change("Mine"))
    (row,) = await town.rows("SELECT name FROM organization WHERE id = %s", mill)
    assert row["name"] == "By a key"


async def test_a_role_that_was_lost_since_the_call_came_in_counts_no_more(town: Society) -> None:
    mill, people = await town.team(await town.person(), admin="admin")
    insider = await town.insider(mill, people["admin"])
    await town.change("UPDATE member SET role = 'member' WHERE person_id = %s AND role = 'admin'", people["admin"])
    with pytest.raises(Forbidden, match="role here is member"):
        await flow.change(town.db, insider, Change("Mine"))


async def test_a_suspended_organisation_refuses_every_change_and_says_so(town: Society) -> None:
    ada = await town.person()
    mill = await create(town, ada)
    await town.suspend("organization", mill)
    for attempt in (
        flow.change(town.db, await town.insider(mill, ada), Change("Bakery")),
        flow.change(town.db, town.key(mill), Change("Bakery")),
        flow.delete(town.db, await town.insider(mill, ada), "Mill"),
    ):
        with pytest.raises(Forbidden, match="suspended"):
            await attempt
    async with town.db.person(ada) as tx:
        listed = {row.id: row.suspended_at for row in await organizations.own(tx)}
    assert listed[mill] is not None


# --------------------------------------------------------------------------------------------------------------- ending


async def equipped(town: Society) -> tuple[UUID, UUID, str]:
    """An organisation with a bit of everything: its id, its owner and a key of it."""
    ada = await town.person()
    mill, _ = await town.team(ada, bob="member")
    text = make_key("test", bytes(range(64)))
    async with town.db.operator() as tx:
        await tx.execute(
            """INSERT INTO connection (organization_id, id, provider_id, base_url, key_ciphertext, origin, created_at)
               VALUES (%s, %s, 'openai', 'https://api.openai.com/v1', 'sealed', 'organization', now())""",
            (mill, uuid4()),
        )
        await tx.execute(
            """INSERT INTO jwt_issuer (organization_id, id, name, issuer, audience, jwks_url, created_at)
               VALUES (%s, %s, 'App', 'https://idp.example', 'mill', 'https://idp.example/keys', now())""",
            (mill, uuid4()),
        )
        await tx.execute(
            """INSERT INTO invitation (organization_id, id, email, role, digest, invited_by, created_at, expires_at)
               VALUES (%s, %s, 'eve@example.com', 'admin', 'd', 'system', now(), now() + interval '7 days')""",
            (mill, uuid4()),
        )
        await tx.execute(
            """INSERT INTO api_key (organization_id, id, name, digest, start, scopes, mode, created_at)
               VALUES (%s, %s, 'Hers', %s, 'th_test_hers', '{gateway}', 'test', now())""",
            (mill, uuid4(), digest(town.site.keyring.current, text)),
        )
    async with town.db.tenant(mill) as tenant:
        await tenant.execute(
            """INSERT INTO request_content (organization_id, request_id, prompt, created_at)
               VALUES (%s, %s, '"a secret"', now())""",
            (mill, uuid4()),
        )
    return mill, ada, text


async def test_of_an_organisation_that_is_deleted_only_its_books_stay(town: Society) -> None:
    mill, ada, text = await equipped(town)
    await flow.delete(town.db, await town.insider(mill, ada), "Mill")
    for table in ("member", "connection", "jwt_issuer", "request_content"):
        assert await town.rows(f"SELECT FROM {table} WHERE organization_id = %s", mill) == [], table
    for table in ("api_key", "invitation"):
        (row,) = await town.rows(f"SELECT revoked_at FROM {table} WHERE organization_id = %s", mill)
        assert row["revoked_at"] is not None, table
    async with town.db.nobody() as tx:
        assert await keys.find(tx, [digest(town.site.keyring.current, text)]) is None
    async with town.db.person(ada) as own:
        assert mill not in [row.id for row in await organizations.own(own)]
    assert await town.rows("SELECT FROM credit_transaction WHERE organization_id = %s", mill) != []
    audit = await town.last_audit(mill)
    assert audit["action"] == "organization.deleted"
    assert audit["details"] == {
        "name": "Mill", "keys": 1, "members": 2, "invitations": 1, "connections": 1, "issuers": 1,
    }  # fmt: skip


async def test_one_that_is_deleted_is_nowhere_any_more(town: Society) -> None:
    mill, ada, _ = await equipped(town)
    insider = await town.insider(mill, ada)
    await flow.delete(town.db, insider, "Mill")
    for attempt in (
        flow.delete(town.db, insider, "Mill"),
        flow.change(town.db, insider, Change("Bakery")),
        flow.change(town.db, town.key(mill), Change("Bakery")),
    ):
        with pytest.raises(NotFound):
            await attempt
    async with town.db.worker() as tx:
        assert mill not in await organizations.due(tx, town.now.replace(year=town.now.year + 1), 1_000)


async def test_none_is_deleted_while_a_call_is_running(town: Society) -> None:
    mill, ada, _ = await equipped(town)
    teller = Teller(town.db.url, "test", lambda: town.now)
    await teller.open()
    running = await teller.admit(ask(mill))
    with pytest.raises(Conflict, match="still running"):
        await flow.delete(town.db, await town.insider(mill, ada), "Mill")
    assert ada in await town.roles(mill)
    await teller.do(settle(mill, running.id))
    await teller.close()
    await flow.delete(town.db, await town.insider(mill, ada), "Mill")
    assert await town.roles(mill) == {}


@pytest.mark.parametrize("typed", ["mill", "Mill ", "", "Bakery"])
async def test_whoever_deletes_types_the_name_as_it_is(town: Society, typed: str) -> None:
    ada = await town.person()
    mill = await create(town, ada)
    with pytest.raises(BadRequest) as refusal:
        await flow.delete(town.db, await town.insider(mill, ada), typed)
    assert refusal.value.field == "name"
    assert await town.roles(mill) == {ada: "owner"}


async def test_only_an_owner_who_has_proved_who_they_are_deletes(town: Society) -> None:
    ada = await town.person()
    mill, people = await town.team(ada, admin="admin", member="member")
    stale = await town.insider(mill, ada)
    replaced = Insider(mill, stale.order, impersonated(await town.sign_in(ada)))
    outsider = await town.insider(mill, await town.person())
    refused: list[tuple[Insider, type[TollhouseError]]] = [
        (await town.insider(mill, people["admin"]), Forbidden),
        (await town.insider(mill, people["member"]), Forbidden),
        (outsider, Forbidden),
        (town.key(mill), Forbidden),
        (replaced, Forbidden),
    ]
    for insider, refusal in refused:
        with pytest.raises(refusal):
            await flow.delete(town.db, insider, "Mill")
    town.later(minutes=11)
    late = Insider(mill, town.order(stale.order.actor), stale.signed)
    with pytest.raises(ProofRequired):
        await flow.delete(town.db, late, "Mill")
    assert ada in await town.roles(mill)


async def test_neither_a_personal_organisation_nor_the_platform_is_deleted(town: Society) -> None:
    ada = await town.person(superadmin=True)
    own = await personal(town, ada)
    with pytest.raises(Conflict, match="personal"):
        await flow.delete(town.db, await town.insider(own, ada), "Personal")
    (platform,) = await town.rows("SELECT id, name FROM organization WHERE kind = 'platform'")
    await town.change(
        "INSERT INTO member (organization_id, person_id, role, created_at) VALUES (%s, %s, 'owner', now())",
        platform["id"], ada,
    )  # fmt: skip
    with pytest.raises(Conflict, match="platform"):
        await flow.delete(town.db, await town.insider(platform["id"], ada), platform["name"])


async def test_nobody_sees_anothers_organisations(town: Society) -> None:
    ada, eve = await town.person(), await town.person()
    mill = await create(town, ada)
    async with town.db.person(eve) as tx:
        seen = await organizations.own(tx)
        assert [row.kind for row in seen] == ["personal"]
    async with town.db.person(ada) as tx:
        assert [(row.kind, row.role) for row in await organizations.own(tx)] == [
            ("personal", "owner"), ("team", "owner"),
        ]  # fmt: skip
        assert (await organizations.own(tx))[1].id == mill
