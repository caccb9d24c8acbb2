"""What a call costs: one function quotes and settles."""

from fractions import Fraction
from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.cast import ANCHOR, RATE, price, quote
from tollhouse.core.price import Price, Quote, RateCard, Usage

_RATES = st.integers(0, 10**12)
_PERMILLE = st.integers(1, 10_000)
prices = st.builds(
    Price,
    model_id=st.just("small"), version=st.just(1), effective_from=st.just(ANCHOR), free=st.just(False),
    input_nanos_per_million=_RATES, cached_input_nanos_per_million=_RATES, output_nanos_per_million=_RATES,
    request_nanos=st.integers(0, 10**9), reasoning_nanos_per_million=st.none() | _RATES,
    cache_write_nanos_per_million=st.none() | _RATES,
)  # fmt: skip
rates = st.builds(
    RateCard,
    version=st.just(1), effective_from=st.just(ANCHOR), micros_per_usd=st.integers(1, 10**12),
    markup_permille=_PERMILLE,
)  # fmt: skip
shares = st.sampled_from([0, 1, 100, 1_000]) | st.integers(0, 1_000)
quotes = st.builds(Quote, prices, rates, _PERMILLE, share_permille=shares)


@st.composite
def usages(draw: st.DrawFn) -> Usage:
    """What was read from the cache and what was written to it are apart from each other."""
    given_, made = draw(st.integers(0, 2_000_000)), draw(st.integers(0, 2_000_000))
    cached = draw(st.integers(0, given_))
    written = draw(st.integers(0, given_ - cached))
    return Usage(given_, made, cached, draw(st.integers(0, made)), cache_write_tokens=written)


def exact_nanos(terms: Quote, usage: Usage) -> Fraction:
    """The cost by the definition of the prices, without any rounding."""
    card = terms.price
    written, reasoning = card.cache_write_nanos_per_million, card.reasoning_nanos_per_million
    if written is None:
        written = card.input_nanos_per_million
    if reasoning is None:
        reasoning = card.output_nanos_per_million
    fresh = usage.input_tokens - usage.cached_input_tokens - usage.cache_write_tokens
    parts = [
        (fresh, card.input_nanos_per_million),
        (usage.cached_input_tokens, card.cached_input_nanos_per_million),
        (usage.cache_write_tokens, written),
        (usage.output_tokens - usage.reasoning_tokens, card.output_nanos_per_million),
        (usage.reasoning_tokens, reasoning),
    ]
    return sum((Fraction(tokens * rate, 1_000_000) for tokens, rate in parts), Fraction(card.request_nanos))


@given(quotes, usages())
def test_the_charge_is_the_exact_price_rounded_up_once(terms: Quote, usage: Usage) -> None:
    credits_a_dollar = terms.rate.micros_per_usd * Fraction(terms.rate.markup_permille, 1_000)
    taken = Fraction(terms.multiplier_permille, 1_000) * Fraction(terms.share_permille, 1_000)
    assert terms.charge_micros(usage) == ceil(exact_nanos(terms, usage) / 10**9 * credits_a_dollar * taken)


@given(quotes, usages())
def test_the_cost_is_exact_and_rounded_up_once_too(terms: Quote, usage: Usage) -> None:
    assert terms.cost_nanos(usage) == ceil(exact_nanos(terms, usage))


@given(quotes, usages(), st.integers(0, 1_000), st.integers(0, 1_000))
def test_no_use_within_its_bounds_costs_more_than_was_quoted(
    terms: Quote, usage: Usage, less_input: int, less_output: int
) -> None:
    most = terms.most_micros(usage.input_tokens + less_input, usage.output_tokens + less_output)
    assert terms.charge_micros(usage) <= most


