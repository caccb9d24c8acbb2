"""A book of providers' list prices against our own: what an import would change, and what must be said about it.

Prices in a book are dollars, decimal, per million tokens or per thousand requests, under the names that genai-prices
has for them.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import ROUND_CEILING, Decimal

from tollhouse.core.money import NANOS_PER_USD, PRICE_MAX_USD
from tollhouse.core.price import Price

REQUESTS_PER_PRICE = 1_000
_FACTOR = re.compile(r"[0-9]{1,3}(\.[0-9]{1,3})?", re.ASCII)
# For how long the provider shall keep what it writes to its cache is the caller's choice, and is not metered apart.
_CACHE_WRITES = ("cache_write_mtok", "cache_write_5m_mtok")
# The gateway refuses requests for a cache that is kept so long.
_NEVER_ASKED_FOR = ("cache_write_1h_mtok",)
_TAKEN = ("input_mtok", "cache_read_mtok", "output_mtok", "output_reasoning_mtok", "requests_kcount", *_CACHE_WRITES)


def parse_factor(text: str) -> int:
    """ "1.25" -> 1_250 permille. ValueError on all but digits with at most three decimals."""
    if not _FACTOR.fullmatch(text):
        raise ValueError('a factor is a decimal string with at most three decimals, for example "1.25"')
    return int(Decimal(text) * 1_000)


def format_factor(permille: int) -> str:
    """1_250 permille -> "1.25"; no trailing zeros."""
    whole, fraction = divmod(permille, 1_000)
    return f"{whole}.{fraction:03}".rstrip("0").rstrip(".")


@dataclass(frozen=True, slots=True)
class Figures:
    """The figures of a price as they apply, nothing left open: nano-dollars per million tokens, and per request."""

    input: int
    cached_input: int
    cache_write: int
    output: int
    reasoning: int
    request: int

    @classmethod
    def of(cls, price: Price) -> "Figures":
        written, reasoning = price.cache_write_nanos_per_million, price.reasoning_nanos_per_million
        return cls(
            input=price.input_nanos_per_million,
            cached_input=price.cached_input_nanos_per_million,
            cache_write=price.input_nanos_per_million if written is None else written,
            output=price.output_nanos_per_million,
            reasoning=price.output_nanos_per_million if reasoning is None else reasoning,
            request=price.request_nanos,
        )

    def named(self) -> Iterator[tuple[str, int]]:
        yield "input", self.input
        yield "cached input", self.cached_input
        yield "cache write", self.cache_write
        yield "output", self.output
        yield "reasoning", self.reasoning
        yield "request", self.request


@dataclass(frozen=True, slots=True)
class Entry:
    """A model in the book. Of each price all values that it can have: more than one when it depends on the length of
    the prompt (`tiered`) or on the hour (`timed`). `next_change`: the day from which the book has another price."""

    name: str
    prices: Mapping[str, Sequence[Decimal]]
    tiered: bool = False
    timed: bool = False
    next_change: date | None = None


@dataclass(frozen=True, slots=True)
class Ours:
    """A model of the catalogue, and the price in force; None: it has none."""

    model_id: str
    provider_model_id: str
    price: Price | None


@dataclass(frozen=True, slots=True)
class Difference:
    """One figure that differs, in nano-dollars; `old` None: the model has no price yet."""

    what: str
    old: int | None
    new: int

    @property
    def percent(self) -> Decimal | None:
        """By how much it rises (or falls, below zero), to a tenth; None when nothing can be said in per cent."""
        if not self.old:
            return None
        return ((Decimal(self.new) / self.old - 1) * 100).quantize(Decimal("0.1"))


@dataclass(frozen=True, slots=True)
class Change:
    """A price that is to be recorded. `known_version` is the version that it was compared with."""

    model_id: str
    known_version: int | None
    figures: Figures
    differences: tuple[Difference, ...]
    remarks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Comparison:
    """`missing` are the ids of models that the book does not have; `unusable` those whose entry is no price in tokens,
    with the reason."""

    changes: tuple[Change, ...]
    missing: tuple[str, ...]
    unusable: tuple[tuple[str, str], ...]


def compare(ours: Sequence[tuple[Ours, Entry | None]]) -> Comparison:
    """Each of our models with its entry in the book, None when it has none."""
    changes: list[Change] = []
    missing: list[str] = []
    unusable: list[tuple[str, str]] = []
    for model, entry in ours:
        if entry is None:
            missing.append(model.model_id)
            continue
        reason = _unusable(entry)
        if reason is not None:
            unusable.append((model.model_id, reason))
            continue
        figures = figures_of(entry)
        differences = _differences(model.price, figures)
        if differences:
            version = None if model.price is None else model.price.version
            changes.append(Change(model.model_id, version, figures, differences, _remarks(model, entry)))
    return Comparison(tuple(changes), tuple(missing), tuple(unusable))


def figures_of(entry: Entry) -> Figures:
    """The dearest that each can be, so that no call is charged less than it cost. What the book does not price apart
    costs what other input or output costs."""
    given = _dearest(entry, "input_mtok") or Decimal(0)
    cached = _dearest(entry, "cache_read_mtok")
    written = _dearest(entry, *_CACHE_WRITES)
    made = _dearest(entry, "output_mtok") or Decimal(0)
    reasoning = _dearest(entry, "output_reasoning_mtok")
    return Figures(
        input=_nanos(given),
        cached_input=_nanos(given if cached is None else cached),
        cache_write=_nanos(given if written is None else written),
        output=_nanos(made),
        reasoning=_nanos(made if reasoning is None else reasoning),
        request=_nanos((_dearest(entry, "requests_kcount") or Decimal(0)) / REQUESTS_PER_PRICE),
    )


def _dearest(entry: Entry, *names: str) -> Decimal | None:
    return max((value for name in names for value in entry.prices.get(name, ())), default=None)


def _nanos(usd: Decimal) -> int:
    """Nano-dollars, rounded up where the book is finer."""
    return int((usd * NANOS_PER_USD).to_integral_value(ROUND_CEILING))


def _unusable(entry: Entry) -> str | None:
    """Why it can't be taken."""
    if "input_mtok" not in entry.prices:
        return f"listed as {entry.name}, without a price of input tokens"
    if not any(value for _, value in figures_of(entry).named()):
        return f"listed as {entry.name} for nothing: if it is free, say so with POST /api/operator/models/{{id}}/prices"
    if any(value > PRICE_MAX_USD for name in _TAKEN for value in entry.prices.get(name, ())):
        return f"listed as {entry.name} with a price of more than {PRICE_MAX_USD} dollars"
    return None


