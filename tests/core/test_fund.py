"""Plans and periods: what begins, what ends, and that nothing is given twice."""

from __future__ import annotations

from collections.abc import Iterable
from copy import deepcopy
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta, timezone
from itertools import count, pairwise
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.cast import CREDIT, DAY, NOON, ORGANIZATION, account, grant, moments, plan
from tollhouse.core import fund
from tollhouse.core.credit import PRIORITY, Account, Balance, Source
from tollhouse.core.errors import BadRequest, Conflict
from tollhouse.core.fund import PlanChange, Standing
from tollhouse.core.money import MICROS_MAX
from tollhouse.core.period import months_after

MICROSECOND = timedelta(microseconds=1)
PLANS = {
    one.id: one
    for one in (
        plan(id="free", name="Free", rank=10, monthly_credits_micros=10 * CREDIT, welcome_bonus_micros=5 * CREDIT),
        plan(id="pro", name="Pro", rank=40, monthly_credits_micros=500 * CREDIT, welcome_bonus_micros=25 * CREDIT),
        plan(id="team", name="Team", rank=50, monthly_credits_micros=2_000 * CREDIT, welcome_bonus_micros=50 * CREDIT),
        plan(id="bare", name="Bare", rank=1, monthly_credits_micros=0, welcome_bonus_micros=0),
    )
}


def utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # type: ignore[misc, arg-type]  # parts of a time, never a zone


@dataclass
class Tale:
    """An organisation from its first day on; amounts in whole credits."""

    standing: Standing
    anchor: datetime
    now: datetime
    account: Account
    welcomed: set[str] = field(default_factory=set)
    ids: Iterable[int] = field(default_factory=count)

    @classmethod
    def of(cls, plan_id: str = "pro", anchor: datetime = NOON, now: datetime | None = None) -> Tale:
        now = now or anchor
        tale = cls(Standing(plan_id), anchor, now, Account(fund.first_balance(ORGANIZATION, anchor, now), {}))
        fund.begin(tale.account, PLANS[plan_id], now, tale.new_id)
        tale.welcomed.add(plan_id)
        return tale

    def new_id(self) -> UUID:
        return UUID(int=next(iter(self.ids)))

    @property
    def balance(self) -> Balance:
        return self.account.balance

    def to(self, moment: datetime) -> Tale:
        self.now = moment
        self.standing, _ = fund.catch_up(self.account, self.standing, PLANS, self.anchor, moment, self.new_id)
        return self

    def plan(self, plan_id: str) -> PlanChange:
        before, wanted = PLANS[self.standing.plan_id], PLANS[plan_id]
        welcomed = plan_id in self.welcomed
        change = fund.change_plan(self.account, before, wanted, welcomed, self.now, self.new_id, "somebody")
        self.standing = change.standing
        self.welcomed |= {one.plan_id for one in change.made if one.source == "welcome" and one.plan_id}
        return change

    def give(self, credits: int, source: Source = "promo", **about: Any) -> UUID:
        made = fund.new_grant(self.new_id(), source, credits * CREDIT, self.now, **about)
        fund.give(self.account, made, self.now, "somebody")
        return made.id

    def spend(self, credits: int) -> None:
        self.account.settle_late(UUID(int=0), credits * CREDIT, self.now, "somebody")

    @property
    def ledger(self) -> list[tuple[str, float]]:
        return [(entry.type, entry.amount_micros / CREDIT) for entry in self.account.entries]

    @property
    def available(self) -> float:
        return self.balance.available_micros / CREDIT

    def seen(self) -> tuple[object, ...]:
        """Everything that a second time must not change."""
        return deepcopy((self.balance, self.account.grants, self.account.entries, self.standing))


OPENING = [("plan_allocation", 500), ("welcome_bonus", 25)]


# --------------------------------------------------------------------------------------------------------------- grants