@given(quotes, st.integers(0, 2_000_000), st.integers(0, 2_000_000))
def test_some_use_costs_exactly_what_was_quoted(terms: Quote, given_: int, made: int) -> None:
    """All of the input at one of its prices, all of the output at one of its own."""
    ways = [
        Usage(given_, made, cached, reasoning, cache_write_tokens=written)
        for cached, written in ((0, 0), (given_, 0), (0, given_))
        for reasoning in (0, made)
    ]
    assert terms.most_micros(given_, made) == max(map(terms.charge_micros, ways))


@given(quotes, st.integers(0, 10**6), st.integers(0, 10**13), st.integers(0, 10**6))
def test_the_output_that_is_affordable_is_the_largest_one(
    terms: Quote, input_tokens: int, budget: int, at_most: int
) -> None:
    output = terms.output_affordable(input_tokens, budget, at_most)
    assert -1 <= output <= at_most
    if output >= 0:
        assert terms.most_micros(input_tokens, output) <= budget
    if output < at_most:
        assert terms.most_micros(input_tokens, output + 1) > budget


@given(quotes, st.integers(0, 10**6), st.integers(0, 10**6))
def test_exactly_what_is_quoted_is_affordable(terms: Quote, input_tokens: int, output: int) -> None:
    budget = terms.most_micros(input_tokens, output)
    assert terms.output_affordable(input_tokens, budget, output) == output


def test_a_channel_that_takes_no_credits_charges_nothing_and_still_knows_its_cost() -> None:
    terms = quote(charged=False)
    assert terms.charge_micros(Usage(1_000_000, 1_000_000)) == 0
    assert terms.cost_nanos(Usage(1_000_000, 1_000_000)) == 2_000_000_000
    assert terms.most_micros(1_000_000, 1_000_000) == 0
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
    assert usage.cache_write_tokens == 0


def test_writing_to_the_cache_and_reasoning_have_prices_of_their_own_when_they_are_said() -> None:
    usage = Usage(1_000_000, 1_000_000, 400_000, 300_000, cache_write_tokens=100_000)
    plain = quote(price=price())
    assert plain.cost_nanos(usage) == 250_000_000 + 100_000_000 + 50_000_000 + 1_500_000_000
    apart = quote(price=price(cache_write_nanos_per_million=1_000_000_000, reasoning_nanos_per_million=3_000_000_000))
    assert apart.cost_nanos(usage) == 250_000_000 + 100_000_000 + 100_000_000 + 1_050_000_000 + 900_000_000


def test_a_part_that_costs_nothing_is_not_one_without_a_price_of_its_own() -> None:
    free = quote(price=price(cache_write_nanos_per_million=0, reasoning_nanos_per_million=0))
    assert free.cost_nanos(Usage(1_000, 1_000, reasoning_tokens=1_000, cache_write_tokens=1_000)) == 0


@pytest.mark.parametrize(
    ("markup", "share", "micros"), [(1_000, 1_000, 50), (1_200, 1_000, 60), (1_200, 100, 6), (1_200, 1, 1)]
)
def test_markup_and_share_change_the_charge_and_never_the_cost(markup: int, share: int, micros: int) -> None:
    terms = quote(rate=RateCard(1, ANCHOR, RATE.micros_per_usd, markup), share_permille=share)
    assert terms.charge_micros(Usage(1, 0)) == micros
    assert terms.cost_nanos(Usage(1, 0)) == 500


def test_a_share_of_nothing_leaves_nothing_to_pay_and_any_output_affordable() -> None:
    terms = quote(share_permille=0)
    assert terms.charge_micros(Usage(1_000_000, 1_000_000)) == terms.most_micros(1_000_000, 1_000_000) == 0
    assert terms.output_affordable(1_000_000, 0, 77) == 77


def test_rate_cards_that_say_the_same_are_equal_and_have_one_hash() -> None:
    """Quotes are keys of caches, whatever multipliers there are."""
    one, other = (RateCard(1, ANCHOR, 1, multipliers={"fast": 1_500}) for _ in range(2))
    assert one == other and hash(one) == hash(other)
    assert one != RateCard(1, ANCHOR, 1, multipliers={"fast": 1_501})
