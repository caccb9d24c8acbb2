"""What people type, as the values that it stands for. Each BadRequest names its field."""

import re
from datetime import UTC, date, datetime, time, timedelta
from uuid import UUID

from tollhouse.core.errors import BadRequest
from tollhouse.core.money import parse_credits
from tollhouse.web.forms import Form
from tollhouse.web.language import _

YEARS = range(2000, 2100)
_DIGITS = re.compile(r"-?[0-9]{1,12}", re.ASCII)


def number(form: Form, name: str, least: int, most: int) -> int | None:
    """A whole number; None when nothing was typed."""
    text = form[name]
    if not text:
        return None
    if not _DIGITS.fullmatch(text) or not least <= int(text) <= most:
        raise BadRequest(_("Type a whole number from %(least)s to %(most)s.", least=least, most=most), name)
    return int(text)


def credits_of(form: Form, name: str) -> int | None:
    """Micro-credits; None when nothing was typed."""
    text = form[name]
    if not text:
        return None
    try:
        micros = parse_credits(text)
    except ValueError:
        micros = -1
    if micros < 0:
        raise BadRequest(_("Type an amount such as 250 or 12.5, with at most six decimals."), name)
    return micros


def day_of(form: Form, name: str) -> datetime | None:
    """The beginning of a day in UTC; None when nothing was typed."""
    text = form[name]
    if not text:
        return None
    try:
        day = date.fromisoformat(text)
    except ValueError:
        day = date.min
    if day.year not in YEARS:
        raise BadRequest(_("Type a day as year, month and day, such as 2030-01-31."), name)
    return datetime.combine(day, time(), UTC)


def end_of_day(form: Form, name: str) -> datetime | None:
    """The moment after which a day is over: the end of what works on this day for the last time."""
    day = day_of(form, name)
    return None if day is None else day + timedelta(days=1)


def last_day(end: datetime) -> str:
    """The last day on which something works that ends at this moment, as a field of a day takes it."""
    return (end - timedelta(microseconds=1)).date().isoformat()


def id_of(form: Form, name: str) -> UUID:
    """What was chosen from a list of ours."""
    try:
        return UUID(form[name])
    except ValueError:
        raise BadRequest(_("Choose one of the list."), name) from None