def _differences(old: Price | None, new: Figures) -> tuple[Difference, ...]:
    """What only follows the input or the output, before and after, is not told a second time."""
    if old is None:
        return tuple(Difference(what, None, value) for what, value in new.named() if value)
    before = Figures.of(old)
    follow = {"cache write"} if before.cache_write == before.input and new.cache_write == new.input else set()
    if before.reasoning == before.output and new.reasoning == new.output:
        follow.add("reasoning")
    pairs = zip(before.named(), new.named(), strict=True)
    return tuple(Difference(what, was, is_) for (what, was), (_, is_) in pairs if was != is_ and what not in follow)


def _remarks(model: Ours, entry: Entry) -> tuple[str, ...]:
    """What whoever confirms the import should know."""
    remarks: list[str] = []
    if entry.name != model.provider_model_id:
        remarks.append(f"listed as {entry.name}")
    if entry.tiered:
        remarks.append("the price depends on the length of the prompt: the highest is taken")
    if entry.timed:
        remarks.append("the price depends on the time of day: the highest is taken")
    if entry.next_change is not None:
        remarks.append(f"another price is listed from {entry.next_change.isoformat()} on: import again then")
    apart = sorted(name for name in entry.prices if name not in (*_TAKEN, *_NEVER_ASKED_FOR))
    if apart:
        remarks.append(f"not taken, since it is not metered: {', '.join(apart)}")
    return tuple(remarks)
