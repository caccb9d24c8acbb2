"""Days, numbers, credits and money as the language of the request writes them. Templates have them as filters."""

from collections.abc import Callable, Mapping
from datetime import datetime
from decimal import ROUND_FLOOR, Decimal
from functools import lru_cache

from babel.dates import format_date, format_datetime
from babel.numbers import format_compact_decimal, format_currency, format_decimal

from tollhouse.core.money import MICROS_PER_CREDIT
from tollhouse.web.language import current

_DAY = {"en": "d MMM y", "de": "d. MMM y"}
_SHORT_DAY = {"en": "d MMM", "de": "d. MMM"}


def day(at: datetime) -> str:
    """The day of a moment in UTC: 3 Dec 2026."""
    return format_date(at.date(), _DAY[current()], current())


def short_day(at: datetime) -> str:
    """The day without its year: 3 Dec."""
    return format_date(at.date(), _SHORT_DAY[current()], current())


def minute(at: datetime) -> str:
    """A moment in UTC to the minute: 3 Dec 2026, 14:05 UTC."""
    return format_datetime(at, f"{_DAY[current()]}, HH:mm 'UTC'", locale=current())


def number(value: int | float | Decimal, decimals: int = 0) -> str:
    """1234567 -> 1,234,567; with at most so many decimals, rounded half to even."""
    return _number(value, "#,##0." + "#" * decimals if decimals else "#,##0", current())


def compact(value: int) -> str:
    """A large number in short: 1_234_567 -> 1.2M; up to 100,000 as it is."""
    return number(value) if value < 100_000 else format_compact_decimal(value, locale=current(), fraction_digits=1)


def credits(micros: int, decimals: int = 6) -> str:
    """Micro-credits as credits: 1_234_500_000 -> 1,234.5; rounded down: nobody is shown more than there is."""
    step = Decimal(1).scaleb(-decimals)
    value = (Decimal(micros) / MICROS_PER_CREDIT).quantize(step, ROUND_FLOOR)
    return number(value, decimals)


def cents(value: int) -> str:
    """A price in cents of a dollar: 499 -> $4.99."""
    return _cents(value, current())


def nanos(value: int, decimals: int = 6) -> str:
    """A cost in nano-dollars: 1_230_000 -> $0.00123; at least two decimals."""
    spare = "#" * (decimals - 2)
    pattern = {"en": f"¤#,##0.00{spare}", "de": f"#,##0.00{spare} ¤"}[current()]
    return _nanos(value, pattern, current())


# A page with many models says the same few figures hundreds of times, and to write one takes as long as a query.
@lru_cache(maxsize=4_096)
def _number(value: float | Decimal, pattern: str, language: str) -> str:
    return format_decimal(value, pattern, language)


@lru_cache(maxsize=4_096)
def _cents(value: int, language: str) -> str:
    return format_currency(Decimal(value) / 100, "USD", locale=language)


@lru_cache(maxsize=4_096)
def _nanos(value: int, pattern: str, language: str) -> str:
    return format_currency(Decimal(value).scaleb(-9), "USD", pattern, language, currency_digits=False)


FILTERS: Mapping[str, Callable[..., str]] = {
    "day": day,
    "short_day": short_day,
    "minute": minute,
    "number": number,
    "compact": compact,
    "credits": credits,
    "cents": cents,
    "nanos": nanos,
}
