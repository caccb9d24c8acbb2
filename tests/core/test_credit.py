"""Credits: burned in order, reserved before a call, settled after it, never lost and never doubled."""

from collections import Counter
from dataclasses import replace
from datetime import datetime, timedelta
from random import Random
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.core.cast import DAY, NOON, ORGANIZATION, account, grant
from tollhouse.core.credit import PRIORITY, Account, Grant, Hold, MoreGrantsNeeded, Source, Transaction, by_source

CALL, OTHER_CALL = UUID(int=101), UUID(int=102)
SOURCES: tuple[Source, ...] = ("plan", "plan_change", "welcome", "promo", "topup", "adjustment")
amounts = st.integers(1, 1_000)


@st.composite
def grants(draw: st.DrawFn) -> list[Grant]:
    """Open grants that agree in as much as possible, so that every part of the burn order decides somewhere."""
    made = []
    for number in draw(st.lists(st.integers(1, 200), max_size=8, unique=True)):
        made.append(
            grant(
                number,
                draw(amounts),
                draw(st.sampled_from(SOURCES)),
                priority=draw(st.sampled_from([10, 20])),
                paid=draw(st.booleans()),
                effective_at=NOON - draw(st.sampled_from([1, 2])) * DAY,
                created_at=NOON - draw(st.sampled_from([1, 2])) * DAY,
                expires_at=draw(st.sampled_from([None, NOON + DAY, NOON + 2 * DAY])),
            )
        )
    return made


def in_burn_order(found: list[Grant]) -> list[Grant]:
    """By DESIGN section 4, one criterion after another, the least important first."""
    ordered = sorted(found, key=lambda one: one.id.int)
    ordered.sort(key=lambda one: one.created_at)
    ordered.sort(key=lambda one: one.effective_at)
    ordered.sort(key=lambda one: one.paid)
    ordered.sort(key=lambda one: one.expires_at or datetime.max.replace(tzinfo=NOON.tzinfo))
    ordered.sort(key=lambda one: one.priority)
    return ordered


def booked(entries: list[Transaction], grant_id: UUID | None) -> int:
    return sum(entry.amount_micros for entry in entries if entry.grant_id == grant_id)


def rows(entries: list[Transaction]) -> list[tuple[str, int, int | None]]:
    """Type, amount and the number of the grant."""
    return [(one.type, one.amount_micros, one.grant_id.int if one.grant_id else None) for one in entries]


# ------------------------------------------------------------------------------------------------------------ reserving


@given(grants(), st.data())
def test_a_reservation_takes_all_it_asked_for_in_burn_order(found: list[Grant], data: st.DataObject) -> None:
    had = {one.id: one.free_micros for one in found}
    books = account(*found)
    ask_micros = data.draw(st.integers(0, books.balance.spendable_micros))
    hold = books.hold(ask_micros, NOON)
    expected, left = [], ask_micros
    for one in in_burn_order(found):
        if left > 0:
            expected.append((one.id, min(left, had[one.id])))
            left -= expected[-1][1]
    assert hold == Hold(tuple(expected), 0)
    assert hold.amount_micros == books.balance.reserved_micros == ask_micros


@given(grants(), st.randoms(use_true_random=False))
def test_the_burn_order_is_the_same_in_whatever_order_grants_were_found(found: list[Grant], random: Random) -> None:
    shuffled = found.copy()
    random.shuffle(shuffled)
    total = sum(one.free_micros for one in found)
    hold = account(*(replace(one) for one in found)).hold(total // 2, NOON)
    assert account(*shuffled).hold(total // 2, NOON) == hold


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (grant(9, 5, "plan"), grant(1, 5, "welcome")),
        (grant(9, 5, "plan_change"), grant(1, 5, "promo")),
        (grant(9, 5, "promo", paid=True), grant(1, 5, "topup", expires_at=NOON + DAY)),
        (grant(9, 5, expires_at=NOON + 2 * DAY), grant(1, 5, paid=False)),
        (grant(9, 5, expires_at=NOON + DAY), grant(1, 5, expires_at=NOON + 2 * DAY, paid=False)),
        (grant(9, 5, paid=False), grant(1, 5, effective_at=NOON - 9 * DAY)),
        (grant(9, 5, effective_at=NOON - 2 * DAY), grant(1, 5, created_at=NOON - 9 * DAY)),
        (grant(9, 5, created_at=NOON - 2 * DAY), grant(1, 5)),
        (grant(1, 5), grant(9, 5)),
    ],
    ids=["monthly-bonus", "change-bonus", "bonus-topup", "ends-never", "ends-first", "promotional-paid", "effective",
         "created", "id"],
)  # fmt: skip
def test_monthly_before_bonus_before_top_up_and_what_ends_first_before_the_rest(first: Grant, second: Grant) -> None:
    books = account(replace(second), replace(first))
    assert books.hold(6, NOON).grants == ((first.id, 5), (second.id, 1))