@pytest.mark.parametrize("source", PRIORITY)
def test_a_grant_without_a_begin_begins_now_and_without_an_end_never_ends(source: Source) -> None:
    made = fund.new_grant(UUID(int=9), source, 5, NOON, note="for the fair")
    assert (made.effective_at, made.expires_at, made.active, made.created_at) == (NOON, None, True, NOON)
    assert (made.amount_micros, made.remaining_micros, made.reserved_micros) == (5, 5, 0)
    assert (made.priority, made.paid, made.note) == (PRIORITY[source], False, "for the fair")
    plain = fund.new_grant(UUID(int=9), source, 5, NOON, priority=0, paid=True)
    assert (plain.priority, plain.paid, plain.note) == (0, True, "")


@pytest.mark.parametrize(
    ("begins", "counts"), [(-DAY, True), (-MICROSECOND, True), (timedelta(), True), (MICROSECOND, False), (DAY, False)]
)
def test_a_grant_counts_from_its_begin_on_that_moment_included(begins: timedelta, counts: bool) -> None:
    tale = Tale.of("bare")
    id_ = tale.give(5, effective_at=NOON + begins)
    assert tale.available == (5 if counts else 0)
    assert tale.account.grants[id_].active is counts
    assert tale.to(NOON + max(begins, timedelta())).available == 5
    assert tale.ledger == [("promo_bonus", 5)]
    assert [entry.actor for entry in tale.account.entries] == ["somebody" if counts else "system"]


@pytest.mark.parametrize(
    ("source", "begins", "expires", "ends"),
    [
        ("plan", None, None, utc(2026, 2, 28, 12)),
        ("plan_change", None, None, utc(2026, 2, 28, 12)),
        ("plan", utc(2026, 1, 1), None, utc(2026, 2, 28, 12)),  # begun before: ends with the period of now
        ("plan", utc(2026, 2, 28, 12), None, utc(2026, 3, 31, 12)),
        ("plan", utc(2028, 2, 10), None, utc(2028, 2, 29, 12)),
        ("plan", None, utc(2026, 7, 1), utc(2026, 7, 1)),
        ("promo", None, None, None),
        ("topup", None, None, None),
        ("welcome", None, None, None),
        ("adjustment", utc(2026, 3, 1), None, None),
        ("topup", None, utc(2026, 7, 1), utc(2026, 7, 1)),
    ],
)
def test_monthly_credits_end_with_the_period_in_which_they_begin_others_when_said(
    source: Source, begins: datetime | None, expires: datetime | None, ends: datetime | None
) -> None:
    anchor = now = utc(2026, 1, 31, 12)
    wanted = fund.new_grant(UUID(int=9), source, 5, now, effective_at=begins, expires_at=expires)
    accepted = fund.accepted(wanted, Tale.of("bare", anchor).balance, anchor, now)
    assert accepted == replace(wanted, expires_at=ends)


@pytest.mark.parametrize(
    ("begins", "ends", "fits"),
    [
        (None, NOON + MICROSECOND, True),
        (None, NOON, False),
        (None, NOON - DAY, False),
        (NOON - 2 * DAY, NOON + MICROSECOND, True),
        (NOON - 2 * DAY, NOON - DAY, False),
        (NOON + DAY, NOON + DAY + MICROSECOND, True),
        (NOON + DAY, NOON + DAY, False),
        (NOON + DAY, NOON + MICROSECOND, False),
    ],
)
def test_a_grant_that_could_never_be_spent_is_refused(begins: datetime | None, ends: datetime, fits: bool) -> None:
    wanted = fund.new_grant(UUID(int=9), "promo", 5, NOON, effective_at=begins, expires_at=ends)
    balance = Tale.of("bare").balance
    if fits:
        assert fund.accepted(wanted, balance, NOON, NOON) == wanted
    else:
        with pytest.raises(BadRequest, match=r"before now, 2026-03-10T12:00:00Z") as refusal:
            fund.accepted(wanted, balance, NOON, NOON)
        assert refusal.value.field == "expires_at"


