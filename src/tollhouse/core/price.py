"""What a call costs: one function quotes and settles. Arithmetic is exact and rounded up once, to a micro-credit."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from tollhouse.core.money import NANOS_PER_USD, divide_up

TOKENS_PER_PRICE = 1_000_000  # prices are per million tokens
# One micro-credit in the units of exact arithmetic: millionths of a nano-dollar times a rate with three permilles.
_SCALE = TOKENS_PER_PRICE * NANOS_PER_USD * 1_000**3


@dataclass(frozen=True, slots=True)
class Price:
    """What a model costs us, from `effective_from` on. Nano-dollars per million tokens, and per request.

    None: reasoning costs what other output costs, and writing to the provider's cache what other input costs.
    """

    model_id: str
    version: int
    effective_from: datetime
    free: bool
    input_nanos_per_million: int
    cached_input_nanos_per_million: int
    output_nanos_per_million: int
    request_nanos: int
    reasoning_nanos_per_million: int | None = None
    cache_write_nanos_per_million: int | None = None

    @property
    def dearest_input(self) -> int:
        """The most that a token of input can cost, in nano-dollars per million: whether the provider reads it from its
        cache or writes it there is known only after the call."""
        return max(
            self.input_nanos_per_million,
            self.cached_input_nanos_per_million,
            self.cache_write_nanos_per_million or 0,
        )

    @property
    def dearest_output(self) -> int:
        """The most that a token of output can cost, in nano-dollars per million: any of it may be reasoning."""
        return max(self.output_nanos_per_million, self.reasoning_nanos_per_million or 0)


@dataclass(frozen=True, slots=True)
class RateCard:
    """How many micro-credits a dollar of cost is worth, from `effective_from` on.

    Permille: of the cost that is charged for (1000: at cost), and of that charge what is taken where the call went over
    the organisation's own connection, or was answered from its cache. `multipliers` are those of quality levels by id;
    a level that is not named keeps its own.
    """

    version: int
    effective_from: datetime
    micros_per_usd: int
    markup_permille: int = 1000
    own_key_permille: int = 0
    cache_hit_permille: int = 100
    multipliers: Mapping[str, int] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one call. What was read from and what was written to the provider's cache are two parts of the input,
    reasoning is a part of the output (OpenAI's way of counting).

    `estimated`: the provider did not say, or not all of it; counted here.
    """

    input_tokens: int
    output_tokens: int
    cached_input_tokens: int = 0
    reasoning_tokens: int = 0
    estimated: bool = False
    cache_write_tokens: int = 0

    @property
    def tokens(self) -> int:
        return self.input_tokens + self.output_tokens


@dataclass(frozen=True, slots=True)
class Stated:
    """What the host application says that a use costs, in micro-credits: no price led to it."""

    charge_micros: int


@dataclass(frozen=True, slots=True)
class Quote:
    """The terms a reservation is made at and settled by, however prices change meanwhile."""

    price: Price
    rate: RateCard
    multiplier_permille: int = 1000
    charged: bool = True  # False: the plan takes no credits on this channel
    share_permille: int = 1000  # of the charge: less than all of it over an own connection and from the cache

    def cost_nanos(self, usage: Usage) -> int:
        """What the provider's price makes of it, in nano-dollars, rounded up; whoever pays the provider."""
        return divide_up(self._exact(usage), TOKENS_PER_PRICE)

    def charge_micros(self, usage: Usage) -> int:
        """What the call costs the customer, in micro-credits, rounded up once."""
        if not self.charged:
            return 0
        return divide_up(self._exact(usage) * self._rate(), _SCALE)

    def most_micros(self, input_tokens: int, output_tokens: int) -> int:
        """What a call of at most so many tokens can cost the customer, in micro-credits, whatever they turn out to be:
        read from the provider's cache, written to it, reasoning."""
        if not self.charged:
            return 0
        exact = self._exact_input(input_tokens) + output_tokens * self.price.dearest_output
        return divide_up(exact * self._rate(), _SCALE)

    def output_affordable(self, input_tokens: int, budget_micros: int, at_most: int) -> int:
        """The largest output up to `at_most` tokens that can't cost more than the budget; -1 when not even none is."""
        rate = self._rate()
        if not self.charged or rate == 0:
            return at_most
        left = budget_micros * _SCALE // rate - self._exact_input(input_tokens)
        if left < 0:
            return -1
        dearest = self.price.dearest_output
        return at_most if dearest == 0 else min(at_most, left // dearest)

    def _exact(self, usage: Usage) -> int:
        """Millionths of a nano-dollar."""
        price = self.price
        exact = (
            (usage.input_tokens - usage.cached_input_tokens) * price.input_nanos_per_million
            + usage.cached_input_tokens * price.cached_input_nanos_per_million
            + usage.output_tokens * price.output_nanos_per_million
            + price.request_nanos * TOKENS_PER_PRICE
        )
        if price.cache_write_nanos_per_million is not None:
            dearer = price.cache_write_nanos_per_million - price.input_nanos_per_million
            exact += usage.cache_write_tokens * dearer
        if price.reasoning_nanos_per_million is not None:
            dearer = price.reasoning_nanos_per_million - price.output_nanos_per_million
            exact += usage.reasoning_tokens * dearer
        return exact

    def _exact_input(self, input_tokens: int) -> int:
        """The most that the input can cost, and the request, in millionths of a nano-dollar."""
        return input_tokens * self.price.dearest_input + self.price.request_nanos * TOKENS_PER_PRICE

    def _rate(self) -> int:
        """Micro-credits a dollar, in units of a thousandth of a thousandth of a thousandth."""
        return self.rate.micros_per_usd * self.rate.markup_permille * self.multiplier_permille * self.share_permille