def test_a_grant_counts_from_its_begin_on_and_no_longer_at_its_end() -> None:
    one = grant(1, 5, effective_at=NOON, expires_at=NOON + DAY)
    microsecond = timedelta(microseconds=1)
    assert [one.is_open(moment) for moment in (NOON - microsecond, NOON, NOON + DAY - microsecond, NOON + DAY)] == [
        False,
        True,
        True,
        False,
    ]
    assert not replace(one, active=False).is_open(NOON)


def test_the_overdraft_is_reserved_last_and_apart_from_the_grants() -> None:
    books = account(grant(1, 30), overdraft_limit_micros=20)
    assert books.balance.spendable_micros == 50
    hold = books.hold(45, NOON)
    assert hold == Hold(((UUID(int=1), 30),), 15)
    balance = books.balance
    assert (balance.reserved_micros, balance.overdraft_reserved_micros, balance.held_micros) == (30, 15, 45)
    assert (balance.available_micros, balance.spendable_micros) == (-15, 5)


def test_what_one_call_reserved_another_cannot() -> None:
    books = account(grant(1, 30))
    books.hold(20, NOON)
    assert books.balance.spendable_micros == 10
    assert books.hold(10, NOON).grants == ((UUID(int=1), 10),)
    assert books.balance.spendable_micros == 0


def test_with_only_a_part_of_the_grants_at_hand_nothing_is_made_of_thin_air() -> None:
    books = account(grant(1, 30), overdraft_limit_micros=100)
    books.known_to = books.grants[UUID(int=1)].burn_key()
    assert books.hold(30, NOON).amount_micros == 30
    with pytest.raises(MoreGrantsNeeded):
        books.hold(1, NOON)


def test_a_grant_waits_for_those_before_it_that_are_not_at_hand() -> None:
    books = account(grant(1, 30), grant(3, 30))
    books.known_to = books.grants[UUID(int=1)].burn_key()
    with pytest.raises(MoreGrantsNeeded):
        books.hold(31, NOON)


# ------------------------------------------------------------------------------------------------------------- settling


@given(grants(), st.data())
def test_hold_and_settle_take_the_charge_and_nothing_else(found: list[Grant], data: st.DataObject) -> None:
    books = account(*found)
    total = books.balance.remaining_micros
    hold = books.hold(data.draw(st.integers(0, total)), NOON)
    charge = data.draw(st.integers(0, 2 * total + 10))
    before = len(books.entries)
    books.settle(CALL, hold, charge, NOON, "system")
    entries = books.entries[before:]
    assert -sum(entry.amount_micros for entry in entries) == charge
    assert {(entry.type, entry.reservation_id) for entry in entries} <= {("ai_consumption", CALL)}
    assert books.balance.reserved_micros == 0
    assert books.balance.available_micros == total - charge
    variances = [entry.estimation_variance_micros for entry in entries]
    assert variances == [charge - hold.amount_micros, *[None] * (len(entries) - 1)][: len(entries)]


@given(grants(), st.data())
def test_hold_and_release_leave_everything_as_it_was(found: list[Grant], data: st.DataObject) -> None:
    books = account(*found)
    before = replace(books.balance), [replace(one) for one in books.grants.values()], list(books.entries)
    hold = books.hold(data.draw(st.integers(0, books.balance.remaining_micros)), NOON)
    books.release(hold, NOON)
    assert (books.balance, list(books.grants.values()), books.entries) == before


