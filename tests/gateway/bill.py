"""What a call costs by the vendors' price lists, worked out by hand, and whether it was charged so and once."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from math import ceil

from tests.fake_vendor import Call
from tests.house import House, Tenant

# Micro-credits for a token at a hundred credits a dollar: input, input from the cache, input into it, output.
LIST: dict[str, tuple[Fraction, Fraction, Fraction, Fraction]] = {
    "gpt-4o-mini": (Fraction(15), Fraction("7.5"), Fraction(15), Fraction(60)),
    "gpt-4o": (Fraction(250), Fraction(125), Fraction(250), Fraction(1000)),
    "claude-3-5-haiku": (Fraction(80), Fraction(8), Fraction(100), Fraction(400)),
    "gemini-pro-1.5": (Fraction(125), Fraction("31.25"), Fraction(125), Fraction(500)),
    "llama-3.1-8b": (Fraction(18), Fraction(18), Fraction(18), Fraction(18)),
}
NANOS = 10  # of a dollar in a micro-credit


def exact(model: str, call: Call) -> Fraction:
    """In micro-credits."""
    fresh = call.input_tokens - call.cached_tokens - call.written_tokens
    figures = (fresh, call.cached_tokens, call.written_tokens, call.output_tokens)
    return sum((price * tokens for price, tokens in zip(LIST[model], figures, strict=True)), Fraction(0))


def due(model: str, call: Call) -> int:
    """What is charged for the call, in micro-credits."""
    return ceil(exact(model, call))


async def assert_billed(house: House, tenant: Tenant, before: int, model: str, *calls: Call) -> None:
    """The organisation's usage and charges are those of the provider's bill, call by call, and nothing else."""
    found = await house.rows(
        """SELECT model_id, input_tokens, cached_input_tokens, cache_write_tokens, output_tokens, reasoning_tokens,
               estimated, charged_micros, cost_nanos, origin
           FROM usage_event WHERE organization_id = %s ORDER BY reservation_id""",
        tenant.id,
    )
    assert found == [
        (model, call.input_tokens, call.cached_tokens, call.written_tokens, call.output_tokens, call.thought_tokens,
         False, due(model, call), ceil(exact(model, call) * NANOS), "provider")
        for call in calls
    ]  # fmt: skip
    assert before - await house.balance(tenant) == sum(due(model, call) for call in calls)


def credits_of(model: str, call: Call) -> Decimal:
    return Decimal(due(model, call)) / 1_000_000


def dollars_of(model: str, call: Call) -> Decimal:
    """What the provider takes for it."""
    return Decimal(ceil(exact(model, call) * NANOS)) / 1_000_000_000


async def assert_nothing_taken(house: House, tenant: Tenant, before: int) -> None:
    """Nothing was charged, and whatever was reserved was given back."""
    assert await house.balance(tenant) == before
    assert await house.usage(tenant) == []
    assert await house.rows(
        """SELECT count(*) FROM reservation WHERE organization_id = %s AND state NOT IN ('released', 'expired')""",
        tenant.id,
    ) == [(0,)]
    assert await house.rows(
        "SELECT coalesce(sum(used + reserved), 0)::int FROM quota_window WHERE organization_id = %s", tenant.id
    ) == [(0,)]