def test_an_organisation_may_hold_as_much_as_one_amount_may_be_and_no_more() -> None:
    balance = account(grant(1, MICROS_MAX - 5)).balance
    fits = fund.new_grant(UUID(int=9), "promo", 5, NOON)
    assert fund.accepted(fits, balance, NOON, NOON) == fits
    with pytest.raises(Conflict, match="more than 10000000000 credits"):
        fund.accepted(replace(fits, amount_micros=6), balance, NOON, NOON)


@pytest.mark.parametrize(
    ("limit", "debt", "held", "wanted", "fits"),
    [
        (10, 0, 0, 0, True),
        (10, 4, 3, 7, True),
        (10, 4, 3, 6, False),
        (10, 4, 3, 20, True),
        (5, 9, 0, 5, True),  # debt may pass the limit: it may stay as it is or grow, not shrink
        (5, 9, 0, 4, False),
        (5, 9, 0, 6, True),
        (0, 9, 0, 0, True),
    ],
)
def test_an_overdraft_is_not_taken_away_while_it_is_in_use(
    limit: int, debt: int, held: int, wanted: int, fits: bool
) -> None:
    one = account(overdraft_limit_micros=limit)
    one.balance.debt_micros, one.balance.overdraft_reserved_micros, one.touched = debt, held, False
    if fits:
        fund.set_overdraft(one, wanted)
        assert one.balance.overdraft_limit_micros == wanted
    else:
        with pytest.raises(Conflict, match="are in use"):
            fund.set_overdraft(one, wanted)
        assert one.balance.overdraft_limit_micros == limit
    assert one.touched is fits


# -------------------------------------------------------------------------------------------------------------- periods


def test_an_organisation_begins_with_its_monthly_credits_and_its_welcome_bonus() -> None:
    tale = Tale.of("pro")
    monthly, welcome = tale.account.grants.values()
    assert (monthly.source, monthly.expires_at, monthly.note) == (
        "plan",
        tale.balance.period_end,
        "Pro, monthly credits",
    )
    assert (monthly.period_start, monthly.plan_id, monthly.priority) == (NOON, "pro", 10)
    assert (welcome.source, welcome.expires_at, welcome.note) == ("welcome", None, "Pro, welcome bonus")
    assert (welcome.period_start, welcome.plan_id, welcome.priority) == (None, "pro", 20)
    assert tale.ledger == OPENING
    assert {entry.actor for entry in tale.account.entries} == {"system"}
    assert (tale.balance.period_seq, tale.balance.allocated_micros) == (0, 500 * CREDIT)
    assert tale.balance.next_due_at == tale.balance.period_end == utc(2026, 4, 10, 12)


def test_an_organisation_has_nothing_before_it_begins() -> None:
    balance = fund.first_balance(ORGANIZATION, NOON, NOON)
    period = (NOON, utc(2026, 4, 10, 12))
    assert balance == Balance(ORGANIZATION, 0, 0, 0, 0, 0, 0, 0, *period, next_due_at=period[1])


def test_a_plan_that_gives_nothing_books_nothing_and_its_period_ends_all_the_same() -> None:
    tale = Tale.of("bare")
    tale.account.touched = False
    tale.to(months_after(NOON, 1))
    assert tale.account.touched
    assert (tale.ledger, tale.account.grants, tale.balance.allocated_micros) == ([], {}, 0)
    assert tale.balance.period_start == months_after(NOON, 1)