def test_what_was_not_used_goes_back_to_the_grants_in_reverse_order() -> None:
    books = account(grant(1, 10, "plan"), grant(2, 10, "welcome"), grant(3, 10, "topup"))
    hold = books.hold(25, NOON)
    books.settle(CALL, hold, 13, NOON, "system")
    assert [books.grants[UUID(int=n)].remaining_micros for n in (1, 2, 3)] == [0, 7, 10]
    assert rows(books.entries[3:]) == [("ai_consumption", -10, 1), ("ai_consumption", -3, 2)]


def test_a_call_that_cost_nothing_leaves_no_row() -> None:
    books = account(grant(1, 10))
    books.settle(CALL, books.hold(10, NOON), 0, NOON, "system")
    assert len(books.entries) == 1
    assert books.balance.available_micros == 10


def test_what_was_used_above_the_reservation_is_booked_from_further_grants_and_then_as_debt() -> None:
    books = account(grant(1, 10, "plan"), grant(2, 5, "topup"), overdraft_limit_micros=3)
    hold = books.hold(10, NOON)
    books.settle(CALL, hold, 22, NOON, "system")
    assert rows(books.entries[2:]) == [
        ("ai_consumption", -10, 1),
        ("ai_consumption", -5, 2),
        ("ai_consumption", -7, None),
    ]
    assert books.entries[2].estimation_variance_micros == 12
    assert (books.balance.debt_micros, books.balance.available_micros, books.balance.spendable_micros) == (7, -7, 0)


def test_a_call_above_its_reservation_does_not_touch_what_others_reserved() -> None:
    books = account(grant(1, 20))
    hold, other = books.hold(5, NOON), books.hold(15, NOON)
    books.settle(CALL, hold, 9, NOON, "system")
    assert books.balance.debt_micros == 4
    assert books.grants[UUID(int=1)].reserved_micros == 15
    books.settle(OTHER_CALL, other, 15, NOON, "system")
    assert (books.balance.remaining_micros, books.balance.debt_micros) == (0, 4)


def test_debt_is_paid_as_soon_as_a_running_call_gives_something_back() -> None:
    books = account(grant(1, 20))
    hold, other = books.hold(5, NOON), books.hold(15, NOON)
    books.settle(CALL, hold, 9, NOON, "system")
    books.release(other, NOON)
    assert (books.balance.debt_micros, books.balance.remaining_micros) == (0, 11)
    assert rows(books.entries[-2:]) == [("debt_repayment", -4, 1), ("debt_repayment", 4, None)]


def test_debt_is_paid_from_what_a_settled_call_leaves_of_its_reservation() -> None:
    books = account(grant(1, 20))
    hold, other = books.hold(5, NOON), books.hold(15, NOON)
    books.settle(CALL, hold, 9, NOON, "system")
    books.settle(OTHER_CALL, other, 8, NOON, "system")
    assert (books.balance.debt_micros, books.balance.remaining_micros) == (0, 3)


def test_the_overdraft_that_was_used_is_debt_and_the_rest_of_it_is_free_again() -> None:
    books = account(grant(1, 10), overdraft_limit_micros=20)
    hold = books.hold(25, NOON)
    books.settle(CALL, hold, 18, NOON, "system")
    balance = books.balance
    assert (balance.debt_micros, balance.overdraft_reserved_micros, balance.spendable_micros) == (8, 0, 12)


def test_a_call_that_ran_although_its_reservation_had_gone_is_booked_late() -> None:
    books = account(grant(1, 10))
    books.release(books.hold(10, NOON), NOON)
    books.settle_late(CALL, 14, NOON, "system")
    assert rows(books.entries[1:]) == [("late_settle", -10, 1), ("late_settle", -4, None)]
    assert books.balance.debt_micros == 4


# ------------------------------------------------------------------------------------------------- debt, begin and end


def test_a_new_grant_pays_debt_first_and_shows_it_as_a_pair() -> None:
    books = account()
    books.settle_late(CALL, 14, NOON, "system")
    books.add(grant(1, 10), NOON, "somebody")
    assert (books.balance.remaining_micros, books.balance.debt_micros) == (0, 4)
    books.add(grant(2, 10), NOON, "somebody")
    assert (books.balance.remaining_micros, books.balance.debt_micros) == (6, 0)
    assert rows(books.entries[1:]) == [
        ("topup_purchase", 10, 1),
        ("debt_repayment", -10, 1),
        ("debt_repayment", 10, None),
        ("topup_purchase", 10, 2),
        ("debt_repayment", -4, 2),
        ("debt_repayment", 4, None),
    ]


