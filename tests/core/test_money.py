"""Amounts: integers inside, decimal strings at the edges."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollhouse.core import money

amounts = st.integers(-money.MICROS_MAX, money.MICROS_MAX)


@given(amounts)
def test_an_amount_that_was_written_is_read_as_the_same(micros: int) -> None:
    assert money.parse_credits(money.format_credits(micros)) == micros


@given(amounts)
def test_credits_are_written_without_trailing_zeros_or_exponent(micros: int) -> None:
    text = money.format_credits(micros)
    assert Fraction(text) == Fraction(micros, 1_000_000)
    assert "e" not in text.lower()
    assert "." not in text or text[-1] not in "0."


@pytest.mark.parametrize(
    ("text", "micros"),
    [("0", 0), ("12.5", 12_500_000), ("0.000001", 1), ("-3", -3_000_000), ("-0.5", -500_000), ("007", 7_000_000)],
)
def test_credits_are_read_exactly(text: str, micros: int) -> None:
    assert money.parse_credits(text) == micros


@pytest.mark.parametrize(
    "text",
    ["", " 1", "1 ", "1.", ".5", "+1", "--1", "1e3", "1_000", "1,5", "0.0000001", "NaN", "inf", "١", "1\n",
     "10000000000.000001", "100000000000", "0x10"],
)  # fmt: skip
def test_what_is_no_plain_decimal_of_a_sane_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="credits"):
        money.parse_credits(text)


@pytest.mark.parametrize(
    ("nanos", "text"),
    [(0, "0"), (1, "0.000000001"), (1_500_000, "0.0015"), (2_000_000_000, "2"), (-1_000_000, "-0.001")],
)
def test_dollars_are_written_to_the_nano(nanos: int, text: str) -> None:
    assert money.format_usd(nanos) == text


@given(st.integers(-(10**30), 10**30), st.integers(1, 10**20))
def test_division_gives_the_smallest_integer_that_is_not_less(numerator: int, denominator: int) -> None:
    quotient = money.divide_up(numerator, denominator)
    assert quotient * denominator >= numerator > (quotient - 1) * denominator


@given(st.integers(0, money.PRICE_MAX_USD * money.NANOS_PER_USD))
def test_a_price_that_was_written_is_read_as_the_same(nanos: int) -> None:
    assert money.parse_usd(money.format_usd(nanos)) == nanos


@pytest.mark.parametrize(
    ("text", "nanos"), [("0", 0), ("0.15", 150_000_000), ("10000", 10**13), ("0.000000001", 1), ("007", 7 * 10**9)]
)
def test_dollars_are_read_exactly(text: str, nanos: int) -> None:
    assert money.parse_usd(text) == nanos


@pytest.mark.parametrize(
    "text", ["", "-1", "+1", "1e3", "1.", ".5", "0.0000000001", "10000.000000001", "1,5", "$1", " 1", "1\n", "NaN", "٣"]
)
def test_no_other_text_is_a_price(text: str) -> None:
    with pytest.raises(ValueError, match=r"dollars"):
        money.parse_usd(text)
