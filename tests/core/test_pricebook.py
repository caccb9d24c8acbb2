"""A book of list prices against our own: what differs, what is taken, and what is said about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.cast import price
from tollhouse.core.pricebook import (
    Change,
    Difference,
    Entry,
    Figures,
    Ours,
    compare,
    figures_of,
    format_factor,
    parse_factor,
)

USUAL = {"input_mtok": "0.5", "cache_read_mtok": "0.25", "output_mtok": "1.5"}  # as tests.core.cast.price() has it


def entry(prices: Mapping[str, str] = USUAL, name: str = "small-1", **more: object) -> Entry:
    """Several values of one price are written with commas."""
    read = {key: [Decimal(one) for one in values.split(",")] for key, values in prices.items()}
    return replace(Entry(name, read), **more)  # type: ignore[arg-type]


OURS = Ours("small", "small-1", price(version=3))


def change_of(found: Entry, ours: Ours = OURS) -> Change:
    (change,) = compare([(ours, found)]).changes
    return change


def told(differences: Sequence[Difference]) -> list[tuple[str, int | None, int]]:
    return [(one.what, one.old, one.new) for one in differences]


def test_what_is_listed_as_we_have_it_is_no_difference() -> None:
    assert compare([(OURS, entry())]) == compare([])


def test_only_what_differs_is_told_with_what_was_compared() -> None:
    change = change_of(entry(USUAL | {"output_mtok": "2"}))
    assert (change.model_id, change.known_version) == ("small", 3)
    assert told(change.differences) == [("output", 1_500_000_000, 2_000_000_000)]  # reasoning follows, untold


def test_what_is_priced_apart_on_one_side_only_is_told() -> None:
    apart = price(reasoning_nanos_per_million=3_000_000_000)
    assert told(change_of(entry(), replace(OURS, price=apart)).differences) == [
        ("reasoning", 3_000_000_000, 1_500_000_000)
    ]
    written = change_of(entry(USUAL | {"input_mtok": "1", "cache_write_mtok": "1.25"}))
    assert told(written.differences) == [
        ("input", 500_000_000, 1_000_000_000),
        ("cache write", 500_000_000, 1_250_000_000),
    ]


def test_a_model_without_a_price_gets_all_of_its_figures() -> None:
    change = change_of(entry(), replace(OURS, price=None))
    assert change.known_version is None
    assert all(one.old is None and one.percent is None for one in change.differences)
    assert [one.what for one in change.differences] == ["input", "cached input", "cache write", "output", "reasoning"]


def test_a_price_of_its_own_that_says_the_same_is_no_difference() -> None:
    said = price(cache_write_nanos_per_million=500_000_000, reasoning_nanos_per_million=1_500_000_000)
    assert compare([(replace(OURS, price=said), entry())]).changes == ()


@pytest.mark.parametrize(
    ("old", "new", "percent"), [(100, 125, "25.0"), (100, 40, "-60.0"), (3, 4, "33.3"), (100, 0, "-100.0")]
)
def test_a_change_is_told_in_per_cent(old: int, new: int, percent: str) -> None:
    assert Difference("input", old, new).percent == Decimal(percent)


def test_what_cost_nothing_rises_by_no_percentage() -> None:
    assert Difference("request", 0, 5).percent is None


def test_what_the_book_does_not_price_apart_costs_what_the_rest_does() -> None:
    assert figures_of(entry({"input_mtok": "2", "output_mtok": "8"})) == Figures(
        input=2_000_000_000, cached_input=2_000_000_000, cache_write=2_000_000_000,
        output=8_000_000_000, reasoning=8_000_000_000, request=0,
    )  # fmt: skip


def test_a_price_per_thousand_requests_is_one_per_request() -> None:
    assert figures_of(entry({"input_mtok": "1", "requests_kcount": "14"})).request == 14_000_000


def test_a_model_that_makes_no_tokens_has_an_output_of_nothing() -> None:
    assert figures_of(entry({"input_mtok": "0.02"})).output == 0


prices = st.decimals(min_value=0, max_value=10_000, places=12)


@given(st.lists(prices, min_size=1, max_size=4), st.lists(prices, max_size=3), st.lists(prices, max_size=3))
def test_no_price_that_a_call_may_meet_is_above_the_one_taken(
    given_: list[Decimal], kept: list[Decimal], kept_too: list[Decimal]
) -> None:
    found = figures_of(Entry("any", {"input_mtok": given_, "cache_write_mtok": kept, "cache_write_5m_mtok": kept_too}))
    for taken, possible in ((found.input, given_), (found.cache_write, kept + kept_too or given_)):
        dearest = Fraction(max(possible)) * 10**9
        assert dearest <= taken < dearest + 1


def test_prices_by_the_length_of_the_prompt_or_the_hour_are_taken_at_their_highest_and_told() -> None:
    tiered = change_of(entry({"input_mtok": "1.25,2.5", "output_mtok": "10,15"}, tiered=True))
    assert (tiered.figures.input, tiered.figures.output) == (2_500_000_000, 15_000_000_000)
    assert any("length of the prompt" in one and "highest" in one for one in tiered.remarks)
    timed = change_of(entry({"input_mtok": "0.3,0.6", "output_mtok": "1"}, timed=True))
    assert timed.figures.input == 600_000_000
    assert any("time of day" in one and "highest" in one for one in timed.remarks)


def test_the_price_of_a_cache_that_nobody_can_ask_for_here_is_left_alone() -> None:
    change = change_of(entry(USUAL | {"cache_write_mtok": "0.625", "cache_write_1h_mtok": "1"}))
    assert change.figures.cache_write == 625_000_000
    assert change.remarks == ()


def test_another_name_a_coming_price_and_what_is_not_metered_are_told() -> None:
    change = change_of(
        entry(USUAL | {"input_mtok": "1", "web_searches_kcount": "10"}, "small-one", next_change=date(2026, 12, 1))
    )
    assert [one.split(":")[0] for one in change.remarks] == [
        "listed as small-one",
        "another price is listed from 2026-12-01 on",
        "not taken, since it is not metered",
    ]
    assert change.remarks[2].endswith("web_searches_kcount")


def test_a_model_that_is_not_in_the_book_is_missing() -> None:
    assert compare([(OURS, None)]).missing == ("small",)


@pytest.mark.parametrize(
    ("prices", "why"),
    [
        ({"input_mtok": "0", "output_mtok": "0"}, "free"),
        ({"audio_hours": "0.1"}, "without a price of input tokens"),
        ({"input_mtok": "10000.01", "output_mtok": "1"}, "more than 10000 dollars"),
    ],
)
def test_what_is_no_price_of_tokens_is_left_alone_with_the_reason(prices: Mapping[str, str], why: str) -> None:
    found = compare([(OURS, entry(prices))])
    ((model, reason),) = found.unusable
    assert (model, found.changes, found.missing) == ("small", (), ())
    assert why in reason


@given(st.integers(0, 999_999))
def test_a_factor_comes_back_as_it_was_written(permille: int) -> None:
    text = format_factor(permille)
    assert parse_factor(text) == permille
    assert Decimal(text) * 1_000 == permille
    assert "." not in text or not text.endswith(("0", "."))


@pytest.mark.parametrize("text", ["", "-1", "1.2345", "1e1", "1000", ".5", "1."])
def test_no_other_text_is_a_factor(text: str) -> None:
    with pytest.raises(ValueError, match="factor"):
        parse_factor(text)
