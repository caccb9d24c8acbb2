"""Periods: half-open, in UTC, a moment in exactly one."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.cast import moments
from tollhouse.core.period import BEGINNING, Kind, end_of, month_containing, months_after, start_of

MICROSECOND = timedelta(microseconds=1)
kinds = st.sampled_from(["minute", "day", "week", "month"])


def utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # type: ignore[misc, arg-type]  # parts of a time, never a zone


@given(moments, moments)
def test_a_moment_is_in_its_month_and_not_at_its_end(moment: datetime, anchor: datetime) -> None:
    period = month_containing(moment, anchor)
    assert period.start <= moment < period.end


@given(moments, moments)
def test_months_follow_each_other_without_gap_or_overlap(moment: datetime, anchor: datetime) -> None:
    period = month_containing(moment, anchor)
    assert month_containing(period.end, anchor).start == period.end
    assert month_containing(period.start - MICROSECOND, anchor).end == period.start
    assert month_containing(period.end - MICROSECOND, anchor) == period


@given(moments, st.integers(-600, 600))
def test_an_anchor_never_drifts(anchor: datetime, count: int) -> None:
    later = months_after(anchor, count)
    assert (later.year - anchor.year) * 12 + later.month - anchor.month == count
    assert (later + timedelta(days=1)).day == 1 if later.day < anchor.day else later.day == anchor.day
    assert later.timetz() == anchor.timetz()


@pytest.mark.parametrize(
    ("anchor", "starts"),
    [
        (utc(2026, 1, 31), [utc(2026, 1, 31), utc(2026, 2, 28), utc(2026, 3, 31), utc(2026, 4, 30), utc(2026, 5, 31)]),
        (utc(2028, 1, 30, 8), [utc(2028, 1, 30, 8), utc(2028, 2, 29, 8), utc(2028, 3, 30, 8), utc(2028, 4, 30, 8)]),
        (utc(2027, 11, 30), [utc(2027, 11, 30), utc(2027, 12, 30), utc(2028, 1, 30), utc(2028, 2, 29)]),
    ],
)
def test_the_31st_falls_on_the_last_day_of_a_short_month_and_comes_back(
    anchor: datetime, starts: list[datetime]
) -> None:
    for start, end in pairwise(starts):
        assert month_containing(start, anchor).end == end
        assert month_containing(end - MICROSECOND, anchor).start == start


def test_a_month_before_the_anchor_is_a_month_as_well() -> None:
    period = month_containing(utc(2025, 12, 30), utc(2026, 1, 31))
    assert (period.start, period.end) == (utc(2025, 11, 30), utc(2025, 12, 31))


@given(kinds, moments)
def test_a_window_is_half_open_and_the_next_one_begins_at_its_end(kind: Kind, moment: datetime) -> None:
    start = start_of(kind, moment)
    end = end_of(kind, start)
    assert end is not None
    assert start <= moment < end
    assert start_of(kind, start) == start_of(kind, end - MICROSECOND) == start
    assert start_of(kind, end) == end


def test_windows_begin_with_the_calendar() -> None:
    moment = utc(2026, 3, 12, 23, 59, 59, 999_999)
    assert start_of("day", moment) == utc(2026, 3, 12)
    assert start_of("week", moment) == utc(2026, 3, 9)  # a Monday
    assert start_of("month", moment) == utc(2026, 3, 1)
    assert start_of("month", utc(2026, 12, 31)) == utc(2026, 12, 1)
    assert end_of("month", utc(2026, 12, 1)) == utc(2027, 1, 1)


@pytest.mark.parametrize(
    ("kind", "moment", "start", "end"),
    [
        ("minute", utc(2026, 12, 31, 23, 59, 59, 999_999), utc(2026, 12, 31, 23, 59), utc(2027, 1, 1)),
        ("day", utc(2028, 2, 28, 23, 59), utc(2028, 2, 28), utc(2028, 2, 29)),
        ("day", utc(2026, 2, 28), utc(2026, 2, 28), utc(2026, 3, 1)),
        ("week", utc(2026, 12, 31), utc(2026, 12, 28), utc(2027, 1, 4)),
        ("week", utc(2027, 1, 3, 23, 59, 59), utc(2026, 12, 28), utc(2027, 1, 4)),
        ("week", utc(2028, 3, 1), utc(2028, 2, 28), utc(2028, 3, 6)),
        ("month", utc(2028, 2, 29, 23, 59), utc(2028, 2, 1), utc(2028, 3, 1)),
        ("month", utc(2100, 2, 28), utc(2100, 2, 1), utc(2100, 3, 1)),
        ("month", utc(2026, 1, 31), utc(2026, 1, 1), utc(2026, 2, 1)),
        ("month", utc(2026, 12, 31), utc(2026, 12, 1), utc(2027, 1, 1)),
        ("lifetime", utc(2026, 12, 31), BEGINNING, None),
    ],
)
def test_windows_across_the_ends_of_months_leap_years_and_the_new_year(
    kind: Kind, moment: datetime, start: datetime, end: datetime | None
) -> None:
    assert (start_of(kind, moment), end_of(kind, start)) == (start, end)


@given(moments)
def test_a_minute_a_day_a_week_and_a_month_are_as_long_as_they_are(moment: datetime) -> None:
    lengths = []
    for kind in ("minute", "day", "week", "month"):
        start = start_of(kind, moment)
        end = end_of(kind, start)
        assert end is not None
        lengths.append(end - start)
    assert lengths[:3] == [timedelta(minutes=1), timedelta(days=1), timedelta(weeks=1)]
    assert lengths[3].days in (28, 29, 30, 31) and not lengths[3].seconds
    assert start_of("week", moment).weekday() == 0


@given(moments)
def test_a_lifetime_is_one_window_that_never_ends(moment: datetime) -> None:
    assert start_of("lifetime", moment) == BEGINNING
    assert end_of("lifetime", BEGINNING) is None


def test_a_lifetime_begins_in_1970_for_ever_since_counters_that_are_kept_are_found_by_their_start() -> None:
    assert start_of("lifetime", utc(2026, 3, 12)) == utc(1970, 1, 1)
