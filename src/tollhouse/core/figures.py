"""What somebody used, put together: by day, by model, and in all."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta


@dataclass(frozen=True, slots=True)
class Sum:
    """Of settled calls. `messages` are those that count against a plan's limit; `cost_nanos` is what providers ask for
    them, `charged_micros` what was taken of the credits."""

    requests: int = 0
    messages: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    charged_micros: int = 0
    cost_nanos: int = 0

    @property
    def tokens(self) -> int:
        return self.input_tokens + self.output_tokens

    def __add__(self, other: "Sum") -> "Sum":
        return Sum(
            self.requests + other.requests, self.messages + other.messages, self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens, self.charged_micros + other.charged_micros,
            self.cost_nanos + other.cost_nanos,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Part:
    """Of one UTC day and one model; `model_id` empty: no model was called."""

    day: date
    model_id: str
    sum: Sum


def days_until(last: date, count: int) -> list[date]:
    """So many days, of which `last` is the last."""
    return [last - timedelta(days=ago) for ago in reversed(range(count))]


def total(parts: Iterable[Part]) -> Sum:
    return sum((part.sum for part in parts), Sum())


def by_day(parts: Iterable[Part], days: Iterable[date]) -> dict[date, Sum]:
    """Each of the days in their order, also those without anything."""
    found = dict.fromkeys(days, Sum())
    for part in parts:
        found[part.day] += part.sum
    return found


def by_model(parts: Iterable[Part]) -> dict[str, Sum]:
    """The models that were called most come first."""
    found: dict[str, Sum] = defaultdict(Sum)
    for part in parts:
        found[part.model_id] += part.sum
    return dict(sorted(found.items(), key=lambda one: (-one[1].requests, one[0])))


def stacked(parts: Sequence[Part], days: Sequence[date], most: int) -> list[tuple[str | None, list[Sum]]]:
    """What each model has of each day: of the `most` that were called most, and of all others together under None."""
    shown = list(by_model(parts))[:most]
    series: dict[str | None, dict[date, Sum]] = {}
    for model_id in [*shown, None]:
        of_it = [one for one in parts if (one.model_id if one.model_id in shown else None) == model_id]
        if of_it:
            series[model_id] = by_day(of_it, days)
    return [(model_id, list(sums.values())) for model_id, sums in series.items()]