@pytest.mark.parametrize(
    ("source", "type_"),
    [
        ("plan", "plan_allocation"),
        ("plan_change", "plan_change_adjustment"),
        ("welcome", "welcome_bonus"),
        ("promo", "promo_bonus"),
        ("topup", "topup_purchase"),
        ("adjustment", "admin_adjustment"),
    ],
)
def test_each_source_has_its_kind_of_transaction(source: Source, type_: str) -> None:
    books = account(grant(1, 10, source, note="as agreed"))
    (entry,) = books.entries
    assert (entry.type, entry.amount_micros, entry.note, entry.actor) == (type_, 10, "as agreed", "somebody")
    assert (entry.organization_id, entry.seq, entry.balance_after_micros) == (ORGANIZATION, 1, 10)


def test_a_grant_that_begins_later_counts_nowhere_until_then() -> None:
    books = account(grant(1, 10))
    books.schedule(grant(2, 10, effective_at=NOON + DAY))
    assert books.balance.remaining_micros == 10
    assert len(books.entries) == 1
    assert books.hold(10, NOON).grants == ((UUID(int=1), 10),)
    books.add(books.grants[UUID(int=2)], NOON + DAY, "system")
    assert books.hold(10, NOON + DAY).grants == ((UUID(int=2), 10),)


def test_the_free_part_of_a_grant_that_has_ended_is_gone_and_the_reserved_part_lives_on() -> None:
    books = account(grant(1, 10, "plan", expires_at=NOON + DAY))
    hold = books.hold(4, NOON)
    books.expire(UUID(int=1), NOON + DAY)
    assert (books.balance.remaining_micros, books.balance.reserved_micros, books.balance.available_micros) == (4, 4, 0)
    books.settle(CALL, hold, 3, NOON + DAY, "system")
    assert rows(books.entries[1:]) == [("expiry", -6, 1), ("ai_consumption", -3, 1), ("expiry", -1, 1)]
    assert (books.balance.remaining_micros, books.balance.debt_micros) == (0, 0)


def test_what_is_released_to_a_grant_that_has_ended_is_gone_as_well() -> None:
    books = account(grant(1, 10, "plan", expires_at=NOON + DAY))
    hold = books.hold(4, NOON)
    books.release(hold, NOON + DAY)
    assert rows(books.entries[1:]) == [("expiry", -10, 1)]
    assert books.balance.remaining_micros == 0


def test_a_grant_that_has_ended_pays_nothing_above_its_reserved_part() -> None:
    books = account(grant(1, 10, "plan", expires_at=NOON + DAY), grant(2, 10))
    hold = books.hold(4, NOON)
    books.settle(CALL, hold, 7, NOON + DAY, "system")
    assert rows(books.entries[2:]) == [("ai_consumption", -4, 1), ("ai_consumption", -3, 2), ("expiry", -6, 1)]


def test_a_grant_expires_once() -> None:
    books = account(grant(1, 10, "plan", expires_at=NOON + DAY))
    books.expire(UUID(int=1), NOON + DAY)
    books.expire(UUID(int=1), NOON + DAY)
    assert rows(books.entries[1:]) == [("expiry", -10, 1)]


def test_what_a_source_still_holds_includes_what_is_reserved() -> None:
    books = account(grant(1, 10, "plan"), grant(2, 5, "welcome"), grant(3, 7, "promo"))
    books.hold(12, NOON)
    assert by_source(books.grants.values(), frozenset({"welcome", "promo"})) == 12


def test_a_grant_that_begins_ends_or_is_written_down_is_written() -> None:
    books = account(grant(1, 10, "plan", expires_at=NOON + DAY))
    assert books.changed == {UUID(int=1)}
    books.schedule(grant(2, 10, effective_at=NOON + DAY))
    assert books.changed == {UUID(int=1), UUID(int=2)}
    books.changed.clear()
    books.expire(UUID(int=1), NOON + DAY)
    assert books.changed == {UUID(int=1)}