@pytest.mark.parametrize(
    ("anchor", "starts"),
    [
        (utc(2026, 1, 31, 12), [(1, 31), (2, 28), (3, 31), (4, 30), (5, 31), (6, 30), (7, 31), (8, 31), (9, 30)]),
        (utc(2026, 1, 30), [(1, 30), (2, 28), (3, 30), (4, 30), (5, 30)]),
        (utc(2026, 1, 29), [(1, 29), (2, 28), (3, 29), (4, 29)]),
        (utc(2028, 1, 31), [(1, 31), (2, 29), (3, 31)]),
        (utc(2028, 1, 30, 23, 59, 59), [(1, 30), (2, 29), (3, 30)]),
        (utc(2028, 1, 29), [(1, 29), (2, 29), (3, 29)]),
        (utc(2028, 2, 29), [(2, 29), (3, 29), (4, 29)]),
        (utc(2027, 11, 30), [(11, 30), (12, 30), (1, 30), (2, 29), (3, 30)]),
        (utc(2026, 3, 28, 1), [(3, 28), (4, 28), (5, 28), (6, 28), (7, 28), (8, 28), (9, 28), (10, 28)]),  # DST
    ],
)
def test_periods_follow_each_other_from_the_anchor_each_with_one_allocation(
    anchor: datetime, starts: list[tuple[int, int]]
) -> None:
    tale = Tale.of("pro", anchor)
    for (_, (month, day)), number in zip(pairwise(starts), count(1), strict=False):
        ends = tale.balance.period_end
        assert (ends.month, ends.day, ends.timetz()) == (month, day, anchor.timetz())
        before = tale.seen()
        tale.to(ends - MICROSECOND)
        assert tale.seen() == before
        tale.to(ends)
        assert tale.balance.period_start == ends
        assert tale.ledger == OPENING + number * [("expiry", -500), ("plan_allocation", 500)]
        assert tale.available == 525


def test_a_leap_day_comes_back_after_four_years() -> None:
    tale = Tale.of("bare", utc(2028, 2, 29))
    starts = [tale.to(tale.balance.period_end).balance.period_start for _ in range(48)]
    assert [start.day for start in starts if start.month == 2] == [28, 28, 28, 29]
    assert {start.day for start in starts if start.month != 2} == {29}


@pytest.mark.parametrize("hours", [-12, -5, 0, 1, 5.5, 14])
@pytest.mark.parametrize(
    "anchor", [utc(2026, 1, 31, 23, 30), utc(2026, 2, 1, 4, 30), utc(2026, 3, 1), utc(2028, 2, 29)]
)
def test_an_anchor_is_the_same_moment_in_whatever_zone_it_is_told(anchor: datetime, hours: float) -> None:
    there = anchor.astimezone(timezone(timedelta(hours=hours)))
    for now in (anchor, anchor - MICROSECOND, anchor + 40 * DAY, utc(2026, 2, 1, 3), utc(2028, 2, 29, 23)):
        balance = fund.first_balance(ORGANIZATION, there, now)
        assert balance == fund.first_balance(ORGANIZATION, anchor, now)
        assert balance.period_start <= now < balance.period_end
        told, known = Tale.of("pro", there, now), Tale.of("pro", anchor, now)
        for one in (told, known):
            one.give(1, "plan", expires_at=fund.accepted(
                fund.new_grant(one.new_id(), "plan", 1, now), one.balance, one.anchor, now
            ).expires_at)  # fmt: skip
            one.to(one.balance.period_end).to(one.now + 100 * DAY)
        assert told.seen() == known.seen()


@given(moments, moments)
def test_an_organisation_stands_in_the_period_of_now_from_the_first_moment(anchor: datetime, now: datetime) -> None:
    balance = Tale.of("pro", anchor, now).balance
    assert balance.period_start <= now < balance.period_end


def test_after_three_missed_periods_there_is_one_allocation_for_the_period_of_now() -> None:
    anchor = utc(2026, 1, 31)
    tale = Tale.of("team", anchor)
    tale.plan("pro")
    tale.to(utc(2026, 5, 15))
    assert (tale.balance.period_start, tale.balance.period_end) == (utc(2026, 4, 30), utc(2026, 5, 31))
    assert tale.ledger[2:] == [("expiry", -2_000), ("plan_allocation", 500)]
    assert tale.standing == Standing("pro")
    assert tale.balance.allocated_micros == 500 * CREDIT
    last = tale.account.entries[-1]
    assert (last.note, last.created_at) == ("Pro, monthly credits after a pause", utc(2026, 5, 15))
    tale.to(utc(2026, 5, 31))
    assert tale.account.entries[-1].note == "Pro, monthly credits"


