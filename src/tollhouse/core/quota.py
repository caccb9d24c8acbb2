"""Limits and their windows: a rule, and the counter of one subject in one period."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from typing import Literal
from uuid import UUID

from tollhouse.core.errors import LimitExceeded, QuotaExceeded
from tollhouse.core.period import Kind, end_of, start_of

Meter = Literal["messages", "tokens", "trial_messages", "requests"]
Scope = Literal["organization", "person", "key"]


@dataclass(frozen=True, slots=True)
class Counter:
    """Which counter: whose, of what, in which period. `model_id` is empty when all models count together, `capability`
    when it is not about one; `limit_id` is the rule that it counts for, None when it counts anyway."""

    subject_id: UUID
    meter: Meter
    period: Kind
    starts_at: datetime
    model_id: str = ""
    capability: str = ""
    limit_id: UUID | None = None

    @property
    def window_id(self) -> UUID:
        """Derived from everything the window is about, so that it needs no look-up to be found or made."""
        return _window_id(self)


@lru_cache(maxsize=16_384)
def _window_id(about: Counter) -> UUID:
    text = f"{about.subject_id}/{about.meter}/{about.model_id}/{about.period}/{about.starts_at.isoformat()}"
    if about.capability or about.limit_id:
        text += f"/{about.capability}/{about.limit_id or ''}"
    return UUID(bytes=hashlib.md5(text.encode(), usedforsecurity=False).digest())


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
    each key; `model_id` None: all models together. What was used before the rule was made does not count against it."""

    id: UUID
    scope: Scope
    subject_id: UUID | None
    model_id: str | None
    meter: Literal["messages", "tokens"]
    period: Kind
    maximum: int


@dataclass(frozen=True, slots=True)
class Take:
    """What one call takes from one counter; `maximum` None counts without limiting, `scope` is for the refusal."""

    counter: Counter
    window_id: UUID
    amount: int
    maximum: int | None
    scope: str


@dataclass(slots=True)
class Window:
    """A counter's two numbers, never one: what is used, and what running calls may still use."""

    counter: Counter
    used: int = 0
    reserved: int = 0


@dataclass(slots=True)
class Windows:
    """The windows of one batch. Calls are decided one after another on it; `changed` is what must be written."""

    by_id: dict[tuple[UUID, UUID], Window] = field(default_factory=dict)
    changed: set[tuple[UUID, UUID]] = field(default_factory=set)

    def check(self, organization_id: UUID, takes: Iterable[Take]) -> None:
        """LimitExceeded for the first take that does not fit; nothing changes."""
        for take in takes:
            if take.maximum is None:
                continue
            window = self.by_id.get((organization_id, take.window_id))
            used, reserved = (window.used, window.reserved) if window else (0, 0)
            if used + reserved + take.amount > take.maximum:
                refusal = QuotaExceeded if take.counter.meter == "tokens" else LimitExceeded
                raise refusal(
                    scope=take.scope,
                    meter=take.counter.meter,
                    period=take.counter.period,
                    limit=take.maximum,
                    used=used,
                    reserved=reserved,
                    resets_at=end_of(take.counter.period, take.counter.starts_at),
                    model_id=take.counter.model_id or None,
                    capability=take.counter.capability or None,
                    retry_after_s=60 if take.counter.period == "minute" else None,
                )

    def reserve(self, organization_id: UUID, takes: Iterable[Take]) -> None:
        """Takes all; call `check` first."""
        for take in takes:
            key = (organization_id, take.window_id)
            window = self.by_id.get(key)
            if window is None:
                window = self.by_id[key] = Window(take.counter)
            window.reserved += take.amount
            self.changed.add(key)

    def settle(self, organization_id: UUID, window_id: UUID, reserved: int, used: int) -> None:
        """Turns what a call had reserved into what it used; also above the limit, since it was used."""
        key = (organization_id, window_id)
        window = self.by_id[key]
        window.reserved -= reserved
        window.used += used
        self.changed.add(key)