def test_only_what_changed_is_written() -> None:
    books = account(grant(1, 10, "plan"), grant(2, 10))
    books.changed.clear()
    books.touched = False
    books.hold(0, NOON)
    assert books.changed == set()
    hold = books.hold(5, NOON)
    assert (books.changed, books.touched) == ({UUID(int=1)}, True)
    books.changed.clear()
    books.touched = False
    books.release(hold, NOON)
    assert (books.changed, books.touched) == ({UUID(int=1)}, True)


def test_a_grant_that_was_scheduled_is_no_ones_to_spend_before_it_was_added_though_its_time_has_come() -> None:
    books = account(grant(1, 10), overdraft_limit_micros=10)
    books.schedule(grant(2, 10, "plan", effective_at=NOON + DAY))
    assert not books.grants[UUID(int=2)].active
    assert books.hold(15, NOON + DAY) == Hold(((UUID(int=1), 10),), 5)


def test_whatever_is_booked_has_the_balance_written() -> None:
    books = account(grant(1, 10, "plan", expires_at=NOON + DAY), overdraft_limit_micros=5)
    hold = books.hold(6, NOON)

    def touched() -> bool:
        found, books.touched = books.touched, False
        return found

    assert touched()
    books.settle(CALL, hold, 4, NOON, "system")
    assert touched()
    books.settle_late(OTHER_CALL, 1, NOON, "system")
    assert touched()
    books.expire(UUID(int=1), NOON + DAY)
    assert touched()
    books.settle_late(OTHER_CALL, 3, NOON + DAY, "system")  # nothing is left: debt
    assert touched()
    books.add(grant(2, 10), NOON + DAY, "somebody")
    assert touched()
    assert not touched()


def test_each_source_has_its_priority_and_one_that_is_named_finds_its_place_between_them() -> None:
    assert PRIORITY == {"plan": 10, "plan_change": 10, "welcome": 20, "promo": 20, "topup": 30, "adjustment": 30}
    books = account(*(grant(number, 1, source) for number, source in enumerate(SOURCES, 1)), grant(9, 1, priority=15))
    assert [id_.int for id_, _ in books.hold(7, NOON).grants] == [1, 2, 9, 3, 4, 6, 5]


def test_a_debt_of_one_micro_credit_is_paid_as_well() -> None:
    books = account()
    books.settle_late(CALL, 1, NOON, "system")
    books.add(grant(1, 10), NOON, "somebody")
    assert (books.balance.debt_micros, books.balance.remaining_micros) == (0, 9)


def test_debt_is_paid_with_what_is_free_and_asks_for_no_grants_that_are_not_needed() -> None:
    books = account(grant(1, 20))
    hold, other = books.hold(5, NOON), books.hold(14, NOON)
    books.settle(CALL, hold, 25, NOON, "system")
    assert books.balance.debt_micros == 19
    books.known_to = books.grants[UUID(int=1)].burn_key()
    books.add(grant(0, 3, "plan"), NOON, "system")
    assert (books.balance.debt_micros, books.balance.remaining_micros, books.balance.reserved_micros) == (16, 14, 14)
    books.release(other, NOON)
    assert (books.balance.debt_micros, books.balance.remaining_micros) == (2, 0)


# -------------------------------------------------------------------------------------------------------- state machine


