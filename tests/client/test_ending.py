"""What an operation does at its end."""

from __future__ import annotations

from decimal import Decimal
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollhouse.client.answers import Usage
from tollhouse.client.calls import Charge
from tollhouse.client.operation import Releasing, Settling, choose_ending, largest

AMOUNT, REPORTED = Decimal(4), Charge(credits=Decimal("0.5"))
ALL = Settling(Charge(credits=AMOUNT))
parts = st.none() | st.integers(0, 10)
wholes = st.integers(10, 20)
charges = st.builds(Charge, usage=st.builds(Usage, wholes, wholes, parts, parts)) | st.builds(
    Charge, credits=st.decimals(0, 20, places=1)
)


@pytest.mark.parametrize("problem", [None, ValueError("secret"), KeyboardInterrupt()])
@pytest.mark.parametrize("sent", [False, True])
def test_what_was_reported_is_charged_whatever_happened(problem: BaseException | None, sent: bool) -> None:
    assert choose_ending(AMOUNT, REPORTED, sent, problem) == Settling(REPORTED)


def test_a_report_of_nothing_is_a_report() -> None:
    nothing = Charge(credits=Decimal(0))
    assert choose_ending(AMOUNT, nothing, True, ValueError()) == Settling(nothing)


def test_without_a_report_the_estimate_is_the_price() -> None:
    assert choose_ending(AMOUNT, None, False, None) == ALL
    assert choose_ending(AMOUNT, None, True, None) == ALL


def test_what_may_have_run_is_charged_and_what_never_began_is_given_back() -> None:
    assert choose_ending(AMOUNT, None, True, ValueError()) == ALL
    assert choose_ending(AMOUNT, None, False, ValueError("secret")) == Releasing("ValueError")


@given(st.lists(charges, min_size=1, max_size=3))
def test_reports_in_any_order_and_number_come_to_the_largest_of_each_figure(reports: list[Charge]) -> None:
    reports = [report for report in reports if (report.usage is None) == (reports[0].usage is None)]
    found = set()
    for order in permutations(reports):
        so_far = None
        for report in (*order, order[0]):
            so_far = largest(so_far, report)
        found.add(so_far)
    [charge] = found
    assert charge is not None
    if charge.usage is None:
        assert charge.credits == max(report.credits for report in reports if report.credits is not None)
    else:
        usages = [report.usage for report in reports if report.usage is not None]
        for name in Usage.__dataclass_fields__:
            known = [getattr(usage, name) for usage in usages if getattr(usage, name) is not None]
            assert getattr(charge.usage, name) == (max(known) if known else None)


def test_credits_and_usage_in_one_operation_are_refused() -> None:
    usage = Charge(usage=Usage(1, 1))
    for before, now in ((usage, REPORTED), (REPORTED, usage)):
        with pytest.raises(ValueError, match="keep to credits or to usage"):
            largest(before, now)
