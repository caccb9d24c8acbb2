"""What operators do with organisations: every test leaves a ledger and an audit chain that prove."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, get_args
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg.rows import dict_row

from tests.conftest import TEST_POLICY
from tollhouse.core.ask import Ask, CallWant, Size
from tollhouse.core.credit import TRANSACTION_OF, Source
from tollhouse.core.errors import BadRequest, Conflict, Forbidden, Mismatch, NotFound
from tollhouse.core.key import end_user_id
from tollhouse.flows import govern, key
from tollhouse.flows.key import Manager
from tollhouse.flows.once import Once
from tollhouse.flows.operation import Admit, Admitted, Reap
from tollhouse.flows.order import Given, Moved, NewEntitlement, NewGrant, NewKey, NewOrganization, Order, Overview
from tollhouse.flows.spend import Teller
from tollhouse.store.catalogue import PLATFORM_ID
from tollhouse.store.db import Database
from tollhouse.store.proof import prove

CREDIT = 1_000_000
NOON = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)
FIVE = NewGrant("promo", 5 * CREDIT, "for the fair")


@dataclass
class Office:
    """An operator at a desk, at noon; the clock of the installation stands still."""

    db: Database
    url: str
    order: Order

    async def organization(self, plan: str = "free", **more: Any) -> UUID:
        return (await self.overview(plan, **more)).organization.id

    async def overview(self, plan: str = "free", **more: Any) -> Overview:
        made = await govern.create_organization(self.db, self.order, NewOrganization("Mill", plan, **more))
        return made.result()

    async def give(self, organization_id: UUID, wanted: NewGrant, once: Once | None = None) -> Given:
        return (await govern.give_grant(self.db, self.order, organization_id, wanted, once)).result()

    async def plan(self, organization_id: UUID, plan: str) -> Overview:
        return await govern.change_plan(self.db, self.order, organization_id, plan)

    async def move(self, organization_id: UUID, to: datetime) -> Moved:
        return await govern.move_clock(self.db, self.order, "test", organization_id, to)

    async def available(self, organization_id: UUID) -> float:
        return (await self.read(organization_id)).balance.available_micros / CREDIT

    async def read(self, organization_id: UUID) -> Overview:
        return await govern.read_organization(self.db, self.order, organization_id)

    def rows(self, statement: str, *parameters: object) -> list[dict[str, Any]]:
        with psycopg.connect(self.url, row_factory=dict_row) as connection:
            return connection.execute(statement.encode(), parameters).fetchall()

    def ledger(self, organization_id: UUID) -> list[tuple[str, float]]:
        rows = self.rows(
            "SELECT type, amount_micros FROM credit_transaction WHERE organization_id = %s ORDER BY seq",
            organization_id,
        )
        return [(row["type"], row["amount_micros"] / CREDIT) for row in rows]

    def audit(self, organization_id: UUID) -> list[str]:
        rows = self.rows("SELECT action FROM audit WHERE organization_id = %s ORDER BY seq", organization_id)
        return [row["action"] for row in rows]

    async def failures(self) -> list[tuple[int, str, list[dict[str, Any]]]]:
        async with await psycopg.AsyncConnection.connect(self.url, autocommit=True) as connection:
            return [(one.number, one.statement, one.rows) for one in await prove(connection)]


@pytest.fixture
async def unproven(database_url: str) -> AsyncIterator[Office]:
    db = Database(database_url)
    await db.open()
    yield Office(db, database_url, Order("key:1", NOON))
    await db.close()


@pytest.fixture
async def office(unproven: Office) -> AsyncIterator[Office]:
    yield unproven
    assert await unproven.failures() == []


@pytest.fixture
async def teller(database_url: str) -> AsyncIterator[Teller]:
    teller = Teller(database_url, "test", lambda: NOON)
    await teller.open()
    yield teller
    await teller.close()


async def reserve(teller: Teller, organization_id: UUID, input_tokens: int) -> Admitted:
    """A call that has not been answered yet: a million input tokens of the sandbox cost 50 credits."""
    ask = Ask(organization_id, None, organization_id, "api", CallWant("sandbox", Size(input_tokens, 1)))
    return await teller.admit(Admit(organization_id, ask, "test", False))


# ------------------------------------------------------------------------------------------------------- organisations


async def test_a_new_organisation_has_its_monthly_credits_and_its_welcome_bonus(office: Office) -> None:
    made = await office.overview("pro")
    assert office.ledger(made.organization.id) == [("plan_allocation", 500), ("welcome_bonus", 25)]
    assert made.balance.available_micros == 525 * CREDIT
    assert (made.balance.period_start, made.balance.period_end) == (NOON, datetime(2026, 2, 28, 12, 0, tzinfo=UTC))
    assert made.organization.kind == "team"


async def test_periods_follow_the_anchor_whenever_the_organisation_is_made(office: Office) -> None:
    made = await office.overview(period_anchor=datetime(2025, 5, 31, tzinfo=UTC))
    assert made.balance.period_start == datetime(2026, 1, 31, tzinfo=UTC)
    assert made.balance.period_end == datetime(2026, 2, 28, tzinfo=UTC)
    later = await office.overview(period_anchor=datetime(2026, 12, 15, tzinfo=UTC))
    assert later.balance.period_start == datetime(2026, 1, 15, tzinfo=UTC)


async def test_an_owner_is_one_person_in_all_their_organisations(office: Office) -> None:
    first = await office.organization(owner_email="ada@example.com")
    second = await office.organization(owner_email="ada@example.com")
    members = office.rows("SELECT organization_id, person_id, role FROM member ORDER BY organization_id")
    assert [row["organization_id"] for row in members] == sorted([first, second])
    assert len({row["person_id"] for row in members}) == 1
    assert {row["role"] for row in members} == {"owner"}


async def test_an_unknown_plan_is_refused_with_the_plans_there_are_and_nothing_is_made(office: Office) -> None:
    before = office.rows("SELECT count(*) FROM organization")
    with pytest.raises(BadRequest, match=r"'gold'.*free, starter, basic, pro, team, enterprise"):
        await office.organization("gold")
    assert office.rows("SELECT count(*) FROM organization") == before


async def test_creating_an_organisation_again_with_the_same_key_makes_one(office: Office) -> None:
    once = Once("organizations", "k1", b"body")
    wanted = NewOrganization("Mill", "pro", owner_email="ada@example.com")
    done = await asyncio.gather(*[govern.create_organization(office.db, office.order, wanted, once) for _ in range(4)])
    assert len({one.result().organization.id for one in done}) == 1
    assert sorted(one.replayed for one in done) == [False, True, True, True]
    assert done[0].result() == done[1].result()


# --------------------------------------------------------------------------------------------------------------- grants


@pytest.mark.parametrize("source", get_args(Source))
async def test_a_grant_of_any_source_is_booked_as_what_it_is(office: Office, source: Source) -> None:
    organization_id = await office.organization()
    given = await office.give(organization_id, NewGrant(source, 5 * CREDIT, "because"))
    assert office.ledger(organization_id)[2:] == [(TRANSACTION_OF[source], 5)]
    assert given.available_micros == 25 * CREDIT
    actors = office.rows("SELECT actor, note FROM credit_transaction WHERE grant_id = %s", given.grant.id)
    assert actors == [{"actor": "key:1", "note": "because"}]


async def test_monthly_credits_without_an_expiry_end_with_the_period_in_which_they_begin(office: Office) -> None:
    organization_id = await office.organization()
    now = await office.give(organization_id, NewGrant("plan", CREDIT, "more"))
    assert now.grant.expires_at == datetime(2026, 2, 28, 12, 0, tzinfo=UTC)
    begins = datetime(2026, 3, 1, tzinfo=UTC)
    later = await office.give(organization_id, NewGrant("plan_change", CREDIT, "more", effective_at=begins))
    assert later.grant.expires_at == datetime(2026, 3, 31, 12, 0, tzinfo=UTC)


async def test_a_grant_counts_from_its_begin_until_its_expiry(office: Office) -> None:
    organization_id = await office.organization()
    begins, ends = NOON + timedelta(days=1), NOON + timedelta(days=2)
    given = await office.give(organization_id, replace(FIVE, effective_at=begins, expires_at=ends))
    assert given.available_micros == 20 * CREDIT
    assert await office.available(organization_id) == 20
    await office.move(organization_id, begins - timedelta(microseconds=1))
    assert await office.available(organization_id) == 20
    await office.move(organization_id, begins)
    assert await office.available(organization_id) == 25
    await office.move(organization_id, ends - timedelta(microseconds=1))
    assert await office.available(organization_id) == 25
    await office.move(organization_id, ends)
    assert await office.available(organization_id) == 20
    assert office.ledger(organization_id)[2:] == [("promo_bonus", 5), ("expiry", -5)]


@pytest.mark.parametrize(
    "times",
    [
        {"expires_at": NOON},
        {"expires_at": NOON - timedelta(days=1)},
        {"effective_at": NOON + timedelta(days=2), "expires_at": NOON + timedelta(days=2)},
        {"effective_at": NOON - timedelta(days=9), "expires_at": NOON - timedelta(days=8)},
    ],
)
async def test_a_grant_that_could_never_be_spent_is_refused_and_leaves_no_trace(
    office: Office, times: dict[str, datetime]
) -> None:
    organization_id = await office.organization()
    with pytest.raises(BadRequest, match="would end"):
        await office.give(organization_id, replace(FIVE, **times))  # type: ignore[arg-type]
    assert len(office.ledger(organization_id)) == 2
    assert office.audit(organization_id) == ["organization.created"]


async def test_more_than_one_amount_may_be_is_never_held(office: Office) -> None:
    organization_id = await office.organization()
    with pytest.raises(Conflict, match="10000000000 credits"):
        await office.give(organization_id, replace(FIVE, amount_micros=10_000_000_000 * CREDIT))


async def test_a_grant_pays_debt_first(office: Office, teller: Teller) -> None:
    organization_id = await office.organization()
    await govern.set_overdraft(office.db, office.order, organization_id, 100 * CREDIT)
    admitted = await reserve(teller, organization_id, 500_000)
    assert admitted.amount_micros > 20 * CREDIT
    given = await office.give(organization_id, FIVE)
    assert given.available_micros == 25 * CREDIT - admitted.amount_micros
    moved = await office.move(organization_id, NOON + timedelta(minutes=5))
    assert await asyncio.gather(*[teller.do(Reap(organization_id, id_)) for id_ in moved.outlived]) == [True]


async def test_eight_equal_grants_at_once_book_one(office: Office) -> None:
    organization_id = await office.organization()
    once = Once("grants", "k1", b"five")
    done = await asyncio.gather(
        *[govern.give_grant(office.db, office.order, organization_id, FIVE, once) for _ in range(8)]
    )
    assert len({one.result().grant.id for one in done}) == 1
    assert len({one.result().available_micros for one in done}) == 1
    assert [one.replayed for one in done].count(False) == 1
    assert office.ledger(organization_id)[2:] == [("promo_bonus", 5)]
    assert office.audit(organization_id).count("grant.given") == 1


async def test_the_same_key_with_another_body_is_a_mismatch_and_books_nothing(office: Office) -> None:
    organization_id = await office.organization()
    await office.give(organization_id, FIVE, Once("grants", "k1", b"five"))
    with pytest.raises(Mismatch, match="k1"):
        await office.give(organization_id, replace(FIVE, amount_micros=CREDIT), Once("grants", "k1", b"one"))
    assert len(office.ledger(organization_id)) == 3


async def test_a_key_counts_for_its_organisation_and_endpoint_only(office: Office) -> None:
    first, second = await office.organization(), await office.organization()
    for organization_id, endpoint in ((first, "grants"), (second, "grants"), (first, "other")):
        await office.give(organization_id, FIVE, Once(endpoint, "k1", b"five"))
    assert [await office.available(one) for one in (first, second)] == [30, 25]


async def test_a_refusal_is_repeated_to_the_same_request(office: Office) -> None:
    organization_id = await office.organization()
    once, wanted = Once("grants", "k1", b"late"), replace(FIVE, expires_at=NOON - timedelta(days=1))
    refusals = []
    for _ in range(2):
        done = await govern.give_grant(office.db, office.order, organization_id, wanted, once)
        with pytest.raises(BadRequest) as refusal:
            done.result()
        refusals.append((done.replayed, str(refusal.value), refusal.value.field, refusal.value.status))
    assert refusals[0][1:] == refusals[1][1:]
    assert [replayed for replayed, *_ in refusals] == [False, True]


async def test_twenty_different_grants_at_once_are_all_booked_in_one_chain(office: Office) -> None:
    organization_id = await office.organization()
    await asyncio.gather(*[office.give(organization_id, FIVE) for _ in range(20)])
    assert await office.available(organization_id) == 120
    assert office.audit(organization_id).count("grant.given") == 20


async def test_an_organisation_that_does_not_exist_is_not_found(office: Office) -> None:
    nowhere = uuid4()
    with pytest.raises(NotFound):
        await office.give(nowhere, FIVE, Once("grants", "k1", b"five"))
    with pytest.raises(NotFound):
        await office.plan(nowhere, "pro")
    with pytest.raises(NotFound):
        await office.read(nowhere)


# ---------------------------------------------------------------------------------------------------------------- plans


async def test_an_upgrade_gives_the_difference_at_once_until_the_period_ends(office: Office) -> None:
    organization_id = await office.organization("pro")
    after = await office.plan(organization_id, "team")
    assert (after.organization.plan_id, after.organization.pending_plan_id) == ("team", None)
    assert office.ledger(organization_id)[2:] == [("plan_change_adjustment", 1500), ("welcome_bonus", 50)]
    ends = office.rows("SELECT expires_at FROM credit_grant WHERE source = 'plan_change'")
    assert ends == [{"expires_at": after.balance.period_end}]
    await office.move(organization_id, after.balance.period_end)
    assert office.ledger(organization_id)[4:] == [("expiry", -500), ("expiry", -1500), ("plan_allocation", 2000)]
    assert await office.available(organization_id) == 2075


async def test_changing_to_and_fro_within_a_period_gives_nothing_twice(office: Office) -> None:
    organization_id = await office.organization("free")
    for plan in ("pro", "free", "pro", "team", "pro", "free", "team"):
        await office.plan(organization_id, plan)
    bonus = 10 + 25 + 50
    assert await office.available(organization_id) == 2000 + bonus
    assert (await office.read(organization_id)).organization.pending_plan_id is None


async def test_a_downgrade_waits_for_the_periods_end_and_a_later_change_replaces_it(office: Office) -> None:
    organization_id = await office.organization("team")
    await office.plan(organization_id, "free")
    waiting = await office.plan(organization_id, "pro")
    assert (waiting.organization.plan_id, waiting.organization.pending_plan_id) == ("team", "pro")
    assert await office.available(organization_id) == 2050
    await office.move(organization_id, waiting.balance.period_end)
    after = await office.read(organization_id)
    assert (after.organization.plan_id, after.organization.pending_plan_id) == ("pro", None)
    assert await office.available(organization_id) == 550


async def test_changing_to_the_plan_in_force_cancels_what_waits(office: Office) -> None:
    organization_id = await office.organization("team")
    await office.plan(organization_id, "free")
    after = await office.plan(organization_id, "team")
    assert (after.organization.plan_id, after.organization.pending_plan_id) == ("team", None)
    assert len(office.ledger(organization_id)) == 2


async def test_the_welcome_bonus_of_a_plan_comes_once_in_a_lifetime(office: Office) -> None:
    organization_id = await office.organization("pro")
    ends = (await office.plan(organization_id, "free")).balance.period_end
    await office.move(organization_id, ends)
    await office.plan(organization_id, "pro")
    bonuses = [entry for entry in office.ledger(organization_id) if entry[0] == "welcome_bonus"]
    assert bonuses == [("welcome_bonus", 25)]
    assert await office.available(organization_id) == 500 + 25


async def test_an_upgrade_on_the_last_moment_of_a_period_ends_with_it(office: Office) -> None:
    organization_id = await office.organization("free")
    ends = (await office.read(organization_id)).balance.period_end
    await office.move(organization_id, ends - timedelta(microseconds=1))
    await office.plan(organization_id, "pro")
    await office.move(organization_id, ends)
    assert await office.available(organization_id) == 500 + 35


async def test_an_unknown_plan_changes_nothing(office: Office) -> None:
    organization_id = await office.organization("pro")
    with pytest.raises(BadRequest, match="'gold'"):
        await office.plan(organization_id, "gold")
    assert (await office.read(organization_id)).organization.plan_id == "pro"


# ------------------------------------------------------------------------------------------------ overdraft, test clock


async def test_an_overdraft_may_be_spent_and_not_be_taken_away_while_it_is_in_use(
    office: Office, teller: Teller
) -> None:
    organization_id = await office.organization()
    after = await govern.set_overdraft(office.db, office.order, organization_id, 30 * CREDIT)
    assert after.balance.spendable_micros == 50 * CREDIT
    admitted = await reserve(teller, organization_id, 500_000)
    in_use = admitted.amount_micros - 20 * CREDIT
    with pytest.raises(Conflict, match="in use"):
        await govern.set_overdraft(office.db, office.order, organization_id, in_use - 1)
    after = await govern.set_overdraft(office.db, office.order, organization_id, in_use)
    assert after.balance.spendable_micros == 0
    moved = await office.move(organization_id, NOON + timedelta(minutes=5))
    await teller.do(Reap(organization_id, moved.outlived[0]))


async def test_a_test_clock_goes_only_forward(office: Office) -> None:
    organization_id = await office.organization()
    to = NOON + timedelta(days=3)
    assert (await office.move(organization_id, to)).overview.now == to
    with pytest.raises(Conflict, match="2026-02-03T12:00:00Z"):
        await office.move(organization_id, to - timedelta(microseconds=1))
    assert (await office.read(organization_id)).now == to


async def test_a_test_clock_is_refused_in_live_mode(office: Office) -> None:
    organization_id = await office.organization()
    with pytest.raises(Forbidden, match="test mode"):
        await govern.move_clock(office.db, office.order, "live", organization_id, NOON + timedelta(days=3))


async def test_a_clock_moved_over_three_periods_lands_in_the_right_one_with_one_allocation(office: Office) -> None:
    organization_id = await office.organization("pro")
    moved = await office.move(organization_id, datetime(2026, 5, 1, tzinfo=UTC))
    assert moved.overview.balance.period_start == datetime(2026, 4, 30, 12, 0, tzinfo=UTC)
    assert moved.overview.balance.period_end == datetime(2026, 5, 31, 12, 0, tzinfo=UTC)
    assert office.ledger(organization_id)[2:] == [("expiry", -500), ("plan_allocation", 500)]


async def test_a_moved_clock_names_the_reservations_that_it_outlives(office: Office, teller: Teller) -> None:
    organization_id, other = await office.organization(), await office.organization()
    admitted, _ = await reserve(teller, organization_id, 1000), await reserve(teller, other, 1000)
    moved = await office.move(organization_id, NOON + timedelta(seconds=30))
    assert moved.outlived == ()
    moved = await office.move(organization_id, NOON + timedelta(days=40))
    assert moved.outlived == (admitted.id,)
    await teller.do(Reap(organization_id, admitted.id))
    for id_ in (await office.move(other, NOON + timedelta(days=1))).outlived:
        await teller.do(Reap(other, id_))


# --------------------------------------------------------------------------------------------------------- entitlements


async def test_an_entitlement_is_for_everybody_a_member_or_an_end_user(office: Office) -> None:
    organization_id = await office.organization(owner_email="ada@example.com")
    [owner] = office.rows("SELECT id FROM person")

    async def entitle(user: str | None) -> UUID | None:
        wanted = NewEntitlement(organization_id, user, "gpt-4o", "admin_grant", "a present")
        return (await govern.grant_entitlement(office.db, office.order, wanted)).result().subject_id

    assert await entitle(None) is None
    assert await entitle(str(owner["id"])) == owner["id"]
    assert await entitle("customer-17") == end_user_id(organization_id, "customer-17")


async def test_an_entitlement_of_a_person_alone_is_in_the_organisation_of_their_own(office: Office) -> None:
    organization_id = await office.organization(owner_email="ada@example.com")
    wanted = NewEntitlement(None, "Ada@Example.com", "gpt-4o", "trial", "a present", NOON + timedelta(days=7))
    with pytest.raises(NotFound, match="organization_id"):
        await govern.grant_entitlement(office.db, office.order, wanted)
    with psycopg.connect(office.url) as connection:
        connection.execute("UPDATE organization SET kind = 'personal' WHERE id = %s", (organization_id,))
    row = (await govern.grant_entitlement(office.db, office.order, wanted)).result()
    assert row.organization_id == organization_id
    assert office.rows("SELECT id FROM person") == [{"id": row.subject_id}]


async def test_an_entitlement_to_nothing_or_to_the_past_is_refused(office: Office) -> None:
    organization_id = await office.organization()
    wanted = NewEntitlement(organization_id, None, "gpt-4o", "admin_grant", "a present")
    for wrong, field in (
        (replace(wanted, model_id="gpt-none"), "model_id"),
        (replace(wanted, expires_at=NOON), "expires_at"),
    ):
        with pytest.raises(BadRequest) as refusal:
            (await govern.grant_entitlement(office.db, office.order, wrong)).result()
        assert refusal.value.field == field
    with pytest.raises(BadRequest, match="organization_id"):
        await govern.grant_entitlement(office.db, office.order, replace(wanted, organization_id=None))
    assert office.rows("SELECT FROM entitlement") == []


# ---------------------------------------------------------------------------------------------------------------- audit


async def test_each_order_leaves_one_row_with_who_what_and_why(office: Office) -> None:
    organization_id = await office.organization("free")
    await office.give(organization_id, FIVE)
    await office.plan(organization_id, "pro")
    await govern.set_overdraft(office.db, office.order, organization_id, CREDIT)
    manager = Manager(organization_id, office.order, None)
    await key.create(office.db, TEST_POLICY, manager, NewKey("a", ("gateway",), "test"))
    await office.move(organization_id, NOON + timedelta(days=1))
    assert office.audit(organization_id) == [
        "organization.created", "grant.given", "plan.changed", "overdraft.set", "key.created", "clock.moved",
    ]  # fmt: skip
    rows = office.rows("SELECT * FROM audit WHERE organization_id = %s ORDER BY seq", organization_id)
    assert {row["actor"] for row in rows} == {"key:1"}
    assert {row["at"] for row in rows} == {NOON}
    assert rows[1]["details"]["credits"] == "5"
    assert rows[1]["details"]["note"] == "for the fair"
    assert rows[2]["details"] == {"from": "free", "to": "pro", "credits": "515", "at_once": True}


async def test_the_proof_itself_is_written_down_in_the_platforms_chain(office: Office) -> None:
    assert await govern.prove_ledger(office.db, office.order) == []
    assert office.audit(PLATFORM_ID)[-1] == "ledger.proved"


@pytest.mark.parametrize(
    "tampering",
    [
        'UPDATE audit SET details = \'{"credits": "5000"}\' WHERE seq = 2',
        "UPDATE audit SET actor = 'key:2' WHERE seq = 2",
        "UPDATE audit SET at = at + interval '1 microsecond' WHERE seq = 2",
        "DELETE FROM audit WHERE seq = 2",
        "DELETE FROM audit WHERE seq = 1",
        "UPDATE audit SET seq = 9 WHERE seq = 3",
    ],
)
async def test_a_changed_or_missing_row_of_the_audit_log_is_found(unproven: Office, tampering: str) -> None:
    organization_id = await unproven.organization("free")
    for _ in range(2):
        await unproven.give(organization_id, FIVE)
    assert await unproven.failures() == []
    with psycopg.connect(unproven.url) as connection:
        assert connection.execute(tampering.encode()).rowcount == 1
    broken = [rows for number, _, rows in await unproven.failures() if number == 16]
    assert [row["organization_id"] for row in broken[0]][:1] == [organization_id]
