"""Sums of usage: nothing is lost when parts are put together, and no day is left out."""

from __future__ import annotations

from datetime import date, timedelta

from hypothesis import given
from hypothesis import strategies as st

from tollhouse.core.figures import Part, Sum, by_day, by_model, days_until, stacked, total

TODAY = date(2026, 3, 1)
DAYS = days_until(TODAY, 7)
_counts = st.integers(0, 10**12)
_sums = st.builds(Sum, *[_counts] * 6)
_parts = st.lists(st.builds(Part, st.sampled_from(DAYS), st.sampled_from(["", "a", "b", "c", "d", "e"]), _sums))


def test_the_days_end_with_the_last_and_go_over_the_end_of_a_month() -> None:
    assert [date(2026, 2, 23) + timedelta(days=number) for number in range(7)] == DAYS


@given(_parts)
def test_by_day_by_model_and_stacked_all_add_up_to_the_total(parts: list[Part]) -> None:
    days, models, series = by_day(parts, DAYS), by_model(parts), stacked(parts, DAYS, 2)
    assert list(days) == DAYS
    for sums in (days.values(), models.values(), [one for _, values in series for one in values]):
        assert sum(sums, Sum()) == total(parts)
    for number, day in enumerate(DAYS):
        assert sum((values[number] for _, values in series), Sum()) == days[day]


@given(_parts)
def test_a_chart_has_the_most_called_models_and_one_series_for_the_others(parts: list[Part]) -> None:
    names = [name for name, _ in stacked(parts, DAYS, 2)]
    assert names == [*list(by_model(parts))[:2], *([None] if len(by_model(parts)) > 2 else [])]
    requests = [one.requests for one in by_model(parts).values()]
    assert requests == sorted(requests, reverse=True)


def test_tokens_are_those_of_both_directions() -> None:
    assert Sum(input_tokens=3, output_tokens=4).tokens == 7
