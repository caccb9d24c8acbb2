"""What a plan offers: its own word, or that of the next lower plan that says anything at all."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.cast import DAY, NOON, QUALITIES, capability, catalogue, offer, price, studio
from tollhouse.core.catalogue import Catalogue, Offer, Quality
from tollhouse.core.price import RateCard

PLANS = tuple(studio().plans)


def offered(known: Catalogue, plan_id: str) -> Offer | None:
    return known.offer(known.plans[plan_id], "drawing")


@pytest.mark.parametrize(
    ("plan_id", "speaks", "levels", "a_minute"),
    [
        ("free", "free", ["fast"], 2),
        ("starter", "free", ["fast"], 2),
        ("basic", "free", ["fast"], 2),
        ("pro", "pro", ["fast", "enhanced"], 30),
        ("team", "team", ["fast", "enhanced", "premium"], None),
        ("enterprise", "team", ["fast", "enhanced", "premium"], None),
    ],
)
def test_a_plan_that_says_nothing_offers_what_the_next_lower_one_does(
    plan_id: str, speaks: str, levels: list[str], a_minute: int | None
) -> None:
    known = studio()
    found = offered(known, plan_id)
    assert found is not None
    assert (known.speaks_for(known.plans[plan_id]), list(found.levels), found.requests_per_minute) == (
        speaks, levels, a_minute,
    )  # fmt: skip


@given(st.sets(st.sampled_from(PLANS)), st.sampled_from(PLANS))
def test_no_plan_offers_what_only_a_higher_one_says(speaking: set[str], plan_id: str) -> None:
    known = studio(offers={one: {"drawing": offer("fast", a_day=studio().plans[one].rank)} for one in speaking})
    below = [one for one in PLANS[: PLANS.index(plan_id) + 1] if one in speaking]
    found = offered(known, plan_id)
    assert (found.requests_per_day if found else None) == (known.plans[below[-1]].rank if below else None)


def test_a_plan_that_speaks_of_other_capabilities_only_does_not_inherit_this_one() -> None:
    known = studio(offers=dict(studio().offers) | {"pro": {"writing": offer("fast")}})
    assert offered(known, "pro") is None
    assert offered(known, "basic") is not None


@pytest.mark.parametrize(
    ("above", "quality", "found"),
    [
        ("free", "fast", "starter"),
        ("free", "enhanced", "pro"),
        ("basic", "enhanced", "pro"),
        ("free", "premium", "team"),
        ("pro", "premium", "team"),
        ("team", "premium", "enterprise"),
        ("enterprise", "premium", None),
        ("free", None, "starter"),
        ("free", "excellent", None),
    ],
)
def test_the_remedy_is_the_lowest_higher_plan_that_has_it(above: str, quality: str | None, found: str | None) -> None:
    known = studio()
    plan = known.lowest_plan_with("drawing", quality, known.plans[above])
    assert (plan.id if plan else None) == found
    assert known.lowest_plan_with("writing", quality, known.plans[above]) is None


@given(st.integers(0, 10**12), st.integers(1, 10_000))
def test_an_estimate_is_the_base_times_the_quality_rounded_up_once(base: int, permille: int) -> None:
    estimate = capability(estimated_micros=base).estimate_micros(Quality("q", "Q", 1, permille))
    assert (estimate - 1) * 1_000 < base * permille <= estimate * 1_000


@pytest.mark.parametrize(("quality", "micros"), [("fast", 1_500_000), ("enhanced", 3_000_000), ("premium", 6_000_000)])
def test_a_use_at_a_higher_quality_takes_a_multiple(quality: str, micros: int) -> None:
    assert capability().estimate_micros(QUALITIES[quality]) == micros
    assert capability(estimated_micros=1).estimate_micros(QUALITIES[quality]) == micros // 1_500_000


def test_prices_and_rates_are_those_in_force_at_the_moment_itself() -> None:
    prices = {"small": (price(version=2, effective_from=NOON), price(effective_from=NOON - DAY))}
    rates = (RateCard(2, NOON, 7), RateCard(1, NOON - DAY, 5))
    known = catalogue(prices=prices, rates=rates)
    found = [
        (known.price_at("small", moment), known.rate_at(moment))
        for moment in (NOON - 2 * DAY, NOON - DAY, NOON - DAY / 24, NOON, NOON + DAY)
    ]
    versions = [(one.version if one else None, other.version if other else None) for one, other in found]
    assert versions == [(None, None), (1, 1), (1, 1), (2, 2), (2, 2)]
    assert known.price_at("large", NOON) is None