@given(st.lists(st.integers(-90, 120), min_size=1, max_size=12))
def test_a_clock_that_steps_back_has_nothing_happen_twice(days: list[int]) -> None:
    tale, farthest = Tale.of("pro"), NOON
    tale.give(3, expires_at=NOON + 20 * DAY)
    tale.give(4, effective_at=NOON + 10 * DAY, expires_at=NOON + 50 * DAY)
    straight = deepcopy(tale)
    for number in days:
        moment = NOON + number * DAY
        if moment <= farthest:
            before = tale.seen()
            tale.to(moment)
            kept = [one for one in before if not isinstance(one, Balance)]
            assert [one for one in tale.seen() if not isinstance(one, Balance)] == kept
        else:
            farthest = moment
            tale.to(moment)
            straight.to(moment)
    assert tale.ledger == straight.ledger
    assert (tale.balance.period_start, tale.available) == (straight.balance.period_start, straight.available)


def test_an_allocation_begins_the_count_of_its_period_and_the_expiry_before_it_ends_the_old_one() -> None:
    tale = Tale.of("pro")
    tale.spend(100)
    assert tale.balance.period_seq == 0
    tale.to(tale.balance.period_end)
    assert tale.ledger[2:] == [("late_settle", -100), ("expiry", -400), ("plan_allocation", 500)]
    assert (tale.balance.period_seq, tale.balance.seq) == (4, 5)


def test_a_bonus_stays_and_debt_is_carried_and_paid_by_the_new_allocation() -> None:
    tale = Tale.of("free")
    tale.spend(20)
    assert tale.available == -5
    tale.to(tale.balance.period_end)
    assert tale.ledger[-3:] == [("plan_allocation", 10), ("debt_repayment", -5), ("debt_repayment", 5)]
    assert (tale.available, tale.balance.debt_micros) == (5, 0)
    tale.give(7)
    tale.to(tale.balance.period_end)
    assert (tale.ledger[-2:], tale.available) == ([("expiry", -5), ("plan_allocation", 10)], 17)


def test_debt_above_the_allocation_is_carried_on_for_as_long_as_it_takes() -> None:
    tale = Tale.of("free")
    tale.spend(40)
    owed = []
    for _ in range(4):
        tale.to(tale.balance.period_end)
        owed.append(tale.available)
    assert owed == [-15, -5, 5, 10]


def test_what_a_call_across_the_reset_holds_lives_on_until_it_is_settled() -> None:
    tale = Tale.of("pro")
    hold = tale.account.hold(100 * CREDIT, NOON)
    tale.to(tale.balance.period_end)
    assert tale.ledger[2:] == [("expiry", -400), ("plan_allocation", 500)]
    assert tale.balance.reserved_micros == 100 * CREDIT
    before = tale.seen()
    tale.to(tale.now + MICROSECOND)
    assert tale.seen() == before
    tale.account.settle(UUID(int=7), hold, 60 * CREDIT, tale.now, "somebody")
    assert tale.ledger[4:] == [("ai_consumption", -60), ("expiry", -40)]
    assert tale.available == 525


# ------------------------------------------------------------------------------------------- what begins and ends alone


def test_what_began_and_ended_while_nobody_looked_is_booked_both() -> None:
    tale = Tale.of("bare")
    tale.give(5, effective_at=NOON + DAY, expires_at=NOON + 2 * DAY)
    tale.to(NOON + 3 * DAY)
    assert (tale.ledger, tale.available) == ([("promo_bonus", 5), ("expiry", -5)], 0)


def test_what_begins_pays_debt_and_what_has_ended_meanwhile_does_not() -> None:
    tale = Tale.of("bare")
    tale.spend(3)
    tale.give(5, effective_at=NOON + DAY, expires_at=NOON + 2 * DAY)
    tale.give(2, effective_at=NOON + DAY)
    tale.to(NOON + 2 * DAY)
    assert tale.ledger[1:] == [
        ("promo_bonus", 5), ("expiry", -5), ("promo_bonus", 2), ("debt_repayment", -2), ("debt_repayment", 2),
    ]  # fmt: skip
    assert tale.available == -1


