"""Limits and their windows: a rule, and the counter of one subject in one period."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal
from uuid import UUID

from tollhouse.core.period import Kind, end_of, start_of
from tollhouse.core.refusals import LimitExceeded, QuotaExceeded

Meter = Literal["messages", "tokens", "trial_messages", "requests", "credits"]
OwnMeter = Literal["messages", "tokens", "credits"]  # what an organisation's own rules count
Scope = Literal["organization", "person", "key"]


@dataclass(frozen=True, slots=True)
class Counter:
    """Which counter: whose, of what, in which period. `model_id` is empty when all models count together, `capability`
    when it is not about one; `limit_id` is the rule that it counts for, None when it counts anyway. `window_id` is
    derived from all of these, so that a window needs no look-up to be found or made."""

    subject_id: UUID
    meter: Meter
    period: Kind
    starts_at: datetime
    model_id: str = ""
    capability: str = ""
    limit_id: UUID | None = None
    window_id: UUID = field(init=False, compare=False)

    def __post_init__(self) -> None:
        text = f"{self.subject_id}/{self.meter}/{self.model_id}/{self.period}/{self.starts_at.isoformat()}"
        if self.capability or self.limit_id:
            text += f"/{self.capability}/{self.limit_id or ''}"
        derived = UUID(bytes=hashlib.md5(text.encode(), usedforsecurity=False).digest())
        object.__setattr__(self, "window_id", derived)


def counter(
    subject_id: UUID,
    meter: Meter,
    period: Kind,
    now: datetime,
    model_id: str = "",
    capability: str = "",
    limit_id: UUID | None = None,
) -> Counter:
    """The counter for something that happens now. The window in which a call started pays for it."""
    return Counter(subject_id, meter, period, start_of(period, now), model_id, capability, limit_id)


@dataclass(frozen=True, slots=True)
class Rule:
    """A limit of the organisation's own, beside those of the plan and the model. `subject_id` None: each person, or
    each key; `model_id` None: all models together. `maximum` of credits is in micro-credits. What was used before the
    rule was made does not count against it."""

    id: UUID
    scope: Scope
    subject_id: UUID | None
    model_id: str | None
    meter: OwnMeter
    period: Kind
    maximum: int


@dataclass(frozen=True, slots=True)
class Take:
    """What one call takes from one counter: so much, or with `amount` None its tokens, of a counter of credits what it
    reserves of them in micro-credits. `maximum` None counts without limiting, `scope` is for the refusal."""

    counter: Counter
    amount: int | None
    maximum: int | None
    scope: str

    def of(self, tokens: int, micros: int) -> int:
        """What a call of so many tokens and micro-credits takes."""
        if self.amount is not None:
            return self.amount
        return micros if self.counter.meter == "credits" else tokens


@dataclass(slots=True)
class Window:
    """A counter's two numbers, never one: what is used, and what running calls may still use. `counter` says what is
    counted, of one that is not in the books yet."""

    counter: Counter | None
    used: int = 0
    reserved: int = 0


@dataclass(slots=True)
class Windows:
    """The windows of one organisation in one batch, by their ids. Calls are decided one after another on it; `changed`
    is what must be written."""

    by_id: dict[UUID, Window] = field(default_factory=dict)
    changed: set[UUID] = field(default_factory=set)

    def check(self, takes: Iterable[Take], tokens: int, micros: int) -> None:
        """LimitExceeded for the first take that does not fit; nothing changes."""
        for take in takes:
            maximum = take.maximum
            if maximum is None:
                continue
            window = self.by_id.get(take.counter.window_id)
            used, reserved = (window.used, window.reserved) if window else (0, 0)
            if used + reserved + take.of(tokens, micros) > maximum:
                raise _refusal(take, maximum, used, reserved)

    def room(self, takes: Iterable[Take], meter: Meter) -> int | None:
        """What the tightest limit of this meter among these leaves, below zero when it was passed; None: none limits.
        Of credits in micro-credits."""
        found: int | None = None
        for take in takes:
            if take.counter.meter == meter and take.maximum is not None:
                window = self.by_id.get(take.counter.window_id)
                left = take.maximum - (window.used + window.reserved if window else 0)
                found = left if found is None else min(found, left)
        return found

    def reserve(self, takes: Iterable[Take], tokens: int, micros: int) -> None:
        """Takes all; call `check` first."""
        for take in takes:
            window_id = take.counter.window_id
            window = self.by_id.get(window_id)
            if window is None:
                window = self.by_id[window_id] = Window(take.counter)
            window.reserved += take.of(tokens, micros)
            self.changed.add(window_id)

    def settle(self, window_id: UUID, reserved: int, used: int) -> None:
        """Turns what a call had reserved into what it used; also above the limit, since it was used."""
        window = self.by_id[window_id]
        window.reserved -= reserved
        window.used += used
        self.changed.add(window_id)


def _refusal(take: Take, maximum: int, used: int, reserved: int) -> LimitExceeded:
    about = take.counter
    kind = QuotaExceeded if about.meter == "tokens" else LimitExceeded
    return kind(
        scope=take.scope,
        meter=about.meter,
        period=about.period,
        limit=maximum,
        used=used,
        reserved=reserved,
        resets_at=end_of(about.period, about.starts_at),
        model_id=about.model_id or None,
        capability=about.capability or None,
        retry_after_s=60 if about.period == "minute" else None,
    )
