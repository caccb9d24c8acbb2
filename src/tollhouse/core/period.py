"""Periods are half-open, [start, end), in UTC. A moment belongs to exactly one period of a kind."""

import calendar
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal, assert_never

Kind = Literal["minute", "day", "week", "month", "lifetime"]
BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Period:
    start: datetime
    end: datetime


def months_after(anchor: datetime, count: int) -> datetime:
    """The moment `count` months after the anchor. Day 31 falls on the last day of a shorter month; it is always counted
    from the anchor, so it returns to 31 afterwards."""
    years, month = divmod(anchor.month - 1 + count, 12)
    year = anchor.year + years
    day = min(anchor.day, calendar.monthrange(year, month + 1)[1])
    return anchor.replace(year=year, month=month + 1, day=day)


def month_containing(moment: datetime, anchor: datetime) -> Period:
    """The billing month around `moment`: from n to n + 1 months after the anchor (n may be negative)."""
    count = (moment.year - anchor.year) * 12 + moment.month - anchor.month
    if months_after(anchor, count) > moment:  # the clamped or later day of this month is still to come
        count -= 1
    return Period(months_after(anchor, count), months_after(anchor, count + 1))


def start_of(kind: Kind, moment: datetime) -> datetime:
    """The start of the calendar window around `moment`: weeks begin on Monday, a lifetime in 1970."""
    day = moment.replace(hour=0, minute=0, second=0, microsecond=0)
    match kind:
        case "minute":
            return moment.replace(second=0, microsecond=0)
        case "day":
            return day
        case "week":
            return day - timedelta(days=day.weekday())
        case "month":
            return day.replace(day=1)
        case "lifetime":
            return BEGINNING
    assert_never(kind)


def end_of(kind: Kind, start: datetime) -> datetime | None:
    """The end of the window that begins at `start`; None for a lifetime."""
    match kind:
        case "minute":
            return start + timedelta(minutes=1)
        case "day":
            return start + timedelta(days=1)
        case "week":
            return start + timedelta(days=7)
        case "month":
            return months_after(start, 1)
        case "lifetime":
            return None
    assert_never(kind)