def test_what_is_due_together_ends_before_the_period_and_begins_after_it() -> None:
    tale = Tale.of("pro")
    ends = tale.balance.period_end
    tale.give(1, effective_at=ends)
    tale.give(2, expires_at=ends)
    tale.give(3, expires_at=ends - DAY)
    tale.to(ends)
    assert tale.ledger[4:] == [
        ("expiry", -3), ("expiry", -500), ("expiry", -2), ("plan_allocation", 500), ("promo_bonus", 1),
    ]  # fmt: skip


def test_grants_made_and_ending_together_expire_in_a_fixed_order() -> None:
    tale = Tale.of("pro")
    tale.plan("team")
    tale.to(tale.balance.period_end)
    assert [kind for kind, _ in tale.ledger[4:]] == ["expiry", "expiry", "plan_allocation"]
    assert [amount for _, amount in tale.ledger[4:6]] == [-500, -1_500]


@pytest.mark.parametrize(
    ("about", "due"),
    [
        ({}, None),
        ({"expires_at": NOON + DAY}, NOON + DAY),
        ({"effective_at": NOON + DAY, "expires_at": NOON + 2 * DAY}, NOON + DAY),
        ({"effective_at": NOON - DAY, "expires_at": NOON + 2 * DAY}, NOON + 2 * DAY),
        ({"expires_at": NOON + 90 * DAY}, None),
    ],
)
def test_an_account_is_due_at_the_first_moment_at_which_something_begins_or_ends(
    about: dict[str, Any], due: datetime | None
) -> None:
    tale = Tale.of("pro")
    tale.give(5, **about)
    assert tale.balance.next_due_at == (due or tale.balance.period_end)
    tale.to(NOON)
    assert tale.balance.next_due_at == (due or tale.balance.period_end)
    tale.to(tale.balance.next_due_at)
    later = about.get("expires_at")
    if later is not None and tale.now < later < tale.balance.period_end:
        assert tale.balance.next_due_at == later
    else:
        assert tale.balance.next_due_at == tale.balance.period_end


def test_a_grant_with_nothing_left_does_not_make_the_account_due() -> None:
    tale = Tale.of("bare")
    tale.give(5, expires_at=NOON + DAY)
    tale.spend(5)
    assert tale.to(NOON).balance.next_due_at == tale.balance.period_end


def test_a_grant_that_is_all_reserved_still_makes_the_account_due_at_its_end() -> None:
    tale = Tale.of("bare")
    tale.give(5, expires_at=NOON + DAY)
    hold = tale.account.hold(5 * CREDIT, NOON)
    assert tale.to(NOON).balance.next_due_at == NOON + DAY
    tale.account.release(hold, NOON)
    assert (tale.to(NOON + DAY).ledger[-1], tale.available) == (("expiry", -5), 0)


# ---------------------------------------------------------------------------------------------------------------- plans


def test_an_upgrade_gives_the_difference_until_the_period_ends_and_the_welcome_bonus() -> None:
    tale = Tale.of("pro")
    change = tale.plan("team")
    assert (change.standing, change.at_once, change.given_micros) == (Standing("team"), True, 1_550 * CREDIT)
    more, welcome = change.made
    assert (more.source, more.expires_at, more.note) == ("plan_change", tale.balance.period_end, "Upgrade to Team")
    assert (welcome.source, welcome.expires_at, welcome.plan_id) == ("welcome", None, "team")
    assert tale.ledger[2:] == [("plan_change_adjustment", 1_500), ("welcome_bonus", 50)]
    assert [entry.actor for entry in tale.account.entries[2:]] == ["somebody", "system"]
    tale.to(tale.balance.period_end)
    assert tale.available == 2_000 + 75


def test_an_upgrade_pays_debt_first() -> None:
    tale = Tale.of("free")
    tale.spend(25)
    change = tale.plan("pro")
    assert (change.given_micros, tale.available) == (515 * CREDIT, 505)


