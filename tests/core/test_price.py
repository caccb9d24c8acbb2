"""What a call costs: one function quotes and settles."""

from fractions import Fraction
from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.cast import price, quote, quotes, usages
from tollhouse.core.price import Quote, Usage


def exact_nanos(terms: Quote, usage: Usage) -> Fraction:
    """The cost by the definition of the prices, without any rounding."""
    card = terms.price
    fresh = Fraction(usage.input_tokens - usage.cached_input_tokens) * card.input_nanos_per_million
    cached = Fraction(usage.cached_input_tokens) * card.cached_input_nanos_per_million
    output = Fraction(usage.output_tokens) * card.output_nanos_per_million
    return (fresh + cached + output) / 1_000_000 + card.request_nanos


@given(quotes, usages())
def test_the_charge_is_the_exact_price_rounded_up_once(terms: Quote, usage: Usage) -> None:
    credits_a_dollar = Fraction(terms.rate.micros_per_usd * terms.multiplier_permille, 1_000)
    assert terms.charge_micros(usage) == ceil(exact_nanos(terms, usage) / 10**9 * credits_a_dollar)


@given(quotes, usages())
def test_the_cost_is_exact_and_rounded_up_once_too(terms: Quote, usage: Usage) -> None:
    assert terms.cost_nanos(usage) == ceil(exact_nanos(terms, usage))


@given(quotes, usages(), st.integers(0, 1_000), st.integers(0, 1_000))
def test_whoever_uses_no_more_than_was_quoted_pays_no_more(
    terms: Quote, usage: Usage, less_input: int, less_output: int
) -> None:
    bound = Usage(usage.input_tokens + less_input, usage.output_tokens + less_output)
    assert terms.charge_micros(Usage(usage.input_tokens, usage.output_tokens)) <= terms.charge_micros(bound)


@given(quotes, st.integers(0, 10**6), st.integers(0, 10**13), st.integers(0, 10**6))
def test_the_output_that_is_affordable_is_the_largest_one(
    terms: Quote, input_tokens: int, budget: int, at_most: int
) -> None:
    output = terms.output_affordable(input_tokens, budget, at_most)
    assert -1 <= output <= at_most
    if output >= 0:
        assert terms.charge_micros(Usage(input_tokens, output)) <= budget
    if output < at_most:
        assert terms.charge_micros(Usage(input_tokens, output + 1)) > budget


@given(quotes, st.integers(0, 10**6), st.integers(0, 10**6))
def test_exactly_what_is_quoted_is_affordable(terms: Quote, input_tokens: int, output: int) -> None:
    budget = terms.charge_micros(Usage(input_tokens, output))
    assert terms.output_affordable(input_tokens, budget, output) == output


def test_a_channel_that_takes_no_credits_charges_nothing_and_still_knows_its_cost() -> None:
    terms = quote(charged=False)
    assert terms.charge_micros(Usage(1_000_000, 1_000_000)) == 0
    assert terms.cost_nanos(Usage(1_000_000, 1_000_000)) == 2_000_000_000
    assert terms.output_affordable(1_000_000, 0, 77) == 77


def test_tokens_are_those_of_input_and_output_together() -> None:
    assert Usage(1_000, 60, cached_input_tokens=400, reasoning_tokens=20).tokens == 1_060


def test_cached_input_is_a_part_of_the_input_and_has_its_own_price() -> None:
    assert quote().cost_nanos(Usage(1_000_000, 0)) == 500_000_000
    assert quote().cost_nanos(Usage(1_000_000, 0, cached_input_tokens=400_000)) == 400_000_000


@pytest.mark.parametrize(("permille", "micros"), [(1_000, 50), (3_000, 150), (1, 1)])
def test_the_multiplier_changes_the_charge_and_never_the_cost(permille: int, micros: int) -> None:
    terms, usage = quote(multiplier_permille=permille), Usage(1, 0)
    assert terms.charge_micros(usage) == micros
    assert terms.cost_nanos(usage) == 500


def test_a_price_per_request_is_due_even_without_tokens() -> None:
    assert quote(price=price(request_nanos=3_000_000)).charge_micros(Usage(0, 0)) == 300_000


def test_a_free_output_leaves_only_the_input_to_be_paid() -> None:
    terms = quote(price=price(output_nanos_per_million=0))
    assert terms.output_affordable(1_000, 50_000, 9) == 9
    assert terms.output_affordable(1_000, 49_999, 9) == -1


def test_what_is_not_said_of_a_usage_is_nothing_and_it_is_no_estimate() -> None:
    usage = Usage(1_000, 60)
    assert (usage.cached_input_tokens, usage.reasoning_tokens, usage.estimated) == (0, 0, False)
