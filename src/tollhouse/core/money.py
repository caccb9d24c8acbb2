"""Credits are integer micro-credits (1e-6), cost is integer nano-dollars (1e-9); decimals exist only at the edges."""

import re

MICROS_PER_CREDIT = 1_000_000
NANOS_PER_USD = 1_000_000_000
# Ten billion credits: far above any real amount, far below what would overflow a 64-bit sum.
MICROS_MAX = 10_000_000_000 * MICROS_PER_CREDIT

PRICE_MAX_USD = 10_000

_CREDITS = re.compile(r"-?[0-9]{1,11}(\.[0-9]{1,6})?", re.ASCII)
_USD = re.compile(r"[0-9]{1,5}(\.[0-9]{1,9})?", re.ASCII)


def parse_credits(text: str) -> int:
    """ "12.5" -> 12_500_000 micro-credits. ValueError on all but digits with at most six decimals, and out of range."""
    if not _CREDITS.fullmatch(text):
        raise ValueError('credits are a decimal string with at most six decimals, for example "12.5"')
    micros = _units(text.lstrip("-"), 6)
    if micros > MICROS_MAX:
        raise ValueError("more than 10000000000 credits in one amount")
    return -micros if text.startswith("-") else micros


def format_credits(micros: int) -> str:
    """12_500_000 micro-credits -> "12.5"; no trailing zeros, never an exponent."""
    return _decimal(micros, 6)


def parse_usd(text: str) -> int:
    """ "0.15" -> 150_000_000 nano-dollars. ValueError on all but digits with at most nine decimals, and above 10000."""
    if not _USD.fullmatch(text):
        raise ValueError('a price is a decimal string in US dollars with at most nine decimals, for example "0.15"')
    nanos = _units(text, 9)
    if nanos > PRICE_MAX_USD * NANOS_PER_USD:
        raise ValueError(f"a price of more than {PRICE_MAX_USD} dollars is a mistake")
    return nanos


def format_usd(nanos: int) -> str:
    """1_500_000 nano-dollars -> "0.0015"."""
    return _decimal(nanos, 9)


def _units(text: str, places: int) -> int:
    """Digits, with at most so many decimals, as a whole number of the smallest unit."""
    whole, _, fraction = text.partition(".")
    return int(whole + fraction.ljust(places, "0"))


def _decimal(units: int, places: int) -> str:
    whole, fraction = divmod(abs(units), 10**places)
    digits = str(fraction).rjust(places, "0").rstrip("0") if fraction else ""
    return f"{'-' if units < 0 else ''}{whole}{'.' if digits else ''}{digits}"


def divide_up(numerator: int, denominator: int) -> int:
    """The quotient rounded up: a call never costs less than it cost us."""
    return -(-numerator // denominator)