def test_a_downgrade_waits_for_the_periods_end_and_brings_no_welcome_bonus() -> None:
    tale = Tale.of("team")
    change = tale.plan("pro")
    assert change == PlanChange(Standing("team", "pro"), [], 0, at_once=False)
    ends = tale.balance.period_end
    assert tale.to(ends - MICROSECOND).standing == Standing("team", "pro")
    assert tale.available == 2_050
    assert tale.to(ends).standing == Standing("pro")
    assert tale.ledger[2:] == [("expiry", -2_000), ("plan_allocation", 500)]
    assert tale.to(tale.balance.period_end).standing == Standing("pro")


@pytest.mark.parametrize(
    ("changes", "standing", "given"),
    [
        (["free", "pro"], Standing("team", "pro"), []),
        (["pro", "free"], Standing("team", "free"), []),
        (["free", "team"], Standing("team"), []),
        (["team"], Standing("team"), []),
        (["free", "free"], Standing("team", "free"), []),
    ],
)
def test_a_later_change_replaces_what_waits_and_going_back_cancels_it(
    changes: list[str], standing: Standing, given: list[tuple[str, float]]
) -> None:
    tale = Tale.of("team")
    for plan_id in changes:
        tale.plan(plan_id)
    assert (tale.standing, tale.ledger[2:]) == (standing, given)


def test_an_upgrade_before_the_end_cancels_a_downgrade_that_waits() -> None:
    tale = Tale.of("pro")
    tale.plan("free")
    tale.plan("team")
    assert tale.standing == Standing("team")
    assert tale.to(tale.balance.period_end).standing == Standing("team")
    assert tale.ledger[4:] == [("expiry", -500), ("expiry", -1_500), ("plan_allocation", 2_000)]


@given(st.lists(st.sampled_from(["bare", "free", "pro", "team"]), max_size=12))
def test_changing_to_and_fro_within_a_period_gives_no_more_than_the_best_plan(changes: list[str]) -> None:
    tale, seen = Tale.of("free"), ["free"]
    for plan_id in changes:
        tale.plan(plan_id)
        seen.append(tale.standing.plan_id)
    best = max(PLANS[plan_id].monthly_credits_micros for plan_id in seen)
    bonus = sum(PLANS[plan_id].welcome_bonus_micros for plan_id in set(seen))
    assert tale.balance.available_micros == best + bonus
    assert tale.balance.allocated_micros == best
    assert [PLANS[one].rank for one in seen] == sorted(PLANS[one].rank for one in seen)
    assert tale.standing.pending_plan_id is None or (
        PLANS[tale.standing.pending_plan_id].rank < PLANS[tale.standing.plan_id].rank
    )


def test_down_and_up_again_over_a_reset_gives_each_period_its_best_plan_and_the_bonus_once() -> None:
    tale = Tale.of("team")
    for _ in range(3):
        tale.plan("free")
        tale.to(tale.balance.period_end)
        assert tale.balance.allocated_micros == 10 * CREDIT
        tale.plan("team")
        assert tale.balance.allocated_micros == 2_000 * CREDIT
        assert tale.available == 2_050
    assert [kind for kind, _ in tale.ledger].count("welcome_bonus") == 1


def test_an_upgrade_in_the_moment_of_the_reset_is_one_of_the_new_period() -> None:
    tale = Tale.of("pro")
    tale.to(tale.balance.period_end)
    change = tale.plan("team")
    assert [one.amount_micros for one in change.made] == [1_500 * CREDIT, 50 * CREDIT]
    assert {one.expires_at for one in change.made} == {months_after(NOON, 2), None}
    assert tale.available == 2_075


def test_an_upgrade_just_before_the_reset_ends_with_it() -> None:
    tale = Tale.of("pro")
    ends = tale.balance.period_end
    tale.to(ends - MICROSECOND).plan("team")
    assert tale.to(ends).ledger[4:] == [("expiry", -500), ("expiry", -1_500), ("plan_allocation", 2_000)]


