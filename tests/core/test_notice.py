"""Notices: told once when credits run low, and again only after there were enough."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta, timezone
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.cast import CREDIT, NOON, ORGANIZATION, account, grant
from tollhouse.core.credit import Account, Hold
from tollhouse.core.notice import Kind, Notice, crossed, low_threshold_micros

CALL = UUID(int=101)
LOW: list[Kind] = ["low_balance"]
GONE: list[Kind] = ["depleted"]


def monthly(credits: float, allocated: float = 500) -> Account:
    """An account with so many credits left of an allocation; what came in before is written already."""
    books = account(grant(1, round(credits * CREDIT))) if credits else account()
    books.balance.allocated_micros = round(allocated * CREDIT)
    books.entries.clear()
    books.touched = False
    return books


Change = Callable[[Account], None]


def charge(micros: int) -> Change:
    def change(books: Account) -> None:
        books.settle(CALL, Hold((), 0), micros, NOON, "system")

    return change


def give(micros: int, number: int = 9) -> Change:
    return lambda books: books.add(grant(number, micros), NOON, "somebody")


def told(books: Account, *changes: Change, now: datetime = NOON) -> list[Kind]:
    """What one batch with these changes calls for."""
    books.entries.clear()
    books.touched = False
    before = books.balance.available_micros
    for change in changes:
        change(books)
    return [one.kind for one in crossed(books, before, now)]


# ------------------------------------------------------------------------------------------------------------- the edge


@pytest.mark.parametrize(
    ("left", "expected"),
    [
        (100 * CREDIT, []),
        (100 * CREDIT - 1, LOW),
        (CREDIT + 1, LOW),
        (CREDIT, LOW + GONE),
        (0, LOW + GONE),
        (-5, LOW + GONE),
    ],
)
def test_low_is_below_a_fifth_of_the_monthly_credits_and_depleted_at_one_credit_or_less(
    left: int, expected: list[Kind]
) -> None:
    assert told(monthly(300), charge(300 * CREDIT - left)) == expected


@pytest.mark.parametrize("allocated", [1, 4, 5, 6, 499_999_999])
def test_the_threshold_is_exact_also_where_a_fifth_is_no_whole_number(allocated: int) -> None:
    books = monthly(300)
    books.balance.allocated_micros = allocated
    threshold = low_threshold_micros(books.balance)
    assert 5 * (threshold - 1) < allocated <= 5 * threshold


def test_a_notice_says_what_was_left_where_the_threshold_was_and_when() -> None:
    books, now = monthly(300), datetime(2026, 3, 31, 23, 30, tzinfo=timezone(timedelta(hours=-2)))
    before = books.balance.available_micros
    charge(299 * CREDIT)(books)
    day = date(2026, 4, 1)
    assert crossed(books, before, now) == [
        Notice(ORGANIZATION, "low_balance", day, CREDIT, 100 * CREDIT, now),
        Notice(ORGANIZATION, "depleted", day, CREDIT, CREDIT, now),
    ]
    assert now.astimezone(UTC).date() == day


def test_the_bonus_counts_as_what_there_is() -> None:
    books = account(grant(1, 10 * CREDIT, "plan"), grant(2, 150 * CREDIT, "welcome"))
    books.balance.allocated_micros = 500 * CREDIT
    assert told(books, charge(60 * CREDIT)) == []
    assert told(books, charge(1)) == LOW


def test_without_monthly_credits_nothing_is_low_not_even_a_debt() -> None:
    books = monthly(10, allocated=0)
    assert told(books, charge(8 * CREDIT)) == []
    assert told(books, charge(9 * CREDIT)) == GONE
    assert books.balance.available_micros < 0


def test_a_new_and_empty_account_is_told_nothing_until_something_was_charged() -> None:
    books = monthly(0, allocated=0)
    assert told(books) == []
    assert told(books, give(CREDIT // 2)) == []
    assert told(books, charge(1)) == GONE


def test_what_running_calls_hold_calls_for_nothing_until_one_of_them_is_charged() -> None:
    books = monthly(101)
    holds: list[Hold] = []
    assert told(books, lambda one: holds.append(one.hold(10 * CREDIT, NOON))) == []
    assert books.balance.available_micros < 100 * CREDIT
    assert told(books, lambda one: one.settle(CALL, holds[0], 2 * CREDIT, NOON, "system")) == LOW


def test_a_call_that_is_released_or_free_of_charge_calls_for_nothing() -> None:
    books = monthly(50)
    hold = books.hold(CREDIT, NOON)
    assert told(books, lambda one: one.release(hold, NOON), charge(0)) == []


def test_a_late_settlement_is_a_charge() -> None:
    assert told(monthly(101), lambda one: one.settle_late(CALL, 2 * CREDIT, NOON, "system")) == LOW


def test_the_end_of_a_grant_is_told_with_the_next_charge() -> None:
    books = monthly(90)
    assert told(books, lambda one: one.expire(UUID(int=1), NOON)) == []
    assert told(books, charge(1)) == LOW + GONE


# ----------------------------------------------------------------------------------------------------------- the margin


@pytest.mark.parametrize(("back_to", "expected"), [(105 * CREDIT, LOW), (105 * CREDIT - 1, []), (100 * CREDIT, [])])
def test_low_is_told_again_only_after_a_rise_to_five_percent_above_the_threshold(
    back_to: int, expected: list[Kind]
) -> None:
    books = monthly(101)
    assert told(books, charge(2 * CREDIT)) == LOW
    assert told(books, give(back_to - books.balance.available_micros)) == []
    assert told(books, charge(back_to - 99 * CREDIT)) == expected


@pytest.mark.parametrize(("back_to", "expected"), [(1_050_000, GONE), (1_049_999, [])])
def test_depleted_is_told_again_only_after_a_rise_to_five_percent_above_a_credit(
    back_to: int, expected: list[Kind]
) -> None:
    books = monthly(2, allocated=0)
    assert told(books, charge(CREDIT)) == GONE
    assert told(books, give(back_to - CREDIT)) == []
    assert told(books, charge(100_000)) == expected


def test_credits_that_somebody_else_booked_since_the_last_charge_arm_it_too() -> None:
    books = monthly(101)
    assert told(books, charge(2 * CREDIT)) == LOW
    give(50 * CREDIT)(books)  # by an operator, who asks for no notices
    assert told(books, charge(60 * CREDIT)) == LOW


def test_credits_that_come_and_go_in_one_batch_are_told_by_where_they_end() -> None:
    books = monthly(99)
    books.balance.low_armed = False
    assert told(books, give(50 * CREDIT), charge(60 * CREDIT)) == []
    assert told(monthly(99), charge(CREDIT), give(50 * CREDIT)) == []


def test_an_account_whose_flags_change_is_written_and_no_other() -> None:
    books = monthly(50)
    books.balance.low_armed = False
    assert (told(books), books.touched) == ([], False)
    books.balance.remaining_micros += 100 * CREDIT
    assert (told(books), books.touched, books.balance.low_armed) == ([], True, True)
    assert (told(books), books.touched) == ([], False)


def test_the_two_kinds_are_armed_each_by_itself() -> None:
    books = monthly(101)
    told(books, charge(101 * CREDIT))
    assert (books.balance.low_armed, books.balance.depleted_armed) == (False, False)
    told(books, give(2 * CREDIT))
    assert (books.balance.low_armed, books.balance.depleted_armed) == (False, True)
    assert told(books, charge(2 * CREDIT)) == GONE


# ----------------------------------------------------------------------------------------------------------- properties


@given(st.integers(0, 600 * CREDIT), st.integers(0, 500 * CREDIT), st.lists(st.integers(1, 200 * CREDIT), max_size=12))
def test_an_account_that_only_falls_is_told_each_kind_at_most_once(
    micros: int, allocated: int, charges: list[int]
) -> None:
    books = monthly(micros / CREDIT, allocated / CREDIT)
    found = [kind for one in charges for kind in told(books, charge(one))]
    assert len(found) == len(set(found))
    available = books.balance.available_micros
    assert ("low_balance" in found) == (bool(charges) and 0 < allocated > 5 * available)
    assert ("depleted" in found) == (bool(charges) and available <= CREDIT)


@dataclass
class Life:
    """An account and what the rule says of it, seen from outside: which kinds may be told, and whether one must."""

    books: Account
    may: set[Kind] = field(default_factory=lambda: {"low_balance", "depleted"})
    holds: list[Hold] = field(default_factory=list)
    charged: int = 0
    grants: int = 10

    def change(self, what: str, micros: int) -> None:
        match what:
            case "charge":
                charge(micros)(self.books)
                self.charged += micros
            case "give":
                self.grants += 1
                give(micros + 1, self.grants)(self.books)
            case "hold":
                self.holds.append(self.books.hold(min(micros, self.books.balance.spendable_micros), NOON))
            case "settle" if self.holds:
                self.books.settle(CALL, self.holds.pop(), micros, NOON, "system")
                self.charged += micros
            case "release" if self.holds:
                self.books.release(self.holds.pop(), NOON)

    def look(self) -> set[Kind]:
        """The kinds whose threshold is not kept now."""
        available, monthly = self.books.balance.available_micros, self.books.balance.allocated_micros
        if 500 * available >= 105 * monthly:
            self.may.add("low_balance")
        if 100 * available >= 105 * CREDIT:
            self.may.add("depleted")
        low: set[Kind] = {"low_balance"} if monthly > 0 and 5 * available < monthly else set()
        gone: set[Kind] = {"depleted"} if available <= CREDIT else set()
        return low | gone


kinds_of_change = st.sampled_from(["charge", "give", "hold", "settle", "release"])
batches = st.lists(st.tuples(kinds_of_change, st.integers(0, 4 * CREDIT)), min_size=1, max_size=3)


@given(st.sampled_from([0, 5, 10, 25]), st.lists(batches, max_size=25))
def test_a_kind_is_told_at_a_charge_and_never_twice_without_enough_in_between(
    allocated: int, life: list[list[tuple[str, int]]]
) -> None:
    hers = Life(monthly(8, allocated))
    for batch in life:
        hers.charged = 0
        hers.look()
        found = told(hers.books, *(lambda _, one=one: hers.change(*one) for one in batch))
        broken = hers.look()
        assert set(found) == (broken & hers.may if hers.charged else set())
        hers.may -= set(found)


def test_exactly_the_threshold_is_not_low_also_when_it_is_depleted() -> None:
    assert told(monthly(3, allocated=5), charge(2 * CREDIT)) == GONE
    assert told(monthly(3, allocated=5), charge(2 * CREDIT + 1)) == LOW + GONE
