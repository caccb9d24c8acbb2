"""What a call costs: one function quotes and settles. Arithmetic is exact and rounded up once, to a micro-credit."""

from dataclasses import dataclass
from datetime import datetime

from tollhouse.core.money import NANOS_PER_USD, divide_up

TOKENS_PER_PRICE = 1_000_000  # prices are per million tokens


@dataclass(frozen=True, slots=True)
class Price:
    """What a model costs us, from `effective_from` on. Nano-dollars per million tokens, and per request."""

    model_id: str
    version: int
    effective_from: datetime
    free: bool
    input_nanos_per_million: int
    cached_input_nanos_per_million: int
    output_nanos_per_million: int
    request_nanos: int


@dataclass(frozen=True, slots=True)
class RateCard:
    """How many micro-credits a dollar of cost is worth, from `effective_from` on."""

    version: int
    effective_from: datetime
    micros_per_usd: int


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one call. Cached input is part of the input, reasoning of the output (OpenAI's way of counting).

    `estimated`: the provider did not say, or not all of it; counted here.
    """

    input_tokens: int
    output_tokens: int
    cached_input_tokens: int = 0
    reasoning_tokens: int = 0
    estimated: bool = False

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

    def cost_nanos(self, usage: Usage) -> int:
        """What the call cost us, in nano-dollars, rounded up."""
        return divide_up(self._exact(usage), TOKENS_PER_PRICE)

    def charge_micros(self, usage: Usage) -> int:
        """What the call costs the customer, in micro-credits, rounded up once."""
        if not self.charged:
            return 0
        return divide_up(self._exact(usage) * self._rate(), TOKENS_PER_PRICE * NANOS_PER_USD * 1000)

    def output_affordable(self, input_tokens: int, budget_micros: int, at_most: int) -> int:
        """The largest output up to `at_most` tokens whose charge is within the budget; -1 when not even none is."""
        if not self.charged:
            return at_most
        budget = budget_micros * TOKENS_PER_PRICE * NANOS_PER_USD * 1000 // self._rate()
        left = budget - self._exact(Usage(input_tokens, 0))
        if left < 0:
            return -1
        if self.price.output_nanos_per_million == 0:
            return at_most
        return min(at_most, left // self.price.output_nanos_per_million)

    def _exact(self, usage: Usage) -> int:
        """Millionths of a nano-dollar."""
        price = self.price
        fresh = usage.input_tokens - usage.cached_input_tokens
        return (
            fresh * price.input_nanos_per_million
            + usage.cached_input_tokens * price.cached_input_nanos_per_million
            + usage.output_tokens * price.output_nanos_per_million
            + price.request_nanos * TOKENS_PER_PRICE
        )

    def _rate(self) -> int:
        return self.rate.micros_per_usd * self.multiplier_permille