@pytest.mark.parametrize(("more", "given"), [(-1, []), (0, []), (1, [1])])
def test_an_upgrade_to_a_plan_that_gives_no_more_gives_nothing_but_its_welcome(more: int, given: list[int]) -> None:
    tale = Tale.of("team")
    vip = replace(PLANS["team"], id="vip", rank=60, monthly_credits_micros=2_000 * CREDIT + more)
    change = fund.change_plan(tale.account, PLANS["team"], vip, False, NOON, tale.new_id, "somebody")
    assert [one.amount_micros for one in change.made] == [*given, 50 * CREDIT]
    assert (change.standing, tale.balance.allocated_micros) == (Standing("vip"), 2_000 * CREDIT + max(0, more))


def test_the_plan_in_force_again_is_no_change() -> None:
    assert Tale.of("pro").plan("pro") == PlanChange(Standing("pro"), [], 0, at_once=True)


# ----------------------------------------------------------------------------------------------------------------- laws


grants_of_a_story = st.lists(
    st.tuples(
        st.integers(1, 50), st.sampled_from(["promo", "topup", "adjustment"]), st.integers(0, 70), st.integers(1, 70)
    ),
    max_size=6,
)


@given(grants_of_a_story, st.integers(0, 700), st.lists(st.integers(0, 60), max_size=5))
def test_catching_up_needs_no_grants_but_those_due_and_with_debt_those_with_something_free(
    given_grants: list[tuple[int, Source, int, int]], spent: int, days: list[int]
) -> None:
    """What the flow loads is enough: the outcome is that of the whole account."""
    tale = Tale.of("pro")
    for credits, source, begins, lasts in given_grants:
        tale.give(credits, source, effective_at=NOON + begins * DAY, expires_at=NOON + (begins + lasts) * DAY)
    tale.spend(spent)
    for step in days:
        partial, now = deepcopy(tale), tale.now + step * DAY
        due = {one.id for one in fund._due(partial.account, now)}
        if partial.balance.debt_micros == 0:
            partial.account.known_to = ()
            partial.account.grants = {id_: partial.account.grants[id_] for id_ in due}
        partial.to(now)
        tale.to(now)
        assert partial.ledger == tale.ledger
        assert replace(partial.balance, next_due_at=now) == replace(tale.balance, next_due_at=now)


@given(grants_of_a_story, st.integers(0, 700), st.lists(st.integers(0, 60), max_size=6))
def test_catching_up_twice_is_catching_up_once_and_the_next_time_is_told_truly(
    given_grants: list[tuple[int, Source, int, int]], spent: int, days: list[int]
) -> None:
    tale = Tale.of("pro")
    for credits, source, begins, lasts in given_grants:
        tale.give(credits, source, effective_at=NOON + begins * DAY, expires_at=NOON + (begins + lasts) * DAY)
    tale.spend(spent)
    for step in days:
        now = tale.now + step * DAY
        idle = now < tale.balance.next_due_at
        before = tale.seen()[1:]
        once = tale.to(now).seen()
        assert tale.to(now).seen() == once
        assert not idle or once[1:] == before
        assert tale.balance.period_start <= now < tale.balance.period_end
        assert now < tale.balance.next_due_at <= tale.balance.period_end
        held = sum(one.remaining_micros for one in tale.account.grants.values() if one.active)
        assert tale.balance.remaining_micros == held
        assert tale.account.entries[-1].balance_after_micros == held - tale.balance.debt_micros
        assert all(one.is_open(now) for one in tale.account.grants.values() if one.active and one.free_micros > 0)


def test_the_last_micro_credit_ends_too() -> None:
    books = account(grant(1, 1, "promo", expires_at=NOON + DAY))
    fund.catch_up(books, Standing("pro"), PLANS, NOON, NOON + DAY, uuid4)
    assert (books.balance.remaining_micros, [one.type for one in books.entries]) == (0, ["promo_bonus", "expiry"])


def test_the_end_of_the_last_micro_credit_is_not_slept_through() -> None:
    books = account()
    fund.give(books, grant(1, 1, "promo", expires_at=NOON + DAY), NOON, "somebody")
    assert books.balance.next_due_at == NOON + DAY