class AccountMachine(RuleBasedStateMachine):
    """Anything may follow anything: after every step the books agree with the open reservations and with the ledger."""

    def __init__(self) -> None:
        super().__init__()
        self.books = account()
        self.now = NOON
        self.number = 1_000
        self.open: dict[UUID, Hold] = {}
        self.gone: list[UUID] = []
        self.charged: Counter[UUID] = Counter()

    def _next_id(self) -> UUID:
        self.number += 1
        return UUID(int=self.number)

    @initialize(limit=st.sampled_from([0, 0, 50]))
    def begin(self, limit: int) -> None:
        self.books.balance.overdraft_limit_micros = limit

    @rule(micros=amounts, source=st.sampled_from(SOURCES), lives=st.none() | st.integers(1, 5))
    def give(self, micros: int, source: Source, lives: int | None) -> None:
        ends = None if lives is None else self.now + lives * DAY
        one = grant(self._next_id().int, micros, source, effective_at=self.now, created_at=self.now, expires_at=ends)
        self.books.add(one, self.now, "somebody")

    @rule(share=st.integers(0, 100))
    def reserve(self, share: int) -> None:
        amount = self.books.balance.spendable_micros * share // 100
        hold = self.books.hold(amount, self.now)
        assert hold.amount_micros == amount
        self.open[self._next_id()] = hold

    @precondition(lambda self: self.open)
    @rule(data=st.data(), share=st.integers(0, 250))
    def settle(self, data: st.DataObject, share: int) -> None:
        call = data.draw(st.sampled_from(sorted(self.open)))
        hold = self.open.pop(call)
        self.charged[call] = hold.amount_micros * share // 100
        self.books.settle(call, hold, self.charged[call], self.now, "system")

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        call = data.draw(st.sampled_from(sorted(self.open)))
        self.books.release(self.open.pop(call), self.now)
        self.gone.append(call)

    @precondition(lambda self: self.gone)
    @rule(charge=amounts)
    def settle_late(self, charge: int) -> None:
        call = self.gone.pop()
        self.charged[call] = charge
        self.books.settle_late(call, charge, self.now, "system")

    @rule(days=st.integers(1, 3))
    def let_time_pass(self, days: int) -> None:
        self.now += days * DAY
        for one in list(self.books.grants.values()):
            if one.expires_at is not None and one.expires_at <= self.now:
                self.books.expire(one.id, self.now)

    @invariant()
    def a_grant_is_its_amount_less_what_was_booked(self) -> None:
        for one in self.books.grants.values():
            assert one.remaining_micros == booked(self.books.entries, one.id)
            assert 0 <= one.reserved_micros <= one.remaining_micros <= one.amount_micros

    @invariant()
    def the_balance_is_the_sum_of_the_grants(self) -> None:
        found, balance = self.books.grants.values(), self.books.balance
        assert balance.remaining_micros == sum(one.remaining_micros for one in found)
        assert balance.reserved_micros == sum(one.reserved_micros for one in found)
        assert balance.debt_micros == -booked(self.books.entries, None) >= 0

    @invariant()
    def what_is_reserved_is_what_open_calls_hold(self) -> None:
        held: Counter[UUID] = Counter()
        for hold in self.open.values():
            held.update(dict(hold.grants))
        assert all(one.reserved_micros == held[one.id] for one in self.books.grants.values())
        overdrawn = sum(hold.overdraft_micros for hold in self.open.values())
        assert self.books.balance.overdraft_reserved_micros == overdrawn

    @invariant()
    def the_ledger_is_a_chain_without_a_gap(self) -> None:
        after = 0
        for seq, entry in enumerate(self.books.entries, 1):
            after += entry.amount_micros
            assert (entry.seq, entry.balance_after_micros) == (seq, after)
        assert self.books.balance.seq == len(self.books.entries)
        assert after == self.books.balance.remaining_micros - self.books.balance.debt_micros

    @invariant()
    def each_call_was_charged_once_and_for_what_it_used(self) -> None:
        found: Counter[UUID] = Counter()
        for entry in self.books.entries:
            if entry.reservation_id is not None:
                found[entry.reservation_id] -= entry.amount_micros
        assert +found == +self.charged

    @invariant()
    def nobody_has_free_credits_and_debt(self) -> None:
        free = sum(one.free_micros for one in self.books.grants.values() if one.is_open(self.now))
        assert self.books.balance.debt_micros == 0 or free == 0

    @invariant()
    def what_has_ended_holds_only_what_is_reserved(self) -> None:
        for one in self.books.grants.values():
            assert one.is_open(self.now) or one.free_micros == 0

    @invariant()
    def whoever_has_debt_may_reserve_no_more_than_the_overdraft_allows(self) -> None:
        balance = self.books.balance
        used = balance.debt_micros + balance.overdraft_reserved_micros
        assert balance.debt_micros == 0 or balance.spendable_micros == max(0, balance.overdraft_limit_micros - used)


TestAccount = AccountMachine.TestCase


def test_an_account_that_was_only_read_has_nothing_to_write() -> None:
    books = Account(account(grant(1, 10)).balance, {UUID(int=1): grant(1, 10)})
    assert (books.touched, books.changed, books.entries) == (False, set(), [])
